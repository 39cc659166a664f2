"""cgroup v2 by descriptors: folders are made, killed and removed relative to the root's."""

from __future__ import annotations

import errno
import os
import time

from pycontain.errors import KernelError, NotSupported, kernel_error
from pycontain.kernel import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SIGKILL = 9
_V1_NAMES = {"io": "blkio"}
_LIFTED = (("cpu.max", "max"), ("cpu.idle", "0"), ("cpu.weight", "10000"))
_PATIENCE = 30.0  # seconds for a killed process to leave its cgroup: a host may be busy


def mount_points(mounts: str = "/proc/self/mountinfo") -> list[str]:
    """Return where cgroup2 is mounted (unified, or beside cgroup v1), the newest mount first."""
    found = []
    with open(mounts, "rb") as file:
        for line in file:
            head, _, tail = line.partition(b" - ")
            if tail.startswith(b"cgroup2 "):
                # Spaces and the like in mount points are octal escapes (proc_pid_mountinfo(5)).
                place = head.split(b" ")[4]
                if b"\\" not in place:
                    found.append(os.fsdecode(place))
                    continue
                found.append(os.fsdecode(place.decode("unicode_escape").encode("latin-1")))
    return found[::-1]


def open_root() -> int:
    """Return a descriptor of the root of the cgroup2 hierarchy.

    Where it is mounted nowhere, a detached mount of its own serves.

    Raises:
        KernelError: there is none and none can be mounted.
    """
    for place in mount_points():
        try:
            fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue  # another mount covers it
        try:
            os.stat("cgroup.controllers", dir_fd=fd)
        except OSError:
            os.close(fd)
        else:
            return fd
    return mount.new_mount("cgroup2", ())


def options(mounts: str = "/proc/self/mountinfo") -> list[str]:
    """Return the options of the cgroup2 hierarchy (cgroup-v2.rst, "Mounting"), none where it is
    not mounted.
    """
    with open(mounts, "rb") as file:
        for line in file:
            kind, _, rest = line.partition(b" - ")[2].partition(b" ")
            if kind == b"cgroup2":
                words = rest.split()[-1].decode().split(",")
                return [word for word in words if word not in ("rw", "ro")]
    return []


def set_options(wanted: Sequence[str]) -> None:
    """Give the cgroup2 hierarchy the options that it had, where they are others by now.

    They are the hierarchy's, not a mount's: whoever mounts it in the first cgroup namespace, like
    criu, changes them for everybody.

    Raises:
        KernelError: the caller may not.
    """
    if options() != wanted:
        os.close(mount.new_mount("cgroup2", [(word, None) for word in wanted]))


def make(parent: int, name: str) -> int:
    """Make the cgroup `name` (a path below `parent`) with those above it; return its descriptor.

    Raises:
        KernelError: the caller may not, or the kernel's limits are reached.
    """
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        try:
            os.mkdir("/".join(parts[:count]), 0o755, dir_fd=parent)
        except FileExistsError:
            continue
        except OSError as err:
            raise kernel_error("make cgroup", name, err.errno or 0) from err
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


def open_folder(parent: int, name: str) -> int:
    """Return a descriptor of the cgroup `name` (a path below `parent`).

    Raises:
        OSError: there is none, or the caller may not.
    """
    return os.open(name, _FOLDER, dir_fd=parent)


def place_of(pid: int) -> str:
    """Return the path of a process's cgroup in cgroup v2 (cgroups(7), /proc/PID/cgroup).

    Raises:
        KernelError: there is no such process.
    """
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    except OSError as err:
        raise kernel_error("read the cgroup of process", str(pid), err.errno or 0) from err


def open_beside(root: int, path: str, pid: int) -> int:
    """Return a descriptor of the cgroup where one more process of a container can be.

    That is the container's, unless somebody in it hands controllers down: then no process may be in
    it (cgroup-v2.rst, "No Internal Process Constraint"), and it is the one below where `pid` is.

    Args:
        root: of the hierarchy.
        path: of the container's cgroup.
        pid: of its init.

    Raises:
        OSError: there is none, or the caller may not.
        KernelError: there is no such process.
    """
    folder = open_folder(root, path.strip("/"))
    if not (read(folder, "cgroup.subtree_control") or "").strip():
        return folder
    try:
        place = place_of(pid).strip("/")
        if place.startswith(path.strip("/") + "/"):
            folder, outer = open_folder(root, place), folder
            os.close(outer)
    except BaseException:
        os.close(folder)
        raise
    return folder


