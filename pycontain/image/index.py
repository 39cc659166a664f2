"""``index.json`` of the store's image layout: which manifests there are, and what they are called.

It is replaced atomically, by whoever holds the store's lock; readers need none. Fields that are not
known are kept. An image's names are in the annotation ``org.opencontainers.image.ref.name``, a
descriptor for each, where skopeo and others look for them:
``skopeo inspect oci:ROOT/images:busybox:latest``.

Source: OCI image-spec 1.1, image-layout.md (index.json), annotations.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.errors import NotFound
from pycontain.image import documents
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.image.documents import Descriptor

REF_NAME = "org.opencontainers.image.ref.name"
FROM_INDEX = "org.pycontain.image.index"
"""The annotation with the digest of the index that an image was chosen from."""


class IndexFile:
    """The index of one store."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> tuple[Descriptor, ...]:
        """Return the descriptors of all manifests, of images and of artifacts.

        Raises:
            StoreError: the file is damaged.
        """
        return tuple(item for item in self.entries() if item.media_type in documents.MANIFESTS)

    def entries(self) -> tuple[Descriptor, ...]:
        """Return all descriptors, whatever they are of.

        Raises:
            StoreError: the file is damaged.
        """
        try:
            return files.load(self._path, documents.Index).manifests
        except NotFound:
            return ()

    def name(self, descriptor: Descriptor, names: list[str]) -> list[str]:
        """Give names to an image, which may have none, and return those that others had.

        An image that loses its last name stays, without one.

        Raises:
            StoreError: the file cannot be read or written.
        """
        document = self._load()
        old = document["manifests"]
        taken = [name for name in map(_name, old) if name in names]
        document["manifests"] = named(old, _plain(descriptor), names)
        files.write_atomic(self._path, files.dump(document))
        return taken

    def replace(self, digest: str, descriptor: Descriptor) -> None:
        """Have another document take the place of one, and its names.

        Names by a digest stay behind: they mean what was.

        Raises:
            NotFound: it is not there any more.
            StoreError: the file cannot be read or written.
        """
        document = self._load()
        mine = [item for item in document["manifests"] if item["digest"] == digest]
        if not mine:
            raise NotFound(f"image {digest}: it was removed meanwhile")
        gone = (digest, descriptor.digest)
        others = [item for item in document["manifests"] if item["digest"] not in gone]
        same = [item for item in document["manifests"] if item["digest"] == descriptor.digest]
        names = [name for name in map(_name, mine + same) if name and "@" not in name]
        new = [_with_name(_plain(descriptor), name) for name in dict.fromkeys(names) or [None]]
        document["manifests"] = others + new
        files.write_atomic(self._path, files.dump(document))

    def forget(self, digest: str, names: list[str] | None = None) -> None:
        """Take names away from the image with a digest, which stays; without `names` the image.

        Raises:
            StoreError: the file cannot be read or written.
        """
        document = self._load()
        mine = [item for item in document["manifests"] if item["digest"] == digest]
        kept = [] if names is None else [item for item in mine if _name(item) not in names]
        if names is not None and mine and not kept:
            kept = [_with_name(mine[0], None)]
        others = [item for item in document["manifests"] if item["digest"] != digest]
        document["manifests"] = others + kept
        files.write_atomic(self._path, files.dump(document))

    def _load(self) -> dict[str, Any]:
        try:
            return files.load(self._path, dict[str, Any])
        except NotFound:
            return {"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": []}


def named(
    manifests: list[dict[str, Any]], image: dict[str, Any], names: list[str]
) -> list[dict[str, Any]]:
    """Return the descriptors of an index after `names` were given to `image`.

    Without names the image is added, unless it is there.
    """
    if not names:
        there = any(item["digest"] == image["digest"] for item in manifests)
        return manifests if there else [*manifests, image]
    kept: list[dict[str, Any]] = []
    nameless: list[dict[str, Any]] = []
    for item in manifests:
        if _name(item) in names:
            nameless.append(_with_name(item, None))
        elif item["digest"] != image["digest"] or _name(item):
            kept.append(item)
    known = {item["digest"] for item in kept} | {image["digest"]}
    kept += {item["digest"]: item for item in nameless if item["digest"] not in known}.values()
    return kept + [_with_name(image, name) for name in names]


def _name(item: dict[str, Any]) -> str | None:
    name = (item.get("annotations") or {}).get(REF_NAME)
    return name if isinstance(name, str) else None


def _with_name(item: dict[str, Any], name: str | None) -> dict[str, Any]:
    annotations = dict(item.get("annotations") or {})
    annotations.pop(REF_NAME, None)
    if name is not None:
        annotations[REF_NAME] = name
    rest = {key: value for key, value in item.items() if key != "annotations"}
    return {**rest, "annotations": annotations} if annotations else rest


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(descriptor)
    return plain
