"""The state folder of the OCI face: claimed once, read back, never believed about a process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import (
    Conflict,
    InvalidInput,
    InvalidState,
    NotExecutable,
    NotFound,
    StoreError,
)
from pycontain.kernel import process
from pycontain.oci import control, ending, flags, start, state
from pycontain.oci.main import Command
from pycontain.oci.state import Container, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREATED = "2026-01-02T03:04:05.000000006Z"


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before


def new() -> State:
    return State("/bundle", "/bundle/rootfs", CREATED)


def claimed(root: str, identity: str = "one") -> Container:
    return state.claim(root, identity, new())


def complete(root: str, **fields: Any) -> None:
    """A container whose creation came to its end, with this process for its first one."""
    with claimed(root) as container:
        ours = process.start_time(os.getpid())
        assert ours
        container.state.pid, container.state.start = os.getpid(), ours
        container.state.complete = True
        for name, value in fields.items():
            setattr(container.state, name, value)
        container.save()


def status(root: str) -> str:
    with state.find(root, "one") as container:
        return container.status()


# ---------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "identity", ["a", "0", "_", "-", "+", "...", "a.b", ".a", "A-z_0+9.", "x" * 255]
)
def test_ids(root: str, identity: str) -> None:
    state.check_id(identity)
    with state.claim(root, identity, new()):
        pass
    with state.find(root, identity) as found:
        assert found.id == identity
        assert found.path == f"{root}/{identity}"


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        *((bad, "letters, digits") for bad in
          ("", ".", "..", "a/b", "/", "../x", "a b", "a\n", "a\0", "ä", "@seccomp", "a:b", "\ud800",
           "*", "$a", "\u0661")),
        ("x" * 256, "longer than 255"),
    ],
)  # fmt: skip
def test_what_is_no_id(root: str, identity: str, reason: str) -> None:
    for act in (
        lambda: state.check_id(identity),
        lambda: state.claim(root, identity, new()),
        lambda: state.find(root, identity),
    ):
        with pytest.raises(InvalidInput, match=reason):
            act()
    assert not os.path.exists(root)


@given(st.text(max_size=4))
def test_no_id_is_a_path(identity: str) -> None:
    try:
        state.check_id(identity)
    except InvalidInput as err:
        assert "\n" not in err.message
        return
    assert os.path.normpath(f"/a/{identity}") == f"/a/{identity}"
    assert os.path.basename(identity) == identity


# -------------------------------------------------------------------------------------------- claim


def test_a_claim_makes_the_folder_for_its_owner_alone(root: str) -> None:
    with claimed(root) as container:
        assert os.path.samestat(os.fstat(container.folder), os.stat(f"{root}/one"))
    for path in (root, f"{root}/one"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert os.listdir(f"{root}/one") == ["state.json"]
    assert stat.S_IMODE(os.stat(f"{root}/one/state.json").st_mode) == 0o600


def test_a_root_that_is_there_is_left_as_it_is(root: str) -> None:
    os.mkdir(root, 0o755)
    os.chmod(root, 0o755)
    with claimed(root):
        assert stat.S_IMODE(os.stat(root).st_mode) == 0o755


def test_an_id_is_claimed_once(root: str) -> None:
    with claimed(root), pytest.raises(Conflict) as info:
        claimed(root)
    assert info.value.message == "container one already exists"
    with pytest.raises(Conflict):
        claimed(root)
    with claimed(root, "two"):
        pass


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_whatever_has_the_name_has_it(root: str, kind: str) -> None:
    os.mkdir(root)
    if kind == "file":
        open(f"{root}/one", "w").close()
    elif kind == "link":
        os.symlink("/nowhere", f"{root}/one")
    else:
        os.mkdir(f"{root}/one")
    with pytest.raises(Conflict):
        claimed(root)


def test_of_many_who_claim_one_gets_it(root: str) -> None:
    got: list[str] = []

    def claim() -> None:
        try:
            with claimed(root):
                got.append("claimed")
        except Conflict:
            got.append("conflict")

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["claimed"] + ["conflict"] * 7


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    """It is not a container of that name."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"/file: file exists$"):
        claimed(str(tmp_path / "file"))
    os.symlink("/nowhere/at/all", tmp_path / "link")
    with pytest.raises(StoreError, match=r"/link: file exists$"):
        claimed(str(tmp_path / "link"))


