"""Being told when files of a folder change (inotify(7))."""

from __future__ import annotations

import errno
import os
import struct

from pycontain._native._kernel import ffi, lib
from pycontain.errors import kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.errors import KernelError

# inotify_init1(2), inotify_add_watch(2)
_HINTS = {
    errno.EMFILE: "the limit of open files is reached, or fs.inotify.max_user_instances",
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
}


_EVENT = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, length of the name
_LOST = -1  # the watch of IN_Q_OVERFLOW: there were too many events


class FolderWatch:
    """Its descriptor is readable once a file of the folder was written, made, renamed or removed.

    Args:
        path: of the folder.

    Raises:
        KernelError: there is no such folder, or the user's number of watches is reached.
    """

    __slots__ = ("_fd", "_paths")

    def __init__(self, path: str) -> None:
        self._paths: dict[int, str] = {}
        self._fd: int = lib.watch_start()
        if self._fd < 0:
            raise _error(path)
        try:
            self.add(path)
        except BaseException:
            self.close()
            raise

    def add(self, path: str) -> None:
        """Watch one more folder.

        Raises:
            KernelError: as for the first one.
        """
        watch: int = lib.watch_folder(self._fd, os.fsencode(path))
        if watch < 0:
            raise _error(path)
        self._paths[watch] = path

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""
        return self._fd

    def clear(self) -> set[str]:
        """Forget the changes until now, and return the folders in which they were: look at the
        files after this, not before.
        """
        found: set[str] = set()
        try:
            while events := os.read(self._fd, 65536):
                found |= self._changed(events)
        except BlockingIOError:
            pass
        return found

    def _changed(self, events: bytes) -> set[str]:
        watches = set()
        offset = 0
        while offset < len(events):
            watch, _, _, length = _EVENT.unpack_from(events, offset)
            watches.add(watch)
            offset += _EVENT.size + length
        if _LOST in watches:
            return {*self._paths.values()}
        return {self._paths[watch] for watch in watches}

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _error(path: str) -> KernelError:
    return kernel_error("watch", path, ffi.errno, _HINTS.get(ffi.errno))
