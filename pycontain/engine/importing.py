"""Images made of a tar archive that is no image: one layer, and what it is told to say.

The archive is read once, hashed as it comes and as it is unpacked. One that is compressed in a way
that layers may be stays the bytes that it is; another becomes a gzip file.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from pycontain.engine.commit import GZIP, Layer, Step
from pycontain.errors import ImageError, InvalidInput, NotFound, RegistryError, kernel_error
from pycontain.image import compression, documents, packing
from pycontain.image.documents import Descriptor
from pycontain.model.container import ImageConfig
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from pycontain.config import Config
    from pycontain.engine.commit import Asked, Making
    from pycontain.image.compression import Reader
    from pycontain.image.store import Image

_KEPT = {"gzip": GZIP, "zstd": f"{documents.LAYER}+zstd"}
_URLS = ("http://", "https://")


class Wanted(NamedTuple):
    """What is imported, and as what.

    Attributes:
        source: a path, a URL, or an open binary file.
        platform: ``linux/arm64``; None: this machine's.
        settings: how servers are reached.
    """

    source: str | BinaryIO
    platform: str | None
    settings: Config


def bring(making: Making, wanted: Wanted, asked: Asked) -> Image:
    """Make an image of an archive; see ``Images.import_``."""
    names = asked.names()
    config = asked.applied(ImageConfig())
    platform = None if wanted.platform is None else documents.parse_platform(wanted.platform)
    step = Step("", asked.author, asked.message or f"Imported from {_called(wanted.source)}")
    with making.place() as place:
        try:
            with _opened(wanted) as source:
                layer = _taken(source, f"{place}/layer", making.limits.bytes)
        except OSError as err:
            raise kernel_error("import", _called(wanted.source), err.errno or 0) from err
        return making.add(None, layer, config, step, names=names, platform=platform)


def is_url(text: str) -> bool:
    """Whether a source is asked for over HTTP."""
    return text.startswith(_URLS)


def _called(source: str | BinaryIO) -> str:
    return source if isinstance(source, str) else "-"


@contextlib.contextmanager
def _opened(wanted: Wanted) -> Iterator[Reader]:
    source = wanted.source
    if not isinstance(source, str):
        yield source
    elif is_url(source):
        with _fetched(source, wanted.settings) as answer:
            yield answer
    else:
        try:
            file = open(source, "rb", buffering=0)  # noqa: SIM115 - closed below
        except FileNotFoundError as err:
            raise NotFound(f"import {source}: no such file or directory") from err
        except OSError as err:
            raise kernel_error("import", source, err.errno or 0) from err
        with file:
            yield file


@contextlib.contextmanager
def _fetched(url: str, settings: Config) -> Iterator[Reader]:
    from pycontain.engine import registries
    from pycontain.image.http import Client

    client = Client(registries.settings_of(settings))
    try:
        with client.fetch("GET", url, {"Accept-Encoding": "identity"}, {}) as answer:
            if answer.status != 200:
                raise RegistryError(
                    f"import {url}: the server answers {answer.status} {answer.reason}".rstrip(),
                    status=answer.status,
                )
            yield _Chunks(answer.chunks())
    finally:
        client.close()


class _Chunks:
    """A reader over pieces of any size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk


class _Keeping:
    """A reader that keeps what it reads: in memory until it is known where.

    At most `limit` bytes: much that is compressed may come to nothing when it is unpacked.
    """

    def __init__(self, source: Reader, limit: int) -> None:
        self._source = source
        self._limit = self._left = limit
        self._begun = b""
        self._keep: Callable[[bytes], object] | None = None

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise _too_large(self._limit)
        if self._keep is None:
            self._begun += chunk
        else:
            self._keep(chunk)
        return chunk

    def to(self, keep: Callable[[bytes], object]) -> None:
        """Hand on what was read, and what will be."""
        keep(self._begun)
        self._keep, self._begun = keep, b""


def _taken(source: Reader, path: str, limit: int) -> Layer:
    """Write an archive to the new file `path`, as a layer.

    Raises:
        ImageError: it is damaged, or more than `limit` bytes.
        StoreError: the file cannot be written.
    """
    raw = _Keeping(source, limit)
    content, kind = compression.opened(raw)
    plain = hashlib.sha256()
    with _created(path) as file:
        output = packing.Output(file, gzip=kind not in _KEPT)
        raw.to(output.write if kind in _KEPT else _forget)
        for chunk in _bounded(content, limit):
            plain.update(chunk)
            if kind not in _KEPT:
                output.write(chunk)
        output.finish()
    descriptor = Descriptor(
        media_type=_KEPT.get(kind, GZIP), digest=output.digest, size=output.size
    )
    return Layer(path, descriptor, f"sha256:{plain.hexdigest()}")


def _created(path: str) -> BinaryIO:
    try:
        return open(path, "xb", buffering=0)
    except OSError as err:
        raise files.store_error("write", path, err) from err


def _bounded(content: Reader, limit: int) -> Iterator[bytes]:
    size = 0
    while chunk := content.read(compression.CHUNK):
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk
    if not size:
        raise InvalidInput("import: the archive is empty")


def _too_large(limit: int) -> ImageError:
    hint = "layer_max_size says how many a layer may have"
    return ImageError(f"import: more than {limit} bytes", hint)


def _forget(chunk: bytes) -> None:
    """What is compressed in another way is kept as it is unpacked."""
