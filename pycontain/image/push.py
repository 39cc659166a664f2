"""From the store to a registry.

Source: OCI distribution-spec 1.1, push, with cross repository blob mounts.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pycontain.image import reference
from pycontain.model.progress import LayerProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.image.documents import Descriptor
    from pycontain.image.intake import Report
    from pycontain.image.reference import Reference
    from pycontain.image.registry import Registry
    from pycontain.image.store import Image, ImageStore

    Tell = Callable[..., None]

_AT_ONCE = 3


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
        StoreError: a blob is gone.
    """
    descriptor, data, _ = store.raw(image)
    manifest, _ = store.read(image)
    job = _Push(store, registry, ref, sources, report)
    with ThreadPoolExecutor(_AT_ONCE, "pycontain-push") as pool:
        blobs = {item.digest: item for item in (*manifest.layers, manifest.config)}
        futures = [
            pool.submit(job.blob, item, told=item is not manifest.config) for item in blobs.values()
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            registry.close()
            for future in futures:
                future.cancel()
            raise
    digest = registry.put_manifest(
        ref.path, ref.tag or reference.DEFAULT_TAG, data, descriptor.media_type
    )
    return digest, len(data)


class _Push:
    """The sending of one image's blobs."""

    def __init__(
        self,
        store: ImageStore,
        registry: Registry,
        ref: Reference,
        sources: tuple[str, ...],
        report: Report | None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._ref = ref
        self._sources = sources
        self._report = report
        self._lock = threading.Lock()

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
        path = self._store.blobs.path(item.digest)
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
