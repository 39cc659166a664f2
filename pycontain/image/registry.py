"""Registries: reading and writing manifests, blobs and tags by the distribution protocol.

::

    registry = Registry("localhost:5000", Settings(credentials=Keychain().find))
    manifest = registry.manifest("team/app", "latest")
    with registry.blob("team/app", "sha256:…") as blob:
        for data in blob: ...

Synchronous, and usable by several threads at once. Of this module, ``http`` has connections,
``endpoint`` one server, ``auth`` and ``credentials`` logging in, ``download`` and ``upload`` blobs.

Errors of registries are ``RegistryError`` with the verb, the object and the step: ``pull
localhost:5000/a:1: manifest: unauthorized: authentication required``. ``InvalidInput`` is what can
be no digest or tag.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

import hashlib
import io
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from pycontain.errors import DigestMismatch, InvalidInput, RegistryError
from pycontain.image import download, reference
from pycontain.image.auth import Authorizer
from pycontain.image.credentials import Credential
from pycontain.image.endpoint import Endpoint
from pycontain.image.http import Client, follow
from pycontain.image.refusal import refusal
from pycontain.image.settings import MIRRORS_OF_ALL, Proxies, Settings
from pycontain.image.upload import Upload, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from pycontain.image.download import Download, Part
    from pycontain.image.http import Answer
    from pycontain.image.upload import Progress

__all__ = ["ACCEPT", "Manifest", "Proxies", "Registry", "Settings", "parse_links"]

ACCEPT = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types of the documents that are asked for unless told otherwise."""

MAX_MANIFEST = 4 * 1024 * 1024
"""The size that registries must accept (distribution specification, "Pushing Manifests")."""

_MAX_TAGS_PAGE = 16 * 1024 * 1024
_MAX_PAGES = 10_000
_TAGS_PER_PAGE = 1000

T = TypeVar("T")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it came.

    Attributes:
        data: its bytes.
        media_type: what the registry calls it, without parameters; "" where it says nothing.
        digest: of `data`; by the algorithm that it was asked for with, else sha256.
    """

    data: bytes
    media_type: str
    digest: str


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference stands for at this moment.

    Attributes:
        digest: of the manifest.
        media_type: as in ``Manifest``.
    """

    digest: str
    media_type: str


