"""The engine for asyncio: the same verbs, awaited.

Whatever waits does so in a thread of its own, never in the event loop. When the task that awaits is
cancelled, the wait is ended and what was begun is undone before the cancellation goes on: a command
is killed, a container that was being run is removed.

::

    async with await AsyncEngine().start("busybox", idle=True) as box:
        result = await box.exec(["echo", "hello"])
        async for entry in box.logs(follow=True):
            ...
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pycontain.engine import Engine
from pycontain.engine.cancel import Cancel
from pycontain.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from types import TracebackType
    from typing import ParamSpec

    from pycontain.engine.handle import ContainerHandle
    from pycontain.engine.logs import LogEntry
    from pycontain.engine.pool import Pool
    from pycontain.image.store import Image
    from pycontain.model.container import ExitRecord
    from pycontain.model.event import Event
    from pycontain.model.health import Health
    from pycontain.model.result import ExecResult, RunResult
    from pycontain.model.stats import Stats
    from pycontain.model.status import Status

    P = ParamSpec("P")

T = TypeVar("T")
H = TypeVar("H", bound="ContainerHandle | None")

_PATIENCE = 0.1  # seconds
_THREADS = 1024  # a thread is made when it is needed and none is idle


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="pycontain")


async def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a verb in a thread. Cancelled, it is waited for: a verb is short and undoes itself."""
    return await _settled(
        asyncio.get_running_loop().run_in_executor(
            _threads(), functools.partial(function, *args, **kwargs)
        ),
        None,
    )


