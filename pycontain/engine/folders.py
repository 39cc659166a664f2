"""Open folders of somebody else's tree, entered one name at a time.

Whatever stands at a name is looked at before it is opened: opening a device can already do
something, and a process that has the tree may put a device or a link where a file was. So each name
is opened without following it and without any effect (O_PATH, open(2)), its kind is read from that
descriptor, and only then is the same inode opened through /proc/self/fd, where no name is resolved
any more.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from pycontain.kernel.paths import as_path, is_mount_point, reopen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Names = tuple[str, ...]

__all__ = ["HOST", "LOOK", "Folder", "Names", "Source", "Space", "as_path", "reopen", "walk"]


class Source(Protocol):
    """A folder whose content can be read: an open one, or layers as overlay merges them."""

    def entries(self) -> list[str]:
        """Return the names in it, sorted."""

    def look(self, name: str) -> int:
        """Return an O_PATH descriptor of what stands at a name, a link itself."""

    def enter(self, name: str) -> Source:
        """Return the folder at a name.

        Raises:
            OSError: ENOTDIR where there is something else, a link included.
        """

    def close(self) -> None:
        """Close its descriptors."""

    def __enter__(self) -> Source:
        """Return itself, to be closed at the end."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""


class Space:
    """What is special about the names of a tree.

    Attributes:
        mounts: names below the root → a descriptor of what is mounted there, for mounts that the
            kernel does not know of because the tree is attached nowhere.
        pseudo: devices (``st_dev``) of file systems without content of their own, as proc.
    """

    __slots__ = ("mounts", "pseudo")

    def __init__(
        self, mounts: Mapping[Names, int] | None = None, pseudo: frozenset[int] = frozenset()
    ) -> None:
        self.mounts: dict[Names, int] = dict(mounts or {})
        self.pseudo = pseudo


HOST = Space()
"""The caller's own files."""


class Folder:
    """An open folder.

    Args:
        fd: its descriptor, which from here on belongs to this object.
        space: of its tree.
        names: from the tree's root to it; only kept where the space has mounts.
    """

    __slots__ = ("_names", "_space", "fd")

    def __init__(self, fd: int, space: Space = HOST, names: Names = ()) -> None:
        self.fd = fd
        self._space = space
        self._names = names

    @classmethod
    def of(cls, fd: int, space: Space = HOST, names: Names = ()) -> Folder:
        """Return the folder of an O_PATH descriptor, which stays the caller's.

        Raises:
            OSError: ENOTDIR where it is something else.
        """
        # Not through /proc/self/fd: a link that was looked at would be followed there.
        return cls(os.open(".", _FOLDER, dir_fd=fd), space, names)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def entries(self) -> list[str]:
        """Return the names in it, sorted; none in a file system like proc."""
        if self.is_pseudo():
            return []
        return sorted(os.listdir(self.fd))

    def is_pseudo(self) -> bool:
        """Whether it is of a file system without content of its own."""
        return bool(self._space.pseudo) and os.fstat(self.fd).st_dev in self._space.pseudo

    def mounted(self, name: str) -> bool:
        """Whether something is mounted at a name."""
        return (*self._names, name) in self._space.mounts or is_mount_point(self.fd, name)

    def look(self, name: str) -> int:
        """Return an O_PATH descriptor of what stands at a name, a link itself."""
        covering = self._space.mounts.get((*self._names, name)) if self._space.mounts else None
        return os.open(name, LOOK, dir_fd=self.fd) if covering is None else os.dup(covering)

    def enter(self, name: str) -> Folder:
        """Return the folder at a name.

        Raises:
            OSError: ENOTDIR where there is something else, a link included.
        """
        fd = self.look(name)
        try:
            return Folder.of(fd, self._space, (*self._names, name))
        finally:
            os.close(fd)


def walk(root: int, space: Space, path: str, *, follow: bool) -> tuple[int, Names]:
    """Resolve a path in a tree whose mounts the kernel does not know of.

    The rules are those of openat2(2)'s RESOLVE_IN_ROOT: links and ``..`` stay below the root. No
    name is ever resolved by the kernel through a link, and ``..`` goes back to the folder that was
    come from.

    Args:
        root: descriptor of the root.
        space: the mounts.
        path: from the root, with or without a leading slash.
        follow: a link at the end too.

    Returns:
        An O_PATH descriptor, and the names that it was reached by.

    Raises:
        OSError: ENOENT, ENOTDIR, ELOOP and open(2)'s.
    """
    return _Walk(root, space).go(path, follow)


class _Walk:
    _LINKS = 40  # path_resolution(7)

    def __init__(self, root: int, space: Space) -> None:
        self.root = root
        self.space = space
        self.way: list[tuple[str, int]] = []
        self.links = 0

    def go(self, path: str, follow: bool) -> tuple[int, Names]:
        rest = path.split("/")[::-1]
        try:
            while rest:
                self._step(rest, follow)
            names = tuple(name for name, _ in self.way)
            return os.dup(self._here), names
        except OSError as err:
            raise OSError(err.errno, os.strerror(err.errno or 0), path) from err
        finally:
            self._back_to(0)

    @property
    def _here(self) -> int:
        return self.way[-1][1] if self.way else self.root

    def _back_to(self, depth: int) -> None:
        while len(self.way) > depth:
            os.close(self.way.pop()[1])

    def _step(self, rest: list[str], follow: bool) -> None:
        name = rest.pop()
        if self.way and not stat.S_ISDIR(os.fstat(self._here).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "")
        if name in ("", "."):
            return
        if name == "..":
            self._back_to(max(0, len(self.way) - 1))
            return
        names = (*(known for known, _ in self.way), name)
        covering = self.space.mounts.get(names)
        fd = os.open(name, LOOK, dir_fd=self._here) if covering is None else os.dup(covering)
        if stat.S_ISLNK(os.fstat(fd).st_mode) and (follow or rest):
            self._follow(fd, rest)
        else:
            self.way.append((name, fd))

    def _follow(self, fd: int, rest: list[str]) -> None:
        try:
            target = os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)
        self.links += 1
        if self.links > self._LINKS:
            raise OSError(errno.ELOOP, "")
        if target.startswith("/"):
            self._back_to(0)
        rest.extend(target.split("/")[::-1])
