"""How a registry is logged in to: challenges, and the tokens that answer them.

A registry refuses with status 401 and says in WWW-Authenticate what it wants (RFC 9110, section
11.6.1): ``Basic``, the credentials themselves, or ``Bearer``, a token that some service (the
challenge's ``realm``) gives for them, and for certain repositories and actions (``scope``).

Whom the credentials go to:

- the registry's own origin, and the token service that this origin names, nobody else. The caller
  hands in challenges of that origin only: none of a server that the registry redirected to;
- never by plain HTTP, unless the server is this machine or was listed as insecure: a token service
  as well as a registry. What a token service redirects to gets nothing.

Source: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from pycontain.errors import RegistryError
from pycontain.image.http import host_names, origin
from pycontain.image.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycontain.image.credentials import Credential
    from pycontain.image.http import Answer, Client

CLIENT_ID = "pycontain"
MAX_TOKEN_ANSWER = 1024 * 1024

Scopes = frozenset[str]

# The specification's least life of a token, and what is kept back for the way.
_LEAST_SECONDS = 60.0
_MARGIN = 5.0

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|{_TOKEN})[ \t]*(?:,|$)')
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|$)[ \t]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?:,|$)")
_BLANK = re.compile(r"[ \t,]*")


class Challenge(msgspec.Struct, frozen=True):
    """One way to log in that a server offers: the scheme in small letters, and its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(lines: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all WWW-Authenticate headers, in order.

    What cannot be understood ends the line it is in; challenges before it count.
    """
    return [challenge for line in lines for challenge in _challenges(line)]


def _challenges(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = _skip(line, 0)
    while position < len(line):
        # A parameter belongs to the challenge before it; a scheme has no "=".
        match = _PARAMETER.match(line, position) if found else None
        if match:
            found[-1].parameters.setdefault(match[1].lower(), _unquote(match[2]))
        else:
            match = _SCHEME.match(line, position)
            if not match:
                break
            found.append(Challenge(match[1].lower(), {}))
            if not _PARAMETER.match(line, match.end()):
                match = _TOKEN68.match(line, match.end()) or match
        position = _skip(line, match.end())
    return found


def _skip(line: str, position: int) -> int:
    match = _BLANK.match(line, position)
    return match.end() if match else position


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


class _TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | None = None


class Authorizer:
    """What to say in the Authorization header to one registry; from several threads at once.

    Args:
        client: what requests are sent by.
        base: URL of the registry, ``https://host:port``.
        credential: what to log in with, called when it is asked for.
        insecure: servers that may be spoken to by plain HTTP.
        login: ask for a token that stands in for the password from now on.

    Attributes:
        identity_token: that token, "" when none was given.
    """

    def __init__(
        self,
        client: Client,
        base: str,
        credential: Callable[[], Credential | None],
        insecure: frozenset[str],
        *,
        login: bool = False,
    ) -> None:
        self._client = client
        self._base = base
        self._credential = credential
        self._insecure = insecure
        self._login = login
        self._lock = threading.Lock()
        self._tokens: dict[Scopes, tuple[str, float]] = {}
        self._basic = ""
        self.identity_token = ""

    def known(self, scopes: Scopes) -> str:
        """Return the header's value for `scopes` as far as it is known without asking, or ""."""
        header, until = self._tokens.get(scopes, ("", 0.0))
        return header if header and time.monotonic() < until else self._basic

    def renew(self, challenges: list[Challenge], scopes: Scopes, refused: str) -> str:
        """Return a value for `scopes` that answers `challenges`.

        Args:
            challenges: of the registry's own origin.
            scopes: ``repository:NAME:pull`` …
            refused: what was sent and refused, or "". Where another thread has got a new one
                meanwhile, that is returned.

        Returns:
            the header's value, "" where there is no other answer than the refused one.

        Raises:
            RegistryError: the token service refused, or may not be asked.
            StoreError: the file of credentials is damaged.
        """
        with self._lock:
            known = self.known(scopes)
            if known and known != refused:
                return known
            for challenge in challenges:
                if challenge.scheme == "bearer":
                    return self._bearer(challenge, scopes)
            if any(challenge.scheme == "basic" for challenge in challenges):
                credential = self._credential()
                if credential and credential.username and not credential.identity_token:
                    self._basic = credential.basic()
                    return "" if self._basic == refused else self._basic
        return ""

    def _bearer(self, challenge: Challenge, scopes: Scopes) -> str:
        credential = self._credential()
        if credential and credential.registry_token:
            header, seconds = _header(credential.registry_token), _LEAST_SECONDS
        else:
            wanted = scopes.union(challenge.parameters.get("scope", "").split())
            answer = self._token(challenge, sorted(wanted), credential)
            header = _header(answer.token or answer.access_token or "")
            seconds = max(answer.expires_in or 0.0, _LEAST_SECONDS)
            self.identity_token = answer.refresh_token or ""
        self._tokens[scopes] = (header, time.monotonic() + seconds - _MARGIN)
        return header

    def _token(
        self, challenge: Challenge, scopes: list[str], credential: Credential | None
    ) -> _TokenAnswer:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        service = challenge.parameters.get("service", "")
        if credential and credential.identity_token:
            answer = self._post(realm, service, scopes, credential)
        else:
            answer = self._get(realm, service, scopes, credential)
        with answer:
            if answer.status != 200:
                raise _refused(answer, credential is not None)
            data = answer.read(MAX_TOKEN_ANSWER)
        try:
            return msgspec.json.decode(data, type=_TokenAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise RegistryError(f"token: {_host(realm)}: the answer is not a token's") from err

    def _check_realm(self, realm: str) -> None:
        scheme, host, port = origin(realm)
        if scheme == "https":
            return
        own_scheme, own, _ = origin(self._base)
        # What does not leave this machine needs no TLS.
        if is_loopback(host) and is_loopback(own):
            return
        if own_scheme == "https":
            raise RegistryError(f"token: {host}: a registry of https names plain http for tokens")
        if host != own and self._insecure.isdisjoint(host_names(host, port)):
            raise RegistryError(
                f"token: {host}: plain http",
                "a server that speaks plain HTTP must be listed as insecure",
            )

    def _get(
        self, realm: str, service: str, scopes: list[str], credential: Credential | None
    ) -> Answer:
        fields = [("service", service)] if service else []
        fields += [("scope", scope) for scope in scopes]
        headers: dict[str, str] = {}
        if credential and credential.username:
            headers["Authorization"] = credential.basic()
            fields.append(("account", credential.username))
        if self._login:
            fields += [("client_id", CLIENT_ID), ("offline_token", "true")]
        joint = "&" if urlsplit(realm).query else "?"
        # send() does not follow redirects: what a token service redirects to is another's.
        return self._client.send("GET", f"{realm}{joint}{urlencode(fields)}", headers)

    def _post(self, realm: str, service: str, scopes: list[str], credential: Credential) -> Answer:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credential.identity_token,
            "service": service,
            "scope": " ".join(scopes),
            "client_id": CLIENT_ID,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._client.send("POST", realm, headers, urlencode(form).encode())


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _header(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryError("token: the service's answer has no token, or none that can be sent")
    return f"Bearer {token}"


def _refused(answer: Answer, known: bool) -> RegistryError:
    from pycontain.image.refusal import refusal

    error = refusal(answer)
    text = f"token: {_host(answer.url)}: {error.message}"
    if answer.status in (400, 401, 403) and known:
        text += ": the credentials were refused"
    return type(error)(text, status=error.status, code=error.code, wait=error.wait)
