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
    from pycontain.errors import PycontainError
    from pycontain.image.store import Image
    from pycontain.model import kube
    from pycontain.model.container import ExitRecord, PortBinding, RunOptions
    from pycontain.model.event import Event
    from pycontain.model.health import Health
    from pycontain.model.kube_status import DeploymentStatus, PodStatus
    from pycontain.model.pod import Pod
    from pycontain.model.probe import ProbeState
    from pycontain.model.result import ExecResult, RunResult
    from pycontain.model.stats import Stats
    from pycontain.model.status import Status
    from pycontain.pod.declared import Declared
    from pycontain.pod.play import Applied, Kube
    from pycontain.pod.pods import Failed, Pods, PodView

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

    async def probe_state(self) -> ProbeState:
        """Whether it has started and can be used, as its startup and readiness probes found."""
        return await call(lambda: self.handle.probe_state)

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


class AsyncPods:
    """The pods of one store; see ``pod.pods.Pods`` for what each verb does.

    Args:
        pods: what does the work.
    """

    def __init__(self, pods: Pods) -> None:
        self.pods = pods

    async def create(self, name: str | None = None, **options: Any) -> Pod:
        """Make a pod; nothing of it runs before its first start.

        Args:
            name: none is one that nobody chose.
            options: those of ``Pods.create``.
        """
        return await call(self.pods.create, name, **options)

    async def member(self, ref: str, options: RunOptions) -> RunOptions:
        """Return the options of a container that is to be in a pod."""
        return await call(self.pods.member, ref, options)

    async def find(self, ref: str) -> str:
        """Return the id of a pod by its id, name, or unique start of its id."""
        return await call(self.pods.find, ref)

    async def exists(self, ref: str) -> bool:
        """Return whether there is such a pod."""
        return await call(self.pods.exists, ref)

    async def names(self) -> dict[str, str]:
        """Return what pods are called: id → name."""
        return await call(self.pods.names)

    async def get(self, ref: str) -> PodView:
        """Return a pod and its state."""
        return await call(self.pods.get, ref)

    async def list(self, problems: list[PycontainError] | None = None) -> Views:
        """Return the pods, newest first."""
        return await call(self.pods.list, problems)

    async def start(self, ref: str) -> Sequence[Failed]:
        """Start a pod; returns the containers that could not be started."""
        return await call(self.pods.start, ref)

    async def stop(self, ref: str, *, timeout: int | None = None) -> Sequence[Failed]:
        """Stop a pod; returns the containers that could not be stopped.

        Args:
            ref: id, name or start of the id.
            timeout: seconds before a container is killed; None is each one's own.
        """
        return await call(self.pods.stop, ref, timeout=timeout)

    async def restart(self, ref: str) -> Sequence[Failed]:
        """Stop a pod if it runs, and start it."""
        return await call(self.pods.restart, ref)

    async def kill(self, ref: str, number: int) -> Sequence[Failed]:
        """Send a signal to the first process of each container that runs."""
        return await call(self.pods.kill, ref, number)

    async def pause(self, ref: str) -> Sequence[Failed]:
        """Freeze the processes of all containers that run."""
        return await call(self.pods.pause, ref)

    async def unpause(self, ref: str) -> Sequence[Failed]:
        """Let the processes of all paused containers go on."""
        return await call(self.pods.unpause, ref)

    async def remove(self, ref: str, *, force: bool = False) -> str:
        """Remove a pod and its containers; returns its id."""
        return await call(self.pods.remove, ref, force=force)

    async def prune(self, accept: Callable[[Pod], bool] = lambda _: True) -> Sequence[str]:
        """Remove the pods that have run and do not any more.

        Args:
            accept: which of them; it is called in another thread.

        Returns:
            Their ids.
        """
        return await call(self.pods.prune, accept)

    async def ports(self, view: PodView) -> tuple[PortBinding, ...]:
        """Return the ports of the host that lead to a pod; none while it does not run."""
        return await call(self.pods.ports, view)


if TYPE_CHECKING:
    # In the class, "list" is its method.
    Views = list[PodView]


class AsyncKube:
    """What is declared in one store; see ``pod.play.Kube`` for what each verb does.

    Args:
        verbs: what does the work.
    """

    def __init__(self, verbs: Kube) -> None:
        self.verbs = verbs

    async def check(self, objects: Sequence[kube.Object]) -> None:
        """Raise what would keep objects from being declared, as far as it is known beforehand."""
        await call(self.verbs.check, objects)

    async def play(self, objects: Sequence[kube.Object], **options: Any) -> Sequence[Applied]:
        """Declare objects that are not there yet, and begin to make them true.

        Args:
            objects: as ``manifest.parse`` returns them.
            options: those of ``Kube.play``.
        """
        return await call(self.verbs.play, objects, **options)

    async def apply(self, objects: Sequence[kube.Object], **options: Any) -> Sequence[Applied]:
        """Declare objects, in place of what is declared under their names.

        Args:
            objects: as ``manifest.parse`` returns them.
            options: those of ``Kube.apply``.
        """
        return await call(self.verbs.apply, objects, **options)

    async def down(
        self, objects: Sequence[kube.Object], *, force: bool = False
    ) -> Sequence[Declared]:
        """Take objects back, and wait until nothing is left of them."""
        return await call(self.verbs.down, objects, force=force)

    async def delete(self, kind: str, name: str) -> Declared:
        """Take an object back, and wait until nothing is left of it."""
        return await call(self.verbs.delete, kind, name)

    async def get(self, kind: str, name: str) -> Declared:
        """Return an object as it is declared."""
        return await call(self.verbs.get, kind, name)

    async def objects(
        self, kind: str | None = None, problems: list[PycontainError] | None = None
    ) -> Sequence[Declared]:
        """Return what is declared, by kind and name."""
        return await call(self.verbs.objects, kind, problems)

    async def status(self, kind: str, name: str) -> PodStatus | DeploymentStatus:
        """Return how a Pod or a Deployment is, in Kubernetes' words."""
        return await call(self.verbs.status, kind, name)

    async def boot(self, problems: list[PycontainError] | None = None) -> Sequence[Declared]:
        """Keep what is declared from now on in this boot, and begin with the Pods."""
        return await call(self.verbs.boot, problems)

    async def shutdown(
        self, problems: list[PycontainError] | None = None, *, timeout: int | None = None
    ) -> Sequence[str]:
        """End all containers and pods, also those that are not declared."""
        return await call(self.verbs.shutdown, problems, timeout=timeout)

    async def await_ready(self, names: Sequence[tuple[str, str]]) -> None:
        """Wait until Pods and Deployments are ready; ``asyncio.timeout`` bounds it."""
        await call_cancellable(self.verbs.await_ready, names)


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

    @property
    def pods(self) -> AsyncPods:
        """The pods of the store."""
        from pycontain.pod.pods import Pods

        return AsyncPods(Pods(self.engine))

    @property
    def kube(self) -> AsyncKube:
        """What is declared in the store."""
        from pycontain.pod.play import Kube

        return AsyncKube(Kube(self.engine))

    async def container(self, ref: str) -> AsyncContainer:
        """Return a container that is there."""
        return AsyncContainer(await call(self.engine.container, ref))

    def events(self, **options: Any) -> AsyncStream[Event]:
        """Iterate over what happens in the store from now on; waits for what is to come.

        Args:
            options: those of ``engine.events.Events.read``.
        """
        return AsyncStream(lambda cancel: self.engine.events.read(cancel=cancel, **options))
