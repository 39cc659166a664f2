"""The caller's end of a worker: the engine of an ordinary user, outside of the user's namespaces.

Containers of an ordinary user live in namespaces of the user (docs/adr/0006-rootless.md). A process
enters them whole, and for good, which is not for a library to do to the program that calls it. So
another process does: a worker, started when it is first needed, which ends when nobody has its
socket any more. What is here has the methods of ``Containers``, ``Images`` and ``Tree``, and hands
each call over. Floors above have theirs handed over too: ``made``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import select
import socket
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pycontain.engine import launch
from pycontain.engine.containers import Containers
from pycontain.engine.images import Images
from pycontain.engine.manifests import Manifests
from pycontain.engine.network_verbs import Networks
from pycontain.engine.tree import Tree
from pycontain.engine.volumes import Volumes
from pycontain.engine.wire import (
    Answer,
    CallBack,
    Channel,
    Descriptor,
    Failure,
    Gone,
    Messages,
    Reference,
    Request,
)
from pycontain.errors import InvalidState, PycontainError, kernel_error
from pycontain.kernel import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pycontain.config import Config
    from pycontain.store.layout import Layout

    Arguments = dict[str, Any]
    Ask = Callable[[str, Arguments], Any]

T = TypeVar("T")

_PROGRAM = """\
import sys
sys.path.extend(sys.argv[3:])
from pycontain.engine.worker import main
main(sys.argv[1], sys.argv[2])
"""
_STAY = ("accept", "asking", "file", "output", "problems", "progress", "report", "source", "target")
"""Arguments that stay with the caller where they are no plain values: the worker calls back."""

_HOST_PATHS = ("output", "source", "target")
_LOCAL = ("folder", "place", "make_folders", "check_content", "source")
"""Of a tree: what returns a folder to work in, which only a process in the namespaces can."""

_DYING_TIME = 2.0  # seconds
_UNDO_TIME = 10.0  # seconds that the worker gets to undo what was interrupted


class Link:
    """A running worker.

    Args:
        layout: the store's.
        settings: what is configured there.

    Raises:
        NotPermitted, NotSupported: the user cannot have a namespace, see ``kernel.userns``.
        KernelError: it cannot be started.
        PycontainError: it ended at once.

    Attributes:
        pid: of the worker.
    """

    def __init__(self, layout: Layout, settings: Config) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid, self._pidfd = _spawn(layout, theirs.fileno())
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self.close = weakref.finalize(self, _hang_up, self._socket, self._pidfd, os.getpid())
        # The process's end is the socket's: there is nothing to do at exit.
        self.close.atexit = False
        try:
            self._greet(settings)
        except BaseException:
            self.close()
            raise

    def _greet(self, settings: Config) -> None:
        channel = self.open(Messages({}))
        try:
            given = {"environment": dict(os.environ), "settings": settings}
            _converse(channel, Request("", "enter", given), {})
        except Gone:
            raise PycontainError(
                f"start worker: process {self.pid} ended before it answered"
            ) from None
        finally:
            channel.close()

    def alive(self, patience: float = 0.0) -> bool:
        """Whether the worker runs, also after `patience` seconds.

        One that is killed closes its sockets some time before its pidfd says so.
        """
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return not poller.poll(patience * 1000)

    def open(self, messages: Messages) -> Channel:
        """Return a channel for one call.

        Raises:
            Gone: the worker has ended.
        """
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._socket, [b"c"], [theirs.fileno()], socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as err:
            ours.close()
            raise Gone from err
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Channel(ours, messages)


def _spawn(layout: Layout, connection: int) -> tuple[int, int]:
    """Start the worker: nobody's child that the caller could meet in wait(2), in a session of its
    own, so that a terminal's signals do not reach it.
    """
    argv = launch.interpreter(_PROGRAM, layout.root, layout.state)
    opened = []
    try:
        try:
            opened.append(os.open(sys.executable, os.O_PATH | os.O_CLOEXEC))
        except OSError as err:
            step = "start worker"
            raise kernel_error(step, sys.executable or "no interpreter", err.errno or 0) from err
        opened.append(os.pidfd_open(os.getpid()))
        return process.spawn(opened[0], argv, [connection, opened[1]], -1)
    finally:
        for fd in opened:
            os.close(fd)


def _hang_up(connection: socket.socket, pidfd: int, pid: int) -> None:
    # A forked child has copies: the worker is its parent's.
    if os.getpid() == pid:
        with contextlib.suppress(OSError):  # the worker was first
            connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    os.close(pidfd)


def _converse(channel: Channel, request: Request, kept: Arguments) -> Answer:
    """Send a request, do what the worker asks for meanwhile with `kept`, and return the answer.

    Raises:
        Gone: the worker was killed.
        BaseException: what the verb raised, there or in a call back.
    """
    channel.send(request)
    while True:
        message = channel.receive()
        if isinstance(message, CallBack):
            value = getattr(kept[message.name], message.method)(*message.arguments)
            channel.send(Answer(value))
        elif isinstance(message, Failure):
            raise message.error
        else:
            return cast("Answer", message)


class Remote:
    """The containers and images of a store, in the care of a worker.

    It is started by the first verb. A forked child starts its own.

    Args:
        layout: the store's.
        settings: what is configured, for whatever the worker does.
    """

    def __init__(self, layout: Layout, settings: Config) -> None:
        self._layout = layout
        self._settings = settings
        self._links: dict[int, Link] = {}
        self._locks: dict[int, threading.Lock] = {}

    @property
    def containers(self) -> Containers:
        """What has the methods of the worker's ``Containers``."""
        return proxy(Containers, functools.partial(self._ask, "containers"))

    @property
    def images(self) -> Images:
        """What has the methods of the worker's ``Images``."""
        return proxy(Images, functools.partial(self._ask, "images"))

    @property
    def manifests(self) -> Manifests:
        """What has the methods of the worker's ``Manifests``."""
        return proxy(Manifests, functools.partial(self._ask, "manifests"))

    @property
    def networks(self) -> Networks:
        """What has the methods of the worker's ``Networks``."""
        return proxy(Networks, functools.partial(self._ask, "networks"))

    @property
    def volumes(self) -> Volumes:
        """What has the methods of the worker's ``Volumes``."""
        return proxy(Volumes, functools.partial(self._ask, "volumes"))

    def made(self, kind: type[T]) -> T:
        """Return what has the methods of the worker's `kind`, which it makes of its engine.

        Args:
            kind: a class of ours; its constructor takes an ``Engine``.
        """
        return proxy(kind, functools.partial(self._ask, kind))

    def close(self) -> None:
        """End the worker. The next verb starts another."""
        with self._lock():
            link = self._links.pop(os.getpid(), None)
        if link is not None:
            link.close()

    def _lock(self) -> threading.Lock:
        # A lock that another thread held at a fork stays locked in the child for ever.
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _link(self) -> Link:
        with self._lock():
            me = os.getpid()
            for pid in [pid for pid in self._links if pid != me]:
                self._links.pop(pid).close()
            link = self._links.get(me)
            if link is None or not link.alive():
                link = self._links[me] = Link(self._layout, self._settings)
            return link

    def _open(self) -> tuple[Link, Channel]:
        messages = Messages(
            {"containers": self.containers, "images": self.images, "manifests": self.manifests,
             "networks": self.networks, "volumes": self.volumes}
        )  # fmt: skip
        while True:
            link = self._link()
            try:
                return link, link.open(messages)
            except Gone:
                with self._lock():
                    if self._links.get(os.getpid()) is link:
                        del self._links[os.getpid()]

    def _ask(self, subject: str | type, verb: str, arguments: Arguments) -> Any:
        link, channel = self._open()
        call = Call(link, channel)
        if subject == "images":
            arguments = _absolute(arguments)
        try:
            answer = call.ask(subject, verb, arguments)
            if verb == "run":
                # Else the worker removes it: nobody has it.
                channel.send(Request("", "taken", {}))
        except BaseException:
            if verb == "run":
                call.wait_undone()
            channel.close()
            raise
        if answer.opened == "iterator":
            return RemoteIterator[Any](call)
        if answer.opened == "tree":
            return _tree(call, answer.value)
        channel.close()
        return answer.value