def test_a_root_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"/file/root: not a directory$"):
        claimed(str(tmp_path / "file" / "root"))


def test_a_claim_that_cannot_be_written_is_none(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def full(container: Container) -> None:
        opened.append(container.folder)
        raise StoreError(f"{container.path}/state.json: no space left on device")

    monkeypatch.setattr(Container, "save", full)
    try:
        with pytest.raises(StoreError, match="no space"):
            claimed(root)
        assert os.listdir(root) == []
        assert not os.path.exists(f"/proc/self/fd/{opened[0]}")
    finally:
        if os.path.exists(f"/proc/self/fd/{opened[0]}"):
            os.close(opened[0])


# ------------------------------------------------------------------------------------------ reading


def test_what_was_saved_is_found(root: str) -> None:
    with claimed(root) as container:
        made = container.state
        made.annotations = {"a": "é\n"}
        made.cgroup = "/x"
        made.unit = "a.scope"
        made.rootless = True
        made.pid, made.start = 5, 6
        made.complete = True
        made.late = [(3, "exec", "execute sh")]
        container.save()
    with state.find(root, "one") as found:
        values = {name: getattr(found.state, name) for name in State.FIELDS}
    assert values == {
        "bundle": "/bundle", "rootfs": "/bundle/rootfs", "created": CREATED,
        "owner": os.geteuid(), "annotations": {"a": "é\n"}, "cgroup": "/x", "unit": "a.scope",
        "rootless": True, "pid": 5, "start": 6, "complete": True,
        "late": [[3, "exec", "execute sh"]],
    }  # fmt: skip


def test_every_field_is_kept() -> None:
    assert {*State.FIELDS} == {*vars(new())}


def test_a_path_of_any_bytes_is_kept(root: str) -> None:
    with claimed(root) as container:
        container.state.bundle = os.fsdecode(b"/\xff")
        container.save()
    with state.find(root, "one") as found:
        assert os.fsencode(found.state.bundle) == b"/\xff"


def test_there_is_no_such_container(root: str) -> None:
    with pytest.raises(NotFound) as info:
        state.find(root, "one")
    assert info.value.message == "container one does not exist"
    os.mkdir(root)
    open(f"{root}/one", "w").close()
    with pytest.raises(NotFound):
        state.find(root, "one")


def test_a_folder_elsewhere_is_no_container(root: str, tmp_path: Path) -> None:
    """Whoever may write to the root's folder must not make us believe their state."""
    with claimed(str(tmp_path / "other")):
        pass
    os.mkdir(root)
    os.symlink(tmp_path / "other" / "one", f"{root}/one")
    with pytest.raises((NotFound, StoreError)):
        state.find(root, "one")


def test_a_state_elsewhere_is_not_read(root: str, tmp_path: Path) -> None:
    with claimed(root):
        os.rename(f"{root}/one/state.json", tmp_path / "state.json")
        os.symlink(tmp_path / "state.json", f"{root}/one/state.json")
    with pytest.raises(StoreError, match=r"/one/state\.json: too many levels of symbolic links$"):
        state.find(root, "one")


GOOD = {
    "bundle": "/b", "rootfs": "/r", "created": CREATED, "owner": 0, "annotations": {}, "cgroup": "",
    "unit": "", "rootless": False, "pid": 0, "start": 0, "complete": True, "late": [],
}  # fmt: skip


def write_state(root: str, data: bytes) -> None:
    with claimed(root), open(f"{root}/one/state.json", "wb") as file:
        file.write(data)


def test_a_good_state(root: str) -> None:
    write_state(root, json.dumps({**GOOD, "newer": 1}).encode())
    with state.find(root, "one") as found:
        assert found.state.bundle == "/b"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (json.dumps(GOOD)[:-5].encode(), "not JSON"),
        (json.dumps(GOOD).encode() + b"\0\0", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "damaged: no object"),
        (b"null", "damaged: no object"),
        (b'"state"', "damaged: no object"),
        (b"{}", "damaged: bundle"),
    ],
    ids=["empty", "cut", "binary", "short", "nul", "deep", "list", "null", "text", "nothing"],
)
def test_a_damaged_state(root: str, data: bytes, why: str) -> None:
    write_state(root, data)
    with pytest.raises(StoreError) as info:
        state.find(root, "one")
    assert info.value.message.startswith(f"{root}/one/state.json: {why}")


