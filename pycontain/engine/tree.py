"""The files of one container, as the container sees them, without running anything in it.

Every path is resolved below the container's root, whatever a process in it does to its files at
the same time (openat2(2), RESOLVE_IN_ROOT), and nothing that the container offers is loaded or
executed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from pycontain.engine import copying
from pycontain.engine.folders import Folder, Names, Space, reopen, walk
from pycontain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    kernel_error,
)
from pycontain.kernel.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self


FILE_MODE = 0o644
FOLDER_MODE = 0o755

_LINKS = 40  # path_resolution(7)
_TRIES = 16
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND | os.O_CREAT
_ALLOWED = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC


class Tree:
    """A container's files, until it is closed. Made by ``Containers.tree``.

    Paths begin at the container's ``/``, with or without a slash; uids and gids are those that a
    process in the container sees.

    ::

        with containers.tree("web") as tree:
            tree.write("/etc/motd", b"hello")
            tree.read("/etc/motd")

    Attributes:
        name: the container's, for messages.
    """

    def __init__(self, name: str, root: int, space: Space, held: contextlib.ExitStack) -> None:
        self.name = name
        self._root = root
        self._space = space
        self._held = held

    def close(self) -> None:
        """Let the tree go, and the container's lock with it."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- paths ----

    def look(self, path: str, *, follow: bool = True) -> int:
        """Return an O_PATH descriptor of what is at `path`; a link's own where not `follow`.

        Raises:
            NotFound: there is nothing.
            KernelError: the path cannot be resolved.
        """
        with self._telling("look", path):
            fd, _ = self._look(path, follow=follow)
            return fd

    def _look(self, path: str, *, follow: bool) -> tuple[int, Names]:
        if self._space.mounts:
            return walk(self._root, self._space, path, follow=follow)
        flags = os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW
        return open_in_root(self._root, path or "/", flags), ()

    def folder(self, path: str) -> Folder:
        """Return the folder at `path`, open.

        Raises:
            NotFound: there is nothing.
            KernelError: it is no folder.
        """
        with self._telling("open", path):
            return self._folder(path)

    def _folder(self, path: str) -> Folder:
        fd, names = self._look(path, follow=True)
        try:
            return Folder.of(fd, self._space, names)
        finally:
            os.close(fd)

    def place(self, path: str) -> tuple[Folder, str]:
        """Return the folder and the name in it where a file at `path` is or would be.

        Links at the end of the path are followed, also one that leads to nothing yet.

        Raises:
            NotFound: its folder does not exist.
            InvalidInput: the path is a folder's, as ``/`` and ``a/..`` are.
        """
        with self._telling("open", path):
            return self._place(path)

    def _place(self, path: str) -> tuple[Folder, str]:
        for _ in range(_LINKS):
            above, _, name = path.rstrip("/").rpartition("/")
            if name in ("", ".", ".."):
                raise InvalidInput(f"path {path or '/'!r} in container {self.name}: not a file's")
            folder = self._folder(above or "/")
            try:
                text = _link_at(folder, name)
            except BaseException:
                folder.close()
                raise
            if text is None:
                return folder, name
            folder.close()
            path = text if text.startswith("/") else f"{above}/{text}"
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def make_folders(self, path: str) -> Folder:
        """Return the folder at `path`; what is missing of it is made, as the root user's.

        Raises:
            KernelError: something on the way is no folder.
        """
        with self._telling("make folder", path):
            try:
                return self._folder(path)
            except FileNotFoundError:
                pass
            above, _, name = path.rstrip("/").rpartition("/")
            with self.make_folders(above or "/") as parent:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, FOLDER_MODE, dir_fd=parent.fd)
                return self._folder(path)

    @contextlib.contextmanager
    def _telling(self, step: str, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as err:
            raise NotFound(
                f"could not find the file {path or '/'} in container {self.name}"
            ) from err
        except OSError as err:
            subject = f"{path or '/'} in container {self.name}"
            raise kernel_error(step, subject, err.errno or 0) from err

    # ---- single files ----

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """Return owner, mode, size and times of what is at `path` (inode(7)).

        Raises:
            NotFound: there is nothing.
        """
        fd = self.look(path, follow=follow)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def readlink(self, path: str) -> str:
        """Return the text of a symbolic link.

        Raises:
            NotFound: there is nothing.
            KernelError: it is no link.
        """
        fd = self.look(path, follow=False)
        with self._telling("read link", path):
            try:
                # readlink(2): of another kind's descriptor the empty name does not exist.
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                return os.readlink("", dir_fd=fd)
            finally:
                os.close(fd)

    def listdir(self, path: str = "/") -> list[str]:
        """Return the names in a folder, sorted.

        Raises:
            NotFound: there is nothing.
            KernelError: it is no folder.
        """
        with self.folder(path) as folder, self._telling("list", path):
            return sorted(os.listdir(folder.fd))

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = FILE_MODE) -> int:
        """Return a descriptor of a regular file. It is the caller's, and outlives the tree.

        Args:
            path: links are followed.
            flags: ``O_RDONLY``, ``O_WRONLY`` or ``O_RDWR`` with ``O_CREAT``, ``O_EXCL``,
                ``O_TRUNC``, ``O_APPEND``.
            mode: permission bits of a new file, whatever the caller's umask.

        Raises:
            NotFound: there is nothing.
            Conflict: there is something, and ``O_EXCL`` was said.
            InvalidInput: another flag; it is no regular file; a write into a file system like proc.
            KernelError: it cannot be opened.
        """
        if flags & ~_ALLOWED:
            raise InvalidInput(f"open {path}: unknown flags {flags & ~_ALLOWED:#o}")
        with self._telling("open", path):
            for _ in range(_TRIES):
                try:
                    if flags & os.O_CREAT and flags & os.O_EXCL:
                        return self._create(path, flags, mode)
                    return self._open(path, flags)
                except FileNotFoundError:
                    if not flags & os.O_CREAT:
                        raise
                try:
                    return self._create(path, flags, mode)
                except FileExistsError:
                    continue  # made since we looked
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _open(self, path: str, flags: int) -> int:
        fd, _ = self._look(path, follow=True)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise InvalidInput(f"open {path} in container {self.name}: not a regular file")
            if flags & _WRITING and info.st_dev in self._space.pseudo:
                raise _no_content(path, self.name, "written")
            return reopen(fd, flags & ~(os.O_CREAT | os.O_EXCL))
        finally:
            os.close(fd)

    def _create(self, path: str, flags: int, mode: int) -> int:
        folder, name = self._place(path)
        with folder:
            self.check_content(folder, path)
            new = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(name, new, 0o600, dir_fd=folder.fd)
            except FileExistsError as err:
                if flags & os.O_EXCL:
                    raise Conflict(f"{path} in container {self.name}: exists") from err
                raise
            os.fchmod(fd, mode)
            return fd

    def check_content(self, folder: Folder, path: str) -> None:
        """Raise InvalidInput where nothing can be written into an open folder, as in proc."""
        if folder.is_pseudo():
            raise _no_content(path, self.name, "written")

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return the content of a regular file.

        Args:
            path: links are followed.
            limit: bytes, more than which is an error; None is no limit.

        Raises:
            NotFound: there is nothing.
            InvalidInput: it is no regular file, or longer than `limit`.
        """
        with (
            open(self.open(path), "rb") as file,
            self._telling("read", path),
        ):
            data = file.read(-1 if limit is None else limit + 1)
        if limit is not None and len(data) > limit:
            raise InvalidInput(f"read {path} in container {self.name}: more than {limit} bytes")
        return data

    def write(
        self,
        path: str,
        data: bytes,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        """Replace a file, or make it; a reader sees the old content or the new one.

        Args:
            path: links are followed; its folder exists.
            data: the new content.
            mode: permission bits; None are those of the file that is there, 0644 for a new one.
            uid: None is the same owner as before, 0 for a new one.
            gid: the same for the group.

        Raises:
            NotFound: its folder does not exist.
            Conflict: it is a folder.
            InvalidInput: it is of a file system like proc.
            KernelError: it cannot be written.
        """
        with self._telling("write", path):
            folder, name = self._place(path)
            with folder:
                self.check_content(folder, path)
                wanted = _wanted(folder, name, mode, uid, gid)
                copying.write_file(folder, name, lambda fd: _write_all(fd, data), wanted)

    # ---- whole trees ----

    def source(self, path: str, *, follow: bool) -> tuple[int, Folder | None]:
        """Return an O_PATH descriptor of what is to be copied; where it is a folder, that too.

        Raises:
            NotFound: there is nothing.
            InvalidInput: it is a file of a file system like proc.
        """
        with self._telling("open", path):
            fd, names = self._look(path, follow=follow)
            try:
                info = os.fstat(fd)
                if stat.S_ISDIR(info.st_mode):
                    return fd, Folder.of(fd, self._space, names)
                if stat.S_ISREG(info.st_mode) and info.st_dev in self._space.pseudo:
                    raise _no_content(path, self.name, "copied")
            except BaseException:
                os.close(fd)
                raise
            return fd, None

    def copy_in(
        self, source: str | BinaryIO, path: str, *, archive: bool = False, follow: bool = False
    ) -> int:
        """Copy a file or folder of the caller's into the container, as ``cp`` does.

        Args:
            source: a path; or a tar stream, plain or compressed, which is extracted.
            path: in the container. An existing folder gets the copy under its own name (of
                ``source/.`` the content); what does not exist becomes the copy.
            archive: the copies keep their owners; otherwise they are root's. Those of a stream are
                the stream's.
            follow: where `source` is a link, what it leads to is copied.

        Returns:
            How many bytes of content were copied. Sockets are left out.

        Raises:
            NotFound: the source, or the folder for the copy, does not exist.
            Conflict: a folder and something else want one name.
            InvalidInput: the rest of what ``cp`` refuses; a stream that is no archive.
            KernelError: something cannot be read or written. What was copied before stays.
        """
        from pycontain.engine import transfer

        return transfer.copy_in(self, source, path, archive=archive, follow=follow)

    def copy_out(
        self, path: str, target: str | BinaryIO, *, archive: bool = False, follow: bool = False
    ) -> int:
        """Copy a file or folder of the container to the caller, as ``cp`` does.

        Args:
            path: in the container.
            target: a path, by the rules of ``copy_in``; or a blocking stream, to which a tar
                archive is written.
            archive: the copies keep owners, set-id bits and capabilities. Otherwise they are the
                caller's, and the powers that were given to them in the container are dropped.
            follow: where `path` is a link, what it leads to is copied.

        Returns:
            How many bytes of content, or of the archive. Sockets are left out, and of file systems
            like proc the folder alone is copied.

        Raises:
            PycontainError: as for ``copy_in``.
        """
        from pycontain.engine import transfer

        return transfer.copy_out(self, path, target, archive=archive, follow=follow)


def _link_at(folder: Folder, name: str) -> str | None:
    try:
        fd = folder.look(name)
    except FileNotFoundError:
        return None
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            return os.readlink("", dir_fd=fd)
        return None
    finally:
        os.close(fd)


def _no_content(path: str, name: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"{path} in container {name}: a view of the kernel's state, which cannot be {what}",
        f"use a command in the container: pycontain exec {name} …",
    )


def _wanted(
    folder: Folder, name: str, mode: int | None, uid: int | None, gid: int | None
) -> copying.Attributes:
    old: os.stat_result | None = None
    with contextlib.suppress(FileNotFoundError):
        fd = folder.look(name)
        old = os.fstat(fd)
        os.close(fd)
    if mode is None:
        # A set-id bit was given to the old content (write(2)).
        mode = FILE_MODE if old is None else old.st_mode & 0o1777
    if uid is None:
        uid = 0 if old is None else old.st_uid
    if gid is None:
        gid = 0 if old is None else old.st_gid
    return copying.Attributes(mode, uid, gid)


def _write_all(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)
