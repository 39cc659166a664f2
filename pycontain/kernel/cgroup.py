"""cgroup v2 by descriptors: folders are made, killed and removed relative to the root's."""

from __future__ import annotations

import errno
import os
import time

from pycontain.errors import KernelError, kernel_error
from pycontain.kernel import mount

_PATIENCE = 5.0  # seconds for a killed process to leave its cgroup


def mount_points(mounts: str = "/proc/self/mountinfo") -> list[str]:
    """Return where cgroup2 is mounted (unified, or beside cgroup v1), the newest mount first."""
    found = []
    with open(mounts, "rb") as file:
        for line in file:
            head, _, tail = line.partition(b" - ")
            if tail.startswith(b"cgroup2 "):
                # Spaces and the like in mount points are octal escapes (proc_pid_mountinfo(5)).
                place = head.split(b" ")[4]
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


def read(folder: int, file: str) -> str | None:
    """Return the text of a control file, None where it does not exist (no such controller)."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, encoding="ascii") as stream:
        return stream.read()


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


def remove_if_empty(parent: int, name: str) -> bool:
    """Remove the cgroup `name` and those below it unless something runs there."""
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return True
    try:
        populated = "populated 1" in (read(folder, "cgroup.events") or "")
    finally:
        os.close(folder)
    if populated:
        return False
    try:
        remove(parent, name)
    except KernelError:
        return False
    return True


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
