"""A worker: a process in an ordinary user's namespaces that carries verbs out for another one.

The other end is ``remote.py``, in the process that started it. It ends with that process, or when
that closes its socket; and prints nothing. Each call has a channel and a thread of its own. The
worker keeps nothing between calls: killed, it leaves what a killed command leaves.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pycontain.engine import Engine, rootless
from pycontain.engine.cancel import Cancel, wait_readable
from pycontain.engine.containers import Containers
from pycontain.engine.tree import Tree
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
from pycontain.errors import InvalidInput, PycontainError
from pycontain.runtime.attachment import Attachment
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.config import Config

_CONNECTION = 3
_CALLER = 4
_AHEAD = 1000  # items
_LAST_WORDS = 10.0  # seconds that verbs under way get when the caller is gone


def main(root: str, state: str) -> None:
    """Serve the verbs of one store until the caller is gone.

    Descriptor 3 is the socket on which channels come, 4 a pidfd of the caller.

    Args:
        root: folder for what survives a reboot.
        state: folder for what dies with it.
    """
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write("pycontain-work")  # what ps(1) shows; 15 characters
        worker = Worker(socket.socket(fileno=_CONNECTION), _CALLER, Layout(root, state))
        if worker.enter():
            worker.serve()
    except Gone:
        pass
    finally:
        # Threads may still wait for what will not come.
        os._exit(0)


class Worker:
    """The worker of one process.

    Args:
        connection: on which channels come.
        caller: pidfd of the process that they come from.
        layout: the store's, which is prepared.
    """

    def __init__(self, connection: socket.socket, caller: int, layout: Layout) -> None:
        self._connection = connection
        self._caller = caller
        self._layout = layout
        self._messages = Messages({})
        self._subjects = Subjects({})
        self._sessions: dict[Session, threading.Thread] = {}

    def enter(self) -> bool:
        """Enter the user's namespaces, and tell the caller so, or why not.

        Returns:
            Whether that went well.

        Raises:
            Gone: the caller has ended.
        """
        _, channel = self._accept()
        if channel is None:
            return False
        request = channel.receive()
        assert isinstance(request, Request)
        try:
            # The caller's, as if its words were carried out there: PATH, say, to find newuidmap.
            os.environ.update(request.arguments["environment"])
            # setns(2) into a user namespace wants a process of one thread.
            rootless.enter(self._layout)
            engine = WorkerEngine(self._layout, request.arguments["settings"], self._caller)
            self._subjects = Subjects(engine.served(), engine)
            self._messages = Messages(self._subjects.named)
        except (PycontainError, OSError) as err:
            channel.send(Failure(err))
            return False
        channel.send(Answer())
        channel.close()
        return True

    def serve(self) -> None:
        """Carry out what is asked for until the caller is gone."""
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        # Children that the caller has forked may have copies of the socket: its end is told twice.
        poller.register(self._caller, select.POLLIN)
        while self._caller not in dict(poller.poll()):
            word, channel = self._accept()
            if not word:
                break
            if channel is not None:
                self._begin(Session(channel, self._subjects, self._ended))
        self._end()

    def _accept(self) -> tuple[bytes, Channel | None]:
        """Take the next word of the caller, empty at its end, and the channel that came with it;
        none where there was no descriptor left for it (unix(7)): its caller finds it closed.
        """
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            word, fds, _, _ = socket.recv_fds(self._connection, 1, 1, flags)
        except ConnectionResetError:
            return b"", None
        return word, Channel(socket.socket(fileno=fds[0]), self._messages) if fds else None

    def _begin(self, session: Session) -> None:
        thread = threading.Thread(target=session.serve, daemon=True)
        self._sessions[session] = thread
        try:
            thread.start()
        except RuntimeError:  # a limit of tasks is reached
            session.refuse("worker: no more threads can be started")

    def _ended(self, session: Session) -> None:
        self._sessions.pop(session, None)

    def _end(self) -> None:
        """Let verbs under way come to their end: they leave nothing half done."""
        under_way = list(self._sessions.items())
        for session, _ in under_way:
            session.cancel()
        end = time.monotonic() + _LAST_WORDS
        for _, thread in under_way:
            thread.join(max(0.0, end - time.monotonic()))


class WorkerEngine(Engine):
    """The engine of a worker, as its caller is configured.

    Args:
        layout: the store's.
        settings: the caller's.
        caller: pidfd of it: what is leashed is tied to it.
    """

    def __init__(self, layout: Layout, settings: Config, caller: int) -> None:
        super().__init__(layout.root, layout.state, settings)
        self._on_behalf = Containers(self.layout, self.images, rootless=True, caller=caller)

    @property
    def containers(self) -> Containers:
        """The containers of the store."""
        return self._on_behalf

    def served(self) -> dict[str, object]:
        """Return what has the verbs, by the names under which callers know it."""
        return {
            "containers": self.containers, "images": self.images, "manifests": self.manifests,
            "networks": self.networks, "volumes": self.volumes,
        }  # fmt: skip


class Subjects:
    """What has the verbs that a worker carries out.

    Args:
        named: name → object.
        engine: of which the others are made; what they are is not for this floor to know.
    """

    def __init__(self, named: dict[str, object], engine: Engine | None = None) -> None:
        self.named = named
        self._engine = engine
        self._made: dict[type, object] = {}

    def get(self, subject: str | type) -> object:
        """Return the object of a name, or the one of a type, made when it is first asked for."""
        if isinstance(subject, str):
            return self.named[subject]
        if subject not in self._made:
            self._made.setdefault(subject, subject(self._engine))
        return self._made[subject]


class Session:
    """One channel: a call, or what follows about the object that a call has opened.

    Args:
        channel: to the caller.
        subjects: what has the verbs.
        ended: is told the end.
    """

    def __init__(
        self, channel: Channel, subjects: Subjects, ended: Callable[[Session], None]
    ) -> None:
        self._channel = channel
        self._subjects = subjects
        self._told = ended
        self._ending: Ending | None = None
        self._opened: Any = None
        self._asking = threading.Lock()

    def serve(self) -> None:
        """Answer until the caller hangs up."""
        try:
            while True:
                self._answer_one()
        except Gone:
            pass
        finally:
            self._close()
            self._told(self)

    def refuse(self, reason: str) -> None:
        """Answer that it cannot be, and hang up."""
        with contextlib.suppress(Gone):
            self._channel.send(Failure(PycontainError(reason)))
        self._close()
        self._told(self)

    def cancel(self) -> None:
        """End the waits of the verb under way, and the conversation behind it."""
        ending = self._ending
        if ending is not None:
            ending.set()
        self._channel.hang_up()

    def _close(self) -> None:
        close = getattr(self._opened, "close", None)
        if close is not None:
            close()
        if self._ending is not None:
            self._ending.close()
        self._channel.close()

    def _answer_one(self) -> None:
        try:
            request = self._channel.receive()
        except InvalidInput as err:
            self._channel.send(Failure(err))
            return
        assert isinstance(request, Request)
        try:
            value = self._carry_out(request)
        except Gone:
            raise
        except BaseException as err:  # noqa: BLE001 - it is the caller's
            self._channel.send(Failure(err))
        else:
            self._hand_over(request, value)

    def _carry_out(self, request: Request) -> Any:
        if isinstance(self._opened, Ahead):
            return self._opened.take(self._channel)
        subject = self._subjects.get(request.subject) if request.subject else self._opened
        if request.verb.startswith("_"):
            raise InvalidInput(f"worker: {request.verb} is no verb")
        verb = getattr(subject, request.verb)
        given = {name: self._argument(value) for name, value in request.arguments.items()}
        if "cancel" in inspect.signature(verb).parameters:
            self._ending = given["cancel"] = Ending(self._channel, given.get("cancel"))
        return verb(**given)

    def _argument(self, value: Any) -> Any:
        return (
            Absent(self._channel, value.name, self._asking)
            if isinstance(value, Reference)
            else value
        )

    def _hand_over(self, request: Request, value: Any) -> None:
        try:
            self._channel.send(self._answer(request, value))
            if request.verb == "run":
                self._channel.receive()  # that the caller has it
        except Gone:
            _release(value)
            self._undo(request, value)
            raise
        except InvalidInput as err:
            self._channel.send(Failure(err))
        finally:
            _release(value)

    def _answer(self, request: Request, value: Any) -> Answer:
        if isinstance(value, Answer):
            return value
        if isinstance(value, Tree):
            self._opened = value
            return Answer(value.name, opened="tree")
        if hasattr(value, "__next__"):
            assert self._ending is not None
            self._opened = Ahead(value, self._ending)
            return Answer(opened="iterator")
        if isinstance(self._opened, Tree) and request.verb in ("look", "open"):
            return Answer(Descriptor(value))
        return Answer(value)

    def _undo(self, request: Request, value: Any) -> None:
        """Remove a container that was to be removed at its end, and that nobody has now."""
        if request.verb == "run" and request.arguments["options"].remove:
            container, _ = value
            containers = self._subjects.get("containers")
            assert isinstance(containers, Containers)
            containers.remove(container.id, force=True)


def _release(value: Any) -> None:
    """Close our copies of what was handed over."""
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, Attachment):
            part.close()


class Ending(Cancel):
    """Ends a wait where the caller says so, hangs up, or is gone: any of them.

    Args:
        channel: on which the caller says nothing during a call.
        given: the caller's own; closed with this.
    """

    def __init__(self, channel: Channel, given: Cancel | None) -> None:
        super().__init__()
        self._channel = channel.fileno()
        self._given = given
        self._any = select.epoll()
        self._any.register(super().fileno(), select.EPOLLIN)
        self._any.register(self._channel, select.EPOLLIN | select.EPOLLRDHUP)
        if given is not None:
            self._any.register(given.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Return the descriptor to poll for input (epoll(7): itself one that can be polled)."""
        return self._any.fileno()

    def disregard(self) -> None:
        """Hear no more of the channel: from now on it has requests."""
        self._any.unregister(self._channel)

    def close(self) -> None:
        """Give the descriptors back."""
        self._any.close()
        if self._given is not None:
            self._given.close()
        super().close()


