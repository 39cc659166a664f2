"""Health checks: when a container is probed, and what follows from what was found.

``after`` and ``next_probe`` say what docker says, from values alone. The Prober does it: for each
container that runs and has a check it waits, probes in a thread, writes down what was found, and
tells when a container has become healthy or unhealthy. What it knows is on disk, so the next
supervisor goes on where one was killed.

Source: docker's documentation of HEALTHCHECK (docs.docker.com/reference/dockerfile).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain import trace
from pycontain.engine import health as documents
from pycontain.engine import records
from pycontain.engine.cancel import Cancel
from pycontain.engine.health import SECOND
from pycontain.errors import Cancelled, InvalidState, NotFound, PycontainError, StoreError
from pycontain.model.health import Health
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine.containers import Containers, View
    from pycontain.engine.events import Events
    from pycontain.model.container import HealthCheck
    from pycontain.model.health import Probe
    from pycontain.supervisor.loop import Loop, Timer

_KEPT = 5
_KILLED = 137
_ENDING = 1.0  # seconds, of which the end of a killed container takes milliseconds


def after(probe: Probe, health: Health, check: HealthCheck, started: int) -> Health:
    """Return how a container is after one more probe.

    A failure does not count in the start period of a container that nobody has found healthy yet;
    a success counts always.

    Args:
        probe: the newest.
        health: before it.
        check: with its defaults filled in.
        started: when the container was, nanoseconds since the epoch.
    """
    health = replace(health, log=(*health.log, probe)[-_KEPT:])
    if probe.code == 0:
        return replace(health, status="healthy", streak=0)
    if health.status == "starting" and probe.start - started < check.start_period:
        return health
    streak = health.streak + 1
    status = "unhealthy" if streak >= check.retries else health.status
    return replace(health, status=status, streak=streak)


def next_probe(health: Health, check: HealthCheck, started: int) -> tuple[int, int]:
    """Return when the next probe is due, as what it is after and how long after that.

    In the start period of a container that is starting yet they come at the start interval, the
    last of them at its end.

    Returns:
        A moment in nanoseconds since the epoch, and nanoseconds.
    """
    since = health.log[-1].end if health.log else started
    left = check.start_period - (since - started)
    if health.status == "starting" and left > 0:
        return since, min(check.start_interval, left)
    return since, check.interval


class _Watch:
    """One run of a container that is being probed."""

    def __init__(self, view: View, run: str, check: HealthCheck, health: Health) -> None:
        self.container = view.container
        self.paths = view.paths
        self.run = run
        self.started = view.status.started or time.time_ns()
        self.check = check
        self.health = health
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


def _known(view: View, run: str) -> Health:
    try:
        found = documents.load(view.paths, run)
    except StoreError:
        found = None  # what a damaged one said is lost; the next probe replaces it
    return found or Health(run=run)


class Prober:
    """Probes the containers that it is shown.

    Args:
        loop: in whose thread everything here is called.
        containers: of the store.
        events: of the same.
        rested: is called when the last probe of a container that is left alone has ended.
    """

    def __init__(
        self, loop: Loop, containers: Containers, events: Events, rested: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._rested = rested
        self._containers = containers
        self._events = events
        self._watches: dict[str, _Watch] = {}

    def consider(self, view: View) -> bool:
        """Take note of a container as it is now: probe it, or leave it alone.

        Returns:
            Whether it is being cared for: it runs, and has a check.

        Raises:
            StoreError: a document of it is damaged.
        """
        identity, state = view.container.id, view.status.state
        check = documents.check_of(view.container)
        if check is None or state not in ("running", "paused"):
            self.forget(identity)
            return False
        run = records.last_run(view.paths)
        watch = self._watches.get(identity)
        if watch is None or watch.run != run:
            self.forget(identity)
            files.sweep(view.paths.state_folder)
            watch = self._watches[identity] = _Watch(view, run, check, _known(view, run))
        watch.container = view.container  # its name may have changed
        if state == "paused":
            watch.rest()
            return True
        watch.resting = False
        if watch.timer is None and watch.cancel is None:
            self._plan(watch)
        return True

    def forget(self, identity: str) -> None:
        """Leave a container alone: it is gone, or has ended."""
        watch = self._watches.pop(identity, None)
        if watch is not None:
            watch.rest()

    def _plan(self, watch: _Watch) -> None:
        """Wait for the next probe; a clock that goes back makes the wait no longer."""
        since, wait = next_probe(watch.health, watch.check, watch.started)
        left = min(since + wait - time.time_ns(), wait)
        watch.timer = self._loop.at(max(0, left) / SECOND, lambda: self._probe(watch))

    def _probe(self, watch: _Watch) -> None:
        watch.timer = None
        cancel = watch.cancel = Cancel()
        health = watch.health
        self._loop.submit(
            lambda: self._found(watch, health, cancel),
            lambda outcome: self._probed(watch, cancel, outcome),
        )

    def _found(self, watch: _Watch, health: Health, cancel: Cancel) -> Health | None:
        """Make a probe and write down what came of it, in a thread; None where that says nothing.

        What ended with the container, or stood still with it, has not failed.
        """
        identity = watch.container.id
        probe = self._containers.probe(identity, cancel=cancel)
        if probe.code == _KILLED:
            # The end of the container's first process kills the others before it is told itself
            # (pid_namespaces(7)).
            self._containers.await_end(identity, timeout=_ENDING, cancel=cancel)
        if probe.code and self._containers.get(identity).status.state != "running":
            return None
        found = after(probe, health, watch.check, watch.started)
        return found if documents.save(watch.paths, found) else None

    def _probed(
        self, watch: _Watch, cancel: Cancel, outcome: Health | BaseException | None
    ) -> None:
        watch.cancel = None
        cancel.close()
        if isinstance(outcome, Health):
            before, watch.health = watch.health, outcome
            if before.status != outcome.status:
                self._events.tell(f"health_status: {outcome.status}", watch.container)
        elif isinstance(outcome, (InvalidState, NotFound, Cancelled)):
            pass  # it was paused or has ended, which others tell
        elif isinstance(outcome, (PycontainError, OSError)):
            trace.report(f"health of {watch.container.name} is lost: {outcome}", 0.0)
        elif outcome is not None:
            raise outcome
        if watch.resting:
            self._rested()
        else:
            self._plan(watch)
