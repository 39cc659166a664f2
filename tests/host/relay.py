"""A connection between a client and a server that a test can hold up in the middle, and measure."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Passes connections on to a port of this machine.

    Args:
        port: where to.
        limit: bytes of answers after which nothing more comes, None for all.

    Attributes:
        domain: where clients connect to.
        passed: bytes of answers so far.
    """

    def __init__(self, port: int, limit: int | None = None) -> None:
        self._port = port
        self._limit = limit
        self._changed = threading.Condition()
        self._closed = False
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.passed = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.domain = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                self._start(self._copy, client, server, False)
                self._start(self._copy, server, client, True)

    def _copy(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if answers:
                    self._admit(len(data))
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _admit(self, count: int) -> None:
        with self._changed:
            while not (self._closed or self._limit is None or self.passed < self._limit):
                self._changed.wait()
            self.passed += count

    def release(self) -> None:
        """Let all through from now on."""
        with self._changed:
            self._limit = None
            self._changed.notify_all()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()
