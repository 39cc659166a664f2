"""From a registry into the store.

Source: OCI distribution-spec 1.1, pull.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import DigestMismatch, ImageError, NotFound
from pycontain.image import documents, reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.image.documents import Configuration, Descriptor, Manifest, Platform
    from pycontain.image.download import Download
    from pycontain.image.extract import Limits
    from pycontain.image.intake import Report
    from pycontain.image.reference import Reference
    from pycontain.image.registry import Registry
    from pycontain.image.store import Image, ImageStore
    from pycontain.store.layout import Layout


class Pulled(NamedTuple):
    """What a pull came to.

    Attributes:
        image: in the store.
        digest: what the name stands for at the registry: of the manifest, or of an index.
        new: whether the name meant something else before.
        name: what the image is called in the store, with its registry.
    """

    image: Image
    digest: str
    new: bool
    name: str


class _Fetched(NamedTuple):
    """The documents of an image, as a registry has them."""

    digest: str
    data: bytes
    media_type: str
    manifest: Manifest
    list_: bytes | None
    chosen: Descriptor | None


def pull(
    store: ImageStore,
    layout: Layout,
    registry: Registry,
    ref: Reference,
    *,
    platform: Platform | None,
    rootless: bool,
    limits: Limits,
    report: Report | None = None,
) -> Pulled:
    """Bring an image from a registry, and give it the name.

    Args:
        store: to put it in.
        layout: of that store.
        registry: of the reference's domain.
        ref: what to pull.
        platform: None: this machine's.
        rootless: the store is an ordinary user's.
        limits: of a layer.
        report: is told how far each layer is.

    Raises:
        RegistryError: it could not be got.
        ImageError: it is damaged, hostile, or for other platforms.
        StoreError: it cannot be written.
    """
    wanted = ref.digest or ref.tag or reference.DEFAULT_TAG
    called = str(ref) if ref.digest else ref.local
    present = _present(store, ref)
    if present is not None and platform is None:
        digest = ref.digest or registry.resolve(ref.path, wanted).digest
        if _is_meant(present, digest) and _is_whole(store, present, ref, digest):
            return Pulled(store.resolve(present.id), digest, new=False, name=called)
    from pycontain.image.intake import Intake

    fetched = _fetch(registry, ref, wanted, platform)
    data = configuration_of(store, registry, ref, fetched.manifest.config)
    configuration = documents.parse_configuration(data, fetched.manifest, str(ref))
    if not _is_stated(fetched.chosen, configuration):
        _check_platform(configuration, platform, ref)
    store.blobs.prepare()
    with store.receiving():
        source = _Layers(registry, ref.path)
        digest = documents.digest_of(fetched.data)
        if any(image.digest == digest for image in store.list()):
            report = None  # the image is known under another name: docker too tells nothing
        intake = Intake(
            layout, store.blobs, source, rootless=rootless, limits=limits, report=report
        )
        intake.run(fetched.manifest, configuration)
        names = [f"{ref.name}@{fetched.digest}"]
        # With a digest a tag says nothing, as for docker.
        names += [ref.local] if ref.digest is None else []
        image = store.add(fetched.data, fetched.media_type, data, names, fetched.list_)
    new = present is None or present.digest != image.digest
    return Pulled(image, fetched.digest, new, called)


def _present(store: ImageStore, ref: Reference) -> Image | None:
    try:
        return store.resolve(str(ref) if ref.digest else ref.local)
    except (NotFound, ImageError):
        return None  # nothing; or a list, none of whose images is here


def _is_meant(image: Image, digest: str) -> bool:
    """Whether a digest is that of an image, or of an index of which it is this machine's part."""
    host = documents.host_platform()
    mine = documents.Platform(image.architecture, image.os, image.variant)
    mine_is_host_s = mine.architecture == host.architecture and documents.fits(mine, host)
    return image.digest == digest or (image.index == digest and mine_is_host_s)


def _is_whole(store: ImageStore, image: Image, ref: Reference, digest: str) -> bool:
    """Whether all of an image is there; then it is noted where it is to be had too."""
    try:
        with store.using():
            store.check(image)
            if f"{ref.name}@{digest}" not in image.digests:
                store.is_at(image, ref.name, digest)
    except NotFound:
        return False
    return True


def _fetch(registry: Registry, ref: Reference, wanted: str, platform: Platform | None) -> _Fetched:
    got = registry.manifest(ref.path, wanted)
    parsed = documents.parse(got.data, got.media_type, str(ref))
    if isinstance(parsed, documents.Manifest):
        documents.check_image(got.data, str(ref))
        return _Fetched(got.digest, got.data, got.media_type, parsed, None, None)
    chosen = documents.choose(parsed, platform or documents.host_platform(), str(ref))
    one = registry.manifest(ref.path, chosen.digest)
    documents.verify(one.data, chosen)
    manifest = documents.parse(one.data, chosen.media_type, f"{ref}: {chosen.digest}")
    if not isinstance(manifest, documents.Manifest):
        raise ImageError(f"{ref}: {chosen.digest}: an index inside of an index")
    documents.check_image(one.data, f"{ref}: {chosen.digest}")
    return _Fetched(got.digest, one.data, chosen.media_type, manifest, got.data, chosen)


def configuration_of(
    store: ImageStore, registry: Registry, ref: Reference, descriptor: Descriptor
) -> bytes:
    """Return an image's configuration, of the store or of a registry.

    Raises:
        RegistryError: it could not be got.
        DigestMismatch: it is not the one that it should be.
    """
    if store.blobs.has(descriptor):
        return store.blobs.read(descriptor)
    data = bytearray()
    with registry.blob(ref.path, descriptor.digest) as blob:
        for chunk in blob:
            data += chunk
            if len(data) > descriptor.size:
                raise DigestMismatch(
                    f"{ref}: configuration {descriptor.digest}: more than {descriptor.size} bytes"
                )
    documents.verify(bytes(data), descriptor)
    return bytes(data)


def _is_stated(chosen: Descriptor | None, configuration: Configuration) -> bool:
    """Whether an index says what the image is for: often it alone knows of the variant."""
    platform = None if chosen is None else chosen.platform
    own = configuration.platform
    return platform is not None and (platform.os, platform.architecture) == (
        own.os,
        own.architecture,
    )


def _check_platform(
    configuration: Configuration, platform: Platform | None, ref: Reference
) -> None:
    """An image that is for one platform only is given to whoever names none, as docker does."""
    if platform is not None and not documents.fits(configuration.platform, platform):
        raise ImageError(f"{ref}: it is for {configuration.platform}, not for {platform}")


class _Layers:
    """The layers of one repository; an ``intake.Source``."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self._registry = registry
        self._repository = repository

    @contextlib.contextmanager
    def layer(self, descriptor: Descriptor, start: int) -> Iterator[_Reader]:
        """Open a layer's blob."""
        with self._registry.blob(self._repository, descriptor.digest, start) as download:
            yield _Reader(download)

    def abort(self) -> None:
        """End the downloads."""
        self._registry.close()


class _Reader:
    """A download, read."""

    def __init__(self, download: Download) -> None:
        self._chunks = iter(download)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return what has come, at most `size` bytes; none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
