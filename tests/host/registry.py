"""Real registries for tests: Debian's ``docker-registry``, with TLS, logins, or as a mirror.

Everything is in a folder of the test's; each server is a process of its own that ``stop`` ends.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from harness import free_port
from pace import seconds

from tests.notebook import Notebook, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "docker-registry"
TOOLS = (PROGRAM, "htpasswd", "openssl")
STARTS = seconds(30)


def missing() -> list[str]:
    """What of Debian's programs is not here."""
    return [tool for tool in TOOLS if not shutil.which(tool)]


class Server:
    """One ``docker-registry``.

    Attributes:
        domain: what references call it.
        config: its configuration, JSON being YAML; changed before ``start``.
    """

    def __init__(self, folder: str, **http_options: Any) -> None:
        os.makedirs(folder)
        self.folder = folder
        self.port = free_port()  # over a restart too
        self.domain = f"127.0.0.1:{self.port}"
        self.config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {
                "filesystem": {"rootdirectory": f"{folder}/data"},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.domain, **http_options},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._timers: list[threading.Timer] = []

    def start(self) -> Server:
        path = f"{self.folder}/config.yml"
        with open(path, "w") as file:
            json.dump(self.config, file)
        with open(f"{self.folder}/log", "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", path],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
            )
        end = time.monotonic() + STARTS
        while not self._listens():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGKILL, away: float = 0.5) -> None:
        """Stop it now, and start it again after `away` seconds."""
        self.stop(how)
        self._timers.append(threading.Timer(away, self.start))
        self._timers[-1].start()

    def end(self) -> None:
        for timer in self._timers:
            timer.cancel()
            timer.join()
        self.stop()

    def log(self) -> str:
        with open(f"{self.folder}/log", errors="replace") as file:
            return file.read()


@contextlib.contextmanager
def served(folder: str, **parts: Any) -> Iterator[Server]:
    """A registry with further parts of its configuration: ``auth``, ``proxy``, ``http``."""
    server = Server(folder, **parts.pop("http", {}))
    server.config.update(parts)
    try:
        yield server.start()
    finally:
        server.end()


def htpasswd(path: str, user: str, password: str) -> dict[str, Any]:
    """Make a file of passwords; returns the configuration's ``auth``."""
    with open(path, "wb") as file:
        subprocess.run(["htpasswd", "-Bbn", user, password], stdout=file, check=True)
    return {"htpasswd": {"realm": "a realm, quoted", "path": path}}


