"""The image store: an OCI image layout on disk, with every layer also unpacked beside it.

Owns finding and reading images; ``commit`` writes them. Readers take no lock: ``index.json`` is
replaced atomically, and whatever it names is there as a whole.

Names are the short local ones (``busybox:latest``) in the index's annotation
``org.opencontainers.image.ref.name``, where skopeo and others look for them:
``skopeo inspect oci:ROOT/images:busybox:latest``.

Source: OCI image-spec 1.1 (image-layout.md, manifest.md, config.md, layer.md). Fields of documents
that others wrote and this code does not know are kept.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pycontain.errors import DigestMismatch, ImageError, InvalidInput, NotFound
from pycontain.image import reference
from pycontain.model.container import ImageConfig
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.store.layout import Layout

    Progress = Callable[[str], None]

T = TypeVar("T")

REF_NAME = "org.opencontainers.image.ref.name"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

_HEX = frozenset("0123456789abcdef")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image of the store.

    Attributes:
        id: digest of its configuration, ``sha256:…``.
        names: local names, as ``busybox:latest``; none when another image took them over.
        digest: of its manifest, ``sha256:…``.
        config: what it says about the process.
        diff_ids: digests of its uncompressed layers, bottom first.
        created: nanoseconds since the epoch, None when it does not say.
        size: of its layers, bytes.
        architecture: in Go's words, ``amd64``.
        os: likewise, ``linux``.
    """

    id: str
    names: tuple[str, ...]
    digest: str
    config: ImageConfig
    diff_ids: tuple[str, ...]
    created: int | None
    size: int
    architecture: str
    os: str


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None

    @property
    def name(self) -> str | None:
        return (self.annotations or {}).get(REF_NAME)


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Descriptor]


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor
    layers: list[_Descriptor]


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...]


class _ImageDocument(msgspec.Struct, frozen=True):
    architecture: str
    os: str
    rootfs: _RootFs
    created: datetime.datetime | None = None
    config: ImageConfig | None = None


