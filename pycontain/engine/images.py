"""Images as users name them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from pycontain import config
from pycontain.engine import records
from pycontain.engine.events import Events
from pycontain.errors import (
    Conflict,
    ImageError,
    InvalidInput,
    NotFound,
    PycontainError,
    RegistryError,
    StoreError,
)
from pycontain.image import reference
from pycontain.image.store import Image, ImageStore, repository_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from pycontain.config import Config
    from pycontain.engine.commit import Making
    from pycontain.engine.image_mounts import ImageMounts, MountedImage
    from pycontain.engine.layers import Change
    from pycontain.image.archives import Archive, Found
    from pycontain.image.documents import Descriptor, History, Platform
    from pycontain.image.extract import Limits
    from pycontain.image.intake import Report
    from pycontain.image.manifests import ManifestList
    from pycontain.image.pull import Pulled
    from pycontain.image.reference import Reference
    from pycontain.model.container import Container
    from pycontain.store.layout import Layout

    Tell = Callable[[str], None]
    # In the class, "list" is its method.
    Removals = list["Removal"]
    Images_ = list[tuple[Image, tuple[str, ...]]]

_SHORT = 12
_CHUNK = 1 << 20
_EXPLICIT = ("docker.io/", "index.docker.io/")


class Removal(NamedTuple):
    """What a removal of an image did.

    Attributes:
        untagged: the names that it lost.
        deleted: its id, where the image itself went.
    """

    untagged: tuple[str, ...]
    deleted: str | None


class Images:
    """The images of one store."""

    def __init__(
        self, layout: Layout, *, rootless: bool = False, settings: Config | None = None
    ) -> None:
        self._layout = layout
        self._rootless = rootless
        self._given = settings
        self._store = ImageStore(layout, in_use=self._layers_in_use)
        self._events = Events(layout)

    @property
    def _mounts(self) -> ImageMounts:
        from pycontain.engine.image_mounts import ImageMounts

        return ImageMounts(self._layout, rootless=self._rootless)

    @property
    def _settings(self) -> Config:
        """What is configured; where nobody gave it, what the environment says by now."""
        return config.load(os.environ) if self._given is None else self._given

    def making(self) -> Making:
        """What makes new images, in this process."""
        from pycontain.engine.commit import Making

        return Making(self._layout, self._store, rootless=self._rootless, limits=self._limits())

    def list(self) -> list[Image]:
        """Return all images, newest first."""
        return sorted(self._store.list(), key=lambda image: image.created or 0, reverse=True)

    def get(self, name: str) -> Image:
        """Return the image `name` (reference or id) of the store.

        A short name may be that of an image of any of the configured registries.

        Raises:
            NotFound: it is not in the store.
        """
        try:
            return self._store.resolve(name)
        except NotFound:
            for other in self._full_names(name):
                with contextlib.suppress(NotFound):
                    return self._store.resolve(other)
            raise

    def exists(self, name: str) -> bool:
        """Whether there is an image `name`, or a list, in the store."""
        try:
            self.get(name)
        except (NotFound, ImageError):
            return self._listed(name) is not None
        return True

    def means(self, name: str, identity: str) -> bool:
        """Whether `name` is still that of the image with an id; also where that cannot be read."""
        try:
            return self.get(name).id == identity
        except (NotFound, InvalidInput):
            return False
        except PycontainError:
            return True

    def ensure(self, name: str, progress: Tell | None = None) -> Image:
        """Return the image `name`: of the store, built from a recipe, or pulled.

        Args:
            name: reference or id.
            progress: is given lines of text while the image is built or pulled.

        Raises:
            NotFound: neither an image nor a recipe, and no registry has it.
            ImageError: the recipe failed, or what the registry has is damaged or hostile.
        """

        def made(image: Image) -> None:
            self._events.tell_image("build", image.id, image.names[0] if image.names else name)

        try:
            return self._store.ensure(name, progress, made)
        except NotFound as err:
            missing = err
        try:
            return self.get(name)
        except NotFound:
            return self._pull_missing(name, missing, progress)

    def _pull_missing(self, name: str, missing: NotFound, progress: Tell | None) -> Image:
        if not self._full_names(name):
            raise missing  # an id, or no registry is configured
        said: set[str] = set()

        def tell(line: str) -> None:
            if progress is not None and line not in said:
                said.add(line)
                progress(line)

        tell(f"Unable to find image '{name}' locally")
        try:
            return self.pull(
                name, report=lambda step: tell(f"{step.layer[7:19]}: {step.step}")
            ).image
        except RegistryError as err:
            raise NotFound(f"{missing.message}; {err.message}", err.hint or missing.hint) from err

    def _full_names(self, name: str) -> Sequence[str]:
        """What a name may be in full: one that names no registry, at each that is configured."""
        try:
            ref = reference.parse(name)
        except InvalidInput:
            return ()  # an id
        if name.startswith("sha256:"):
            return ()
        if ref.domain != reference.DEFAULT_DOMAIN or name.startswith(_EXPLICIT):
            return (name,)
        return [
            name if domain == reference.DEFAULT_DOMAIN else f"{domain}/{name}"
            for domain in self._settings.search_registries
        ]

    @contextlib.contextmanager
    def using(self, image: Image) -> Iterator[None]:
        """Keep an image where it is, until something that stands on it is written down.

        Raises:
            NotFound: it was removed meanwhile.
        """
        with self._store.using():
            self._store.check(image)
            yield

    def configuration(self, name: str) -> bytes:
        """Return the configuration of the image `name` as it came: JSON (image-spec, config.md).

        Raises:
            NotFound: it is not in the store.
        """
        return self._store.raw(self.get(name))[2]

    def history(self, name: str) -> Sequence[tuple[History, int]]:
        """Return how the image `name` was made, newest step first, each with its layer's bytes.

        Raises:
            NotFound: it is not in the store.
        """
        from pycontain.image.documents import History

        image = self.get(name)
        manifest, configuration = self._store.read(image)
        sizes = iter([layer.size for layer in manifest.layers])
        found = [
            (step, 0 if step.empty_layer else next(sizes, 0))
            for step in configuration.history or ()
        ]
        # Layers that no step tells of.
        found += [(History(created=configuration.created), size) for size in sizes]
        return found[::-1]

    def changes(self, name: str, other: str | None = None) -> Sequence[Change]:
        """Return what is different in the image `name`, sorted by path.

        Args:
            name: of the image.
            other: from which image; None: from itself without its last layer.

        Raises:
            NotFound: there is no such image.
            KernelError: a layer cannot be read.
        """
        from pycontain.engine import image_diff

        with self._store.using():
            folders = self._folders(name)
            if other is None:
                return image_diff.last_layer(folders, rootless=self._rootless) if folders else ()
            return image_diff.between(folders, self._folders(other), rootless=self._rootless)

    def _folders(self, name: str) -> Sequence[str]:
        image = self.get(name)
        self._store.check(image)
        return [self._layout.layer(layer) for layer in image.layers]

    # ---- mounted images ----

    def mount(self, name: str) -> str:
        """Mount an image in the host's mount table, read-only, and return where.

        Devices and set-id bits have no effect there. One that is mounted already stays as it is.

        Raises:
            NotFound: there is no such image.
            NotSupported: an ordinary user's mounts are nobody else's to see.
            KernelError: the kernel refuses.
        """
        mounts = self._mounts
        with mounts.lock():
            image = self.get(name)
            with self.using(image):
                path = mounts.mount(image)
        self._told("mount", image.id, image.names[:1] or [image.id])
        return path

    def unmount(self, name: str) -> str:
        """Take an image out of the mount table, and return its id; one that is not in it is fine.

        Raises:
            NotFound: there is no such image.
            KernelError: the kernel refuses.
        """
        mounts = self._mounts
        with mounts.lock():
            image = self.get(name)
            if mounts.unmount(image.id):
                self._told("unmount", image.id, image.names[:1] or [image.id])
        return image.id

    def mounts(self) -> Sequence[MountedImage]:
        """Return the images that are mounted."""
        return self._mounts.list()

    def tag(self, name: str, new: str) -> None:
        """Give the image `name` one more name, taken from whichever image has it.

        Raises:
            InvalidInput: `new` is no name.
            NotFound: there is no image `name`.
        """
        listed = self._listed(name)
        if listed is not None:
            self._tag_list(listed, new)
            return
        image = self.get(name)
        self._store.tag(image, new)
        self._events.tell_image("tag", image.id, reference.parse(new).local)

    def _listed(self, name: str) -> ManifestList | None:
        """The list of images that a name or an id means; an id means an image first."""
        from pycontain.image.manifests import Lists

        lists = Lists(self._layout)
        found = lists.find(name)
        if found is not None:
            return found
        try:
            self.get(name)
        except NotFound:
            return lists.identified(name)
        return None

    def _tag_list(self, listed: ManifestList, new: str) -> None:
        from pycontain.image.manifests import Lists

        ref = reference.parse(new)
        if ref.digest is not None:
            raise InvalidInput(f"refusing to create a tag with a digest reference: {new}")
        with self._store.using():
            Lists(self._layout).name(listed, ref.local)
        self._events.tell_image("tag", listed.digest, ref.local)

    def remove(self, name: str, *, force: bool = False) -> Removal:
        """Take a name from an image or a list; with its last one, or by its id, that goes.

        A container keeps the layers that it stands on, whatever happens to its image.

        Args:
            name: a reference or an id.
            force: though it has several names, or containers that do not run.

        Raises:
            NotFound: there is no such image.
            Conflict: it is used by a container, or has several names and is named by its id.
        """
        listed = self._listed(name)
        if listed is not None:
            return self._remove_list(listed, name, force=force)
        image = self.get(name)
        every = (*image.names, *image.digests)
        mine = _with_digests(image, _names_meant(image, name))
        short = image.id[7:][:_SHORT]
        if mine and len(every) > len(mine):
            return self._untag(image, mine)
        users = [c for c in self._containers() if c.image_id == image.id]
        running = next((user for user in users if self._runs(user)), None)
        if mine and users and not force:
            raise Conflict(
                f'unable to remove repository reference "{name}" (must force)'
                f" - container {users[0].id[:_SHORT]} is using its referenced image {short}"
            )
        if running is not None:
            if mine:
                return self._untag(image, mine)
            raise Conflict(
                f"unable to delete {short} (cannot be forced)"
                f" - image is being used by running container {running.id[:_SHORT]}"
            )
        if not mine and not _is_one(image) and not force:
            raise Conflict(
                f"unable to delete {short} (must be forced)"
                " - image is referenced in multiple repositories"
            )
        if users and not force:
            raise Conflict(
                f"unable to delete {short} (must be forced)"
                f" - image is being used by stopped container {users[0].id[:_SHORT]}"
            )
        with self._mounts.lock():
            self._let_go(image, force=force)
            self._store.forget(image)
        self._told("untag", image.id, every)
        self._told("delete", image.id, [image.id])
        self._store.collect()
        return Removal(every, image.id)

    def _let_go(self, image: Image, *, force: bool) -> None:
        """Unmount an image that is to be removed; the mounts' lock is held."""
        path = self._mounts.find(image)
        if path is None:
            return
        if not force:
            short = image.id[7:][:_SHORT]
            hint = f"pycontain image unmount {short}"
            raise Conflict(
                f"unable to delete {short} (must be forced) - image is mounted at {path}", hint
            )
        self._mounts.unmount(image.id)

    def _remove_list(self, listed: ManifestList, name: str, *, force: bool) -> Removal:
        from pycontain.image.manifests import Lists

        every = (*listed.names, *listed.digests)
        mine = _with_digests(listed, _names_meant(listed, name))
        whole = not mine or len(every) == len(mine)
        if whole and not mine and not _is_one(listed) and not force:
            raise Conflict(
                f"unable to delete {listed.digest[7:][:_SHORT]} (must be forced)"
                " - image is referenced in multiple repositories"
            )
        Lists(self._layout).forget(listed, None if whole else mine)
        self._told("untag", listed.digest, every if whole else mine)
        if not whole:
            return Removal(mine, None)
        self._told("delete", listed.digest, [listed.digest])
        used = self._used()
        for image in self._store.list():
            # What came with the list goes with it.
            came = image.index == listed.digest and not (image.names or image.digests)
            if came and image.id not in used:
                self._store.forget(image)
                self._told("delete", image.id, [image.id])
        self._store.collect()
        return Removal(every, listed.digest)

    def collect(self) -> int:
        """Give back what nothing stands on, and return its bytes; interrupted downloads stay.

        Raises:
            StoreError: a file cannot be removed.
        """
        return self._store.collect() or 0

    def prune(
        self, *, every: bool, accept: Callable[[Image | ManifestList], bool]
    ) -> tuple[Sequence[Removal], int]:
        """Remove the images that no container uses, and what else nothing stands on.

        Of lists those without a name; and what interrupted downloads left. An image that came
        with a list stays as long as that has a name.

        Args:
            every: also images that have names.
            accept: is asked for each.

        Returns:
            What was removed, and how many bytes of blobs that freed.
        """
        used = self._used()
        listed = frozenset() if every else self._listed_digests()
        removed: Removals = []
        for image in self._store.list():
            if image.id in used or (image.names and not every) or not accept(image):
                continue
            if image.digest in listed:
                continue
            every_name = (*image.names, *image.digests)
            self._store.forget(image)
            self._told("untag", image.id, every_name)
            self._told("delete", image.id, [image.id])
            removed.append(Removal(every_name, image.id))
        removed += self._prune_lists(accept)
        return removed, self._store.collect(0.0) or 0

    def _used(self) -> set[str]:
        """The ids of images that containers were made from, or that are mounted."""
        used = {container.image_id for container in self._containers()}
        return used | {mounted.id for mounted in self._mounts.list()}

    def _listed_digests(self) -> frozenset[str]:
        """The manifests of lists that have a name."""
        from pycontain.image.manifests import Lists

        lists = Lists(self._layout).all()
        return frozenset(one.digest for listed in lists if listed.names for one in listed.members)

    def _prune_lists(self, accept: Callable[[Image | ManifestList], bool]) -> Iterator[Removal]:
        from pycontain.image.manifests import Lists

        lists = Lists(self._layout)
        for listed in lists.all():
            if not listed.names and accept(listed):
                lists.forget(listed)
                self._told("untag", listed.digest, listed.digests)
                self._told("delete", listed.digest, [listed.digest])
                yield Removal(listed.digests, listed.digest)

    # ---- archives ----

    def load(
        self,
        source: str | BinaryIO,
        *,
        platform: str | None = None,
        report: Report | None = None,
    ) -> Images_:
        """Put the images of an archive into the store.

        A list of images stays a list, which then has the names, where the archive has all of it.
        The image for this machine is unpacked; of the others the blobs are kept.

        Args:
            source: path of a docker or OCI archive, compressed or not, or of an OCI image layout;
                or an open binary file.
            platform: ``linux/arm64``: images for it alone.
            report: is told how far each layer is, from several threads.

        Returns:
            Each image, and the names that the archive gives it.

        Raises:
            ImageError: it is no such archive, or is damaged or hostile.
            StoreError: the store cannot be written.
        """
        from pycontain.image import archives, documents
        from pycontain.image.intake import Intake

        limits = self._limits()
        wanted = None if platform is None else documents.parse_platform(platform)
        loaded: Images_ = []
        store = self._store
        with (
            store.receiving(),
            archives.opened(source, self._layout.work, limit=limits.image) as place,
        ):
            archive = archives.Archive(place, limit=limits.bytes)
            found = archive.images(wanted)
            store.blobs.prepare()
            for one in found:
                manifest = documents.parse(one.manifest.data, one.manifest.media_type, place.what)
                assert isinstance(manifest, documents.Manifest)
                Intake(
                    self._layout, store.blobs, archive, rootless=self._rootless, limits=limits,
                    report=report,
                ).run(manifest, documents.parse_configuration(
                    one.configuration, manifest, place.what
                ))  # fmt: skip
                # The names of a list that is whole are its own.
                names = [] if one.whole else [*one.names]
                image = store.add(
                    one.manifest.data, one.manifest.media_type, one.configuration, names,
                    one.index.data if one.index is not None else None,
                )  # fmt: skip
                identity = self._load_list(archive, one) if one.whole else image.id
                loaded.append((image, one.names))
                self._told("load", identity, one.names or [identity])
        return loaded

    def _load_list(self, archive: Archive, found: Found) -> str:
        """Keep a list as it is, with the blobs of all its images, and return its digest."""
        from pycontain.image.manifests import Lists

        for item in found.whole:
            with self._store.blobs.receive(item) as partial:
                if partial is None:
                    continue
                for _ in partial.present():
                    pass  # read to be hashed
                with archive.layer(item, partial.size) as content:
                    while chunk := content.read(_CHUNK):
                        partial.write(chunk)
                partial.finish()
        assert found.index is not None
        Lists(self._layout).bring(found.index.data, found.index.media_type, found.names)
        return found.index.digest

    def import_(
        self,
        source: str | BinaryIO,
        name: str | None = None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
    ) -> Image:
        """Make an image of a tar archive of files, as ``export`` writes it: one layer.

        Args:
            source: path of the archive, compressed or not; its URL, ``https://…``; or an open
                binary file.
            name: for the image, ``team/app:1``; taken from whoever has it. None: no name.
            changes: lines that say its configuration; see ``Containers.commit``.
            message: for the image's history.
            platform: ``linux/arm64``: which machine the programs are for; None: this one.

        Raises:
            NotFound: there is no such file.
            InvalidInput: a name, a change or the platform is malformed; there is nothing in it.
            ImageError: the archive is damaged or hostile.
            RegistryError: the URL cannot be had.
            StoreError: the store cannot be written.
        """
        from pycontain.engine import importing
        from pycontain.engine.commit import Asked

        asked = Asked(name, tuple(changes), "", message)
        wanted = importing.Wanted(source, platform, self._settings)
        image = importing.bring(self.making(), wanted, asked)
        self._told("import", image.id, asked.names() or [image.id])
        return image

    def save(self, names: Sequence[str], output: BinaryIO | str, *, form: str) -> None:
        """Write images as an archive or a folder; a list with all that its members have.

        Args:
            names: of images; one that is named by its id goes without a name; a repository
                without a tag is all its tags, as for docker.
            output: a blocking file; for ``oci-dir`` the path of a new folder.
            form: ``docker-archive`` (which is an OCI archive too), ``oci-archive``, ``oci-dir``.

        Raises:
            NotFound: there is no such image, or what a list names is not in the store.
            InvalidInput: another form; docker's, which knows no lists.
            KernelError: the output cannot be written.
        """
        from pycontain.image import saving

        with self._store.using():
            names = [full for name in names for full in self._of_repository(name)]
            found = [self._listed(name) or self.get(name) for name in names]
            saved = [
                saving.Saved(manifest=self._descriptor(one), names=_tags_meant(one, name))
                for one, name in zip(found, names, strict=True)
            ]
            if isinstance(output, str):
                saving.save_folder(self._store.blobs, saved, output)
            else:
                saving.save(self._store.blobs, saved, output, form)
            for one, name in zip(found, names, strict=True):
                identity = one.id if isinstance(one, Image) else one.digest
                self._events.tell_image("save", identity, name)

    def _descriptor(self, found: Image | ManifestList) -> Descriptor:
        return self._store.raw(found)[0] if isinstance(found, Image) else found.descriptor

    def _of_repository(self, name: str) -> Sequence[str]:
        """The names that `name` means: of a repository alone all that it has."""
        try:
            ref = reference.parse(name)
        except InvalidInput:
            return (name,)  # an id
        if ref.tag or ref.digest:
            return (name,)
        known = [other for image in self._store.list() for other in image.names]
        return [other for other in known if reference.parse(other).name == ref.name] or (name,)

    def _limits(self) -> Limits:
        from pycontain.image.extract import Limits

        said = self._settings
        return Limits(said.layer_max_entries, said.layer_max_size, said.image_max_size)

    # ---- registries ----

    def pull(
        self,
        name: str,
        *,
        platform: str | None = None,
        report: Report | None = None,
        asking: Tell | None = None,
    ) -> Pulled:
        """Bring an image from its registry.

        Args:
            name: ``localhost:5000/team/app:1``, with a digest or not; ``busybox`` is of the first
                of the configured registries that has it.
            platform: ``linux/arm64``; None: this machine's.
            report: is told how far each layer is, from several threads.
            asking: is told the full name, with its registry, before that is asked; more than one
                where the first had none.

        Raises:
            InvalidInput: no reference or no platform.
            RegistryError: it could not be got.
            ImageError: it is damaged, hostile, or for other platforms.
        """
        from pycontain.image import documents

        wanted = None if platform is None else documents.parse_platform(platform)
        names = self.places(name)
        for full in names[:-1]:
            with contextlib.suppress(RegistryError):
                return self._pull(full, wanted, report, asking)
        return self._pull(names[-1], wanted, report, asking)

    def places(self, name: str) -> Sequence[str]:
        """Return what a name may be in full, at least one, in the order in which they are tried.

        Raises:
            InvalidInput: it is no reference, or names no registry and none is configured.
        """
        reference.parse(name)
        names = self._full_names(name)
        if not names:
            raise InvalidInput(
                f"pull {name}: names no registry", "set search_registries, or name the registry"
            )
        return names

    def _pull(
        self, name: str, platform: Platform | None, report: Report | None, asking: Tell | None
    ) -> Pulled:
        from pycontain.engine import registries
        from pycontain.image import pull

        ref = reference.parse(name)
        if asking is not None:
            asking(ref.canonical)
        with registries.opened(ref.domain, self._settings) as registry:
            pulled = pull.pull(
                self._store, self._layout, registry, ref, platform=platform,
                rootless=self._rootless, limits=self._limits(), report=report,
            )  # fmt: skip
        self._events.tell_image("pull", pulled.image.id, str(ref))
        return pulled

    def tags(self, name: str) -> Sequence[str]:
        """Return the tags of a repository at its registry.

        Args:
            name: as for ``pull``, without a tag.

        Raises:
            InvalidInput: no reference.
            RegistryError: they could not be got.
        """
        names = self.places(name)
        for full in names[:-1]:
            with contextlib.suppress(RegistryError):
                return self._tags(full)
        return self._tags(names[-1])

    def _tags(self, name: str) -> Sequence[str]:
        from pycontain.engine import registries

        ref = reference.parse(name)
        with registries.opened(ref.domain, self._settings) as registry:
            return [*registry.tags(ref.path)]

    def push(self, name: str, *, report: Report | None = None) -> tuple[str, int]:
        """Send an image to the registry that its name says.

        Args:
            name: a name that the image has.
            report: is told how far each layer is, from several threads.

        Returns:
            The digest of the manifest there, and its size in bytes.

        Raises:
            InvalidInput: the name has a digest.
            NotFound: no image has the name.
            RegistryError: the registry refused, or could not be reached.
        """
        from pycontain.engine import registries
        from pycontain.image import push

        ref = reference.parse(name)
        with self._store.using():
            image = self._to_push(ref)
            others = {reference.parse(other) for other in (*image.names, *image.digests)}
            sources = {other.path for other in others if other.domain == ref.domain} - {ref.path}
            with registries.opened(ref.domain, self._settings) as registry:
                sent = push.push(
                    self._store, registry, image, ref, sources=tuple(sorted(sources)),
                    report=report,
                )  # fmt: skip
            self._store.is_at(image, ref.name, sent[0])
        self._events.tell_image("push", image.id, ref.local)
        return sent

    def _to_push(self, ref: Reference) -> Image:
        if ref.digest is not None:
            raise InvalidInput(f"cannot push a digest reference: {ref}")
        images = self._store.list()
        found = next((image for image in images if ref.local in image.names), None)
        if found is not None:
            return found
        if self._listed(ref.local) is not None:
            raise InvalidInput(
                f"push {ref.local}: is a list of images", f"'pycontain manifest push {ref.local}'"
            )
        if any(repository_of(name) == ref.name for image in images for name in image.names):
            raise NotFound(f"tag does not exist: {ref.local}")
        raise NotFound(f"an image does not exist locally with the tag: {ref.name}")

    def _untag(self, image: Image, names: Sequence[str]) -> Removal:
        self._store.forget(image, names)
        self._told("untag", image.id, names)
        return Removal(tuple(names), None)

    def _told(self, action: str, identity: str, names: Sequence[str]) -> None:
        for name in names:
            self._events.tell_image(action, identity, name)

    def _containers(self) -> Iterator[Container]:
        """All that can be read; of one that cannot, ``ps`` tells, and the layers stay."""
        for identity in records.ids(self._layout):
            with contextlib.suppress(PycontainError):
                yield records.load(self._layout.container(identity))

    def _layers_in_use(self) -> set[str] | None:
        """The layers of all containers and mounts; None where a container's document is damaged."""
        found = self._mounts.layers()
        for identity in records.ids(self._layout):
            try:
                container = records.load(self._layout.container(identity))
                found.update(container.layers)
                for mount in container.mounts or ():
                    found.update(mount.layers)
            except NotFound:
                continue  # being made: its maker is in ``using``; or being removed
            except StoreError:
                return None
        return found

    def _runs(self, container: Container) -> bool:
        try:
            return records.status(self._layout.container(container.id)).state == "running"
        except records.Lost:
            return False


