"""What is read of an archive that somebody else sends."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import pytest
import zstandard

from pycontain.engine import importing
from pycontain.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

SKIPPED = struct.pack("<II", 0x184D2A50, 1 << 16) + bytes(1 << 16)  # RFC 8878, 3.1.2
LIMIT = 1 << 20


class Endless:
    """A source that never ends, and comes to almost nothing when it is unpacked."""

    def __init__(self, begin: bytes, again: bytes) -> None:
        self._waiting = begin
        self._again = again
        self.read_so_far = 0

    def read(self, size: int, /) -> bytes:
        assert self.read_so_far < 16 * LIMIT, "it is read without an end"
        while len(self._waiting) < size:
            self._waiting += self._again
        chunk, self._waiting = self._waiting[:size], self._waiting[size:]
        self.read_so_far += len(chunk)
        return chunk


@pytest.mark.parametrize(
    "source",
    [
        Endless(zstandard.compress(b"x"), SKIPPED),
        Endless(gzip.compress(b"x"), gzip.compress(b"") * 1000),
    ],
    ids=["zstd", "gzip"],
)
def test_what_unpacks_to_nothing_has_an_end(tmp_path: Path, source: Endless) -> None:
    with pytest.raises(ImageError, match=f"more than {LIMIT} bytes"):
        importing._taken(source, f"{tmp_path}/layer", LIMIT)
