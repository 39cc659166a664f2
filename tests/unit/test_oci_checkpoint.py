"""checkpoint and restore: criu's messages, what it is told, what is refused before it starts."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotSupported, PycontainError
from pycontain.kernel.mount import MS_PRIVATE, MS_REC
from pycontain.oci import checkpoint as verb
from pycontain.oci import flags, restore
from pycontain.oci.flags import UsageError
from pycontain.oci.main import Command, main
from pycontain.runtime import checkpoint, criu
from pycontain.runtime.plan import CGROUP, CLONE_FLAGS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.model import oci

# ---------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        # Protocol Buffers, "Encoding": its own examples.
        ([(1, 150)], b"\x08\x96\x01"),
        ([(2, "testing")], b"\x12\x07testing"),
        ([(3, [(1, 150)])], b"\x1a\x03\x08\x96\x01"),
        ([(1, -1)], b"\x08" + b"\xff" * 9 + b"\x01"),
        ([(3, True), (20, b"\xff")], b"\x18\x01\xa2\x01\x01\xff"),
        ([], b""),
    ],
)
def test_messages(fields: criu.Fields, data: bytes) -> None:
    assert criu.encode(fields) == data


@given(
    st.dictionaries(
        st.integers(1, 536870911), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300))
    )
)
def test_what_is_written_is_read(fields: dict[int, int | bytes]) -> None:
    assert criu.decode(criu.encode([*fields.items()])) == fields


def test_fields_of_other_kinds_are_passed_over() -> None:
    data = b"\x0d1234" + b"\x1112345678" + b"\x18\x05"
    assert criu.decode(data)[3] == 5


@given(st.binary(max_size=64))
def test_what_is_no_message(data: bytes) -> None:
    try:
        found = criu.decode(data)
    except PycontainError:
        return
    assert all(isinstance(value, (int, bytes)) for value in found.values())


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x07test", b"\x0b", b"\x08\xff"])
def test_a_message_that_ends_too_early(data: bytes) -> None:
    with pytest.raises(PycontainError, match="protocol"):
        criu.decode(data)


# --------------------------------------------------------------------------------------------- log


def test_the_reason_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    assert criu.last_errors(str(log)) == []
    log.write_text("(00.1) fine\n(00.2) Error (criu/a.c:1): mnt: no\n(00.3) bye\n")
    assert criu.last_errors(str(log)) == ["mnt: no"]
    lines = [f"(00.{number}) {number:5}: Error (criu/a.c:1): {number}\n" for number in range(9)]
    log.write_text("".join(lines))
    assert criu.last_errors(str(log)) == ["0", "…", "7", "8"]


# -------------------------------------------------------------------------------------------- plan


def test_the_plan_of_a_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/bin:relative:/sbin")
    steps = criu.plan(1, criu.Surroundings())
    assert [step.name for step in steps] == [
        "clone", "session", "umask", "inherit", "close", "exec",
    ]  # fmt: skip
    assert steps[0].args == (0,)
    argv, env, candidates = steps[-1].args
    assert argv == ("criu", "swrk", "3")
    assert env == ("PATH=/opt/bin:relative:/sbin",)
    assert candidates == ("/opt/bin/criu", "/sbin/criu")


def test_the_plan_of_a_restore() -> None:
    """Device rules hold before anybody is in the cgroup; the root is in nobody's mount table."""
    around = criu.Surroundings(
        devices=(8, b"program"), root=(9, "/run/x"), extra=[10, 11], no_new_privs=True
    )
    steps = {step.name: step.args for step in criu.plan(3, around)}
    assert list(steps) == [
        "devices", "clone", "session", "propagation", "root", "no_new_privs", "umask", "inherit",
        "close", "exec",
    ]  # fmt: skip
    assert steps["devices"] == (CGROUP, b"program")
    assert steps["clone"] == (CLONE_FLAGS["mount"],)
    assert steps["session"] == (1,)
    assert steps["propagation"] == (MS_REC | MS_PRIVATE,)
    assert steps["root"] == (ROOT, "/run/x", MS_PRIVATE)
    assert steps["close"] == (6,)


# ------------------------------------------------------------------------------------------- flags


def command(name: str, *words: str, rootless: bool = False) -> Command:
    table = {"checkpoint": verb.FLAGS, "restore": restore.FLAGS}[name]
    return Command(name, flags.read(table, words, interspersed=True), "/nowhere", rootless)


