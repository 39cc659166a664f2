"""The documents of images, checked as they come: manifests, indexes and configurations.

What others wrote is kept as the bytes that it came in; this module says what those bytes mean. A
document is of the kind that its descriptor (or the registry) says, and of no other: what could be
read as two kinds is refused (CVE-2021-41190).

Source: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md); docker's image
manifest version 2, schema 2.
"""

from __future__ import annotations

import datetime
import os
from typing import Any, TypeVar

import msgspec

from pycontain.errors import DigestMismatch, ImageError, InvalidInput
from pycontain.image import reference
from pycontain.model.container import ImageConfig  # noqa: TC001 - msgspec looks it up
from pycontain.store import files

T = TypeVar("T")

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEXES = frozenset((INDEX, DOCKER_LIST))
MANIFESTS = frozenset((MANIFEST, DOCKER_MANIFEST))
CONFIGS = frozenset((CONFIG, DOCKER_CONFIG))
LAYERS = frozenset(
    (
        LAYER,
        f"{LAYER}+gzip",
        f"{LAYER}+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    )
)

MANIFEST_LIMIT = 4 << 20
"""Bytes of a manifest or an index: what registries take at most."""
CONFIG_LIMIT = 8 << 20
"""Bytes of a configuration."""
MAX_LAYERS = 500
"""Overlayfs stacks no more (fs/overlayfs/params.h)."""

_LARGEST = (1 << 63) - 1
"""Bytes of any file."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Platform(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"os_version": "os.version", "os_features": "os.features"},
):
    """For which machine an image is, in Go's words: ``linux``, ``arm64``, ``v8``."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str | None = None
    os_features: tuple[str, ...] | None = None

    def __str__(self) -> str:
        words = (self.os, self.architecture, self.variant)
        return "/".join(word for word in words if word)


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a document says of another: its media type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True):
    """Several manifests, one for each platform."""

    manifests: tuple[Descriptor, ...]


