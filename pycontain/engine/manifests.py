"""Lists of images as users name them: made here, and sent to registries."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pycontain import config
from pycontain.engine.events import Events
from pycontain.errors import Conflict, ImageError, InvalidInput, NotFound, RegistryError
from pycontain.image import documents, reference
from pycontain.image.manifests import Details, Entry, Lists, ManifestList, Member, detailed
from pycontain.image.store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.config import Config
    from pycontain.engine.images import Images
    from pycontain.image.documents import Descriptor
    from pycontain.image.intake import Report
    from pycontain.image.reference import Reference
    from pycontain.image.registry import Manifest as Fetched
    from pycontain.image.registry import Registry
    from pycontain.image.store import Image
    from pycontain.store.layout import Layout

__all__ = ["Details", "Document", "ManifestList", "Manifests", "Member", "Sent"]

REGISTRY = "docker://"
"""In front of a name: it is a registry's, whatever the store has."""


class Document(NamedTuple):
    """A manifest or a list.

    Attributes:
        name: what it is called.
        media_type: what it is.
        digest: of its bytes.
        data: its bytes.
        platform: for which it is, where a list or its configuration says so.
    """

    name: str
    media_type: str
    digest: str
    data: bytes
    platform: documents.Platform | None = None


class Sent(NamedTuple):
    """What a push came to.

    Attributes:
        name: of the list at its registry.
        digest: of the list.
        size: bytes of the list.
        members: digests of its manifests.
    """

    name: str
    digest: str
    size: int
    members: tuple[str, ...]