def _tags_meant(image: Image | ManifestList, name: str) -> tuple[str, ...]:
    return tuple(known for known in _names_meant(image, name) if "@" not in known)


def _names_meant(image: Image | ManifestList, name: str) -> tuple[str, ...]:
    """The names of an image that `name` means; none where it is an id."""
    if name.startswith("sha256:"):
        return ()
    try:
        ref = reference.parse(name)
    except PycontainError:
        return ()  # 64 digits
    if ref.digest is None:
        return (ref.local,) if ref.local in image.names else ()
    whole = f"{ref.name}@{ref.digest}"
    if whole in image.digests:
        return (whole,)
    return tuple(known for known in image.names if repository_of(known) == ref.name)


def _with_digests(image: Image | ManifestList, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of an image, and those with a digest that go with a repository's last tag."""
    left = {repository_of(name) for name in image.names if name not in names}
    gone = {repository_of(name) for name in names if name in image.names} - left
    digests = (name for name in image.digests if repository_of(name) in gone)
    return tuple(dict.fromkeys((*names, *digests)))


def _is_one(image: Image | ManifestList) -> bool:
    """Whether all names of an image are one: a tag, and its repository's digests."""
    if not image.names:
        return len(image.digests) <= 1
    return len(_with_digests(image, image.names[:1])) == len(image.names) + len(image.digests)