class Manifest(msgspec.Struct, frozen=True):
    """One image: its configuration and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class RootFs(msgspec.Struct, frozen=True):
    """The digests of the layers, uncompressed, bottom first."""

    diff_ids: tuple[str, ...]


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one layer, or an empty one, came to be."""

    created: datetime.datetime | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """An image's configuration."""

    architecture: str
    os: str
    rootfs: RootFs
    variant: str = ""
    created: datetime.datetime | None = None
    author: str = ""
    config: ImageConfig | None = None
    history: tuple[History, ...] | None = None

    @property
    def platform(self) -> Platform:
        """For which machine it is."""
        return Platform(self.architecture, self.os, self.variant)


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    """The fields by which documents differ."""

    schema_version: int | None = None
    media_type: str = ""
    config: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    manifests: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fs_layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Typed(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str = ""


class _Glance(msgspec.Struct, frozen=True, rename="camel"):
    """What tells an image from another artifact."""

    artifact_type: str = ""
    config: _Typed = _Typed()
    layers: tuple[_Typed, ...] = ()


def artifact_type(data: bytes) -> str | None:
    """Return what kind of artifact a manifest is of; None: of an image, or of nothing readable.

    Registries and layouts hold signatures, charts and the like in manifests of their own
    (image-spec, manifest.md, "Guidelines for Artifact Usage"), and some say that their
    configuration is an image's.
    """
    try:
        found = files.decode(data, _Glance)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found.config.media_type not in CONFIGS:
        return found.artifact_type or found.config.media_type or "unknown"
    strange = next((one for one in found.layers if one.media_type not in LAYERS), None)
    if strange is None:
        return None
    return found.artifact_type or strange.media_type or "unknown"


def check_image(data: bytes, what: str) -> None:
    """Check that a manifest is an image's.

    Raises:
        ImageError: it is an artifact's.
    """
    kind = artifact_type(data)
    if kind is not None:
        raise ImageError(f"{what}: not an image to run, but an artifact: {kind[:100]!r}")


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes, ``sha256:…``."""
    import hashlib

    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hex_of(digest: str) -> str:
    """Return the digits of a sha256 digest: a file's name.

    Raises:
        ImageError: it is none. Digests come from documents of others: none may name a path.
    """
    if not (digest.startswith("sha256:") and reference.is_digest(digest)):
        raise ImageError(f"image: digest {digest!r}: not a sha256 digest")
    return digest[7:]


def verify(data: bytes, descriptor: Descriptor) -> None:
    """Check that some bytes are those of a descriptor.

    Raises:
        DigestMismatch: they are not.
        ImageError: its digest is none.
    """
    hex_of(descriptor.digest)
    if len(data) != descriptor.size:
        raise DigestMismatch(
            f"{descriptor.digest}: {len(data)} bytes long instead of {descriptor.size}"
        )
    found = digest_of(data)
    if found != descriptor.digest:
        raise DigestMismatch(f"{descriptor.digest}: the content has digest {found}")


def parse(data: bytes, media_type: str, what: str) -> Manifest | Index:
    """Return a manifest or an index.

    Args:
        data: the document.
        media_type: which its descriptor or its registry gives it.
        what: its name in errors.

    Raises:
        ImageError: it is neither, could be both, or is not what `media_type` says.
    """
    if len(data) > MANIFEST_LIMIT:
        raise ImageError(f"{what}: {len(data)} bytes are more than a manifest may have")
    kind = decode(data, _Kind, what)
    stated = kind.media_type or media_type
    if media_type and kind.media_type and media_type != kind.media_type:
        raise ImageError(f"{what}: comes as {media_type}, but says it is {kind.media_type}")
    if kind.schema_version == 1 or kind.fs_layers is not msgspec.UNSET:
        raise ImageError(
            f"{what}: a manifest of docker's schema 1", "push the image again with a newer docker"
        )
    one = kind.config is not msgspec.UNSET or kind.layers is not msgspec.UNSET
    several = kind.manifests is not msgspec.UNSET
    if one and several:
        raise ImageError(f"{what}: could be read as a manifest and as an index")
    if stated in INDEXES and several:
        return _checked_index(decode(data, Index, what), what)
    if stated in MANIFESTS and one:
        return _checked_manifest(decode(data, Manifest, what), what)
    if stated in INDEXES | MANIFESTS:
        raise ImageError(f"{what}: its content is not of its kind, {stated}")
    raise ImageError(f"{what}: {stated or 'no media type'}: not an image")


def parse_configuration(data: bytes, manifest: Manifest, what: str) -> Configuration:
    """Return the configuration of an image.

    Raises:
        ImageError: it is none, or has not as many layers as its manifest.
    """
    if manifest.config.media_type not in CONFIGS:
        raise ImageError(f"{what}: {manifest.config.media_type}: not an image to run")
    document = _decode_configuration(data, what)
    diff_ids = document.rootfs.diff_ids
    for diff_id in diff_ids:
        hex_of(diff_id)
    if len(diff_ids) != len(manifest.layers):
        raise ImageError(
            f"{what}: {len(diff_ids)} diff ids, but its manifest has {len(manifest.layers)} layers"
        )
    if document.config is not None:
        _check_words(document.config, what)
    return document


def manifest_of(config: Descriptor, layers: list[Descriptor]) -> bytes:
    """Return the bytes of a new OCI manifest."""
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    return msgspec.json.encode(document)


def chain_ids(diff_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return for each layer the digest of it and all below (image-spec, config.md, Layer ChainID).

    That is what an unpacked layer is called: what it holds may depend on those below it.
    """
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(digest_of(f"{found[-1]} {diff_id}".encode()) if found else diff_id)
    return tuple(found)


def nanoseconds(moment: datetime.datetime | None) -> int | None:
    """Return a moment of a document as nanoseconds since the epoch."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Return a JSON document that others wrote; unknown fields are ignored.

    Raises:
        ImageError: it is none of that kind.
    """
    try:
        return files.decode(data, kind)
    except RecursionError as err:
        raise ImageError(f"{what}: nested too deeply") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        reason = str(err)
        raise ImageError(f"{what}: {reason[:1].lower()}{reason[1:]}") from err


def _decode_configuration(data: bytes, what: str) -> Configuration:
    """Some builders write null for what they leave out, which Go reads as nothing."""
    try:
        return files.decode(data, Configuration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        plain = _without_nulls(decode(data, dict[str, Any], what))
    try:
        return msgspec.convert(plain, Configuration)
    except msgspec.ValidationError as err:
        reason = str(err)
        raise ImageError(f"{what}: {reason[:1].lower()}{reason[1:]}") from err


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _checked_index(index: Index, what: str) -> Index:
    for item in index.manifests:
        _check_descriptor(item, what)
    return index


def _checked_manifest(manifest: Manifest, what: str) -> Manifest:
    _check_descriptor(manifest.config, what)
    if manifest.config.size > CONFIG_LIMIT:
        raise ImageError(
            f"{what}: {manifest.config.size} bytes are more than a configuration may have"
        )
    if len(manifest.layers) > MAX_LAYERS:
        raise ImageError(f"{what}: {len(manifest.layers)} layers are more than {MAX_LAYERS}")
    for layer in manifest.layers:
        _check_descriptor(layer, what)
    return manifest


def _check_descriptor(descriptor: Descriptor, what: str) -> None:
    if not 0 <= descriptor.size <= _LARGEST:
        raise ImageError(f"{what}: {descriptor.digest}: size {descriptor.size}")
    if not reference.is_digest(descriptor.digest):
        raise ImageError(f"{what}: {descriptor.digest!r} is no digest")


def _check_words(config: ImageConfig, what: str) -> None:
    """No word can be handed to execve(2), or be a line of a file, that holds NUL."""
    words = [config.user, config.working_dir, config.stop_signal]
    for several in (config.entrypoint, config.cmd, config.env, config.volumes, config.labels):
        words += several or ()
    for word in words:
        if "\0" in word:
            raise ImageError(f"{what}: {word!r} holds a NUL")


# ---- platforms ----

MACHINES = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"), "i686": ("386", ""), "i386": ("386", ""), "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""), "riscv64": ("riscv64", ""), "mips64": ("mips64le", ""),
}  # fmt: skip
"""uname(2)'s machine to Go's architecture and variant."""

