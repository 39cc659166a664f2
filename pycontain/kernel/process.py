"""Processes by identity: a pid alone may be recycled; with boot and start time it names one."""

from __future__ import annotations

import os
import signal as signals
from typing import TYPE_CHECKING

from pycontain._native._kernel import ffi, lib
from pycontain.errors import kernel_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_boot: str | None = None


def boot_id() -> str:
    """Return the kernel's id of this boot (proc_sys_kernel(5), random/boot_id)."""
    global _boot
    if _boot is None:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot = file.read().strip()
    return _boot


def start_time(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None when there is no such process.

    Field 22 of proc_pid_stat(5). A zombie has ended: None.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in brackets and may hold anything: count from the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def open_process(pid: int, start: int) -> int | None:
    """Return a pidfd of the process `pid` that started at `start`, None when it has ended.

    Raises:
        KernelError: the kernel refuses for another reason.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as err:
        raise kernel_error("open process", str(pid), err.errno or 0) from err
    # Checked after the open: from here on the descriptor cannot come to mean another process.
    if start_time(pid) == start:
        return pidfd
    os.close(pidfd)
    return None


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal; False when the process has ended.

    Raises:
        KernelError: the caller may not.
    """
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as err:
        raise kernel_error("signal", str(number), err.errno or 0) from err
    return True


def spawn(program: int, argv: Sequence[str], fds: Sequence[int], cgroup: int) -> tuple[int, int]:
    """Start the program open at descriptor `program`, detached from the caller.

    It gets `fds` as 3, 4, … and nothing else of the caller, starts in the cgroup folder `cgroup`
    (-1: the caller's), and is not the caller's child.

    Returns:
        Its pid, and a pidfd.

    Raises:
        KernelError: it could not be started.
    """
    words = [ffi.new("char[]", os.fsencode(word)) for word in argv]
    pidfd = ffi.new("int *")
    pid: int = lib.spawn(
        program, ffi.new("char *[]", [*words, ffi.NULL]), ffi.new("int[]", fds), len(fds), cgroup,
        pidfd,
    )  # fmt: skip
    if pid < 0:
        raise kernel_error("start", argv[0], ffi.errno)
    return pid, pidfd[0]


def enter(fd: int, types: int) -> None:
    """setns(2) for the whole process; only for a face's first line, single-threaded.

    Raises:
        KernelError: the caller may not.
    """
    if lib.enter(fd, types) < 0:
        raise kernel_error("enter namespaces", "", ffi.errno)
