"""An ordinary user with a subuid range runs the same containers through the same code."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import leaks
import pytest
from ordinary import (
    NAME,
    User,
    first_subuid,
    open_up,
    ordinary_user,
    processes_of,
    without_range,
)
from pace import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        # Makes the user's namespace, whose holder stays: before the leak fixture looks.
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


def test_is_root_inside_and_nobody_outside(user: User) -> None:
    assert user.sh("id -u; cat /proc/self/uid_map").split() == [
        "0", "0", str(user.entry.pw_uid), "1", "1", first_subuid(), "65536",
    ]  # fmt: skip


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


@pytest.mark.in_vm
def test_life_of_a_container(user: User) -> None:
    assert user.run("run", "-d", "--name", "rootless", "busybox", "sleep", "1000").returncode == 0
    try:
        assert b"rootless" in user.run("ps").stdout
        assert user.run("exec", "rootless", "cat", "/proc/1/comm").stdout == b"sleep\n"
        # The next command enters the namespace that the first one made.
        held = [
            pid for pid in processes_of(user.entry.pw_uid)
            if "pycontain-userns" in leaks.text(f"/proc/{pid}/cmdline")
        ]  # fmt: skip
        assert len(held) == 1
        assert user.run("stop", "-t", "0", "rootless").returncode == 0
    finally:
        user.run("rm", "-f", "rootless")
    assert b"rootless" not in user.run("ps", "-a").stdout


@pytest.mark.in_vm
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
    state = tmp_path / "state"
    root = tmp_path / "root"
    for folder in (state, root):
        folder.mkdir()
        os.chown(folder, user.entry.pw_uid, user.entry.pw_gid)
    open_up(tmp_path)
    with without_range():
        done = user.run(
            "--root", str(root), "--state", str(state), "run", "--rm", "busybox", "true"
        )
    assert done.returncode == 125
    assert f"user {NAME} has no range in /etc/subuid".encode() in done.stderr
    assert b"usermod --add-subuids" in done.stderr


def test_what_takes_no_cgroup_works_and_pausing_says_why_not(user: User) -> None:
    identity = user.run("run", "-d", "--name", "mine", "busybox", "sleep", "1001").stdout.strip()
    try:
        done = user.run("pause", "mine")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"mine: it has no cgroup" in done.stderr
        assert user.run("rename", "mine", "other").returncode == 0
        user.run("exec", "-d", "other", "sleep", "1002")
        shown = user.run("top", "other").stdout.splitlines()[1:]
        assert sorted(line.split()[-1] for line in shown) == [b"1001", b"1002"]
    finally:
        user.run("rm", "-f", identity.decode())
    form = "{{.Action}} {{.Actor.Attributes.name}}"
    filters = (
        "-f",
        "container=other",
        "-f",
        "event=start",
        "-f",
        "event=die",
        "-f",
        "event=rename",
    )
    told = user.run("events", "--since", "0", "--until", "0s", "--format", form, *filters)
    assert told.stdout.splitlines() == [b"rename other", b"die other"]


def test_volumes(user: User) -> None:
    assert user.sh("ls /etc/passwd; touch /etc/mine", "-v", "data:/etc").endswith("passwd\n")
    there = user.home / ".local/share/pycontain/volumes/data/data"
    assert {path.lstat().st_uid for path in there.rglob("*")} == {user.entry.pw_uid}
    options = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m")
    assert user.run("volume", "create", *options, "fast").returncode == 0
    script = "touch /f/there; sleep 1000"
    one = user.run(
        "run", "-d", "--name", "one", "-v", "fast:/f", "busybox", "sh", "-c", script
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    assert user.sh("while ! ls /f | grep .; do :; done", "-v", "fast:/f") == "there\n"
    assert user.sh("stat -c %u /d/mine", "-u", "7", "-v", "data:/d:U") == "7\n"
    image = ("--mount", "type=image,src=busybox,dst=/img")
    assert "bin" in user.sh("ls /img; ! touch /img/x 2>/dev/null", *image)
    assert user.run("rm", "-fv", "one").returncode == 0
    assert user.run("volume", "prune", "-af").returncode == 0


def test_restarts(user: User) -> None:
    """The supervisor lives in the user's namespaces, whoever of them starts it."""
    word = Path(f"/tmp/pycontain-{user.entry.pw_uid}/supervisor")
    script = "[ -e /again ] && exec sleep 1000; touch /again; exit 3"
    one = ("--name", "one", "--restart", "on-failure", "busybox", "sh", "-c", script)
    done = user.run("run", "-d", *one)
    assert done.returncode == 0, done.stderr

    def shown(form: str) -> str:
        return user.run("inspect", "-f", form, "one").stdout.decode().strip()

    _wait_until(lambda: shown("{{.State.Status}} {{.RestartCount}}") == "running 1")
    pid = int(os.readlink(word).split()[0])
    assert Path(f"/proc/{pid}").stat().st_uid == user.entry.pw_uid
    os.kill(pid, signal.SIGKILL)
    user.run("restart", "-t", "0", "one")
    _wait_until(lambda: os.path.lexists(word) and int(os.readlink(word).split()[0]) != pid)
    assert user.run("rm", "-f", "one").returncode == 0
    _wait_until(lambda: not os.path.lexists(word))


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds(30)
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_health(user: User) -> None:
    check = ("--health-cmd", "test -f /ok", "--health-interval", "50ms", "--health-retries", "1")
    assert user.run("run", "-d", "--name", "ill", *check, "busybox", "sleep", "100").returncode == 0
    try:
        assert user.run("wait", "--condition", "unhealthy", "ill").stdout == b"-1\n"
        user.run("exec", "ill", "touch", "/ok")
        assert user.run("wait", "--condition", "healthy", "ill").stdout == b"-1\n"
        assert b"(healthy)" in user.run("ps", "--format", "{{.Status}}").stdout
    finally:
        assert user.run("rm", "-f", "ill").returncode == 0