def ancestors(folder: int) -> list[int]:
    """Return descriptors of the cgroups above `folder`, the hierarchy's root first.

    Raises:
        KernelError: the caller may not open one of them, or `folder` is below another root.
    """
    root = open_root()
    above: list[int] = []
    try:
        end = os.fstat(root)
        here = os.fstat(folder)
        while not os.path.samestat(here, end):
            above.insert(0, open_folder(above[0] if above else folder, ".."))
            here = os.fstat(above[0])
            if here.st_dev != end.st_dev:  # the mount's root was not ours
                raise kernel_error("open cgroup", "the root above it", errno.EXDEV)
    except OSError as err:
        _close(above)
        raise kernel_error("open cgroup", "..", err.errno or 0) from err
    except KernelError:
        _close(above)
        raise
    finally:
        os.close(root)
    return above


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def exists(folder: int, file: str) -> bool:
    """Return whether a cgroup has the control file."""
    return os.access(file, os.F_OK, dir_fd=folder)


def read(folder: int, file: str) -> str | None:
    """Return the text of a control file.

    None where it does not exist (no such controller), the cgroup is gone, or the kernel does not
    keep what it would show.

    Raises:
        KernelError: the caller may not.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            return b"".join(iter(lambda: os.read(fd, 65536), b"")).decode("ascii")
        finally:
            os.close(fd)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise kernel_error("read cgroup", file, err.errno or 0) from err


def in_version_1(controller: str) -> bool:
    """Return whether a cgroup v1 hierarchy has the controller, so that cgroup v2 has not.

    The second field of proc_cgroups (cgroups(7)) is the number of that hierarchy, 0 for cgroup v2.
    """
    name = _V1_NAMES.get(controller, controller)
    try:
        with open("/proc/cgroups", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except FileNotFoundError:
        return False
    return any(row[0] == name and row[1] != "0" for row in rows)


def write(folder: int, file: str, text: str) -> None:
    """Write a control file.

    Raises:
        KernelError: with the file.
    """
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as err:
        raise kernel_error("write cgroup", f"{file}={text}", err.errno or 0) from err


def kill(folder: int) -> None:
    """SIGKILL everything in the cgroup and below it (cgroup-v2.rst, cgroup.kill)."""
    write(folder, "cgroup.kill", "1")


def hasten(folder: int) -> None:
    """Lift what keeps the processes of a cgroup, and of those below, from the processor.

    For one that is to be removed: a killed process needs some time of it to end, and with a small
    quota gets it over many periods. Where a limit cannot be lifted, it takes so long.
    """
    for file, text in _LIFTED:
        try:
            if exists(folder, file):
                write(folder, file, text)
        except KernelError:
            continue  # only haste is lost: whoever waits for the end says if it does not come
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _hasten_below(folder, entry.name)


def _hasten_below(folder: int, name: str) -> None:
    try:
        child = open_folder(folder, name)
    except FileNotFoundError:  # removed meanwhile
        return
    try:
        hasten(child)
    finally:
        os.close(child)


def freeze(folder: int, *, frozen: bool = True) -> None:
    """Stop everything in the cgroup and below it, or let it go on; returns once that is so.

    A frozen process can still be killed (cgroup-v2.rst, cgroup.freeze).

    Raises:
        KernelError: the kernel refuses, or it takes longer than some seconds.
    """
    write(folder, "cgroup.freeze", str(int(frozen)))
    wanted = f"frozen {int(frozen)}"
    end = time.monotonic() + _PATIENCE
    while wanted not in (read(folder, "cgroup.events") or "").splitlines():
        if time.monotonic() > end:
            raise kernel_error("freeze cgroup", f"not {wanted} in time", errno.ETIMEDOUT)
        time.sleep(0.001)


def processes(folder: int) -> list[int]:
    """Return the pids of all processes in the cgroup and below it, in ascending order.

    Those of other pid namespaces that have no number here are left out.

    Raises:
        KernelError: the caller may not.
    """
    return _members(folder, "cgroup.procs")


def threads(folder: int) -> list[int]:
    """Return the thread ids in the cgroup and below it, in ascending order.

    Raises:
        KernelError: the caller may not.
    """
    return _members(folder, "cgroup.threads")


def _members(folder: int, file: str) -> list[int]:
    # A threaded cgroup does not tell its processes (EOPNOTSUPP): they are the domain's above it.
    found = {int(word) for word in (read(folder, file) or "").split()}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found.update(_members_below(folder, entry.name, file))
    return sorted(found - {0})


def _members_below(folder: int, name: str, file: str) -> list[int]:
    try:
        child = open_folder(folder, name)
    except FileNotFoundError:  # removed meanwhile
        return []
    try:
        return _members(child, file)
    finally:
        os.close(child)


def signal_all(folder: int, number: int) -> None:
    """Send a signal to every process in the cgroup and below it, those included that it forks.

    SIGKILL reaches all at once (cgroup.kill). For another the cgroup is frozen meanwhile, so that
    nothing forks or takes a recycled pid, and left as it was: what was frozen gets the signal when
    it goes on, unless that kills it.

    Args:
        folder: of the cgroup; the caller must not be in it.
        number: of the signal.

    Raises:
        KernelError: the caller may not.
    """
    if number == _SIGKILL:
        kill(folder)
        return
    paused = (read(folder, "cgroup.freeze") or "").strip() == "1"
    try:
        if not paused:
            _freeze_or_go_on(folder)
        seen: set[int] = set()
        while fresh := set(processes(folder)) - seen:
            _signal(folder, fresh, number)
            seen |= fresh
    finally:
        if not paused:
            write(folder, "cgroup.freeze", "0")


def _freeze_or_go_on(folder: int) -> None:
    """Freeze; a process that the kernel holds up must not keep the others from their signal."""
    try:
        freeze(folder)
    except KernelError as err:
        if err.errno != errno.ETIMEDOUT:
            raise


def _signal(folder: int, pids: set[int], number: int) -> None:
    """Signal the processes by pidfds, opened before it is seen that they are still here."""
    from pycontain.kernel import process  # its imports are too slow for those that only start

    opened: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                opened[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        for pid in opened.keys() & set(processes(folder)):
            process.send_signal(opened[pid], number)
    finally:
        for pidfd in opened.values():
            os.close(pidfd)


class OomWatch:
    """Waits for processes of a cgroup, or of those below, that are killed for want of memory.

    Args:
        folder: of the cgroup.

    Raises:
        NotSupported: the cgroup is not under the memory controller.
    """

    __slots__ = ("_events", "_killed", "_memory")

    def __init__(self, folder: int) -> None:
        try:
            self._memory = os.open("memory.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as err:
            subject = "memory.events (the memory controller is not enabled here)"
            raise NotSupported("watch cgroup", subject, errno.EOPNOTSUPP) from err
        try:
            self._events = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as err:
            os.close(self._memory)
            subject = "cgroup.events (the root is not to be watched, nor what was removed)"
            raise NotSupported("watch cgroup", subject, errno.EOPNOTSUPP) from err
        self._killed = flat(_again(self._memory)).get("oom_kill", 0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Return how many were killed since the last call, as soon as there are any.

        Args:
            timeout: in seconds, None for as long as it takes.

        Returns:
            0 when time is out, None when no process is left in the cgroup.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            # Looked at before its end is: a last kill must not be missed.
            populated = flat(_again(self._events)).get("populated", 0)
            killed = flat(_again(self._memory)).get("oom_kill", self._killed)
            if killed > self._killed:
                count, self._killed = killed - self._killed, killed
                return count
            if not populated:
                return None
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return 0
            _wait((self._memory, self._events), left)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._memory)
        os.close(self._events)

    def __enter__(self) -> OomWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _again(fd: int) -> str:
    """The text of an open control file as it is now, empty where the cgroup is gone."""
    try:
        return os.pread(fd, 4096, 0).decode("ascii")
    except OSError as err:
        if err.errno == errno.ENODEV:
            return ""
        raise kernel_error("read cgroup", "events", err.errno or 0) from err


def _wait(fds: tuple[int, ...], seconds: float | None) -> None:
    """Wait until one of the files differs from what was last read (cgroup-v2.rst: POLLPRI)."""
    import select

    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLPRI)
    poll.poll(None if seconds is None else seconds * 1000)


def flat(text: str | None) -> dict[str, int]:
    """Read a flat keyed file (cgroup-v2.rst, "Format"): a key and a whole number on each line."""
    rows = (line.split() for line in (text or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}


def remove(parent: int, name: str) -> None:
    """Kill what runs in the cgroup `name` and below it, and remove them; a missing one is fine.

    Raises:
        KernelError: processes do not leave, or the caller may not.
    """
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        if "populated 1" in (read(folder, "cgroup.events") or ""):
            kill(folder)
            hasten(folder)
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                remove(folder, entry.name)
    finally:
        os.close(folder)
    _rmdir(parent, name)


def _rmdir(parent: int, name: str) -> None:
    """Rmdir that waits for killed processes: they count until they are reaped."""
    end = time.monotonic() + _PATIENCE
    pause = 0.0005
    while True:
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as err:
            if err.errno != errno.EBUSY or time.monotonic() > end:
                raise kernel_error("remove cgroup", name, err.errno or 0) from err
        else:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def leave() -> None:
    """Move this process out of a container's cgroup, so that the cgroup can be removed.

    Raises:
        KernelError: the caller may not.
    """
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        if not any(line.startswith("0::/pycontain/") for line in file):
            return
    root = open_root()
    try:
        write(root, "cgroup.procs", "0")
    finally:
        os.close(root)
