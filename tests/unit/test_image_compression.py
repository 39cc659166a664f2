"""Compressed streams: told by their first bytes, unpacked in pieces, and damaged ones refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import ImageError
from pycontain.image import compression

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.image.compression import Reader

    Pack = Callable[[bytes], bytes]

PACKS: dict[str, Pack] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
PACKED = [kind for kind in PACKS if kind]
# Part of it does not shrink.
CONTENT = random.Random(1).randbytes(300_000) + b"x" * 2_000_000 + b"end"


class Dripping:
    """A reader that gives a few bytes at a time, as a connection does."""

    def __init__(self, data: bytes, most: int) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._most))


def content(source: Reader, size: int = 65536) -> bytes:
    reader, _ = compression.opened(source)
    data = bytearray()
    while chunk := reader.read(size):
        assert len(chunk) <= size
        data += chunk
    assert reader.read(size) == b""
    return bytes(data)


@pytest.mark.parametrize("kind", PACKS)
@pytest.mark.parametrize("most", [1000, 1 << 20])
def test_content_and_kind(kind: str, most: int) -> None:
    packed = PACKS[kind](CONTENT)
    assert compression.opened(io.BytesIO(packed))[1] == kind
    assert content(Dripping(packed, most)) == CONTENT


@pytest.mark.parametrize("kind", PACKS)
def test_nothing_and_little(kind: str) -> None:
    for data in (b"", b"x"):
        assert content(Dripping(PACKS[kind](data), 1)) == data


@pytest.mark.parametrize("kind", PACKED)
def test_a_series_of_members(kind: str) -> None:
    """As ``cat a.gz b.gz`` and parallel compressors write it."""
    packed = PACKS[kind](b"a" * 1000) + PACKS[kind](b"") + PACKS[kind](b"b" * 1000)
    for most in (1, 7, 1 << 20):
        assert content(Dripping(packed, most)) == b"a" * 1000 + b"b" * 1000


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("most", [1, 1 << 20])
def test_what_follows_the_end(kind: str, most: int) -> None:
    for rest in (b"x", b"\0" * 10, b"something longer than any magic"):
        with pytest.raises(ImageError, match=f"{kind}: "):
            content(Dripping(PACKS[kind](b"a" * 1000) + rest, most))


@pytest.mark.parametrize("kind", PACKED)
def test_what_breaks_off(kind: str) -> None:
    packed = PACKS[kind](CONTENT)
    for end in (8, len(packed) // 2, len(packed) - 1):
        with pytest.raises(ImageError, match=f"{kind}: ends in the middle"):
            content(io.BytesIO(packed[:end]))


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_damaged(kind: str) -> None:
    """Each has a checksum of its content."""
    packed = bytearray(PACKS[kind](CONTENT))
    packed[len(packed) // 2] ^= 0x55
    with pytest.raises(ImageError, match=f"{kind}: "):
        content(io.BytesIO(bytes(packed)))


@pytest.mark.parametrize("kind", PACKED)
def test_memory_does_not_depend_on_the_content(kind: str) -> None:
    """A few bytes that stand for very many."""
    packed = PACKS[kind](bytes(24 << 20))
    reader, _ = compression.opened(io.BytesIO(packed))
    tracemalloc.start()
    try:
        total = 0
        while chunk := reader.read(1 << 20):
            total += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 24 << 20
    assert peak < 20 << 20  # xz remembers 8 MB


def test_what_would_take_too_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20, "mode": lzma.MODE_FAST,
                "mf": lzma.MF_HC3, "depth": 1, "nice_len": 10}]  # fmt: skip
    header = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)
    packed = header.compress(b"x") + header.flush()
    with pytest.raises(ImageError, match="xz: damaged: "):
        content(io.BytesIO(packed))
    # A zstd frame whose header wants a window of 1 GB.
    with pytest.raises(ImageError, match="zstd: "):
        content(io.BytesIO(b"\x28\xb5\x2f\xfd\x00\xa0" + bytes(20)))


@settings(max_examples=30)
@given(
    st.lists(st.binary(max_size=3000), max_size=3),
    st.sampled_from([True, False]),
    st.sampled_from([True, False]),
    st.integers(0, 20_000),
    st.integers(1, 5000),
)
def test_zstd_frames_end_where_they_do(
    parts: list[bytes], checksum: bool, sized: bool, cut: int, most: int
) -> None:
    """Cut off anywhere but between two frames, it ends in the middle."""
    packer = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=sized)
    skipped = b"\x53\x2a\x4d\x18\x04\0\0\0skip"
    frames = [packer.compress(b"first"), *(packer.compress(part) for part in parts), skipped]
    packed = b"".join(frames)
    borders = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    cut = 4 + cut % (len(packed) - 3)
    if cut in borders:
        found = content(Dripping(packed[:cut], most))
        assert found == b"".join([b"first", *parts])[: len(found)]
        return
    with pytest.raises(ImageError, match="zstd: ends in the middle"):
        content(Dripping(packed[:cut], most))


@given(st.sampled_from(PACKED), st.binary(max_size=200), st.data())
def test_no_bytes_are_met_with_another_error(kind: str, tail: bytes, data: st.DataObject) -> None:
    whole = PACKS[kind](b"some content" * 20)
    head = whole[: data.draw(st.integers(6, len(whole)))]
    try:
        content(Dripping(head + tail, 50))
    except ImageError as err:
        assert err.message.startswith(kind)
