"""Sending a blob to a registry: in one request, or in pieces that can be resumed.

Source: OCI distribution specification, "Pushing blobs".
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from pycontain.errors import DigestMismatch, RegistryError, StoreError
from pycontain.image.http import CHUNK, ConnectionFailed, follow
from pycontain.image.refusal import Refused, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from pycontain.image.endpoint import Endpoint
    from pycontain.image.http import Answer, Body
    from pycontain.image.settings import Settings

    Progress = Callable[[int], None]

_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_NO_PIECES = frozenset({400, 404, 405, 411, 416, 501})
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_OCTETS = "application/octet-stream"


class Upload:
    """One blob on its way to one repository.

    Args:
        endpoint: the registry.
        repository: which the blob is for.
        digest, size: of the blob.
        open_file: opens the blob at its beginning, to read; more than once where it is sent again.
        progress: is told how many bytes were sent; fewer than before where it begins again.
        session: URL of an upload that was begun already, or "".
    """

    def __init__(
        self,
        endpoint: Endpoint,
        repository: str,
        digest: str,
        size: int,
        open_file: Callable[[], BinaryIO],
        progress: Progress | None,
        session: str,
    ) -> None:
        self._endpoint = endpoint
        self._repository = repository
        self._digest = digest
        self._size = size
        self._open = open_file
        self._progress = progress
        self._session = session

    def run(self, settings: Settings) -> None:
        """Send it; again from the beginning where an attempt failed in passing.

        Raises:
            RegistryError: the registry refused or could not be reached.
            DigestMismatch: it has stored something else.
            StoreError: the blob is shorter than `size`.
        """
        pieces = settings.upload_chunk > 0 and settings.chunked_above < self._size
        failures = 0
        while True:
            try:
                if not pieces:
                    self._whole()
                elif not self._in_pieces(settings.upload_chunk):
                    pieces = False
                    continue
            except (ConnectionFailed, Refused) as err:
                failures += 1
                self._settle(err, failures)
                # The answer may have been lost, and not the blob.
                if self._endpoint.repeat(self.exists):
                    return
            else:
                return

    def _settle(self, error: ConnectionFailed | Refused, failures: int) -> None:
        """Wait before another attempt, or raise the error."""
        self._session = ""
        lost = isinstance(error, Refused) and error.code in _LOST
        if lost and failures == 1:
            return  # a registry forgets uploads after a while, or in a restart: begun anew
        self._endpoint.pause(error, failures)

    def exists(self) -> bool:
        """Tell whether the repository has the blob.

        Raises:
            RegistryError: the registry refused to say, or could not be reached.
        """
        url = self._endpoint.url(self._repository, f"blobs/{self._digest}")
        answer = self._call("HEAD", url)
        if answer.status in (200, 404):
            answer.drain()
            return answer.status == 200
        raise refusal(answer)

    def mount(self, source: str) -> str:
        """Have the registry take the blob over from its repository `source`.

        Returns:
            "" when it did; else the URL of an upload that it has begun instead.

        Raises:
            RegistryError: the registry refused or could not be reached.
        """
        query = urlencode({"mount": self._digest, "from": self._endpoint.name(source)})
        scope = f"repository:{self._endpoint.name(source)}:pull"
        answer = self._call("POST", self._uploads(f"?{query}"), more=frozenset({scope}))
        if answer.status == 201:
            answer.drain()
            return ""
        return self._location(answer)

    def _uploads(self, query: str = "") -> str:
        return self._endpoint.url(self._repository, f"blobs/uploads/{query}")

    def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        more: frozenset[str] = frozenset(),
    ) -> Answer:
        scopes = more | {f"repository:{self._endpoint.name(self._repository)}:pull,push"}
        authorizer = self._endpoint.authorizer(self._repository)
        return self._endpoint.call(method, url, authorizer, scopes, headers, body)

    def _location(self, answer: Answer, usual: str = "") -> str:
        """The URL that the upload goes on at."""
        if answer.status not in (202, 204):
            raise refusal(answer)
        answer.drain()
        return follow(answer.url, answer.header("Location") or usual)

    def _begin(self) -> tuple[str, int]:
        """The URL of an upload, and the least size of its pieces."""
        if self._session:
            session, self._session = self._session, ""
            return session, 0
        answer = self._call("POST", self._uploads())
        least = answer.header("OCI-Chunk-Min-Length")
        return self._location(answer), int(least[:18]) if least.isdecimal() else 0

    def _whole(self) -> None:
        location, _ = self._begin()
        self._finish(location, 0, self._size)

    def _finish(self, location: str, start: int, count: int) -> None:
        """End the upload with the bytes that are left."""
        joint = "&" if urlsplit(location).query else "?"
        url = f"{location}{joint}{urlencode({'digest': self._digest})}"
        headers = {"Content-Type": _OCTETS, "Content-Length": str(count)}
        answer = self._call("PUT", url, headers, lambda: self._content(start, count))
        if answer.status not in (201, 204):
            raise refusal(answer)
        answer.drain()
        compare(answer, self._digest)

    def _in_pieces(self, size: int) -> bool:
        """Send it in pieces; False where the registry takes none."""
        location, least = self._begin()
        size = max(size, least)
        offset = failures = 0
        while offset < self._size:
            count = min(size, self._size - offset)
            try:
                location, offset = self._piece(location, offset, count)
                failures = 0
            except (ConnectionFailed, Refused) as err:
                if offset == 0 and isinstance(err, Refused) and err.status in _NO_PIECES:
                    return False
                failures += 1
                self._endpoint.pause(err, failures)
                location, offset = self._endpoint.repeat(partial(self._state, location))
        self._finish(location, offset, 0)
        return True

    def _piece(self, location: str, offset: int, count: int) -> tuple[str, int]:
        headers = {
            "Content-Type": _OCTETS,
            "Content-Length": str(count),
            "Content-Range": f"{offset}-{offset + count - 1}",
        }
        answer = self._call("PATCH", location, headers, lambda: self._content(offset, count))
        following = self._location(answer, location)
        return following, self._arrived(answer, offset + count)

    def _state(self, location: str) -> tuple[str, int]:
        """Where the upload goes on, and with which byte."""
        answer = self._call("GET", location)
        following = self._location(answer, location)
        return following, self._arrived(answer, 0)

    def _arrived(self, answer: Answer, usual: int) -> int:
        match = _RANGE.fullmatch(answer.header("Range").strip())
        if not match:
            return usual
        # Nothing yet is told as 0-0: a range cannot be empty.
        arrived = int(match[1]) + 1 if int(match[1]) else 0
        if arrived > self._size:
            raise RegistryError(f"the registry says that it has {arrived} of {self._size} bytes")
        return arrived

    def _content(self, start: int, count: int) -> Iterator[bytes]:
        with self._open() as file:
            file.seek(start)
            sent = 0
            while sent < count:
                self._endpoint.client.check()
                data = file.read(min(CHUNK, count - sent))
                if not data:
                    at = start + sent
                    raise StoreError(f"read: blob {self._digest}: ended after {at} bytes")
                yield data
                sent += len(data)
                if self._progress:
                    self._progress(start + sent)


def compare(answer: Answer, digest: str) -> None:
    """Compare what a registry says that it has stored with what was sent.

    Raises:
        DigestMismatch: it is something else.
    """
    stored = answer.header("Docker-Content-Digest")
    if stored and stored.partition(":")[0] == digest.partition(":")[0] and stored != digest:
        raise DigestMismatch(f"the registry has stored {stored[:150]!r} for {digest}")
