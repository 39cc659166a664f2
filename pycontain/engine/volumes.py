"""Volumes as users name them: made, listed, removed.

A volume is used by the containers whose documents name it. Who begins to use one holds its lock,
shared, until the document is written; who removes one holds it alone, and then looks at the
documents.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pycontain.engine import records
from pycontain.engine.events import Events
from pycontain.engine.failure import told
from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError, StoreError
from pycontain.kernel import process
from pycontain.store import files
from pycontain.volume.store import DRIVER, MODE, VolumeStore, new_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pycontain.model.container import Container, Mount
    from pycontain.model.volume import Volume
    from pycontain.store.layout import Layout, VolumePaths


def names_of(container: Container) -> list[str]:
    """Return the volumes that a container uses, sorted."""
    return sorted({mount.source for mount in container.mounts or () if mount.type == "volume"})


class Users:
    """Which containers use which volumes, by their documents, which never change in that.

    Args:
        layout: of the store.
        problems: gets an error for each container whose document is damaged; without it the first
            is raised, since nobody knows then what is not used.

    Attributes:
        certain: no document was damaged.
    """

    def __init__(self, layout: Layout, problems: list[PycontainError] | None = None) -> None:
        self._layout = layout
        self._problems = problems
        self._known: dict[str, frozenset[str]] = {}
        self.certain = True

    def of(self, name: str) -> list[str]:
        """Return the ids of the containers that use a volume now.

        Raises:
            StoreError: a container's document is damaged, so that nobody knows.
        """
        self._look()
        return sorted(identity for identity, names in self._known.items() if name in names)

    def _look(self) -> None:
        present = set(records.ids(self._layout))
        self._known = {known: self._known[known] for known in self._known.keys() & present}
        for identity in present - self._known.keys():
            try:
                container = records.load(self._layout.container(identity))
            except NotFound:
                continue  # being made, or being removed
            except StoreError as err:
                if self._problems is None:
                    raise
                self._problems.append(err)
                self.certain = False
                self._known[identity] = frozenset()
                continue
            self._known[identity] = frozenset(names_of(container))


if TYPE_CHECKING:
    # In the class, "list" is its method.
    Problems = list[PycontainError]
    Names = list[str]


class VolumeUse(NamedTuple):
    """A volume, who uses it, and how many bytes are in it (None: not asked)."""

    volume: Volume
    users: tuple[str, ...]
    size: int | None = None


class Volumes:
    """The volumes of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._store = VolumeStore(layout)
        self._events = Events(layout)

    # ---- making ----

    @told("create volume")
    def create(
        self,
        name: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        driver: str = DRIVER,
        mode: int = MODE,
    ) -> Volume:
        """Return the volume `name`, made if there is none.

        Args:
            name: of letters, digits and ``_.-``; None makes an anonymous one.
            labels: of one that is made.
            options: of one that is made: ``type``, ``device`` and ``o``, as mount(8) has them. It
                is mounted while containers use it. Without options it is a folder of the store.
            driver: ``local``.
            mode: permission bits of the folder of one that is made.

        Raises:
            InvalidInput: no name, another driver, or an option that there is not.
            StoreError: it cannot be made.
        """
        if driver != DRIVER:
            raise InvalidInput(f"volume driver {driver!r}: there is none but {DRIVER}")
        wanted = new_volume(name or os.urandom(32).hex(), labels, options, anonymous=not name)
        return self.ensure(wanted, mode=mode)

    def ensure(self, volume: Volume, *, durable: bool = True, mode: int = MODE) -> Volume:
        """Put a volume into the store, or return the one that has its name.

        Args:
            volume: its document.
            durable: it is on disk when this returns.
            mode: permission bits of the folder of one that is made.
        """
        while True:
            try:
                return self._store.get(volume.name)
            except NotFound:
                pass
            self._store.sweep()
            if self._store.make(volume, durable=durable, mode=mode):
                self._tell("create", volume.name)
                return volume

    def begin_use(
        self, mounts: Iterable[Mount], inherited: frozenset[str], identity: str
    ) -> tuple[files.Lock, ...]:
        """Make the named volumes of a new container; return the locks of all that others know.

        Args:
            mounts: the container's. Its new anonymous volumes are made when its document names
                them: one that nobody names would stay for ever.
            inherited: volumes that are there, being another container's.
            identity: the new one's id.

        Raises:
            NotFound: one of `inherited` is gone.
        """
        shared = {mount.source: mount for mount in mounts if mount.type == "volume"
                  and (mount.source in inherited or not mount.anonymous)}  # fmt: skip
        held: list[files.Lock] = []
        try:
            for name in sorted(shared):
                lock = self._store.lock(name, shared=True)
                lock.acquire()
                held.append(lock)
                if name in inherited:
                    self._store.get(name)
                    continue
                mount = shared[name]
                self.ensure(
                    new_volume(name, mount.labels, mount.driver_options, container=identity)
                )
        except BaseException:
            for lock in held:
                lock.release()
            raise
        return tuple(held)

    def make_missing(self, container: Container, *, durable: bool) -> None:
        """Make what a container names of volumes and is not there, as its new anonymous ones."""
        for mount in container.mounts or ():
            if mount.type == "volume" and not os.path.exists(self.paths(mount.source).document):
                wanted = new_volume(
                    mount.source, mount.labels, mount.driver_options, anonymous=mount.anonymous,
                    container=container.id, volatile=mount.anonymous and not durable,
                )  # fmt: skip
                self.ensure(wanted, durable=durable or not mount.anonymous)

    # ---- looking ----

    def paths(self, name: str) -> VolumePaths:
        """Return where a volume's files are; ``data`` is what containers see of a plain one."""
        return self._store.paths(name)

    @told("look at volume")
    def get(self, name: str) -> Volume:
        """Return a volume.

        Raises:
            NotFound: there is none.
        """
        return self._store.get(name)

    def exists(self, name: str) -> bool:
        """Whether there is a volume `name`."""
        try:
            self._store.get(name)
        except NotFound:
            return False
        return True

    @told("list volumes")
    def list(self, problems: Problems | None = None) -> Sequence[Volume]:
        """Return all volumes, sorted by name.

        Args:
            problems: gets an error for each that cannot be read; without it the first is raised.
        """
        self._store.sweep()
        # Its problems are of containers, which are told where those are looked at.
        users = Users(self._layout, [])
        found = self._store.list(problems)
        return [volume for volume in found if not self._has_died(volume, users)]

    @told("measure volumes")
    def usage(
        self,
        problems: Problems | None = None,
        *,
        measure: bool = False,
    ) -> Sequence[VolumeUse]:
        """Return all volumes, sorted by name, each with the ids of the containers that use it.

        Args:
            problems: as for ``list``.
            measure: also count their bytes.
        """
        from pycontain.engine.disk import folder_size

        users = Users(self._layout, problems)
        return [
            VolumeUse(
                volume, tuple(users.of(volume.name)),
                folder_size(self.paths(volume.name).data) if measure else None,
            )
            for volume in self.list(problems)
        ]  # fmt: skip

    # ---- removing ----

    @told("remove volume")
    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and what is in it, and what a killed command left half removed.

        Args:
            name: of the volume.
            force: none of that name is no error.

        Raises:
            Conflict: a container uses it.
            NotFound: there is none.
        """
        self._store.sweep()
        try:
            self._store.get(name)
        except NotFound:
            if force:
                return
            raise
        except PycontainError:
            if not force:
                raise
        users = self._remove(name, Users(self._layout))
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")

    def release(self, names: Iterable[str]) -> None:
        """Remove anonymous volumes of a container that is gone, unless others use them.

        Where a container's document is damaged they stay: nobody knows whether it has them. They
        are seen in the list.
        """
        problems: Problems = []
        users = Users(self._layout, problems)
        for name in names:
            self._remove(name, users)

    @told("prune volumes")
    def prune(
        self, *, every: bool = False, accept: Callable[[Volume], bool] | None = None
    ) -> tuple[Sequence[str], int]:
        """Remove the volumes that no container uses.

        Args:
            every: also those that have names.
            accept: is asked for each.

        Returns:
            The names of those removed, and how many bytes they had.
        """
        from pycontain.engine.disk import folder_size

        users = Users(self._layout)
        removed: Names = []
        size = 0
        for volume in self.list():
            if users.of(volume.name) or not (every or volume.anonymous):
                continue
            if accept is not None and not accept(volume):
                continue
            taken = folder_size(self.paths(volume.name).data)
            if not self._remove(volume.name, users):
                removed.append(volume.name)
                size += taken
        return removed, size

    def _remove(self, name: str, users: Users) -> Names:
        """Remove a volume that nobody uses; return who uses it."""
        with self._store.lock(name) as lock:
            found = users.of(name)
            if not users.certain:
                return found
            if not found and os.path.exists(self.paths(name).folder):
                self._store.remove(name)
                self._tell("destroy", name)
            if not found:
                files.remove(lock.path)
        return found

    def _has_died(self, volume: Volume, users: Users) -> bool:
        """Whether it was of a container that died with its boot; it is removed then."""
        if not volume.boot or volume.boot == process.boot_id() or users.of(volume.name):
            return False
        return users.certain and not self._remove(volume.name, users)

    # ---- telling ----

    def tell_mounts(self, container: Container) -> None:
        """Tell that a container begins to use its volumes; its monitor tells the end of that."""
        lines = [
            files.dump({"type": "volume", "action": "unmount", "id": mount.source,
                        "attributes": {"driver": DRIVER, "container": container.id}})[1:]
            for mount in container.mounts or () if mount.type == "volume"
        ]  # fmt: skip
        if not lines:
            return
        paths = self._layout.container(container.id)
        files.make_folder(paths.state_folder)
        files.write_atomic(paths.event_after, b"".join(lines), durable=False)
        for mount in container.mounts or ():
            if mount.type == "volume":
                writes = not {"ro", "rro"} & set(mount.options)
                self._tell(
                    "mount", mount.source, container=container.id, destination=mount.target,
                    propagation="", **{"read/write": "true" if writes else "false"},
                )  # fmt: skip

    def tell_unmounts(self, container: Container) -> None:
        """Tell that a container has ceased to use its volumes."""
        for mount in container.mounts or ():
            if mount.type == "volume":
                self._tell("unmount", mount.source, container=container.id)

    def _tell(self, action: str, name: str, **more: str) -> None:
        self._events.tell_volume(action, name, {"driver": DRIVER, **more})