_RUN_TOO = {"amd64": ("386",), "arm64": ("arm",)}
_USUAL_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_OLDER = {"arm": ("v8", "v7", "v6", "v5")}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386",
            "armhf": "arm", "armel": "arm"}  # fmt: skip


def host_platform(machine: str | None = None) -> Platform:
    """Return what this machine runs, or one that uname(2) calls `machine`."""
    machine = machine or os.uname().machine
    architecture, variant = MACHINES.get(machine, (machine, ""))
    return Platform(architecture, "linux", variant)


def parse_platform(text: str) -> Platform:
    """Return the platform ``linux/arm64/v8``, ``arm64`` or ``linux``.

    Raises:
        InvalidInput: it is none, or not of Linux.
    """
    words = text.lower().split("/")
    if not 1 <= len(words) <= 3 or not all(word.isalnum() or "_" in word for word in words):
        raise InvalidInput(
            f"platform {text!r}: not OS/ARCHITECTURE/VARIANT", "as linux/amd64 or linux/arm/v7"
        )
    if len(words) == 1:
        words = (
            [words[0], host_platform().architecture] if words[0] == "linux" else ["linux", *words]
        )
    if words[0] != "linux":
        raise InvalidInput(f"platform {text!r}: only linux is supported, not {words[0]}")
    architecture = _ALIASES.get(words[1], words[1])
    default = {"armhf": "v7", "armel": "v6"}.get(words[1], "")
    return Platform(architecture, "linux", words[2] if len(words) == 3 else default)


def choose(index: Index, wanted: Platform, what: str) -> Descriptor:
    """Return of an index the manifest that fits a platform best.

    An exact variant is better than an older one that the machine runs too, and that better than
    another architecture that it runs (386 on amd64).

    Raises:
        ImageError: none fits; the hint lists what there is.
    """
    if len(index.manifests) == 1 and index.manifests[0].platform is None:
        return index.manifests[0]  # its configuration says what it is for
    best: tuple[int, Descriptor] | None = None
    for item in index.manifests:
        rank = _rank(item.platform, wanted)
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, item)
    if best is None:
        offered = sorted({str(item.platform) for item in index.manifests if item.platform})
        raise ImageError(
            f"{what}: no image for {wanted}", f"there are {', '.join(offered)}" if offered else None
        )
    return best[1]


def fits(platform: Platform, wanted: Platform) -> bool:
    """Whether an image of a platform may be given to whoever wants another."""
    return _rank(platform, wanted) is not None


def _rank(offered: Platform | None, wanted: Platform) -> int | None:
    """How far `offered` is from `wanted`; None: it does not run there."""
    if offered is None or offered.os != wanted.os:
        return None
    architectures = (wanted.architecture, *_RUN_TOO.get(wanted.architecture, ()))
    if offered.architecture not in architectures:
        return None
    if offered.architecture != wanted.architecture:
        return 100 + architectures.index(offered.architecture)
    usual = _USUAL_VARIANT.get(offered.architecture, "")
    have, want = offered.variant or usual, wanted.variant or usual
    if have == want:
        return 0
    order = _OLDER.get(offered.architecture, ())
    if have not in order or want not in order or order.index(have) < order.index(want):
        return None
    return order.index(have) - order.index(want)
