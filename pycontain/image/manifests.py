"""Lists of images: OCI indexes in the store that have names of their own.

A list is a document that is replaced by another, with another digest, whenever it changes. Fields
that are not known stay as they are. What a member was called when it was put in is noted in the
store's ``index.json``, not in the list: it says where the member's blobs may be had.

Source: OCI image-spec 1.1, image-index.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pycontain.errors import Conflict, ImageError, InvalidInput, NotFound, StoreError
from pycontain.image import documents, reference
from pycontain.image.blobs import Blobs
from pycontain.image.index import REF_NAME, IndexFile
from pycontain.image.store import named
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.image.documents import Descriptor, Platform
    from pycontain.store.layout import Layout

    Plain = dict[str, Any]
    Edit = Callable[[Plain, dict[str, str]], None]

CALLED = "org.pycontain.list.name."
"""With a member's digest: the annotation that says what it was called."""

MAX_MEMBERS = 1000


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest of a list.

    Attributes:
        digest: of it.
        media_type: likewise.
        size: bytes of the manifest.
        platform: for which it is; None: nobody says.
        annotations: of its entry in the list.
        name: what it was called when it was put in, "" where that is not known.
    """

    digest: str
    media_type: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] | None = None
    name: str = ""


class ManifestList(msgspec.Struct, frozen=True, kw_only=True):
    """A list of images.

    Attributes:
        digest: of the document; another one after each change.
        media_type: likewise.
        names: local ones, as ``app:1``.
        digests: as which registries have it, ``reg.io/app@sha256:…``.
        size: bytes of the document.
        members: in the list's order.
    """

    digest: str
    media_type: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    members: tuple[Member, ...]

    @property
    def descriptor(self) -> Descriptor:
        """What other documents say of it."""
        return documents.Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a member; None: as it is.

    Attributes:
        architecture, os, variant, os_version, os_features: of the platform, in Go's words.
        annotations: added to those that are there.
    """

    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] | None = None
    annotations: dict[str, str] = {}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that is to be put into lists.

    Attributes:
        descriptor: as it stands in a list.
        name: what it is called.
        blobs: documents to be kept with it: its manifest, its configuration.
    """

    descriptor: Plain
    name: str
    blobs: tuple[bytes, ...] = ()


class Lists:
    """The lists of one store.

    Args:
        layout: of the store. Whoever changes lists is in ``ImageStore.using``.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._index = IndexFile(f"{layout.images}/index.json")
        self._blobs = Blobs(layout)

    def all(self) -> tuple[ManifestList, ...]:
        """Return all lists, in the order in which they came.

        Raises:
            StoreError: a document is damaged.
        """
        found = self._entries()
        return tuple(self._read(digest, found) for digest in dict.fromkeys(i.digest for i in found))

    def find(self, name: str) -> ManifestList | None:
        """Return the list with a name or a digest; None where there is none.

        Raises:
            InvalidInput: `name` can be neither.
            StoreError: a document is damaged.
        """
        found = self._entries()
        digest = named(name, found)
        if digest is None and reference.is_digest(name):
            digest = next((item.digest for item in found if item.digest == name), None)
        return None if digest is None else self._read(digest, found)

    def identified(self, start: str) -> ManifestList | None:
        """Return the list whose digest begins so; None where there is none.

        Raises:
            InvalidInput: there are several.
            StoreError: a document is damaged.
        """
        found = self._entries()
        digits = start.removeprefix("sha256:")
        digests = {item.digest for item in found if item.digest.startswith(f"sha256:{digits}")}
        if not digits or not digests:
            return None
        if len(digests) > 1:
            raise InvalidInput(f"image {start}: {len(digests)} ids start with it")
        return self._read(digests.pop(), found)

    def get(self, name: str) -> ManifestList:
        """Return the list with a name or a digest, or the start of one.

        Raises:
            NotFound: there is none.
            InvalidInput, StoreError: as for ``find`` and ``identified``.
        """
        found = self.find(name) or self.identified(name)
        if found is None:
            raise NotFound(f"manifest list {name}: no such list")
        return found

    def create(self, name: str, entries: Sequence[Entry]) -> ManifestList:
        """Make a list, which has the name from now on.

        Raises:
            Conflict: the name is taken.
            InvalidInput: it is no name.
            StoreError: a file cannot be written.
        """
        ref = _tagged(name)
        self._blobs.prepare()
        document = {"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": []}
        called: dict[str, str] = {}
        for entry in entries:
            self._put(document, called, entry)
        data = _encoded(document, documents.INDEX)
        with files.Lock(self._layout.images_lock):
            if named(ref.local, self._index.entries()) is not None:
                raise Conflict(f"manifest list {ref.local}: the name is taken")
            descriptor = documents.Descriptor(
                media_type=documents.INDEX, digest=self._blobs.add(data), size=len(data),
                annotations=_noted(called) or None,
            )  # fmt: skip
            self._index.name(descriptor, [ref.local])
            return self.get(descriptor.digest)

    def bring(self, data: bytes, media_type: str, names: Sequence[str]) -> None:
        """Put a list in that somebody else made, all that it names being there.

        Args:
            data: its bytes.
            media_type: what it is.
            names: local ones, taken from whoever has them.

        Raises:
            ImageError: it is damaged.
            StoreError: a file cannot be written.
        """
        documents.parse(data, media_type, "manifest list")
        with files.Lock(self._layout.images_lock):
            descriptor = documents.Descriptor(
                media_type=media_type, digest=self._blobs.add(data), size=len(data)
            )
            self._index.name(descriptor, [*names])

    def add(self, name: str, entries: Sequence[Entry]) -> ManifestList:
        """Put manifests into a list; one that is in it already gets the new entry in its place.

        Raises:
            NotFound: there is no such list.
            StoreError: a file cannot be written.
        """

        def edit(document: Plain, called: dict[str, str]) -> None:
            for entry in entries:
                self._put(document, called, entry)

        return self._change(name, edit)

    def annotate(self, name: str, digest: str, details: Details) -> ManifestList:
        """Say something else of a member.

        Raises:
            NotFound: there is no such list, or it has no such member.
            InvalidInput: a platform without an architecture or a system.
            StoreError: a file cannot be written.
        """

        def edit(document: Plain, _: dict[str, str]) -> None:
            manifests: list[Plain] = document["manifests"]
            for number, item in enumerate(manifests):
                if item["digest"] == digest:
                    manifests[number] = detailed(item, details)

        return self._change(name, edit, digest)

    def remove(self, name: str, digest: str) -> ManifestList:
        """Take a member out of a list.

        Raises:
            NotFound: there is no such list, or it has no such member.
            StoreError: a file cannot be written.
        """

        def edit(document: Plain, called: dict[str, str]) -> None:
            kept = [item for item in document["manifests"] if item["digest"] != digest]
            document["manifests"] = kept
            called.pop(digest, None)

        return self._change(name, edit, digest)

    def name(self, listed: ManifestList, name: str) -> None:
        """Give a list one more name, or such by its digest, taken from whoever has it.

        Raises:
            NotFound: the list is not there any more.
            StoreError: the index cannot be written.
        """
        with files.Lock(self._layout.images_lock):
            item = self._entry(listed.digest)
            annotations = dict(item.annotations or {})
            annotations.pop(REF_NAME, None)
            bare = msgspec.structs.replace(item, annotations=annotations or None)
            self._index.name(bare, [name])

    def forget(self, listed: ManifestList, names: Iterable[str] | None = None) -> None:
        """Take names away from a list; without `names` the list.

        Raises:
            StoreError: the index cannot be written.
        """
        with files.Lock(self._layout.images_lock):
            self._index.forget(listed.digest, None if names is None else [*names])

    def data(self, listed: ManifestList) -> bytes:
        """Return a list's bytes.

        Raises:
            StoreError, DigestMismatch: they are damaged.
        """
        return self._blobs.read(listed.descriptor)

    # ---- changes ----

    def _change(self, name: str, edit: Edit, member: str | None = None) -> ManifestList:
        with files.Lock(self._layout.images_lock):
            listed = self.get(name)
            if member is not None and all(item.digest != member for item in listed.members):
                raise NotFound(f"manifest list {name}: {member}: not in it")
            item = self._entry(listed.digest)
            document = files.decode(self._blobs.read(item), dict[str, Any])
            called = _called(item)
            edit(document, called)
            data = _encoded(document, item.media_type)
            kept = {
                key: value for key, value in (item.annotations or {}).items()
                if not key.startswith(CALLED) and key != REF_NAME
            }  # fmt: skip
            new = documents.Descriptor(
                media_type=item.media_type, digest=self._blobs.add(data), size=len(data),
                annotations=kept | _noted(called) or None,
            )  # fmt: skip
            self._index.replace(listed.digest, new)
            return self.get(new.digest)  # outside it may be another already

    def _put(self, document: Plain, called: dict[str, str], entry: Entry) -> None:
        for data in entry.blobs:
            self._blobs.add(data)
        manifests: list[Plain] = document["manifests"]
        digest = entry.descriptor["digest"]
        called[digest] = entry.name
        for number, item in enumerate(manifests):
            if item["digest"] == digest:
                manifests[number] = entry.descriptor
                return
        if len(manifests) == MAX_MEMBERS:
            raise InvalidInput(f"manifest list: more than {MAX_MEMBERS} manifests")
        manifests.append(entry.descriptor)

    # ---- looking ----

    def _entries(self) -> tuple[Descriptor, ...]:
        return tuple(i for i in self._index.entries() if i.media_type in documents.INDEXES)

    def _entry(self, digest: str) -> Descriptor:
        for item in self._entries():
            if item.digest == digest:
                return item
        raise NotFound(f"manifest list {digest}: it was removed meanwhile")

    def _read(self, digest: str, entries: tuple[Descriptor, ...]) -> ManifestList:
        mine = [item for item in entries if item.digest == digest]
        names = [(item.annotations or {}).get(REF_NAME) for item in mine]
        called = _called(mine[0])
        path = self._blobs.path(digest)
        try:
            index = documents.parse(self._blobs.read(mine[0]), mine[0].media_type, path)
        except ImageError as err:
            raise StoreError(f"read: {err}: damaged", err.hint) from err
        assert isinstance(index, documents.Index)
        return ManifestList(
            digest=digest,
            media_type=mine[0].media_type,
            names=tuple(name for name in names if name and "@" not in name),
            digests=tuple(name for name in names if name and "@" in name),
            size=mine[0].size,
            members=tuple(
                Member(
                    digest=item.digest, media_type=item.media_type, size=item.size,
                    platform=item.platform, annotations=item.annotations,
                    name=called.get(item.digest, ""),
                )
                for item in index.manifests
            ),
        )  # fmt: skip


