"""Images as others read them: ``docker save``'s archive, an OCI archive, an OCI folder.

All three are one OCI image layout; docker's has ``manifest.json`` beside it, as docker writes it
since 25, for readers that know nothing else. Blobs go out as they are, so every digest survives.
The same images give the same bytes: members are sorted, nobody's, and of the epoch.

Source: OCI image-spec 1.1 (image-layout.md, annotations.md); docker's image specification 1.2,
"Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import contextlib
import errno
import os
import tarfile
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from pycontain.errors import (
    Conflict,
    ImageError,
    InvalidInput,
    KernelError,
    NotFound,
    StoreError,
    kernel_error,
)
from pycontain.image import documents, reference
from pycontain.image.archives import NAME
from pycontain.image.documents import Descriptor, Index, Manifest
from pycontain.image.index import REF_NAME
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.image.blobs import Blobs

DOCKER_ARCHIVE = "docker-archive"
OCI_ARCHIVE = "oci-archive"
OCI_FOLDER = "oci-dir"
FORMS = (DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_FOLDER)

_BLOBS = "blobs/sha256"
_CHUNK = 1 << 20
_DEPTH = 4
# sendfile(2) takes no more at once.
_MOST = 0x7FFFF000
_RECORD = 20 * tarfile.BLOCKSIZE
# Of two file systems, or of one that does not know it.
_NOT_SO = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """An image or a list to write, and the names that it takes along, as the store has them."""

    manifest: Descriptor
    names: tuple[str, ...] = ()


def save(blobs: Blobs, images: Sequence[Saved], output: BinaryIO, form: str) -> None:
    """Write images as an archive.

    Args:
        blobs: of their store; nothing is removed from it meanwhile (``ImageStore.using``).
        images: in the order in which a reader finds them.
        output: a blocking file; what it holds back is flushed first.
        form: ``docker-archive`` or ``oci-archive``.

    Raises:
        InvalidInput: another form; docker's, for a list of images.
        NotFound: what a list names is not there.
        ImageError: an image's manifest is none.
        DigestMismatch, StoreError: a blob is damaged, missing or cannot be read.
        KernelError: the output cannot be written.
    """
    if form not in (DOCKER_ARCHIVE, OCI_ARCHIVE):
        raise InvalidInput(f"save: {form!r}: no form of an archive")
    content = _Content(blobs, images, beside=form == DOCKER_ARCHIVE)
    archive = _ArchiveOutput(output)
    for folder in ("blobs", _BLOBS):
        archive.folder(folder)
    content.write(archive.blob, archive.document)
    archive.end()


def save_folder(blobs: Blobs, images: Sequence[Saved], path: str) -> None:
    """Write images as an OCI image layout: a new folder, or an empty one. Whole or not at all.

    Args:
        blobs: as for ``save``.
        images: likewise.
        path: of the folder.

    Raises:
        Conflict: there is something already.
        KernelError: it cannot be written.
        ImageError, DigestMismatch, StoreError: as for ``save``.
    """
    content = _Content(blobs, images, beside=False)
    _check_free(path)
    temporary = f"{path.rstrip('/')}.new-{os.getpid()}"
    try:
        os.mkdir(temporary)
    except OSError as err:
        raise kernel_error("save", path, err.errno or 0) from err
    try:
        _fill(temporary, content)
        # rename(2) takes the place of an empty folder.
        os.rename(temporary, path)
    except BaseException as err:
        files.remove_tree(temporary)
        if isinstance(err, OSError):
            raise kernel_error("save", path, err.errno or 0) from err
        raise


def _fill(folder: str, content: _Content) -> None:
    os.makedirs(f"{folder}/{_BLOBS}")
    output = _FolderOutput(folder)
    content.write(output.blob, output.document)


def _check_free(path: str) -> None:
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise Conflict(f"save: {path}: is there already")


class _Content:
    """The documents of the layout, and which blobs belong to it."""

    def __init__(self, blobs: Blobs, images: Sequence[Saved], *, beside: bool) -> None:
        images = _merged(images)
        self._blobs = blobs
        self._beside = beside
        self._sizes: dict[str, int] = {}
        entries = [self._take(image) for image in images]
        self._documents = {
            "index.json": _index(images),
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        }
        if beside:
            self._documents["manifest.json"] = msgspec.json.encode(entries)

    def write(
        self,
        blob: Callable[[str, str, int], None],
        document: Callable[[str, bytes], None],
    ) -> None:
        """Hand over every file, sorted: `blob` gets name, path and size, `document` the content."""
        for digest, size in sorted(self._sizes.items()):
            blob(f"{_BLOBS}/{documents.hex_of(digest)}", self._blobs.path(digest), size)
        for name, data in sorted(self._documents.items()):
            document(name, data)

    def _take(self, image: Saved) -> dict[str, Any]:
        """Note the blobs of an image, and return what docker's ``manifest.json`` says of it."""
        what = f"image {image.manifest.digest}"
        data = self._blobs.read(image.manifest)
        manifest = documents.parse(data, image.manifest.media_type, what)
        if not isinstance(manifest, Manifest):
            if self._beside:
                raise InvalidInput(
                    f"save: {what}: is a list of images, which docker's archives have not",
                    f"--format {OCI_ARCHIVE} takes it whole",
                )
            self._take_list(image.manifest, manifest, what, _DEPTH)
            return {}
        self._note((image.manifest, manifest.config, *manifest.layers))
        return {
            "Config": _path(manifest.config),
            "RepoTags": list(image.names) or None,
            "Layers": [_path(layer) for layer in manifest.layers],
        }

    def _take_list(self, listed: Descriptor, index: Index, what: str, depth: int) -> None:
        """Note what a list leads to; all of it has to be here."""
        self._note((listed,))
        for item in index.manifests:
            self._check_there(item, what)
            below = documents.parse(self._blobs.read(item), item.media_type, item.digest)
            if isinstance(below, Manifest):
                needed = (item, below.config, *below.layers)
                for one in needed:
                    self._check_there(one, what)
                self._note(needed)
            elif not depth:
                raise ImageError(f"save: {what}: more than {_DEPTH} lists below each other")
            else:
                self._take_list(item, below, what, depth - 1)

    def _check_there(self, item: Descriptor, what: str) -> None:
        if not self._blobs.has(item):
            raise NotFound(
                f"save: {what}: blob {item.digest} is not in the store", "pull its images first"
            )

    def _note(self, descriptors: Iterable[Descriptor]) -> None:
        for item in descriptors:
            known = self._sizes.setdefault(item.digest, item.size)
            if known != item.size:
                raise StoreError(f"save: blob {item.digest}: {known} bytes, and {item.size} too")


