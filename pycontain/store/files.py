"""Files on disk: atomic replacement, claims, locks and removal.

Owns how a file of the store is written so that a reader, a crash or a power cut sees the old text
or the new one and nothing between. Knows nothing of what the files mean.

Starting a container imports this module: msgspec is imported where a document is decoded.
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, TypeVar

from pycontain.errors import Conflict, InvalidState, NotFound, StoreError

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

_TEMPORARY = ".tmp-"
_CHUNK = 1 << 16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def store_error(step: str, path: str, err: OSError) -> StoreError:
    """Return the error of a failed `step` on `path`: ``step: path: reason``."""
    reason = (err.strerror or str(err)).lower()
    return StoreError(f"{step}: {path}: {reason}")


def make_folder(path: str, mode: int = 0o700) -> bool:
    """Make the folder `path` with exactly `mode`, whatever the umask; an existing one is kept.

    Returns:
        whether it was made by this call.

    Raises:
        StoreError: mkdir(2) failed, or `path` is there and is not a folder.
    """
    try:
        os.mkdir(path, mode)
        os.chmod(path, mode)
    except FileExistsError as err:
        if not os.path.isdir(path):
            raise StoreError(f"make folder: {path}: exists and is not a folder") from err
        return False
    except OSError as err:
        raise store_error("make folder", path, err) from err
    return True


def make_folders(path: str, mode: int = 0o700) -> None:
    """Make `path` and the folders above it that are missing (those with mode 0755).

    Raises:
        StoreError: mkdir(2) failed.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_folders(parent, 0o755)
    make_folder(path, mode)


def read(path: str) -> bytes:
    """Return the whole file `path`.

    Raises:
        NotFound: there is no such file.
        StoreError: it cannot be read.
    """
    # Not open(), which asks the file five things that nobody here wants to know: a listing reads
    # three small files of each container.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_all(fd)
        finally:
            os.close(fd)
    except FileNotFoundError as err:
        raise NotFound(f"read: {path}: no such file") from err
    except OSError as err:
        raise store_error("read", path, err) from err


def _read_all(fd: int) -> bytes:
    data = os.read(fd, _CHUNK)
    if len(data) < _CHUNK:  # of a regular file that is the end (read(2))
        return data
    parts = [data]
    while data := os.read(fd, _CHUNK):
        parts.append(data)
    return b"".join(parts)


def dump(obj: object) -> bytes:
    """Return `obj` (a msgspec.Struct or plain data) as JSON, ended by a newline."""
    import msgspec

    return msgspec.json.encode(obj) + b"\n"


_prepared: set[object] = set()
_preparing: dict[int, _thread.LockType] = {}


def prepare(type: object) -> None:  # noqa: A002 - the word that msgspec uses for it
    """Have msgspec learn a Struct type, once, while no other thread uses it.

    It does so when a type is first decoded, and lets other threads run in between: one that decodes
    the same type then follows null pointers (seen with msgspec 0.22).
    """
    if type in _prepared:
        return
    import msgspec

    # A lock for each process: one that is held at a fork stays held in the child.
    with _preparing.setdefault(os.getpid(), _thread.allocate_lock()):
        msgspec.json.Decoder(type)
        _prepared.add(type)


def decode(data: bytes | bytearray, type: type[T]) -> T:  # noqa: A002
    """Return a JSON document as a `type`; unknown fields are ignored. From any thread.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is none.
    """
    import msgspec

    prepare(type)
    return msgspec.json.decode(data, type=type)


def load(path: str, type: type[T]) -> T:  # noqa: A002 - the word that msgspec uses for it
    """Return the JSON document `path` as a `type`; unknown fields are ignored.

    Raises:
        NotFound: there is no such file.
        StoreError: it cannot be read, is no JSON or is not a `type`: says what and where.
    """
    import msgspec

    data = read(path)
    try:
        return decode(data, type)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        what = str(err)
        raise StoreError(f"read: {path}: damaged: {what[:1].lower()}{what[1:]}") from err


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace `path` by a file with `data` and exactly `mode`, or leave it as it was.

    Args:
        path: the file; its folder exists.
        data: the new content.
        mode: permission bits, untouched by the umask.
        durable: survive a power cut. False leaves out both fsyncs, for files that die with the
            boot or are made again: after a power cut such a file may be old, absent or empty.

    Raises:
        StoreError: naming path and reason; the temporary file is removed.
    """
    folder = os.path.dirname(path)
    temporary = _write_temporary(folder, path, data, mode, durable)
    try:
        os.rename(temporary, path)
        if durable:
            sync_folder(folder)
    except OSError as err:
        _discard(temporary)
        raise store_error("write", path, err) from err


def overwrite(path: str, data: bytes) -> None:
    """Write `data` in the place of what the file `path` has, where there is no room for another
    file. It is on disk when this returns; who is killed in between leaves it torn.

    Raises:
        StoreError: there is no such file, or even for that there is no room: it is as it was.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _make_room(fd, len(data))
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.ftruncate(fd, len(data))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as err:
        raise store_error("write", path, err) from err