class _TagList(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


class Registry:
    """One registry.

    Args:
        domain: as in a reference: ``docker.io``, ``localhost:5000``.
        settings: how registries are reached.

    Raises:
        RegistryError: the URL of a mirror is none.
    """

    def __init__(self, domain: str, settings: Settings) -> None:
        self.domain = domain
        self._settings = settings
        self._client = Client(settings)
        self._own = Endpoint(self._client, settings, domain, retries=settings.retries)
        mirrors = settings.mirrors.get(domain) or settings.mirrors.get(MIRRORS_OF_ALL) or ()
        self._mirrors = [Endpoint.of_mirror(self._client, settings, url) for url in mirrors]
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """End everything that is under way, in whatever thread: it raises ``Cancelled``."""
        self._client.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    def manifest(
        self, repository: str, reference_: str, accept: Iterable[str] = ACCEPT
    ) -> Manifest:
        """Return a manifest or an index.

        Args:
            repository: ``team/app``.
            reference_: a tag or a digest.
            accept: the media types that are wanted.

        Raises:
            RegistryError: it could not be got; ``status`` is 404 where there is none.
            DigestMismatch: it is not what it was asked for by, or not what the registry says it is.
        """
        _check_reference(reference_)
        about = _About(self.domain, "pull", repository, reference_, "manifest")
        headers = {"Accept": ", ".join(accept)}
        return self._read(about, lambda server: _manifest(server, repository, reference_, headers))

    def resolve(self, repository: str, reference_: str, accept: Iterable[str] = ACCEPT) -> Resolved:
        """Return the digest of what a tag stands for, without getting it where the registry can.

        Raises:
            RegistryError, DigestMismatch: as ``manifest``.
        """
        _check_reference(reference_)
        about = _About(self.domain, "pull", repository, reference_, "manifest")
        headers = {"Accept": ", ".join(accept)}
        found = self._read(about, lambda server: _resolve(server, repository, reference_, headers))
        if found:
            return found
        whole = self.manifest(repository, reference_, accept)
        return Resolved(digest=whole.digest, media_type=whole.media_type)

    def blob(self, repository: str, digest: str, start: int = 0) -> Download:
        """Return a blob's bytes from `start` on, an iterator: it goes on where a connection broke.

        The digest is for the caller to verify, over all that was ever read.

        Args:
            repository: ``team/app``.
            digest: of the blob.
            start: how many bytes are here already; fewer than the blob has.

        Raises:
            RegistryError: it could not be got; ``status`` is 404 where there is none.
        """
        _check_digest(digest)
        about = _About(self.domain, "pull", repository, "", f"blob {digest}")

        def opened(offset: int) -> Part:
            return self._read(
                about, lambda server: download.ask(server, repository, digest, offset)
            )

        return download.Download(opened, start, about.named)

    def tags(self, repository: str) -> Iterator[str]:
        """Yield the tags of a repository, in the registry's order; a page at a time is asked for.

        Raises:
            RegistryError: they could not be got; ``status`` is 404 where there is no repository.
        """
        about = _About(self.domain, "tags", repository, "", "list")
        following = f"tags/list?n={_TAGS_PER_PAGE}"
        for _ in range(_MAX_PAGES):
            ask = partial(_tags, self._own, repository, following)
            page, following = about.tell(partial(self._own.repeat, ask))
            yield from page
            if not following:
                return
        raise about.named(RegistryError(f"more than {_MAX_PAGES} pages"))

    def _read(self, about: _About, action: Callable[[Endpoint], T]) -> T:
        """Do it at the first server that can: mirrors, then the registry itself."""
        failed: list[str] = []
        for mirror in self._mirrors:
            try:
                return mirror.repeat(partial(action, mirror))
            except (RegistryError, DigestMismatch) as err:
                failed.append(f"mirror {mirror.domain}: {err.message}")
        return about.tell(lambda: self._own.repeat(partial(action, self._own)), "; ".join(failed))

    # Writing, and what only the registry itself knows

    def has_blob(self, repository: str, digest: str) -> bool:
        """Tell whether a repository has a blob.

        Raises:
            RegistryError: the registry refused to say, or could not be reached.
        """
        _check_digest(digest)
        about = _About(self.domain, "push", repository, "", f"blob {digest}")
        return about.tell(lambda: self._own.repeat(self._upload(repository, digest).exists))

    def mount_blob(self, repository: str, digest: str, from_repository: str) -> bool:
        """Have the registry take a blob over from another of its repositories.

        Returns:
            False where it did not: then ``upload_blob`` goes on with the upload that it has begun.

        Raises:
            RegistryError: the registry refused or could not be reached.
        """
        _check_digest(digest)
        about = _About(self.domain, "push", repository, "", f"blob {digest}")
        upload = self._upload(repository, digest)
        session = about.tell(lambda: self._own.repeat(lambda: upload.mount(from_repository)))
        with self._lock:
            self._sessions.pop((repository, digest), None)
            if session:
                self._sessions[repository, digest] = session
        return not session

    def upload_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        open_file: Callable[[], BinaryIO],
        progress: Progress | None = None,
    ) -> None:
        """Send a blob.

        Args:
            repository: ``team/app``.
            digest: of the blob.
            size: in bytes.
            open_file: opens it at its beginning, to read, and is called again for each attempt;
                what it returns can seek.
            progress: is told how many bytes are sent so far; fewer than before where it begins
                again.

        Raises:
            RegistryError: the registry refused or could not be reached.
            DigestMismatch: it says that it has stored something else.
            StoreError: the file is shorter than `size`.
        """
        _check_digest(digest)
        about = _About(self.domain, "push", repository, "", f"blob {digest}")
        with self._lock:
            session = self._sessions.pop((repository, digest), "")
        upload = Upload(self._own, repository, digest, size, open_file, progress, session)
        about.tell(lambda: upload.run(self._settings))

    def put_manifest(self, repository: str, reference_: str, data: bytes, media_type: str) -> str:
        """Store a manifest or an index under a tag or its digest; what it names must be there.

        Returns:
            its digest.

        Raises:
            RegistryError: the registry refused or could not be reached.
            DigestMismatch: it says that it has stored something else.
        """
        _check_reference(reference_)
        about = _About(self.domain, "push", repository, reference_, "manifest")
        digest = reference_ if ":" in reference_ else _digest("sha256", data)

        def put() -> None:
            _put(self._own, repository, reference_, data, media_type, digest)

        about.tell(lambda: self._own.repeat(put))
        return digest

    def login(self, credential: Credential) -> Credential:
        """Try credentials.

        Returns:
            what to keep: a token in place of the password where the registry's token service gives
            one, else `credential`.

        Raises:
            RegistryError: they were refused, or the registry could not be reached.
        """
        about = _About(self.domain, "login", "", "", "")
        token = about.tell(lambda: self._own.repeat(lambda: self._login(credential)))
        if not token:
            return credential
        return Credential(username=credential.username, identity_token=token)

    def _login(self, credential: Credential) -> str:
        base = self._own.base()
        insecure = self._settings.insecure
        authorizer = Authorizer(self._client, base, lambda: credential, insecure, login=True)
        answer = self._own.call("GET", f"{base}/v2/", authorizer, frozenset())
        if answer.status != 200:
            raise refusal(answer)
        answer.drain()
        return authorizer.identity_token

    def _upload(self, repository: str, digest: str) -> Upload:
        return Upload(self._own, repository, digest, 0, _no_file, None, "")


