"""Copying between two open folders, neither of which is trusted to stay as it is.

Knows descriptors and names in them, never a path: whatever somebody does to either tree meanwhile,
what is read was in the one and what is written is in the other. Files are made under a temporary
name and renamed, so that nobody sees half of one and what was there stays until then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pycontain.engine.folders import LOOK, Folder, Source, as_path, reopen
from pycontain.errors import Conflict, InvalidInput, PycontainError, kernel_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CAPABILITY = "security.capability"
"""The one extended attribute that is kept, as docker does it (capabilities(7))."""

DEPTH = 250
"""Folders within folders; each holds a descriptor on either side."""

_SET_ID = stat.S_ISUID | stat.S_ISGID
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
_CHUNK = 1 << 26
_TEMPORARY = ".pycontain-cp-"


class Rules(NamedTuple):
    """Whose the copies are and what they may.

    Attributes:
        owner: uid and gid of every copy; None are the source's own.
        powers: set-id bits, file capabilities and other users' access to devices are kept. Without
            it, and wherever the owner changes, they are dropped, as chown(2) drops them: they were
            given by the owner in the tree they come from.
    """

    owner: tuple[int, int] | None
    powers: bool


class Attributes(NamedTuple):
    """What is set on a copy.

    Attributes:
        modified: nanoseconds since the epoch; None is now.
        accessed: the same.
    """

    mode: int
    uid: int
    gid: int
    modified: int | None = None
    accessed: int | None = None
    capability: bytes | None = None


def attributes(info: os.stat_result, capability: bytes | None, rules: Rules) -> Attributes:
    """Return what a copy of a file with `info` is to have."""
    uid, gid = rules.owner or (info.st_uid, info.st_gid)
    mode = stat.S_IMODE(info.st_mode)
    if not rules.powers or (uid, gid) != (info.st_uid, info.st_gid):
        capability = None
        if not stat.S_ISDIR(info.st_mode):
            mode &= ~_SET_ID
    if not rules.powers and (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)):
        mode &= 0o700
    return Attributes(mode, uid, gid, info.st_mtime_ns, info.st_atime_ns, capability)


def capability_of(fd: int) -> bytes | None:
    """Return the file capabilities of an O_PATH descriptor, None where it has none."""
    try:
        return os.getxattr(as_path(fd), CAPABILITY)
    except OSError as err:
        if err.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def settle(fd: int, wanted: Attributes) -> None:
    """Give the file of a descriptor its owner, mode, capabilities and times.

    Owner first: chown(2) clears set-id bits and capabilities. A link has no mode (symlink(7)).
    """
    path = as_path(fd)
    info = os.fstat(fd)
    if (info.st_uid, info.st_gid) != (wanted.uid, wanted.gid):
        os.chown(path, wanted.uid, wanted.gid)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(path, wanted.mode)
        if wanted.capability is not None:
            os.setxattr(path, CAPABILITY, wanted.capability)
    if wanted.modified is not None:
        accessed = wanted.modified if wanted.accessed is None else wanted.accessed
        os.utime(path, ns=(accessed, wanted.modified))


def copy_data(reader: int, writer: int, size: int) -> int:
    """Copy the first `size` bytes of a file into an empty one; holes stay holes.

    A file that grows is cut there, so that one which never ends has an end for us.

    Returns:
        How many bytes the copy has.
    """
    at = 0
    while at < size:
        start, end = _extent(reader, at, size)
        _copy_range(reader, writer, start, end)
        at = end
    # It may have been cut short meanwhile, and what follows the last extent is a hole.
    length = min(size, os.fstat(reader).st_size)
    os.ftruncate(writer, length)
    return length


def _extent(fd: int, at: int, size: int) -> tuple[int, int]:
    """The next stretch with data, lseek(2); empty at the end where only a hole is left."""
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
        end = os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as err:
        if err.errno == errno.ENXIO:
            return size, size
        if err.errno == errno.EINVAL:  # a file system without either
            return at, size
        raise
    return min(start, size), min(end, size)


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(reader, writer, min(end - start, _CHUNK), start, start)
        except OSError as err:
            if err.errno not in _NO_RANGES:
                raise
            break
        if count == 0:
            break  # shorter by now, or of a file system that copies nothing this way
        start += count
    os.lseek(writer, start, os.SEEK_SET)
    while start < end:
        count = os.sendfile(writer, reader, start, min(end - start, _CHUNK))
        if count == 0:
            return
        start += count


@contextlib.contextmanager
def _new_entry(target: Folder, name: str) -> Iterator[str]:
    """Give a temporary name, under which the caller makes something, and rename it to `name`.

    Raises:
        Conflict: `name` is a folder.
        OSError: EBUSY where something is mounted at `name`.
    """
    refuse_folder(target, name)
    temporary = f"{_TEMPORARY}{os.urandom(6).hex()}"
    try:
        yield temporary
        if target.mounted(name):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        os.rename(temporary, name, src_dir_fd=target.fd, dst_dir_fd=target.fd)
    except BaseException:
        # What was made may have been taken away by another; the first error is the one to tell.
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=target.fd)
        raise


def refuse_folder(target: Folder, name: str) -> None:
    """Raise Conflict where `name` is a folder: nothing else takes its place."""
    try:
        fd = target.look(name)
    except FileNotFoundError:
        return
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise Conflict(f'cannot overwrite directory "{name}" with non-directory')
    finally:
        os.close(fd)


def make_folder(target: Folder, name: str) -> Folder:
    """Return the folder `name` in `target`, which is made where there is nothing.

    Raises:
        Conflict: it is something else, a link included.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=target.fd)
    try:
        return target.enter(name)
    except NotADirectoryError as err:
        raise Conflict(f'cannot overwrite non-directory "{name}" with directory') from err


