"""Which device nodes of the host a container may be given."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.engine import hostdevices
from pycontain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path


def test_one_device() -> None:
    info = os.stat("/dev/null")
    assert hostdevices.nodes("/dev/null") == [
        {
            "path": "/dev/null", "type": "c", "major": 1, "minor": 3,
            "fileMode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid,
        }
    ]  # fmt: skip


def test_a_link_is_followed_and_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    (found,) = hostdevices.nodes(str(tmp_path / "link"))
    assert (found["path"], found["minor"]) == (str(tmp_path / "link"), 5)


def test_what_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file or directory") as caught:
        hostdevices.nodes("/dev/nonsense")
    assert "/dev/nonsense" in str(caught.value)
    with pytest.raises(NotFound):
        hostdevices.nodes(str(tmp_path / "a" / "b"))


def test_what_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="not a device"):
        hostdevices.nodes(str(tmp_path / "file"))
    with pytest.raises(InvalidInput, match="not a device"):
        hostdevices.nodes(str(tmp_path))


class Entry:
    """As os.DirEntry, of a made-up /dev."""

    def __init__(self, path: str, mode: int, number: int = 0) -> None:
        self.path = path
        self.name = path.rpartition("/")[2]
        self.info = os.stat_result((mode, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        self._mode = mode
        self._number = number

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._mode)

    def is_dir(self, **_: Any) -> bool:
        return stat.S_ISDIR(self._mode)

    def stat(self, **_: Any) -> Any:
        class Info:
            st_mode = self._mode
            st_rdev = self._number
            st_uid = 1
            st_gid = 2

        return Info


DEV = {
    "/dev": [
        Entry("/dev/null", 0o20666, os.makedev(1, 3)),
        Entry("/dev/sda", 0o60660, os.makedev(8, 0)),
        Entry("/dev/fd0", 0o60660, os.makedev(2, 0)),
        Entry("/dev/ptmx", 0o20666, os.makedev(5, 2)),
        Entry("/dev/console", 0o20600, os.makedev(5, 1)),
        Entry("/dev/shmem", 0o20600, os.makedev(10, 99)),
        Entry("/dev/cdrom", 0o120777),
        Entry("/dev/initctl", 0o10600),
        Entry("/dev/log", 0o140666),
        Entry("/dev/snd", 0o40755),
        Entry("/dev/shm", 0o41777),
        Entry("/dev/pts", 0o40755),
        Entry("/dev/mqueue", 0o41777),
    ],
    "/dev/snd": [Entry("/dev/snd/timer", 0o20660, os.makedev(116, 33))],
    "/dev/shm": [Entry("/dev/shm/x", 0o20660, 1)],
    "/dev/pts": [Entry("/dev/pts/0", 0o20620, os.makedev(136, 0))],
    "/dev/mqueue": [],
}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def scandir(self, path: str) -> list[Entry]:
            return DEV[path]

    monkeypatch.setattr(hostdevices, "os", Os())


@pytest.mark.usefixtures("host")
def test_every_device_of_the_host_but_those_that_a_container_has_of_its_own() -> None:
    found = {node["path"]: (node["type"], node["major"]) for node in hostdevices.every()}
    assert found == {
        "/dev/fd0": ("b", 2),  # a floppy disk; /dev/fd is the folder of descriptors
        "/dev/sda": ("b", 8),
        "/dev/shmem": ("c", 10),
        "/dev/snd/timer": ("c", 116),
    }


def test_a_folder_of_the_real_host() -> None:
    found = hostdevices.every()
    paths = [node["path"] for node in found]
    assert len(set(paths)) == len(paths)
    assert "/dev/null" not in paths
    assert not [path for path in paths if path.startswith(("/dev/pts/", "/dev/shm/"))]
    for node in found:
        try:
            info = os.lstat(node["path"])
        except FileNotFoundError:  # unplugged meanwhile
            continue
        assert (os.major(info.st_rdev), os.minor(info.st_rdev)) == (node["major"], node["minor"])
