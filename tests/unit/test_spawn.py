"""What a program that is started gets: its descriptors, and nothing else of the caller."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, select, sys
from pycontain.kernel import process

os.closerange(3, 100)
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
program = os.open("/bin/sh", os.O_RDONLY)
given = [os.dup2(out, number) for number in (40, 41, 42)]
os.close(out)  # the lowest free number is one that a given descriptor gets in the program
words = ["sh", "-c", "for n in 0 1 2 3 4 5; do is=$(readlink /proc/$$/fd/$n); echo $is >&3; done"]
_, pidfd = process.spawn(program, words, given, -1)
poller = select.poll()
poller.register(pidfd, select.POLLIN)
assert poller.poll(20000)
"""


def test_a_hole_among_the_callers_descriptors_is_no_standard_stream(tmp_path: Path) -> None:
    out = tmp_path / "out"
    checkout = str(Path(__file__).parents[2])
    words = [sys.executable, "-c", SCRIPT, str(out)]
    subprocess.run(words, check=True, timeout=60, env={**os.environ, "PYTHONPATH": checkout})
    wanted = ["/dev/null"] * 3 + [str(out)] * 3
    assert out.read_text().splitlines() == wanted