def _absolute(arguments: Arguments) -> Arguments:
    """Arguments whose paths mean the same in the worker, which has a working folder of its own."""
    paths = {
        key: os.path.join(os.getcwd(), text) for key, text in arguments.items()
        if key in _HOST_PATHS and isinstance(text, str) and "://" not in text
    }  # fmt: skip
    return {**arguments, **paths}


class Call:
    """A call to a worker, or several about one object.

    Args:
        link: the worker; it lives for as long as this.
        channel: of the call.
    """

    def __init__(self, link: Link, channel: Channel) -> None:
        self._link = link
        self._channel = channel
        self._lock = threading.Lock()

    def ask(self, subject: str | type, verb: str, arguments: Arguments) -> Answer:
        """Have a verb carried out.

        Raises:
            PycontainError: the verb's own, or the worker was killed.
        """
        kept = {
            name: value for name, value in arguments.items()
            if name in _STAY and value is not None and not isinstance(value, str)
        }  # fmt: skip
        given = {name: Reference(name) if name in kept else arguments[name] for name in arguments}
        with self._lock:
            try:
                return _converse(self._channel, Request(subject, verb, given), kept)
            except Gone:
                name = subject.__name__.lower() if isinstance(subject, type) else subject
                raise self._unanswered(f"{name} {verb}".strip()) from None

    def _unanswered(self, what: str) -> PycontainError:
        if self._link.alive(_DYING_TIME):
            return PycontainError(f"{what}: worker: process {self._link.pid} hung up")
        return PycontainError(
            f"{what}: worker: process {self._link.pid} was killed before it answered",
            "what it left half done is found by the next call, with a new worker",
        )

    def wait_undone(self) -> None:
        """Wait until the worker has undone what was interrupted, but not for ever."""
        self._channel.finish()
        poller = select.poll()
        poller.register(self._channel, select.POLLHUP)
        poller.poll(_UNDO_TIME * 1000)

    def close(self) -> None:
        """Let the worker's object go."""
        self._channel.close()


