"""The conversation between a process and its worker (``worker.py``): what a message looks like.

A call has a socket pair of its own, a *channel*, on which one end speaks at a time: a request, any
number of calls back, an answer. So threads do not wait for each other and nothing has to be put
back in order. Descriptors go with the message that names them (unix(7), SCM_RIGHTS).

Messages are pickled: both ends run this code, one has started the other, and nobody else has the
sockets, which are inherited and have no name. Even so, only plain values and types of ours are
taken: a message names no function to be called.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pycontain import errors
from pycontain.config import SETTINGS, Config
from pycontain.engine.cancel import Cancel
from pycontain.errors import PycontainError
from pycontain.runtime.attachment import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HEADER = struct.Struct("=Q")
_MOST_DESCRIPTORS = 8  # of one message; unix(7) allows 253
_FOREIGN = {
    ("builtins", "OSError"), ("builtins", "bytearray"), ("builtins", "frozenset"),
    ("builtins", "int"), ("builtins", "set"), ("builtins", "str"), ("collections", "OrderedDict"),
    ("os", "stat_result"),
}  # fmt: skip


class Gone(Exception):
    """The other end of a channel is not there any more."""


class Request(NamedTuple):
    """The caller wants a verb carried out.

    Attributes:
        subject: ``containers``, ``images``, ``manifests``, or empty for what this channel is about;
            or the type of what is made of an engine, one for each worker.
        verb: the method.
        arguments: by name; of those that stay with the caller (files, callbacks) a ``Reference``.
    """

    subject: str | type
    verb: str
    arguments: dict[str, Any]


class Reference(NamedTuple):
    """An argument that stays with the caller: its name."""

    name: str


class CallBack(NamedTuple):
    """The worker wants a method of a ``Reference`` called."""

    name: str
    method: str
    arguments: tuple[Any, ...]


class Answer(NamedTuple):
    """What came of a request or of a call back.

    Attributes:
        value: returned.
        opened: nothing is returned; the channel is about what was made, from now on: ``iterator``
            or ``tree``.
        end: the iterator has no more items; else they are the value, one or more.
    """

    value: Any = None
    opened: str = ""
    end: bool = False


class Failure(NamedTuple):
    """What a request raised."""

    error: BaseException


class Descriptor(NamedTuple):
    """A file descriptor that is handed over; the receiver owns its copy."""

    fd: int


class Messages:
    """The encoding of messages, for one end.

    Args:
        served: name → object that crosses as its name, and is the other end's object of that name
            there.
    """

    def __init__(self, served: Mapping[str, object]) -> None:
        self.served = served
        self.names = {id(value): name for name, value in served.items()}

    def encode(self, message: object) -> tuple[bytes, list[int]]:
        """Return a message as bytes, and the descriptors that go with it: they stay the caller's.

        Raises:
            InvalidInput: it holds what cannot be handed over.
        """
        file = io.BytesIO()
        encoder = _Encoder(file, self.names)
        try:
            encoder.dump(message)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as err:
            raise errors.InvalidInput(f"value cannot be handed to the worker: {err}") from err
        return file.getvalue(), encoder.fds

    def decode(self, data: bytes | bytearray, fds: Sequence[int]) -> object:
        """Return the message of some bytes; what of `fds` it names belongs to it then.

        Raises:
            InvalidInput: it holds what cannot be handed over.
        """
        decoder = _Decoder(io.BytesIO(data), self.served, list(fds))
        try:
            return decoder.load()
        except (pickle.UnpicklingError, TypeError, ValueError, EOFError, IndexError) as err:
            raise errors.InvalidInput(f"value cannot be handed to the worker: {err}") from err
        finally:
            decoder.close()


class _Encoder(pickle.Pickler):
    def __init__(self, file: io.BytesIO, names: Mapping[int, str]) -> None:
        super().__init__(file, protocol=5)
        self._names = names
        self.fds: list[int] = []

    def persistent_id(self, obj: object) -> Any:
        """Say which objects cross by name, and which as descriptors (pickle, persistent ids)."""
        if isinstance(obj, Descriptor):
            return self._number(obj.fd)
        return self._names.get(id(obj))

    def _number(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1

    def reducer_override(self, obj: object) -> Any:
        """Take apart what is not taken apart by itself, or in ways that differ by release."""
        if isinstance(obj, msgspec.Struct):
            fields = {name: getattr(obj, name) for name in obj.__struct_fields__}
            return _struct, (type(obj), fields)
        if isinstance(obj, Config):
            values = {setting.name: getattr(obj, setting.name) for setting in SETTINGS}
            return _config, (values, dict(obj.origins), obj.files)
        if isinstance(obj, BaseException):
            return _error, _error_parts(obj)
        if isinstance(obj, Attachment):
            return _attachment, (Descriptor(obj.fileno()), obj.on_finish, obj.owner, obj.run)
        if isinstance(obj, Cancel):
            return _cancel, (Descriptor(obj.fileno()),)
        if isinstance(obj, int):  # a signal's number, say, which pickles as a name
            return int, (int(obj),)
        if isinstance(obj, str):
            return str, (str.__str__(obj),)
        return NotImplemented


class _Decoder(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, served: Mapping[str, object], fds: list[int]) -> None:
        super().__init__(file)
        self._served = served
        self._fds = dict(enumerate(fds))

    def close(self) -> None:
        """Close the descriptors that the message does not name."""
        for fd in self._fds.values():
            os.close(fd)

    def persistent_load(self, pid: Any) -> object:
        """Return the object of a persistent id."""
        if isinstance(pid, int) and pid in self._fds:
            return Descriptor(self._fds.pop(pid))
        if isinstance(pid, str) and pid in self._served:
            return self._served[pid]
        raise pickle.UnpicklingError(f"unknown object {pid!r}")

    def find_class(self, module: str, name: str) -> Any:
        """Return a type of ours, or one of the few that our values are made of."""
        if (module, name) in _FOREIGN:
            return super().find_class(module, name)
        if module.startswith("pycontain.") and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) or found in _MAKERS:
                return found
        raise pickle.UnpicklingError(f"type {module}.{name} is not known here")


def _struct(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    return kind(**fields)


def _config(values: dict[str, Any], origins: dict[str, str], files: tuple[str, ...]) -> Config:
    return Config(values, origins, files)


def _attachment(
    connection: Descriptor, on_finish: Callable[[], None] | None, owner: bool, run: str
) -> Attachment:
    link = socket.socket(fileno=connection.fd)
    # The flag is the open file's, the time-out Python's own.
    link.setblocking(False)
    attachment = Attachment(link, on_finish, owner=owner)
    attachment.run = run
    return attachment


class Borrowed(Cancel):
    """A Cancel that is somebody else's: its descriptor was handed over."""

    def __init__(self, fd: int) -> None:
        self._fd = fd


