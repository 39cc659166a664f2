"""One server that holds repositories: the registry itself, or a mirror of it.

Owns by which scheme it is spoken to, logging in to it, and repeating what failed in passing. Knows
nothing of what is asked for.

Source: OCI distribution specification, "API".
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pycontain.image.auth import Authorizer, parse_challenges
from pycontain.image.http import ConnectionFailed, host_names, origin
from pycontain.image.reference import DEFAULT_DOMAIN
from pycontain.image.refusal import Refused, refusal
from pycontain.image.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontain.image.auth import Scopes
    from pycontain.image.http import Answer, Body, Client
    from pycontain.image.settings import Settings

HUB_SERVER = "registry-1.docker.io"
"""The server of the registry that references call docker.io."""

_TLS_EXPECTED = 400  # what a server of TLS answers to plain HTTP

T = TypeVar("T")


class Endpoint:
    """One server; from several threads at once.

    Args:
        client: what requests are sent by.
        settings: how registries are reached.
        domain: the server as credentials and references call it, ``host`` or ``host:port``.
        base: URL where it is known, without a path; else the scheme is found out.
        prefix: folder of repositories that all names on it begin with, or "".
        retries: how often what failed in passing is repeated.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        domain: str,
        *,
        base: str = "",
        prefix: str = "",
        retries: int,
    ) -> None:
        self.client = client
        self.domain = domain
        self._settings = settings
        self._prefix = f"{prefix}/" if prefix else ""
        self._retries = retries
        self._lock = threading.Lock()
        self._base = base
        self._answered = False
        self._authorizers: dict[str, Authorizer] = {}

    @classmethod
    def of_mirror(cls, client: Client, settings: Settings, url: str) -> Endpoint:
        """Return the mirror at `url`, which may have a path: the prefix of its repositories.

        Raises:
            RegistryError: it is no URL.
        """
        origin(url)
        parts = urlsplit(url)
        return cls(
            client,
            settings,
            parts.netloc,
            base=f"{parts.scheme}://{parts.netloc}",
            prefix=parts.path.strip("/"),
            retries=min(1, settings.retries),
        )

    def base(self) -> str:
        """Return the URL of the server, ``https://host:port``.

        One that may speak plain HTTP is asked once whether it does, without credentials.

        Raises:
            ConnectionFailed: it does not answer.
        """
        with self._lock:
            if not self._base:
                self._base = self._find_base()
                origin(self._base)
            return self._base

    def _find_base(self) -> str:
        server = HUB_SERVER if self.domain == DEFAULT_DOMAIN else self.domain
        secure = f"https://{server}"
        _, host, port = origin(secure)
        if not is_loopback(host) and self._settings.insecure.isdisjoint(host_names(host, port)):
            return secure
        try:
            self.client.send("GET", f"{secure}/v2/", {}, trusting=True).drain()
        except ConnectionFailed:
            plain = f"http://{server}"
            if not self._is_plain(plain):
                raise
            return plain
        return secure

    def _is_plain(self, plain: str) -> bool:
        try:
            answer = self.client.send("GET", f"{plain}/v2/", {})
        except ConnectionFailed:
            return False  # why https failed is what is told
        answer.drain()
        return answer.status != _TLS_EXPECTED

    def name(self, repository: str) -> str:
        """Return what a repository is called on this server."""
        return f"{self._prefix}{repository}"

    def url(self, repository: str, tail: str) -> str:
        """Return the URL of something in a repository, such as ``manifests/latest``.

        Raises:
            ConnectionFailed: the server's scheme is not known yet, and it does not answer.
        """
        return f"{self.base()}/v2/{self.name(repository)}/{tail}"

    def authorizer(self, repository: str) -> Authorizer:
        """Return who logs in for a repository."""
        base, name = self.base(), self.name(repository)
        with self._lock:
            if repository not in self._authorizers:
                find = self._settings.credentials
                self._authorizers[repository] = Authorizer(
                    self.client, base, lambda: find(self.domain, name), self._settings.insecure
                )
            return self._authorizers[repository]

    def call(
        self,
        method: str,
        url: str,
        authorizer: Authorizer,
        scopes: Scopes,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Answer:
        """Send one request, logged in as far as the server asks for it.

        Args:
            method: GET and HEAD follow redirects.
            url: of another origin (the server may say so for uploads), it goes without login.
            authorizer: who logs in, see ``authorizer``.
            scopes: what for: ``repository:NAME:pull`` …
            headers: as ``Client.send`` has them.
            body: likewise.

        Returns:
            the answer, whatever its status; but no 401 that logging in would change.

        Raises:
            ConnectionFailed: there was no answer.
            RegistryError: logging in failed.
        """
        own = origin(url) == origin(self.base())
        said = authorizer.known(scopes) if own else ""
        answer = self._send(method, url, headers or {}, said, body)
        # A server that was redirected to may not ask for our login.
        if answer.status != 401 or not own or origin(answer.url) != origin(url):
            return answer
        challenges = parse_challenges(answer.headers("WWW-Authenticate"))
        error = refusal(answer)
        renewed = authorizer.renew(challenges, scopes, said)
        if not renewed:
            raise error
        return self._send(method, url, headers or {}, renewed, body)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], said: str, body: Body | None
    ) -> Answer:
        private = {"Authorization": said} if said else {}
        if method in ("GET", "HEAD"):
            answer = self.client.fetch(method, url, headers, private)
        else:
            answer = self.client.send(method, url, {**headers, **private}, body)
        self._answered = True
        return answer

    def repeat(self, action: Callable[[], T]) -> T:
        """Return what `action` returns; where it fails in passing, it is tried again, later.

        Raises:
            RegistryError: its own, the last one.
            Cancelled: the client was closed while waiting.
        """
        failures = 0
        while True:
            try:
                return action()
            except (ConnectionFailed, Refused) as err:
                failures += 1
                self.pause(err, failures)

    def pause(self, error: ConnectionFailed | Refused, failures: int) -> None:
        """Wait before something that has failed `failures` times in a row is tried again.

        Raises:
            ConnectionFailed, Refused: `error`, where trying again is of no use or has been tried
                often enough.
            Cancelled: the client was closed while waiting.
        """
        if failures > self._retries or not self._passes(error):
            raise error
        seconds: float = min(self._settings.backoff * 2 ** (failures - 1), self._settings.patience)
        # At random, so that those who failed together do not come back together.
        seconds *= 0.5 + os.urandom(1)[0] / 512
        if isinstance(error, Refused) and error.wait is not None:
            seconds += error.wait
        self.client.wait(seconds)

    def _passes(self, error: ConnectionFailed | Refused) -> bool:
        if isinstance(error, ConnectionFailed):
            # One that never answered is rather a wrong name than away for a moment.
            return self._answered and not error.lasting
        if error.wait is not None and error.wait > self._settings.patience:
            return False
        return error.passing