class ImageStore:
    """The images under one store's root.

    Args:
        layout: of a prepared store.
        recipes_folder: where recipes are, default the built-in ones.
    """

    def __init__(self, layout: Layout, recipes_folder: str | None = None) -> None:
        self._layout = layout
        self._recipes = recipes_folder
        self._index_path = f"{layout.images}/index.json"
        self._blobs = f"{layout.images}/blobs/sha256"

    def resolve(self, name: str) -> Image:
        """Return the image that `name` means: reference, ``sha256:<id>``, or start of an id.

        A name wins over an id, as in docker; with ``name@sha256:…`` the manifest's digest counts.

        Raises:
            InvalidInput: not a reference, or the start of more than one id.
            NotFound: no such image; the hint lists what could be built.
            StoreError: a document is damaged.
            DigestMismatch: a document has not the size that it should.
        """
        image = self._lookup(name)
        if image is None:
            raise NotFound(f"image {name}: no such image", self._hint())
        return image

    def list(self) -> tuple[Image, ...]:
        """Return all images, in the order in which they came.

        Raises:
            StoreError: a document is damaged.
            DigestMismatch: a document has not the size that it should.
        """
        descriptors = self._descriptors()
        digests = dict.fromkeys(item.digest for item in descriptors)
        return tuple(self._image(digest, descriptors) for digest in digests)

    def ensure(
        self,
        name: str,
        progress: Progress | None = None,
        made: Callable[[Image], object] | None = None,
    ) -> Image:
        """Return the image `name`, built from its recipe when it is not in the store.

        Two processes build an image once: the second waits and finds it. An interrupted build is
        undone, what a killed one left is removed by the next.

        Args:
            name: as for ``resolve``.
            progress: is given one line of text at a time while the image is built.
            made: is given the image when this call has built it.

        Raises:
            NotFound: neither an image nor a recipe; the hint lists the recipes.
            ImageError: the recipe failed, or a layer of the image is gone.
            InvalidInput, StoreError, DigestMismatch: as for ``resolve``.
        """
        image = self._lookup(name)
        return self._make(name, progress, made) if image is None else self._complete(image)

    def reachable(self) -> set[str]:
        """Return every digest that the index leads to: manifests, configurations, layers, diff ids.

        Raises:
            StoreError: a document is damaged.
            DigestMismatch: a document has not the size that it should.
        """
        found: set[str] = set()
        for item in self._descriptors():
            manifest = self._manifest(item)
            document = self._document(manifest.config, _ImageDocument)
            found |= {item.digest, manifest.config.digest, *document.rootfs.diff_ids}
            found |= {layer.digest for layer in manifest.layers}
        return found

    def _make(
        self, name: str, progress: Progress | None, made: Callable[[Image], object] | None
    ) -> Image:
        from pycontain.image import commit, recipes

        recipe = None
        if not _is_id(name):
            ref = reference.parse(name)
            recipe = recipes.find(ref, self._recipes)
        if recipe is None:
            raise NotFound(f"image {name}: no such image", self._hint())
        with commit.locked(self._layout, progress) as lock:
            image = self._lookup(name)
            if image is None:
                tag = ref.tag or reference.DEFAULT_TAG
                commit.build(self._layout, self.reachable, recipe, tag, lock, progress)
                image = self.resolve(name)
                if made is not None:
                    made(image)
        return self._complete(image)

    def _lookup(self, name: str) -> Image | None:
        descriptors = self._descriptors()
        digest = _named(name, descriptors) or self._identified(name, descriptors)
        return None if digest is None else self._image(digest, descriptors)

    def _descriptors(self) -> tuple[_Descriptor, ...]:
        try:
            index = files.load(f"{self._layout.images}/index.json", _Index)
        except NotFound:
            return ()
        return tuple(item for item in index.manifests if item.media_type == MANIFEST_TYPE)

    def _identified(self, name: str, descriptors: tuple[_Descriptor, ...]) -> str | None:
        start = name.removeprefix("sha256:")
        if not (0 < len(start) <= 64 and _HEX.issuperset(start)):
            return None
        found: dict[str, str] = {}
        for item in descriptors:
            config = self._manifest(item).config.digest
            if config.startswith(f"sha256:{start}"):
                found[config] = item.digest
        if len(found) > 1:
            raise InvalidInput(f"image {name}: {len(found)} ids start with it")
        return next(iter(found.values()), None)

    def _image(self, digest: str, descriptors: tuple[_Descriptor, ...]) -> Image:
        mine = [item for item in descriptors if item.digest == digest]
        manifest = self._manifest(mine[0])
        document = self._document(manifest.config, _ImageDocument)
        return Image(
            id=manifest.config.digest,
            names=tuple(item.name for item in mine if item.name),
            digest=digest,
            config=document.config or ImageConfig(),
            diff_ids=document.rootfs.diff_ids,
            created=_nanoseconds(document.created),
            size=sum(layer.size for layer in manifest.layers),
            architecture=document.architecture,
            os=document.os,
        )

    def _manifest(self, descriptor: _Descriptor) -> _Manifest:
        return self._document(descriptor, _Manifest)

    def _document(self, descriptor: _Descriptor, kind: type[T]) -> T:
        path = self._blob(descriptor.digest)
        try:
            size = os.stat(path).st_size
        except OSError as err:
            raise files.store_error("read", path, err) from err
        if size != descriptor.size:
            raise DigestMismatch(f"read: {path}: {size} bytes long instead of {descriptor.size}")
        return files.load(path, kind)

    def _blob(self, digest: str) -> str:
        # Digests come from documents that others may have written: never let one name a path.
        if not (digest.startswith("sha256:") and reference.is_digest(digest)):
            raise ImageError(f"image: digest {digest!r}: not a sha256 digest")
        return f"{self._layout.images}/blobs/sha256/{digest[7:]}"

    def _complete(self, image: Image) -> Image:
        for diff_id in image.diff_ids:
            if not (diff_id.startswith("sha256:") and reference.is_digest(diff_id)):
                raise ImageError(f"image {image.id}: diff id {diff_id!r}: not a sha256 digest")
            folder = self._layout.layer(diff_id)
            if not os.path.isdir(folder):
                raise ImageError(f"image {image.id}: layer {diff_id}: not unpacked in {folder}")
        return image

    def _hint(self) -> str | None:
        from pycontain.image import recipes

        try:
            return "images that can be built: " + " ".join(recipes.offers(self._recipes))
        except NotFound:
            return None


def _is_id(name: str) -> bool:
    """Tell whether `name` can only be an id: a whole one, or marked as one."""
    return name.startswith("sha256:") or (len(name) == 64 and _HEX.issuperset(name))


def _named(name: str, descriptors: tuple[_Descriptor, ...]) -> str | None:
    if _is_id(name):
        return None
    ref = reference.parse(name)
    for item in descriptors:
        if ref.digest is None and item.name == ref.local:
            return item.digest
        if ref.digest == item.digest and (item.name or "").startswith(f"{ref.name}:"):
            return item.digest
    return None


def _nanoseconds(moment: datetime.datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
