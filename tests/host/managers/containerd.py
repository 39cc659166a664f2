"""A containerd in a machine of its own, and ``ctr``: the runtime comes in by the runc shim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import image
from .client import Answer, Terminal, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests import peers

PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
# Where runtimes keep the containers of ctr's namespace.
CGROUPS = "/sys/fs/cgroup/default"


def lingering(script: str) -> str:
    """A shell script that ends some time after its last word: of what ends at once ``ctr`` may lose
    what that has said (https://github.com/containerd/containerd/pull/13931).
    """
    return f"trap 'sleep 0.5' EXIT; {script}"


class Containerd:
    """A containerd.

    Args:
        runtime: path of the runtime.
        folder: for the log.
    """

    def __init__(self, machine: peers.Machine, runtime: str, folder: Path) -> None:
        self.machine = machine
        self.runtime = runtime
        self.image = image.NAME
        self._log = folder / "containerd.log"
        self._daemon: peers.Daemon | None = None

    def start(self) -> None:
        """Start the daemon. Raises RuntimeError when it does not start."""
        self._daemon = self.machine.start(
            self._log,
            *("containerd", "--config", "/dev/null", "--root", "/run/containerd-root"),
            *("--state", "/run/containerd", "--address", "/run/containerd/containerd.sock"),
        )
        self._daemon.wait_for(lambda: self("version").code == 0)

    def stop(self) -> None:
        """Stop the daemon; shims and containers go on. Raises RuntimeError where it goes on too."""
        assert self._daemon is not None
        self._daemon.stop()

    def __call__(self, *words: str, stdin: bytes = b"") -> Answer:
        """Run ``ctr``."""
        done = self.machine("ctr", *words, stdin=stdin)
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        """Return what ``ctr`` answers, without the last newline; it must succeed."""
        done = self(*words, stdin=stdin)
        assert done.code == 0, (words, done)
        return done.out.removesuffix("\n")

    def _run(self, *words: str) -> list[str]:
        # shares are ctr's default, and need a cpu controller
        return ["run", "--runc-binary", self.runtime, "--cpu-shares", "0", *words]

    def run(self, name: str, command: list[str], *flags: str, stdin: bytes = b"") -> Answer:
        """``ctr run --rm`` of a command; what it says may be lost."""
        return self(*self._run("--rm", *flags, self.image, name, *command), stdin=stdin)

    def script(self, text: str, *flags: str, stdin: bytes = b"") -> Answer:
        """``ctr run --rm`` of a shell script, and all that it says."""
        return self.run("script", ["sh", "-c", lingering(text), "self"], *flags, stdin=stdin)

    def sh(self, text: str, *flags: str) -> str:
        """Return what a shell script says, without the last newline; it must succeed."""
        done = self.script(text, *flags)
        assert done.code == 0, (text, flags, done)
        return done.out.removesuffix("\n")

    def detach(self, name: str, script: str = "exec sleep 1000", *flags: str) -> None:
        """Start a container that runs on its own; nobody reads what it says."""
        words = ["-d", "--null-io", *flags, self.image, name, "sh", "-c", script]
        self.ok(*self._run(*words))

    def terminal(self, *words: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        """Run a container on a terminal, or with words that start by ``task`` that."""
        argv = list(words) if words[0] == "task" else self._run("--rm", "-t", *words)
        return Terminal(self.machine.argv("ctr", *argv), {"PATH": self._path()}, size)

    @staticmethod
    def _path() -> str:
        return "/usr/sbin:/usr/bin:/sbin:/bin"

    def exec(self, name: str, *command: str, flags: tuple[str, ...] = ()) -> Answer:
        """``ctr task exec``."""
        return self("task", "exec", "--exec-id", "one", *flags, name, *command)

    def exec_script(self, name: str, text: str, *flags: str) -> Answer:
        """``ctr task exec`` of a shell script, and all that it says."""
        return self.exec(name, "sh", "-c", lingering(text), flags=flags)

    def tasks(self) -> dict[str, tuple[int, str]]:
        """Return each task's pid and state."""
        lines = [line.split() for line in self.ok("task", "ls").splitlines()[1:]]
        return {name: (int(pid), state) for name, pid, state in lines}

    def wait_for_state(self, name: str, state: str) -> None:
        """Wait until a task is in a state, in containerd's word."""
        wait_until(lambda: self.tasks().get(name, (0, ""))[1] == state, f"{name} {state}")

    def remove(self, name: str) -> Answer:
        """Delete a task that has ended, and its container. Returns what the task's end was."""
        answer = self("task", "delete", name)
        self.ok("container", "delete", name)
        return answer

    def clear(self) -> None:
        """Remove all tasks, running or not, and all containers."""
        for name in self.tasks():
            self("task", "resume", name)  # fails where it is not paused
            self.ok("task", "delete", "--force", name)
        names = self.ok("container", "ls", "-q").split()
        if names:
            self.ok("container", "delete", *names)
