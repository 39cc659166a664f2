"""podman in a machine of its own, with our runtime given by its path."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from .client import Answer, Terminal, wait_until

if TYPE_CHECKING:
    from tests import peers

PROGRAMS = ("podman", "conmon")
_CONFIG = "/run/containers.conf"
# What podman runs as the first process of a pod, and for --init; its package only recommends it.
_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/libexec/podman:/usr/lib/podman"
needs_catatonit = pytest.mark.skipif(
    not shutil.which("catatonit", path=_PLACES), reason="not installed: catatonit"
)
# Its defaults raise rlimits, and limit processes; not every machine can. Nor has each one systemd.
_SETTINGS = """\
[containers]
default_ulimits = []
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """podman with a store of its own; it has no daemon.

    Args:
        runtime: path of the runtime.
    """

    image = "tools"

    def __init__(self, machine: peers.Machine, runtime: str) -> None:
        self.machine = machine
        self.runtime = runtime
        with open(f"{machine.root}{_CONFIG}", "w") as file:
            file.write(_SETTINGS)
        self._argv = [
            *("podman", "--root", "/run/podman/root", "--runroot", "/run/podman/run"),
            *("--tmpdir", "/run/podman/tmp", "--runtime", runtime),
        ]
        self._environment = {"CONTAINERS_CONF": _CONFIG}

    def __call__(self, *words: str, stdin: bytes = b"") -> Answer:
        """Run it."""
        done = self.machine(*self._argv, *words, stdin=stdin, environment=self._environment)
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        """Return what it answers, without the last newline; it must succeed."""
        done = self(*words, stdin=stdin)
        assert done.code == 0, (words, done)
        return done.out.removesuffix("\n")

    def run(self, *words: str, stdin: bytes = b"") -> Answer:
        """``podman run --rm`` without a network, which podman would make itself."""
        return self("run", "--rm", "--network", "none", *words, stdin=stdin)

    def sh(self, script: str, *flags: str) -> str:
        """Return what a shell script in a new container says, without the last newline."""
        words = ["run", "--rm", "--network", "none", *flags, self.image, "sh", "-c", script]
        return self.ok(*words)

    def detach(self, *words: str, script: str = "exec sleep 1000") -> str:
        """Id of a container that runs on its own."""
        flags = ["run", "-d", "--network", "none", *words]
        return self.ok(*flags, self.image, "sh", "-c", script)

    def terminal(self, *words: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        """Run it on a terminal."""
        environment = {**os.environ, **self._environment}
        return Terminal(self.machine.argv(*self._argv, *words), environment, size)

    def inspect(self, ref: str) -> Any:
        """Return what ``podman inspect`` says of a container."""
        return json.loads(self.ok("container", "inspect", ref))[0]

    def state(self, ref: str) -> str:
        """Return a container's state in podman's word."""
        return str(self.inspect(ref)["State"]["Status"])

    def wait_for_log(self, ref: str, text: str) -> None:
        """Wait until a container's log has `text`."""
        wait_until(lambda: text in self.ok("logs", ref), f"{text!r} in the log")

    def clear(self) -> None:
        """Remove all pods and containers, running or not."""
        if self.ok("pod", "ls", "-q"):
            self.ok("pod", "rm", "-a", "-f", "-t", "0")
        self.ok("rm", "-a", "-f", "-t", "0")
