"""An ordinary user with a subuid range runs the same containers through the same code."""

from __future__ import annotations

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

import pycontain

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.host

NAME = "pycontain-tester"
NEEDED = ("click", "msgspec", "_cffi_backend")
SCRIPT = """\
import sys
sys.path.insert(0, {place!r})
from pycontain.cli.main import main
sys.exit(main())
"""


class User:
    """An ordinary user of the machine, with a copy of pycontain that it can read."""

    def __init__(self, home: Path, place: Path, python: str) -> None:
        self.home = home
        self.entry = pwd.getpwnam(NAME)
        self.command = [python, "-IS", str(place / "pycontain-command")]

    def run(
        self, *words: str, input: bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return self.do([*self.command, *words], input=input, env=env)

    def do(
        self, argv: list[str], *, input: bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        uid, gid = str(self.entry.pw_uid), str(self.entry.pw_gid)
        become = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--inh-caps=-all"]
        return subprocess.run(
            [*become, *argv],
            input=input,
            capture_output=True,
            check=False,
            cwd=self.home,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/sbin", **(env or {})},
            timeout=120,
        )

    def sh(self, script: str, *flags: str) -> str:
        done = self.run("run", "--rm", *flags, "busybox", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


def interpreter(place: Path) -> str:
    """A Python of our version that an ordinary user may execute."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        probe = [python, "-IS", "-c", "import sys; print(sys.version_info[:2])"]
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


def copy_package(place: Path) -> None:
    source = Path(pycontain.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, place / "pycontain", ignore=ignore)
    if not (place / "pycontain" / "_images").exists():
        shutil.copytree(source.parent / "images", place / "pycontain" / "_images")
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin
        if spec.submodule_search_locations:
            shutil.copytree(Path(spec.origin).parent, place / name, ignore=ignore)
        else:
            shutil.copy(spec.origin, place)
    (place / "pycontain-command").write_text(SCRIPT.format(place=str(place)))
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)


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


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a user of the machine")
    for program in ("useradd", "newuidmap", "setpriv"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    base = Path("/var/tmp") / f"{NAME}-{os.getpid()}"
    place, home = base / "lib", base / "home"
    place.mkdir(parents=True)
    python = interpreter(place)
    if NAME in {entry.pw_name for entry in pwd.getpwall()}:
        subprocess.run(["userdel", NAME], check=True)
    subprocess.run(["useradd", "-M", "-d", str(home), "-s", "/bin/sh", NAME], check=True)
    ranges = {path: Path(path).read_text() for path in ("/etc/subuid", "/etc/subgid")}
    try:
        for path, text in ranges.items():
            if f"{NAME}:" not in text:
                Path(path).write_text(f"{text}{NAME}:3000000:65536\n")
        copy_package(place)
        home.mkdir()
        os.chown(home, pwd.getpwnam(NAME).pw_uid, pwd.getpwnam(NAME).pw_gid)
        user = User(home, place, python)
        # Makes the user's namespace, whose holder stays: before the leak fixture looks.
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user
    finally:
        uid = pwd.getpwnam(NAME).pw_uid
        for pid in processes_of(uid):
            os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while processes_of(uid) and time.monotonic() < end:
            time.sleep(0.05)
        shutil.rmtree(f"/tmp/pycontain-{uid}", ignore_errors=True)
        shutil.rmtree(base)
        subprocess.run(["userdel", NAME], check=False, capture_output=True)
        for path in ranges:
            kept = [line for line in Path(path).read_text().splitlines(True)
                    if not line.startswith(f"{NAME}:")]  # fmt: skip
            Path(path).write_text("".join(kept))


def test_is_root_inside_and_nobody_outside(user: User) -> None:
    assert user.sh("id -u; cat /proc/self/uid_map").split() == [
        "0", "0", str(user.entry.pw_uid), "1", "1", first_subuid(), "65536",
    ]  # fmt: skip


def first_subuid() -> str:
    for line in Path("/etc/subuid").read_text().splitlines():
        if line.startswith(f"{NAME}:"):
            return line.split(":")[1]
    raise AssertionError("no range")


def test_files_are_the_users_own_and_nothing_was_chowned(user: User) -> None:
    layers = next((user.home / ".local/share/pycontain/layers").iterdir())
    owners = {path.lstat().st_uid for path in layers.rglob("*")}
    assert owners == {user.entry.pw_uid}


def test_another_user_of_the_image_is_one_of_the_range(user: User) -> None:
    out = user.home / "out"
    out.mkdir()
    out.chmod(0o777)
    user.sh("touch /out/file", "-u", "1000:1000", "-v", f"{out}:/out")
    assert (out / "file").stat().st_uid == int(first_subuid()) + 999
    shutil.rmtree(out)


def test_exit_codes_and_streams(user: User) -> None:
    done = user.run(
        "run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo b >&2; exit 5", input=b"a"
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, b"a", b"b\n")


def test_life_of_a_container(user: User) -> None:
    assert user.run("run", "-d", "--name", "rootless", "busybox", "sleep", "1000").returncode == 0
    try:
        assert b"rootless" in user.run("ps").stdout
        assert user.run("exec", "rootless", "cat", "/proc/1/comm").stdout == b"sleep\n"
        # The next command enters the namespace that the first one made.
        held = [
            pid for pid in processes_of(user.entry.pw_uid)
            if b"pycontain-userns" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]  # fmt: skip
        assert len(held) == 1
        assert user.run("stop", "-t", "0", "rootless").returncode == 0
    finally:
        user.run("rm", "-f", "rootless")
    assert b"rootless" not in user.run("ps", "-a").stdout


def test_defences_are_in_place(user: User) -> None:
    out = user.sh(
        "grep -E '^(Seccomp|CapBnd):' /proc/self/status;"
        " mknod /tmp/x c 1 3 2>/dev/null || echo no mknod;"
        " cat /proc/kcore 2>/dev/null | wc -c; mount -t tmpfs x /mnt 2>/dev/null || echo no mount"
    )
    status = dict(line.split(":\t") for line in out.splitlines()[:2])
    assert status["Seccomp"] == "2"
    assert not int(status["CapBnd"], 16) >> 27 & 1  # CAP_MKNOD
    assert out.splitlines()[2:] == ["no mknod", "0", "no mount"]


def test_a_new_holder_takes_over_when_the_first_is_killed(user: User) -> None:
    state = Path(f"/tmp/pycontain-{user.entry.pw_uid}")
    import json

    before = json.loads((state / "userns.json").read_text())["pid"]
    os.kill(before, signal.SIGKILL)
    while os.path.exists(f"/proc/{before}"):
        time.sleep(0.01)
    try:
        assert user.sh("echo again") == "again\n"
        after = json.loads((state / "userns.json").read_text())["pid"]
        assert after != before
    finally:
        assert user.run("ps").returncode == 0


def test_a_user_without_a_range_is_told_what_to_do(user: User, tmp_path: Path) -> None:
    path = Path("/etc/subuid")
    text = path.read_text()
    state = tmp_path / "state"
    root = tmp_path / "root"
    for folder in (state, root):
        folder.mkdir()
        os.chown(folder, user.entry.pw_uid, user.entry.pw_gid)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    path.write_text("".join(
        line for line in text.splitlines(True) if not line.startswith(f"{NAME}:")
    ))  # fmt: skip
    try:
        done = user.run(
            "--root", str(root), "--state", str(state), "run", "--rm", "busybox", "true"
        )
    finally:
        path.write_text(text)
    assert done.returncode == 125
    assert f"user {NAME} has no range in /etc/subuid".encode() in done.stderr
    assert b"usermod --add-subuids" in done.stderr
