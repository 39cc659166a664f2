"""What is different between two images, or between an image and itself without its last layer."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from pycontain.engine.copying import DEPTH
from pycontain.engine.folders import Folder
from pycontain.engine.layers import Change, Layers, changes
from pycontain.errors import InvalidInput, kernel_error
from pycontain.image.packing import attributes_of
from pycontain.kernel import mount
from pycontain.kernel.paths import reopen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNK = 1 << 20


def last_layer(folders: Sequence[str], *, rootless: bool) -> list[Change]:
    """Return what the last layer changes, sorted by path.

    Args:
        folders: the unpacked layers, bottom first.
        rootless: overlay's attributes are ``user.`` ones.

    Raises:
        KernelError: a layer cannot be read.
    """
    *below, top = folders
    with contextlib.ExitStack() as stack:
        upper = _opened(stack, [top], rootless)
        if not below:
            own = stack.enter_context(Folder.of(upper))
            return sorted(_Difference().below(own, None, ""), key=_path)
        lower = _opened(stack, below, rootless)
        prefix = "user.overlay." if rootless else "trusted.overlay."
        return changes(Layers(upper, lower, prefix), frozenset())


def between(new: Sequence[str], old: Sequence[str], *, rootless: bool) -> list[Change]:
    """Return what is different in the image of the layers `new` from that of `old`.

    Args:
        new: unpacked layers, bottom first.
        old: the same.
        rootless: overlay's attributes are ``user.`` ones.

    Raises:
        KernelError: a layer cannot be read.
    """
    with contextlib.ExitStack() as stack:
        one, other = (
            stack.enter_context(Folder.of(_opened(stack, folders, rootless)))
            for folders in (new, old)
        )
        return sorted(_Difference().below(one, other, ""), key=_path)


def _path(change: Change) -> str:
    return change.path


def _opened(stack: contextlib.ExitStack, folders: Sequence[str], rootless: bool) -> int:
    fd = mount.stack(folders, user_xattr=rootless)
    stack.callback(os.close, fd)
    return fd


class _Difference:
    def below(self, new: Folder, old: Folder | None, path: str) -> Iterator[Change]:
        """The changes in a folder, of which nothing was there where `old` is None."""
        if path.count("/") > DEPTH:
            raise InvalidInput(f"compare {path[:60]}…: more than {DEPTH} folders deep")
        shown = new.entries()
        before = set() if old is None else set(old.entries())
        for name in before.difference(shown):
            yield Change("D", f"{path}/{name}")
        for name in shown:
            try:
                yield from self._entry(new, old if name in before else None, name, f"{path}/{name}")
            except OSError as err:
                raise kernel_error("compare", f"{path}/{name}", err.errno or 0) from err

    def _entry(self, new: Folder, old: Folder | None, name: str, path: str) -> Iterator[Change]:
        with contextlib.ExitStack() as stack:
            own = _looked(stack, new, name)
            other = None if old is None else _looked(stack, old, name)
            if not stat.S_ISDIR(os.fstat(own).st_mode):
                if other is None or not _same(own, other):
                    yield Change("A" if other is None else "C", path)
                return
            is_folder = other is not None and stat.S_ISDIR(os.fstat(other).st_mode)
            under = None
            if old is not None and is_folder:
                under = stack.enter_context(old.enter(name))
            inside = list(self.below(stack.enter_context(new.enter(name)), under, path))
            if other is None:
                yield Change("A", path)
            elif inside or not _same(own, other):
                yield Change("C", path)
            yield from inside


def _looked(stack: contextlib.ExitStack, folder: Folder, name: str) -> int:
    fd = folder.look(name)
    stack.callback(os.close, fd)
    return fd


def _fields(info: os.stat_result) -> tuple[int, ...]:
    return info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_mtime_ns


def _same(one: int, other: int) -> bool:
    """Whether two files are the same: all that an archive of them would say."""
    new, old = os.fstat(one), os.fstat(other)
    if _fields(new) != _fields(old) or attributes_of(one) != attributes_of(other):
        return False
    if stat.S_ISLNK(new.st_mode):
        return os.readlink("", dir_fd=one) == os.readlink("", dir_fd=other)
    if not stat.S_ISREG(new.st_mode):
        return True
    if new.st_size != old.st_size:
        return False
    # Of one file system, as all layers of a store are: overlayfs shows the layer's own number.
    return new.st_ino == old.st_ino or _same_content(one, other)


def _same_content(one: int, other: int) -> bool:
    with (
        open(reopen(one, os.O_RDONLY), "rb", buffering=0) as new,
        open(reopen(other, os.O_RDONLY), "rb", buffering=0) as old,
    ):
        while True:
            data = new.read(_CHUNK)
            if data != old.read(_CHUNK):
                return False
            if not data:
                return True
