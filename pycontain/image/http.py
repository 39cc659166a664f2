"""Requests over HTTP for the registry client: connections, TLS, proxies and redirects, by urllib3.

Owns which server is believed (certificates), by which way it is reached (proxies), where a request
may lead (redirects), and what an answer may cost (bounds). Knows nothing of registries. All of it
may be used by several threads at once.

A request carries its private headers to the origin of its URL only (RFC 6454: scheme, host, port):
whoever that origin redirects to does not get them. TLS is never left for plain HTTP.
"""

from __future__ import annotations

import errno
import os
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pycontain.errors import Cancelled, RegistryError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pycontain.image.settings import Settings

    Body = bytes | Callable[[], Iterable[bytes]]

CHUNK = 512 * 1024
"""Bytes of content that are handed on at once."""

MAX_REDIRECTS = 5

Origin = tuple[str, str, int]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_PARALLEL = 8
_MAX_DRAINED = 64 * 1024
# What OpenSSL says when the other end's first bytes are no TLS record.
_PLAIN = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
)


class ConnectionFailed(RegistryError):
    """There was no answer, or not all of it.

    Attributes:
        lasting: asking again is of no use.
        plain: the server does not speak TLS.
    """

    def __init__(
        self, reason: str, hint: str | None = None, *, lasting: bool = False, plain: bool = False
    ) -> None:
        super().__init__(reason, hint)
        self.lasting = lasting
        self.plain = plain


def origin(url: str) -> Origin:
    """Return scheme, host and port of an absolute URL; the scheme's port where it names none.

    Raises:
        RegistryError: it is no URL that may be asked for: not http or https, without a host, with
            a user's name in it, with blanks or control characters.
    """
    if not url.isprintable() or " " in url:
        raise RegistryError(f"url {url!r}: blanks and control characters are not allowed")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as err:
        raise RegistryError(f"url {url!r}: {err}") from err
    if parts.scheme not in _PORTS or not host:
        raise RegistryError(f"url {url!r}: not http:// or https:// with a host")
    if "@" in parts.netloc:
        raise RegistryError(f"url of {host}: names a user")
    return parts.scheme, host, port if port is not None else _PORTS[parts.scheme]


def follow(url: str, location: str) -> str:
    """Return the absolute URL of a ``Location`` (or ``Link``) that came in answer to `url`.

    A registry behind a proxy that ends TLS may name itself by http://: that is mended to https://.

    Raises:
        RegistryError: there is none, it is no URL, or it leaves TLS for plain HTTP.
    """
    if not location:
        raise RegistryError("the answer names no location")
    try:
        target = urljoin(url, location)
    except ValueError as err:
        raise RegistryError(f"location {location!r}: {err}") from err
    source, new = urlsplit(url), urlsplit(target)
    if source.scheme == "https" and new.scheme == "http":
        if new.netloc.lower() != source.netloc.lower():
            raise RegistryError(f"location {_brief(target)}: https may not lead to plain http")
        target = f"https{target[4:]}"
    origin(target)
    return target