class RemoteIterator(Generic[T]):
    """An iterator of the worker's; what there is already crosses at once.

    Args:
        call: whose answer it is.
    """

    def __init__(self, call: Call) -> None:
        self._call: Call | None = call
        self._items: deque[T] = deque()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._call is None:
            raise StopIteration
        if not self._items:
            try:
                answer = self._call.ask("", "next", {})
            except BaseException:
                self.close()
                raise
            self._items.extend(answer.value)
        if not self._items:
            self.close()
            raise StopIteration
        return self._items.popleft()

    def close(self) -> None:
        """End it; what the worker holds open for it is closed."""
        call, self._call = self._call, None
        if call is not None:
            call.close()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> RemoteIterator[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _tree(call: Call, name: str) -> Tree:
    def ask(verb: str, arguments: Arguments) -> Any:
        if verb == "close":
            call.close()
            return None
        if verb in _LOCAL:
            raise InvalidState(
                f"files of container {name}: {verb} is only for processes in the user's namespaces"
            )
        value = call.ask("", verb, _absolute(arguments)).value
        return value.fd if isinstance(value, Descriptor) else value

    tree = proxy(Tree, ask)
    tree.name = name
    return tree


# ---- objects whose methods are asked for ----


def proxy(kind: type[T], ask: Ask) -> T:
    """Return an object whose public methods, those of `kind`, are handed to `ask`.

    Args:
        kind: its class; also what it is an instance of.
        ask: gets the method's name and its arguments by name.
    """
    made: Any = object.__new__(_classes.get(kind) or _classes.setdefault(kind, _proxy_class(kind)))
    made.__dict__["_ask"] = ask
    return cast("T", made)


_classes: dict[type, type] = {}


def _proxy_class(kind: type) -> type:
    verbs = {
        name: _verb(name, function)
        for name, function in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    # A class may give a proxy in the place of its own instance (``__new__``): that is whole.
    return type(f"Remote{kind.__name__}", (kind,), {**verbs, "__init__": _is_made})


def _is_made(self: Any, *args: Any, **kwargs: Any) -> None:
    """Make nothing of it: ``proxy`` has."""


def _verb(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def verb(self: Any, *args: Any, **kwargs: Any) -> Any:
        _, *arguments = signature.bind(self, *args, **kwargs).arguments.items()
        return self._ask(name, dict(arguments))

    return verb
