"""Copying a folder between descriptors, whatever stands at its names."""

from __future__ import annotations

import os
import stat

from pycontain.kernel.paths import open_in_root

_CHUNK = 1 << 24


def copy_up(root: int, target: str, copy: int) -> None:
    """Copy what is in the folder `target` below `root` into the folder open at `copy`.

    Owners, modes and times go along, the folder's own included. Nothing is done where there is no
    such folder.

    Raises:
        OSError: something cannot be copied.
    """
    try:
        source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        _copy_folder(source, copy)
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