def _brief(url: str) -> str:
    """A URL without its query: that of a signed one is as good as a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


class Answer:
    """The answer to one request; to be read to its end or closed.

    Attributes:
        status: HTTP status.
        url: which URL answered, redirects followed.
        reason: the status in the server's words.
    """

    def __init__(
        self,
        client: Client,
        response: urllib3.BaseHTTPResponse,
        url: str,
        opened: Callable[[Answer, bool], None],
    ) -> None:
        self._client = client
        self._response = response
        self._opened = opened
        self.url = url
        self.status = response.status
        self.reason = response.reason or ""

    def header(self, name: str) -> str:
        """Return the value of a header, "" when there is none."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """Return the values of all headers of that name."""
        return list(self._response.headers.getlist(name))

    @property
    def length(self) -> int | None:
        """How many bytes the body has, None when the server does not say."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdecimal() else None

    def read(self, limit: int) -> bytes:
        """Return the body, and give the connection back.

        Raises:
            RegistryError: it is longer than `limit` bytes.
            ConnectionFailed: it ended early.
        """
        try:
            data = self._read(limit + 1)
            if len(data) > limit:
                raise RegistryError(f"the answer is longer than {limit} bytes", status=self.status)
            # Only a read that finds the end gives the connection back to its pool.
            self._read(1)
        finally:
            self.close()
        return data

    def drain(self) -> None:
        """Read and forget a short body, so that the connection can be used again."""
        try:
            self.read(_MAX_DRAINED)
        except RegistryError:
            return  # longer or broken: the connection is closed, and that is all

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces of at most ``CHUNK`` bytes, and give the connection back.

        Raises:
            ConnectionFailed: it ended early.
            Cancelled: the client was closed meanwhile.
        """
        try:
            while data := self._read(CHUNK):
                yield data
        finally:
            self.close()

    def _read(self, amount: int) -> bytes:
        try:
            data = self._response.read(amount, decode_content=False)
        except (exceptions.HTTPError, OSError, ValueError) as err:
            self._client.check()
            raise _explain(err, self.url) from err
        # A connection that close() has shut down reads as ended.
        self._client.check()
        return data or b""

    def close(self) -> None:
        """Let go of the connection: to the pool when the body was read, else for good."""
        self._opened(self, False)
        if self._response.closed:
            self._response.release_conn()
        else:
            self._response.close()

    def interrupt(self) -> None:
        """Have whoever reads it find the end; from any thread."""
        try:
            self._response.shutdown()
        except (RuntimeError, ValueError, OSError):
            return  # it has been read, or closed, in this moment

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _QuietConnection(HTTPSConnection):
    """A connection to a server whose certificate is not looked at because the user said so.

    urllib3 would warn at every request, in the process of whoever calls the library.
    """

    def connect(self) -> None:
        super().connect()
        self.is_verified = True


class _QuietPool(HTTPSConnectionPool):
    ConnectionCls = _QuietConnection


class _Trust:
    """How the certificate of one server is looked at: the key of a TLS context."""

    __slots__ = ("authorities", "identity", "insecure", "key")

    def __init__(
        self,
        insecure: bool,
        authorities: tuple[str, ...] = (),
        identity: tuple[str, str] | None = None,
    ) -> None:
        self.insecure = insecure
        self.authorities = authorities
        self.identity = identity
        self.key = (insecure, authorities, identity)


class Client:
    """Sends requests as `settings` say; from several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._managers: dict[object, urllib3.PoolManager] = {}
        self._servers: dict[object, urllib3.PoolManager] = {}
        self._answers: set[Answer] = set()
        self._closed = threading.Event()
        self._timeout = urllib3.Timeout(
            connect=settings.connect_timeout, read=settings.read_timeout
        )

    def close(self) -> None:
        """End all requests: whoever waits for one of them gets ``Cancelled``. From any thread."""
        self._closed.set()
        with self._lock:
            answers = list(self._answers)
            managers = list(self._managers.values())
        for answer in answers:
            answer.interrupt()
        for manager in managers:
            # clear() alone leaves it to the garbage collector, and errors hold on to their pool.
            for key in manager.pools.keys():  # noqa: SIM118 - it has no iterator
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
            manager.clear()

    def check(self) -> None:
        """Raise ``Cancelled`` when the client is closed."""
        if self._closed.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Cancelled: the client was closed meanwhile.
        """
        self._closed.wait(seconds)
        self.check()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        trusting: bool = False,
    ) -> Answer:
        """Send one request, and return what answers: a redirect is an answer.

        Args:
            method: ``GET`` …
            url: absolute.
            headers: ``Content-Length`` among them where `body` is a function.
            body: the bytes, or what makes an iterable of them.
            trusting: do not look at the server's certificate.

        Raises:
            ConnectionFailed: there was no answer.
            Cancelled: the client is closed.
            StoreError: a certificate or key cannot be read.
        """
        self.check()
        manager = self._manager(url, trusting)
        content: Any = body() if callable(body) else body
        if method in ("POST", "PUT", "PATCH") and content is None:
            content = b""
        try:
            response = manager.request(
                method,
                url,
                body=content,
                headers={"User-Agent": self._settings.user_agent, **headers},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=self._timeout,
            )
        except (exceptions.HTTPError, OSError, ValueError) as err:
            self.check()
            raise _explain(err, url) from err
        answer = Answer(self, response, url, self._note)
        self._note(answer, True)
        if self._closed.is_set():
            answer.close()
            raise Cancelled
        return answer

    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], private: Mapping[str, str]
    ) -> Answer:
        """Send a GET or HEAD, and follow redirects.

        Args:
            method: as ``send`` has it; so the next two.
            url: absolute.
            headers: for all servers.
            private: headers for the origin of `url` alone. A redirect to another one loses them
                for good, even where it leads back.

        Raises:
            RegistryError: too many redirects, or one that may not be followed.
            ConnectionFailed: there was no answer.
        """
        first = origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self.send(method, url, {**headers, **private})
            if answer.status not in _REDIRECTS:
                return answer
            answer.drain()
            url = follow(url, answer.header("Location"))
            if origin(url) != first:
                private = {}
        raise RegistryError(f"more than {MAX_REDIRECTS} redirects, the last to {_brief(url)}")

    def _note(self, answer: Answer, opened: bool) -> None:
        with self._lock:
            if opened:
                self._answers.add(answer)
            else:
                self._answers.discard(answer)

    def _manager(self, url: str, trusting: bool) -> urllib3.PoolManager:
        server = (*origin(url), trusting)
        with self._lock:
            manager = self._servers.get(server)
            if manager is None:
                manager = self._servers[server] = self._find(*server)
            return manager

    def _find(self, scheme: str, host: str, port: int, trusting: bool) -> urllib3.PoolManager:
        """The manager that this server shares with those reached and trusted in the same way."""
        proxy = self._settings.proxies.choose(scheme, host, port)
        trust = self._trust(host, port, trusting) if scheme == "https" else None
        key = (proxy, trust.key if trust else None)
        if key not in self._managers:
            context = _context(trust, self._settings.ca_files) if trust else None
            self._managers[key] = self._make(proxy, context)
        return self._managers[key]

    def _trust(self, host: str, port: int, trusting: bool) -> _Trust:
        names = host_names(host, port)
        authorities, identity = _certificates(self._settings.certificate_folders, names)
        insecure = trusting or not names.isdisjoint(self._settings.insecure)
        return _Trust(insecure, () if insecure else authorities, identity)

    def _make(self, proxy: str, context: ssl.SSLContext | None) -> urllib3.PoolManager:
        common: dict[str, Any] = {"maxsize": _PARALLEL, "blocksize": CHUNK, "ssl_context": context}
        if proxy:
            manager: urllib3.PoolManager = _proxy_manager(proxy, self._settings.ca_files, common)
        else:
            manager = urllib3.PoolManager(**common)
        if context is not None and context.verify_mode == ssl.CERT_NONE:
            manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _QuietPool}
        return manager


def _proxy_manager(
    proxy: str, ca_files: tuple[str, ...], common: dict[str, Any]
) -> urllib3.ProxyManager:
    parts = urlsplit(proxy)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise RegistryError(
            f"proxy {_brief(proxy)}: not http:// or https:// with a host",
            "HTTP_PROXY and HTTPS_PROXY of the environment, or the settings, name the proxy",
        )
    headers: dict[str, str] = {}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=secret)
    if parts.scheme == "https":
        common["proxy_ssl_context"] = _context(_Trust(insecure=False), ca_files)
    # Without the password: urllib3 names this URL in its errors.
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(bare, proxy_headers=headers, **common)


def host_names(host: str, port: int) -> set[str]:
    """Return how settings may call a server: ``host``, ``host:port``; IPv6 in brackets."""
    name = f"[{host}]" if ":" in host else host
    return {name, f"{name}:{port}"}


def _certificates(
    folders: tuple[str, ...], names: set[str]
) -> tuple[tuple[str, ...], tuple[str, str] | None]:
    """Files of a server's folder: ``*.crt`` authorities; ``NAME.cert`` and ``NAME.key``, ours."""
    authorities: list[str] = []
    identity: tuple[str, str] | None = None
    for folder in (f"{folder}/{name}" for folder in folders for name in sorted(names)):
        for name in _listed(folder):
            path = f"{folder}/{name}"
            if name.endswith(".crt"):
                authorities.append(path)
            elif name.endswith(".cert") and identity is None:
                identity = (path, f"{path.removesuffix('.cert')}.key")
    return tuple(authorities), identity


