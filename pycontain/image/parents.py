"""What an unpacked layer takes from the layers below it.

A folder that the layer does not list keeps what it is there: mode, owner, attributes, time. A hard
link's target may be there only: it is copied up, as overlayfs does. Where the layer hides all that
is below, whiteouts say so name by name, since overlayfs does not look at a layer's own folder.

Source: OCI image-spec 1.1, layer.md; Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontain._native._kernel import ffi, lib
from pycontain.errors import ImageError
from pycontain.image.extract import shown
from pycontain.kernel import mount
from pycontain.kernel.paths import RESOLVE_NO_XDEV, open_in_root
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.image.extract import Extracted

_RESOLVE_BENEATH = 0x08
_RESOLVE_NO_SYMLINKS = 0x04
_PLAIN = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FOREIGN = ("trusted.overlay.", "user.overlay.", "security.selinux", "security.evm")
_CHUNK = 1 << 24


def settle(root_fd: int, extracted: Extracted, parents: Sequence[str], *, rootless: bool) -> None:
    """Complete a layer that has just been unpacked.

    Args:
        root_fd: descriptor of its folder.
        extracted: what ``extract`` said about it.
        parents: folders of the layers below, bottom first, each complete; may be none.
        rootless: overlay's marks are ``user.`` attributes.

    Raises:
        ImageError: a hard link leads nowhere.
        KernelError: the layers below cannot be stacked.
        StoreError: a file cannot be read or written.
    """
    if not parents:
        for name, target in extracted.links:
            raise _leads_nowhere(name, target)
        return
    if not (extracted.implicit or extracted.links or extracted.opaque_root):
        return
    below = mount.stack(parents, user_xattr=rootless)
    try:
        layer = _Layer(root_fd, below, extracted.opaque_root, rootless)
        for path in extracted.implicit:
            layer.inherit(path)
        for name, target in extracted.links:
            layer.link(name, target)
        if extracted.opaque_root:
            layer.hide_all()
    except OSError as err:
        subject = os.fsdecode(err.filename) if err.filename else "."
        raise files.store_error("complete layer", subject, err) from err
    finally:
        os.close(below)


def _leads_nowhere(name: bytes, target: bytes) -> ImageError:
    return ImageError(
        f"layer: entry '{shown(name)}': a hard link to '{shown(target)}', "
        "which neither this layer nor one below has"
    )


def _open_plain(root_fd: int, path: bytes, flags: int) -> int | None:
    """Open what is at `path` below a folder, without links on it; None: it is not there."""
    fd: int = lib.openat2(root_fd, path or b".", flags, 0, _PLAIN)
    if fd >= 0:
        return fd
    if ffi.errno in _NOT_THERE:
        return None
    raise OSError(ffi.errno, os.strerror(ffi.errno), path)


def _look(folder_fd: int, name: bytes) -> os.stat_result | None:
    """What `name` is in a folder; None where it is not there, or a whiteout."""
    try:
        info = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return None if _is_whiteout(info) else info


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(0, 0)


def _split(path: bytes) -> tuple[bytes, bytes]:
    folder, _, name = path.rpartition(b"/")
    return folder, name


@contextmanager
def _keeping_time(fd: int) -> Iterator[None]:
    """A folder's time stays what it is while something is put into it."""
    info = os.fstat(fd)
    yield
    os.utime(fd, ns=(info.st_mtime_ns, info.st_mtime_ns))


