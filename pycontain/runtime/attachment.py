"""The caller's end of a monitor's socket: output, input, the end. ``native/frame.h`` is the form.

Nothing here blocks: ``fileno`` is for poll(2).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from pycontain.errors import PycontainError, kernel_error
from pycontain.runtime.handover import StartFailure

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAME = struct.Struct("=II")
_USED = struct.Struct("=QQ")
_DATA = 32768
_PATIENCE = 20.0  # seconds, for an answer that takes microseconds
_KINDS = {b"r": "ready", b"f": "failed", b"1": "stdout", b"2": "stderr", b"l": "lagged",
          b"x": "exit"}  # fmt: skip
_NO_STEP = 0xFFFF_FFFF


class Frame:
    """One message from the monitor.

    Attributes:
        kind: ``stdout``, ``stderr``, ``exit``, ``lagged`` (some output was missed), ``ready``,
            ``failed``, or ``closed`` when the monitor is gone.
        data: the output.
        code: of ``exit`` what a shell would say; of ``lagged`` how many bytes were missed.
            ``exit`` has the resource use in its data.
    """

    __slots__ = ("code", "data", "kind")

    def __init__(self, kind: str, data: bytes = b"", code: int = 0) -> None:
        self.kind = kind
        self.data = data
        self.code = code


def exit_code(status: int) -> int:
    """What a shell says of a wait status: the exit code, or 128 + signal."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


class Attachment:
    """A connection to a running process.

    Args:
        connection: a SOCK_SEQPACKET socket to the monitor.
        on_finish: what the caller does after the end instead of the monitor (``--rm``).
        owner: the caller started the process: it is its pipe.

    Attributes:
        run: which run of a container this is the connection to; empty of what is executed in one.
        pid: of the process that was started by this, as the host sees it; 0 where it was not.
        code: what a shell would say of the end; None before it, as the next.
        cpu_usec, memory_peak: what the process and those it waited for have used: CPU time in
            microseconds, and the largest resident set of one of them in bytes (wait4(2)).
    """

    def __init__(
        self,
        connection: socket.socket,
        on_finish: Callable[[], None] | None = None,
        *,
        owner: bool = False,
    ) -> None:
        self.owner = owner
        self._socket = connection
        self.on_finish = on_finish
        self.run = ""
        self.pid = 0
        self.code: int | None = None
        self.cpu_usec: int | None = None
        self.memory_peak: int | None = None

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""
        return self._socket.fileno()

    def wait_ready(self) -> int:
        """Block until the process runs; return its pid.

        Raises:
            StartFailure: a step failed.
            PycontainError: the monitor died.
        """
        self._socket.setblocking(True)
        kind, value, data = self._receive()
        self._socket.setblocking(False)
        if kind == b"r":
            self.pid = value
            return value
        if kind == b"f":
            (step,) = struct.unpack_from("=I", data)
            subject = data[4:].decode(errors="replace")
            raise StartFailure(None if step == _NO_STEP else step, value, subject)
        raise PycontainError("start: the monitor was killed before the container ran")

    def _receive(self) -> tuple[bytes, int, bytes]:
        try:
            data = self._socket.recv(_FRAME.size + _DATA)
        except ConnectionResetError:
            # The monitor ended with input of ours unread, which is told first and once; what it
            # had sent before, its last word too, is still to be received.
            data = self._socket.recv(_FRAME.size + _DATA)
        if len(data) < _FRAME.size:
            return b"", 0, b""
        kind, value = _FRAME.unpack_from(data)
        return bytes((kind & 0xFF,)), value, data[_FRAME.size :]

    def read(self) -> Frame | None:
        """Return the next message, None when there is none yet."""
        try:
            kind, value, data = self._receive()
        except BlockingIOError:
            return None
        name = _KINDS.get(kind)
        if name is None:
            return Frame("closed")
        if name == "exit":
            self.code = value = exit_code(value)
            self.cpu_usec, self.memory_peak = _USED.unpack(data)
        return Frame(name, data, value)

    def _send(self, kind: bytes, value: int = 0, data: bytes = b"") -> bool:
        try:
            self._socket.send(_FRAME.pack(kind[0], value) + data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            return True  # the monitor is gone: read() says so
        return True

    def write_stdin(self, data: bytes) -> int:
        """Offer input; return how many bytes were taken, 0 when there is no room (POLLOUT)."""
        part = data[:_DATA]
        return len(part) if self._send(b"0", data=part) else 0

    def close_stdin(self) -> bool:
        """End the process's input; False when there is no room to say so yet."""
        return self._send(b"e")

    def drained(self) -> bool:
        """Whether the monitor has taken all that was sent, and passed on the input in it.

        It takes a message once the input of the one before it is in the process's pipe. What is
        still in the socket is counted by SIOCOUTQ (unix(7)).
        """
        import fcntl
        import termios

        count = bytearray(4)
        try:
            fcntl.ioctl(self._socket, termios.TIOCOUTQ, count)
        except OSError as err:
            raise kernel_error("look at", "the monitor's socket", err.errno or 0) from err
        return not any(count)

    def close_output(self, stream: str) -> None:
        """Tell the process that nobody reads ``stdout`` or ``stderr`` any more: it gets SIGPIPE.

        Only the owner's word counts, and a terminal has no such end.
        """
        self._send(b"c", 2 if stream == "stderr" else 1)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the process's terminal its size."""
        self._send(b"w", (rows & 0xFFFF) << 16 | columns & 0xFFFF)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._send(b"s", number)

    def finish(self) -> None:
        """Do what follows the end, in the monitor's place.

        Raises:
            PycontainError: the clean-up's.
        """
        if self.on_finish is not None:
            self._send(b"d")
            self.on_finish()
        self.close()

    def close(self) -> None:
        """Detach; the process goes on."""
        self._socket.close()


def connect(path: str) -> socket.socket:
    """Connect to a monitor's attach socket, at a path of any length.

    Raises:
        KernelError: nobody listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # sun_path holds 108 bytes: through the folder's descriptor every path fits.
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)
    except OSError as err:
        connection.close()
        raise kernel_error("attach", path, err.errno or 0) from err
    connection.setblocking(False)
    return connection


def lead_ports(path: str, address: str) -> None:
    """Tell a monitor where its container's published ports lead to from now on.

    Args:
        path: of its attach socket.
        address: the container's; empty for nowhere.

    Raises:
        KernelError: nobody listens: the container has ended.
        PycontainError: the monitor does not answer.
    """
    with connect(path) as connection:
        # One that is accepted is read before a forwarder is started for whoever comes later.
        _await_ready(connection)
        try:
            connection.send(_FRAME.pack(b"t"[0], 0) + address.encode(), socket.MSG_NOSIGNAL)
        except OSError as err:
            raise kernel_error("lead published ports", path, err.errno or 0) from err
        _await_ready(connection)


def _await_ready(connection: socket.socket) -> None:
    """Read until the monitor says so; what comes of the container's output is for others."""
    connection.settimeout(_PATIENCE)
    kind = b"?"
    while kind not in (b"r", b""):
        try:
            data = connection.recv(_FRAME.size + _DATA)
        except OSError as err:
            raise kernel_error("lead published ports", "the monitor", err.errno or 0) from err
        kind = bytes((_FRAME.unpack_from(data)[0] & 0xFF,)) if data else b""
    if not kind:
        raise PycontainError("lead published ports: the container has ended")


__all__ = ["Attachment", "Frame", "StartFailure", "connect", "exit_code", "lead_ports"]
