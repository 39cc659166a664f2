"""The folders of a pod: what is written, what is seen meanwhile, and what a kill leaves."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import InvalidInput, NotFound, StoreError
from pycontain.pod import folders
from pycontain.pod.configs import File
from pycontain.pod.plan import Folder, HostPath

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = {"a": b"old a", "b": b"old b", "deep/er/c": b"old c", "gone/d": b"old d"}
NEW = {"a": b"new a", "b": b"new b", "deep/er/c": b"new c", "deep/e": b"new e"}


def config(content: dict[str, bytes], mode: int = 0o644) -> Folder:
    return Folder("config", 0o755, tuple(File(path, mode, one) for path, one in content.items()))


def seen(place: Path) -> dict[str, bytes]:
    """The files as a container sees them: by the names that are no version's."""
    found: dict[str, bytes] = {}
    for name in os.listdir(place):
        if name.startswith(".."):
            continue
        top = place / name
        paths = [top] if top.is_file() else [one for one in top.rglob("*") if one.is_file()]
        found |= {str(one.relative_to(place)): one.read_bytes() for one in paths}
    return found


def versions(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if name.startswith("..") and name != "..data"]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- what is written ----


def test_files_are_seen_by_links_to_one_version(tmp_path: Path) -> None:
    place = tmp_path / "pod" / "config"
    assert folders.write(str(tmp_path / "pod"), config(OLD, 0o640))
    assert seen(place) == OLD
    (version,) = versions(place)
    assert os.readlink(place / "..data") == version
    assert os.readlink(place / "a") == "..data/a"
    assert os.readlink(place / "deep") == "..data/deep"
    assert sorted(os.listdir(place)) == sorted([version, "..data", "a", "b", "deep", "gone"])
    assert mode_of(place) == mode_of(place / "deep" / "er") == 0o755
    assert mode_of(place / "a") == 0o640


def test_what_is_as_it_should_be_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "config"
    folders.write(str(tmp_path), config(OLD))
    before = [(one, os.lstat(one).st_ctime_ns) for one in (place, *sorted(place.rglob("*")))]
    assert not folders.write(str(tmp_path), config(OLD))
    assert [(one, os.lstat(one).st_ctime_ns) for one, _ in before] == before


