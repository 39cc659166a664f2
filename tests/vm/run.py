"""Run tests in the virtual machine::

    python -m tests.vm.run [--systemd] [--junit FILE] [PYTEST ARGUMENT…]

Boots it, runs one pytest in it, shows its output as it comes, writes its JUnit XML, and ends with
its exit code. Without arguments: the tests of tests/vm/guest, and those of the host suite that are
marked ``in_vm``. Files are named as in the checkout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.vm import disk
from tests.vm.machine import Lost, Machine, archive

GUEST = "tests/vm/guest"
PYTEST = ("python3", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly")
JUNIT = "/tmp/junit.xml"
# No compiler is there.
ENVIRONMENT = {"PYCONTAIN_TEST_PROBE": "/run/project/probe"}
LIMIT = 1500.0
FAILED = 1
CANNOT = 3


def selection() -> list[str]:
    """The tests of the host suite that run in the machine too, found where Python is fast."""
    words = ["-q", "--collect-only", "-m", "in_vm", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "tests/host"],
        cwd=disk.CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def echo(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def run(words: list[str], *, systemd: bool, junit: Path | None) -> int:
    """Run one pytest in a new machine; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="pycontain-vm-") as scratch:
        folder = Path(scratch)
        with archive(folder) as project:
            start = time.monotonic()
            with Machine(folder, project, systemd=systemd) as machine:
                took = time.monotonic() - start
                say(f"the virtual machine is up after {took:.1f} s ({machine.accelerator})")
                made = [f"--junitxml={JUNIT}"] if junit else []
                answer = machine.run(
                    *PYTEST, *made, *words, env=ENVIRONMENT, timeout=LIMIT, echo=echo, check=False
                )
                if junit:
                    text = machine.run("cat", JUNIT, check=False)
                    if text.code == 0:
                        junit.write_text(text.output)
                return answer.code


def main() -> int:
    """Read the command line, and say what cannot be done."""
    parser = argparse.ArgumentParser(prog="tests.vm.run", description=__doc__, add_help=True)
    parser.add_argument("--systemd", action="store_true", help="boot systemd; its tests by default")
    parser.add_argument("--junit", type=Path, help="write JUnit XML to this file")
    known, words = parser.parse_known_args()
    junit = known.junit and known.junit.absolute()
    os.chdir(disk.CHECKOUT)
    if not words:
        kind = "systemd" if known.systemd else "not systemd"
        words = ["-m", kind, GUEST, *([] if known.systemd else selection())]
    try:
        code = run(words, systemd=known.systemd, junit=junit)
    except (disk.Unbuildable, Lost) as err:
        say(f"virtual machine: {err}")
        return CANNOT
    return code if code >= 0 else FAILED


if __name__ == "__main__":
    sys.exit(main())