class Ahead:
    """An iterator that is read ahead in a thread of its own: what there is crosses at once.

    Args:
        items: the iterator.
        ending: ends its waits.
    """

    def __init__(self, items: Iterator[Any], ending: Ending) -> None:
        ending.disregard()
        self._items = items
        self._ending = ending
        self._found: deque[Any] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._ready = Cancel()
        self._error: BaseException | None = None
        self._over = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def take(self, channel: Channel) -> Answer:
        """Return the next items, as soon as there are any.

        Raises:
            Gone: the caller hung up on `channel`.
            BaseException: the iterator's own.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        while True:
            ready = wait_readable((self._ready.fileno(), channel.fileno()), None)
            if channel.fileno() in ready:
                raise Gone
            os.eventfd_read(self._ready.fileno())
            over = self._over  # asked first: what came before the end is then there
            items = [self._found.popleft() for _ in range(len(self._found))]
            if items:
                self._room.release(len(items))
            if items or over:
                return self._answer(items, over)

    def _answer(self, items: list[Any], over: bool) -> Answer:
        if over:
            self._ready.set()
        if not items and self._error is not None:
            raise self._error
        return Answer(items, end=not items)

    def _read(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                if self._closed:
                    return
                self._found.append(item)
                self._ready.set()
        except BaseException as err:  # noqa: BLE001 - it is the caller's
            self._error = err
        finally:
            self._over = True
            self._ready.set()

    def close(self) -> None:
        """End it, and close the iterator."""
        self._closed = True
        self._room.release()
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
        self._ready.close()


class Absent:
    """A file, list or function that has stayed with the caller: it is called back.

    Args:
        channel: to the caller, who waits on it.
        name: of the argument.
        asking: held while the caller is asked something: a verb may do that from several threads.

    Its methods raise ``Gone`` where the caller gave up, or its own method raised.
    """

    def __init__(self, channel: Channel, name: str, asking: threading.Lock) -> None:
        self._channel = channel
        self._name = name
        self._asking = asking

    def _call(self, method: str, *arguments: Any) -> Any:
        with self._asking:
            self._channel.send(CallBack(self._name, method, arguments))
            answer = self._channel.receive()
        assert isinstance(answer, Answer)
        return answer.value

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        return self._call("__call__", *arguments)

    def __iter__(self) -> Iterator[Any]:
        """Refuse: what is the caller's list is only added to."""
        raise TypeError("what has stayed with the caller is only added to")

    def append(self, item: object) -> None:
        """Add to a list."""
        self._call("append", item)

    def read(self, size: int = -1) -> bytes:
        """Read of a file."""
        data: bytes = self._call("read", size)
        return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write to a file."""
        count: int | None = self._call("write", bytes(data))
        return len(data) if count is None else count

    def flush(self) -> None:
        """Flush a file."""
        self._call("flush")
