"""Images in the mount table, where programs of the host can read them.

Below the state folder each mounted image has a folder: which layers it stands on (``mount.json``),
and the mount point. The record comes before the mount, so a killed command leaves at most a folder
without a mount, which the next one removes. Whether something is mounted is asked of the kernel.

A mount table is that of a mount namespace: what another one has mounted is neither seen nor swept
here, as long as the machine runs.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from pycontain.errors import NotFound, NotSupported, StoreError
from pycontain.kernel import mount, process
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.image.store import Image
    from pycontain.store.layout import Layout

_ATTRIBUTES = mount.ATTR_NODEV | mount.ATTR_NOSUID


class MountedImage(msgspec.Struct, frozen=True):
    """An image that is mounted.

    Attributes:
        id: of the image, ``sha256:…``.
        path: where its files are.
    """

    id: str
    path: str


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """``mount.json``.

    Attributes:
        layers: what the mount stands on.
        boot: in which boot.
        namespace: inode of the mount namespace.
    """

    layers: tuple[str, ...]
    boot: str
    namespace: int


class ImageMounts:
    """The mounted images of one store.

    Args:
        layout: of the store.
        rootless: an ordinary user's.
    """

    def __init__(self, layout: Layout, *, rootless: bool) -> None:
        self._layout = layout
        self._rootless = rootless
        self._folder = layout.image_mounts

    def lock(self) -> files.Lock:
        """Return the lock under which images are mounted and unmounted, not held."""
        return files.Lock(f"{self._layout.locks}/image-mounts")

    def list(self) -> Sequence[MountedImage]:
        """Return what is mounted, sorted by id."""
        digits = self._digits()
        points = self._points() if digits else set()
        return [
            MountedImage(f"sha256:{name}", self._root(name))
            for name in digits
            if self._real(name) in points
        ]

    def find(self, image: Image) -> str | None:
        """Return where an image is mounted."""
        return next((one.path for one in self.list() if one.id == image.id), None)

    def layers(self) -> set[str]:
        """Return the layers that mounts stand on, of other mount namespaces too."""
        return {layer for name in self._digits() for layer in self._layers(name)}

    def _layers(self, name: str) -> tuple[str, ...]:
        record = self._record(name)
        return () if record is None or record.boot != process.boot_id() else record.layers

    def mount(self, image: Image) -> str:
        """Mount an image, read-only, and return where; the lock is held.

        Raises:
            NotSupported: an ordinary user's mounts are nobody else's to see.
            KernelError: the kernel refuses.
        """
        if self._rootless:
            raise NotSupported(
                "mount image", image.id, errno.EOPNOTSUPP,
                "a user's mounts are seen in the user's own namespaces alone: cp and export"
                " bring files out of a container",
            )  # fmt: skip
        self.sweep()
        name = image.id.removeprefix("sha256:")
        if self._real(name) not in self._points():
            self._make(name, image)
        return self._root(name)

    def _make(self, name: str, image: Image) -> None:
        folder = f"{self._folder}/{name}"
        files.make_folders(folder)
        for needed in ("root", "none"):
            files.make_folder(f"{folder}/{needed}")
        record = _Record(layers=image.layers, boot=process.boot_id(), namespace=_namespace())
        files.write_atomic(f"{folder}/mount.json", files.dump(record), durable=False)
        fd = mount.stack(
            [self._layout.layer(layer) for layer in image.layers], base=f"{folder}/none",
            attributes=_ATTRIBUTES,
        )  # fmt: skip
        try:
            mount.attach(fd, self._root(name))
        finally:
            os.close(fd)

    def unmount(self, identity: str) -> bool:
        """Take an image's mount away; False where there was none. The lock is held.

        Raises:
            KernelError: the kernel refuses.
        """
        name = identity.removeprefix("sha256:")
        mounted = self._real(name) in self._points()
        if mounted:
            mount.unmount(self._root(name))
        self.sweep()
        return mounted

    def sweep(self) -> None:
        """Remove the folders of what is not mounted any more; the lock is held."""
        points = self._points()
        for name in self._digits():
            if self._real(name) not in points and not self._is_foreign(name):
                files.remove_tree(f"{self._folder}/{name}")

    def _is_foreign(self, name: str) -> bool:
        """Whether it may be mounted in another mount namespace."""
        record = self._record(name)
        if record is None or record.boot != process.boot_id():
            return False
        return record.namespace != _namespace()

    def _record(self, name: str) -> _Record | None:
        try:
            return files.load(f"{self._folder}/{name}/mount.json", _Record)
        except (NotFound, StoreError):
            return None  # its maker was killed

    def _digits(self) -> Sequence[str]:
        try:
            return sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []

    def _points(self) -> set[str]:
        return mount.points_below(os.path.realpath(self._folder))

    def _root(self, name: str) -> str:
        return f"{self._folder}/{name}/root"

    def _real(self, name: str) -> str:
        return f"{os.path.realpath(self._folder)}/{name}/root"


def _namespace() -> int:
    return os.stat("/proc/self/ns/mnt").st_ino