class _Layer:
    """The layer at `root`, on top of what `below` shows."""

    def __init__(self, root: int, below: int, opaque_root: bool, rootless: bool) -> None:
        self._root = root
        self._below = below
        self._mark = "user.overlay.opaque" if rootless else "trusted.overlay.opaque"
        self._opaque = {b"": opaque_root}
        self._copied: dict[bytes, bytes] = {}

    def inherit(self, path: bytes) -> None:
        """Give the folder at `path` what it has below, if it is a folder there and is seen."""
        if path == b".":
            path = b""
        if path and self._is_hidden(_split(path)[0]):
            return
        lower = _open_plain(self._below, path, _FOLDER)
        if lower is None:
            return
        try:
            own = _open_plain(self._root, path, _FOLDER)
            if own is None:
                return
            try:
                _dress(own, lower, os.fstat(lower))
            finally:
                os.close(own)
        finally:
            os.close(lower)

    def _is_hidden(self, folder: bytes) -> bool:
        """Whether what is in `folder` below is not seen: it or one above it is opaque."""
        known = self._opaque.get(folder)
        if known is None:
            known = self._is_hidden(_split(folder)[0]) or self._is_opaque(folder)
            self._opaque[folder] = known
        return known

    def _is_opaque(self, folder: bytes) -> bool:
        fd = _open_plain(self._root, folder, _FOLDER)
        if fd is None:
            return False
        try:
            return os.getxattr(fd, self._mark) == b"y"
        except OSError as err:
            if err.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return False
            raise
        finally:
            os.close(fd)

    def link(self, name: bytes, target: bytes) -> None:
        """Make the hard link `name` of what `target` is in this layer, or below.

        Raises:
            ImageError: it is in neither, or a folder.
        """
        folder_path, own_name = _split(name)
        folder = _open_plain(self._root, folder_path, _FOLDER)
        if folder is None:
            return  # a later entry replaced what it was in
        try:
            if _look(folder, own_name) is not None:
                return  # or the link itself
            with _keeping_time(folder):
                if _exists(folder, own_name):
                    os.unlink(own_name, dir_fd=folder)
                if not self._link_here(folder, own_name, name, target):
                    self._copy_up(folder, own_name, name, target)
        finally:
            os.close(folder)

    def _link_here(self, folder: int, own_name: bytes, name: bytes, target: bytes) -> bool:
        """Link to what this layer has by now: a later entry, or what an earlier link copied."""
        path = self._copied.get(target, target)
        found = _find(self._root, path)
        if found is None:
            return False
        try:
            info = _look(found, _split(path)[1])
            if info is None:
                return False
            if stat.S_ISDIR(info.st_mode):
                raise _to_folder(name, target)
            os.link(
                _split(path)[1], own_name, src_dir_fd=found, dst_dir_fd=folder,
                follow_symlinks=False,
            )  # fmt: skip
        finally:
            os.close(found)
        return True

    def _copy_up(self, folder: int, own_name: bytes, name: bytes, target: bytes) -> None:
        """Copy the target out of the layers below.

        To its own path, where it is seen in this layer too, so that both names go on being one
        file; else to the link's alone.
        """
        found = _find(self._below, target)
        if found is None:
            raise _leads_nowhere(name, target)
        try:
            target_folder, target_name = _split(target)
            info = _look(found, target_name)
            if info is None:
                raise _leads_nowhere(name, target)
            if stat.S_ISDIR(info.st_mode):
                raise _to_folder(name, target)
            _copy(found, target_name, info, folder, own_name)
        finally:
            os.close(found)
        self._copied[target] = name
        place = None if self._is_hidden(target_folder) else self._make_folder(target_folder)
        if place is None:
            return
        try:
            if not _exists(place, target_name):
                with _keeping_time(place):
                    os.link(
                        own_name, target_name, src_dir_fd=folder, dst_dir_fd=place,
                        follow_symlinks=False,
                    )  # fmt: skip
        finally:
            os.close(place)

    def _make_folder(self, path: bytes) -> int | None:
        """Open a folder of this layer; what is missing on the way becomes what it is below.

        None: this layer has something else there, or the way below leads over links.
        """
        fd = _open_plain(self._root, path, _FOLDER)
        lower = None if fd is not None else _open_plain(self._below, path, os.O_PATH)
        if lower is None:
            return fd
        os.close(lower)
        above, name = _split(path)
        parent = self._make_folder(above)
        if parent is None:
            return None
        try:
            if _exists(parent, name):
                return None
            with _keeping_time(parent):
                os.mkdir(name, 0o700, dir_fd=parent)
            self.inherit(path)
        finally:
            os.close(parent)
        return _open_plain(self._root, path, _FOLDER)

    def hide_all(self) -> None:
        """Hide every name of the layers below: a whiteout, or this layer's own."""
        names = [os.fsencode(name) for name in _names(self._below)]
        with _keeping_time(self._root):
            for name in names:
                if not _exists(self._root, name):
                    os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._root)
                    continue
                fd = _open_plain(self._root, name, _FOLDER)
                if fd is not None:
                    try:
                        os.setxattr(fd, self._mark, b"y")
                    finally:
                        os.close(fd)


def _to_folder(name: bytes, target: bytes) -> ImageError:
    return ImageError(
        f"layer: entry '{shown(name)}': a hard link to '{shown(target)}', which is a folder"
    )


def _names(folder: int) -> list[str]:
    fd = os.open(".", _FOLDER, dir_fd=folder)  # the descriptor of a single layer is O_PATH
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _find(root_fd: int, path: bytes) -> int | None:
    """Open the folder of what is at `path`, whatever links lead there; None: there is none."""
    try:
        return open_in_root(root_fd, os.fsdecode(_split(path)[0] or b"."), os.O_PATH | _FOLDER)
    except OSError as err:
        if err.errno in _NOT_THERE:
            return None
        raise


def _dress(own: int, lower: int, info: os.stat_result) -> None:
    """Give an open file or folder what another has: owner, mode, attributes, time."""
    os.fchown(own, info.st_uid, info.st_gid)
    os.fchmod(own, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(lower):
        if not name.startswith(_FOREIGN):
            os.setxattr(own, name, os.getxattr(lower, name))
    os.utime(own, ns=(info.st_mtime_ns, info.st_mtime_ns))


def _copy(source: int, name: bytes, info: os.stat_result, target: int, copy: bytes) -> None:
    """Copy one thing that is no folder to a name that is not there."""
    if stat.S_ISREG(info.st_mode):
        _copy_file(source, name, info, target, copy)
        return
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), copy, dir_fd=target)
    else:
        os.mknod(copy, info.st_mode, info.st_rdev, dir_fd=target)
    os.chown(copy, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(copy, stat.S_IMODE(info.st_mode), dir_fd=target)
    _copy_attributes(f"/proc/self/fd/{source}/".encode() + name,
                     f"/proc/self/fd/{target}/".encode() + copy)  # fmt: skip
    times = (info.st_mtime_ns, info.st_mtime_ns)
    os.utime(copy, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_attributes(source: bytes, copy: bytes) -> None:
    """Attributes of what is not opened. There is no xattr call with a folder before Linux 6.13."""
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(_FOREIGN):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(copy, name, value, follow_symlinks=False)


def _copy_file(source: int, name: bytes, info: os.stat_result, target: int, copy: bytes) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source)
    try:
        writer = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
        try:
            _copy_data(reader, writer, info.st_size)
            _dress(writer, reader, info)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_data(reader: int, writer: int, size: int) -> None:
    """Copy what is not a hole."""
    os.ftruncate(writer, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(reader, at, os.SEEK_DATA)
        except OSError as err:
            if err.errno == errno.ENXIO:  # a hole to the end
                return
            raise
        at = os.lseek(reader, start, os.SEEK_HOLE)
        os.lseek(writer, start, os.SEEK_SET)
        while start < at:
            done = os.sendfile(writer, reader, start, min(at - start, _CHUNK))
            if not done:
                raise OSError(errno.EIO, "it became shorter")
            start += done
