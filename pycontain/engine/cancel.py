"""Ending a wait from another thread."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from pycontain.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 86_400_000.0  # milliseconds of one wait: poll(2) takes an int of them, 24.8 days


class Cancel:
    """Says to whoever waits that nobody needs the answer any more.

    Usable from any thread; ``fileno`` is readable from ``set`` on (eventfd(2)).
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""
        return self._fd

    def set(self) -> None:
        """Cancel, for ever."""
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Give the descriptor back; nobody may wait with it any more."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class ProcessEnd(Cancel):
    """Says to whoever waits that a process has ended (pidfd_open(2)).

    Args:
        pidfd: of the process; it stays the caller's.
    """

    def __init__(self, pidfd: int) -> None:
        self._fd = os.dup(pidfd)


class Deadline:
    """The end of a time, on the monotonic clock.

    Args:
        timeout: seconds from now; None for no end.
    """

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Return the milliseconds that are left, as poll(2) wants them; None for no end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic()) * 1000

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return self._end is not None and time.monotonic() >= self._end


def wait_readable(
    fds: Sequence[int], timeout: float | None, cancel: Cancel | None = None
) -> list[int]:
    """Wait until one of `fds` can be read; return those that can, none when the time is over.

    Args:
        fds: descriptors; none of them is a way to sleep.
        timeout: milliseconds, None for ever.
        cancel: ends the wait.

    Raises:
        Cancelled: by `cancel`.
    """
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    if cancel is not None:
        poller.register(cancel, select.POLLIN)
    ready = [fd for fd, _ in _polled(poller, timeout)]
    if cancel is not None and cancel.fileno() in ready:
        raise Cancelled
    return ready


def _polled(poller: select.poll, timeout: float | None) -> list[tuple[int, int]]:
    while timeout is not None and timeout > _LONGEST:
        if found := poller.poll(_LONGEST):
            return found
        timeout -= _LONGEST
    return poller.poll(timeout)
