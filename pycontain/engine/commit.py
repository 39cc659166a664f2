"""Images made of files that are here: what a container changed, on top of its image.

``Making`` puts an image together whose new layer is a packed file: the file becomes a blob, and is
then unpacked by the same way on which pulled layers come in (``image.intake``). So what containers
of the image see is what was packed, verified by its digest.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pycontain.engine import effective, layers
from pycontain.errors import InvalidInput, InvalidState, NotFound, NotSupported, StoreError
from pycontain.image import documents, instructions, packing, reference, work
from pycontain.image.documents import Descriptor
from pycontain.image.intake import Intake
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontain.engine.containers import Containers, View
    from pycontain.engine.layers import Layers
    from pycontain.image.compression import Reader
    from pycontain.image.documents import Platform
    from pycontain.image.extract import Limits
    from pycontain.image.store import Image, ImageStore
    from pycontain.model.container import ImageConfig
    from pycontain.store.layout import Layout

GZIP = f"{documents.LAYER}+gzip"
# Of docker's layers to the same bytes in an OCI manifest.
_AS_OCI = {
    "application/vnd.docker.image.rootfs.diff.tar": documents.LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{documents.LAYER}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
}  # fmt: skip


class Layer(NamedTuple):
    """A layer's file that is to become part of an image.

    Attributes:
        path: of the file, in a work folder; it is taken from there.
        descriptor: what a manifest says of it.
        diff_id: of what it is unpacked, ``sha256:…``.
    """

    path: str
    descriptor: Descriptor
    diff_id: str


class Step(NamedTuple):
    """How an image came to be: what its history says of the last step."""

    created_by: str = ""
    author: str = ""
    comment: str = ""


class Making:
    """Makes images of one store.

    Args:
        layout: of the store.
        store: of that layout.
        rootless: overlay's attributes are ``user.`` ones.
        limits: what a layer may have.
    """

    def __init__(
        self, layout: Layout, store: ImageStore, *, rootless: bool, limits: Limits
    ) -> None:
        self._layout = layout
        self._store = store
        self._rootless = rootless
        self.limits = limits

    @contextlib.contextmanager
    def place(self) -> Iterator[str]:
        """Yield a folder to pack into; what a failure leaves in the store goes at the end."""
        with self._store.receiving(), work.folder(self._layout) as (place, _):
            yield place

    def base(self, name: str, identity: str) -> Image:
        """Return the image of a container.

        Raises:
            NotFound: it was removed by force; the container has its layers unpacked alone.
        """
        try:
            return self._store.resolve(identity)
        except NotFound as err:
            raise NotFound(
                f"commit {name}: its image {identity[:19]} was removed",
                f"pycontain export {name} | pycontain import -",
            ) from err

    def add(
        self,
        base: Image | None,
        layer: Layer | None,
        config: ImageConfig,
        step: Step,
        *,
        names: Sequence[str],
        platform: Platform | None = None,
    ) -> Image:
        """Put an image in; from inside of ``place``.

        Args:
            base: what it stands on, None for nothing.
            layer: what is new; None where nothing is.
            config: of the new image.
            step: for its history.
            names: local ones, taken from whoever has them.
            platform: of an image without a base, default this machine's.

        Raises:
            ImageError: the layer cannot be unpacked, or there are too many.
            StoreError: a file cannot be written, or a layer of the base is not there.
        """
        descriptors, document = self._begun(base, platform)
        if layer is not None:
            descriptors.append(layer.descriptor)
            self._install(layer)
        data = _document(document, layer, config, step)
        described = Descriptor(
            media_type=documents.CONFIG, digest=documents.digest_of(data), size=len(data)
        )
        manifest = documents.manifest_of(described, descriptors)
        parsed = documents.parse(manifest, documents.MANIFEST, "new image")
        assert isinstance(parsed, documents.Manifest)
        Intake(
            self._layout,
            self._store.blobs,
            _Nowhere(),
            rootless=self._rootless,
            limits=self.limits,
        ).run(parsed, documents.parse_configuration(data, parsed, "new image"))
        return self._store.add(manifest, documents.MANIFEST, data, [*names])

    def _begun(
        self, base: Image | None, platform: Platform | None
    ) -> tuple[list[Descriptor], dict[str, Any]]:
        """The layers, and what the configuration begins with."""
        if base is None:
            new = platform or documents.host_platform()
            return [], {**msgspec.to_builtins(new), "rootfs": {"diff_ids": []}}
        manifest, _ = self._store.read(base)
        _, _, data = self._store.raw(base)
        layers = [
            Descriptor(
                media_type=_AS_OCI.get(layer.media_type, layer.media_type),
                digest=layer.digest, size=layer.size, annotations=layer.annotations,
            )
            for layer in manifest.layers
        ]  # fmt: skip
        return layers, documents.decode(data, dict[str, Any], base.id)

    def _install(self, layer: Layer) -> None:
        self._store.blobs.prepare()
        with open(layer.path, "rb") as file:
            os.fdatasync(file.fileno())
        work.install((layer.path, self._store.blobs.path(layer.descriptor.digest)))


class _Nowhere:
    """Where layers come from that all should be here."""

    def layer(
        self, descriptor: Descriptor, start: int
    ) -> contextlib.AbstractContextManager[Reader]:
        raise StoreError(f"layer {descriptor.digest}: its blob is gone, from byte {start} on")

    def abort(self) -> None:
        """Nothing waits."""


# ---- documents ----


def _document(begun: dict[str, Any], layer: Layer | None, config: ImageConfig, step: Step) -> bytes:
    """The configuration of an image, unknown fields of the one before it included."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    diff_ids = [*begun["rootfs"]["diff_ids"], *([] if layer is None else [layer.diff_id])]
    history = _padded(begun)
    entry: dict[str, Any] = {"created": now}
    entry |= {name: value for name, value in step._asdict().items() if value}
    if layer is None:
        entry["empty_layer"] = True
    document = {
        **{name: begun[name] for name in _KEPT if begun.get(name)},
        "created": now,
        "config": _merged(begun.get("config") or {}, config),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*history, entry],
    }
    if step.author:
        document["author"] = step.author
    return msgspec.json.encode(document)


