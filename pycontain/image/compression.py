"""Streams that may be compressed: gzip, zstd, xz, bzip2, told by their first bytes.

Never by the media type or the file's name: docker does not either, and builders are careless. What
a few bytes expand to is handed out in pieces, so that memory does not depend on it.

Source: RFC 1952 (gzip: a file is a series of members), RFC 8878 (zstd).
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol, cast

from pycontain.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

CHUNK = 1 << 20

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\0"
_BZIP2 = b"BZh"
# What the decoder may have to remember; zstd's own default for what it accepts.
_WINDOW = 1 << 27


class Reader(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Ahead:
    """A reader whose first bytes were looked at."""

    def __init__(self, source: Reader, head: bytes) -> None:
        self._source = source
        self._head = head

    def read(self, size: int, /) -> bytes:
        if not self._head:
            return self._source.read(size)
        chunk, self._head = self._head[:size], self._head[size:]
        return chunk


class _Members:
    """The content of a series of compressed members of one kind."""

    def __init__(
        self, source: Reader, make: Callable[[], _Decoder], magic: bytes, what: str
    ) -> None:
        self._source = source
        self._make = make
        self._magic = magic
        self._what = what
        self._decoder: _Decoder | None = make()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while self._decoder is not None:
            chunk = self._step(self._decoder, size)
            if chunk:
                return chunk
        return b""

    def _step(self, decoder: _Decoder, size: int) -> bytes:
        if decoder.eof:
            self._next_member(decoder.unused_data)
            return b""
        data, self._rest = self._rest, b""
        if not data and decoder.needs_input:
            data = self._source.read(CHUNK // 4)
            if not data:
                raise ImageError(f"{self._what}: ends in the middle")
        try:
            return decoder.decompress(data, size)
        except Exception as err:  # each of the four libraries has one of its own
            raise ImageError(f"{self._what}: damaged: {err}") from err

    def _next_member(self, rest: bytes) -> None:
        while len(rest) < len(self._magic):
            more = self._source.read(CHUNK // 4)
            if not more:
                break
            rest += more
        if not rest:
            self._decoder = None
        elif rest.startswith(self._magic):
            self._decoder, self._rest = self._make(), rest
        else:
            raise ImageError(f"{self._what}: something else follows its end")


class _Frames:
    """The content of a series of zstd frames; of their end the library does not tell."""

    def __init__(self, source: Reader) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        # Of a stream it wants read() alone.
        stream = cast("IO[bytes]", _Followed(source))
        self._reader = decoder.stream_reader(stream, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        try:
            return self._reader.read(size)
        except self._error as err:
            raise ImageError(f"zstd: damaged: {err}") from err


class _Followed:
    """A reader of zstd frames that sees where they end, without decoding them.

    Source: RFC 8878, section 3.1.
    """

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._steps = _frame_steps()
        self._wanted = next(self._steps)  # bytes of the next field; less than 0: to be passed over
        self._field = b""

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(size)
        if chunk:
            self._follow(chunk)
        elif self._wanted != _MAGIC_SIZE or self._field:
            raise ImageError("zstd: ends in the middle")
        return chunk

    def _follow(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk):
            if self._wanted < 0:
                step = min(-self._wanted, len(chunk) - at)
                self._wanted += step
                at += step
                if not self._wanted:
                    self._wanted = self._steps.send(b"")
                continue
            piece = chunk[at : at + self._wanted - len(self._field)]
            self._field += piece
            at += len(piece)
            if len(self._field) == self._wanted:
                field, self._field = self._field, b""
                self._wanted = self._steps.send(field)


_MAGIC_SIZE = 4


def _frame_steps() -> Generator[int, bytes, None]:
    """Yield what comes next of a series of frames: a field's size, or how many bytes to pass over.

    A field is sent in return. Between frames it is a magic number's, which nothing else has.
    """
    while True:
        magic = yield _MAGIC_SIZE
        if magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5:  # a skippable frame
            size = int.from_bytes((yield 2) + (yield 2), "little")
            if size:
                yield -size
        elif magic == _ZSTD:
            yield from _one_frame()
        else:
            raise ImageError("zstd: something else follows its end")


def _one_frame() -> Generator[int, bytes, None]:
    flags = (yield 1)[0]
    single = flags >> 5 & 1
    content_size = (single, 2, 4, 8)[flags >> 6]
    header = (1 - single) + (0, 1, 2, 4)[flags & 3] + content_size
    if header:
        yield -header
    last = 0
    while not last:
        block = int.from_bytes((yield 3), "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        if kind == 1:  # a byte that is repeated
            size = 1
        if size:
            yield -size
    if flags >> 2 & 1:
        yield -4  # of the checksum


def opened(source: Reader) -> tuple[Reader, str]:
    """Return the content of a stream, and how it is compressed: ``gzip``, ``""`` …

    Errors come as ImageError when it is read: damaged, ends in the middle, or something follows.
    """
    head = _fill(source, len(_XZ))
    whole = _Ahead(source, head)
    if head.startswith(_GZIP):
        from isal import igzip_lib

        return _Members(
            whole, lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP), _GZIP, "gzip"
        ), "gzip"
    if head.startswith(_ZSTD):
        return _Frames(whole), "zstd"
    if head.startswith(_XZ):
        import lzma

        return _Members(
            whole, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW), _XZ, "xz"
        ), "xz"
    if head.startswith(_BZIP2):
        import bz2

        return _Members(whole, bz2.BZ2Decompressor, _BZIP2, "bzip2"), "bzip2"
    return whole, ""


def _fill(source: Reader, size: int) -> bytes:
    head = b""
    while len(head) < size:
        more = source.read(size - len(head))
        if not more:
            break
        head += more
    return head
