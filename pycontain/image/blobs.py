"""The blobs of the store's image layout: files that are called by the digest of their content.

What comes in is written to ``images/partial/HEX`` and renamed when its size and its digest are
right, so a blob is whole or absent. A partial file stays where its writer fails or is killed: the
next goes on where it ends. A lock on it (flock) keeps a second process waiting, which then finds
the blob.

Source: OCI image-spec 1.1, image-layout.md.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, BinaryIO

from pycontain.errors import DigestMismatch, NotFound, StoreError
from pycontain.image import documents
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.image.documents import Descriptor
    from pycontain.store.layout import Layout

CHUNK = 1 << 20
KEPT = 24 * 3600
"""Seconds that an interrupted download is kept after its last byte."""
_WRITE_BACK = 16 << 20
_LOCK = ".lock"
_TICK = 0.02  # seconds: a file's time is that of the last timer interrupt (CONFIG_HZ, 100 at least)


class Blobs:
    """The blobs of one store."""

    def __init__(self, layout: Layout) -> None:
        self._images = layout.images
        self.folder = f"{layout.images}/blobs/sha256"
        self._partial = f"{layout.images}/partial"

    def path(self, digest: str) -> str:
        """Return where a blob is, or would be.

        Raises:
            ImageError: the digest is none.
        """
        return f"{self.folder}/{documents.hex_of(digest)}"

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there, in its size."""
        try:
            return os.stat(self.path(descriptor.digest)).st_size == descriptor.size
        except FileNotFoundError:
            return False

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document. Its digest was checked when it came.

        Raises:
            DigestMismatch: it has not the size that it should.
            ImageError: the descriptor's digest is none.
            StoreError: it cannot be read, or is not there, though a document names it.
        """
        path = self.path(descriptor.digest)
        try:
            data = files.read(path)
        except NotFound as err:
            raise StoreError(str(err)) from err
        if len(data) != descriptor.size:
            raise DigestMismatch(
                f"read: {path}: {len(data)} bytes long instead of {descriptor.size}"
            )
        return data

    def prepare(self) -> None:
        """Make the image layout where there is none.

        Raises:
            StoreError: a file cannot be written.
        """
        marker = f"{self._images}/oci-layout"
        for folder in (f"{self._images}/blobs", self.folder, self._partial):
            files.make_folder(folder)
        if not os.path.exists(marker):
            files.write_atomic(marker, b'{"imageLayoutVersion":"1.0.0"}\n')

    def add(self, data: bytes) -> str:
        """Write a document, and return its digest.

        Raises:
            StoreError: it cannot be written.
        """
        digest = documents.digest_of(data)
        path = self.path(digest)
        if not os.path.exists(path):
            files.write_atomic(path, data)
        return digest

    @contextlib.contextmanager
    def receive(self, descriptor: Descriptor) -> Iterator[Partial | None]:
        """Take a blob in; waits for whoever does that already.

        Yields:
            What to write it to; None where it is there.

        Raises:
            StoreError: the file cannot be made.
            ImageError: the descriptor's digest is none.
        """
        digits = documents.hex_of(descriptor.digest)
        with files.Lock(f"{self._partial}/{digits}{_LOCK}") as lock:
            if self.has(descriptor):
                yield None
            else:
                with Partial(f"{self._partial}/{digits}", self.path(descriptor.digest),
                             descriptor) as partial:  # fmt: skip
                    yield partial
            # Who waits for the lock sees that its file has no name any more, and makes another.
            files.remove(lock.path)

    def digests(self) -> list[str]:
        """Return the digests of all blobs."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return [f"sha256:{name}" for name in names if not files.is_temporary(name)]

    def remove(self, digest: str) -> int:
        """Remove a blob, and return how many bytes it had; 0 where there was none."""
        path = self.path(digest)
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return 0
        files.remove(path)
        return size

    def sweep(self, since: float | None = None) -> int:
        """Remove what killed writers left, and return how many bytes that were.

        A partial file stays for as long as ``KEPT`` says: it is gone on with. Nobody may be
        writing: see ``ImageStore.collect``.

        Args:
            since: seconds since the epoch; partial files that were written to after it go too.
        """
        freed = 0
        now = time.time()
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._partial):
                path = f"{self._partial}/{name}"
                found = os.stat(path)
                late = since is not None and found.st_mtime >= since - _TICK
                # Of a clock that was set back: not kept for ever.
                fresh = abs(now - found.st_mtime) < KEPT
                if late or not fresh or name.endswith(_LOCK) or not found.st_size:
                    freed += found.st_size
                    files.remove(path)
        files.sweep(self.folder)
        return freed


class Partial:
    """A blob that is being written. Its lock is held by ``Blobs.receive``.

    Attributes:
        size: bytes of it that there are.
    """

    def __init__(self, path: str, target: str, descriptor: Descriptor) -> None:
        import hashlib

        self._path = path
        self._target = target
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self.size = 0
        self._begun = 0
        try:
            self._file: BinaryIO = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed below
        except OSError as err:
            raise files.store_error("write", path, err) from err

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def present(self) -> Iterator[bytes]:
        """Yield what an earlier writer left, in chunks, before anything is written."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            if self.size + len(chunk) > self._descriptor.size:
                self._give_up()
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    def write(self, chunk: bytes | memoryview) -> None:
        """Add some bytes.

        Raises:
            DigestMismatch: there are more than the blob may have.
            StoreError: they cannot be written.
        """
        self._hash.update(chunk)
        self.size += len(chunk)
        if self.size > self._descriptor.size:
            self._give_up()
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            if self.size - self._begun >= _WRITE_BACK:
                # Has the kernel begin to write what fdatasync(2) would wait for at the end.
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                self._begun = self.size
        except OSError as err:
            raise files.store_error("write", self._path, err) from err

    def finish(self) -> None:
        """Give the blob its name, once its content is on the disk.

        Raises:
            DigestMismatch: size or digest are not right; what was written is removed.
            StoreError: it cannot be renamed.
        """
        if self.size != self._descriptor.size:
            # Shorter: kept, the next goes on here.
            raise DigestMismatch(
                f"{self._descriptor.digest}: ends after {self.size} bytes instead of"
                f" {self._descriptor.size}"
            )
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._descriptor.digest:
            files.remove(self._path)
            raise DigestMismatch(f"{self._descriptor.digest}: the content has digest {found}")
        try:
            os.fdatasync(self._file.fileno())
            os.rename(self._path, self._target)
        except OSError as err:
            raise files.store_error("write", self._target, err) from err

    def _give_up(self) -> None:
        files.remove(self._path)
        raise DigestMismatch(
            f"{self._descriptor.digest}: more than the {self._descriptor.size} bytes that it has"
        )
