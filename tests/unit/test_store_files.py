"""Atomic writes, claims, locks and the removal of trees."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pycontain.errors import Conflict, InvalidState, NotFound, StoreError
from pycontain.store import files


class Note(msgspec.Struct, frozen=True):
    text: str
    number: int = 0


def failing(code: int) -> Callable[..., int]:
    def call(*_args: object, **_kwargs: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


_NO_ROOM = """
import resource, sys
from pycontain.errors import StoreError
from pycontain.store import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    files.overwrite(sys.argv[1], b"new" * (1 << 16))
except StoreError as err:
    print(err)
"""


def test_a_file_is_overwritten_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    done = subprocess.run(
        [sys.executable, "-c", _NO_ROOM, path], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"write: {path}: file too large\n", done.stderr
    assert path.read_bytes() == b"before"
    for data in (b"longer than before", b"less", b""):
        files.overwrite(str(path), data)
        assert path.read_bytes() == data


def test_write_atomic_replaces_the_file_with_exactly_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomic(str(path), b"one")
    old = os.umask(0o077)
    try:
        files.write_atomic(str(path), b"two", 0o644)
    finally:
        os.umask(old)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_failed_write_keeps_the_old_file_and_nothing_else(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    with pytest.raises(StoreError, match=r"write: .*/file: no space left on device"):
        files.write_atomic(str(path), b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupted_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(str(tmp_path / "file"), b"new")
    assert os.listdir(tmp_path) == []


def test_durable_writes_sync_file_and_folder_and_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    files.write_atomic(str(tmp_path / "a"), b"", durable=False)
    assert synced == []
    files.write_atomic(str(tmp_path / "a"), b"")
    assert len(synced) == 2
    assert synced[1] == str(tmp_path)


def test_read_and_load(tmp_path: Path) -> None:
    path = str(tmp_path / "note.json")
    files.write_atomic(path, files.dump(Note("ä", 3)))
    assert files.read(path) == '{"text":"ä","number":3}\n'.encode()
    assert files.load(path, Note) == Note("ä", 3)


def test_load_ignores_fields_that_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"text":"a","later":[1]}')
    assert files.load(str(tmp_path / "f"), Note) == Note("a")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b'{"text":"a"', "truncated"),
        (b'{"text":1}', "expected `str`, got `int`"),
        (b"{}", "missing required field `text`"),
        (b'{"text":"\xff"}', "utf-8"),
    ],
)
def test_load_says_what_is_wrong_and_where(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        files.load(str(path), Note)
    assert str(caught.value).startswith(f"read: {path}: damaged: ")
    assert reason in str(caught.value)


def test_read_of_a_missing_file_and_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        files.read(str(tmp_path / "none"))
    with pytest.raises(StoreError, match="is a directory"):
        files.read(str(tmp_path))


def test_claim_is_taken_once(tmp_path: Path) -> None:
    path = str(tmp_path / "name")
    files.claim(path, "first")
    with pytest.raises(Conflict):
        files.claim(path, "second")
    assert files.read_word(path) == "first"
    assert os.listdir(tmp_path) == ["name"]


def test_of_many_claims_one_wins(tmp_path: Path) -> None:
    path = str(tmp_path / "name")
    won: list[int] = []

    def try_it(number: int) -> None:
        try:
            files.claim(path, str(number))
        except Conflict:
            return
        won.append(number)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number) for number in won] == [files.read_word(path)]


def test_a_word_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "word")
    with pytest.raises(NotFound):
        files.read_word(path)
    files.write_word(path, "one")
    files.write_word(path, "two")
    assert files.read_word(path) == "two"
    assert os.listdir(tmp_path) == ["word"]


def test_a_word_has_no_content_that_comes_after_its_name(tmp_path: Path) -> None:
    """A file could be there after a power cut without what was written to it."""
    for name in ("claimed", "written"):
        path = str(tmp_path / name)
        files.claim(path, name, durable=False) if name == "claimed" else files.write_word(
            path, name
        )
        assert os.path.islink(path)
        assert os.lstat(path).st_size == len(name)


def test_a_word_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "word").mkdir()
    with pytest.raises(StoreError, match="word"):
        files.write_word(str(tmp_path / "word"), "x")
    with pytest.raises(StoreError, match="none"):
        files.write_word(str(tmp_path / "none" / "word"), "x")
    assert os.listdir(tmp_path) == ["word"]


def test_a_file_is_read_as_a_word_too(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("damaged")
    assert files.read_word(str(tmp_path / "word")) == "damaged"


def test_a_tree_is_synced_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    os.mkfifo(tmp_path / "a/fifo")
    (tmp_path / "a/link").symlink_to("/nonexistent")
    synced = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    files.sync_tree(str(tmp_path))
    expected = (tmp_path, tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/file")
    assert sorted(synced) == sorted(map(str, expected))


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    folder = os.open(tmp_path, os.O_RDONLY)
    said: list[int | None] = []

    def sync() -> None:
        try:
            files._sync_file("pipe", folder, begin=True)
        except OSError as err:
            said.append(err.errno)

    one = threading.Thread(target=sync, daemon=True)
    one.start()
    one.join(30)
    os.close(folder)
    assert said == [errno.ESPIPE]


def test_remove_tells_whether_there_was_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert files.remove(str(tmp_path / "f"))
    assert not files.remove(str(tmp_path / "f"))


def test_make_folder_sets_the_mode_against_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "d"
    old = os.umask(0o077)
    try:
        assert files.make_folder(str(path), 0o755)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o755
    assert not files.make_folder(str(path), 0o700)
    (tmp_path / "f").touch()
    with pytest.raises(StoreError, match="not a folder"):
        files.make_folder(str(tmp_path / "f"))


def test_sweep_removes_what_dead_writers_left_only(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    dead, own = f".tmp-{child.pid}-00", f".tmp-{os.getpid()}-00"
    for name in (dead, own, "kept"):
        (tmp_path / name).touch()
    files.sweep(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [own, "kept"]
    files.sweep(str(tmp_path / "none"))


def test_an_exclusive_lock_keeps_others_out(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    other = files.Lock(path)
    with files.Lock(path) as lock:
        assert lock.held
        assert not os.get_inheritable(lock.fileno())
        assert not other.acquire(wait=False)
        assert not other.held
        with pytest.raises(InvalidState):
            lock.acquire()
    assert other.acquire(wait=False)
    other.release()
    other.release()


def test_shared_locks_share(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with files.Lock(path, shared=True), files.Lock(path, shared=True):
        assert not files.Lock(path).acquire(wait=False)


def test_a_waiter_is_not_fooled_by_a_removed_lock_file(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first, waiter = files.Lock(path), files.Lock(path)
    first.acquire()
    thread = threading.Thread(target=waiter.acquire)
    thread.start()
    while len([fd for fd in os.listdir("/proc/self/fd") if _is(fd, path)]) < 2:
        pass
    os.unlink(path)
    first.release()
    thread.join(60)
    assert waiter.held
    assert not files.Lock(path).acquire(wait=False)
    waiter.release()


def _is(fd: str, path: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == path
    except OSError:
        return False


def test_a_lock_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"lock: .*/none/lock: no such file"):
        files.Lock(str(tmp_path / "none" / "lock")).acquire()


def test_remove_tree_takes_every_kind_and_odd_modes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "c" / "file").touch(mode=0)
    (top / "link").symlink_to(outside)
    (top / "a" / "dangling").symlink_to("/nonexistent")
    os.mkfifo(top / "a" / "fifo")
    (top / ".gone-0" / "x" / "y").mkdir(parents=True)
    (top / "a" / ".gone-1").touch()
    os.chmod(top / "a" / "b", 0)
    os.chmod(top / "a", 0o500)
    assert files.remove_tree(str(top))
    assert not files.remove_tree(str(top))
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert os.listdir(outside) == ["kept"]


def test_remove_tree_of_a_symbolic_link_removes_the_link(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    assert files.remove_tree(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["target"]


def test_remove_tree_is_not_bound_by_depth_or_path_length(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    deep = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os\nfor n in range(3000):\n os.mkdir('deep'); os.chdir('deep')",
        ],
        cwd=top,
        check=False,
    )
    assert deep.returncode == 0
    before = set(os.listdir("/proc/self/fd"))
    assert files.remove_tree(str(top))
    assert set(os.listdir("/proc/self/fd")) <= before
    assert os.listdir(tmp_path) == []


def test_remove_tree_can_be_repeated_after_it_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "top"
    for number in range(5):
        (top / f"a{number}" / "b" / "c").mkdir(parents=True)
        (top / f"a{number}" / "b" / "file").touch()
    real = os.unlink
    calls = 0

    def third_fails(path: str, *, dir_fd: int | None = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", third_fails)
    with pytest.raises(StoreError, match=r"remove tree: .*: file: input/output error"):
        files.remove_tree(str(top))
    assert files.remove_tree(str(top))
    assert os.listdir(tmp_path) == []