_KEPT = ("architecture", "os", "variant", "os.version", "os.features")


def _padded(begun: dict[str, Any]) -> list[dict[str, Any]]:
    """The history so far, with a step for each layer that none tells of."""
    history: list[dict[str, Any]] = begun.get("history") or []
    told = sum(not step.get("empty_layer") for step in history)
    untold = len(begun["rootfs"]["diff_ids"]) - told
    created = {"created": begun["created"]} if begun.get("created") else {}
    return [*history, *(dict(created) for _ in range(untold))]


def _merged(before: dict[str, Any], config: ImageConfig) -> dict[str, Any]:
    own = msgspec.to_builtins(config)
    foreign = {name: value for name, value in before.items() if name not in own}
    return foreign | {name: value for name, value in own.items() if value}


# ---- a container ----


class Asked(NamedTuple):
    """What an image that is made here is to be, as the user says it.

    Attributes:
        name: local one, with a tag or without; None for none.
        changes: lines as in a Dockerfile.
        author: for the history.
        message: the same.
    """

    name: str | None = None
    changes: Sequence[str] = ()
    author: str = ""
    message: str = ""

    def names(self) -> tuple[str, ...]:
        """Return the names of the new image.

        Raises:
            InvalidInput: it is no name for an image that is new.
        """
        if not self.name:
            return ()
        ref = reference.parse(self.name)
        if ref.digest is not None:
            raise InvalidInput(f"refusing to create a tag with a digest reference: {self.name}")
        return (ref.local,)

    def applied(self, config: ImageConfig) -> ImageConfig:
        """Return a configuration with the changes.

        Raises:
            InvalidInput: a change is malformed, or only a build can do it.
        """
        return instructions.apply(config, instructions.parse("\n".join(self.changes)))


def commit(
    containers: Containers,
    making: Making,
    view: View,
    asked: Asked,
    *,
    pause: bool | None,
    opened: Callable[[], contextlib.AbstractContextManager[Layers]],
) -> Image:
    """Make an image of a container; see ``Containers.commit``.

    Args:
        containers: of the store.
        making: of the same.
        view: the container.
        asked: what the image is to be.
        pause: whether the container's processes wait.
        opened: opens its layers.
    """
    names = asked.names()
    container = view.container
    config = asked.applied(effective.configuration(container))
    with making.place() as place:
        base = making.base(container.name, container.image_id)
        with _standing_still(containers, view, pause):
            layer = _packed(opened, f"{place}/layer")
        step = Step(" ".join(container.command), asked.author, asked.message)
        return making.add(base, layer, config, step, names=names)


@contextlib.contextmanager
def _standing_still(containers: Containers, view: View, pause: bool | None) -> Iterator[None]:
    """Have a container's processes wait, where they can; None: without an error where not."""
    if pause is False or view.status.state != "running":
        yield
        return
    try:
        containers.pause(view.container.id)
    except NotSupported:
        if pause:
            raise
        yield
        return
    except InvalidState:  # it has ended since, or somebody paused it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(InvalidState, NotFound):  # somebody let it go on, or removed it
            containers.unpause(view.container.id)


def _packed(
    opened: Callable[[], contextlib.AbstractContextManager[Layers]], path: str
) -> Layer | None:
    """Pack what a container changed; None where that is nothing."""
    try:
        with open(path, "xb", buffering=0) as file:
            output = packing.Output(file, gzip=True)
            packer = packing.Packer(output, packing.attributes_of, sparse=True)
            with opened() as found:
                layers.pack(found, packer)
            packer.finish()
            output.finish()
    except OSError as err:
        raise files.store_error("pack", path, err) from err
    if not packer.entries:
        return None
    descriptor = Descriptor(media_type=GZIP, digest=output.digest, size=output.size)
    return Layer(path, descriptor, output.diff_id)
