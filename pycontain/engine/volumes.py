"""Anonymous volumes: folders of a container, filled with what the image has at their place."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontain.errors import kernel_error
from pycontain.kernel.paths import open_in_root
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model.container import Mount

_CHUNK = 1 << 24


def prepare(folder: str, root: int, mounts: Iterable[Mount]) -> dict[str, str]:
    """Make and fill a folder below `folder` for each mount of type ``volume``.

    Args:
        folder: of the container's volumes.
        root: descriptor of the container's root, to copy from.
        mounts: all of the container's.

    Returns:
        Target → folder.

    Raises:
        KernelError, StoreError: a file cannot be copied.
    """
    targets = [mount.target for mount in mounts if mount.type == "volume"]
    found: dict[str, str] = {}
    for number, target in enumerate(sorted(targets)):
        files.make_folder(folder)
        place = found[target] = f"{folder}/{number}"
        if os.path.exists(place):
            continue
        # Under another name until it is whole: what a killed copy left is begun anew.
        temporary = f"{folder}/.{number}.new"
        files.remove_tree(temporary)
        os.mkdir(temporary, 0o755)
        try:
            _copy_up(root, target, temporary)
            os.rename(temporary, place)
        except OSError as err:
            files.remove_tree(temporary)
            raise kernel_error("fill volume", target, err.errno or 0) from err
    return found


def _copy_up(root: int, target: str, place: str) -> None:
    try:
        source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        copy = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _copy_folder(source, copy)
        finally:
            os.close(copy)
    finally:
        os.close(source)


def _copy_folder(source: int, copy: int) -> None:
    """Copy what is in one open folder into another, owners, modes and times included."""
    for name in os.listdir(source):
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(name, 0o700, dir_fd=copy)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner, below = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=copy)
            try:
                _copy_folder(inner, below)
            finally:
                os.close(inner)
                os.close(below)
            continue
        _copy_entry(source, copy, name, info)
    info = os.fstat(source)
    os.fchown(copy, info.st_uid, info.st_gid)
    os.fchmod(copy, stat.S_IMODE(info.st_mode))
    os.utime(copy, ns=(info.st_atime_ns, info.st_mtime_ns))


def _copy_entry(source: int, copy: int, name: str, info: os.stat_result) -> None:
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=copy)
    elif stat.S_ISREG(info.st_mode):
        _copy_file(source, copy, name)
    else:
        os.mknod(name, info.st_mode, info.st_rdev, dir_fd=copy)
    os.chown(name, info.st_uid, info.st_gid, dir_fd=copy, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=copy)
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=copy, follow_symlinks=False)


def _copy_file(source: int, copy: int, name: str) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=copy)
        try:
            while os.sendfile(writer, reader, None, _CHUNK):
                pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)