def _listed(folder: str) -> list[str]:
    if os.path.basename(folder).startswith("."):
        return []  # a host called ".." has no folder
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise StoreError(f"certificates: {folder}: {(err.strerror or '').lower()}") from err


def _context(trust: _Trust, ca_files: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        for path in (*ca_files, *trust.authorities):
            _load(path, context.load_verify_locations)
    if trust.identity:
        certificate, key = trust.identity
        _load(certificate, lambda path: context.load_cert_chain(path, key))
    return context


def _load(path: str, load: Callable[[str], None]) -> None:
    try:
        load(path)
    except ssl.SSLError as err:
        raise StoreError(
            f"certificate: {path}: {err.reason or 'not a certificate in PEM'}"
        ) from err
    except OSError as err:
        raise StoreError(f"certificate: {path}: {(err.strerror or str(err)).lower()}") from err


# Words for what went wrong. urllib3 wraps the error of the system call, sometimes twice.


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was made from, outermost first."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        found = [current.__cause__, current.__context__, *current.args]
        waiting += [other for other in found if isinstance(other, BaseException)]


def _explain(error: BaseException, url: str) -> ConnectionFailed:
    """Return what to tell of an error of urllib3's or of the system."""
    scheme, host, port = origin(url)
    chain = list(_chain(error))
    prefix = "proxy: " if any(isinstance(one, exceptions.ProxyError) for one in chain) else ""
    for one in chain:
        if isinstance(one, ssl.SSLError):
            return _tls_failure(one, host, prefix)
        if isinstance(one, exceptions.NameResolutionError):
            return _no_name(one, host, prefix)
    if any(
        isinstance(one, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError)
        and not isinstance(one, exceptions.NewConnectionError)
        for one in chain
    ):
        return ConnectionFailed(f"{prefix}{host}:{port}: no answer in time")
    for one in chain:
        if isinstance(one, OSError) and one.errno is not None:
            return _system_failure(one, f"{prefix}{host}:{port}", scheme)
    inner = chain[-1]
    text = str(inner) or type(inner).__name__
    # A proxy's refusal, and an end in the middle, have no errno.
    return ConnectionFailed(
        f"{prefix}{host}:{port}: connection broken: {text[:1].lower()}{text[1:300]}",
        plain=scheme == "https" and _closed_at_once(chain),
    )


def _closed_at_once(chain: list[BaseException]) -> bool:
    import http.client

    return any(isinstance(one, http.client.RemoteDisconnected) for one in chain)


def _tls_failure(error: ssl.SSLError, host: str, prefix: str) -> ConnectionFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"{prefix}{host}: certificate: {error.verify_message.lower()}",
            "if this server is to be believed, name the authority of its certificate, or list"
            " the server as insecure",
            lasting=True,
        )
    if isinstance(error, ssl.SSLEOFError):
        return ConnectionFailed(f"{prefix}{host}: tls: the server ended the connection", plain=True)
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if error.reason in _PLAIN:
        return ConnectionFailed(
            f"{prefix}{host}: tls: the server does not speak it ({reason})",
            "a server that speaks plain HTTP must be listed as insecure",
            lasting=True,
            plain=True,
        )
    return ConnectionFailed(f"{prefix}{host}: tls: {reason}", lasting=True)


def _no_name(error: BaseException, host: str, prefix: str) -> ConnectionFailed:
    import socket

    cause = next((one for one in _chain(error) if isinstance(one, socket.gaierror)), None)
    reason = (cause.strerror or "").lower() if cause else "unknown"
    passing = cause is not None and cause.errno == socket.EAI_AGAIN
    return ConnectionFailed(f"{prefix}{host}: name: {reason}", lasting=not passing)


def _system_failure(error: OSError, subject: str, scheme: str) -> ConnectionFailed:
    reason = (error.strerror or str(error)).lower()
    reset = error.errno in (errno.ECONNRESET, errno.EPIPE)
    return ConnectionFailed(f"{subject}: {reason}", plain=scheme == "https" and reset)
