"""The guest's end of the serial line: runs the programs that the host asks for, one at a time.

Started by ``init`` as ``python3 -IS agent.py /dev/ttyS1``, so it imports little. One JSON object a
line. It begins with ``{"ready": boot id}``, said again until the host asks; then the host asks
``{"argv": […], "cwd": …, "env": {…}, "timeout": seconds}`` and gets ``{"out": text}`` as it comes,
and ``{"code": n}`` at the end, where n is negative for a signal. What the program leaves behind
does not hold up the answer.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import termios
import time
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_AGAIN = 5.0  # seconds


class Line:
    """The serial line, raw: the terminal's driver would echo and translate."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(self.fd, termios.TCSANOW)
        self.left = b""

    def send(self, **what: Any) -> None:
        """Send one object."""
        data = json.dumps(what).encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data) :]

    def receive(self) -> Any:
        """Wait for one object."""
        while b"\n" not in self.left:
            self.left += os.read(self.fd, _CHUNK)
        line, _, self.left = self.left.partition(b"\n")
        return json.loads(line)


def start(asked: dict[str, Any], out: int) -> int:
    """Start a program in a session of its own; its output goes to `out`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, number in ((null, 0), (out, 1), (out, 2)):
            os.dup2(fd, number)
        os.chdir(asked.get("cwd") or "/run/project")
        # Containers have no network but where a test asks for one.
        environment = {"PYCONTAIN_NETWORK": "none", **os.environ, **asked.get("env", {})}
        os.execvpe(asked["argv"][0], asked["argv"], environment)
    except OSError as err:
        os.write(2, f"{asked['argv'][0]}: {err.strerror}\n".encode())
    finally:
        os._exit(127)


def carry_out(line: Line, asked: dict[str, Any]) -> None:
    """Run one program, sending what it prints."""
    out, theirs = os.pipe()
    pid = start(asked, theirs)
    os.close(theirs)
    pidfd = os.pidfd_open(pid)
    end = time.monotonic() + asked["timeout"]
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    ended = False
    while not ended:
        ready = {fd for fd, _ in poll.poll(max(0, end - time.monotonic()) * 1000)}
        if not ready:
            line.send(out=f"\n[the time of {asked['timeout']} s is over: SIGKILL]\n")
            os.killpg(pid, signal.SIGKILL)
            end = time.monotonic() + 3600
        ended = pidfd in ready
        if out in ready and not relay(line, out):
            poll.unregister(out)
    # What was in the pipe when it ended: a process that it left behind may hold the other end.
    os.set_blocking(out, False)
    try:
        while relay(line, out):
            pass
    except BlockingIOError:
        pass
    os.close(out)
    os.close(pidfd)
    line.send(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def relay(line: Line, out: int) -> bool:
    """Send what can be read; say whether there can be more."""
    data = os.read(out, _CHUNK)
    if data:
        line.send(out=data.decode(errors="surrogateescape"))
    return bool(data)


def main() -> None:
    """Serve until the machine stops."""
    line = Line(sys.argv[1])
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    line.send(ready=boot)
    while not select.select([line.fd], [], [], _AGAIN)[0]:
        line.send(ready=boot)
    while True:
        carry_out(line, line.receive())


main()
