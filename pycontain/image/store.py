"""The image store: an OCI image layout on disk, with every layer also unpacked beside it.

Readers take no lock: ``index.json`` is replaced atomically, and whatever it names is there as a
whole. Who brings an image in, or makes something that stands on one, has a shared lock on the
store's content until it is named in a document; what no document names is removed under the
exclusive one (``collect``). Nothing is counted.

Source: OCI image-spec 1.1 (image-layout.md, manifest.md, config.md, layer.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import msgspec

from pycontain.errors import ImageError, InvalidInput, NotFound, RegistryError, StoreError
from pycontain.image import documents, reference
from pycontain.image.blobs import Blobs
from pycontain.image.index import FROM_INDEX, REF_NAME, IndexFile
from pycontain.image.marks import Marks
from pycontain.model.container import ImageConfig
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pycontain.image.documents import Configuration, Descriptor, Manifest
    from pycontain.store.layout import Layout

    Progress = Callable[[str], None]
    Words = list[str]  # in the class, "list" is its method

_HEX = frozenset("0123456789abcdef")


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image of the store.

    Attributes:
        id: digest of its configuration, ``sha256:…``.
        names: local names, as ``busybox:latest``; none when another image took them over.
        digests: as which registries have it, ``reg.io/app@sha256:…``: it was pulled from or pushed
            to them.
        digest: of its manifest, ``sha256:…``.
        index: of the index that it was chosen from, if it was.
        config: what it says about the process.
        diff_ids: digests of its uncompressed layers, bottom first.
        layers: what its unpacked layers are called (``documents.chain_ids``), bottom first.
        created: nanoseconds since the epoch, None when it does not say.
        size: of its layers, bytes.
        architecture: in Go's words, ``amd64``.
        os: likewise, ``linux``.
    """

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...] = ()
    digest: str
    index: str | None = None
    config: ImageConfig
    diff_ids: tuple[str, ...]
    layers: tuple[str, ...]
    created: int | None
    size: int
    architecture: str
    os: str
    variant: str = ""


def _unknown() -> None:
    """Nobody says what stands on the layers."""