@pytest.mark.parametrize("name", State.FIELDS)
def test_a_state_that_lacks_a_field(root: str, name: str) -> None:
    write_state(root, json.dumps({key: GOOD[key] for key in GOOD if key != name}).encode())
    with pytest.raises(StoreError, match=rf"/one/state\.json: damaged: {name}$"):
        state.find(root, "one")


@pytest.mark.parametrize("name", State.FIELDS)
@pytest.mark.parametrize("value", [None, 1.5, [[]], {"a": {}}, "text", 7, True])
def test_a_state_with_another_kind_of_value(root: str, name: str, value: Any) -> None:
    if type(value) is type(GOOD[name]):
        return
    write_state(root, json.dumps({**GOOD, name: value}).encode())
    with pytest.raises(StoreError, match=rf"damaged: {name}$"):
        state.find(root, "one")


# ------------------------------------------------------------------------------------------ writing


def test_a_file_is_replaced_whole(root: str) -> None:
    with claimed(root) as container:
        before = os.open(f"{root}/one/state.json", os.O_RDONLY)
        try:
            old = os.pread(before, 1 << 16, 0)
            container.state.bundle = "/other"
            container.save()
            assert os.pread(before, 1 << 16, 0) == old
        finally:
            os.close(before)
    assert os.listdir(f"{root}/one") == ["state.json"]


def test_what_a_killed_writer_left_is_no_hindrance(root: str) -> None:
    with claimed(root) as container:
        with open(f"{root}/one/.state.json.new", "w") as file:
            file.write("half" * 1000)
        container.save()
    with state.find(root, "one") as found:
        assert found.state.bundle == "/bundle"
    assert os.listdir(f"{root}/one") == ["state.json"]


def test_a_file_that_cannot_be_written(root: str) -> None:
    with claimed(root) as container:
        os.mkdir(f"{root}/one/.x.new")
        with pytest.raises(StoreError, match=r"/one/x: is a directory$"):
            container.write("x", b"data")
        os.mkdir(f"{root}/one/y")
        with pytest.raises(StoreError, match=r"/one/y: is a directory$"):
            container.write("y", b"data")


def test_the_configuration_is_kept_as_it_was(root: str) -> None:
    spec: Any = {"ociVersion": "1.0.2", "root": {"path": "é"}, "annotations": {"a": "\n"}}
    with claimed(root) as container:
        container.keep_config(spec)
        assert container.config() == spec
    with state.find(root, "one") as found:
        assert found.config() == spec
    assert stat.S_IMODE(os.stat(f"{root}/one/config.json").st_mode) == 0o600


def test_a_configuration_that_is_not_there(root: str) -> None:
    with claimed(root) as container, pytest.raises(InvalidInput, match="no such file"):
        container.config()


# -------------------------------------------------------------------------------------------- locks


