"""A virtual machine: QEMU, started directly on a kernel, and a serial line to the agent in it.

Every machine writes to a layer of its own over the disk, so it starts from the same state. The
layer can outlive the machine: that is how a power cut is survived, or not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.vm import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QEMU = "qemu-system-x86_64"
# A quiet machine under emulation takes 3 to 6 s to the agent; 60 s were seen at a load of ten.
BOOT = 300.0
BOOT_KVM = 20.0
BOOT_SYSTEMD = 600.0
PATIENCE = 300.0
_COMMAND_LINE = (
    "console=ttyS0 panic=-1 quiet loglevel=4 root=/dev/nvme0n1 rw net.ifnames=0 mitigations=off "
    "tsc=unstable random.trust_cpu=on"
)


class Lost(Exception):
    """The machine does not answer, or ended; the text has the end of its console."""


@dataclass(frozen=True)
class Answer:
    """What a program in the machine printed, and its exit code (negative: the signal)."""

    code: int
    output: str


def accelerators() -> list[str]:
    """What to try, best first: KVM where its device can be opened, then emulation."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return ["tcg"]
    return ["kvm", "tcg"]


def _remembered() -> Path:
    """Where the accelerator under which a guest really booted is kept, until the host reboots."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return disk.cache() / f"accelerator-{boot}"


class Machine:
    """One virtual machine, from boot to end.

    Args:
        folder: an existing folder of its own: console, sockets, the layer of its disk.
        project: a tar archive; the machine unpacks it into /run/project at every boot.
        systemd: boot systemd as the first program.
        memory: MiB.
        cpus: how many.
    """

    def __init__(
        self,
        folder: Path,
        project: Path,
        *,
        systemd: bool = False,
        memory: int = 1536,
        cpus: int = 2,
    ) -> None:
        self.folder = folder
        self.project = project
        self.systemd = systemd
        self.memory = memory
        self.cpus = cpus
        self.disk = disk.get()
        self.layer = folder / "layer.qcow2"
        self.accelerator = ""
        self.boot_id = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._left = b""

    def __enter__(self) -> Machine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    @property
    def console(self) -> Path:
        """What kernel and init printed."""
        return self.folder / "console.log"

    # ------------------------------------------------------------------ its life

    def start(self) -> None:
        """Boot, with the layer that is there or a new one; return when the agent answers.

        Raises:
            Lost: no accelerator boots it, emulation not at the second try either, if nothing was
                ever written to the layer; the text has the end of the console.
        """
        fresh = not self.layer.exists()
        if fresh:
            self._new_layer()
        remembered = _remembered()
        known = remembered.read_text() if remembered.exists() else ""
        tried = [known] if known else accelerators()
        if tried[-1] == "tcg":
            # One gave no answer in 90 s once; whether it was slow or stood still is not known.
            tried.append("tcg")
        while True:
            accelerator = tried.pop(0)
            try:
                self._boot(accelerator)
                break
            except Lost as err:
                self.cut()
                # What an earlier boot has written is what a test is about.
                if not tried or not fresh:
                    raise
                warnings.warn(f"boot with {accelerator}, once more: {err}", stacklevel=2)
                self._new_layer()
        if not known:
            for old in disk.cache().glob("accelerator-*"):
                old.unlink(missing_ok=True)
            remembered.write_text(self.accelerator)

    def cut(self) -> None:
        """Cut the power: what the guest's kernel had not written to the disk is lost."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._line:
            self._line.close()
            self._line = None

    def pull(self) -> None:
        """Cut the power while another thread runs a program: that hears what was said, then Lost.

        ``cut`` or the end of the machine's ``with`` is to follow.
        """
        if self._process:
            self._process.kill()

    def reboot(self, *how: str) -> None:
        """Reboot from inside: by these words, or at once as the kernel does it.

        What the guest had written to its disk stays, as in a machine with power: QEMU ends where it
        would reset, and another goes on. A kernel in the same one would take minutes: under
        emulation each page that held translated code is slow to write to, and that is most of them.

        Raises:
            Lost: it did not reboot, or did not boot.
        """
        assert self._process
        self._ask([*(how or ("busybox", "reboot", "-f"))], PATIENCE, None, None)
        try:
            self._process.wait(BOOT_SYSTEMD)
        except subprocess.TimeoutExpired:
            raise self._lost("the machine did not reboot") from None
        self.cut()
        self.start()

    def _new_layer(self) -> None:
        words = ["-f", "qcow2", "-F", "raw", "-b", str(self.disk.image), str(self.layer)]
        subprocess.run(["qemu-img", "create", "-q", *words], check=True)

    def _boot(self, accelerator: str) -> None:
        self.accelerator = accelerator
        path = self.folder / "line.sock"
        path.unlink(missing_ok=True)
        limit = BOOT_KVM if accelerator == "kvm" else BOOT
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen(1)
            server.settimeout(1.0)
            with (self.folder / "qemu.log").open("wb") as log:
                self._process = subprocess.Popen(
                    self._argv(path), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._line = self._accept(server, self._process, limit)
            self._left = b""
            self._wait_ready(BOOT_SYSTEMD if self.systemd else limit)

    def _accept(
        self, server: socket.socket, process: subprocess.Popen[bytes], limit: float
    ) -> socket.socket:
        end = time.monotonic() + limit
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(TimeoutError):
                return server.accept()[0]
        raise self._lost("QEMU did not start")

    def _argv(self, line: Path) -> list[str]:
        first = "init=/lib/systemd/systemd" if self.systemd else "init=/usr/sbin/vm-init"
        how = "tcg,thread=multi" if self.accelerator == "tcg" else self.accelerator
        return [
            QEMU, "-M", "q35", "-accel", how, "-cpu", "max", "-smp", str(self.cpus),
            "-m", str(self.memory), "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot",
            "-kernel", str(self.disk.kernel), "-append", f"{_COMMAND_LINE} {first}",
            "-drive", f"file={self.layer},if=none,id=root,format=qcow2,discard=unmap",
            "-device", "nvme,drive=root,serial=root",
            "-drive", f"file={self.project},if=none,id=project,format=raw,readonly=on",
            "-device", "nvme,drive=project,serial=project",
            "-device", "virtio-rng-pci",
            "-serial", f"file:{self.console}",
            "-chardev", f"socket,id=line,path={line}", "-serial", "chardev:line",
        ]  # fmt: skip

    # ------------------------------------------------------------------ the line

    def run(
        self,
        *argv: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float = PATIENCE,
        echo: Callable[[str], object] | None = None,
        check: bool = True,
    ) -> Answer:
        """Run a program to its end.

        Args:
            argv: the program, looked up in the PATH, and its arguments.
            cwd: its working directory; /run/project unless told.
            env: added to the environment.
            timeout: seconds; it gets SIGKILL, with its group, when they are over.
            echo: called with what it prints as it comes.
            check: fail when it does.

        Raises:
            Lost: the machine ended or does not answer.
            AssertionError: it failed, and `check` was asked for.
        """
        self._ask(list(argv), timeout, cwd, env)
        said: list[str] = []
        end = time.monotonic() + timeout + PATIENCE
        while True:
            got = self._receive(end)
            if "out" in got:
                said.append(got["out"])
                if echo:
                    echo(got["out"])
            if "code" in got:
                answer = Answer(got["code"], "".join(said))
                assert not check or answer.code == 0, (argv, answer.code, answer.output)
                return answer

    def sh(self, script: str, **how: Any) -> str:
        """Return what a shell script printed; it must succeed."""
        return self.run("sh", "-c", script, **how).output

    def start_and_leave(self, script: str) -> None:
        """Begin a shell script without waiting for its end; nothing can be asked until then."""
        self._ask(["sh", "-c", script], 3600, None, None)

    def _ask(
        self, argv: list[str], timeout: float, cwd: str | None, env: dict[str, str] | None
    ) -> None:
        assert self._line
        asked = {"argv": argv, "timeout": timeout, "cwd": cwd, "env": env or {}}
        self._line.sendall(json.dumps(asked).encode() + b"\n")

    def _wait_ready(self, limit: float) -> None:
        end = time.monotonic() + limit
        got: dict[str, Any] = {}
        while "ready" not in got:
            got = self._receive(end)
        self.boot_id = got["ready"]

    def _receive(self, end: float) -> dict[str, Any]:
        assert self._line
        while b"\n" not in self._left:
            self._line.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self._line.recv(1 << 16)
            except TimeoutError:
                raise self._lost("no answer in time") from None
            except OSError as err:
                raise self._lost(str(err)) from None
            if not data:
                raise self._lost("the machine ended")
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        try:
            got: dict[str, Any] = json.loads(line)
        except ValueError:
            return {}  # of a boot that was interrupted, or the firmware's
        return got

    def _lost(self, what: str) -> Lost:
        """With what tells a guest that hangs from a slow host: QEMU's time and the host's load."""
        parts = [what, f"host: load {os.getloadavg()[0]:.1f}"]
        if self._process:
            with contextlib.suppress(psutil.Error):
                qemu = psutil.Process(self._process.pid)
                used = sum(qemu.cpu_times()[:2])
                parts.append(f"QEMU: {qemu.status()}, {used:.0f} s of processor")
        for name in ("qemu.log", "console.log"):
            with contextlib.suppress(OSError):
                text = (self.folder / name).read_text(errors="replace").strip()
                parts.append(f"{name}: …{text[-1500:]}" if text else f"{name}: empty")
        return Lost("\n".join(parts))


def missing() -> list[str]:
    """The programs that a machine needs and that are not installed."""
    return [tool for tool in (QEMU, "qemu-img", *disk.TOOLS) if not shutil.which(tool)]


@contextlib.contextmanager
def archive(folder: Path, *files: Path) -> Iterator[Path]:
    """The project as the machine gets it: a tar archive of what its tests need.

    Args:
        folder: where to put it.
        files: more files, which become /run/project/NAME.
    """
    place = folder / "project.tar"
    tree = folder / "project"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("pycontain", "tests", "images", "native"):
        shutil.copytree(disk.CHECKOUT / name, tree / name, ignore=ignore, symlinks=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(disk.CHECKOUT / name, tree)
    for file in files:
        shutil.copy(file, tree)
    source = disk.CHECKOUT / "tests/host/probe.c"
    words = ["-D_GNU_SOURCE", "-static", "-O1"]
    subprocess.run(["cc", *words, "-o", tree / "probe", source], check=True)
    # There an import that compiles takes twenty times as long.
    quiet = ["-q", "--invalidation-mode", "unchecked-hash"]
    where = [f"{tree}/pycontain", f"{tree}/tests"]
    subprocess.run([sys.executable, "-m", "compileall", *quiet, *where], check=True)
    subprocess.run(["tar", "-C", tree, "-cf", place, "."], check=True)
    shutil.rmtree(tree)
    yield place
    place.unlink()
