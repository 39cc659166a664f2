"""The volumes in memory of a pod: its holder has them, and containers take copies of their mounts.

No path of a container's is followed: the holder's mount namespace has these mounts alone. Where the
holder was killed they live on in the containers that have them, and are known there by what tells
a file system from every other one of this boot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.engine import sandbox
from pycontain.engine.volume_mounts import mounts_of, part_within
from pycontain.errors import InvalidInput, InvalidState, KernelError, NotFound
from pycontain.kernel import mount, process
from pycontain.runtime import handover
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontain.engine.volume_mounts import Opened
    from pycontain.model.container import Container, Mount, RunOptions
    from pycontain.model.pod import Memory, Pod
    from pycontain.store.layout import Layout

MOST = 64
"""Volumes in memory that a pod may have: each is a descriptor on the way to the holder."""
_ATTRIBUTES = mount.ATTR_NOSUID | mount.ATTR_NODEV
_OTHERS = mount.ATTR_RDONLY | mount.ATTR_NOEXEC  # what a container may have it mounted with


# ---- what is asked for ----


def check(pod: Pod) -> None:
    """Refuse volumes that cannot be.

    Raises:
        InvalidInput: too many, two of one name, or one that is larger than no bytes.
    """
    names = [one.name for one in pod.memory]
    if len(names) > MOST:
        raise InvalidInput(f"pod {pod.name}: {len(names)} volumes in memory, at most {MOST}")
    for one in pod.memory:
        if not one.name or names.count(one.name) > 1:
            raise InvalidInput(f"pod {pod.name}: volume in memory {one.name!r}: no name of its own")
        if one.size < 0:
            raise InvalidInput(f"pod {pod.name}: volume in memory {one.name}: size {one.size}")


def check_member(pod: Pod, options: RunOptions) -> None:
    """Refuse a container that names a volume in memory which its pod has not.

    Raises:
        InvalidInput: it does.
    """
    for entry in options.mounts:
        if is_member(entry):
            _number(pod, entry)


def is_member(entry: Mount) -> bool:
    """Whether a mount is a volume in memory of the container's pod."""
    return entry.type == "tmpfs" and bool(entry.source)


def _number(pod: Pod, entry: Mount) -> int:
    for number, one in enumerate(pod.memory):
        if one.name == entry.source:
            return number
    raise InvalidInput(
        f"mount {entry.target}: pod {pod.name} has no volume in memory {entry.source}"
    )


# ---- of the holder ----


def make(layout: Layout, pod: Pod, survivors: Sequence[tuple[int, int]]) -> list[int]:
    """Return the file systems of a pod as detached mounts, in their order; its lock is held.

    Args:
        layout: of the store.
        pod: whose they are.
        survivors: pid and start time of its containers whose holder was killed. What one of them
            still has is taken from there; the others are made, with nothing in them.

    Raises:
        KernelError: one cannot be made.
    """
    known = _known(layout, pod) if survivors else ()
    found: list[int] = []
    try:
        for number, one in enumerate(pod.memory):
            mark = known[number] if number < len(known) else ""
            kept = _of_survivors(survivors, mark) if mark else None
            found.append(_new(one) if kept is None else kept)
        marks = [_mark(fd) for fd in found]
        files.write_atomic(layout.pod(pod.id).memory, files.dump(marks), durable=False)
    except BaseException:
        for fd in found:
            os.close(fd)
        raise
    return found


def _known(layout: Layout, pod: Pod) -> Sequence[str]:
    try:
        return files.load(layout.pod(pod.id).memory, tuple[str, ...])
    except NotFound:
        return ()


def _new(one: Memory) -> int:
    options = [("mode", "0777")]
    if one.group is not None:  # what is made there belongs to the group, too: mkdir(2), open(2)
        options = [("mode", "2777"), ("gid", str(one.group))]
    if one.size:
        options.append(("size", str(one.size)))
    return mount.new_mount("tmpfs", options, _ATTRIBUTES)


def _mark(fd: int) -> str:
    """What a file system is known by: its device, whose number comes again, and its own id, which
    is random (statfs(2); tmpfs has one since Linux 5.13).
    """
    number = os.fstat(fd).st_dev
    return f"{os.major(number)}:{os.minor(number)} {os.statvfs(fd).f_fsid:x}"


def _of_survivors(survivors: Iterable[tuple[int, int]], mark: str) -> int | None:
    """A copy of the mount that a container has of a file system; None: none has it."""
    for pid, start in survivors:
        fd = _of_survivor(pid, start, mark)
        if fd is not None:
            return fd
    return None


def _of_survivor(pid: int, start: int, mark: str) -> int | None:
    device = mark.partition(" ")[0]
    try:
        namespace = handover.open_namespace(f"/proc/{pid}/ns/mnt")
    except KernelError:
        return None
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [point for point, whole in mounts_of(file.read(), device) if whole]
        # Checked after the opens: the pid still was the container's.
        if process.start_time(pid) != start:
            return None
        for point in points:
            fd = _copy(namespace, point, mark)
            if fd is not None:
                return fd
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(namespace)
    return None


def _copy(namespace: int, point: str, mark: str) -> int | None:
    try:
        fd = mount.clone_tree_within(namespace, point)
    except KernelError:
        return None  # unmounted meanwhile
    try:
        if _mark(fd) == mark:
            mount.set_attributes(fd, _ATTRIBUTES, _OTHERS)
            return os.dup(fd)
        return None  # something else is mounted over it, or has got its number
    finally:
        os.close(fd)


# ---- of containers ----


def open_all(layout: Layout, container: Container, opened: Opened) -> None:
    """Give a container copies of the mounts that it is to have of its pod's volumes in memory.

    Args:
        layout: of the store.
        container: that is being started; what it shares runs.
        opened: gets the mounts.

    Raises:
        InvalidInput: it is in no pod, or that has no such volume.
        InvalidState: the pod's sandbox does not run.
    """
    wanted = [entry for entry in container.mounts or () if is_member(entry)]
    if not wanted:
        return
    if not container.options.pod:
        raise InvalidInput(f"mount {wanted[0].target}: a tmpfs of a pod, and there is no pod")
    pod = sandbox.load(layout, container.options.pod)
    numbers = [_number(pod, entry) for entry in wanted]
    pid, start = sandbox.target(layout, pod.id)
    for entry, number in zip(wanted, numbers, strict=True):
        place = f"/memory/{number}"
        take = _part if entry.subpath else _whole
        opened.give(entry.target, take(pid, place, entry))
        opened.folders[entry.target] = f"/proc/{pid}/root{place}"
    if process.start_time(pid) != start:
        raise InvalidState(f"pod {pod.name}: what its containers share has ended", "try again")


def _whole(pid: int, place: str, _: Mount) -> int:
    return handover.copy_mount(pid, place)


def _part(pid: int, place: str, entry: Mount) -> int:
    """A copy of a folder in one of the volumes that a holder has."""
    namespace = handover.open_namespace(f"/proc/{pid}/ns/mnt")
    try:
        whole = mount.clone_tree_within(namespace, place)
        try:
            fd = part_within(namespace, place, whole, entry)
        finally:
            os.close(whole)
    finally:
        os.close(namespace)
    if fd is None:
        raise InvalidState(
            f"mount {entry.target}: {entry.subpath} of {entry.source} was moved meanwhile",
            "try again",
        )
    return fd


def open_if_there(layout: Layout, container: Container, opened: Opened) -> None:
    """Do as `open_all` for a container that does not run, where what it shares does."""
    if sandbox.state(layout, container.options.pod) == "running":
        open_all(layout, container, opened)
