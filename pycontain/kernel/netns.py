"""Being in another network namespace for a moment (network_namespaces(7)).

A network namespace belongs to a thread, not to a process (setns(2)). So a thread of its own enters
it and ends there: nobody has to come back, for which the rights may be missing. What the thread
does is done there: its sockets, what it reads and writes in /proc/sys/net, and the programs that it
starts.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread

from pycontain._native._kernel import ffi, lib
from pycontain.errors import kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


def is_current(fd: int) -> bool:
    """Whether the calling thread is in the network namespace that `fd` is open on.

    Args:
        fd: of a namespace's file; an O_PATH one will do.
    """
    own, other = os.stat("/proc/thread-self/ns/net"), os.fstat(fd)
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)


def within(fd: int, act: Callable[[], T]) -> T:
    """Carry `act` out in a network namespace, and return what it returns.

    It is carried out to its end, also where the caller is interrupted meanwhile.

    Args:
        fd: the namespace's.
        act: called in a thread of its own.

    Raises:
        KernelError: the namespace cannot be entered.
        BaseException: what `act` raises.
    """
    values: list[T] = []
    failures: list[BaseException] = []
    ended = allocate_lock()
    ended.acquire()

    def visit() -> None:
        try:
            _enter(fd)
            values.append(act())
        except BaseException as err:  # noqa: BLE001 - raised again by the caller's thread
            failures.append(err)
        finally:
            ended.release()

    start_new_thread(visit, ())
    _wait(ended.acquire)
    if failures:
        raise failures.pop()
    return values[0]


def _enter(fd: int) -> None:
    if lib.enter(fd, _CLONE_NEWNET) < 0:
        raise kernel_error("enter network namespace", "", ffi.errno)


def _wait(acquire: Callable[[], bool]) -> None:
    """Wait for a lock; an interrupt is raised once it is there."""
    interrupt: BaseException | None = None
    while True:
        try:
            acquire()
            break
        except KeyboardInterrupt as err:
            interrupt = err
    if interrupt is not None:
        raise interrupt