def _no_file() -> BinaryIO:
    return io.BytesIO()


def _check_digest(text: str) -> None:
    """Refuse what is no digest: it becomes a part of a URL, and may be a hostile image's word."""
    if not reference.is_digest(text):
        raise InvalidInput(f"digest {text[:150]!r}: not sha256:<64 hexadecimal digits>")


def _check_reference(text: str) -> None:
    if not (reference.is_tag(text) or reference.is_digest(text)):
        raise InvalidInput(f"reference {text[:150]!r}: neither a tag nor a digest")


class _About:
    """What an error is about: ``pull localhost:5000/a:1: manifest``."""

    def __init__(self, domain: str, verb: str, repository: str, which: str, step: str) -> None:
        self._domain = domain
        name = reference.Reference(domain=domain, path=repository).name if repository else domain
        if which:
            name += f"@{which}" if ":" in which else f":{which}"
        self._subject = ": ".join(word for word in (f"{verb} {name}", step) if word)
        self._login = verb != "login"

    def tell(self, action: Callable[[], T], more: str = "") -> T:
        """Return what `action` returns; its errors say what they are about.

        Args:
            action: raises ``RegistryError`` or ``DigestMismatch``.
            more: for the hint: what was tried before.
        """
        try:
            return action()
        except RegistryError as err:
            raise self.named(err, more) from err
        except DigestMismatch as err:
            raise DigestMismatch(f"{self._subject}: {err.message}", more or err.hint) from err

    def named(self, err: RegistryError, more: str = "") -> RegistryError:
        hint = err.hint
        if not hint and self._login and err.status in (401, 403):
            hint = f"if there is such a repository, it wants 'pycontain login {self._domain}'"
        hint = "; ".join(text for text in (hint, more) if text) or None
        message = f"{self._subject}: {err.message}"
        return RegistryError(message, hint, status=err.status, code=err.code)


def _digest(algorithm: str, data: bytes) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def _path(kind: str, which: str) -> str:
    return f"{kind}/{quote(which, safe=':')}"