def write_file(
    target: Folder, name: str, fill: Callable[[int], int], wanted: Attributes
) -> tuple[int, os.stat_result]:
    """Make or replace a file.

    Args:
        target: the folder.
        name: in it.
        fill: writes the content to a descriptor and returns its size.
        wanted: of the file.

    Returns:
        The size, and the file's stat.

    Raises:
        Conflict: `name` is a folder.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = -1
    size = 0
    try:
        with _new_entry(target, name) as temporary:
            fd = os.open(temporary, flags, 0o600, dir_fd=target.fd)
            size = fill(fd)
            settle(fd, wanted)
        return size, os.fstat(fd)
    except OSError as err:
        # A mount point, as /etc/hosts is one, is not replaced but written.
        if err.errno != errno.EBUSY or fd < 0:
            raise
        return size, _write_over(target, name, fd, size)
    finally:
        if fd >= 0:
            os.close(fd)


def _write_over(target: Folder, name: str, filled: int, size: int) -> os.stat_result:
    """Write into the file that is there, whose owner and mode stay."""
    found = target.look(name)
    try:
        fd = reopen(found, os.O_WRONLY | os.O_TRUNC)
    finally:
        os.close(found)
    try:
        copy_data(filled, fd, size)
        return os.fstat(fd)
    finally:
        os.close(fd)


class Copier:
    """One copy of a file, or of a folder and all below it.

    Args:
        rules: of the copies.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.size = 0
        self._linked: dict[tuple[int, int], tuple[list[str], os.stat_result]] = {}
        self._base: Folder | None = None
        self._way: list[str] = []

    def copy(self, fd: int, source: Source | None, target: Folder, name: str) -> int:
        """Copy what is open at `fd`, a folder with all below it, to `name` in `target`.

        Args:
            fd: an O_PATH descriptor of it.
            source: the same, where it is a folder.
            target: where it goes to.
            name: its name there.

        Returns:
            How many bytes of content.

        Raises:
            Conflict: a folder and something else want one name.
            PycontainError: a file cannot be read or written.
        """
        self._base = target
        with self._telling(name):
            info = os.fstat(fd)
            if source is None:
                if stat.S_ISSOCK(info.st_mode):
                    raise InvalidInput(f"copy {name}: a socket cannot be copied")
                self._copy_other(fd, info, target, name)
            else:
                with make_folder(target, name) as below:
                    self._fill(source, below)
                    settle(below.fd, attributes(info, None, self.rules))
        return self.size

    def copy_content(self, source: Source, target: Folder) -> int:
        """Copy what is in one folder into another, which itself stays as it is; as ``copy``."""
        self._base = target
        self._fill(source, target)
        return self.size

    @contextlib.contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        self._way.append(name)
        try:
            yield
        except OSError as err:
            raise kernel_error("copy", "/".join(self._way), err.errno or 0) from err
        except PycontainError as err:
            if isinstance(err, Conflict) and len(self._way) > 1:
                way = "/".join(self._way)
                err.message = err.message.replace(f'"{name}"', f'"{way}"')
            raise
        finally:
            self._way.pop()

    def _fill(self, source: Source, target: Folder) -> None:
        if len(self._way) > DEPTH:
            raise InvalidInput(f"copy {'/'.join(self._way)[:60]}…: more than {DEPTH} folders deep")
        if target.is_pseudo():
            raise OSError(errno.EPERM, "a view of the kernel's state")
        for name in source.entries():
            with self._telling(name):
                self._copy_entry(source, target, name)

    def _copy_entry(self, source: Source, target: Folder, name: str) -> None:
        try:
            fd = source.look(name)
        except FileNotFoundError:
            return  # removed since the folder was listed
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                with source.enter(name) as inner, make_folder(target, name) as below:
                    self._fill(inner, below)
                    settle(below.fd, attributes(info, None, self.rules))
            elif not stat.S_ISSOCK(info.st_mode):  # nobody answers in the copy of a socket
                self._copy_other(fd, info, target, name)
        finally:
            os.close(fd)

    def _copy_other(self, fd: int, info: os.stat_result, target: Folder, name: str) -> None:
        if info.st_nlink > 1 and self._link(info, target, name):
            return
        if stat.S_ISREG(info.st_mode):
            made = self._copy_file(fd, info, target, name)
        else:
            made = self._copy_special(fd, info, target, name)
        if info.st_nlink > 1:
            self._linked[info.st_dev, info.st_ino] = ([*self._way], made)

    def _copy_file(
        self, fd: int, info: os.stat_result, target: Folder, name: str
    ) -> os.stat_result:
        wanted = attributes(info, capability_of(fd), self.rules)
        reader = reopen(fd, os.O_RDONLY)
        try:
            size, made = write_file(
                target, name, lambda writer: copy_data(reader, writer, info.st_size), wanted
            )
        finally:
            os.close(reader)
        self.size += size
        return made

    def _copy_special(
        self, fd: int, info: os.stat_result, target: Folder, name: str
    ) -> os.stat_result:
        wanted = attributes(info, None, self.rules)
        if stat.S_ISLNK(info.st_mode):
            text = os.readlink("", dir_fd=fd)
            return make_link(target, name, text, wanted)
        return make_node(target, name, stat.S_IFMT(info.st_mode), info.st_rdev, wanted)

    def _link(self, info: os.stat_result, target: Folder, name: str) -> bool:
        """Make a hard link to the copy of the same file; False where there is none (any more)."""
        found = self._linked.get((info.st_dev, info.st_ino))
        if found is None or self._base is None:
            return False
        way, made = found
        fd = look_down(self._base, way)
        if fd is None:
            return False
        try:
            if not os.path.samestat(os.fstat(fd), made):
                return False
            make_hard_link(target, name, fd)
        finally:
            os.close(fd)
        return True


