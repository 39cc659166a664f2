"""How registries are reached: what the user configures, as plain values.

Apart from ``registry`` so that settings can be made without importing the HTTP library.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pycontain.image.credentials import Credential, nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIRRORS_OF_ALL = "*"
"""The key of those mirrors that are tried for every registry."""


def is_loopback(host: str) -> bool:
    """Tell whether `host` (without port or brackets) is this machine: 127.0.0.0/8, ::1, localhost.

    Names are not looked up, so what DNS says does not matter.
    """
    import ipaddress

    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Proxies(msgspec.Struct, frozen=True, kw_only=True):
    """Which proxy a server is reached by.

    Attributes:
        http, https: URL of the proxy for plain HTTP and for TLS (by CONNECT), "" for none. User and
            password in it are sent to the proxy only.
        no_proxy: servers that are reached directly, as in NO_PROXY: ``*``, a name (with all names
            below it), ``.name`` (only those below), an address, a network such as 10.0.0.0/8; each
            but a network may end in ``:port``.
    """

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Proxies:
        """Return what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say; small letters count first."""
        environment = os.environ if environment is None else environment

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.upper(), "")

        none = [word.strip() for word in value("no_proxy").split(",")]
        return cls(
            http=_with_scheme(value("http_proxy")),
            https=_with_scheme(value("https_proxy")),
            no_proxy=tuple(word for word in none if word),
        )

    def choose(self, scheme: str, host: str, port: int) -> str:
        """Return the URL of the proxy for a server, "" for none.

        This machine's own addresses are never asked for by a proxy: they would be the proxy's.
        """
        proxy = self.https if scheme == "https" else self.http
        if not proxy or is_loopback(host):
            return ""
        host = host.lower().rstrip(".")
        return "" if any(_excepted(word, host, port) for word in self.no_proxy) else proxy


def _with_scheme(proxy: str) -> str:
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _excepted(word: str, host: str, port: int) -> bool:
    word = word.lower()
    if word == "*":
        return True
    if "/" in word:
        return _in_network(host, word)
    name, colon, number = word.rpartition(":")
    if colon and number.isdecimal() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        word = name
    word = word.strip("[]").removeprefix("*")
    if word.startswith("."):
        return host.endswith(word)
    return host == word or host.endswith(f".{word}")


def _in_network(host: str, network: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False  # a name is in no network; what is no network holds nothing


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How registries are reached.

    Attributes:
        credentials: from a registry's domain and a repository to what to log in with, or None; is
            called where a registry asks for it, from any thread. Usually
            ``credentials.Keychain().find``.
        mirrors: domain of a registry, or ``*``, to base URLs that are read from before it:
            ``https://mirror.lan:5000``, or ``https://mirror.lan/prefix`` where repositories are
            below a prefix. Pushes never go there. ``http://`` is as good as listing as insecure.
        insecure: servers, as ``host`` or ``host:port``, that may speak plain HTTP or show any
            certificate. Plain HTTP of this machine's own addresses needs no listing.
        ca_files: authorities (PEM) that are trusted beside the system's, for every server.
        certificate_folders: folders in which a folder called as a server (``host:port``) has its
            authorities ``*.crt``, and ``NAME.cert`` with ``NAME.key`` to show to it.
        proxies: see there.
        connect_timeout, read_timeout: seconds until a connection or the next bytes must come.
        retries: how often a request that failed in passing is repeated.
        backoff: seconds before the first repetition; doubled each time, and varied at random.
        patience: longest wait in seconds that a server may ask for (Retry-After).
        upload_chunk: bytes of one piece where blobs are sent in pieces, which can be resumed;
            0 sends every blob in one request.
        chunked_above: blobs of more bytes than this are sent in pieces.
        user_agent: what to call ourselves.
    """

    credentials: Callable[[str, str], Credential | None] = nobody
    mirrors: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    insecure: frozenset[str] = frozenset()
    ca_files: tuple[str, ...] = ()
    certificate_folders: tuple[str, ...] = ("/etc/docker/certs.d", "/etc/containers/certs.d")
    proxies: Proxies = msgspec.field(default_factory=Proxies.from_environment)
    connect_timeout: float = 30.0
    read_timeout: float = 60.0
    retries: int = 5
    backoff: float = 0.5
    patience: float = 60.0
    upload_chunk: int = 64 * 1024 * 1024
    chunked_above: int = 512 * 1024 * 1024
    user_agent: str = "pycontain"