def test_a_claim_holds_the_lock(root: str) -> None:
    with claimed(root), state.find(root, "one") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other.folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with state.find(root, "one") as other:
        fcntl.flock(other.folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_one_who_waited_for_the_lock_knows_what_was_written_meanwhile(root: str) -> None:
    with claimed(root) as container, state.find(root, "one") as other:
        waiting = threading.Thread(target=other.lock)
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        container.state.bundle = "/new"
        container.save()
        fcntl.flock(container.folder, fcntl.LOCK_UN)
        waiting.join(60)
        assert not waiting.is_alive()
        assert other.state.bundle == "/new"


def test_one_who_waited_for_the_lock_of_what_was_removed(root: str) -> None:
    with claimed(root) as container, state.find(root, "one") as other:
        state.remove(container)
        fcntl.flock(container.folder, fcntl.LOCK_UN)
        with pytest.raises(NotFound, match=r"^container one does not exist$"):
            other.lock()


def test_one_who_waited_does_not_meet_the_next_of_the_name(root: str) -> None:
    with claimed(root) as container, state.find(root, "one") as other:
        state.remove(container)
        fcntl.flock(container.folder, fcntl.LOCK_UN)
        with claimed(root), pytest.raises(NotFound):
            other.lock()


def test_a_lock_on_a_state_that_was_damaged_meanwhile(root: str) -> None:
    with claimed(root):
        pass
    with state.find(root, "one") as found:
        with open(f"{root}/one/state.json", "w") as file:
            file.write("{")
        with pytest.raises(StoreError, match="not JSON"):
            found.lock()
        found.lock(keep=True)
        assert found.state.bundle == "/bundle"
        with state.salvage(root, "one") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other.folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_with_what_is_known_reads_what_can_be_read(root: str) -> None:
    with claimed(root) as container:
        container.state.bundle = "/new"
        container.save()
        container.state.bundle = "/forgotten"
        container.lock(keep=True)
        assert container.state.bundle == "/new"


# ------------------------------------------------------------------------------------------- status


def test_while_it_is_made(root: str) -> None:
    with claimed(root) as container:
        assert status(root) == "creating"
        assert container.status() == "creating"


def test_its_making_was_killed(root: str) -> None:
    with claimed(root):
        pass
    assert status(root) == "stopped"


def test_its_making_was_killed_before_the_first_word(root: str) -> None:
    """Between mkdir and the state."""
    os.makedirs(f"{root}/one")
    assert status(root) == "stopped"
    with state.find(root, "one") as found:
        assert found.state.pid == 0
        assert not found.alive()
        assert found.open_cgroup() is None
        state.remove(found)
    assert os.listdir(root) == []


def test_its_maker_was_killed_for_real(root: str) -> None:
    """The lock goes with the process that holds it."""
    text = (
        "import os, sys\n"
        "from pycontain.oci import state\n"
        "state.claim(sys.argv[1], 'one', state.State('/b', '/r', ''))\n"
        "print('claimed', flush=True)\n"
        "sys.stdin.read()\n"
    )
    package = os.path.dirname(os.path.dirname(os.path.dirname(state.__file__)))
    maker = subprocess.Popen(
        [sys.executable, "-c", text, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": package},
    )  # fmt: skip
    with maker:
        assert maker.stdout
        assert maker.stdout.readline() == b"claimed\n"
        assert status(root) == "creating"
        maker.kill()
    assert status(root) == "stopped"


@contextlib.contextmanager
def waiting(root: str) -> Iterator[None]:
    """A process that waits for start has the fifo open."""
    os.mkfifo(f"{root}/one/{state.FIFO}")
    fd = os.open(f"{root}/one/{state.FIFO}", os.O_RDWR)
    try:
        yield
    finally:
        os.close(fd)


def test_it_waits_for_start(root: str) -> None:
    complete(root)
    with waiting(root):
        assert status(root) == "created"
    assert status(root) == "running"  # a killed start has left the name
    os.unlink(f"{root}/one/{state.FIFO}")
    assert status(root) == "running"


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_only_a_fifo_is_waited_at(root: str, kind: str, tmp_path: Path) -> None:
    complete(root)
    place = f"{root}/one/{state.FIFO}"
    if kind == "file":
        open(place, "w").close()
    elif kind == "folder":
        os.mkdir(place)
    else:
        os.mkfifo(tmp_path / "fifo")
        os.symlink(tmp_path / "fifo", place)
    assert status(root) == "running"


@pytest.mark.parametrize("off", [-1, 1])
def test_a_recycled_pid_is_another_process(root: str, off: int) -> None:
    ours = process.start_time(os.getpid())
    assert ours
    complete(root, start=ours + off)
    os.mkfifo(f"{root}/one/{state.FIFO}")
    assert status(root) == "stopped"
    with state.find(root, "one") as found:
        assert not found.alive()
        with pytest.raises(InvalidState, match=r"^container one is not running$"):
            found.pidfd()


@pytest.mark.parametrize(("pid", "start"), [(0, 0), (-1, 0), (1 << 30, 5)])
def test_no_process(root: str, pid: int, start: int) -> None:
    complete(root, pid=pid, start=start)
    assert status(root) == "stopped"
    with state.find(root, "one") as found, pytest.raises(InvalidState):
        found.pidfd()


def test_a_process_that_ended_and_was_not_waited_for(root: str) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        start = process.start_time(child.pid)
        complete(root, pid=child.pid, start=start)
        assert status(root) == "running"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert status(root) == "stopped"
        with state.find(root, "one") as found, pytest.raises(InvalidState):
            found.pidfd()
    finally:
        child.kill()
        child.wait()


def test_the_pidfd_is_the_processes(root: str) -> None:
    complete(root)
    with state.find(root, "one") as found:
        pidfd = found.pidfd()
        try:
            with open(f"/proc/self/fdinfo/{pidfd}") as file:
                assert f"Pid:\t{os.getpid()}\n" in file.read()
        finally:
            os.close(pidfd)


@pytest.fixture
def freezer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that stands for the cgroup ``/frozen/one``, and no other."""
    folder = tmp_path / "cgroup"
    folder.mkdir()

    def open_folder(path: str) -> int:
        if path != "/frozen/one":
            raise NotFound(f"cgroup {path}")
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    monkeypatch.setattr("pycontain.oci.state.open_cgroup", open_folder)
    return folder / "cgroup.freeze"


@pytest.mark.parametrize("waits", [False, True])
def test_paused(root: str, freezer: Path, waits: bool) -> None:
    complete(root, cgroup="/frozen/one")
    otherwise = "created" if waits else "running"
    with contextlib.ExitStack() as stack:
        if waits:
            stack.enter_context(waiting(root))
        freezer.write_text("1\n")
        assert status(root) == "paused"
        freezer.write_text("0\n")
        assert status(root) == otherwise
        freezer.unlink()
        assert status(root) == otherwise


def test_what_has_ended_is_not_paused(root: str, freezer: Path) -> None:
    complete(root, cgroup="/frozen/one", pid=0)
    freezer.write_text("1\n")
    assert status(root) == "stopped"


def test_a_cgroup_that_is_gone(root: str, freezer: Path) -> None:
    complete(root, cgroup="/frozen/gone")
    assert status(root) == "running"
    with state.find(root, "one") as found:
        assert found.open_cgroup() is None


def test_no_cgroup_of_its_own(root: str, freezer: Path) -> None:
    complete(root, cgroup="")
    with state.find(root, "one") as found:
        assert found.open_cgroup() is None


# ------------------------------------------------------------------------------------------ salvage


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/a/b", "/a/b"),
        ("a/b", f"{state.CGROUP_PARENT}/a/b"),
        ("", f"{state.CGROUP_PARENT}/one"),
        (None, f"{state.CGROUP_PARENT}/one"),
    ],
)
def test_where_the_cgroup_is(root: str, asked: str | None, path: str) -> None:
    spec: Any = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}}
    if asked is not None:
        spec["linux"] = {"cgroupsPath": asked, "namespaces": [{"type": "mount"}]}
    assert state.cgroup_path(spec, "one") == path
    with claimed(root) as container:
        container.keep_config(spec)
    write_damage(root)
    with state.salvage(root, "one") as found:
        assert (found.id, found.path, found.state.cgroup) == ("one", f"{root}/one", path)
        assert found.status() == "stopped"


def write_damage(root: str) -> None:
    with open(f"{root}/one/state.json", "w") as file:
        file.write("damaged")


@pytest.mark.parametrize(
    "config",
    [
        None, b"", b"{", b"[]", b"{}", b'{"linux": []}', b'{"linux": {"cgroupsPath": 5}}',
        b'{"ociVersion": "1.0.2", "root": {"path": "r"}, "linux": {"cgroupsPath": "/../a"}}',
    ],
)  # fmt: skip
def test_nothing_left_to_go_by(root: str, config: bytes | None) -> None:
    with claimed(root):
        pass
    write_damage(root)
    if config is not None:
        with open(f"{root}/one/config.json", "wb") as file:
            file.write(config)
    with state.salvage(root, "one") as found:
        assert found.state.cgroup == f"{state.CGROUP_PARENT}/one"
        state.remove(found)
    assert os.listdir(root) == []


def test_there_is_nothing_to_salvage(root: str) -> None:
    with pytest.raises(NotFound, match=r"^container one does not exist$"):
        state.salvage(root, "one")
    with pytest.raises(InvalidInput):
        state.salvage(root, "../one")


# ------------------------------------------------------------------------------------------- report


def test_the_report_of_a_running_container(root: str) -> None:
    """runtime.md, "State"."""
    complete(root, annotations={"a": "b"})
    with state.find(root, "one") as found:
        assert found.report() == {
            "ociVersion": state.SPEC_VERSION, "id": "one", "status": "running", "pid": os.getpid(),
            "bundle": "/bundle", "annotations": {"a": "b"},
        }  # fmt: skip


def test_a_stopped_container_has_no_pid(root: str) -> None:
    complete(root, start=1)
    with state.find(root, "one") as found:
        assert found.report() == {
            "ociVersion": state.SPEC_VERSION, "id": "one", "status": "stopped", "bundle": "/bundle",
        }  # fmt: skip


def test_a_report_as_of_another_moment(root: str) -> None:
    with claimed(root) as container:
        assert "pid" not in container.report_as("creating", 0)
        found = container.report_as("creating", 7)
        assert (found["status"], found["pid"]) == ("creating", 7)
        assert "pid" not in container.report_as("stopped", 7)
        assert "annotations" not in found


# ------------------------------------------------------------------------------------------- remove


def test_nothing_is_left(root: str) -> None:
    with claimed(root) as container:
        container.keep_config({"ociVersion": "1.0.2"})
        os.mkfifo(f"{root}/one/{state.FIFO}")
        os.symlink("/nowhere", f"{root}/one/link")
        for name in (state.FAILURE, ".state.json.new", ".hidden", "zzz"):
            open(f"{root}/one/{name}", "w").close()
        state.remove(container)
    assert os.listdir(root) == []
    with pytest.raises(NotFound):
        state.find(root, "one")
    with claimed(root):
        pass


def test_what_a_link_leads_to_stays(root: str, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with claimed(root) as container:
        os.symlink(tmp_path / "kept", f"{root}/one/link")
        state.remove(container)
    assert (tmp_path / "kept").is_dir()


def test_the_state_goes_last(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a removal that was killed could not be told of the cgroup."""
    gone: list[str] = []
    unlink = os.unlink

    def note(name: str, *, dir_fd: int) -> None:
        gone.append(name)
        unlink(name, dir_fd=dir_fd)

    with claimed(root) as container:
        for name in ("zzz", "aaa", state.FAILURE):
            open(f"{root}/one/{name}", "w").close()
        monkeypatch.setattr("os.unlink", note)
        state.remove(container)
        monkeypatch.undo()
    assert gone[-1] == "state.json"
    assert sorted(gone) == ["aaa", state.FAILURE, "state.json", "zzz"]


def test_a_removal_that_fails_can_be_repeated(root: str) -> None:
    with claimed(root) as container:
        os.mkdir(f"{root}/one/folder")
        with pytest.raises(StoreError, match=rf"^{root}/one: "):
            state.remove(container)
    with state.find(root, "one") as found:
        assert found.state.bundle == "/bundle"
        os.rmdir(f"{root}/one/folder")
        state.remove(found)
    assert os.listdir(root) == []


def test_a_removal_that_was_killed_is_completed_by_the_next(root: str) -> None:
    complete(root)
    os.unlink(f"{root}/one/state.json")
    assert status(root) == "stopped"
    with state.find(root, "one") as found:
        state.remove(found)
    assert os.listdir(root) == []


class Ending(Container):
    """A container whose process ends right after it was looked at."""

    def alive(self) -> bool:
        found = super().alive()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.state.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.state.pid, 0)
        return found


def ending_one(root: str) -> Ending:
    with claimed(root) as container:
        child = subprocess.Popen(["sleep", "1000"])
        container.state.pid = child.pid
        container.state.start = process.start_time(child.pid) or 0
        container.state.complete = True
        container.save()
        return Ending(root, container.id, os.dup(container.folder), container.state)


def test_a_process_that_ends_meanwhile_is_no_error_to_who_undoes_a_start(root: str) -> None:
    with ending_one(root) as container:
        container.alive()
        ending.end(container)
    with ending_one(f"{root}/other") as container:
        ending.destroy(container)
        assert not os.path.lexists(container.path)


def test_why_a_program_did_not_start_is_told_where_its_process_does_not_end(
    root: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    complete(root, late=[(7, "exec", "execute /bad")])
    monkeypatch.setattr(ending, "_SOON", 0)
    monkeypatch.setattr(ending, "_PATIENCE", 0)
    with state.find(root, "one") as container:
        with open(f"{container.path}/{state.FAILURE}", "wb") as file:
            file.write(struct.pack("=Ii248s", 7, errno.ENOEXEC, b""))
        with pytest.raises(NotExecutable, match="exec: '/bad': exec format error"):
            start._raise_late_failure(container)
    assert "start: wait: container one" in capfd.readouterr().err


def test_a_process_that_ends_before_it_is_signalled(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Managers look for the words."""
    container = ending_one(root)
    monkeypatch.setattr(state, "find", lambda _root, _name: container)
    command = Command("kill", flags.read(control.KILL_FLAGS, ["one", "KILL"]), root, False)
    with pytest.raises(InvalidState, match="container not running"):
        control.kill(command)
