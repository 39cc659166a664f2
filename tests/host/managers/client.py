"""A manager's client: what it answers, and what it does on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from pace import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE = seconds(30)
# What the runc shim says where the runtime's log has no error that it can read.
NO_REASON = "did not terminate successfully"


def runc_cannot(reason: str) -> pytest.MarkDecorator:
    """Skip where another runtime than ours is tried, which is runc."""
    other = os.environ.get("PYCONTAIN_TEST_OCI_RUNTIME")
    return pytest.mark.skipif(bool(other), reason=f"runc 1.1: {reason}")


class Answer(NamedTuple):
    """What a command came to: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def answer(argv: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Answer:
    """Run a command to its end."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, check=False, env=environment, timeout=2 * PATIENCE
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until `condition` holds; fail with `what` where it does not."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"did not happen in time: {what}"
        time.sleep(0.05)


def is_everything(capabilities: str) -> bool:
    """Whether a set is all that docker knows (up to AUDIT_READ) and this machine can grant.

    Args:
        capabilities: hexadecimal, as in proc_pid_status(5).
    """
    known = (1 << 38) - 1
    with open("/proc/self/status") as file:
        ours = next(line for line in file if line.startswith("CapBnd:")).split()[1]
    return int(capabilities, 16) & known == int(ours, 16) & known


class Terminal:
    """A command on a terminal of its own.

    Args:
        argv: the command.
        size: rows and columns that the terminal has from the start.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        size: tuple[int, int] = (24, 80),
    ) -> None:
        self._master, slave = pty.openpty()
        self._size(size)
        # a session that has the terminal: resizing signals its foreground group, ioctl_tty(2)
        self._child = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self.output = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._master)

    def type(self, data: bytes) -> None:
        """Write what somebody types."""
        os.write(self._master, data)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        self._size((rows, columns))

    def _size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def expect(self, data: bytes) -> None:
        """Read until `data` came; what came up to it is taken away."""
        end = time.monotonic() + PATIENCE
        while data not in self.output:
            assert self._read(end), f"{data!r} did not come, but: {self.output!r}"
        self.output = self.output.partition(data)[2]

    def end(self) -> int:
        """Read to the end. Returns the exit code."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        return self._child.wait(PATIENCE)

    def _read(self, end: float) -> bool:
        """Read what there is; False when nobody has the other end any more."""
        left = end - time.monotonic()
        if left <= 0 or not select.select([self._master], [], [], left)[0]:
            self._child.send_signal(signal.SIGKILL)
            raise AssertionError(f"no end in time: {self.output!r}")
        try:
            self.output += os.read(self._master, 65536)
        except OSError:  # EIO, pty(7)
            return False
        return True