def _make_room(fd: int, size: int) -> None:
    """See that a file can have so many bytes, or leave it as it was.

    posix_fallocate(3) reads, too, on file systems that have no fallocate(2).
    """
    info = os.fstat(fd)
    if size <= info.st_blocks * 512:  # stat(2), whatever the file system's own
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError:
        os.ftruncate(fd, info.st_size)
        raise


def write_new(path: str, data: bytes, mode: int = 0o600) -> None:
    """Make the file `path` with `data`, whole and on disk, if nobody has it yet.

    link(2) does not replace, so of many that try at once one succeeds.

    Raises:
        Conflict: `path` is there.
        StoreError: it cannot be made.
    """
    folder = os.path.dirname(path)
    temporary = _write_temporary(folder, path, data, mode, durable=True)
    try:
        os.link(temporary, path)
        sync_folder(folder)
    except FileExistsError as err:
        raise Conflict(f"write: {path}: already there") from err
    except OSError as err:
        raise store_error("write", path, err) from err
    finally:
        _discard(temporary)


def claim(path: str, word: str, *, durable: bool = True) -> None:
    """Make `path` say `word`, for ``read_word``, if nobody has it yet.

    Args:
        path: its folder exists.
        word: not empty, of a few hundred bytes at most.
        durable: survive a power cut; otherwise it may be gone after one, but is never damaged.

    Raises:
        Conflict: `path` is there.
        StoreError: it cannot be made.
    """
    try:
        os.symlink(word, path)
    except FileExistsError as err:
        raise Conflict(f"claim: {path}: already taken") from err
    except OSError as err:
        raise store_error("claim", path, err) from err
    if not durable:
        return
    try:
        sync_folder(os.path.dirname(path))
    except OSError as err:
        _discard(path)
        raise store_error("claim", path, err) from err


def write_word(path: str, word: str) -> None:
    """Replace `path` by one that says `word`, for ``read_word``.

    It is the target of a symbolic link, which nobody follows. That is metadata, written by the file
    system in one transaction with the name, where a file's content comes later: after a power cut
    there is the old word or the new one, without an fsync(2), and never a file of no content.

    Args:
        path: its folder exists.
        word: not empty, of a few hundred bytes at most.

    Raises:
        StoreError: it cannot be made.
    """
    temporary = _temporary(os.path.dirname(path))
    try:
        os.symlink(word, temporary)
        os.rename(temporary, path)
    except OSError as err:
        _discard(temporary)
        raise store_error("write", path, err) from err


def read_word(path: str) -> str:
    """Return what ``claim`` or ``write_word`` made `path` say; of a file its content.

    Raises:
        NotFound: there is nothing.
        StoreError: it cannot be read.
    """
    try:
        return os.readlink(path)
    except FileNotFoundError as err:
        raise NotFound(f"read: {path}: no such file") from err
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise store_error("read", path, err) from err
    return read(path).decode(errors="replace")


def sync_tree(path: str) -> None:
    """Write the folder `path` and all below to disk: files, names, attributes.

    `path` may be a link to it, as ``/proc/self/fd/N`` is.

    Raises:
        OSError: for the caller to name the step.
    """
    # os.fwalk by itself passes over a link in silence.
    top = os.open(path, _DIRECTORY)
    try:
        # Begun for all before any is waited for: else each file had a journal commit of its own.
        for begin in (True, False):
            for _, _, names, folder in os.fwalk(".", dir_fd=top):
                for name in names:
                    if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        _sync_file(name, folder, begin)
                if not begin:
                    os.fsync(folder)
    finally:
        os.close(top)


def _sync_file(name: str, folder: int, begin: bool) -> None:
    # A container that has the folder, too, may have put a pipe there since: no open of that waits.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=folder)
    try:
        if begin:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: str) -> bool:
    """Unlink the file `path`; a missing one is no error.

    Returns:
        whether there was one.

    Raises:
        StoreError: unlink(2) failed.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as err:
        raise store_error("remove", path, err) from err
    return True


def sync_folder(path: str) -> None:
    """Write the names in the folder `path` to disk, fsync(2).

    Raises:
        OSError: for the caller to name the step.
    """
    fd = os.open(path or ".", _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_temporary(name: str) -> bool:
    """Tell whether a file called `name` is an unfinished write: readers of a folder skip it."""
    return name.startswith(_TEMPORARY)


def sweep(folder: str) -> None:
    """Remove what killed writers left in `folder`.

    A temporary file whose writer lives is kept; a recycled pid only delays the removal.

    Raises:
        StoreError: the folder cannot be read or a file cannot be removed.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as err:
        raise store_error("sweep", folder, err) from err
    for name in names:
        if is_temporary(name) and not _writer_lives(name):
            remove(os.path.join(folder, name))


def _writer_lives(name: str) -> bool:
    pid = name[len(_TEMPORARY) :].partition("-")[0]
    return pid.isdecimal() and os.path.exists(f"/proc/{pid}")


