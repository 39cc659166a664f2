"""Handing a plan over to a program of ours: opens what it names, starts the program, and puts what
comes back into words. What the program is, and who listens to it, its callers know.
"""

from __future__ import annotations

import errno
import os
import struct

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
from pycontain.runtime.steps import Handle, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OWNER = Handle("given", "owner")
TRACE = Handle("given", "trace")
NATIVE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_native")

_NULL = (
    "files are hidden by the container's /dev/null: a volume or a mount on /dev has to bring that"
    " device"
)
_HINTS = {
    ("clone", errno.EPERM): "run as root, or enable user namespaces",
    ("clone", errno.EAGAIN): "a limit of tasks is reached: the cgroup's pids.max, one of a cgroup"
    " above, or the user's",
    ("clone", errno.EBUSY): "the cgroup hands controllers down, so no process may be in it itself",
    ("rlimit", errno.EPERM): "the limit is above this process's hard limit, and CAP_SYS_RESOURCE"
    " is missing",
    ("oom_score", errno.EACCES): "lowering it needs CAP_SYS_RESOURCE",
    ("devices", errno.EPERM): "loading BPF programs needs CAP_BPF or CAP_SYS_ADMIN",
    ("session", errno.EDQUOT): "the user has too many keys: see sysctl kernel.keys.maxkeys",
    ("apparmor", errno.ENOENT): "is the profile loaded, and AppArmor enabled? see aa-status(8)",
    ("mask", errno.ENOENT): _NULL,
    ("mask", errno.ENODEV): _NULL,
    ("bind", errno.ENOTDIR): "are you mounting a folder onto a file, or a file onto a folder?",
}


class StartFailure(Exception):
    """The report that a step failed: its index in the plan (None: outside it), errno."""

    def __init__(self, step: int | None, errno: int, subject: str) -> None:
        super().__init__(step, errno, subject)
        self.step = step
        self.errno = errno
        self.subject = subject


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


def spawn(
    program: str,
    plan: Sequence[Step],
    given: Mapping[Handle, int],
    title: str,
    *,
    cgroup: int = -1,
    child: bool = False,
    opened: Callable[[], None] | None = None,
    network: int = -1,
) -> tuple[int, int]:
    """Open what `plan` names and start the native program `program` with it.

    Args:
        program: of the native folder.
        plan: the steps.
        given: descriptors of the ``given`` handles; they stay the caller's.
        title: the program's argv[0], seen in ps(1).
        cgroup: folder that it starts in, -1 for the caller's.
        child: it is the caller's child; else nobody's that the caller could meet in wait(2).
        opened: called when everything is open, right before the start.
        network: namespace that it starts in, -1 for the caller's.

    Returns:
        Its pid, and a pidfd.

    Raises:
        KernelError: something cannot be opened or started.
    """
    own: list[int] = []
    try:
        wanted = wire.handles(plan)
        fds = [_open(handle, given, own) for handle in wanted]
        plan_file = _plan_file(wire.encode(plan, wire.indexes(wanted), len(fds)))
        own.append(plan_file)
        executable = open_native(program)
        own.append(executable)
        if opened:
            opened()
        return process.spawn(
            executable, [title], [plan_file, *fds], cgroup, child=child, network=network
        )
    finally:
        for fd in own:
            os.close(fd)


def _open(handle: Handle, given: Mapping[Handle, int], own: list[int]) -> int:
    if handle.kind == "given":
        return given[handle]
    own.append(_open_handle(handle, given))
    return own[-1]


def _open_handle(handle: Handle, given: Mapping[Handle, int]) -> int:
    if handle.kind in ("tree", "branch"):
        fd = mount.clone_tree(handle.name, recursive=handle.kind == "tree")
        if handle.options:
            _map_owners(fd, handle)
        return fd
    if handle.kind == "copy_up":
        from pycontain.runtime import copy_up

        return copy_up.tmpfs(given[_ROOT], handle.name, handle.options)
    return open_namespace(handle.name)


def open_namespace(path: str) -> int:
    """Return a descriptor of a namespace's file (namespaces(7)).

    Raises:
        KernelError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error("open namespace", path, err.errno or 0) from err


def copy_mount(pid: int, path: str) -> int:
    """Return a detached copy of the mount that a process has at `path`: /dev/shm goes with an ipc
    namespace that is joined. A mount is copied by who is in its namespace (open_tree(2)).

    Raises:
        KernelError: its mount namespace cannot be entered, or has no such mount.
    """
    namespace = open_namespace(f"/proc/{pid}/ns/mnt")
    try:
        return mount.clone_tree_within(namespace, path)
    finally:
        os.close(namespace)


_ROOT = Handle("given", "root")


def _map_owners(fd: int, handle: Handle) -> None:
    uids, gids, recursive = handle.options
    try:
        namespace = process.user_namespace(uids, gids)
        try:
            mount.map_owners(fd, namespace, recursive=bool(recursive))
        finally:
            os.close(namespace)
    except KernelError as err:
        os.close(fd)
        raise kernel_error("map the owners of", handle.name, err.errno, err.hint) from err


def _plan_file(data: bytes) -> int:
    fd = os.memfd_create("plan", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def explain(step: Step | None, failure: StartFailure) -> PycontainError:
    """Return the error for a failed step; None: it was none of the plan's."""
    if step is None:
        if failure.errno == errno.ECHILD:
            return PycontainError("start: the container's process was killed before it ran")
        return kernel_error("start", "executor", failure.errno)
    if step.name in ("exec", "lookup"):
        return _explain_program(step, failure.errno)
    if step.name == "hook" and failure.errno == errno.ECANCELED:
        return PycontainError(f"{step.text}: {failure.subject}")
    hint = _HINTS.get((step.name, failure.errno))
    return kernel_error(step.text or step.name, failure.subject, failure.errno, hint)


def failed_step(plan: Sequence[Step], failure: StartFailure) -> Step | None:
    """Return the step of `plan` that a failure is about."""
    return None if failure.step is None else plan[failure.step]


def _explain_program(step: Step, number: int) -> PycontainError:
    program = step.text.removeprefix("execute ").removeprefix("find ")
    if number == errno.ENOENT:
        if "/" in program:
            return CommandNotFound(f"exec: {program!r}: no such file or directory")
        return CommandNotFound(f"exec: {program!r}: executable file not found in $PATH")
    return NotExecutable(f"exec: {program!r}: {os.strerror(number).lower()}")
