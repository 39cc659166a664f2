"""A store of a test's own, the engine and the command line over it, and ways to look at them."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from pace import seconds

from pycontain import Engine
from pycontain.engine import records, supervision
from pycontain.model.container import Container, ExecOptions, RunOptions
from pycontain.model.kube import KINDS
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine.containers import View
    from pycontain.errors import PycontainError
    from pycontain.model.container import RunRecord
    from pycontain.model.result import RunResult
    from pycontain.runtime.attachment import Attachment

PATIENCE = seconds(20)
FOREVER = ("sleep", "1000")


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Poll until `condition` holds; fail when it does not."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


_ports: set[int] = set()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port that nobody has, below those that the kernel gives to connections and to who asks for
    any (ip(7), ip_local_port_range): by chance nobody gets it meanwhile.

    Whoever was told one binds it later. So none is told twice, and of two processes that run tests
    side by side one has the odd ones.
    """
    odd = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
    while True:
        port = 20_000 + int.from_bytes(os.urandom(2)) % 6_000 * 2 + odd
        if port in _ports:
            continue
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            _ports.add(port)
            return port


class Store:
    """One store in folders of its own, with the busybox image in it."""

    def __init__(self, folder: str) -> None:
        self.root = f"{folder}/root"
        self.state = f"{folder}/state"
        self.engine = Engine(self.root, self.state)
        self.layout = self.engine.layout
        self.containers = self.engine.containers

    def run(self, *command: str, input: bytes | None = None, **options: Any) -> RunResult:
        """``Engine.run`` with busybox."""
        return self.engine.run("busybox", command, input=input, **options)

    def sh(self, script: str, **options: Any) -> str:
        """Standard output of a shell script in a new container; it must succeed."""
        result = self.run("sh", "-c", script, **options)
        assert result.exit_code == 0, result
        return result.stdout.decode()

    def code(self, script: str, **options: Any) -> int:
        return self.run("sh", "-c", script, **options).exit_code

    def create(self, *command: str, **options: Any) -> Container:
        return self.containers.create(RunOptions(image="busybox", command=command, **options))

    def detach(self, *command: str, **options: Any) -> str:
        """Id of a new container that runs on its own."""
        asked = RunOptions(image="busybox", command=command or FOREVER, **options)
        container, _ = self.containers.run(asked, attach=False)
        return container.id

    def attached(self, *command: str, **options: Any) -> tuple[str, Attachment]:
        """Id of a new container, and its owner's connection."""
        asked = RunOptions(image="busybox", command=command, **options)
        container, attachment = self.containers.run(asked)
        assert attachment is not None
        return container.id, attachment

    def exec(self, ref: str, *command: str, input: bytes | None = None, **options: Any) -> Output:
        asked = ExecOptions(command=command, interactive=input is not None, **options)
        attachment = self.containers.exec(ref, asked)
        assert attachment is not None
        try:
            return collect(attachment, input)
        finally:
            attachment.close()

    def view(self, ref: str) -> View:
        return self.containers.get(ref)

    def state_of(self, ref: str) -> str:
        return self.view(ref).status.state

    def run_record(self, ref: str) -> RunRecord:
        record = records.load_run(self.view(ref).paths)
        assert record is not None
        return record

    def log(self, ref: str, **how: Any) -> bytes:
        return b"".join(entry.data for entry in self.containers.logs(ref, **how))

    def clear(self) -> None:
        """Take back what is declared, and remove all containers."""
        if os.path.isdir(self.layout.kube):
            kube = Kube(self.engine)
            kube.down([one.object for one in kube.objects(problems=[])])
        pods = Pods(self.engine)
        for identity in pods.names():
            pods.remove(identity, force=True)
        problems: list[PycontainError] = []
        self.containers.list(all=True, problems=problems)
        for identity in records.ids(self.layout):
            self.containers.remove(identity, force=True, volumes=True)
        # A supervisor that nobody needs any more ends.
        wait_until(lambda: not supervision.lives(self.layout))
        # Else another process takes bridges and rules away in a moment, of a store that is gone.
        self.engine.networks.sweep()

    def leftovers(self) -> list[str]:
        """What is in the store's folders although it has no container."""
        layout = self.layout
        folders = (layout.containers, layout.names, layout.work, layout.state_containers)
        found = [f"{folder}/{name}" for folder in folders for name in os.listdir(folder)]
        if os.path.isdir(layout.volumes):
            names = os.listdir(layout.volumes)
            found += [f"{layout.volumes}/{name}" for name in names if name.startswith(".")]
        locks = (name for name in os.listdir(layout.locks) if name.startswith("container-"))
        return found + [f"{layout.locks}/{name}" for name in locks]

    def left_of_declared(self, *, killed: bool = False) -> list[str]:
        """What is there of what was declared, or was made for it.

        Args:
            killed: who removed a volume was: its lock is taken up by the next of its name.
        """
        layout = self.layout
        folders = [layout.pods, layout.state_pods, layout.state_kube, layout.volumes]
        folders += [f"{layout.kube}/{kind.lower()}" for kind in KINDS]
        found = [
            f"{folder}/{name}"
            for folder in folders
            if os.path.isdir(folder)
            for name in os.listdir(folder)
        ]
        words = ("container-", "pod-", "kube-", *(() if killed else ("volume-",)))
        locks = [name for name in os.listdir(layout.locks) if name.startswith(words)]
        return found + locks + self.leftovers()