def look_down(folder: Folder, way: list[str]) -> int | None:
    """Return an O_PATH descriptor of what is so many names below, links not followed."""
    try:
        if len(way) == 1:
            return folder.look(way[0])
        with folder.enter(way[0]) as below:
            return look_down(below, way[1:])
    except (FileNotFoundError, NotADirectoryError):
        return None


def make_link(target: Folder, name: str, text: str, wanted: Attributes) -> os.stat_result:
    """Make or replace a symbolic link."""
    with _new_entry(target, name) as temporary:
        os.symlink(text, temporary, dir_fd=target.fd)
        return _settle_special(target, temporary, stat.S_IFLNK, wanted)


def make_node(
    target: Folder, name: str, kind: int, device: int, wanted: Attributes
) -> os.stat_result:
    """Make or replace a fifo or a device (mknod(2)).

    Raises:
        OSError: EPERM where the caller may make no devices.
    """
    with _new_entry(target, name) as temporary:
        os.mknod(temporary, kind | 0o600, device, dir_fd=target.fd)
        return _settle_special(target, temporary, kind, wanted)


def _settle_special(target: Folder, name: str, kind: int, wanted: Attributes) -> os.stat_result:
    fd = os.open(name, LOOK, dir_fd=target.fd)
    try:
        # It has no descriptor from its making on: another may have put its own in its place.
        if stat.S_IFMT(os.fstat(fd).st_mode) != kind:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        settle(fd, wanted)
        return os.fstat(fd)
    finally:
        os.close(fd)


def make_hard_link(target: Folder, name: str, fd: int) -> None:
    """Make or replace a hard link to the file of an O_PATH descriptor."""
    # rename(2) does nothing between two links to one file: the temporary one would stay.
    old = look_down(target, [name])
    if old is not None:
        same = os.path.samestat(os.fstat(old), os.fstat(fd))
        os.close(old)
        if same:
            return
    with _new_entry(target, name) as temporary:
        os.link(as_path(fd), temporary, dst_dir_fd=target.fd)
