"""Opening paths that somebody else controls (openat2(2))."""

from __future__ import annotations

import errno
import os
import stat

from pycontain._native._kernel import ffi, lib

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
_TRIES = 64
# None of these lets an open of what is no ordinary file wait, or become our terminal.
_CAREFUL = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as if `root_fd` were ``/``: no symbolic link and no ``..`` leads out of it.

    Returns:
        A descriptor, closed on exec.

    Raises:
        OSError: openat2(2)'s, with the path.
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    for _ in range(_TRIES):
        fd: int = lib.openat2(root_fd, os.fsencode(path), flags, mode, resolve)
        if fd >= 0:
            return fd
        # EAGAIN: something was renamed meanwhile and the kernel cannot rule out an escape.
        if ffi.errno != errno.EAGAIN:
            break
    raise OSError(ffi.errno, os.strerror(ffi.errno), path)


def is_mount_point(folder_fd: int, name: str) -> bool:
    """Whether something is mounted at `name` in an open folder, in whichever mount namespace.

    The namespace is the one that the descriptor was opened in. rename(2) and unlink(2) refuse a
    mount point of the caller's own namespace only: of another's they take the mount away.
    """
    flags = os.O_PATH | os.O_NOFOLLOW
    fd: int = lib.openat2(folder_fd, os.fsencode(name), flags, 0, RESOLVE_NO_XDEV)
    if fd >= 0:
        os.close(fd)
    return fd < 0 and ffi.errno == errno.EXDEV


def as_path(fd: int) -> str:
    """Return a path that leads to the inode of a descriptor, whatever its name is by now (proc(5)).

    For a link that was looked at it is the link itself.
    """
    return f"/proc/self/fd/{fd}"


def reopen(fd: int, flags: int) -> int:
    """Open the regular file of an O_PATH descriptor.

    Raises:
        OSError: EINVAL where it is no regular file; open(2)'s.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    opened = os.open(as_path(fd), flags | _CAREFUL)
    os.set_blocking(opened, True)
    return opened
