"""An ordinary user of the machine, with a subuid range and a copy of pycontain that it can read."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pace import seconds

import pycontain

if TYPE_CHECKING:
    from collections.abc import Iterator

# Several sessions may run on one machine.
NAME = f"pycontain-{os.getpid()}"
RANGES = ("/etc/subuid", "/etc/subgid")
LOCK = "/run/lock/pycontain-tests-accounts"
NEEDED = (
    "click", "dnslib", "isal", "msgspec", "psutil", "urllib3", "yaml", "zstandard", "_cffi_backend",
)  # fmt: skip
SCRIPT = """\
#!{python} -IS
import sys
sys.path.insert(0, {place!r})
from pycontain.{face}.main import main
sys.exit(main())
"""


class User:
    """An ordinary user of the machine, with a copy of pycontain that it can read.

    Attributes:
        home: its home folder.
        entry: its line of passwd(5).
        command: the command line of the engine.
        runtime: path of the OCI runtime.
        elsewhere: words before a command that bring it into a machine of its own.
    """

    def __init__(self, home: Path, place: Path) -> None:
        self.home = home
        self.entry = pwd.getpwnam(NAME)
        self.command = [str(place / "pycontain-command")]
        self.runtime = str(place / "pycontain-runtime")
        self.elsewhere: list[str] = []

    def run(
        self, *words: str, input: bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return self.do([*self.command, *words], input=input, env=env)

    def do(
        self, argv: list[str], *, input: bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.become(), *argv],
            input=input,
            capture_output=True,
            check=False,
            cwd=self.home,
            env=self.environment(env),
            timeout=seconds(120),
        )

    def become(self) -> list[str]:
        """Words before a command that make it this user's."""
        uid, gid = str(self.entry.pw_uid), str(self.entry.pw_gid)
        program = shutil.which("setpriv") or "setpriv"
        words = [program, "--reuid", uid, "--regid", gid, "--clear-groups", "--inh-caps=-all"]
        return [*self.elsewhere, *words]

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """The environment of this user's commands."""
        own = {"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/sbin"}
        # What is not about networks takes no time for them.
        return {**own, "PYCONTAIN_NETWORK": "none", **(more or {})}

    def sh(self, script: str, *flags: str) -> str:
        done = self.run("run", "--rm", *flags, "busybox", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


@contextlib.contextmanager
def ordinary_user() -> Iterator[User]:
    """Make the user; at the end it is gone, with its files and its processes."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a user of the machine")
    for program in ("useradd", "newuidmap", "setpriv"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    base = Path("/var/tmp") / NAME
    place, home = base / "lib", base / "home"
    python = interpreter(place)
    with accounts_locked():
        subprocess.run(["useradd", "-M", "-d", str(home), "-s", "/bin/sh", NAME], check=True)
        for path in RANGES:
            if not range_of(path):
                write_range(path, f"{NAME}:3000000:65536\n")
    try:
        place.mkdir(parents=True)
        copy_package(place, python)
        home.mkdir()
        os.chown(home, pwd.getpwnam(NAME).pw_uid, pwd.getpwnam(NAME).pw_gid)
        yield User(home, place)
    finally:
        uid = pwd.getpwnam(NAME).pw_uid
        for pid in {*processes_of(uid), *processes_about(str(base))}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while processes_of(uid) and time.monotonic() < end:
            time.sleep(0.05)
        shutil.rmtree(f"/tmp/pycontain-{uid}", ignore_errors=True)
        if base.exists():
            shutil.rmtree(base)
        # Zombies, which somebody else reaps, are processes of the user to it.
        while True:
            with accounts_locked():
                done = subprocess.run(["userdel", NAME], check=False, capture_output=True)
            if done.returncode != 8:
                break
            assert time.monotonic() < end + seconds(10), done.stderr
            time.sleep(0.1)
        with accounts_locked():
            for path in RANGES:
                write_range(path, "")


@contextlib.contextmanager
def accounts_locked() -> Iterator[None]:
    """Change accounts and ranges alone: others who run these tests add users of their own."""
    with open(LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def range_of(path: str) -> str:
    """The user's lines in a file of ranges."""
    lines = Path(path).read_text().splitlines(True)
    return "".join(line for line in lines if line.startswith(f"{NAME}:"))


def write_range(path: str, lines: str) -> None:
    """Replace the user's lines in a file of ranges; the accounts are locked."""
    kept = [line for line in Path(path).read_text().splitlines(True)
            if not line.startswith(f"{NAME}:")]  # fmt: skip
    new = Path(f"{path}.{NAME}")
    new.write_text("".join(kept) + lines)
    new.chmod(0o644)
    new.replace(path)  # whoever reads it meanwhile has one or the other


@contextlib.contextmanager
def without_range() -> Iterator[None]:
    """Have the user no range in /etc/subuid."""
    with accounts_locked():
        lines = range_of("/etc/subuid")
        write_range("/etc/subuid", "")
    try:
        yield
    finally:
        with accounts_locked():
            write_range("/etc/subuid", lines)


def interpreter(place: Path) -> str:
    """A Python of our version that an ordinary user may execute."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        # setpriv's own exec still passes root's folders: env's is the user's.
        probe = ["env", python, "-IS", "-c", "import sys; print(sys.version_info[:2])"]
        become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        try:
            done = subprocess.run([*become, *probe], capture_output=True, check=False, cwd="/")
        except OSError:
            continue
        if done.stdout.decode().strip() == str(tuple(sys.version_info[:2])):
            return python
    pytest.skip(
        f"needs a Python {sys.version_info[:2]} that an ordinary user may execute ({place})"
    )


def copy_package(place: Path, python: str) -> None:
    source = Path(pycontain.__file__).parent
    shutil.copytree(source, place / "pycontain")
    if not (place / "pycontain" / "_images").exists():
        shutil.copytree(source.parent / "images", place / "pycontain" / "_images")
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec
        assert spec.origin
        if spec.submodule_search_locations:
            shutil.copytree(Path(spec.origin).parent, place / name)
        else:
            shutil.copy(spec.origin, place)
    for name, face in (("pycontain-command", "cli"), ("pycontain-runtime", "oci")):
        script = SCRIPT.format(python=python, place=str(place), face=face)
        (place / name).write_text(script)
        (place / name).chmod(0o755)
    # The user cannot keep what it compiles: without this, every start would do it again.
    subprocess.run([python, "-ISm", "compileall", "-q", str(place)], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)


def open_up(path: Path) -> None:
    """Let others walk to `path`: who is nobody special on the host, as a container's root."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o055)


def first_subuid() -> str:
    """The first id of the user's range."""
    for line in Path("/etc/subuid").read_text().splitlines():
        if line.startswith(f"{NAME}:"):
            return line.split(":")[1]
    raise AssertionError("no range")


def processes_about(folder: str) -> list[int]:
    """Processes with a folder in their arguments: helpers that are another of the user's ids."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and f"{folder}/".encode() in _arguments(name):
            found.append(int(name))
    return found


def _arguments(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def processes_of(uid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    found.append(int(name))
            except FileNotFoundError:
                continue
    return found