class Manifests:
    """The lists of images of one store.

    Args:
        layout: of the store.
        images: of the same store.
        settings: what is configured; None: what the environment says by now.
    """

    def __init__(self, layout: Layout, images: Images, settings: Config | None = None) -> None:
        self._images = images
        self._given = settings
        self._store = ImageStore(layout)
        self._lists = Lists(layout)
        self._events = Events(layout)

    @property
    def _settings(self) -> Config:
        return config.load(os.environ) if self._given is None else self._given

    def list(self) -> tuple[ManifestList, ...]:
        """Return all lists, in the order in which they came.

        Raises:
            StoreError: one is damaged.
        """
        return self._lists.all()

    def get(self, name: str) -> ManifestList:
        """Return a list by its name, its digest or the start of it.

        Raises:
            NotFound: there is none.
        """
        return self._lists.get(name)

    def exists(self, name: str) -> bool:
        """Whether there is a list `name`."""
        try:
            self.get(name)
        except NotFound:
            return False
        return True

    # ---- changes ----

    def create(
        self, name: str, images: Sequence[str] = (), *, every: bool = False, amend: bool = False
    ) -> ManifestList:
        """Make a list.

        Args:
            name: of the list.
            images: put into it; of a list that for this machine. Names of the store, or of
                registries, from which manifest and configuration are fetched then.
            every: of a list, all that it has.
            amend: where there is such a list, put them into that one.

        Raises:
            Conflict: the name is taken.
            InvalidInput: it is no name.
            NotFound, RegistryError, ImageError: an image cannot be had.
        """
        ref = reference.parse(name)
        present = None if ref.digest else self._lists.find(ref.local)
        if present is not None and not amend:
            raise Conflict(
                f"manifest list {ref.local}: there is one already", "--amend puts images into it"
            )
        with self._store.using():
            entries = [entry for image in images for entry in self._entries(image, every=every)]
            if present is not None:
                return self._lists.add(ref.local, entries)
            return self._lists.create(name, entries)

    def add(
        self, name: str, image: str, *, every: bool = False, details: Details | None = None
    ) -> ManifestList:
        """Put an image into a list; one that is in it already is told of anew.

        Args:
            name: of the list.
            image: as for ``create``.
            every: of a list, all that it has.
            details: what is to be said of it beyond what it says itself.

        Raises:
            NotFound: there is no such list, or no such image.
            RegistryError, ImageError: the image cannot be had.
        """
        self.get(name)
        with self._store.using():
            entries = self._entries(image, every=every)
            if details is not None:
                entries = [_with(entry, details) for entry in entries]
            return self._lists.add(name, entries)

    def annotate(self, name: str, image: str, details: Details) -> ManifestList:
        """Say something else of a member of a list.

        Args:
            name: of the list.
            image: the member: its digest, or what it was called when it was put in.
            details: what is to be said.

        Raises:
            NotFound: there is no such list, or it has no such member.
            InvalidInput: a platform without an architecture or a system.
        """
        with self._store.using():
            return self._lists.annotate(name, self._member(name, image).digest, details)

    def remove(self, name: str, image: str) -> ManifestList:
        """Take a member out of a list; `image` as for ``annotate``.

        Raises:
            NotFound: there is no such list, or it has no such member.
        """
        with self._store.using():
            return self._lists.remove(name, self._member(name, image).digest)

    def delete(self, name: str) -> ManifestList:
        """Remove a list, all its names, and what only it needed; return what it was.

        Raises:
            NotFound: there is no such list.
        """
        listed = self.get(name)
        self._lists.forget(listed)
        for known in (*listed.names, *listed.digests):
            self._events.tell_image("untag", listed.digest, known)
        self._events.tell_image("delete", listed.digest, listed.digest)
        self._images.collect()
        return listed

    # ---- looking ----

    def inspect(self, name: str, image: str | None = None) -> Document:
        """Return a list, or the manifest of an image.

        Args:
            name: of a list or an image of the store, or else of a registry.
            image: of the list `name`, a member instead; see ``annotate``.

        Raises:
            NotFound: there is none.
            RegistryError: a registry cannot be asked.
        """
        if image is not None:
            return self._document(self._member(name, image))
        listed = None if name.startswith(REGISTRY) else self._listed(name)
        if listed is not None:
            called = listed.names[0] if listed.names else name
            return Document(called, listed.media_type, listed.digest, self._lists.data(listed))
        found = self._image(name)
        if found is not None:
            descriptor, data, _ = self._store.raw(found)
            return Document(name, descriptor.media_type, found.digest, data, _platform(found))
        return self._fetched(name)

    def inspect_members(self, name: str) -> Sequence[Document]:
        """Return the manifests of a list, or the one of an image; as ``inspect`` finds it.

        Raises:
            NotFound, RegistryError: as for ``inspect``; of a member too.
        """
        whole = self.inspect(name)
        if whole.media_type not in documents.INDEXES:
            return (whole,)
        listed = None if name.startswith(REGISTRY) else self._listed(name)
        if listed is not None:
            return [self._document(member) for member in listed.members]
        return self._fetched_members(whole)

    # ---- registries ----

    def push(
        self,
        name: str,
        destination: str | None = None,
        *,
        purge: bool = False,
        report: Report | None = None,
    ) -> Sent:
        """Send a list to a registry, with all that its members need and the registry has not.

        Args:
            name: of the list.
            destination: what it is called there, default what it is called here.
            purge: remove the list afterwards.
            report: is told how far each layer is, from several threads.

        Raises:
            NotFound: there is no such list, or a blob is nowhere.
            InvalidInput: the destination is no name.
            RegistryError: the registry refused, or could not be reached.
        """
        from pycontain.engine import registries
        from pycontain.image import push

        listed = self.get(name)
        called = destination or (listed.names[0] if listed.names else "")
        if not called:
            raise InvalidInput(f"manifest list {name}: has no name", "say where it is to go")
        ref = reference.parse(called.removeprefix(REGISTRY))
        if ref.digest is not None:
            raise InvalidInput(f"cannot push a digest reference: {ref}")
        with self._store.using():
            origins = {
                one.digest: push.Origin(self._sources(one, ref), self._fetcher(one))
                for one in listed.members
            }
            with registries.opened(ref.domain, self._settings) as registry:
                digest, size, members = push.push_list(
                    self._store.blobs, registry, listed.descriptor, ref,
                    origins=origins, report=report,
                )  # fmt: skip
            if not purge:
                self._lists.name(listed, f"{ref.name}@{digest}")
        self._events.tell_image("push", listed.digest, ref.local)
        if purge:
            self.delete(listed.digest)
        return Sent(ref.local, digest, size, members)

    def _sources(self, member: Member, target: Reference) -> tuple[str, ...]:
        """Repositories of the target's registry that may have a member's blobs."""
        names = [member.name] if member.name and not _is_id(member.name) else []
        for image in self._store.list():
            if image.digest == member.digest:
                names += [*image.digests, *image.names]
        refs = [reference.parse(name) for name in names]
        paths = {ref.path for ref in refs if ref.domain == target.domain} - {target.path}
        return tuple(sorted(paths))

    def _fetcher(self, member: Member) -> Callable[[Descriptor], None] | None:
        """What brings a blob of a member from the registry that the member was taken from."""
        if not member.name or _is_id(member.name):
            return None
        ref = reference.parse(member.name)

        def fetch(item: Descriptor) -> None:
            with self._opened(ref) as registry, self._store.blobs.receive(item) as partial:
                if partial is None:
                    return
                for _ in partial.present():
                    pass  # read to be hashed
                if partial.size < item.size:
                    with registry.blob(ref.path, item.digest, partial.size) as blob:
                        for chunk in blob:
                            partial.write(chunk)
                partial.finish()

        return fetch

    # ---- images of the store and of registries ----

    def _listed(self, name: str) -> ManifestList | None:
        try:
            return self._lists.get(name)
        except NotFound:
            return None

    def _image(self, name: str) -> Image | None:
        if name.startswith(REGISTRY):
            return None
        try:
            return self._images.get(name)
        except NotFound:
            return None

    def _member(self, name: str, image: str) -> Member:
        """The member of a list that somebody means."""
        listed = self.get(name)
        word = image.removeprefix(REGISTRY)
        digests = {word, word.partition("@")[2]}
        for member in listed.members:
            if member.digest in digests or _is_same(member.name, word):
                return member
        found = self._image(image)
        for member in listed.members:
            if found is not None and member.digest == found.digest:
                return member
        raise NotFound(f"manifest list {name}: {image}: not in it")

    def _document(self, member: Member) -> Document:
        """A member's manifest: of the store, or of where it was called by its name."""
        descriptor = documents.Descriptor(
            media_type=member.media_type, digest=member.digest, size=member.size
        )
        name = member.name or member.digest
        if self._store.blobs.has(descriptor):
            data = self._store.blobs.read(descriptor)
        elif member.name:
            ref = reference.parse(member.name)
            with self._opened(ref) as registry:
                data = registry.manifest(ref.path, member.digest).data
        else:
            raise NotFound(f"manifest {member.digest}: not in the store")
        return Document(name, member.media_type, member.digest, data, member.platform)

    def _entries(self, name: str, *, every: bool) -> Sequence[Entry]:
        """What goes into a list for an image, or for another list."""
        if not name.startswith(REGISTRY):
            listed = self._listed(name)
            if listed is not None:
                return self._of_list(listed, name, every=every)
            image = self._image(name)
            if image is not None:
                return [self._of_image(image, name)]
        problems: list[RegistryError] = []
        for ref in self._places(name):
            try:
                return self._of_registry(ref, every=every)
            except RegistryError as err:
                problems.append(err)
        raise problems[-1]

    def _of_image(self, image: Image, name: str) -> Entry:
        descriptor, _, _ = self._store.raw(image)
        called = name if _is_id(name) or "@" in name else reference.parse(name).local
        return Entry(
            descriptor=_plain(descriptor.media_type, image.digest, descriptor.size,
                              _platform(image)),
            name=image.names[0] if _is_id(called) and image.names else called,
        )  # fmt: skip

    def _of_list(self, listed: ManifestList, name: str, *, every: bool) -> Sequence[Entry]:
        plain = documents.decode(self._lists.data(listed), dict[str, Any], name)["manifests"]
        index = documents.parse(self._lists.data(listed), listed.media_type, name)
        assert isinstance(index, documents.Index)
        called = {member.digest: member.name for member in listed.members}
        return [
            Entry(descriptor=one, name=called[one["digest"]] or name)
            for one in _chosen(index, plain, name, every=every)
        ]

    def _of_registry(self, ref: Reference, *, every: bool) -> Sequence[Entry]:
        with self._opened(ref) as registry:
            got = registry.manifest(ref.path, ref.digest or ref.tag or reference.DEFAULT_TAG)
            parsed = documents.parse(got.data, got.media_type, str(ref))
            if isinstance(parsed, documents.Manifest):
                return [self._of_manifest(registry, ref, got, parsed)]
            plain = documents.decode(got.data, dict[str, Any], str(ref))["manifests"]
            return [
                self._of_index(registry, ref, one)
                for one in _chosen(parsed, plain, str(ref), every=every)
            ]

    def _of_manifest(
        self, registry: Registry, ref: Reference, got: Fetched, manifest: documents.Manifest
    ) -> Entry:
        from pycontain.image import pull

        platform, blobs = None, [got.data]
        if documents.artifact_type(got.data) is None:
            data = pull.configuration_of(self._store, registry, ref, manifest.config)
            platform = documents.parse_configuration(data, manifest, str(ref)).platform
            blobs.append(data)
        digest = documents.digest_of(got.data)
        return Entry(
            descriptor=_plain(got.media_type or documents.MANIFEST, digest, len(got.data),
                              platform),
            name=_full(ref),
            blobs=tuple(blobs),
        )  # fmt: skip

    def _of_index(self, registry: Registry, ref: Reference, one: dict[str, Any]) -> Entry:
        """An entry of a registry's list stays as it is."""
        got = registry.manifest(ref.path, one["digest"])
        if len(got.data) != one["size"]:
            raise ImageError(f"{ref}: {one['digest']}: has {len(got.data)} bytes")
        return Entry(descriptor=one, name=f"{ref.name}@{one['digest']}", blobs=(got.data,))

    def _fetched(self, name: str) -> Document:
        problems: list[RegistryError] = []
        for ref in self._places(name):
            try:
                with self._opened(ref) as registry:
                    got = registry.manifest(
                        ref.path, ref.digest or ref.tag or reference.DEFAULT_TAG
                    )
                documents.parse(got.data, got.media_type, str(ref))
            except RegistryError as err:
                problems.append(err)
            else:
                return Document(_full(ref), got.media_type, got.digest, got.data)
        if problems[-1].status == 404:
            raise NotFound(f"no such manifest: {name}") from problems[-1]
        raise problems[-1]

    def _fetched_members(self, whole: Document) -> Sequence[Document]:
        ref = reference.parse(whole.name)
        index = documents.parse(whole.data, whole.media_type, whole.name)
        assert isinstance(index, documents.Index)
        with self._opened(ref) as registry:
            return [
                Document(
                    f"{ref.name}@{item.digest}", item.media_type, item.digest,
                    registry.manifest(ref.path, item.digest).data, item.platform,
                )
                for item in index.manifests
            ]  # fmt: skip

    def _opened(self, ref: Reference) -> Registry:
        from pycontain.engine import registries

        return registries.opened(ref.domain, self._settings)

    def _places(self, name: str) -> Sequence[Reference]:
        names = self._images.places(name.removeprefix(REGISTRY))
        return [reference.parse(full) for full in names]