class Output:
    """What came over a connection until its end."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.lagged = 0
        self.code: int | None = None
        self.ended = False

    @property
    def stdout(self) -> bytes:
        return bytes(self.out)

    @property
    def stderr(self) -> bytes:
        return bytes(self.err)

    def __repr__(self) -> str:
        shown = f"{len(self.out)} bytes {self.stdout[-100:]!r}, {self.stderr[-100:]!r}"
        return f"Output({self.code}, {shown}, lagged={self.lagged})"


def collect(
    attachment: Attachment,
    data: bytes | None = None,
    *,
    until: bytes | None = None,
    quiet: float | None = None,
    patience: float = PATIENCE,
) -> Output:
    """Feed `data`, close the input where there is any, read to the end (or until `until` came, or
    nothing for `quiet` seconds).
    """
    found = Output()
    rest = data or b""
    closing = data is not None
    end = time.monotonic() + patience
    while until is None or until not in found.out:
        assert time.monotonic() < end, f"no end: {found}"
        if rest:
            rest = rest[attachment.write_stdin(rest) :]
        elif closing:
            closing = not attachment.close_stdin()
        events = select.POLLIN | (select.POLLOUT if rest or closing else 0)
        poller = select.poll()
        poller.register(attachment, events)
        if not poller.poll(100 if quiet is None else quiet * 1000):
            if quiet is not None:
                return found
            continue
        frame = attachment.read()
        if frame is None:
            continue
        if frame.kind == "stdout":
            found.out += frame.data
        elif frame.kind == "stderr":
            found.err += frame.data
        elif frame.kind == "lagged":
            found.lagged += frame.code
        elif frame.kind in ("exit", "closed"):
            found.code = frame.code if frame.kind == "exit" else None
            found.ended = True
            return found
    return found


def python_env(**more: str) -> dict[str, str]:
    """An environment in which a Python of its own finds what this one found.

    Containers have no network there unless a test asks for one: few are about networks.
    """
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, "PYCONTAIN_NETWORK": "none", **more}


class CommandLine:
    """``pycontain`` in a process of its own, over one store."""

    def __init__(self, store: Store) -> None:
        self.argv = [
            *(sys.executable, "-m", "pycontain.cli"),
            *("--root", store.root, "--state", store.state),
        ]

    def __call__(
        self,
        *args: str,
        input: bytes | None = None,
        tty: bool = False,
        timeout: float = seconds(60),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end; with `tty` on a terminal, whose output is the standard output."""
        if tty:
            return self._on_terminal([*self.argv, *args], input or b"", timeout)
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        return subprocess.run(
            [*self.argv, *args],
            capture_output=True,
            timeout=timeout,
            check=False,
            env=python_env(),
            **stdin,
        )

    def start(self, *args: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start it and go on."""
        return subprocess.Popen([*self.argv, *args], **{"env": python_env(), **how})

    def _on_terminal(
        self, argv: list[str], data: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        master, slave = pty.openpty()
        end = time.monotonic() + timeout
        output = b""
        with subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=python_env()
        ) as child:
            os.close(slave)
            try:
                while True:
                    if data:
                        data = data[os.write(master, data) :]
                    if select.select([master], [], [], 0.1)[0]:
                        try:
                            chunk = os.read(master, 65536)
                        except OSError:  # EIO: nobody has the other end any more, pty(7)
                            break
                        output += chunk
                    assert time.monotonic() < end, output
            finally:
                os.close(master)
                child.kill() if time.monotonic() > end else child.wait(PATIENCE)
        return subprocess.CompletedProcess(argv, child.returncode, output, b"")


def proc_field(pid: int | str, name: str, file: str = "status") -> str:
    """One field of /proc/PID/status or smaps_rollup, without its unit."""
    with open(f"/proc/{pid}/{file}") as lines:
        for line in lines:
            if line.startswith(f"{name}:"):
                return line.split(":", 1)[1].strip().removesuffix(" kB").strip()
    raise AssertionError(f"no field {name}")