def _temporary(folder: str) -> str:
    return os.path.join(folder, f"{_TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}")


def _write_temporary(folder: str, path: str, data: bytes, mode: int, durable: bool) -> str:
    temporary = _temporary(folder)
    try:
        fd = os.open(temporary, _NEW_FILE, 0o600)
    except OSError as err:
        raise store_error("write", path, err) from err
    try:
        try:
            _fill(fd, data, mode, durable)
        finally:
            os.close(fd)
    except BaseException as err:
        # KeyboardInterrupt too: an interrupted write leaves nothing.
        _discard(temporary)
        if isinstance(err, OSError):
            raise store_error("write", path, err) from err
        raise
    return temporary


def _fill(fd: int, data: bytes, mode: int, durable: bool) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.fchmod(fd, mode)
    if durable:
        os.fsync(fd)


def _discard(temporary: str) -> None:
    # The first error is the one to report; what cannot be unlinked now, sweep() finds later.
    try:
        os.unlink(temporary)
    except OSError:
        return


class Lock:
    """A flock(2) on a file of its own, held from ``with`` to its end or till the process dies.

    ::

        with Lock(path):
            ...
        lock = Lock(path)
        if lock.acquire(wait=False): ...; lock.release()

    The file is made when missing (mode 0600) and may be removed by whoever holds the lock: after
    each flock the path is looked up again, because a waiter may have got the lock of a file that
    has no name any more, while another process locks its successor.

    Raises:
        StoreError: the file cannot be made or locked.
    """

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self.path = path
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; return False when another holds it and `wait` is False.

        Raises:
            InvalidState: this object holds it already.
            StoreError: open(2) or flock(2) failed.
        """
        if self.held:
            raise InvalidState(f"lock: {self.path}: already held by this object")
        operation = self._operation if wait else self._operation | fcntl.LOCK_NB
        try:
            while True:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                if self._try(fd, operation):
                    self._fd = fd
                    return True
        except BlockingIOError:
            return False
        except OSError as err:
            raise store_error("lock", self.path, err) from err

    def _try(self, fd: int, operation: int) -> bool:
        keep = False
        try:
            fcntl.flock(fd, operation)
            keep = self._is_current(fd)
        finally:
            if not keep:
                os.close(fd)
        return keep

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def fileno(self) -> int:
        """Return the descriptor, -1 when not held. A child that inherits it shares the lock."""
        return self._fd

    def release(self) -> None:
        """Let the lock go; without effect when it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def set_aside(path: str, aside: str) -> bool:
    """Rename what is to be removed, in one step; whoever finds it under that name may finish.

    Returns:
        whether there was anything.

    Raises:
        StoreError: it cannot be renamed.
    """
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    except OSError as err:
        raise store_error("remove", path, err) from err
    return True


def remove_tree(path: str) -> bool:
    """Remove `path` and all below; a missing one is no error. May be killed and called again.

    Depth costs neither stack nor descriptors, since a container can make trees as deep as it likes:
    a folder that is not empty is first renamed to the top. That also never enters a mount, because
    rename(2) refuses a mount point (EBUSY). Folders without permission bits are opened up first.
    Other users' processes must not be able to write in the tree meanwhile.

    Returns:
        whether there was anything.

    Raises:
        StoreError: naming path and reason; what could be removed before is gone.
    """
    try:
        info = os.lstat(path)
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(path)
            return True
        top = _open_folder(path, None)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path)
    except FileNotFoundError:
        return False
    except OSError as err:
        raise _removal_error(path, err) from err
    return True


def _removal_error(path: str, err: OSError) -> StoreError:
    inner = err.filename if isinstance(err.filename, str) and err.filename != path else None
    return store_error("remove tree", f"{path}: {inner}" if inner else path, err)


def _open_folder(name: str, dir_fd: int | None) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)


def _empty(top: int) -> None:
    counter = 0
    waiting = _clear(top, top, counter)
    while waiting:
        counter += len(waiting)
        name = waiting.pop()
        fd = _open_folder(name, top)
        try:
            waiting += _clear(fd, top, counter)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _clear(fd: int, top: int, counter: int) -> list[str]:
    """Unlink all in `fd` but filled folders; return the names that those now have in `top`."""
    os.fchmod(fd, 0o700)
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    moved: list[str] = []
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=fd)
        elif not _rmdir(name, fd):
            moved.append(name if fd == top else _move_up(name, fd, top, counter + len(moved)))
    return moved


def _rmdir(name: str, dir_fd: int) -> bool:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError as err:
        if err.errno not in _NOT_EMPTY:
            raise
        return False
    return True


def _move_up(name: str, fd: int, top: int, number: int) -> str:
    # A folder that changes its parent has its ".." rewritten, for which it must be writable.
    os.chmod(name, 0o700, dir_fd=fd)
    while True:
        target = f".gone-{number}"
        try:
            os.rename(name, target, src_dir_fd=fd, dst_dir_fd=top)
        except OSError as err:
            if err.errno not in _TAKEN:
                raise
            number += 1
        else:
            return target
