"""Threads that decode a type for the first time, all at once: msgspec alone crashes then."""

from __future__ import annotations

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROUNDS = 12  # in every third, without the lock, there is a null pointer

SCRIPT = """\
import sys, threading
sys.path[:0] = {path!r}
from pycontain.model.container import Container
from pycontain.store import files
DATA = (
    b'{{"id":"x","name":"n","created":1,"options":{{"image":"b"}},"image_id":"s","layers":[],'
    b'"config":{{}},"command":["a"],"stop_signal":1,"stop_timeout":1}}'
)
sys.setswitchinterval(1e-6)
together = threading.Barrier(6)
found = []

def work():
    together.wait()
    found.extend(files.decode(DATA, Container).name for _ in range(50))

threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == ["n"] * 300
"""


def test_the_first_decode_may_be_in_many_threads() -> None:
    path = [ROOT, *(part for part in sys.path if part)]
    argv = [sys.executable, "-IS", "-c", SCRIPT.format(path=path)]
    for _ in range(ROUNDS):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
