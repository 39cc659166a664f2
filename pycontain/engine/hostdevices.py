"""Device nodes of the host, for ``--device`` and ``--privileged``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.model import oci

_OUR_FOLDERS = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/.udev")  # noqa: S108 - names to compare
_OUR_NODES = ("/dev/console", "/dev/ptmx")
_STANDARD = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


def nodes(path: str) -> list[oci.Device]:
    """Return the device at `path`, or all devices below the folder `path`.

    Raises:
        NotFound: there is nothing.
        InvalidInput: it is neither a device nor a folder with devices.
    """
    try:
        info = os.stat(path)
    except OSError as err:
        reason = os.strerror(err.errno or 0).lower()
        raise NotFound(f"device {path}: cannot be used: {reason}") from err
    found = list(_walk(path)) if stat.S_ISDIR(info.st_mode) else list(_node(path, info))
    if not found:
        raise InvalidInput(f"device {path}: not a device node")
    return found


def every() -> list[oci.Device]:
    """Return all devices of the host but those that each container has of its own."""
    return [node for node in _walk("/dev") if node["path"] not in _STANDARD]


def _walk(folder: str) -> Iterator[oci.Device]:
    try:
        entries = sorted(os.scandir(folder), key=lambda item: item.name)
    except FileNotFoundError:  # unplugged meanwhile
        return
    for entry in entries:
        if entry.path in _OUR_FOLDERS or entry.path in _OUR_NODES or entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
            continue
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield from _node(entry.path, info)


def _node(path: str, info: os.stat_result) -> Iterator[oci.Device]:
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        yield {
            "path": path,
            "type": "b" if stat.S_ISBLK(info.st_mode) else "c",
            "major": os.major(info.st_rdev),
            "minor": os.minor(info.st_rdev),
            "fileMode": stat.S_IMODE(info.st_mode),
            "uid": info.st_uid,
            "gid": info.st_gid,
        }
