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
    from pycontain.model.container import ExitRecord
    from pycontain.model.result import ExecResult, RunResult
    from pycontain.model.status import Status

    P = ParamSpec("P")

T = TypeVar("T")

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
        self._make = make
        self._cancel: Cancel | None = None
        self._items: Iterator[T] | None = None
        self._ended = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._ended:
            raise StopAsyncIteration
        if self._cancel is None:
            self._cancel = Cancel()
        future = asyncio.get_running_loop().run_in_executor(_threads(), self._next, self._cancel)
        try:
            item = await _settled(future, self._cancel)
        except BaseException:
            await self.aclose()
            raise
        if item is None:
            await self.aclose()
            raise StopAsyncIteration
        return item[0]

    def _next(self, cancel: Cancel) -> tuple[T] | None:
        if self._items is None:
            self._items = self._make(cancel)
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
        items, self._items = self._items, None
        cancel, self._cancel = self._cancel, None
        close = getattr(items, "close", None)
        if close is not None:
            await call(close)
        if cancel is not None:
            cancel.close()


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

    async def kill(self, signal: int | str = "KILL") -> None:
        """Send its first process a signal."""
        await call(self.handle.kill, signal)

    async def wait(self) -> ExitRecord:
        """Wait until it does not run; ``asyncio.timeout`` bounds it."""
        return await call_cancellable(self.handle.await_record)

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
        starting = asyncio.get_running_loop().run_in_executor(
            _threads(), functools.partial(self.engine.start, image, command, **options)
        )
        try:
            return AsyncContainer(await _settled(starting, None))
        except asyncio.CancelledError:
            # It was started all the same, and nobody has it.
            if starting.exception() is None:
                await call(starting.result().close)
            raise

    async def container(self, ref: str) -> AsyncContainer:
        """Return a container that is there."""
        return AsyncContainer(await call(self.engine.container, ref))
