"""Images in archives and folders, as docker, podman, skopeo and builders write them.

An OCI image layout (``oci-layout`` and ``index.json``), what ``docker save`` writes
(``manifest.json``, a list), both in one as docker writes since 25, and the folder of skopeo's
``dir:`` (``manifest.json``, an object). Where both are there the layout says what the images are,
and ``manifest.json`` what they are called.

An archive is read where it lies, whatever the order of its members. One that comes through a pipe,
or is compressed, is first written to a file that has no name.

Nothing of an archive is believed: documents are verified by their digests here, layers by whoever
takes them in (``intake``), which reads several at once.

Source: OCI image-spec 1.1 (image-layout.md, image-index.md); docker's image specification 1.2,
"Combined Image JSON + Filesystem Changeset Format"; containers/image, ``directory`` transport.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

import msgspec

from pycontain.errors import ImageError, InvalidInput, kernel_error
from pycontain.image import compression, documents, members, reference
from pycontain.image.documents import Descriptor, Index, Manifest, Platform
from pycontain.image.extract import over
from pycontain.image.index import REF_NAME
from pycontain.kernel.paths import open_in_root
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.image.compression import Reader

T = TypeVar("T")

NAME = "io.containerd.image.name"
"""The annotation with an image's whole name, where REF_NAME may be a mere tag."""

MAX_IMAGES = 1000
_DEPTH = 4
# All documents of an archive together: they are held in memory.
_DOCUMENTS_LIMIT = 64 << 20
_SMALL = 64 << 10
_LAYOUT_VERSION = "1.0.0"
_DIRECTORY_VERSION = "Directory Transport Version: 1."
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: whoever wrote the folder may have put a fifo there.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HASHERS = 3

_LAYER_TYPES = {
    "": documents.LAYER, "gzip": f"{documents.LAYER}+gzip", "zstd": f"{documents.LAYER}+zstd",
}  # fmt: skip


class Document(msgspec.Struct, frozen=True):
    """A manifest or an index: its bytes, and as what they came."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """Its digest, ``sha256:…``."""
        return documents.digest_of(self.data)

    @property
    def descriptor(self) -> Descriptor:
        """What another document says of it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One image of an archive.

    Attributes:
        manifest: its manifest; one that we made where the archive is of docker's form.
        configuration: its bytes, verified and well-formed.
        names: as the store has them, ``busybox:latest``.
        index: from which it was chosen for its platform, None where it was not.
        whole: what that index leads to, where it has several images and the archive has all of
            them: then the names are the list's.
    """

    manifest: Document
    configuration: bytes
    names: tuple[str, ...] = ()
    index: Document | None = None
    whole: tuple[Descriptor, ...] = ()


class Place(Protocol):
    """Where the files of an archive are. Used by several threads at once."""

    what: str

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name.

        Raises:
            ImageError: the name leads out of the archive.
        """
        ...

    def open(self, name: str, start: int = 0) -> contextlib.AbstractContextManager[Section]:
        """Open a file from byte `start` on.

        Raises:
            ImageError: there is none, it is no regular file, or the name leads out of the archive.
        """
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content.

        Raises:
            ImageError: as for ``open``; it has more than `limit` bytes.
        """
        ...


class Section:
    """A part of an open file, read without moving its position.

    Attributes:
        size: of the whole, bytes.
    """

    def __init__(self, fd: int, offset: int, size: int, start: int = 0) -> None:
        self._fd = fd
        self._offset = offset
        self._position = start
        self.size = size

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        left = max(0, self.size - self._position)
        chunk = os.pread(self._fd, min(size, left), self._offset + self._position)
        self._position += len(chunk)
        return chunk


class _Files:
    """What both places have in common."""

    what: str

    def open(self, name: str, start: int = 0) -> contextlib.AbstractContextManager[Section]:
        raise NotImplementedError

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content; see ``Place``."""
        with self.open(name) as section:
            if section.size > limit:
                raise ImageError(
                    f"{self.what}: {name!r}: {section.size} bytes are more than {limit}"
                )
            data = section.read(limit)
        if len(data) < section.size:
            raise ImageError(f"{self.what}: {name!r}: shorter than {section.size} bytes")
        return data


