"""Processes by identity: a pid alone may be recycled; with boot and start time it names one."""

from __future__ import annotations

import errno
import os

from pycontain._native._kernel import ffi, lib
from pycontain.errors import kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_STAT = 4096  # some fifty numbers and a name; the kernel gives it in one read
_NO_PROCESS = (errno.EINVAL, errno.ENOENT)  # a thread that leads none; ENOENT since Linux 6.15
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
    fields = _fields(pid)
    return None if fields is None else int(fields[19])


def _fields(pid: int) -> list[bytes] | None:
    """The fields of proc_pid_stat(5) from the third on; None for one that has ended."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        text = os.read(fd, _STAT)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The second field is the name in brackets and may hold anything: count from the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else fields


def family(leader: int, start: int) -> dict[int, int]:
    """Return a process that has begun a session, all of that session, and all their descendants.

    Args:
        leader: its pid, the session's id too (setsid(2)).
        start: when it started; where that is another process by now, there is no family.

    Returns:
        pid → start time.
    """
    seen = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _fields(int(name))) is not None:
            # Fields 4, 6 and 22 of proc_pid_stat(5): parent, session, start time.
            seen[int(name)] = (int(fields[1]), int(fields[3]), int(fields[19]))
    if leader not in seen or seen[leader][2] != start:
        return {}
    found = {pid for pid, (_, session, _) in seen.items() if pid == leader or session == leader}
    while new := {pid for pid in seen.keys() - found if seen[pid][0] in found}:
        found |= new
    return {pid: seen[pid][2] for pid in found}


def open_process(pid: int, start: int) -> int | None:
    """Return a pidfd of the process `pid` that started at `start`, None when it has ended.

    Its number may be a thread's by now, of which there is no pidfd (pidfd_open(2)).

    Raises:
        KernelError: the kernel refuses for another reason.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as err:
        if err.errno in _NO_PROCESS:
            return None
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
    if lib.pidfd_send_signal(pidfd, number) == 0:
        return True
    if ffi.errno == errno.ESRCH:
        return False
    raise kernel_error("signal", str(number), ffi.errno)


def spawn(
    program: int,
    argv: Sequence[str],
    fds: Sequence[int],
    cgroup: int,
    *,
    child: bool = False,
    network: int = -1,
) -> tuple[int, int]:
    """Start the program open at descriptor `program`.

    It gets `fds` as 3, 4, … and nothing else of the caller, and starts in the cgroup folder
    `cgroup` and the network namespace `network` (-1: the caller's). Where it is not to be the
    caller's `child`, it is nobody's that the caller could meet in wait(2).

    Returns:
        Its pid, and a pidfd.

    Raises:
        KernelError: it could not be started.
    """
    if network >= 0:
        from pycontain.kernel import netns

        return netns.within(network, lambda: spawn(program, argv, fds, cgroup, child=child))
    words = [ffi.new("char[]", os.fsencode(word)) for word in argv]
    pidfd = ffi.new("int *")
    pid: int = lib.spawn(
        program, ffi.new("char *[]", [*words, ffi.NULL]), ffi.new("int[]", fds), len(fds), cgroup,
        child, pidfd,
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


def user_namespace(uids: str, gids: str) -> int:
    """Return a descriptor of a new user namespace with these maps (user_namespaces(7)).

    Nobody lives in it: it serves to say how owners are mapped (mount_setattr(2), MOUNT_ATTR_IDMAP).

    Raises:
        KernelError: the kernel refuses the namespace or a map.
    """
    pidfd = ffi.new("int *")
    pid: int = lib.idle_in_user_namespace(pidfd)
    if pid < 0:
        raise kernel_error("make user namespace", "", ffi.errno)
    try:
        for name, text in (("uid_map", uids), ("gid_map", gids)):
            with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                file.write(text.encode())
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error("make user namespace", "write the id maps", err.errno or 0) from err
    finally:
        lib.pidfd_send_signal(pidfd[0], 9)
        os.close(pidfd[0])
        # It has no exit signal: only __WALL finds it, which the extension knows.
        lib.reap(pid)


def become_subreaper() -> None:
    """Make this process the parent of its descendants' orphans; only for a face (prctl(2)).

    Raises:
        KernelError: the kernel refuses.
    """
    if lib.set_subreaper() < 0:
        raise kernel_error("become subreaper", "", ffi.errno)


def set_title(title: str) -> None:
    """Show `title` as this process's arguments, in ps(1); cut to their length. Only for a face.

    What /proc/PID/cmdline shows is the memory that execve(2) put them in, fields 48 and 49 of
    proc_pid_stat(5).
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    if begin and end > begin:
        data = os.fsencode(title)[: end - begin - 1]
        ffi.memmove(ffi.cast("char *", begin), data.ljust(end - begin, b"\0"), end - begin)