def _cancel(descriptor: Descriptor) -> Cancel:
    return Borrowed(descriptor.fd)


def _error_parts(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], Any]:
    """Type, arguments and attributes of an error, as they are where both ends know its type."""
    if isinstance(error, OSError) and error.errno is not None:
        # OSError makes the class that is its errno's.
        named = () if error.filename is None else (error.filename,)
        return OSError, (error.errno, error.strerror, *named), {}
    known = [kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__]
    if known:
        return known[0], error.args, error.__dict__
    text = f"worker: {type(error).__name__}: {error}"
    return PycontainError, (text,), {"message": text, "hint": None}


def _error(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> object:
    if not issubclass(kind, BaseException):
        raise pickle.UnpicklingError(f"{kind.__name__} is no error")
    # Past the constructors, which differ: an error is its arguments and its attributes.
    error = kind.__new__(kind, *args)
    if not issubclass(kind, OSError):
        error.args = args
    error.__dict__.update(state)
    return error


_MAKERS = (_struct, _config, _attachment, _cancel, _error)


class Channel:
    """One end of the socket pair of a call.

    Args:
        connection: a SOCK_STREAM socket, which belongs to the channel.
        messages: how they are encoded.
    """

    def __init__(self, connection: socket.socket, messages: Messages) -> None:
        self._socket = connection
        self._messages = messages
        self._pid = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""
        return self._socket.fileno()

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            Gone: nobody is there to take it.
            InvalidInput: it holds what cannot be handed over; nothing was sent.
        """
        data, fds = self._messages.encode(message)
        header = _HEADER.pack(len(data))
        try:
            # A program may have SIGPIPE end it, which is not ours to change.
            sent = socket.send_fds(self._socket, [header], fds, socket.MSG_NOSIGNAL)
            self._socket.sendall(header[sent:] + data, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as err:
            raise Gone from err

    def receive(self) -> object:
        """Return the next message.

        Raises:
            Gone: there will be none.
            InvalidInput: it holds what cannot be handed over.
        """
        fds: list[int] = []
        try:
            flags = socket.MSG_CMSG_CLOEXEC
            head, fds, _, _ = socket.recv_fds(self._socket, _HEADER.size, _MOST_DESCRIPTORS, flags)
            head += self._exactly(_HEADER.size - len(head)) if head else b""
            if not head:
                raise Gone
            data = self._exactly(*_HEADER.unpack(head))
        except BaseException as err:
            for fd in fds:
                os.close(fd)
            if isinstance(err, ConnectionResetError):
                raise Gone from err
            raise
        return self._messages.decode(data, fds)

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            count = self._socket.recv_into(rest)
            if not count:
                raise Gone
            rest = rest[count:]
        return data

    def finish(self) -> None:
        """Say that no more will be sent."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # nobody is there

    def hang_up(self) -> None:
        """End the conversation for all who have a copy of the socket."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other end was first

    def close(self) -> None:
        """Hang up. A forked child only drops its copy: the channel is its parent's."""
        if os.getpid() == self._pid:
            self.hang_up()
        self._socket.close()