class ImageStore:
    """The images under one store's root.

    Args:
        layout: of a prepared store.
        recipes_folder: where recipes are, default the built-in ones.
        in_use: returns the layers that something else than an image stands on; None where that is
            not known. Then, and without it, no layer is removed.
    """

    def __init__(
        self,
        layout: Layout,
        recipes_folder: str | None = None,
        in_use: Callable[[], Iterable[str] | None] = _unknown,
    ) -> None:
        self._layout = layout
        self._recipes = recipes_folder
        self._in_use = in_use
        self._index = IndexFile(f"{layout.images}/index.json")
        self.blobs = Blobs(layout)

    def resolve(self, name: str) -> Image:
        """Return the image that `name` means: reference, ``sha256:<id>``, or start of an id.

        A name wins over an id, as in docker; with ``name@sha256:…`` the manifest's digest counts,
        or that of the index it was chosen from.

        Raises:
            InvalidInput: not a reference, or the start of more than one id.
            NotFound: no such image.
            StoreError: a document is damaged.
            DigestMismatch: a document has not the size that it should.
        """
        image = self._lookup(name)
        if image is None:
            raise NotFound(f"image {name}: no such image")
        return image

    def list(self) -> tuple[Image, ...]:
        """Return all images, in the order in which they came.

        Raises:
            StoreError: a document is damaged.
            DigestMismatch: a document has not the size that it should.
        """
        descriptors = self._index.read()
        digests = dict.fromkeys(item.digest for item in descriptors if self._is_image(item))
        return tuple(self._image(digest, descriptors) for digest in digests)

    def readable(self) -> tuple[Image, ...]:
        """Return the images whose documents are not damaged, in the order in which they came.

        Raises:
            StoreError: the index is damaged.
        """
        descriptors = self._index.read()
        found = []
        for digest in dict.fromkeys(item.digest for item in descriptors):
            with contextlib.suppress(StoreError, ImageError):
                found.append(self._image(digest, descriptors))
        return tuple(found)

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

    def read(self, image: Image) -> tuple[Manifest, Configuration]:
        """Return the documents of an image.

        Raises:
            StoreError: one is damaged.
            DigestMismatch: one has not the size that it should.
        """
        return self._documents(self._descriptor(image))

    def unnamed(self) -> Iterator[tuple[Manifest, Configuration]]:
        """Yield the documents of images whose blobs are here though the index does not name them.

        Such are there between a removal and the ``collect`` after it. Who asks is in ``using``.
        """
        known = {item.digest for item in self._index.entries()}
        for digest in self.blobs.digests():
            found = None if digest in known else self._unnamed(self.blobs.path(digest))
            if found is not None:
                yield found

    def _unnamed(self, path: str) -> tuple[Manifest, Configuration] | None:
        """The documents of the image whose manifest a blob is; None where it is no manifest."""
        try:
            if os.stat(path).st_size > documents.MANIFEST_LIMIT:
                return None
            data = files.read(path)
            try:
                manifest = documents.parse(data, "", path)
            except ImageError:
                manifest = documents.parse(data, documents.MANIFEST, path)
            if not isinstance(manifest, documents.Manifest):
                return None
            configuration = self.blobs.read(manifest.config)
            return manifest, documents.parse_configuration(configuration, manifest, path)
        except (ImageError, StoreError, NotFound, FileNotFoundError):
            return None  # a layer, say, or an image of which not all is here

    def raw(self, image: Image) -> tuple[Descriptor, bytes, bytes]:
        """Return what the index says of an image, its manifest and its configuration, as bytes.

        Raises:
            StoreError, DigestMismatch: as for ``read``.
        """
        descriptor = self._descriptor(image)
        manifest, _ = self._documents(descriptor)
        return descriptor, self.blobs.read(descriptor), self.blobs.read(manifest.config)

    # ---- changes ----

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Keep all of the store's content where it is, also what no document names yet.

        Raises:
            StoreError: the lock cannot be taken.
        """
        with files.Lock(self._layout.content_lock, shared=True):
            yield

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        """Be in ``using`` while an image comes in; what an image that is refused brought goes.

        Where a registry failed it stays: the next try goes on there.

        Raises:
            StoreError: as for ``using`` and ``collect``.
        """
        begun = time.time()
        try:
            with self.using():
                yield
        except RegistryError:
            raise
        except ImageError:
            self.collect(begun)
            raise
        self.collect()

    def add(
        self,
        manifest: bytes,
        media_type: str,
        configuration: bytes,
        names: Words,
        index: bytes | None = None,
    ) -> Image:
        """Put an image in whose layers are there, give it names, and return it.

        The caller has been in ``using`` since before the layers came.

        Args:
            manifest: its bytes.
            media_type: of the manifest.
            configuration: its bytes.
            names: local ones, and such with a digest, taken from whoever has them; an image that
                loses its last stays.
            index: bytes of the index that it was chosen from.

        Raises:
            ImageError: the documents do not belong together.
            StoreError: a file cannot be written.
        """
        self.blobs.prepare()
        parsed = documents.parse(manifest, media_type, "manifest")
        if not isinstance(parsed, documents.Manifest):
            raise ImageError("manifest: an index, not an image")
        documents.check_image(manifest, "manifest")
        documents.verify(configuration, parsed.config)
        self.blobs.add(configuration)
        digest = self.blobs.add(manifest)
        chosen = {FROM_INDEX: self.blobs.add(index)} if index is not None else None
        descriptor = documents.Descriptor(
            media_type=media_type, digest=digest, size=len(manifest), annotations=chosen
        )
        with files.Lock(self._layout.images_lock):
            self._index.name(descriptor, names)
        return self._image(digest, self._index.read())

    def check(self, image: Image) -> None:
        """Check that an image's layers are there; from inside of ``using`` they stay.

        Raises:
            NotFound: the image was removed.
        """
        for layer in image.layers:
            if not os.path.isdir(self._layout.layer(layer)):
                raise NotFound(f"image {image.id}: it was removed meanwhile")

    def tag(self, image: Image, name: str) -> None:
        """Give an image one more name, taken from whoever has it.

        Raises:
            InvalidInput: `name` is no reference, or has a digest.
            NotFound: the image is not there any more.
            StoreError: the index cannot be written.
        """
        ref = reference.parse(name)
        if ref.digest is not None:
            raise InvalidInput(f"refusing to create a tag with a digest reference: {name}")
        with self.using():
            self._name(image, ref.local)

    def is_at(self, image: Image, repository: str, digest: str) -> None:
        """Note that a registry has an image: `repository` under `digest`.

        Raises:
            NotFound: the image is not there any more.
            StoreError: the index cannot be written.
        """
        self._name(image, f"{repository}@{digest}")

    def _name(self, image: Image, name: str) -> None:
        with files.Lock(self._layout.images_lock):
            descriptor = self._descriptor(image)
            annotations = dict(descriptor.annotations or {})
            annotations.pop(REF_NAME, None)
            bare = msgspec.structs.replace(descriptor, annotations=annotations or None)
            self._index.name(bare, [name])

    def forget(self, image: Image, names: Iterable[str] | None = None) -> None:
        """Take names away from an image; without `names` the image. ``collect`` gives the space.

        Raises:
            StoreError: the index cannot be written.
        """
        with files.Lock(self._layout.images_lock):
            self._index.forget(image.digest, None if names is None else [*names])

    def collect(self, since: float | None = None) -> int | None:
        """Remove what nothing in the index leads to and nobody stands on, and what the killed left.

        Interrupted downloads stay for a day (``blobs.KEPT``): a later try goes on there.

        Args:
            since: seconds since the epoch; downloads that were written to after it go too.

        Returns:
            Bytes of blobs that were freed; None where somebody brings something in just now: then
            nothing was removed, and they do it at their end.

        Raises:
            StoreError: a document is damaged, or a file cannot be removed.
        """
        lock = files.Lock(self._layout.content_lock)
        if not lock.acquire(wait=False):
            return None
        try:
            freed, trees = self._unreferenced(since)
        finally:
            lock.release()
        for tree in trees:
            files.remove_tree(tree)
        return freed

    def _unreferenced(self, since: float | None) -> tuple[int, Words]:
        """Remove blobs, and take layers out of sight; nobody is in ``using``."""
        kept_blobs, kept_layers = self._marked()
        trees = self._abandoned()
        freed = self.blobs.sweep(since)
        for digest in self.blobs.digests():
            if kept_blobs is not None and digest not in kept_blobs:
                freed += self.blobs.remove(digest)
        files.sweep(self._layout.images)
        if kept_layers is None:
            return freed, trees
        for name in os.listdir(self._layout.layers):
            if f"sha256:{name}" not in kept_layers:
                # Half a layer must not have its name.
                trees.append(f"{self._layout.work}/removed-{os.urandom(8).hex()}")
                files.set_aside(f"{self._layout.layers}/{name}", trees[-1])
        Marks(self._layout).sweep()
        return freed, trees

    def _abandoned(self) -> Words:
        """The folders below ``work/`` whose owners are gone."""
        found: Words = []
        for name in os.listdir(self._layout.work):
            path = f"{self._layout.work}/{name}"
            if not os.path.lexists(f"{path}/lock"):
                found.append(path)
                continue
            lock = files.Lock(f"{path}/lock")
            if lock.acquire(wait=False):
                lock.release()
                found.append(path)
        return found

    def _marked(self) -> tuple[set[str] | None, set[str] | None]:
        """What is stood on: digests of blobs, and names of layers; None: of any of them."""
        layers: set[str] = set()
        for item in self._index.read():
            if self._is_image(item):
                _, configuration = self._documents(item)
                layers |= {*documents.chain_ids(configuration.rootfs.diff_ids)}
        used = self._in_use()
        used = None if used is None else {*used}
        self._make_durable(layers, used)
        return self._marked_blobs(), None if used is None else layers | used

    def _make_durable(self, layers: set[str], used: set[str] | None) -> None:
        """Sync what stays without an image: there will be no blob to make it from (``marks``)."""
        marks = Marks(self._layout)
        bare = {f"sha256:{layer}" for layer in marks.marked()} - layers
        if bare if used is None else bare & used:
            marks.sync()

    def _marked_blobs(self) -> set[str] | None:
        """The blobs that the index leads to; None: not known, where what others put in is damaged.

        That is no reason for anything to fail, but all blobs stay.
        """
        from pycontain.image import reach

        blobs: set[str] = set()
        for item in self._index.entries():
            try:
                blobs |= reach.reachable(self.blobs, item.digest, item.media_type)
            except (ImageError, StoreError):
                return None
            if (index := (item.annotations or {}).get(FROM_INDEX)) is not None:
                blobs.add(index)
        return blobs

    # ---- looking ----

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
                self.collect()
                with self.using():
                    tag = ref.tag or reference.DEFAULT_TAG
                    image = commit.build(self._layout, self, recipe, tag, lock, progress)
                if made is not None:
                    made(image)
        return self._complete(image)

    def _lookup(self, name: str) -> Image | None:
        entries = self._index.entries()
        descriptors = tuple(item for item in entries if item.media_type in documents.MANIFESTS)
        digest = named(name, entries) or self._identified(name, descriptors)
        listed = next((item for item in entries if item.digest == digest), None)
        if listed is None or digest is None:
            return None
        if listed.media_type in documents.MANIFESTS:
            return self._image(digest, descriptors)
        return self._of_list(name, listed, descriptors)

    def _of_list(self, name: str, listed: Descriptor, descriptors: tuple[Descriptor, ...]) -> Image:
        """The image for this machine of a list that has the name."""
        what = f"image {name}"
        if listed.media_type not in documents.INDEXES:
            raise ImageError(f"{what}: not an image, but {listed.media_type[:100]!r}")
        with _damaged():
            index = documents.parse(self.blobs.read(listed), listed.media_type, what)
        assert isinstance(index, documents.Index)
        chosen = documents.choose(index, documents.host_platform(), what).digest
        if all(item.digest != chosen for item in descriptors):
            raise ImageError(
                f"{what}: a list of images, of which that for this machine is not here",
                f"'pycontain manifest inspect {name}' shows the list",
            )
        return msgspec.structs.replace(self._image(chosen, descriptors), index=listed.digest)

    def _identified(self, name: str, descriptors: tuple[Descriptor, ...]) -> str | None:
        start = name.removeprefix("sha256:")
        if not (0 < len(start) <= 64 and _HEX.issuperset(start)):
            return None
        found: dict[str, str] = {}
        for item in filter(self._is_image, descriptors):
            config = self._manifest(item).config.digest
            if config.startswith(f"sha256:{start}"):
                found[config] = item.digest
        if len(found) > 1:
            raise InvalidInput(f"image {name}: {len(found)} ids start with it")
        return next(iter(found.values()), None)

    def _image(self, digest: str, descriptors: tuple[Descriptor, ...]) -> Image:
        mine = [item for item in descriptors if item.digest == digest]
        documents.check_image(self.blobs.read(mine[0]), f"image {digest}")
        manifest, document = self._documents(mine[0])
        names = [(item.annotations or {}).get(REF_NAME) for item in mine]
        return Image(
            id=manifest.config.digest,
            names=tuple(name for name in names if name and "@" not in name),
            digests=tuple(name for name in names if name and "@" in name),
            digest=digest,
            index=(mine[0].annotations or {}).get(FROM_INDEX),
            config=document.config or ImageConfig(),
            diff_ids=document.rootfs.diff_ids,
            layers=documents.chain_ids(document.rootfs.diff_ids),
            created=documents.nanoseconds(document.created),
            size=sum(layer.size for layer in manifest.layers),
            architecture=document.architecture,
            os=document.os,
            variant=document.variant,
        )

    def _descriptor(self, image: Image) -> Descriptor:
        for item in self._index.read():
            if item.digest == image.digest:
                return item
        raise NotFound(f"image {image.id}: it was removed meanwhile")

    def _documents(self, descriptor: Descriptor) -> tuple[Manifest, Configuration]:
        manifest = self._manifest(descriptor)
        data = self.blobs.read(manifest.config)
        path = self.blobs.path(manifest.config.digest)
        with _damaged():
            return manifest, documents.parse_configuration(data, manifest, path)

    def _is_image(self, descriptor: Descriptor) -> bool:
        return documents.artifact_type(self.blobs.read(descriptor)) is None

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        data = self.blobs.read(descriptor)
        path = self.blobs.path(descriptor.digest)
        with _damaged():
            manifest = documents.parse(data, descriptor.media_type, path)
            if isinstance(manifest, documents.Manifest):
                return manifest
        raise ImageError(f"{path}: an index, not an image")

    def _complete(self, image: Image) -> Image:
        for layer in image.layers:
            folder = self._layout.layer(layer)
            if not os.path.isdir(folder):
                raise ImageError(
                    f"image {image.id}: layer {layer}: not unpacked in {folder}",
                    "load or pull it again",
                )
        return image

    def _hint(self) -> str | None:
        from pycontain.image import recipes

        try:
            return "images that can be built: " + " ".join(recipes.offers(self._recipes))
        except NotFound:
            return None


@contextlib.contextmanager
def _damaged() -> Iterator[None]:
    """A document of the store was right when it came."""
    try:
        yield
    except ImageError as err:
        raise StoreError(f"read: {err}: damaged", err.hint) from err


def _is_id(name: str) -> bool:
    """Tell whether `name` can only be an id: a whole one, or marked as one."""
    return name.startswith("sha256:") or (len(name) == 64 and _HEX.issuperset(name))


def named(name: str, descriptors: Iterable[Descriptor]) -> str | None:
    """Return the digest of what the index calls `name`: a tag, or a digest at a registry.

    Raises:
        InvalidInput: it is no reference.
    """
    if _is_id(name):
        return None
    ref = reference.parse(name)
    for item in descriptors:
        annotations = item.annotations or {}
        called = annotations.get(REF_NAME) or ""
        if ref.digest is None:
            if called == ref.local:
                return item.digest
            continue
        if f"{ref.name}@{ref.digest}" == called:
            return item.digest
        digests = (item.digest, annotations.get(FROM_INDEX))
        if ref.digest in digests and repository_of(called) == ref.name:
            return item.digest
    return None


def repository_of(name: str) -> str:
    """Return the repository of a name in the store, ``reg.io/app``."""
    repository, at, _ = name.partition("@")
    return repository if at else name.rpartition(":")[0]
