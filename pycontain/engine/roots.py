"""Opening the root of a container, running or not, for a Tree.

A running container's files are reached through its live mounts: the root of its first process,
whose pid is checked after the open, and its mount namespace, held open so that the mounts stay
where they are should it end meanwhile. A stopped one's root is mounted for the time, attached
nowhere, and its binds and volumes are laid over it by names (folders.Space).

The container's lock is held: shared while it runs, so that it is not started again over a layer
that is still in use, and alone while it does not, because an upper layer is mounted once at a time.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from pycontain.engine import records, volume_mounts
from pycontain.engine.folders import Names, Space, walk
from pycontain.engine.tree import FILE_MODE, FOLDER_MODE, Tree
from pycontain.errors import InvalidState, kernel_error
from pycontain.kernel import mount, process
from pycontain.runtime.spec import all_mounts
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycontain.engine.containers import View
    from pycontain.engine.volume_mounts import Opened
    from pycontain.model.container import Mount
    from pycontain.model.status import Status
    from pycontain.store.layout import Layout

_TRIES = 16
# Views of the kernel's own state: their files have no content that could be copied, and a write is
# a command to the kernel.
_PSEUDO = frozenset(
    {
        "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs",
        "fusectl", "mqueue", "nsfs", "proc", "pstore", "securityfs", "selinuxfs", "sysfs",
        "tracefs",
    }
)  # fmt: skip


def open_tree(look: Callable[[], View], layout: Layout, *, rootless: bool) -> Tree:
    """Return the files of a container.

    Args:
        look: returns the container as it is now.
        layout: of the store.
        rootless: overlay's marks are kept as in a user namespace.

    Raises:
        NotFound: there is no such container.
        KernelError: its root cannot be opened or mounted.
        InvalidState: it starts and ends all the time.
    """
    for attempt in range(_TRIES):
        view = look()  # which settles a run that was lost: not under the lock
        with contextlib.ExitStack() as stack:
            alive = is_live(view.status)
            stack.callback(hold(view, shared=alive).release)
            root = None
            # Under the lock it can only change from running to exited.
            if _stands(view, alive):
                root = (
                    _live_root(view, stack) if alive else _own_root(view, layout, rootless, stack)
                )
            if root is not None:
                return Tree(view.container.name, *root, stack.pop_all())
        # Its process has ended, and its monitor is about to say so.
        time.sleep(0.001 * 1.7**attempt)
    raise InvalidState(f"container {view.container.name}: neither runs nor has ended")


def _stands(view: View, alive: bool) -> bool:
    """Whether the container still is there, and in the state that it was in; the lock is held."""
    try:
        return os.path.exists(view.paths.document) and is_live(records.status(view.paths)) == alive
    except records.Lost:
        return False


def is_live(status: Status) -> bool:
    """Whether the container has processes."""
    return status.state in ("running", "paused")


def hold(view: View, *, shared: bool) -> files.Lock:
    """Return the container's lock, held."""
    lock = files.Lock(view.paths.lock, shared=shared)
    lock.acquire()
    return lock


