"""Starting a plan under a monitor: opens what the plan names, hands it over, hears what came of it.

Knows processes, cgroups and descriptors; no image, no container's document.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

from pycontain import trace
from pycontain.errors import (
    CommandNotFound,
    KernelError,
    NotExecutable,
    PycontainError,
    kernel_error,
)
from pycontain.kernel import mount, process
from pycontain.runtime import steps as wire
from pycontain.runtime.attachment import Attachment, StartFailure
from pycontain.runtime.steps import Handle, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OWNER = Handle("given", "owner")
TRACE = Handle("given", "trace")
NATIVE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_native")

_HINTS = {
    ("clone", errno.EPERM): "run as root, or enable user namespaces",
    ("rlimit", errno.EPERM): "the limit is above this process's hard limit, and CAP_SYS_RESOURCE"
    " is missing",
    ("oom_score", errno.EACCES): "lowering it needs CAP_SYS_RESOURCE",
    ("devices", errno.EPERM): "loading BPF programs needs CAP_BPF or CAP_SYS_ADMIN",
    ("session", errno.EDQUOT): "the user has too many keys: see sysctl kernel.keys.maxkeys",
    ("bind", errno.ENOTDIR): "are you mounting a folder onto a file, or a file onto a folder?",
}


class Monitor:
    """A monitor that was started.

    Attributes:
        pid: the container's process, as the host sees it.
        attachment: the connection to the monitor.
    """

    def __init__(self, pidfd: int, connection: socket.socket) -> None:
        self.pidfd = pidfd
        self.pid = 0
        self.attachment = Attachment(connection, owner=True)

    def close(self) -> None:
        """Let go of the monitor; it goes on."""
        os.close(self.pidfd)


def open_native(name: str) -> int:
    """Return the program `name` of the native folder, open on a read-only mount of its own.

    What a container can reach of the process that started it (``/proc/PID/exe``) then cannot be
    written through, whoever owns the file. Where no mount can be made, a sealed copy in memory.

    Raises:
        KernelError: the program is missing.
    """
    path = f"{NATIVE}/{name}"
    try:
        folder = mount.clone_tree(NATIVE, recursive=False)
    except KernelError as err:
        if err.errno not in (errno.EPERM, errno.EINVAL, errno.ENOSYS):
            raise
        return _sealed_copy(path, name)
    try:
        mount.set_attributes(folder, mount.ATTR_RDONLY | mount.ATTR_NODEV)
        return os.open(name, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as err:
        raise kernel_error("open", path, err.errno or 0) from err
    finally:
        os.close(folder)


def _sealed_copy(path: str, name: str) -> int:
    import fcntl

    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as file:
        data = memoryview(file.read())
    while data:
        data = data[os.write(fd, data) :]
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def start(
    plan: Sequence[Step],
    given: Mapping[Handle, int],
    *,
    title: str,
    cgroup: int = -1,
    opened: Callable[[], None] | None = None,
) -> Monitor:
    """Start a monitor that carries `plan` out, and wait until its process runs.

    Args:
        plan: settings and steps; it may name ``OWNER``, the monitor's end of the connection.
        given: descriptors of the ``given`` handles; they stay the caller's.
        title: the monitor's argv[0], seen in ps(1).
        cgroup: folder that the monitor starts in.
        opened: called when everything is open, right before the monitor starts.

    Raises:
        CommandNotFound, NotExecutable: the program.
        KernelError: another step.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    durations = Durations() if trace.enabled() else None
    if durations:
        plan = [Step("trace", TRACE), *plan]
        given = {**given, TRACE: durations.writer}
    try:
        with trace.Span("start the monitor"):
            pidfd = _spawn(plan, {**given, OWNER: theirs.fileno()}, title, cgroup, opened)
        theirs.close()
        monitor = Monitor(pidfd, ours)
        try:
            with trace.Span("carry the plan out"):
                monitor.pid = monitor.attachment.wait_ready()
        except BaseException:
            monitor.close()
            raise
    except StartFailure as failure:
        ours.close()
        raise _explain(plan, failure) from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if durations:
            durations.report(plan)
    return monitor


class Durations:
    """The pipe through which the executor says how long each step took."""

    _ENTRY = struct.Struct("=IIQ")

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def report(self, plan: Sequence[Step]) -> None:
        """Give what came to the trace, and close the pipe."""
        try:
            data = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            data = b""
        os.close(self._reader)
        os.close(self.writer)
        for step, _, nanoseconds in self._ENTRY.iter_unpack(data):
            trace.report(f"  {plan[step].text}", nanoseconds / 1e9)


def _spawn(
    plan: Sequence[Step],
    given: Mapping[Handle, int],
    title: str,
    cgroup: int,
    opened: Callable[[], None] | None,
) -> int:
    """Open what the plan names and start a monitor with it; return its pidfd."""
    own: list[int] = []
    try:
        wanted = wire.handles(plan)
        fds = [_open(handle, given, own) for handle in wanted]
        plan_file = _plan_file(wire.encode(plan, wire.indexes(wanted), len(fds)))
        own.append(plan_file)
        program = open_native("monitor")
        own.append(program)
        if opened:
            opened()
        return process.spawn(program, [title], [plan_file, *fds], cgroup)[1]
    finally:
        for fd in own:
            os.close(fd)


def _open(handle: Handle, given: Mapping[Handle, int], own: list[int]) -> int:
    if handle.kind == "given":
        return given[handle]
    own.append(_open_handle(handle))
    return own[-1]


def _open_handle(handle: Handle) -> int:
    if handle.kind in ("tree", "branch"):
        return mount.clone_tree(handle.name, recursive=handle.kind == "tree")
    try:
        return os.open(handle.name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error("open namespace", handle.name, err.errno or 0) from err


def _plan_file(data: bytes) -> int:
    fd = os.memfd_create("plan", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _explain(plan: Sequence[Step], failure: StartFailure) -> PycontainError:
    if failure.step is None and failure.errno == errno.ECHILD:
        return PycontainError("start: the container's process was killed before it ran")
    if failure.step is None:
        return kernel_error("start", "monitor", failure.errno)
    step = plan[failure.step]
    if step.name == "exec":
        return _explain_exec(step, failure.errno)
    hint = _HINTS.get((step.name, failure.errno))
    return kernel_error(step.text or step.name, failure.subject, failure.errno, hint)


def _explain_exec(step: Step, number: int) -> PycontainError:
    args = step.args[0]
    assert isinstance(args, tuple)
    program = args[0]
    if number == errno.ENOENT:
        if "/" in program:
            return CommandNotFound(f"exec: {program!r}: no such file or directory")
        return CommandNotFound(f"exec: {program!r}: executable file not found in $PATH")
    return NotExecutable(f"exec: {program!r}: {os.strerror(number).lower()}")
