"""Containers that are started before they are needed."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pycontain.engine.handle import ContainerHandle
from pycontain.errors import InvalidInput, InvalidState, PycontainError

if TYPE_CHECKING:
    from types import TracebackType

    from pycontain.engine.containers import Containers
    from pycontain.model.container import RunOptions


class Pool:
    """A number of running containers, each handed out once; a thread starts what replaces it.

    They end with the calling process, whatever ends that. As a context manager it is closed at the
    end. Usable from any thread::

        with Engine().pool("busybox", 4) as pool:
            with pool.take() as box:
                box.exec(["echo", "hello"])

    Args:
        containers: of the store.
        options: what each of them is asked for.
        size: how many are kept ready.

    Raises:
        InvalidInput: a size below 1.
    """

    def __init__(self, containers: Containers, options: RunOptions, size: int) -> None:
        if size < 1:
            raise InvalidInput(f"pool of {options.image}: size {size}: must be at least 1")
        self._containers = containers
        self._options = options
        self._size = size
        self._ready: deque[ContainerHandle] = deque()
        self._failure: PycontainError | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fill, name="pycontain-pool", daemon=True)
        self._thread.start()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many are ready."""
        with self._changed:
            return len(self._ready)

    def take(self, timeout: float | None = None) -> ContainerHandle:
        """Return a container that runs; it is the caller's, to be closed.

        Args:
            timeout: seconds to wait for one; None for ever.

        Raises:
            InvalidState: the pool is closed, or none was ready in time.
            PycontainError: why none can be started. The next call has it tried again.
        """
        handle = self.poll(timeout)
        if handle is None:
            raise InvalidState(f"pool of {self._options.image}: none is ready after {timeout:g} s")
        return handle

    def poll(self, timeout: float | None) -> ContainerHandle | None:
        """Return a container as ``take`` does; None when none was ready in time.

        Args:
            timeout: seconds to wait for one; None for ever.

        Raises:
            InvalidState: the pool is closed.
            PycontainError: as for ``take``.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._ready or self._failure or self._closed, timeout=timeout
            )
            if self._closed:
                raise InvalidState(f"pool of {self._options.image}: closed")
            if self._ready:
                handle = self._ready.popleft()
                self._changed.notify_all()
                return handle
            failure, self._failure = self._failure, None
            self._changed.notify_all()
        if failure is not None:
            raise failure
        return None

    def close(self) -> None:
        """Remove those that were not handed out, and start no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        while self._ready:
            self._ready.popleft().close()

    def _wanted(self) -> bool:
        return len(self._ready) < self._size and self._failure is None

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted())
                if self._closed:
                    return
            try:
                container, _ = self._containers.run(self._options, attach=False, leash=True)
            except PycontainError as err:
                with self._changed:
                    self._failure = err
                    self._changed.notify_all()
                continue
            with self._changed:
                self._ready.append(ContainerHandle(self._containers, container.id))
                self._changed.notify_all()
