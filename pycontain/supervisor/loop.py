"""One thread that waits for descriptors and moments, and others for what blocks.

Owns the waiting, knows nothing of containers. Callbacks run in the thread of ``run``, one after the
other, so what they share needs no lock. A job of ``submit`` runs in a thread of its own and shares
nothing: its outcome comes back as a callback.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[], None]

T = TypeVar("T")

APART = 0.02
"""Seconds between looks that nobody waits for: a thread for each at once would take more time."""
_MOST_THREADS = 64  # they live while there are jobs; an idle supervisor has one thread
_STALLED = 1.0  # seconds after which jobs that nobody has taken get more threads
_MOST_TIMERS = 64  # after which those that were cancelled are looked for
_LONGEST = 86400.0  # seconds of one wait: epoll_wait(2) has an int of milliseconds, 24.8 days


class Timer:
    """A callback that is due at a moment.

    Args:
        when: seconds of the monotonic clock.
        callback: what is called then.
    """

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Call nothing; without effect once it has been called."""
        self.callback = None


class Loop:
    """Waits and calls.

    A descriptor is given with its callback, which reads it. An exception of a callback ends
    ``run`` and is raised there.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()  # of timers that are due at the same moment
        self._stopped = False
        self._jobs: deque[Callback] = deque()
        self._done: deque[Callback] = deque()
        self._threads = 0
        self._most = _MOST_THREADS
        self._taken = 0  # jobs so far
        self._stalled: Timer | None = None
        self._crowd = _MOST_TIMERS
        self._pending = 0
        self._guard = threading.Lock()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._woken, self._take_outcomes)

    @property
    def pending(self) -> int:
        """How many jobs have been submitted whose outcome was not told yet."""
        return self._pending

    def watch(self, fd: int, callback: Callback, events: int = select.EPOLLIN) -> None:
        """Call `callback` whenever `fd` is ready; a pidfd is once its process has ended.

        Args:
            fd: not watched yet. Unwatch it before it is closed.
            callback: in whose course anything may be watched and unwatched.
            events: of epoll_ctl(2).

        Raises:
            OSError: the descriptor cannot be polled.
        """
        self._epoll.register(fd, events)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no longer; nothing where it is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, seconds: float, callback: Callback) -> Timer:
        """Call `callback` once, `seconds` from now, at the next turn where that is not positive."""
        timer = Timer(time.monotonic() + max(0.0, seconds), callback)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        if len(self._timers) > self._crowd:
            self._drop_cancelled()
        return timer

    def _drop_cancelled(self) -> None:
        """One that is due in a year would stay for that long, and another for each that replaced
        it.
        """
        self._timers = [entry for entry in self._timers if entry[2].callback is not None]
        heapq.heapify(self._timers)
        self._crowd = max(_MOST_TIMERS, 2 * len(self._timers))

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` in another thread, then call `done` in this one with what came of it.

        Args:
            job: may block. It must not touch what belongs to the loop.
            done: is given what `job` returned or raised.
        """
        self._pending += 1
        with self._guard:
            self._jobs.append(lambda: self._carry_out(job, done))
            has_room = self._threads < self._most
        if not (has_room and self._grow()) and self._stalled is None:
            self._watch_for_stall()

    def _grow(self) -> bool:
        """Start another thread; False where a limit of tasks is reached (pthread_create(3))."""
        with self._guard:
            self._threads += 1
        try:
            threading.Thread(target=self._work, daemon=True).start()
        except RuntimeError:
            with self._guard:
                self._threads -= 1
            return False
        return True

    def _watch_for_stall(self) -> None:
        taken = self._taken
        self._stalled = self.at(_STALLED, lambda: self._outgrow(taken))

    def _outgrow(self, taken: int) -> None:
        """Give jobs that wait threads of their own, where those that there are take none any more:
        what they are at, as a hook, may never end.
        """
        self._stalled = None
        waiting = len(self._jobs)
        if not waiting:
            self._most = max(_MOST_THREADS, self._threads)
            return
        if self._taken == taken:
            self._most = max(_MOST_THREADS, self._threads + min(waiting, _MOST_THREADS))
            for _ in range(min(waiting, _MOST_THREADS)):
                if not self._grow():
                    break
        self._watch_for_stall()

    def _work(self) -> None:
        """Carry out jobs until there is none, and end."""
        while True:
            with self._guard:
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
                self._taken += 1
            job()

    def _carry_out(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        outcome: T | BaseException
        try:
            outcome = job()
        except BaseException as err:  # noqa: BLE001 - it is the submitter's
            outcome = err
        self._done.append(lambda: done(outcome))
        os.eventfd_write(self._woken, 1)

    def _take_outcomes(self) -> None:
        os.eventfd_read(self._woken)
        for _ in range(len(self._done)):
            told = self._done.popleft()
            self._pending -= 1
            told()

    def run(self) -> None:
        """Wait and call until ``stop``, which may have been before."""
        while not self._stopped:
            self._turn()

    def stop(self) -> None:
        """Let ``run`` return after the present callback."""
        self._stopped = True

    def _turn(self) -> None:
        for fd, _ in self._epoll.poll(self._timeout()):
            callback = self._watched.get(fd)
            # None: an earlier callback of this turn has unwatched it.
            if callback is not None and not self._stopped:
                callback()
        self._call_due()

    def _timeout(self) -> float | None:
        """Seconds until the next timer, or the next look at it; None where there is none."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return min(max(0.0, self._timers[0][0] - time.monotonic()), _LONGEST)

    def _call_due(self) -> None:
        now = time.monotonic()
        while not self._stopped and self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def close(self) -> None:
        """Give the loop's own descriptors back; no job may be under way."""
        self._epoll.close()
        os.close(self._woken)
