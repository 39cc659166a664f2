"""A dockerd in a machine of its own, and its client."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from .client import Answer, Terminal, answer, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests import peers

PROGRAMS = ("docker", "dockerd", "containerd", "containerd-shim-runc-v2", "iptables", "ip")
RUNTIME = "pycontain"


class Dockerd:
    """A docker daemon that knows a runtime under the name ``pycontain``.

    Args:
        runtime: path of the runtime.
        default: whether it is the daemon's default.
        flags: more of the daemon's.
        folder: for the daemon's log, the client's settings and the runtime's log.
    """

    image = "tools"

    def __init__(
        self, machine: peers.Machine, runtime: str, folder: Path, *flags: str, default: bool = False
    ) -> None:
        self.machine = machine
        self.folder = folder
        self._argv = ["docker", "-H", f"unix://{machine.root}/run/docker.sock"]
        self._environment = {**os.environ, "DOCKER_CONFIG": str(folder), "DOCKER_BUILDKIT": "0"}
        self._command = [
            *("dockerd", "-H", "unix:///run/docker.sock", "--data-root", "/run/docker-data"),
            *("--exec-root", "/run/docker", "--pidfile", "/run/docker.pid", "--live-restore"),
            *("--add-runtime", f"{RUNTIME}={runtime}"),
            *(("--default-runtime", RUNTIME) if default else ()),
            *flags,
        ]
        self._daemon: peers.Daemon | None = None

    def start(self) -> None:
        """Start the daemon. Raises RuntimeError when it does not start."""
        self._daemon = self.machine.start(self.folder / "dockerd.log", *self._command)
        self._daemon.wait_for(lambda: self("version").code == 0)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the daemon by a signal; its containers go on. Raises RuntimeError."""
        assert self._daemon is not None
        self._daemon.stop(number)

    def __call__(self, *words: str, stdin: bytes = b"") -> Answer:
        """Run the client."""
        return answer([*self._argv, *words], stdin, self._environment)

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        """Return what the client answers, without the last newline; it must succeed."""
        done = self(*words, stdin=stdin)
        assert done.code == 0, (words, done)
        return done.out.removesuffix("\n")

    def run(self, *words: str, stdin: bytes = b"") -> Answer:
        """``docker run --rm`` with the words, which name the image."""
        return self("run", "--rm", *words, stdin=stdin)

    def sh(self, script: str, *flags: str, stdin: bytes = b"") -> str:
        """Return what a shell script in a new container says, without the last newline."""
        return self.ok("run", "--rm", *flags, self.image, "sh", "-c", script, stdin=stdin)

    def detach(self, *words: str) -> str:
        """Id of a container that sleeps."""
        return self.ok("run", "-d", *words, self.image, "sleep", "1000")

    def terminal(self, *words: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        """Run the client on a terminal."""
        return Terminal([*self._argv, *words], self._environment, size)

    def inspect(self, ref: str) -> Any:
        """Return what ``docker inspect`` says of one object."""
        return json.loads(self.ok("inspect", ref))[0]

    def state(self, ref: str) -> str:
        """Return a container's state in docker's word."""
        return self.ok("inspect", "-f", "{{.State.Status}}", ref)

    def wait_for_log(self, ref: str, text: str) -> None:
        """Wait until a container's log has `text`."""
        wait_until(lambda: text in "".join(self("logs", ref)[1:]), f"{text!r} in the log")

    def clear(self) -> None:
        """Remove all containers, running or not."""
        ids = self.ok("ps", "-aq").split()
        if ids:
            self.ok("rm", "-f", *ids)