def _own(stack: contextlib.ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _live_root(view: View, stack: contextlib.ExitStack) -> tuple[int, Space] | None:
    """The root of a running container; None where it has ended under us."""
    record = records.load_run(view.paths)
    if record is None:
        return None
    place = f"/proc/{record.pid}"
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        # While its namespace lives, its mounts hang together: a volume does not suddenly uncover
        # what is below it.
        _own(stack, os.open(f"{place}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        root = _own(stack, os.open(f"{place}/root", flags))
        with open(f"{place}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            pseudo = pseudo_devices(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as err:
        raise kernel_error("open root", f"container {view.container.name}", err.errno or 0) from err
    # Checked after the opens: the pid still was the container's.
    if process.start_time(record.pid) != record.pid_start:
        return None
    return root, Space(pseudo=pseudo)


def pseudo_devices(mountinfo: str) -> frozenset[int]:
    """Return the devices of file systems without content of their own (proc_pid_mountinfo(5)).

    Args:
        mountinfo: the text of the file.
    """
    found = set()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.partition(" ")[0] in _PSEUDO:
            major, _, minor = before.split()[2].partition(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def _own_root(
    view: View, layout: Layout, rootless: bool, stack: contextlib.ExitStack
) -> tuple[int, Space]:
    """The root of a container that does not run, mounted for the time."""
    layers = [layout.layer(layer) for layer in view.container.layers]
    root = mount.overlay(
        layers, view.paths.upper, view.paths.work,
        attributes=mount.ATTR_NODEV | mount.ATTR_NOSUID, user_xattr=rootless,
    )  # fmt: skip
    _own(stack, root)
    mounts = all_mounts(view.container)
    # Made and filled when they are first needed, as by a start.
    opened = stack.enter_context(
        volume_mounts.open_all(layout, view.container, root, rootless=rootless)
    )
    if view.container.options.pod:
        from pycontain.engine import memory

        memory.open_if_there(layout, view.container, opened)
    space = Space()
    for entry in _covering(view, mounts, opened):
        try:
            _lay(root, space, entry, stack)
        except OSError as err:
            raise kernel_error("mount", entry.target, err.errno or 0) from err
    if view.container.options.read_only:
        mount.set_attributes(root, mount.ATTR_RDONLY)
    return root, space


class _Covering:
    """What is seen at `target` while the container runs; without a source an empty tmpfs.

    Where `given` is not -1 it is a detached mount, which is another's to close.
    """

    __slots__ = ("given", "read_only", "recursive", "source", "target")

    def __init__(
        self, source: str, target: str, *, recursive: bool, read_only: bool, given: int = -1
    ) -> None:
        self.source = source
        self.target = target
        self.recursive = recursive
        self.read_only = read_only
        self.given = given


def _covering(view: View, mounts: Iterable[Mount], opened: Opened) -> list[_Covering]:
    """What covers the root while the container runs, parents first: binds, volumes, our own files.

    A bind whose source is missing covers nothing yet.
    """
    paths, options = view.paths, view.container.options
    taken = {entry.target for entry in mounts}
    own = {"/etc/resolv.conf": paths.resolv_conf, "/etc/hostname": paths.hostname,
           "/etc/hosts": paths.hosts}  # fmt: skip
    found = [
        _Covering(source, target, recursive=False, read_only=options.read_only)
        for target, source in own.items()
        if target not in taken and os.path.exists(source)
    ]
    for entry in mounts:
        source = opened.folders.get(entry.target, entry.source)
        given = opened.given.get(entry.target, -1)
        if entry.type == "tmpfs" or given >= 0 or os.path.exists(source):
            passing = entry.target in opened.passing
            found.append(_of_user(entry, source, given, passing=passing))
    return sorted(found, key=lambda covering: covering.target.count("/"))


def _of_user(entry: Mount, source: str, given: int, *, passing: bool) -> _Covering:
    words = entry.options
    empty = entry.type == "tmpfs" and given < 0
    return _Covering(
        "" if empty else source, entry.target, recursive="bind" not in words,
        # What is written into a mount that goes with us is lost.
        read_only="ro" in words or "rro" in words or passing, given=given,
    )  # fmt: skip


def _lay(root: int, space: Space, covering: _Covering, stack: contextlib.ExitStack) -> None:
    # A tmpfs has nothing in it while the container does not run, and what is written there is lost.
    if covering.given >= 0:
        fd = covering.given
    elif not covering.source:
        fd = _own(stack, mount.new_mount("tmpfs", [], mount.ATTR_RDONLY))
    else:
        fd = _own(stack, mount.clone_tree(covering.source, recursive=covering.recursive))
    if covering.read_only and covering.source:
        mount.set_attributes(fd, mount.ATTR_RDONLY)
    space.mounts[_mount_point(root, space, covering.target, fd)] = fd


def _mount_point(root: int, space: Space, target: str, covering: int) -> Names:
    """Return the names of a mount point, which is made where it is missing, as a start does it."""
    try:
        return _reach(root, space, target)
    except FileNotFoundError:
        pass
    above, _, name = target.rpartition("/")
    is_folder = stat.S_ISDIR(os.fstat(covering).st_mode)
    names = _mount_point(root, space, above, root) if above else ()
    fd, _ = walk(root, space, "/".join(names), follow=False)
    try:
        if is_folder:
            os.mkdir(name, FOLDER_MODE, dir_fd=fd)
        else:
            os.mknod(name, stat.S_IFREG | FILE_MODE, dir_fd=fd)
    finally:
        os.close(fd)
    return (*names, name)


def _reach(root: int, space: Space, path: str) -> Names:
    fd, names = walk(root, space, path, follow=True)
    os.close(fd)
    return names
