"""Being told when files of a folder change (inotify(7))."""

from __future__ import annotations

import errno
import os

from pycontain._native._kernel import ffi, lib
from pycontain.errors import kernel_error

# inotify_init1(2), inotify_add_watch(2)
_HINTS = {
    errno.EMFILE: "the limit of open files is reached, or fs.inotify.max_user_instances",
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
}


class FolderWatch:
    """Its descriptor is readable once a file of the folder was written, made or renamed.

    Args:
        path: of the folder.

    Raises:
        KernelError: there is no such folder, or the user's number of watches is reached.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        self._fd: int = lib.watch_folder(os.fsencode(path))
        if self._fd < 0:
            raise kernel_error("watch", path, ffi.errno, _HINTS.get(ffi.errno))

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""
        return self._fd

    def clear(self) -> None:
        """Forget the changes until now: look at the files after this, not before."""
        try:
            while os.read(self._fd, 65536):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