class ArchiveFile(_Files):
    """A tar archive in a file.

    Args:
        fd: open for reading; stays the caller's.
        base: where in it the archive begins, bytes.
        what: its name in errors.

    Raises:
        ImageError: it is damaged or hostile; see ``members.index``.
    """

    def __init__(self, fd: int, base: int, what: str) -> None:
        self.what = what
        self._fd = fd
        self._base = base
        size = max(0, os.fstat(fd).st_size - base)
        self._members = members.index(
            lambda count, offset: os.pread(fd, count, base + offset), size, what
        )

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name; see ``Place``."""
        member = members.resolve(self._members, name, self.what)
        return member is not None and member.kind == members.FILE

    @contextlib.contextmanager
    def open(self, name: str, start: int = 0) -> Iterator[Section]:
        """Open a member; see ``Place``."""
        member = members.resolve(self._members, name, self.what)
        if member is None:
            raise ImageError(f"{self.what}: {name!r} is not in it")
        if member.kind != members.FILE:
            raise ImageError(f"{self.what}: {name!r}: not a regular file")
        yield Section(self._fd, self._base + member.offset, member.size, start)


class LayoutFolder(_Files):
    """A folder. No link leads out of it, and a file's name is not to be one.

    Args:
        fd: of the folder; stays the caller's.
        what: its name in errors.
    """

    def __init__(self, fd: int, what: str) -> None:
        self.what = what
        self._fd = fd

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name; see ``Place``."""
        fd = self._open(name)
        if fd < 0:
            return False
        try:
            return stat.S_ISREG(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def open(self, name: str, start: int = 0) -> Iterator[Section]:
        """Open a file; see ``Place``."""
        fd = self._open(name)
        if fd < 0:
            raise ImageError(f"{self.what}: {name!r} is not in it")
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise ImageError(f"{self.what}: {name!r}: not a regular file")
            yield Section(fd, 0, info.st_size, start)
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        """Return a descriptor, -1 where there is nothing."""
        try:
            return open_in_root(self._fd, members.normalised(name, self.what), _FILE)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise ImageError(f"{self.what}: {name!r}: {reason}") from err


# ---- opening ----


@contextlib.contextmanager
def opened(source: str | BinaryIO, work: str, *, limit: int) -> Iterator[Place]:
    """Open what images come in.

    Args:
        source: the path of an archive or of a folder, or an open binary file. A file that can be
            read at any offset is, from where it stands; another is read to its end.
        work: a folder where a nameless file may be made.
        limit: bytes that a compressed archive may have, unpacked.

    Raises:
        ImageError: it is neither, damaged, or too large.
        KernelError: it cannot be read.
        StoreError: the nameless file cannot be written.
    """
    if not isinstance(source, str):
        name = getattr(source, "name", None)
        what = name if isinstance(name, str) else "archive"
        with _archive(source, what, work, limit) as place:
            yield place
        return
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error("open", source, err.errno or 0) from err
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            yield LayoutFolder(fd, source)
            return
        with (
            open(fd, "rb", buffering=0, closefd=False) as file,
            _archive(file, source, work, limit) as place,
        ):
            yield place
    finally:
        os.close(fd)


@contextlib.contextmanager
def _archive(source: Any, what: str, work: str, limit: int) -> Iterator[Place]:
    where = _in_file(source)
    if where is not None:
        fd, base = where
        _, kind = compression.opened(Section(fd, base, _SMALL))
        if not kind:
            yield ArchiveFile(fd, base, what)
            return
    with _nameless(work) as file:
        _spool(source, file, what, limit)
        yield ArchiveFile(file.fileno(), 0, what)


def _in_file(source: Any) -> tuple[int, int] | None:
    """Return descriptor and position of a regular file; None where it is none."""
    try:
        fd: int = source.fileno()
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return fd, source.tell()
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError: nothing of a file
        return None


@contextlib.contextmanager
def _nameless(work: str) -> Iterator[Any]:
    import tempfile

    try:
        file = tempfile.TemporaryFile(buffering=0, dir=work)  # noqa: SIM115 - closed below
    except OSError as err:
        raise files.store_error("write", work, err) from err
    with file:
        yield file


class _Reading:
    """A caller's file as a reader whose errors are ours."""

    def __init__(self, source: BinaryIO, what: str) -> None:
        self._source = source
        self._what = what

    def read(self, size: int, /) -> bytes:
        try:
            chunk = self._source.read(size)
        except OSError as err:
            raise kernel_error("read", self._what, err.errno or 0) from err
        if chunk is None:
            raise InvalidInput(f"{self._what}: opened without waiting (O_NONBLOCK)")
        return chunk


def _spool(source: BinaryIO, file: BinaryIO, what: str, limit: int) -> None:
    content, kind = compression.opened(_Reading(source, what))
    total = 0
    while chunk := _blame(what, content):
        total += len(chunk)
        if kind and total > limit:
            raise ImageError(f"{what}: unpacked more than {limit} bytes", over("image_max_size"))
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as err:
            raise files.store_error("write", what, err) from err


def _blame(what: str, content: Reader) -> bytes:
    try:
        return content.read(compression.CHUNK)
    except ImageError as err:
        raise ImageError(f"{what}: {err}", err.hint) from err


# ---- what is in it ----


class _Layout(msgspec.Struct, frozen=True, rename={"version": "imageLayoutVersion"}):
    """The file ``oci-layout``."""

    version: str


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    """One image of docker's ``manifest.json``."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


class _Part(msgspec.Struct, frozen=True):
    """Where a blob is: a file, whose content is it (or, of one that is packed, what that gives)."""

    name: str
    packed: bool = False


class Archive:
    """The images in a place: what they are, and their layers (``intake.Source``).

    Args:
        place: of ``opened``.
        limit: bytes that a layer may have whose compression no layer of an image can have.
    """

    def __init__(self, place: Place, *, limit: int) -> None:
        self._place = place
        self._what = place.what
        self._limit = limit
        self._budget = _DOCUMENTS_LIMIT
        self._blobs = "blobs/sha256/{}"
        self._parts: dict[str, _Part] = {}
        self._packed: dict[str, Descriptor] = {}

    def images(self, platform: Platform | None = None) -> list[Found]:
        """Return the images, in the archive's order.

        Args:
            platform: only images for it; else of those that are there for several platforms the one
                for this machine, and the others whatever they are for.

        Raises:
            ImageError: there is none, a document is missing, damaged or not what it should be.
            DigestMismatch: a document is not the one that it should be.
        """
        found = _merged(self._images(platform))
        if platform is not None:
            fitting = [image for image in found if _fits(image, platform)]
            if found and not fitting:
                raise ImageError(f"{self._what}: no image for {platform}")
            found = fitting
        if not found:
            raise ImageError(f"{self._what}: no image in it")
        return found

    @contextlib.contextmanager
    def layer(self, descriptor: Descriptor, start: int) -> Iterator[Reader]:
        """Open a layer's blob from byte `start` on; see ``intake.Source``.

        Raises:
            ImageError: it is not there.
        """
        part = self._parts.get(descriptor.digest) or _Part(self._blob(descriptor))
        with self._place.open(part.name, 0 if part.packed else start) as section:
            if not part.packed:
                yield section
                return
            content, _ = compression.opened(section)
            _skip(content, start)
            yield content

    def abort(self) -> None:
        """Do nothing: a file does not make its reader wait."""

    def _images(self, platform: Platform | None) -> list[Found]:
        has = self._place.has
        if has("oci-layout") and has("index.json"):
            return self._oci(platform)
        if not has("manifest.json"):
            hint = None
            if has("repositories"):
                hint = "it was saved by a docker before 1.10: save it again with a newer one"
            raise ImageError(
                f"{self._what}: not an image: has neither oci-layout and index.json nor"
                " manifest.json", hint
            )  # fmt: skip
        data = self._read("manifest.json", documents.MANIFEST_LIMIT)
        if data.lstrip()[:1] == b"{":
            return [self._directory(data, platform)]
        entries = self._entries(data)
        self._count_packed(entries)
        return [self._saved(entry) for entry in entries]

    # -- OCI --

    def _oci(self, platform: Platform | None) -> list[Found]:
        version = self._decoded(self._read("oci-layout", _SMALL), _Layout, "oci-layout").version
        if version != _LAYOUT_VERSION:
            raise ImageError(f"{self._what}: oci-layout: version {version!r} is not 1.0.0")
        data = self._read("index.json", documents.MANIFEST_LIMIT)
        index = documents.parse(data, documents.INDEX, self._of("index.json"))
        assert isinstance(index, Index)
        wanted = platform or documents.host_platform()
        found = []
        for descriptor in self._tops(index, wanted):
            image = self._follow(descriptor, wanted, _DEPTH)
            if image is not None:
                # Of who asks for a platform nobody knows whether the others are wanted too.
                whole = self._whole(descriptor) if image.index and platform is None else ()
                names = _annotated(descriptor)
                found.append(msgspec.structs.replace(image, names=names, whole=whole))
        if self._place.has("manifest.json"):
            found = self._named(found)
        if index.manifests and not found:
            kind = index.manifests[0].media_type
            raise ImageError(f"{self._what}: no image in it, but {kind}")
        return found

    def _tops(self, index: Index, wanted: Platform) -> list[Descriptor]:
        """Of several of one name, each for a platform of its own, the best one."""
        if len(index.manifests) > MAX_IMAGES:
            raise ImageError(f"{self._what}: more than {MAX_IMAGES} images")
        groups: dict[object, list[Descriptor]] = {}
        for number, item in enumerate(index.manifests):
            named = _annotated(item) if item.platform else ()
            groups.setdefault(named or number, []).append(item)
        return [
            group[0]
            if len(group) == 1
            else documents.choose(Index(tuple(group)), wanted, self._what)
            for group in groups.values()
        ]

    def _follow(self, descriptor: Descriptor, wanted: Platform, depth: int) -> Found | None:
        """Return the image that a descriptor leads to; None where that is none."""
        if descriptor.media_type not in documents.MANIFESTS | documents.INDEXES:
            return None
        name = self._blob(descriptor)
        document = Document(
            self._verified(descriptor, documents.MANIFEST_LIMIT), descriptor.media_type
        )
        parsed = documents.parse(document.data, document.media_type, self._of(name))
        if isinstance(parsed, Manifest):
            return self._image(document, parsed)
        if not depth:
            raise ImageError(f"{self._what}: more than {_DEPTH} indexes below each other")
        # Who saves one platform of several may write the index whole.
        present = tuple(item for item in parsed.manifests if self._is_there(item))
        chosen = documents.choose(Index(present), wanted, self._of(name))
        found = self._follow(chosen, wanted, depth - 1)
        return found and msgspec.structs.replace(found, index=document)

    def _whole(self, top: Descriptor) -> tuple[Descriptor, ...]:
        """Return what an index leads to; nothing where it has one image, or something is missing.

        What builders say of an image in an index beside it does not make a list of that.
        """
        found: dict[str, Descriptor] = {}
        rest = [(top, _DEPTH + 1)]
        images = 0
        while rest:
            item, depth = rest.pop()
            if not depth or not self._is_there(item):
                return ()
            found[item.digest] = item
            if item.media_type not in documents.MANIFESTS | documents.INDEXES:
                continue
            data = self._verified(item, documents.MANIFEST_LIMIT)
            parsed = documents.parse(data, item.media_type, self._of(self._blob(item)))
            if isinstance(parsed, Manifest):
                images += documents.artifact_type(data) is None and not _is_attestation(item)
                rest += [(leaf, 1) for leaf in (parsed.config, *parsed.layers)]
            else:
                rest += [(below, depth - 1) for below in parsed.manifests]
        return tuple(found.values()) if images > 1 else ()

    def _image(self, document: Document, manifest: Manifest) -> Found | None:
        if documents.artifact_type(document.data) is not None:
            return None
        configuration = self._verified(manifest.config, documents.CONFIG_LIMIT)
        what = self._of(self._blob(manifest.config))
        documents.parse_configuration(configuration, manifest, what)
        return Found(manifest=document, configuration=configuration)

    def _named(self, found: list[Found]) -> list[Found]:
        """Images that the index gives no name have that of ``manifest.json``.

        It tells them by their configurations only, which several manifests may share.
        """
        taken = {name for image in found for name in image.names}
        data = self._read("manifest.json", documents.MANIFEST_LIMIT)
        names: dict[str, tuple[str, ...]] = {}
        for entry in self._entries(data):
            digest = documents.digest_of(self._read(entry.config, documents.CONFIG_LIMIT))
            free = (name for name in self._tags(entry) if name not in taken)
            names[digest] = (*names.get(digest, ()), *free)
        return [
            msgspec.structs.replace(
                image,
                names=image.names or names.get(documents.digest_of(image.configuration), ()),
            )
            for image in found
        ]

    # -- docker --

    def _entries(self, data: bytes) -> list[_Entry]:
        entries = self._decoded(data, list[_Entry], "manifest.json")
        if len(entries) > MAX_IMAGES:
            raise ImageError(f"{self._what}: more than {MAX_IMAGES} images")
        return entries

    def _saved(self, entry: _Entry) -> Found:
        configuration = self._read(entry.config, documents.CONFIG_LIMIT)
        config = Descriptor(
            media_type=documents.CONFIG,
            digest=documents.digest_of(configuration),
            size=len(configuration),
        )
        names = entry.layers or ()
        # What is checked here is the configuration, and how many layers it has.
        bare = Manifest(config, (config,) * len(names))
        parsed = documents.parse_configuration(configuration, bare, self._of(entry.config))
        layers = tuple(map(self._layer, names, parsed.rootfs.diff_ids))
        data = msgspec.json.encode(
            {
                "schemaVersion": 2,
                "mediaType": documents.MANIFEST,
                "config": config,
                "layers": layers,
            }
        )
        documents.parse(data, documents.MANIFEST, self._of("manifest.json"))
        return Found(
            manifest=Document(data, documents.MANIFEST),
            configuration=configuration,
            names=self._tags(entry),
        )

    def _layer(self, name: str, diff_id: str) -> Descriptor:
        """Return the descriptor of a layer's file. The unpacked one is what its diff id says."""
        known = self._packed.get(name)
        if known is not None and known.digest:
            self._parts[known.digest] = _Part(name)
            return known
        with self._place.open(name) as section:
            size = section.size if known is None else known.size
        self._parts[diff_id] = _Part(name, packed=known is not None)
        return Descriptor(media_type=documents.LAYER, digest=diff_id, size=size)

    def _count_packed(self, entries: list[_Entry]) -> None:
        """Read the layers that are compressed, for what a descriptor says of them."""
        from concurrent.futures import ThreadPoolExecutor

        names = dict.fromkeys(name for entry in entries for name in entry.layers or ())
        with ThreadPoolExecutor(_HASHERS, "pycontain-hash") as pool:
            found = pool.map(self._packed_layer, names)
            self._packed = {
                name: layer for name, layer in zip(names, found, strict=True) if layer is not None
            }

    def _packed_layer(self, name: str) -> Descriptor | None:
        """Return of a compressed layer the descriptor; without a digest where it is unpacked."""
        with self._place.open(name) as section:
            content, kind = compression.opened(section)
            if not kind:
                return None
            if kind not in _LAYER_TYPES:
                size = self._length(content, name)
                return Descriptor(media_type=documents.LAYER, digest="", size=size)
        with self._place.open(name) as section:
            found = hashlib.sha256()
            while chunk := section.read(compression.CHUNK):
                found.update(chunk)
            return Descriptor(
                media_type=_LAYER_TYPES[kind],
                digest=f"sha256:{found.hexdigest()}",
                size=section.size,
            )

    def _length(self, content: Reader, name: str) -> int:
        size = 0
        while chunk := _blame(self._of(name), content):
            size += len(chunk)
            if size > self._limit:
                raise ImageError(
                    f"{self._of(name)}: unpacked more than {self._limit} bytes",
                    over("layer_max_size"),
                )
        return size

    def _tags(self, entry: _Entry) -> tuple[str, ...]:
        try:
            return tuple(reference.parse(tag).local for tag in entry.repo_tags or ())
        except InvalidInput as err:
            raise ImageError(f"{self._of('manifest.json')}: {err}") from err

    # -- skopeo's folder --

    def _directory(self, data: bytes, platform: Platform | None) -> Found:
        version = self._read("version", _SMALL) if self._place.has("version") else b""
        if not version.startswith(_DIRECTORY_VERSION.encode()):
            raise ImageError(f"{self._of('manifest.json')}: neither docker's list nor skopeo's")
        self._blobs = "{}"
        stated = self._decoded(data, _MediaType, "manifest.json").media_type
        kind = stated or documents.MANIFEST
        document = Document(data, kind)
        parsed = documents.parse(data, kind, self._of("manifest.json"))
        index = None
        if isinstance(parsed, Index):
            index, wanted = document, platform or documents.host_platform()
            chosen = documents.choose(parsed, wanted, self._of("manifest.json"))
            name = f"{documents.hex_of(chosen.digest)}.manifest.json"
            data = self._read(name, documents.MANIFEST_LIMIT)
            documents.verify(data, chosen)
            document = Document(data, chosen.media_type)
            parsed = documents.parse(data, chosen.media_type, self._of(name))
        found = self._image(document, parsed) if isinstance(parsed, Manifest) else None
        if found is None:
            raise ImageError(f"{self._of('manifest.json')}: not an image")
        return msgspec.structs.replace(found, index=index)

    # -- files --

    def _blob(self, descriptor: Descriptor) -> str:
        try:
            return self._blobs.format(documents.hex_of(descriptor.digest))
        except ImageError as err:
            raise ImageError(f"{self._what}: {err}") from err

    def _is_there(self, descriptor: Descriptor) -> bool:
        return self._place.has(self._blob(descriptor))

    def _verified(self, descriptor: Descriptor, limit: int) -> bytes:
        name = self._blob(descriptor)
        data = self._read(name, limit)
        try:
            documents.verify(data, descriptor)
        except ImageError as err:
            raise type(err)(f"{self._of(name)}: {err}", err.hint) from err
        return data

    def _read(self, name: str, limit: int) -> bytes:
        data = self._place.read(name, limit)
        self._budget -= len(data)
        if self._budget < 0:
            raise ImageError(
                f"{self._what}: its documents have more than {_DOCUMENTS_LIMIT} bytes together"
            )
        return data

    def _decoded(self, data: bytes, kind: type[T], name: str) -> T:
        return documents.decode(data, kind, self._of(name))

    def _of(self, name: str) -> str:
        return f"{self._what}: {name}"


class _MediaType(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str = ""


def _is_attestation(item: Descriptor) -> bool:
    """Whether it is what a builder says of an image: in form an image, for no platform."""
    return item.platform is not None and item.platform.architecture == "unknown"


def _annotated(descriptor: Descriptor) -> tuple[str, ...]:
    """Return the name that an index gives an image, if it does.

    A lone word in REF_NAME is a tag of nobody knows what, so it is no name; nor is what names an
    image by its digest.
    """
    annotations = descriptor.annotations or {}
    for key in (NAME, REF_NAME):
        text = annotations.get(key, "")
        if not (":" in text or "/" in text):
            continue
        try:
            ref = reference.parse(text)
        except InvalidInput:
            continue
        return () if ref.digest and not ref.tag else (ref.local,)
    return ()


def _merged(found: list[Found]) -> list[Found]:
    """An image has an entry for each of its names."""
    images: dict[str, Found] = {}
    for image in found:
        listed = image.index if image.whole else None
        digest = (listed or image.manifest).digest
        known = images.get(digest)
        if known is not None:
            names = tuple(dict.fromkeys((*known.names, *image.names)))
            image = msgspec.structs.replace(known, names=names, index=known.index or image.index)
        images[digest] = image
    return list(images.values())


def _fits(image: Found, platform: Platform) -> bool:
    stated = files.decode(image.configuration, Platform)
    return documents.fits(stated, platform)


def _skip(content: Reader, size: int) -> None:
    while size > 0:
        chunk = content.read(min(size, compression.CHUNK))
        if not chunk:
            return
        size -= len(chunk)