def _ask(
    server: Endpoint, method: str, repository: str, tail: str, headers: dict[str, str]
) -> Answer:
    scopes = frozenset({f"repository:{server.name(repository)}:pull"})
    url = server.url(repository, tail)
    return server.call(method, url, server.authorizer(repository), scopes, headers)


def _media_type(answer: Answer) -> str:
    return answer.header("Content-Type").partition(";")[0].strip().lower()


def _manifest(server: Endpoint, repository: str, which: str, headers: dict[str, str]) -> Manifest:
    answer = _ask(server, "GET", repository, _path("manifests", which), headers)
    if answer.status != 200:
        raise refusal(answer)
    data = answer.read(MAX_MANIFEST)
    # Of the two, what it was asked for by is to be believed (specification, "Digest Header").
    said = which if ":" in which else answer.header("Docker-Content-Digest")
    known = reference.is_digest(said)
    digest = _digest(said.partition(":")[0] if known else "sha256", data)
    if known and digest != said:
        raise DigestMismatch(f"content is {digest} and not {said}")
    if ":" not in which and not digest.startswith("sha256:"):
        digest = _digest("sha256", data)
    return Manifest(data=data, media_type=_media_type(answer), digest=digest)


def _resolve(
    server: Endpoint, repository: str, which: str, headers: dict[str, str]
) -> Resolved | None:
    answer = _ask(server, "HEAD", repository, _path("manifests", which), headers)
    answer.drain()
    digest = answer.header("Docker-Content-Digest")
    # An answer to HEAD has no words for what is wrong: GET has.
    if answer.status != 200 or not reference.is_digest(digest):
        return None
    return Resolved(digest=digest, media_type=_media_type(answer))


def _put(
    server: Endpoint, repository: str, which: str, data: bytes, media_type: str, digest: str
) -> None:
    scopes = frozenset({f"repository:{server.name(repository)}:pull,push"})
    url = server.url(repository, _path("manifests", which))
    headers = {"Content-Type": media_type}
    answer = server.call("PUT", url, server.authorizer(repository), scopes, headers, data)
    if answer.status not in (200, 201):
        raise refusal(answer)
    answer.drain()
    compare(answer, digest)


def _tags(server: Endpoint, repository: str, tail: str) -> tuple[list[str], str]:
    """One page of tags, and the rest of the next one's URL; "" after the last."""
    answer = _ask(server, "GET", repository, tail, {})
    if answer.status != 200:
        raise refusal(answer)
    data = answer.read(_MAX_TAGS_PAGE)
    try:
        tags = msgspec.json.decode(data, type=_TagList).tags or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise RegistryError("the answer is not a list of tags") from err
    bad = next((tag for tag in tags if not reference.is_tag(tag)), None)
    if bad is not None:
        raise RegistryError(f"{bad[:150]!r} is no tag")
    return tags, _next_page(server, repository, answer)


def _next_page(server: Endpoint, repository: str, answer: Answer) -> str:
    target = next((url for url, kind in parse_links(answer.headers("Link")) if kind == "next"), "")
    if not target:
        return ""
    url = follow(answer.url, target)
    start = server.url(repository, "tags/list?")
    if not url.startswith(start):
        raise RegistryError(f"the next page is not of this repository: {url[:200]!r}")
    return url.removeprefix(server.url(repository, ""))


def parse_links(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return target and relation of the links of all Link headers (RFC 8288, section 3)."""
    found: list[tuple[str, str]] = []
    for line in lines:
        rest = line
        while "<" in rest:
            target, end, rest = rest.partition("<")[2].partition(">")
            if not end:
                break
            parameters = rest.partition("<")[0]
            found.append((target.strip(), _relation(parameters)))
    return found


def _relation(parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().rstrip(", ").partition("=")
        if name.strip().lower() == "rel":
            return value.strip().strip('"').lower()
    return ""
