"""What users log in to registries with: docker's and podman's files, and credential helpers.

::

    keychain = Keychain()                       # the files that the environment names
    keychain.find("localhost:5000", "team/app") # a Credential, or None
    keychain.store("localhost:5000", Credential(username="me", password="…"))
    keychain.erase("localhost:5000")

Read are, in this order, up to the first that knows the registry: ``$DOCKER_CONFIG/config.json`` (or
``~/.docker/config.json``), ``$XDG_RUNTIME_DIR/containers/auth.json`` and
``~/.config/containers/auth.json``; or ``$REGISTRY_AUTH_FILE`` alone where it is set. The first is
the one written to. Secrets are in no error and no repr.

Sources: docker's documentation of ``docker login`` ("Credential helpers"), containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from pycontain.errors import NotFound, RegistryError, StoreError
from pycontain.image.reference import DEFAULT_DOMAIN
from pycontain.store import files

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

HUB_KEY = "https://index.docker.io/v1/"
"""Under which docker keeps what Docker Hub is logged in with."""

TOKEN_USER = "<token>"  # noqa: S105 - what helpers say in place of a name
"""The user name that a helper gives where the secret is an identity token."""

HELPER_SECONDS = 120.0
"""How long a helper may take: it may ask the user."""

_AUTH_FILE = "/run/containers/{}/auth.json"
_MAX_HELPER_REQUEST = 32 * 1024
_MAX_HELPER_OUTPUT = 64 * 1024
_MAX_FILE = 4 * 1024 * 1024
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What to log in to a registry with.

    Attributes:
        username, password: the usual kind.
        identity_token: in place of the password: what a token service gave at a login (OAuth2's
            refresh token).
        registry_token: the bearer token itself.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credential(username={self.username!r}, …)"

    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def nobody(domain: str, repository: str) -> Credential | None:  # noqa: ARG001
    """Know no credentials: the default of ``Settings.credentials``."""
    return None


class Keychain:
    """Finds, keeps and forgets credentials; from several threads and processes at once.

    Args:
        environment: in place of ``os.environ``.

    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self.paths = list(_paths(self._environment))

    def find(self, domain: str, repository: str = "") -> Credential | None:
        """Return what to log in to the registry `domain` with, None where nothing is known.

        Args:
            domain: as in a reference: ``docker.io``, ``localhost:5000``.
            repository: there may be an entry for it, or for a part of it (``quay.io/team``).

        Raises:
            StoreError: a file is unreadable or damaged.
            RegistryError: a credential helper failed.
        """
        for path in self.paths:
            found = self._find(path, domain, repository)
            if found:
                return found
        return None

    def _find(self, path: str, domain: str, repository: str) -> Credential | None:
        document = _load(path)
        auths = _object(document, "auths", path)
        keys = list(_keys(domain, repository))
        for key in keys:
            helper = _object(document, "credHelpers", path).get(key)
            if isinstance(helper, str) and helper:
                return self._ask(helper, key)
        entry = _entry(auths, keys)
        store = document.get("credsStore")
        if isinstance(store, str) and store:
            # Docker leaves an empty entry as a sign that its helper has something.
            found = self._ask(store, entry[0] if entry else _key(domain))
            if found:
                return found
        return _decode(entry[1], f"{path}: {entry[0]}") if entry else None

    def _ask(self, helper: str, key: str) -> Credential | None:
        answer = _call(helper, "get", key.encode(), self._environment)
        if answer is None:
            return None
        try:
            found = msgspec.json.decode(answer, type=_HelperAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise RegistryError(f"credential helper {helper}: get: answer is not JSON") from err
        if found.username == TOKEN_USER:
            return Credential(identity_token=found.secret)
        if not found.secret:
            return None
        return Credential(username=found.username, password=found.secret)

    def store(self, domain: str, credential: Credential) -> str:
        """Keep what to log in to the registry `domain` with.

        Returns:
            where: the path of the file (mode 0600, whose other fields stay), or the helper's name.

        Raises:
            StoreError: the file cannot be read or written.
            RegistryError: a credential helper failed.
        """
        path, key = self.paths[0], _key(domain)
        helper = _helper(_load(path), domain, path)
        if helper:
            user = TOKEN_USER if credential.identity_token else credential.username
            secret = credential.identity_token or credential.password
            answer = _HelperAnswer(server=key, username=user, secret=secret)
            _call(helper, "store", msgspec.json.encode(answer), self._environment)
            _change(path, lambda auths: auths.update({key: {}}))
            return helper
        entry = _encode(credential)
        _change(path, lambda auths: auths.update({key: entry}))
        return path

    def erase(self, domain: str) -> bool:
        """Forget what to log in to the registry `domain` with.

        Only the file that ``store`` writes is changed, as docker does it.

        Returns:
            whether something was known.

        Raises:
            StoreError, RegistryError: as ``store``.
        """
        path = self.paths[0]
        document = _load(path)
        keys = list(_keys(domain, ""))
        helper = _helper(document, domain, path)
        known = False
        if helper:
            known = any(self._ask(helper, key) for key in keys)
            for key in keys if known else ():
                _call(helper, "erase", key.encode(), self._environment)
        entries = [key for key in _object(document, "auths", path) if _plain(key) in keys]
        if entries:
            _change(path, lambda auths: [auths.pop(key, None) for key in entries])
        return known or bool(entries)


class _HelperAnswer(msgspec.Struct, frozen=True, kw_only=True):
    server: str = msgspec.field(name="ServerURL", default="")
    username: str = msgspec.field(name="Username", default="")
    secret: str = msgspec.field(name="Secret", default="")


def _paths(environment: Mapping[str, str]) -> Iterator[str]:
    explicit = environment.get("REGISTRY_AUTH_FILE")
    if explicit:
        yield explicit
        return
    home = environment.get("HOME") or os.path.expanduser("~")
    yield f"{environment.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json"
    runtime = environment.get("XDG_RUNTIME_DIR")
    yield f"{runtime}/containers/auth.json" if runtime else _AUTH_FILE.format(os.getuid())
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    yield f"{config}/containers/auth.json"


def _key(domain: str) -> str:
    return HUB_KEY if domain == DEFAULT_DOMAIN else domain


def _keys(domain: str, repository: str) -> Iterator[str]:
    """The keys that an entry may have, the most special first, without scheme and path."""
    words = repository.split("/") if repository else []
    for count in range(len(words), 0, -1):
        yield f"{domain}/{'/'.join(words[:count])}"
    yield domain
    if domain == DEFAULT_DOMAIN:
        yield HUB_KEY
        yield "index.docker.io"


def _plain(key: str) -> str:
    """A key as ``_keys`` has it: old files have ``https://host/v1/`` for ``host``."""
    if key == HUB_KEY:
        return key
    rest = key.partition("://")[2] or key
    host, _, path = rest.rstrip("/").partition("/")
    return host if path in ("", "v1", "v2") else f"{host}/{path}"


def _entry(auths: dict[str, Any], keys: list[str]) -> tuple[str, Any] | None:
    plain = {_plain(key): key for key in reversed(auths)}
    for key in keys:
        if key in plain:
            return plain[key], auths[plain[key]]
    return None


def _load(path: str) -> dict[str, Any]:
    try:
        data = files.read(path)
    except NotFound:
        return {}
    if len(data) > _MAX_FILE:
        raise StoreError(f"read: {path}: larger than {_MAX_FILE} bytes")
    if not data.strip():
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise StoreError(f"read: {path}: damaged: {str(err)[:200].lower()}") from err


def _object(document: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StoreError(f"read: {path}: damaged: {name} is not an object")
    return value


def _helper(document: dict[str, Any], domain: str, path: str) -> str:
    helpers = _object(document, "credHelpers", path)
    for name in (*(helpers.get(key) for key in _keys(domain, "")), document.get("credsStore")):
        if isinstance(name, str) and name:
            return name
    return ""


def _decode(entry: object, where: str) -> Credential | None:
    """A credential from one entry of ``auths``; an empty entry is none."""
    if not isinstance(entry, dict):
        raise StoreError(f"read: {where}: damaged: the entry is not an object")
    fields = {name: text for name, text in entry.items() if isinstance(text, str)}
    username, password = fields.get("username", ""), fields.get("password", "")
    if fields.get("auth"):
        username, password = _pair(fields["auth"], where)
    token, bearer = fields.get("identitytoken", ""), fields.get("registrytoken", "")
    if not (username or token or bearer):
        return None
    return Credential(
        username=username, password=password, identity_token=token, registry_token=bearer
    )


def _pair(text: str, where: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as err:
        raise StoreError(f"read: {where}: damaged: auth is not base64 of text") from err
    username, colon, password = pair.partition(":")
    if not colon:
        raise StoreError(f"read: {where}: damaged: auth has no colon")
    # Some versions of docker padded it with zeros.
    return username, password.strip("\0")


def _encode(credential: Credential) -> dict[str, str]:
    entry: dict[str, str] = {}
    if credential.username or credential.password:
        password = "" if credential.identity_token else credential.password
        pair = f"{credential.username}:{password}".encode()
        entry["auth"] = base64.b64encode(pair).decode()
    if credential.identity_token:
        entry["identitytoken"] = credential.identity_token
    if credential.registry_token:
        entry["registrytoken"] = credential.registry_token
    return entry


def _change(path: str, change: Any) -> None:
    """Change ``auths`` in the file `path`: the others of its fields stay as they are."""
    # It may be a link to where someone keeps the files of all their machines.
    path = os.path.realpath(path)
    files.make_folders(os.path.dirname(path))
    lock = files.Lock(f"{path}.lock")
    with lock:
        try:
            document = _load(path)
            auths = dict(_object(document, "auths", path))
            change(auths)
            data = msgspec.json.format(msgspec.json.encode({**document, "auths": auths}), indent=8)
            files.write_atomic(path, data + b"\n")
        finally:
            files.remove(lock.path)


# Credential helpers: ``docker-credential-NAME VERB``, a request on its standard input, and on its
# standard output the answer or an error's text.


def _call(helper: str, verb: str, request: bytes, environment: Mapping[str, str]) -> bytes | None:
    """Return what a helper answered, None where it knows nothing of the registry."""
    import subprocess

    if not helper or helper.startswith((".", "-")) or not _NAME.issuperset(helper):
        raise RegistryError(f"credential helper {helper!r}: not the end of a program's name")
    if len(request) > _MAX_HELPER_REQUEST:
        raise RegistryError(f"credential helper {helper}: {verb}: the secret is too long")
    command = [f"docker-credential-{helper}", verb]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise RegistryError(
            f"credential helper {helper}: {command[0]}: {reason}",
            "the file with the registries' logins names it as credsStore or in credHelpers",
        ) from err
    try:
        output = _talk(process, request, helper)
    finally:
        _end(process)
    if process.returncode == 0:
        return output
    text = output.decode(errors="replace").strip()
    if "credentials not found" in text:
        return None
    shown = "".join(char if char.isprintable() else " " for char in text)[:300]
    raise RegistryError(
        f"credential helper {helper}: {verb}: {shown or f'exit code {process.returncode}'}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    if process.poll() is None:
        process.kill()
    process.wait()


def _talk(process: subprocess.Popen[bytes], request: bytes, helper: str) -> bytes:
    """Write the request and read the answer, both bounded in size and time."""
    import select
    import time

    assert process.stdin
    assert process.stdout
    # Shorter than a pipe holds, so this never waits.
    with contextlib.suppress(BrokenPipeError):  # it did not want it: its answer says why
        os.write(process.stdin.fileno(), request)
    process.stdin.close()
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    deadline = time.monotonic() + HELPER_SECONDS
    output = bytearray()
    while True:
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise RegistryError(f"credential helper {helper}: no answer in {HELPER_SECONDS:.0f} s")
        if not poll.poll(rest * 1000):
            continue
        data = os.read(process.stdout.fileno(), _MAX_HELPER_OUTPUT)
        if not data:
            break
        output += data
        if len(output) > _MAX_HELPER_OUTPUT:
            raise RegistryError(f"credential helper {helper}: answer is too long")
    _wait(process, max(deadline - time.monotonic(), 1.0), helper)
    return bytes(output)


def _wait(process: subprocess.Popen[bytes], seconds: float, helper: str) -> None:
    import subprocess

    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired as err:
        raise RegistryError(f"credential helper {helper}: did not end") from err
