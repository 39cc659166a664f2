"""Copying a folder between descriptors, whatever stands at its names.

Others may write in the copy meanwhile, a container that shares the volume, say. So nothing is done
to a name that could have become a link: what was made is changed through its descriptor.
"""

from __future__ import annotations

import errno
import os
import stat

from pycontain.kernel.paths import open_in_root

_CHUNK = 1 << 24
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTES = ("user.", "trusted.", "system.posix_acl_", "security.capability")


def copy_up(root: int, target: str, copy: int, *, again: bool = False) -> None:
    """Copy what is in the folder `target` below `root` into the folder open at `copy`.

    Owners, modes, times, extended attributes and hard links go along, the folder's own included.
    Nothing is done where there is no such folder.

    Args:
        root: descriptor; no link leads out of it.
        target: a path there.
        copy: descriptor of an empty folder.
        again: it has some of it, of a copy that was interrupted; that is replaced.

    Raises:
        OSError: something cannot be copied.
    """
    try:
        source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        _Copy(copy, again=again).folder(source, copy, "")
    finally:
        os.close(source)


class _Copy:
    """One copy.

    Attributes:
        links: source's device and inode → path in the copy, of files with several names.
    """

    def __init__(self, top: int, *, again: bool) -> None:
        self.top = top
        self.again = again
        self.links: dict[tuple[int, int], str] = {}

    def folder(self, source: int, copy: int, path: str) -> None:
        for name in os.listdir(source):
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                self._inner(source, copy, name, f"{path}/{name}")
            else:
                if self.again:
                    _remove(copy, name)
                self._entry(source, copy, name, f"{path}/{name}", info)
        _dress(copy, os.fstat(source), source)

    def _inner(self, source: int, copy: int, name: str, path: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=copy)
        except FileExistsError:
            if not self.again:
                raise
        inner = os.open(name, _FOLDER, dir_fd=source)
        try:
            below = os.open(name, _FOLDER, dir_fd=copy)
            try:
                self.folder(inner, below, path)
            finally:
                os.close(below)
        finally:
            os.close(inner)

    def _entry(self, source: int, copy: int, name: str, path: str, info: os.stat_result) -> None:
        inode = (info.st_dev, info.st_ino)
        if info.st_nlink > 1:
            if inode in self.links and self._link(self.links[inode], copy, name):
                return
            self.links[inode] = path
        if stat.S_ISREG(info.st_mode):
            _copy_file(source, copy, name, info)
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=copy)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=copy, follow_symlinks=False)
            times = (info.st_atime_ns, info.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=copy, follow_symlinks=False)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=copy)
            fd = os.open(name, _LOOK, dir_fd=copy)
            try:
                _dress_special(copy, name, fd, info)
            finally:
                os.close(fd)

    def _link(self, path: str, copy: int, name: str) -> bool:
        """Give what was copied to `path` one more name; False where it is not there any more."""
        try:
            fd = open_in_root(self.top, path, _LOOK)
        except OSError:
            return False
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=copy, follow_symlinks=True)
        finally:
            os.close(fd)
        return True


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _copy_file(source: int, copy: int, name: str, info: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=copy)
        try:
            while os.sendfile(writer, reader, None, _CHUNK):
                pass
            _dress(writer, info, reader)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _dress(fd: int, info: os.stat_result, source: int) -> None:
    """Give an open file or folder what `info` says, and the attributes of `source`."""
    # In this order: a change of owner takes set-id bits and capabilities away (chown(2)).
    os.fchown(fd, info.st_uid, info.st_gid)
    os.fchmod(fd, stat.S_IMODE(info.st_mode))
    for name in _attributes(source):
        try:
            os.setxattr(fd, name, os.getxattr(source, name))
        except OSError as err:
            # Of another file system, which has none of this kind: as cp -a does it.
            if err.errno != errno.EOPNOTSUPP:
                raise
    os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))


def _attributes(fd: int) -> list[str]:
    try:
        return [name for name in os.listxattr(fd) if name.startswith(_ATTRIBUTES)]
    except OSError as err:
        if err.errno != errno.EOPNOTSUPP:
            raise
        return []


def _dress_special(copy: int, name: str, fd: int, info: os.stat_result) -> None:
    # By the descriptor's number: the name may be another's link by now, which chmod(2) follows.
    path = f"/proc/self/fd/{fd}"
    os.chown(path, info.st_uid, info.st_gid)
    os.chmod(path, stat.S_IMODE(info.st_mode))
    times = (info.st_atime_ns, info.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=copy, follow_symlinks=False)
