"""The volumes of a store, as they lie on disk.

A volume is a folder with its document and its data. It is made under a hidden name and renamed, so
that it is there whole or not at all, and the name itself is the claim; removed, it is renamed
first. Whoever meets a hidden name whose maker is gone removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput, NotFound, StoreError
from pycontain.kernel import process
from pycontain.model.parse.mounts import volume_name_fault
from pycontain.model.volume import Volume
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.errors import PycontainError
    from pycontain.store.layout import Layout, VolumePaths

DRIVER = "local"
_NEW = ".new-"  # before the pid of whoever makes it
_REMOVED = ".removed-"
_LOCK = "volume-"  # before the name, as Layout.volume has it
MODE = 0o755  # of the data: a container's other users may enter
_THERE = (errno.EEXIST, errno.ENOTEMPTY)


def check_name(name: str) -> None:
    """Raise InvalidInput where a volume cannot be called so."""
    fault = volume_name_fault(name)
    if fault:
        hint = "if you intended to pass a host directory, use an absolute path"
        raise InvalidInput(f"create {name}: {fault}", hint)


def check_options(options: Mapping[str, str]) -> None:
    """Raise InvalidInput where the local driver cannot have these options.

    ``type``, ``device`` and ``o`` are mount(8)'s: a type needs a device, and a device a type.
    """
    for name in options:
        if name == "size":
            hint = "a tmpfs has a size: type=tmpfs, device=tmpfs, o=size=1g"
            raise InvalidInput("volume option size: quotas are not supported", hint)
        if name not in ("type", "device", "o"):
            raise InvalidInput(f'invalid option: "{name}"')
    # An empty one is the same as none.
    said = {name for name, value in options.items() if value}
    for name, others in {"type": ("device",), "device": ("type",), "o": ("device", "type")}.items():
        for other in others:
            if name in said and other not in said:
                raise InvalidInput(f'missing required option: "{other}"')


class VolumeStore:
    """The volumes of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def paths(self, name: str) -> VolumePaths:
        """Return where a volume's files are."""
        return self._layout.volume(name)

    def lock(self, name: str, *, shared: bool = False) -> files.Lock:
        """Return a volume's lock: alone to fill, mount or remove it, shared to begin to use it."""
        return files.Lock(self._layout.volume(name).lock, shared=shared)

    def get(self, name: str) -> Volume:
        """Return the volume `name`.

        Raises:
            NotFound: there is none.
            StoreError: its document is damaged.
        """
        if volume_name_fault(name):  # which is not looked for on disk
            raise _missing(name)
        paths = self._layout.volume(name)
        try:
            return files.load(paths.document, Volume)
        except NotFound:
            raise _missing(name) from None
        except StoreError:
            boot = _boot_of(paths)
            if boot in ("", process.boot_id()):
                raise
            # Nothing of it was synced, and the power may have gone: it was nobody's to keep.
            return Volume(name=name, created=0, anonymous=True, boot=boot)

    def names(self) -> list[str]:
        """Return the names of all volumes, sorted."""
        try:
            return sorted(n for n in os.listdir(self._layout.volumes) if not n.startswith("."))
        except FileNotFoundError:
            return []

    def list(self, problems: list[PycontainError] | None = None) -> list[Volume]:
        """Return all volumes, sorted by name.

        Args:
            problems: gets an error for each that is damaged; without it the first is raised.
        """
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except NotFound:
                continue  # removed meanwhile
            except StoreError as err:
                if problems is None:
                    raise
                problems.append(err)
        return found

    def make(self, volume: Volume, *, durable: bool = True, mode: int = MODE) -> bool:
        """Put a new volume into the store; return whether it was not there yet.

        Args:
            volume: its document.
            durable: it is on disk when this returns.
            mode: permission bits of its folder.

        Raises:
            StoreError: it cannot be made.
        """
        files.make_folder(self._layout.volumes)
        paths = self._layout.volume(volume.name)
        new = f"{self._layout.volumes}/{_NEW}{os.getpid()}-{os.urandom(6).hex()}"
        files.make_folder(new)
        try:
            files.make_folder(f"{new}/data", mode)
            files.write_atomic(f"{new}/volume.json", files.dump(volume), durable=durable)
            if volume.boot:
                files.write_word(f"{new}/boot", volume.boot)
            os.rename(new, paths.folder)
            if durable:
                files.sync_folder(self._layout.volumes)
        except OSError as err:
            files.remove_tree(new)
            if err.errno in _THERE:
                return False
            raise files.store_error("make volume", paths.folder, err) from err
        except BaseException:
            files.remove_tree(new)
            raise
        return True

    def remove(self, name: str) -> None:
        """Remove a volume; its lock is held, alone.

        Raises:
            StoreError: it cannot be removed.
        """
        paths = self._layout.volume(name)
        removed = f"{self._layout.volumes}/{_REMOVED}{os.urandom(6).hex()}"
        if files.set_aside(paths.folder, removed):
            files.remove(paths.mounted)
            files.remove_tree(removed)

    def sweep(self) -> None:
        """Remove what killed commands left half made or half removed."""
        try:
            found = os.listdir(self._layout.volumes)
        except FileNotFoundError:
            return
        for name in found:
            pid = name.removeprefix(_NEW).partition("-")[0]
            if name.startswith(_REMOVED) or (
                name.startswith(_NEW) and not os.path.exists(f"/proc/{pid}")
            ):
                # Two who sweep at once may take names from under each other.
                with contextlib.suppress(StoreError):
                    files.remove_tree(f"{self._layout.volumes}/{name}")
        for lock in os.listdir(self._layout.locks):
            if lock.startswith(_LOCK):
                self._sweep_lock(lock.removeprefix(_LOCK))

    def _sweep_lock(self, name: str) -> None:
        """Remove the lock file of a volume that is gone, unless somebody makes it anew."""
        if os.path.exists(self._layout.volume(name).folder):
            return
        lock = self.lock(name)
        if lock.acquire(wait=False):
            if not os.path.exists(self._layout.volume(name).folder):
                files.remove(lock.path)
            lock.release()


def _missing(name: str) -> NotFound:
    return NotFound(f"no such volume: {name}", "pycontain volume ls lists all volumes")


def _boot_of(paths: VolumePaths) -> str:
    """The boot that a volume dies with; empty where it stays."""
    try:
        return files.read_word(paths.boot)
    except NotFound:
        return ""


def new_volume(
    name: str,
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    *,
    anonymous: bool = False,
    container: str = "",
    volatile: bool = False,
) -> Volume:
    """Return a volume as it is when it is made.

    Raises:
        InvalidInput: no name, or options that the driver does not know.
    """
    check_name(name)
    check_options(options or {})
    return Volume(
        name=name, created=time.time_ns(), labels=dict(labels or {}), options=dict(options or {}),
        anonymous=anonymous, container=container, boot=process.boot_id() if volatile else "",
    )  # fmt: skip
