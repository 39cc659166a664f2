"""From the store to a registry.

Source: OCI distribution-spec 1.1, push, with cross repository blob mounts.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import ImageError, NotFound, RegistryError
from pycontain.image import documents, reference
from pycontain.model.progress import LayerProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontain.image.blobs import Blobs
    from pycontain.image.documents import Descriptor, Manifest
    from pycontain.image.intake import Report
    from pycontain.image.reference import Reference
    from pycontain.image.registry import Registry
    from pycontain.image.store import Image, ImageStore

    Tell = Callable[..., None]

_AT_ONCE = 3
_DEPTH = 4


def push(
    store: ImageStore,
    registry: Registry,
    image: Image,
    ref: Reference,
    *,
    sources: tuple[str, ...] = (),
    report: Report | None = None,
) -> tuple[str, int]:
    """Send an image to a registry; what is there is not sent again.

    Args:
        store: which has it.
        registry: of the reference's domain.
        image: what to send.
        ref: where to.
        sources: repositories of that registry that may have its layers.
        report: is told how far each layer is, from several threads.

    Returns:
        The digest of the manifest there, and its size in bytes.

    Raises:
        RegistryError: it refused, or could not be reached.
        NotFound: a blob is gone.
    """
    descriptor, data, _ = store.raw(image)
    manifest, _ = store.read(image)
    _Push(store.blobs, registry, ref, sources, report).all(manifest)
    digest = registry.put_manifest(
        ref.path, ref.tag or reference.DEFAULT_TAG, data, descriptor.media_type
    )
    return digest, len(data)


class Origin(NamedTuple):
    """Where the blobs of a manifest may be had that are not in the store.

    Attributes:
        repositories: of the registry that it goes to.
        fetch: brings one into the store from where the manifest is from; None: from nowhere.
    """

    repositories: tuple[str, ...] = ()
    fetch: Callable[[Descriptor], None] | None = None


def push_list(
    blobs: Blobs,
    registry: Registry,
    listed: Descriptor,
    ref: Reference,
    *,
    origins: Mapping[str, Origin],
    report: Report | None = None,
) -> tuple[str, int, tuple[str, ...]]:
    """Send a list of images to a registry: each image first, then the list.

    Args:
        blobs: of the store.
        registry: of the reference's domain.
        listed: the list.
        ref: where to.
        origins: of the manifests, by their digests.
        report: is told how far each layer is, from several threads.

    Returns:
        The digest of the list there, its size in bytes, and the digests of its manifests.

    Raises:
        RegistryError: it refused, or could not be reached.
        NotFound: what neither the store nor the registry has.
        ImageError: a document is damaged.
    """
    index = documents.parse(blobs.read(listed), listed.media_type, f"list {listed.digest}")
    assert isinstance(index, documents.Index)
    members = _Members(blobs, registry, ref, origins, report)
    for item in index.manifests:
        members.send(item, _DEPTH)
    data = blobs.read(listed)
    digest = registry.put_manifest(
        ref.path, ref.tag or reference.DEFAULT_TAG, data, listed.media_type
    )
    return digest, len(data), tuple(dict.fromkeys(item.digest for item in index.manifests))


class _Members:
    """The sending of a list's members, of those of lists among them, too; of each once."""

    def __init__(
        self,
        blobs: Blobs,
        registry: Registry,
        ref: Reference,
        origins: Mapping[str, Origin],
        report: Report | None,
    ) -> None:
        self._blobs = blobs
        self._registry = registry
        self._ref = ref
        self._origins = origins
        self._report = report
        # With their types: one document may be named as another kind, which is then refused.
        self._sent: set[tuple[str, str]] = set()

    def send(self, item: Descriptor, depth: int) -> None:
        """Send a member and what it names; `depth`: how many lists may be below it."""
        if (item.digest, item.media_type) in self._sent:
            return
        if self._blobs.has(item):
            self._send_document(item, depth)
        else:
            _check_there(self._registry, item, self._ref)
        self._sent.add((item.digest, item.media_type))

    def _send_document(self, item: Descriptor, depth: int) -> None:
        data = self._blobs.read(item)
        parsed = documents.parse(data, item.media_type, f"manifest {item.digest}")
        if isinstance(parsed, documents.Manifest):
            origin = self._origins.get(item.digest, Origin())
            sources, fetch = origin.repositories, origin.fetch
            _Push(self._blobs, self._registry, self._ref, sources, self._report, fetch).all(parsed)
        elif not depth:
            raise ImageError(f"list {item.digest}: more than {_DEPTH} lists below each other")
        else:
            for below in parsed.manifests:
                self.send(below, depth - 1)
        self._registry.put_manifest(self._ref.path, item.digest, data, item.media_type)


def _check_there(registry: Registry, item: Descriptor, ref: Reference) -> None:
    """A list may name what nobody brought here: then the registry has to have it."""
    try:
        registry.resolve(ref.path, item.digest)
    except RegistryError as err:
        if err.status != 404:
            raise
        raise NotFound(
            f"push {ref}: manifest {item.digest}: neither in the store nor in the repository"
        ) from err


class _Push:
    """The sending of one image's blobs."""

    def __init__(
        self,
        blobs: Blobs,
        registry: Registry,
        ref: Reference,
        sources: tuple[str, ...],
        report: Report | None,
        fetch: Callable[[Descriptor], None] | None = None,
    ) -> None:
        self._blobs = blobs
        self._fetch = fetch
        self._registry = registry
        self._ref = ref
        self._sources = sources
        self._report = report
        self._lock = threading.Lock()

    def all(self, manifest: Manifest) -> None:
        """Send what a manifest names."""
        with ThreadPoolExecutor(_AT_ONCE, "pycontain-push") as pool:
            blobs = {item.digest: item for item in (*manifest.layers, manifest.config)}
            futures = [
                pool.submit(self.blob, item, told=item is not manifest.config)
                for item in blobs.values()
            ]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._registry.close()
                for future in futures:
                    future.cancel()
                raise

    def blob(self, item: Descriptor, *, told: bool) -> None:
        """Send one, unless it is there or another repository has it; `told`: it is a layer."""
        if not told:
            self._send(item, lambda *_: None)
            return

        def tell(step: str, done: int, origin: str = "") -> None:
            self._tell(LayerProgress(item.digest, step, done, item.size, origin))

        self._send(item, tell)

    def _send(self, item: Descriptor, tell: Tell) -> None:
        if self._registry.has_blob(self._ref.path, item.digest):
            tell("exists", item.size)
            return
        for source in self._sources:
            if self._registry.mount_blob(self._ref.path, item.digest, source):
                tell("mounted", item.size, source)
                return
        if not self._blobs.has(item) and self._fetch is not None:
            tell("uploading", 0)
            self._fetch(item)
        if not self._blobs.has(item):
            raise NotFound(
                f"push {self._ref}: blob {item.digest}: neither in the store nor in a repository"
                f" of {self._ref.domain} that is known to have it",
                "pull or load its image first",
            )
        path = self._blobs.path(item.digest)
        tell("uploading", 0)
        self._registry.upload_blob(
            self._ref.path,
            item.digest,
            item.size,
            lambda: open(path, "rb"),  # noqa: SIM115 - closed by whom it is opened for
            lambda done: tell("uploading", done),
        )
        tell("done", item.size)

    def _tell(self, progress: LayerProgress) -> None:
        if self._report is not None:
            with self._lock:
                self._report(progress)
