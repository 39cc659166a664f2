"""Reading a blob, with as many connections as it takes.

Source: OCI distribution specification, "Pulling blobs"; RFC 9110, section 14 (Range).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pycontain.errors import RegistryError
from pycontain.image.http import ConnectionFailed
from pycontain.image.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.image.endpoint import Endpoint
    from pycontain.image.http import Answer

    # Opens the blob at an offset, at the first server that has it.
    Open = Callable[[int], "Part"]
    # Tells an error in the words of the request: which image, which blob.
    Named = Callable[[RegistryError], RegistryError]

PROGRESS = 1024 * 1024
"""After so many bytes of a connection an earlier failure does not count any more."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class Part:
    """The answer of one server to the request for a blob from an offset on.

    Attributes:
        endpoint: which server.
        answer: its body follows.
        skip: how many bytes of that come before the offset.
        total: size of the whole blob, None where the server does not say.
    """

    __slots__ = ("answer", "endpoint", "skip", "total")

    def __init__(self, endpoint: Endpoint, answer: Answer, skip: int, total: int | None) -> None:
        self.endpoint = endpoint
        self.answer = answer
        self.skip = skip
        self.total = total


def ask(endpoint: Endpoint, repository: str, digest: str, offset: int) -> Part:
    """Ask one server for a blob, from `offset` on.

    Raises:
        RegistryError: it refused, or answered something else.
        ConnectionFailed: it did not answer.
    """
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    scopes = frozenset({f"repository:{endpoint.name(repository)}:pull"})
    url = endpoint.url(repository, f"blobs/{digest}")
    answer = endpoint.call("GET", url, endpoint.authorizer(repository), scopes, headers)
    if answer.status not in (200, 206):
        raise refusal(answer)
    try:
        return _part(endpoint, answer, offset)
    except RegistryError:
        answer.close()
        raise


def _part(endpoint: Endpoint, answer: Answer, offset: int) -> Part:
    encoding = answer.header("Content-Encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise RegistryError(f"the answer is encoded ({encoding[:40]!r}), which was not asked for")
    if answer.status == 200:
        # It does not know ranges, and begins at the beginning.
        return Part(endpoint, answer, offset, answer.length)
    match = _CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
    if not match or int(match[1]) != offset:
        raise RegistryError(f"the answer is not the part from byte {offset} on")
    return Part(endpoint, answer, 0, None if match[3] == "*" else int(match[3]))


class Download:
    """The bytes of a blob, in pieces; goes on where it was, by a new connection, when one breaks.

    ::

        with registry.blob(repository, digest) as blob:
            for data in blob: ...

    The digest is not verified here: whoever keeps the bytes does that. An end comes only where the
    server's own size, if it told one, is reached.

    Attributes:
        size: of the whole blob, as the server says; None where it does not.
        offset: of the next byte.
    """

    def __init__(self, opener: Open, offset: int, named: Named) -> None:
        self._open = opener
        self._named = named
        self.offset = offset
        self._part = opener(offset)
        self.size = self._part.total

    def __iter__(self) -> Iterator[bytes]:
        """Yield what follows.

        Raises:
            RegistryError: it cannot be read to its end.
            Cancelled: the registry was closed meanwhile.
        """
        failures = 0
        while True:
            begun = self.offset
            try:
                yield from self._rest()
            except ConnectionFailed as err:
                failures = 1 if self.offset - begun >= PROGRESS else failures + 1
                self._resume(err, failures)
            else:
                return

    def _rest(self) -> Iterator[bytes]:
        part = self._part
        for chunk in part.answer.chunks():
            data = chunk
            if part.skip:
                data = chunk[part.skip :]
                part.skip -= len(chunk) - len(data)
            if data:
                self.offset += len(data)
                yield data
        if self.size is not None and self.offset < self.size:
            raise ConnectionFailed(f"ended after {self.offset} of {self.size} bytes")

    def _resume(self, error: ConnectionFailed, failures: int) -> None:
        try:
            self._part.endpoint.pause(error, failures)
        except RegistryError as err:
            raise self._named(err) from err
        self._part = self._open(self.offset)
        if self.size is None:
            self.size = self._part.total
        elif self._part.total not in (None, self.size):
            self.close()
            sizes = f"{self.size} and then {self._part.total} bytes"
            raise self._named(RegistryError(f"the registry says that it has {sizes}"))

    def close(self) -> None:
        """Let go of the connection."""
        self._part.answer.close()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
