"""Unpacked layers of which nobody waited until they were on the disk.

A layer's blob is synced before it has its name. Its folder is not: that would be thousands of
files, and the same bytes again. While it is not known to be on the disk a layer has a mark,
``unsynced/BOOT/HEX-…``, which is on the disk before the layer has its name. In the boot that the
mark names the folder is whole: the kernel has what is not on the disk yet, whoever is killed. In
any other the power may have gone, and what is in the folder counts for nothing: it is made anew
from the blob, by the first command, before anybody looks at it (``remake``).

A mark goes when its layer goes, or after a sync(2) that began after the mark was made: with the
next image that comes in, which by then has not much to wait for, or before the blob is removed
(``ImageStore.collect``) where the layer stays, since a container stands on it.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from pycontain.errors import DigestMismatch, ImageError, StoreError
from pycontain.image import documents
from pycontain.kernel.process import boot_id
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycontain.image import compression
    from pycontain.image.documents import Configuration, Descriptor, Manifest
    from pycontain.image.store import Image, ImageStore
    from pycontain.store.layout import Layout

WRITTEN = 60.0
"""Seconds after which the kernel has written what nobody asked for: thirty, and some for doing it
(Documentation/admin-guide/sysctl/vm.rst, dirty_expire_centisecs)."""


class Marks:
    """The marks of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folder = layout.unsynced
        self._own = f"{self._folder}/{boot_id()}"

    def make(self, layers: Iterable[str]) -> None:
        """Mark layers, by the hexadecimal digits of their names, before they have them.

        Raises:
            StoreError: a mark cannot be made.
        """
        files.make_folder(self._folder)
        files.make_folder(self._own)
        try:
            for layer in layers:
                # A name of its own: whoever has seen an earlier mark of this layer may be about to
                # remove that, for a sync that began too early for this one.
                os.mknod(f"{self._own}/{layer}-{os.urandom(6).hex()}")
            # The folders may be those of a process that was killed before it synced them.
            for folder in (self._own, self._folder, self._layout.root):
                files.sync_folder(folder)
        except OSError as err:
            raise files.store_error("mark layers", self._own, err) from err

    def marked(self) -> set[str]:
        """Return the layers with a mark of this boot, as hexadecimal digits."""
        return {_layer(path) for path in self._paths(self._own)}

    def foreign(self) -> set[str]:
        """Return the layers with a mark of another boot."""
        return {_layer(path) for boot in self._foreign_boots() for path in self._paths(boot)}

    def sync(self, age: float = 0.0) -> None:
        """Write everything to the disk, where there are marks, and remove those.

        Args:
            age: seconds; younger marks stay.

        Raises:
            StoreError: a mark cannot be removed.
        """
        paths = self._paths(self._own)
        if age:
            latest = time.time() - age
            paths = [path for path in paths if _made(path) <= latest]
        if not paths:
            return
        # Thousands of files: one sync(2) costs less than an fsync(2) for each.
        os.sync()
        for path in paths:
            files.remove(path)

    def sweep(self) -> None:
        """Remove the marks of layers that are gone. Nobody may be making one."""
        for path in self._paths(self._own):
            if not os.path.isdir(self._layout.layer(_layer(path))):
                files.remove(path)

    def settle(self, layers: Iterable[str]) -> None:
        """Remove the marks that other boots left of some layers.

        Raises:
            StoreError: one cannot be removed.
        """
        gone = {*layers}
        for boot in self._foreign_boots():
            for path in self._paths(boot):
                if _layer(path) in gone:
                    files.remove(path)
            with contextlib.suppress(OSError):  # others are left
                os.rmdir(boot)

    def _foreign_boots(self) -> list[str]:
        return [path for path in self._paths(self._folder) if path != self._own]

    def _paths(self, folder: str) -> list[str]:
        try:
            return [f"{folder}/{name}" for name in os.listdir(folder)]
        except FileNotFoundError:
            return []
        except OSError as err:
            raise files.store_error("read", folder, err) from err


def _layer(path: str) -> str:
    return os.path.basename(path).partition("-")[0]


def _made(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:  # another process removed it
        return float("inf")


# ---- after another boot ----


def remake(layout: Layout, store: ImageStore, *, rootless: bool) -> None:
    """Unpack anew what another boot did not leave on the disk for certain.

    To be called before anything stands on a layer in this boot. Others that call it wait. A layer
    that cannot be had from its blob is gone afterwards, which is told by whoever needs it.

    Args:
        layout: of a prepared store.
        store: of that layout.
        rootless: overlay's attributes are ``user.`` ones.

    Raises:
        StoreError: a file cannot be removed or renamed.
    """
    with files.Lock(f"{layout.root}/unsynced.lock"):
        marks = Marks(layout)
        with store.using():
            images = store.readable()
            lost = marks.foreign()
            trees = [*_taken_away(layout, lost)]
            for manifest, configuration in _documents(store, images, lost):
                layers = documents.chain_ids(configuration.rootfs.diff_ids)
                needed = lost.intersection(name.removeprefix("sha256:") for name in layers)
                if needed:
                    _remake(layout, store, manifest, configuration, rootless=rootless)
                    marks.settle(needed)
                    lost -= needed
            marks.settle(lost)
        for tree in trees:
            files.remove_tree(tree)


def _taken_away(layout: Layout, layers: Iterable[str]) -> Iterator[str]:
    """Take the names from layers, and yield what their folders are called then."""
    for layer in layers:
        target = f"{layout.work}/removed-{os.urandom(8).hex()}"
        # Not there: the power went before it had its name, or another try was killed.
        if files.set_aside(layout.layer(layer), target):
            yield target


def _documents(
    store: ImageStore, images: Iterable[Image], lost: set[str]
) -> Iterator[tuple[Manifest, Configuration]]:
    """Yield the documents of images, and those that no name leads to any more, as long as layers
    are `lost`.

    Of an image that was removed by force a container may stand on the layers. Its blobs go after
    its layers were synced, so they are all there where a layer has a mark.
    """
    for image in images:
        yield store.read(image)
    if lost:
        yield from store.unnamed()


def _remake(
    layout: Layout,
    store: ImageStore,
    manifest: Manifest,
    configuration: Configuration,
    *,
    rootless: bool,
) -> None:
    from pycontain.image.extract import Limits
    from pycontain.image.intake import Intake

    # They were within the bounds when they came.
    intake = Intake(layout, store.blobs, _Gone(), rootless=rootless, limits=Limits())
    try:
        intake.run(manifest, configuration)
    except (ImageError, StoreError):
        # Not for this command to tell: it may be the one that makes room, or brings the image.
        # Whoever needs the layer is told that it is not there (ImageStore.ensure, check).
        _drop_damaged(store, manifest.layers)


def _drop_damaged(store: ImageStore, layers: Iterable[Descriptor]) -> None:
    """Remove blobs that are not what their names say: then a load or a pull brings them again."""
    import hashlib

    for layer in layers:
        try:
            with open(store.blobs.path(layer.digest), "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue  # gone, or not to be read: that is told to whoever needs it
        if f"sha256:{found}" != layer.digest:
            store.blobs.remove(layer.digest)


class _Gone:
    """Where blobs come from that the store has not: from nowhere."""

    def layer(
        self, descriptor: Descriptor, start: int
    ) -> contextlib.AbstractContextManager[compression.Reader]:
        raise DigestMismatch(f"layer {descriptor.digest}: its blob is gone, from byte {start} on")

    def abort(self) -> None:
        """Nothing waits."""
