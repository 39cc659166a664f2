"""What all probes of containers have in common: when one is made, in which thread, and who hears.

A *series* is what is asked of one run of a container, again and again; it knows when its next probe
is due and what follows from one. A Prober has the series of all containers of one kind of checks:
it waits, has probes made in threads, and lets those of paused containers rest.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from pycontain import trace
from pycontain.engine import records
from pycontain.engine.cancel import Cancel
from pycontain.errors import Cancelled, InvalidState, NotFound, PycontainError
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.engine.containers import Containers, View
    from pycontain.model.container import Container
    from pycontain.model.health import Probe
    from pycontain.supervisor.loop import Loop, Timer

SECOND = 1_000_000_000
_KILLED = 137
_AGAIN = 0.1  # seconds after a probe that says nothing
_FAILED = 1.0  # seconds after one that could not be made, or noted, as on a full disk
_ENDING = 1.0  # seconds, of which the end of a killed container takes milliseconds


class Series(Protocol):
    """What is asked of one run of a container, again and again.

    Attributes:
        container: as it is called now.
    """

    container: Container

    def due(self) -> tuple[int, int] | None:
        """Return when the next probe is due, as what it is after and how long after that.

        Returns:
            A moment in nanoseconds since the epoch, and nanoseconds; None: not before another
            series has got further.
        """

    def make(self, cancel: Cancel) -> bool:
        """Make a probe and write down what came of it; in a thread.

        Returns:
            Whether it says anything; it does not of what ended, or stood still, meanwhile.

        Raises:
            InvalidState, NotFound: the container does not run any more, or is paused.
            Cancelled: by `cancel`.
        """

    def tell(self) -> None:
        """Tell what has changed by the newest probe that says anything."""


class _Watch:
    """A series that is under way."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.timer: Timer | None = None
        self.cancel: Cancel | None = None
        self.resting = False

    def rest(self) -> None:
        """Make no probe any more; one that is under way is killed."""
        self.resting = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.cancel is not None:
            self.cancel.set()


class Prober(ABC):
    """Probes the containers that it is shown; one of the supervisor's parts.

    Args:
        loop: in whose thread everything here is called.
        rested: is called when the last probe of a container that is left alone has ended.
    """

    def __init__(self, loop: Loop, rested: Callable[[], None]) -> None:
        self._loop = loop
        self._rested = rested
        self._watches: dict[str, tuple[str, Sequence[_Watch]]] = {}  # with the run

    @abstractmethod
    def is_asked(self, view: View) -> bool:
        """Return whether anything is asked of a container that runs."""

    @abstractmethod
    def begin(self, view: View, run: str) -> Sequence[Series]:
        """Return what is asked of a run, going on with what is known of it."""

    def consider(self, view: View) -> bool:
        """Take note of a container as it is now: probe it, or leave it alone.

        Returns:
            Whether it is being cared for: it runs, and something is asked of it.

        Raises:
            StoreError: a document of it is damaged.
        """
        identity, state = view.container.id, view.status.state
        if state not in ("running", "paused") or not self.is_asked(view):
            self.forget(identity)
            return False
        run = records.last_run(view.paths)
        if self._watches.get(identity, ("", ()))[0] != run:
            self.forget(identity)
            files.sweep(view.paths.state_folder)
            watches = [_Watch(series) for series in self.begin(view, run)]
            self._watches[identity] = run, watches
        for watch in self._watches[identity][1]:
            watch.series.container = view.container  # its name may have changed
            if state == "paused":
                watch.rest()
            else:
                watch.resting = False
                self._plan(watch)
        return True

    def forget(self, identity: str) -> None:
        """Leave a container alone: it is gone, or has ended."""
        for watch in self._watches.pop(identity, ("", ()))[1]:
            watch.rest()

    def _plan(self, watch: _Watch, least: float = 0.0) -> None:
        """Wait for the next probe, `least` seconds; a clock that goes back makes it no longer."""
        if watch.resting or watch.timer is not None or watch.cancel is not None:
            return
        due = watch.series.due()
        if due is not None:
            since, wait = due
            left = min(since + wait - time.time_ns(), wait)
            watch.timer = self._loop.at(max(least, left / SECOND), lambda: self._probe(watch))

    def _probe(self, watch: _Watch) -> None:
        watch.timer = None
        cancel = watch.cancel = Cancel()
        self._loop.submit(
            lambda: watch.series.make(cancel), lambda outcome: self._probed(watch, cancel, outcome)
        )

    def _probed(self, watch: _Watch, cancel: Cancel, outcome: bool | BaseException) -> None:
        watch.cancel = None
        cancel.close()
        least = 0.0 if outcome is True else _AGAIN
        if outcome is True:
            watch.series.tell()
        elif isinstance(outcome, (InvalidState, NotFound, Cancelled)):
            pass  # it was paused or has ended, which others tell
        elif isinstance(outcome, (PycontainError, OSError)):
            trace.report(f"a probe of {watch.series.container.name} is lost: {outcome}", 0.0)
            least = _FAILED
        elif isinstance(outcome, BaseException):
            raise outcome
        if watch.resting:
            self._rested()
        else:
            self._plan(watch, least)
        # Others may have waited for what this one has found.
        for other in self._watches.get(watch.series.container.id, ("", (watch,)))[1]:
            self._plan(other)


def is_void(containers: Containers, identity: str, probe: Probe, cancel: Cancel) -> bool:
    """Return whether a probe says nothing: it failed as the container ended, or stood still."""
    if probe.code == _KILLED:
        # The end of the container's first process kills the others before it is told itself
        # (pid_namespaces(7)).
        containers.await_end(identity, timeout=_ENDING, cancel=cancel)
    return bool(probe.code) and containers.get(identity).status.state != "running"