def detailed(descriptor: Plain, details: Details) -> Plain:
    """Return a list's entry after something was said of it.

    Raises:
        InvalidInput: a platform without an architecture or a system.
    """
    found = dict(descriptor)
    platform = dict(found.get("platform") or {})
    said = {
        "architecture": details.architecture, "os": details.os, "variant": details.variant,
        "os.version": details.os_version,
        "os.features": None if details.os_features is None else list(details.os_features),
    }  # fmt: skip
    platform.update({key: value for key, value in said.items() if value is not None})
    platform = {key: value for key, value in platform.items() if value}
    if platform and not (platform.get("architecture") and platform.get("os")):
        raise InvalidInput(
            f"manifest {descriptor['digest']}: a platform has an architecture and a system"
        )
    if platform:
        found["platform"] = platform
    if details.annotations:
        found["annotations"] = {**(found.get("annotations") or {}), **details.annotations}
    return found


def _tagged(name: str) -> reference.Reference:
    ref = reference.parse(name)
    if ref.digest is not None:
        raise InvalidInput(f"manifest list {name}: a list is called by a tag, not by a digest")
    return ref


def _called(item: Descriptor) -> dict[str, str]:
    """What the members of a list were called, by their digests."""
    return {
        key.removeprefix(CALLED): value
        for key, value in (item.annotations or {}).items()
        if key.startswith(CALLED)
    }


def _noted(called: dict[str, str]) -> dict[str, str]:
    return {f"{CALLED}{digest}": name for digest, name in called.items() if name}


def _encoded(document: Plain, media_type: str) -> bytes:
    data = msgspec.json.encode(document)
    documents.parse(data, media_type, "manifest list")  # not too large, say
    return data
