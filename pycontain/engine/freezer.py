"""Paused containers: their cgroup is frozen, with all that was executed in it.

Whether a container is paused is asked of the kernel: ``cgroup.freeze`` of its cgroup says 1
(cgroup-v2.rst). Nothing in the container can change that: its own view of its cgroup is read-only.
"""

from __future__ import annotations

import os

from msgspec.structs import replace

from pycontain.errors import KernelError, NotSupported
from pycontain.kernel import cgroup
from pycontain.model.container import cgroup_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model.container import Container
    from pycontain.model.status import Status


def _path(container: Container) -> str:
    path = cgroup_path(container.id, container.options.cgroup_parent)
    return path.removeprefix("/")


class Freezer:
    """Looks at the cgroups of any number of containers; a context manager.

    Args:
        rootless: an ordinary user's containers have no cgroups.
    """

    __slots__ = ("_root", "_rootless")

    def __init__(self, *, rootless: bool) -> None:
        self._rootless = rootless
        self._root: int | None = None

    def is_frozen(self, container: Container) -> bool:
        """Whether the container's cgroup is frozen, or about to be; one without is not."""
        if self._rootless:
            return False
        try:
            if self._root is None:
                self._root = cgroup.open_root()
            fd = os.open(
                f"{_path(container)}/cgroup.freeze", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root
            )
        except (KernelError, OSError):
            return False  # it has none, or none any more
        try:
            return os.read(fd, 2)[:1] == b"1"
        except OSError:
            return False  # ENODEV: removed meanwhile
        finally:
            os.close(fd)

    def seen(self, container: Container, status: Status) -> Status:
        """Return a container's status, in which one that runs and is frozen is paused."""
        if status.state == "running" and self.is_frozen(container):
            return replace(status, state="paused")
        return status

    def __enter__(self) -> Freezer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._root is not None:
            os.close(self._root)


def freeze(container: Container, *, rootless: bool) -> None:
    """Stop every process of a running container; returns once that is so, or undoes it.

    Raises:
        NotSupported: the container has no cgroup, as an ordinary user's have none.
        KernelError: the kernel refuses, or a process does not stop in time.
    """
    folder = open_cgroup(container, rootless=rootless)
    try:
        cgroup.freeze(folder)
    except KernelError:
        cgroup.write(folder, "cgroup.freeze", "0")
        raise
    finally:
        os.close(folder)


def thaw(container: Container, *, rootless: bool) -> None:
    """Let the processes of a paused container go on; returns once they do.

    Raises:
        NotSupported, KernelError: as for ``freeze``.
    """
    folder = open_cgroup(container, rootless=rootless)
    try:
        cgroup.freeze(folder, frozen=False)
    finally:
        os.close(folder)


def open_cgroup(container: Container, *, rootless: bool) -> int:
    """Return a descriptor of the cgroup that a container's processes are in.

    Raises:
        NotSupported: it has none.
    """
    import errno

    if rootless:
        raise _no_cgroup(container, "an ordinary user's containers have none", errno.EOPNOTSUPP)
    root = cgroup.open_root()
    try:
        return cgroup.open_folder(root, _path(container))
    except OSError as err:
        raise _no_cgroup(container, _path(container), err.errno or 0) from err
    finally:
        os.close(root)


def _no_cgroup(container: Container, why: str, number: int) -> NotSupported:
    return NotSupported(
        f"find cgroup of container {container.name}", f"it has no cgroup ({why})", number,
        "to pause it takes a cgroup of its own: run it as root",
    )  # fmt: skip
