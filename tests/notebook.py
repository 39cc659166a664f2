"""An HTTP server that answers what a function says, and keeps what it was asked."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Request:
    """One request as it came."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


class Reply:
    """What a server of ours answers."""

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        *,
        cut: int | None = None,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = list(headers.items()) if isinstance(headers, dict) else headers or []
        self.cut = cut
        self.length = len(body) if length is None else length


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that goes in the middle is what some tests are about."""


class Notebook:
    """A server that answers what a function says, and keeps what it was asked.

    Attributes:
        requests: all requests, in order.
        url, domain: of the server.
    """

    def __init__(
        self, answer: Callable[[Request], Reply], certificate: tuple[str, str] | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.answer = answer
        self._greeted = False
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = self._server.server_address[1]
        self.domain = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificate else 'http'}://{self.domain}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def reply(self, request: Request) -> Reply:
        """The answer; whoever asks first whether this is a registry hears that it is."""
        if request.path == "/v2/" and not self._greeted:
            self._greeted = True
            return Reply()
        return self.answer(request)

    def asked(self, path: str = "", method: str = "") -> list[Request]:
        """The requests of a path's beginning, but those that ask which protocol it is."""
        return [
            one
            for one in self.requests
            if one.path.startswith(path) and method in ("", one.method) and one.path != "/v2/"
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handler(book: Notebook) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            book.requests.append(request)
            reply = book.reply(request)
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in reply.headers):
                self.send_header("Content-Length", str(reply.length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    return Handler