async def call_cancellable(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run something that waits in a thread, with a ``cancel`` that ends it."""
    cancel = Cancel()
    try:
        return await _settled(
            asyncio.get_running_loop().run_in_executor(
                _threads(), functools.partial(function, *args, cancel=cancel, **kwargs)
            ),
            cancel,
        )
    finally:
        cancel.close()


async def _settled(future: asyncio.Future[T], cancel: Cancel | None) -> T:
    """Await a thread's answer; a cancellation goes on when the thread has ended."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as err:
            cancelled = err
            if cancel is not None:
                cancel.set()
    if cancelled is None:
        return future.result()
    # Its outcome has nobody left to take it, but an error must not be reported as never seen.
    future.exception()
    raise cancelled


class AsyncStream(Generic[T]):
    """An iterator that waits, for ``async for``: one item at a time, as fast as they are taken.

    ``aclose``, or the end of an ``async with``, ends it early.

    Args:
        make: returns the iterator, given what cancels its waits.
    """

    def __init__(self, make: Callable[[Cancel], Iterator[T]]) -> None:
        self._cancel = Cancel()
        self._items = make(self._cancel)
        self._ended = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._ended:
            raise StopAsyncIteration
        future = asyncio.get_running_loop().run_in_executor(_threads(), self._next)
        try:
            item = await _settled(future, self._cancel)
        except BaseException:
            await self.aclose()
            raise
        if item is None:
            await self.aclose()
            raise StopAsyncIteration
        return item[0]

    def _next(self) -> tuple[T] | None:
        try:
            for item in self._items:
                return (item,)
        except Cancelled:
            pass
        return None

    async def __aenter__(self) -> AsyncStream[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it; what it holds open is closed."""
        self._ended = True
        close = getattr(self._items, "close", None)
        if close is not None:
            await call(close)
        self._cancel.close()


class AsyncContainer:
    """One container; see ``engine.handle.ContainerHandle`` for what each verb does.

    As an asynchronous context manager it is removed at the end.

    Args:
        handle: the container.
    """

    def __init__(self, handle: ContainerHandle) -> None:
        self.handle = handle
        self.id = handle.id

    async def __aenter__(self) -> AsyncContainer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Remove it, killed first where it runs."""
        await call(self.handle.close)

    async def status(self) -> Status:
        """Whether it runs, since when, and how it ended."""
        return await call(lambda: self.handle.status)

    async def start(self) -> None:
        """Start it again."""
        await call(self.handle.start)

    async def stop(self, *, timeout: int | None = None, signal: int | str | None = None) -> None:
        """Ask it to end, and kill it when it has not."""
        await call(self.handle.stop, timeout=timeout, signal=signal)

    async def pause(self) -> None:
        """Stop all its processes where they are."""
        await call(self.handle.pause)

    async def unpause(self) -> None:
        """Let its processes go on."""
        await call(self.handle.unpause)

    async def update(self, **limits: Any) -> None:
        """Change its limits; see ``ContainerHandle.update``."""
        await call(self.handle.update, **limits)

    async def commit(self, name: str | None = None, **options: Any) -> Image:
        """Make an image of it; see ``ContainerHandle.commit``."""
        return await call(self.handle.commit, name, **options)

    async def kill(self, signal: int | str = "KILL") -> None:
        """Send its first process a signal."""
        await call(self.handle.kill, signal)

    async def wait(self) -> ExitRecord:
        """Wait until it does not run; ``asyncio.timeout`` bounds it."""
        return await call_cancellable(self.handle.await_record)

    async def wait_for(self, *conditions: str) -> str:
        """Wait until it is in one of some states; see ``ContainerHandle.wait_for``.

        Args:
            conditions: ``running``, ``healthy``, ``exited`` …

        Returns:
            The one that is met.
        """
        met = await call_cancellable(self.handle.wait_for, *conditions)
        assert met is not None  # there is no end of the time
        return met

    async def health(self) -> Health | None:
        """How it is, as its probes found; None where it has no health check or never ran."""
        return await call(lambda: self.handle.health)

    async def exec(self, command: Sequence[str], **options: Any) -> ExecResult:
        """Run a command in it, and wait for its end. Cancelled: the command is killed.

        Args:
            command: the argument vector.
            options: those of ``ContainerHandle.exec``.
        """
        return await call_cancellable(self.handle.exec, command, **options)

    def logs(self, **options: Any) -> AsyncStream[LogEntry]:
        """Iterate over what it wrote, oldest first.

        Args:
            options: those of ``ContainerHandle.logs``.
        """
        return AsyncStream(lambda cancel: self.handle.logs(cancel=cancel, **options))

    def stats(self, interval: float = 1.0) -> AsyncStream[Stats]:
        """Iterate over what it uses, until it does not run.

        Args:
            interval: seconds in between.
        """
        return AsyncStream(lambda cancel: self.handle.stats(interval, cancel=cancel))

    async def get(self, path: str, *, limit: int | None = None) -> bytes:
        """Return the content of a file in it."""
        return await call(self.handle.get, path, limit=limit)

    async def put(self, path: str, data: bytes, **options: Any) -> None:
        """Replace a file in it, or make it.

        Args:
            path: its folder exists.
            data: the new content.
            options: those of ``ContainerHandle.put``.
        """
        await call(self.handle.put, path, data, **options)


class AsyncPool:
    """Containers that are started ahead; as an asynchronous context manager closed at the end.

    Args:
        pool: what starts them.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def __aenter__(self) -> AsyncPool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def take(self) -> AsyncContainer:
        """Return a container that runs; it is the caller's, to be closed.

        Raises:
            PycontainError: as for ``Pool.take``.
        """
        while True:
            # A cancellation waits for as long as this.
            handle = await _kept(functools.partial(self.pool.poll, _PATIENCE))
            if handle is not None:
                return AsyncContainer(handle)

    async def close(self) -> None:
        """Remove those that were not handed out, and start no more."""
        await call(self.pool.close)


async def _kept(make: Callable[[], H]) -> H:
    """Run what makes a container in a thread; cancelled, the container is removed again."""
    making = asyncio.get_running_loop().run_in_executor(_threads(), make)
    try:
        return await _settled(making, None)
    except asyncio.CancelledError:
        handle = None if making.exception() else making.result()
        if handle is not None:
            await call(handle.close)
        raise


class AsyncEngine:
    """The engine over one store, for asyncio; see ``engine.Engine``.

    Args:
        engine: what does the work; default a new one over the default store.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or Engine()

    async def run(self, image: str, command: Sequence[str] = (), **options: Any) -> RunResult:
        """Run a command in a new container, wait for it, remove the container.

        Args:
            image: as on the command line.
            command: replaces the image's.
            options: those of ``Engine.run``.
        """
        return await call_cancellable(self.engine.run, image, command, **options)

    async def start(
        self, image: str, command: Sequence[str] = (), **options: Any
    ) -> AsyncContainer:
        """Start a container in the background.

        Args:
            image: as on the command line.
            command: replaces the image's.
            options: those of ``Engine.start``.
        """
        start = functools.partial(self.engine.start, image, command, **options)
        return AsyncContainer(await _kept(start))

    def pool(self, image: str, size: int, command: Sequence[str] = (), **options: Any) -> AsyncPool:
        """Return a pool of containers that are started ahead, each handed out once.

        Args:
            image: as on the command line.
            size: how many are kept ready.
            command: what they run; nothing is an idle container.
            options: as for ``Engine.run``.
        """
        return AsyncPool(self.engine.pool(image, size, command, **options))

    async def container(self, ref: str) -> AsyncContainer:
        """Return a container that is there."""
        return AsyncContainer(await call(self.engine.container, ref))

    def events(self, **options: Any) -> AsyncStream[Event]:
        """Iterate over what happens in the store from now on; waits for what is to come.

        Args:
            options: those of ``engine.events.Events.read``.
        """
        return AsyncStream(lambda cancel: self.engine.events.read(cancel=cancel, **options))