def test_a_change_replaces_one_link(tmp_path: Path) -> None:
    place = tmp_path / "config"
    folders.write(str(tmp_path), config(OLD))
    kept = os.lstat(place / "a").st_ino
    (old,) = versions(place)
    assert folders.write(str(tmp_path), config(NEW))
    assert seen(place) == NEW
    assert os.lstat(place / "a").st_ino == kept
    assert old not in versions(place)
    assert not os.path.lexists(place / "gone")
    assert len(versions(place)) == 1
    assert folders.write(str(tmp_path), config({}))
    assert seen(place) == {}
    assert sorted(os.listdir(place)) == sorted(["..data", *versions(place)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "a").write_bytes(b"other"),
        lambda place: (place / "a").chmod(0o600),
        lambda place: (place / "deep").chmod(0o700),
        lambda place: os.truncate(place / "b", 0),
        lambda place: (place / "..data" / "more").write_bytes(b""),
        lambda place: (place / "..data" / "folder").mkdir(),
        lambda place: (place / "..data" / "a").unlink(),
        lambda place: (place / "..data").unlink(),
        lambda place: (place / "b").unlink(),
        lambda place: (place / "more").symlink_to("a"),
        lambda place: (place / "..old").mkdir(),
        lambda place: (place / "..new").symlink_to("a"),
        lambda place: ((place / "..data").unlink(), (place / "..data").symlink_to("/etc")),
        lambda place: ((place / "..data").unlink(), (place / "..data").mkdir()),
        lambda place: ((place / "a").unlink(), (place / "a").symlink_to("/etc/passwd")),
        lambda place: ((place / "a").unlink(), (place / "a").write_bytes(b"as before versions")),
        lambda place: ((place / "deep").unlink(), (place / "deep" / "er").mkdir(parents=True)),
    ],
)
def test_what_is_not_so_is_put_right(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    place = tmp_path / "config"
    folders.write(str(tmp_path), config(OLD))
    damage(place)
    assert folders.write(str(tmp_path), config(OLD))
    assert seen(place) == OLD
    assert all(os.path.islink(place / name) for name in ("a", "b", "deep", "gone"))
    assert sorted(os.listdir(place)) == sorted(
        [*versions(place), "..data", "a", "b", "deep", "gone"]
    )
    assert mode_of(place / "deep") == 0o755
    assert mode_of(place / "a") == 0o644
    assert not folders.write(str(tmp_path), config(OLD))


def test_links_and_folders_are_not_followed_out(tmp_path: Path) -> None:
    """Whatever a damaged folder says, nothing outside of it is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    place = tmp_path / "config"
    place.mkdir()
    (place / "..data").symlink_to(outside)
    (place / "..gone").symlink_to(outside)
    folders.write(str(tmp_path), config({"kept": b"mine"}))
    assert (outside / "kept").read_bytes() == b""
    assert os.listdir(outside) == ["kept"]
    assert seen(place) == {"kept": b"mine"}


@pytest.mark.parametrize("path", ["..data", "..a/b", "../up", "a/../../b", "", "a//b"])
def test_names_of_the_layout_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput, match="volume config: file"):
        folders.write(str(tmp_path), config({path: b""}))


def test_the_group_of_the_pod_may_read_files_and_fill_empty_folders(tmp_path: Path) -> None:
    group = os.getgid()
    assert folders.write(str(tmp_path), config(OLD, 0o400), group)
    place = tmp_path / "config"
    assert mode_of(place) == mode_of(place / "deep") == 0o2755
    assert mode_of(place / "a") == mode_of(place / "deep" / "er" / "c") == 0o440
    assert (place / "a").stat().st_gid == group
    assert not folders.write(str(tmp_path), config(OLD, 0o400), group)
    assert folders.write(str(tmp_path), config(OLD, 0o400), None)
    assert mode_of(place / "a") == 0o400
    folders.write(str(tmp_path), Folder("empty", 0o777), group)
    assert mode_of(tmp_path / "empty") == 0o2777


def test_an_empty_folder_is_made_once(tmp_path: Path) -> None:
    empty = Folder("empty", 0o777)
    assert folders.write(str(tmp_path), empty)
    assert mode_of(tmp_path / "empty") == 0o777
    (tmp_path / "empty" / "file").write_bytes(b"a container's")
    (tmp_path / "empty").chmod(0o700)
    assert not folders.write(str(tmp_path), empty)
    assert os.listdir(tmp_path / "empty") == ["file"]
    assert mode_of(tmp_path / "empty") == 0o700


# ---- what is seen meanwhile ----


class Watch:
    """What inotify(7) tells of one folder."""

    _CHANGES = 0xFC2 | 0x4  # everything but opens, reads, and closes of who only read

    def __init__(self, place: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self._fd, os.fsencode(place), self._CHANGES) > 0

    def told(self) -> list[tuple[int, str]]:
        """Mask and name of each event."""
        found = []
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return []
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            found.append((mask, data[16 : 16 + size].rstrip(b"\0").decode()))
            data = data[16 + size :]
        return found

    def close(self) -> None:
        os.close(self._fd)


def test_who_watches_hears_of_a_change_and_of_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "config"
    folders.write(str(tmp_path), config(OLD))
    watch = Watch(place)
    folders.write(str(tmp_path), config(OLD))
    assert watch.told() == []
    folders.write(str(tmp_path), config(NEW))
    told = watch.told()
    moved = 0x80  # IN_MOVED_TO
    assert [name for mask, name in told if mask == moved] == ["..data"]
    assert "a" not in [name for _, name in told]
    watch.close()


def test_readers_see_one_version(tmp_path: Path) -> None:
    place = tmp_path / "config"
    contents = [dict.fromkeys("abc", b"%d" % number * 5000) for number in range(2)]
    folders.write(str(tmp_path), config(contents[0]))
    odd: list[object] = []
    read = [0]
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                version = os.open(place / "..data", os.O_RDONLY)
            except OSError as err:
                odd.append(err)
                return
            try:
                found = {name: read_at(version, name) for name in "abc"}
            except FileNotFoundError:
                continue  # two changes on: that version is gone, as it may be
            finally:
                os.close(version)
            read[0] += 1
            if found not in contents:
                odd.append(found)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        number = 0
        while number < 40 or read[0] < 20:
            number += 1
            folders.write(str(tmp_path), config(contents[number % 2]))
    finally:
        stop.set()
        reader.join()
    assert not odd, odd[:1]


def read_at(folder: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    with open(fd, "rb") as file:
        return file.read()


def test_of_many_writers_each_writes_whole(tmp_path: Path) -> None:
    contents = [{"a": b"%d" % number, f"only{number}": b""} for number in range(4)]
    threads = [
        threading.Thread(target=folders.write, args=(str(tmp_path), config(content)))
        for content in contents
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen(tmp_path / "config") in contents
    assert len(versions(tmp_path / "config")) == 1


# ---- kill -9 ----


def killed_before(call: int, top: str, folder: Folder) -> bool:
    """Write in a process that is killed before that call of the system; whether it was."""
    child = os.fork()
    if child == 0:
        left = [call]

        def hook(event: str, _: object) -> None:
            if event.startswith("os.") or event == "open":
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            folders.write(top, folder)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def sweep(tmp_path: Path, before: Folder | None, after: Folder) -> int:
    """Kill a write before each of its calls, how many there are; the next one makes it good."""
    call = 0
    while True:
        call += 1
        top = tmp_path / str(call)
        if before is not None:
            folders.write(str(top), before)
        killed = killed_before(call, str(top), after)
        look_whole(top / after.name, before, after)
        folders.write(str(top), after)
        if after.files is None:
            assert mode_of(top / after.name) == after.mode
        else:
            assert seen(top / after.name) == {one.path: one.content for one in after.files}
            assert len(versions(top / after.name)) == 1
        assert sorted(os.listdir(top)) == [".lock", after.name]
        assert not folders.write(str(top), after)
        if not killed:
            return call - 1


def look_whole(place: Path, before: Folder | None, after: Folder) -> None:
    """What is seen is the old version or the new one."""
    if not os.path.lexists(place / "..data"):
        assert before is None
        return
    version = place / os.readlink(place / "..data")
    found = {
        str(one.relative_to(version)): one.read_bytes()
        for one in version.rglob("*")
        if one.is_file()
    }
    wanted = [
        {one.path: one.content for one in each.files or ()} for each in (before, after) if each
    ]
    assert found in wanted


def test_a_killed_write_is_made_good(tmp_path: Path) -> None:
    assert sweep(tmp_path, config(OLD), config(NEW)) > 30


def test_a_killed_first_write_is_made_good(tmp_path: Path) -> None:
    assert sweep(tmp_path, None, config(NEW)) > 20


def test_a_killed_making_of_an_empty_folder_is_made_good(tmp_path: Path) -> None:
    assert sweep(tmp_path, None, Folder("empty", 0o777)) > 3


# ---- how much there is ----


def test_how_much_a_folder_takes(tmp_path: Path) -> None:
    assert folders.usage(str(tmp_path / "none"), 1 << 40) == 0
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 30)
    base = folders.usage(str(tmp_path), 1 << 40)
    assert base < 1 << 20
    (tmp_path / "one").write_bytes(bytes(1 << 20))
    os.sync()
    one = folders.usage(str(tmp_path), 1 << 40)
    assert 1 << 20 <= one - base < 2 << 20
    os.link(tmp_path / "one", tmp_path / "same")
    assert folders.usage(str(tmp_path), 1 << 40) == one
    for number in range(4):
        (tmp_path / f"more{number}").write_bytes(bytes(1 << 20))
    os.sync()
    assert folders.usage(str(tmp_path), 1 << 40) >= one + (4 << 20)
    assert folders.usage(str(tmp_path), 1) < one + (4 << 20)


def test_what_exceeds_its_limit_is_named() -> None:
    bounded = [Folder("a", 0o777, limit=10), Folder("b", 0o777, limit=0), Folder("c", 0o777)]
    assert folders.exceeded(bounded, {"a": 10, "b": 1 << 40, "c": 1 << 40}) == ""
    assert folders.exceeded(bounded, {}) == ""
    assert "emptyDir a " in folders.exceeded(bounded, {"a": 11})


# ---- paths of the host ----


def test_paths_of_the_host_are_made_or_refused(tmp_path: Path) -> None:
    def check(path: str, kind: Any) -> None:
        folders.check_host_path(HostPath("data", path, kind))

    folder, file = str(tmp_path / "a" / "b"), str(tmp_path / "file")
    with pytest.raises(NotFound, match=r"volume data: hostPath .*: there is no such"):
        check(folder, "Directory")
    check(folder, "")
    assert not os.path.exists(folder)
    check(folder, "DirectoryOrCreate")
    assert os.path.isdir(folder)
    check(file, "FileOrCreate")
    assert os.stat(file).st_size == 0
    check(folder, "Directory")
    check(file, "File")
    check("/dev/null", "CharDevice")
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(str(tmp_path / "socket"))
        check(str(tmp_path / "socket"), "Socket")
    for path, kind in ((folder, "FileOrCreate"), (file, "DirectoryOrCreate"), (file, "Socket")):
        with pytest.raises(InvalidInput, match=f"it is no {kind.removesuffix('OrCreate')}"):
            check(path, kind)
    with pytest.raises(StoreError, match="not a directory"):
        check(f"{file}/below", "File")