def _chosen(
    index: documents.Index, plain: Sequence[dict[str, Any]], what: str, *, every: bool
) -> Sequence[dict[str, Any]]:
    """Of a list's entries all, or that for this machine."""
    if every:
        return plain
    wanted = documents.choose(index, documents.host_platform(), what).digest
    return [one for one in plain if one["digest"] == wanted][:1]


def _plain(
    media_type: str, digest: str, size: int, platform: documents.Platform | None
) -> dict[str, Any]:
    import msgspec

    found = documents.Descriptor(media_type=media_type, digest=digest, size=size, platform=platform)
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def _platform(image: Image) -> documents.Platform:
    return documents.Platform(image.architecture, image.os, image.variant)


def _with(entry: Entry, details: Details) -> Entry:
    return Entry(descriptor=detailed(entry.descriptor, details), name=entry.name, blobs=entry.blobs)


def _full(ref: Reference) -> str:
    """A name that means the registry's, wherever it is read."""
    return str(ref) if ref.digest else ref.local


def _is_id(name: str) -> bool:
    return name.startswith("sha256:") or (len(name) == 64 and "/" not in name)


def _is_same(known: str, word: str) -> bool:
    """Whether two names are one, with or without the tag that is meant by none."""
    if not known or _is_id(word):
        return False
    try:
        return _full(reference.parse(known)) == _full(reference.parse(word))
    except InvalidInput:
        return False
