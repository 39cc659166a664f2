"""The cgroup of a container that systemd makes: its life, by means of ``runtime.systemd``."""

from __future__ import annotations

import os

from pycontain.oci import state
from pycontain.runtime import cgroups, systemd
from pycontain.runtime.resources import writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.oci.state import Container


class Scope:
    """The scope of a container that is about to be created.

    Args:
        spec: the configuration.
        identity: the container's id.

    Raises:
        InvalidInput: the names or values are none that systemd has.
        NotSupported: systemd does not run this machine.
    """

    __slots__ = ("_annotated", "_name", "_parent", "_placeholder", "_resources", "_tight")

    def __init__(self, spec: oci.Spec, identity: str) -> None:
        systemd.require()
        linux = spec.get("linux", {})
        self._parent, self._name = systemd.unit_of(linux.get("cgroupsPath", ""), identity)
        self._resources = linux.get("resources", {})
        self._annotated = systemd.annotated(spec.get("annotations", {}))
        lines = writes(self._resources)
        systemd.limits(lines)
        # Where one process is all there may be, the placeholder is one too many at the clone.
        self._tight = any(line.file == "pids.max" and line.text == "1" for line in lines)
        self._placeholder: systemd.Placeholder | None = None

    def make(self, container: Container) -> int:
        """Have the scope made; return a descriptor of its cgroup.

        The state is written after that: a scope of which it does not know ends with this process,
        and so no unit is ever taken for the container's that is somebody else's.

        Raises:
            Conflict: there is such a unit.
            PycontainError: systemd refuses.
        """
        title = ("Description", ("s", f"pycontain container {container.id}"))
        properties = [title, *systemd.limits(writes(self._first())), *self._annotated]
        self._placeholder = systemd.Placeholder()
        with systemd.Manager() as manager:
            path = manager.start_scope(self._name, self._parent, self._placeholder.pid, properties)
        container.state.unit = self._name
        container.state.cgroup = path
        container.save()
        return state.open_cgroup(path)

    def limit(self, folder: int) -> None:
        """Write what the unit has no property for, and exactly what it has rounded.

        Raises:
            NotSupported, KernelError: the kernel has no such limit, or refuses it.
        """
        cgroups.update(folder, self._first())

    def _first(self) -> oci.Resources:
        """The limits until the placeholder has ended."""
        if not self._tight:
            return self._resources
        unified = {**self._resources.get("unified", {})}
        unified.pop("pids.max", None)
        return {**self._resources, "pids": {"limit": 2}, "unified": unified}

    def settle(self, container: Container) -> None:
        """End the placeholder, as the container's process is in the scope."""
        self.release()
        if not self._tight:
            return
        folder = state.open_cgroup(container.state.cgroup)
        try:
            update(container, folder, {"pids": {"limit": 1}}, self._first(), self._resources)
        finally:
            os.close(folder)

    def release(self) -> None:
        """End the placeholder; a scope with nobody else in it ends too."""
        if self._placeholder:
            self._placeholder.end()


def update(
    container: Container,
    folder: int,
    changes: oci.Resources,
    before: oci.Resources,
    after: oci.Resources,
) -> None:
    """Change the limits of a container that runs, in its unit as well; all of them or none.

    Args:
        container: whose they are.
        folder: of its cgroup.
        changes: what is asked for.
        before: all limits until now.
        after: all limits with the changes.

    Raises:
        PycontainError: as ``cgroups.update`` and ``systemd.Manager.change``.
    """
    old = systemd.limits(writes(before))
    properties = [one for one in systemd.limits(writes(after)) if one not in old]

    def tell() -> None:
        with systemd.Manager() as manager:
            manager.change(container.state.unit, properties)

    cgroups.update(folder, changes, then=tell if properties else None)
    if properties:
        # systemd has just written them in its own precision.
        cgroups.update(folder, after)