class _ArchiveOutput:
    """A tar archive on its way out."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._written = 0
        # None: nothing to hand to the kernel, as with a BytesIO.
        self._fd: int | None = None
        with contextlib.suppress(AttributeError, OSError):
            self._fd = output.fileno()

    def folder(self, name: str) -> None:
        """Write the header of a folder."""
        self._header(name, 0, tarfile.DIRTYPE, 0o755)

    def document(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._header(name, len(data), tarfile.REGTYPE, 0o644)
        self._write(data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def blob(self, name: str, path: str, size: int) -> None:
        """Write a file of the store."""
        with _opened(path, size) as source:
            self._header(name, size, tarfile.REGTYPE, 0o644)
            self._copy(source, path, size)
        self._write(bytes(-size % tarfile.BLOCKSIZE))

    def end(self) -> None:
        """Write the end mark, to a whole record as tar(1) does."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._written % _RECORD))
        try:
            self._output.flush()
        except OSError as err:
            raise _unwritten(err) from err

    def _header(self, name: str, size: int, kind: bytes, mode: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.type, entry.mode = size, kind, mode
        # pax where 8 GB and more need it; plain ustar otherwise.
        self._write(entry.tobuf(tarfile.PAX_FORMAT))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                count: int | None = self._output.write(rest)
                if count is None:
                    raise BlockingIOError(errno.EAGAIN, "not a blocking file")
                rest = rest[count:]
        except OSError as err:
            raise _unwritten(err) from err
        self._written += len(data)

    def _copy(self, source: int, path: str, size: int) -> None:
        done = 0
        if self._fd is not None:
            try:
                self._output.flush()
                done = _send(self._fd, source, size)
            except OSError as err:
                raise _unwritten(err) from err
        self._written += done
        while done < size:
            try:
                chunk = os.pread(source, min(_CHUNK, size - done), done)
            except OSError as err:
                raise files.store_error("read", path, err) from err
            if not chunk:
                raise StoreError(f"read: {path}: ends after {done} bytes instead of {size}")
            self._write(chunk)
            done += len(chunk)


class _FolderOutput:
    """A folder on its way out."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def document(self, name: str, data: bytes) -> None:
        """Write a small file. Raises OSError."""
        with open(f"{self._folder}/{name}", "xb") as file:
            file.write(data)

    def blob(self, name: str, path: str, size: int) -> None:
        """Copy a file of the store; only a reference to it, where the file system can.

        Raises OSError.
        """
        with _opened(path, size) as source:
            fd = os.open(f"{self._folder}/{name}", _NEW, 0o644)
            try:
                _clone(fd, source, size)
                if os.fstat(fd).st_size != size:
                    raise StoreError(f"read: {path}: shorter than {size} bytes")
            finally:
                os.close(fd)


@contextlib.contextmanager
def _opened(path: str, size: int) -> Any:
    """Open a blob of a known size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise files.store_error("read", path, err) from err
    try:
        found = os.fstat(fd).st_size
        if found != size:
            raise StoreError(f"read: {path}: {found} bytes long instead of {size}")
        yield fd
    finally:
        os.close(fd)


def _send(target: int, source: int, size: int) -> int:
    """Let the kernel copy a file's content, as far as it does, and return how many bytes it did.

    A file that is open for appending, and some others, it does not write to.
    """
    done = 0
    while done < size:
        try:
            count = os.sendfile(target, source, done, min(_MOST, size - done))
        except OSError as err:
            if err.errno in (errno.EINVAL, errno.ENOSYS) and not done:
                break
            raise
        if not count:
            break
        done += count
    return done


def _clone(target: int, source: int, size: int) -> None:
    """Copy one file to another, new one, by copy_file_range(2) where both file systems can."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, size - done, done, done)
        except OSError as err:
            if err.errno in _NOT_SO and not done:
                _send(target, source, size)
                return
            raise
        if not count:
            return
        done += count


def _merged(images: Sequence[Saved]) -> list[Saved]:
    """An image that was named twice is written once, with the names of both."""
    found: dict[str, Saved] = {}
    for image in images:
        known = found.get(image.manifest.digest)
        names = tuple(dict.fromkeys((*(known.names if known else ()), *image.names)))
        found[image.manifest.digest] = Saved(manifest=image.manifest, names=names)
    return list(found.values())


def _index(images: Sequence[Saved]) -> bytes:
    """``index.json``: a descriptor for each name, or one without for an image that has none."""
    manifests = [
        _named(image.manifest, name) for image in images for name in image.names or (None,)
    ]
    return msgspec.json.encode(
        {"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": manifests}
    )


def _named(descriptor: Descriptor, name: str | None) -> Descriptor:
    """The name stands whole where skopeo and podman look for it, and where containerd does."""
    annotations = None
    if name is not None:
        whole = reference.parse(name).canonical
        annotations = {NAME: whole, REF_NAME: whole}
    return msgspec.structs.replace(descriptor, annotations=annotations)


def _path(descriptor: Descriptor) -> str:
    return f"{_BLOBS}/{documents.hex_of(descriptor.digest)}"


def _unwritten(err: OSError) -> KernelError:
    return kernel_error("write", "the archive", err.errno or 0)
