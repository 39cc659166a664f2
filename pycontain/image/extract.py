"""Unpacking a layer: tar bytes to a folder as overlayfs wants it (native/layer.c).

Nothing outside of the folder is read or written, whatever the archive says. What refers to the
layers below is only noted here; ``parents`` deals with it when those are there.

Source: OCI image-spec 1.1, layer.md; docs/layers.md says what becomes what.
"""

from __future__ import annotations

import _thread
import errno
import os

from pycontain._native._layer import ffi, lib
from pycontain.errors import ImageError, PycontainError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

MAX_ENTRIES = 4_000_000
MAX_BYTES = 1 << 40
_SHOWN = 200  # characters of a name in a message
# What the archive asks for and no file system grants; other numbers are the store's trouble.
_OF_THE_ARCHIVE = (
    errno.E2BIG, errno.EFBIG, errno.EINVAL, errno.EMLINK, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EOPNOTSUPP, errno.ERANGE,
)  # fmt: skip


# What native/layer.c refuses by a bound: which, and the setting that says it.
_BOUNDS = {
    "the layer has more entries than are allowed": ("entries", "layer_max_entries"),
    "the layer's files are larger than is allowed": ("bytes", "layer_max_size"),
}


class Limits:
    """What a layer, and an image, may have.

    Attributes:
        entries: of a layer's archive, whatever they are.
        bytes: of data in a layer's files, holes not counted.
        image: the same of all layers that come together.
    """

    __slots__ = ("bytes", "entries", "image")

    def __init__(
        self,
        entries: int = MAX_ENTRIES,
        bytes: int = MAX_BYTES,  # noqa: A002
        image: int = MAX_BYTES,
    ) -> None:
        self.entries = entries
        self.bytes = bytes
        self.image = image


class Budget:
    """What the layers of an image have left; they count in threads of their own.

    Args:
        limits: of the image.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.image
        self._used = 0
        self._lock = _thread.allocate_lock()

    def take(self, count: int) -> None:
        """Count some more bytes of data.

        Raises:
            ImageError: there are more than the image may have.
        """
        with self._lock:
            self._used += count
            if self._used > self._most:
                raise ImageError(
                    f"the image's files are larger than is allowed: {self._most} bytes",
                    over("image_max_size"),
                )


def over(setting: str) -> str:
    """Return the hint of an error about a bound."""
    return f"where the image is to be trusted, {setting} sets the bound"


class Extracted:
    """What came of a layer. Paths are relative to its folder, without ``.`` and links on them.

    Attributes:
        entries: how many the archive has.
        size: bytes of data in its files.
        implicit: folders that no entry listed, parents first; ``.`` is the layer's own.
        links: hard links to what is not in this layer: name, and target as the archive has it.
        left_out: devices that cannot be made in a user namespace.
        opaque_root: nothing of the layers below is to be seen.
    """

    __slots__ = ("entries", "implicit", "left_out", "links", "opaque_root", "size")

    def __init__(
        self,
        entries: int,
        size: int,
        implicit: list[bytes],
        links: list[tuple[bytes, bytes]],
        left_out: list[bytes],
        opaque_root: bool,
    ) -> None:
        self.entries = entries
        self.size = size
        self.implicit = implicit
        self.links = links
        self.left_out = left_out
        self.opaque_root = opaque_root


class Extraction:
    """One layer on its way into a folder. Used by one thread at a time; closed by ``with``.

    Args:
        root_fd: descriptor of the folder, which is empty and nobody else's. It stays the caller's.
        rootless: the caller is in a user namespace: overlay's marks are ``user.`` attributes, and
            devices are left out.
        limits: of the layer.
        budget: of the image.
    """

    def __init__(
        self, root_fd: int, *, rootless: bool, limits: Limits, budget: Budget | None = None
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._counted = 0
        self._layer = lib.layer_new(root_fd, rootless, limits.entries, limits.bytes)
        if self._layer == ffi.NULL:
            raise MemoryError

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the uncompressed archive, however many. Other threads go on.

        Raises:
            ImageError: the archive is damaged, or asks for what is refused; the entry is named.
            StoreError: a file cannot be written.
        """
        with ffi.from_buffer("char[]", data) as buffer:
            if lib.layer_feed(self._open(), buffer, len(buffer)) < 0:
                raise self._error()
        if self._budget is not None:
            size = lib.layer_size(self._layer)
            self._budget.take(size - self._counted)
            self._counted = size

    def finish(self) -> Extracted:
        """End it, after the last bytes.

        Raises:
            ImageError: the archive is cut off.
            StoreError: a folder's time cannot be set.
        """
        layer = self._open()
        if lib.layer_finish(layer) < 0:
            raise self._error()
        implicit, links, left_out = self._notes()
        return Extracted(
            entries=lib.layer_entries(layer),
            size=lib.layer_size(layer),
            implicit=([] if lib.layer_has_root(layer) else [b"."]) + implicit,
            links=links,
            left_out=left_out,
            opaque_root=bool(lib.layer_is_opaque(layer)),
        )

    def close(self) -> None:
        """Let go of what it holds; may be called twice."""
        lib.layer_free(self._layer)
        self._layer = ffi.NULL

    def __enter__(self) -> Extraction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> object:
        if self._layer == ffi.NULL:
            raise ValueError("the extraction is closed")
        return self._layer

    def _notes(self) -> tuple[list[bytes], list[tuple[bytes, bytes]], list[bytes]]:
        """Implicit folders, links and devices left out, of the records of native/tree.h."""
        size = ffi.new("size_t *")
        notes = lib.layer_notes(self._layer, size)
        words = iter(bytes(ffi.buffer(notes, size[0])).split(b"\0")[:-1]) if size[0] else iter(())
        implicit: set[bytes] = set()
        links: dict[bytes, bytes] = {}
        left_out: list[bytes] = []
        for word in words:
            kind, path = word[:1], word[1:]
            if kind == b"+":
                implicit.add(path)
            elif kind == b"-":
                implicit.discard(path)
            elif kind == b"L":
                links[path] = next(words)
            elif kind == b"D":
                left_out.append(path)
        # A later entry may have replaced one, or what it was in.
        folders = [path for path in implicit if lib.layer_has_folder(self._layer, path)]
        return sorted(folders), list(links.items()), left_out

    def _error(self) -> PycontainError:
        """The error for what went wrong last, which is the end of it."""
        why = ffi.string(lib.layer_why(self._layer)).decode()
        number = lib.layer_error(self._layer)
        where = shown(ffi.string(lib.layer_where(self._layer)))
        self.close()
        subject = f"layer: entry '{where}'" if where else "layer"
        if why in _BOUNDS:
            bound, setting = _BOUNDS[why]
            most = f"{getattr(self._limits, bound)} {bound}"
            return ImageError(f"{subject}: {why}: {most}", over(setting))
        if not number:
            return ImageError(f"{subject}: {why}")
        message = f"{subject}: {why}: {os.strerror(number).lower()}"
        if number == errno.EINVAL and why == "set the owner":
            hint = "the user namespace has no such id: give the user more in /etc/subuid and subgid"
            return ImageError(message, hint)
        if number == errno.EOPNOTSUPP:
            hint = "the store's file system has no such attributes: tmpfs has some since Linux 6.6"
            return ImageError(message, hint)
        return ImageError(message) if number in _OF_THE_ARCHIVE else StoreError(message)


def shown(name: bytes) -> str:
    """Return a name of an archive for a message: in one line, printable, not endless."""
    text = name[: 4 * _SHOWN].decode("utf-8", "backslashreplace")
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