def test_flags_become_options() -> None:
    words = ["--tcp-established", "--ext-unix-sk", "--file-locks", "--auto-dedup",
             "--leave-running", "--tcp-skip-in-flight", "--empty-ns", "network"]  # fmt: skip
    found = verb.switches(command("checkpoint", *words).values)
    assert sorted(found) == sorted([
        (criu.MANAGE_CGROUPS, 1), (criu.CGROUPS_MODE, 3), (criu.TCP_ESTABLISHED, 1),
        (criu.UNIX_SOCKETS, 1), (criu.FILE_LOCKS, 1), (criu.AUTO_DEDUP, 1),
        (criu.LEAVE_RUNNING, 1), (criu.TCP_SKIP_IN_FLIGHT, 1),
        (criu.EMPTY_NAMESPACES, 0x40000000),
    ])  # fmt: skip
    found = verb.switches(command("restore", "--tcp-established=false").values)
    assert found == [(criu.MANAGE_CGROUPS, 1), (criu.CGROUPS_MODE, 3)]


@pytest.mark.parametrize(
    ("mode", "number"), [("soft", 3), ("full", 4), ("strict", 5), ("ignore", 0)]
)
def test_cgroup_modes(mode: str, number: int) -> None:
    found = verb.switches(command("restore", "--manage-cgroups-mode", mode).values)
    assert (criu.CGROUPS_MODE, number) in found


@pytest.mark.parametrize("words", [["--manage-cgroups-mode", "x"], ["--empty-ns", "pid"]])
def test_values_that_there_are_not(words: list[str]) -> None:
    with pytest.raises(UsageError, match=words[0]):
        verb.switches(command("checkpoint", *words).values)


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    assert verb.folders(command("restore").values) == (f"{here}/checkpoint",) * 2
    words = ["--image-path", "a", "--work-path", "/b"]
    assert verb.folders(command("restore", *words).values) == (f"{here}/a", "/b")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checkpoint", ["--lazy-pages"]),
        ("checkpoint", ["--status-fd", "3"]),
        ("checkpoint", ["--page-server", "host:1"]),
        ("checkpoint", ["--shell-job"]),
        ("restore", ["--shell-job"]),
        ("restore", ["--lazy-pages"]),
        ("restore", ["--lsm-profile", "apparmor:x"]),
        ("restore", ["--lsm-mount-context", "x"]),
        ("restore", ["--no-pivot"]),
    ],
)
def test_flags_that_are_refused(name: str, words: list[str]) -> None:
    with pytest.raises(NotSupported, match=f"{name}: {words[0]}: .+"):
        verb.refuse(command(name, *words, "box"))


@pytest.mark.parametrize("name", ["checkpoint", "restore"])
def test_ordinary_users_are_refused(name: str) -> None:
    with pytest.raises(NotSupported, match="root"):
        verb.refuse(command(name, "box", rootless=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an ordinary user is refused before that")
def test_of_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path), "--rootless", "false"]
    assert main([*root, "checkpoint", "--image-path", f"{tmp_path}/i", "box"]) == 1
    assert "container box does not exist" in capfd.readouterr().err
    assert main([*root, "restore", "--bundle", str(tmp_path), "box"]) == 1
    assert "config.json" in capfd.readouterr().err
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"linux": {"namespaces": [{"type": "user"}]}}, "user namespace"),
        ({"linux": {"namespaces": [{"type": "ipc", "path": "/x"}]}}, "ipc namespace /x"),
        ({"linux": {"namespaces": [{"type": "mount", "path": "/x"}]}}, "mount namespace /x"),
        ({"linux": {"seccomp": {"listenerPath": "/x"}}}, "listenerPath"),
        ({"linux": {"netDevices": {"eth0": {}}}}, "netDevices"),
        ({"linux": {"memoryPolicy": {"mode": "MPOL_BIND"}}}, "memoryPolicy"),
        ({"process": {"ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}}, "ioPriority"),
        ({"mounts": [{"destination": "/x", "options": ["bind", "idmap"]}]}, "mount /x"),
    ],
)
def test_containers_that_would_not_be_the_same_again(spec: oci.Spec, word: str) -> None:
    with pytest.raises(NotSupported, match=word):
        checkpoint.check(spec)


def test_containers_that_are_the_same_again() -> None:
    checkpoint.check({
        "linux": {
            "namespaces": [
                {"type": "network", "path": "/n"}, {"type": "pid", "path": "/p"},
                {"type": "mount"}, {"type": "time"},
            ]
        },
        "mounts": [{"destination": "/x", "type": "bind", "options": ["rbind", "ro"]}],
    })  # fmt: skip


# ------------------------------------------------------------------------------------------ record


def test_a_record_is_read_as_written() -> None:
    record = checkpoint.Record([("/a", "/a", ""), ("/a/b", "/a", "b")], ["pipe:[1]", "", ""],
                               ["network"], no_new_privs=True)  # fmt: skip
    again = checkpoint.Record.read(record.document(), "x")
    assert again.document() == record.document()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"mounts": 1}, {"mounts": [["/a", "/a"]]}, {"streams": ["", ""]},
        {"streams": [1, 2, 3]}, {"namespaces": None}, {"noNewPrivileges": "yes"},
    ],
)  # fmt: skip
def test_a_record_that_is_damaged(change: dict[str, object]) -> None:
    good = checkpoint.Record([], ["", "", ""], []).document()
    with pytest.raises(InvalidInput, match="x: "):
        checkpoint.Record.read(good | change, "x")
    with pytest.raises(InvalidInput):
        checkpoint.Record.read([], "x")