# Certificates


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority: ``NAME.crt`` and ``NAME.key`` in a folder."""

    def __init__(self, folder: str, name: str = "authority") -> None:
        self.folder = folder
        self.certificate = f"{folder}/{name}.crt"
        self.key = f"{folder}/{name}.key"
        _openssl(
            "req", "-x509", *_KEY, "-keyout", self.key, "-out", self.certificate, "-days", "2",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip

    def issue(self, name: str, names: str = "IP:127.0.0.1") -> tuple[str, str]:
        """Certificate and key of a server or client; `names` as in subjectAltName."""
        certificate, key, request = (
            f"{self.folder}/{name}.{kind}" for kind in ("crt", "key", "csr")
        )
        extensions = f"{self.folder}/{name}.ext"
        with open(extensions, "w") as file:
            file.write(f"subjectAltName={names}\n")
        _openssl("req", "-new", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-CAcreateserial", "-out", certificate, "-days", "2", "-extfile", extensions,
        )  # fmt: skip
        return certificate, key


class TokenService:
    """Gives the tokens that a ``docker-registry`` with ``auth: token`` believes.

    Attributes:
        book: what it was asked.
        auth: the registry's configuration.
        accounts: user to password; nobody else gets a token.
        anonymous: actions that need no user.
    """

    issuer = "an issuer"
    service = "a registry"

    def __init__(self, folder: str) -> None:
        authority = Authority(folder, "tokens")
        self._key = authority.key
        with open(authority.certificate) as file:
            self._certificate = ssl.PEM_cert_to_DER_cert(file.read())
        self.accounts: dict[str, str] = {}
        self.refresh: dict[str, str] = {}
        self.anonymous: set[str] = set()
        self.book = Notebook(self._answer)
        self.auth = {
            "token": {
                "realm": f"{self.book.url}/token",
                "service": self.service,
                "issuer": self.issuer,
                "rootcertbundle": authority.certificate,
            }
        }

    def _answer(self, request: Request) -> Reply:
        path, _, query = request.path.partition("?")
        text = query if request.method == "GET" else request.body.decode()
        fields = urllib.parse.parse_qs(text)
        user = self._user(request, fields)
        if path != "/token" or user is None:
            return Reply(401, b'{"details":"incorrect username or password"}')
        scopes = [word for line in fields.get("scope", []) for word in line.split()]
        answer = {"token": self._token(user, scopes), "expires_in": 300}
        if "offline_token" in fields and user:
            self.refresh[f"refresh of {user}"] = user
            answer["refresh_token"] = f"refresh of {user}"
        return Reply(200, json.dumps(answer).encode())

    def _user(self, request: Request, fields: dict[str, list[str]]) -> str | None:
        if request.method == "POST":
            return self.refresh.get(fields["refresh_token"][0])
        header = request.headers.get("Authorization", "")
        if not header:
            return ""
        user, _, password = base64.b64decode(header.partition(" ")[2]).decode().partition(":")
        return user if self.accounts.get(user) == password else None

    def _token(self, user: str, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 2)
            allowed = [one for one in actions.split(",") if user or one in self.anonymous]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": self.service, "sub": user, "access": access,
            "iat": now - 10, "nbf": now - 10, "exp": now + 300, "jti": os.urandom(8).hex(),
        }  # fmt: skip
        header = {
            "typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._certificate).decode()],
        }  # fmt: skip
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return b".".join([signed, _base64url(self._sign(signed))]).decode()

    def _sign(self, data: bytes) -> bytes:
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._key],
            input=data,
            capture_output=True,
            check=True,
        )
        return _raw_signature(done.stdout)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _raw_signature(der: bytes) -> bytes:
    """Both numbers of an ECDSA signature, 32 bytes each, as JWT has them (RFC 7518, 3.4)."""
    position, numbers = 2, []
    for _ in range(2):
        length = der[position + 1]
        numbers.append(der[position + 2 : position + 2 + length].lstrip(b"\0").rjust(32, b"\0"))
        position += 2 + length
    return b"".join(numbers)


class Proxy:
    """An HTTP proxy: CONNECT, and requests with a whole URL; names are looked up in `hosts`.

    Attributes:
        lines: first line of each request.
        headers: headers of each request.
    """

    def __init__(self, hosts: dict[str, int]) -> None:
        self.lines: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._hosts = hosts
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(client)
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while head := self._head(client):
                lines = head.decode().split("\r\n")
                method, target, version = lines[0].split(" ")
                self.lines.append(lines[0])
                self.headers.append(dict(line.split(": ", 1) for line in lines[1:] if line))
                parts = urllib.parse.urlsplit(target if "://" in target else f"//{target}")
                port = self._hosts[f"{parts.hostname}:{parts.port}"]
                with socket.create_connection(("127.0.0.1", port)) as server:
                    self._open.append(server)
                    if method == "CONNECT":
                        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    else:
                        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
                        rest = [one for one in lines[1:] if not one.startswith("Proxy-")]
                        rest = ["Connection: close", *rest]
                        server.sendall("\r\n".join([f"{method} {path} {version}", *rest]).encode())
                    self._relay(client, server)
                return

    def _head(self, client: socket.socket) -> bytes:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            more = client.recv(1)
            if not more:
                return b""
            data += more
        return data

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        def copy(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        other = threading.Thread(target=copy, args=(client, server))
        other.start()
        copy(server, client)
        other.join()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