def test_sources_are_those_of_the_configuration() -> None:
    spec: oci.Spec = {
        "mounts": [
            {"destination": "/data", "type": "bind", "source": "/new"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ]
    }
    entries = [("/data", "/data", ""), ("/data/a b", "/data", "a b")]
    record = checkpoint.Record(entries, ["", "", ""], [])
    found = checkpoint.sources(record, spec)
    assert found == [("/data", "/new"), ("/data/a b", "/new/a b")]
    record = checkpoint.Record([("/tmp", "/tmp", "")], ["", "", ""], [])
    with pytest.raises(InvalidInput, match="/tmp: missing"):
        checkpoint.sources(record, spec)


def test_mounts_over_mounts_are_refused() -> None:
    checkpoint.check_points([("/a", "/a", ""), ("/a/b", "/a", "b")])
    with pytest.raises(NotSupported, match="mount /a"):
        checkpoint.check_points([("/a", "/a", ""), ("/a", "/a", "")])


def test_a_line_of_the_mount_table() -> None:
    line = rb"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    place = checkpoint.Place(line)
    assert (place.id, place.parent, place.point) == (36, 35, "/mnt 2")


def test_mount_points_stay_in_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to("/../outside")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        checkpoint.make_point(fd, "/a/b", str(outside))
        checkpoint.make_point(fd, "/a/file", __file__)
        checkpoint.make_point(fd, "/a/file", __file__)
        assert (root / "a/b").is_dir()
        assert (root / "a/file").is_file()
        with pytest.raises(PycontainError, match="link"):
            checkpoint.make_point(fd, "/link/c", str(outside))
        with pytest.raises(InvalidInput, match="no such file"):
            checkpoint.make_point(fd, "/d", f"{root}/missing")
    finally:
        os.close(fd)
    assert os.listdir(outside) == []


def test_streams_of_this_process() -> None:
    """A pipe leads elsewhere; a file of our own mounts is criu's to open."""
    known = {place.id for place in checkpoint.places(os.getpid())}
    assert known
    names = checkpoint.streams(os.getpid())
    assert len(names) == 3
    assert all(not name or name.startswith(("pipe:[", "file[")) for name in names)


def test_processes_that_differ() -> None:
    assert checkpoint.no_new_privs([os.getpid()]) is checkpoint.no_new_privs([os.getppid()])


def test_processes_of_another_family() -> None:
    script = "sleep 100 & echo $!; exec sleep 100"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout
        grandchild = int(child.stdout.readline())
        checkpoint.check_family([grandchild, child.pid, os.getpid(), grandchild], os.getpid())
        os.kill(grandchild, 9)
        child.kill()
    checkpoint.check_family([os.getpid()], os.getpid())
    checkpoint.check_family([os.getpid()], os.getppid())
    with pytest.raises(NotSupported, match=f"process {os.getppid()}: it does not descend"):
        checkpoint.check_family([os.getpid(), os.getppid()], os.getpid())
