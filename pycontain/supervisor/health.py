"""Health checks: when a container is probed, and what follows from what was found.

``after`` and ``next_probe`` say what docker says, from values alone. For each container that runs
and has a check probes are made (``probing``), what was found is written down, and it is told when a
container has become healthy or unhealthy. What is known is on disk, so the next supervisor goes on
where one was killed.

Source: docker's documentation of HEALTHCHECK (docs.docker.com/reference/dockerfile).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.engine import health as documents
from pycontain.errors import StoreError
from pycontain.model.health import Health
from pycontain.supervisor.probing import Prober, is_void

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers, View
    from pycontain.engine.events import Events
    from pycontain.model.container import HealthCheck
    from pycontain.model.health import Probe
    from pycontain.supervisor.loop import Loop
    from pycontain.supervisor.probing import Series

_KEPT = 5


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


def _known(view: View, run: str) -> Health:
    try:
        found = documents.load(view.paths, run)
    except StoreError:
        found = None  # what a damaged one said is lost; the next probe replaces it
    return found or Health(run=run)


class _Checks:
    """The probes of one run of a container that has a health check."""

    def __init__(
        self, containers: Containers, events: Events, view: View, run: str, check: HealthCheck
    ) -> None:
        self.container = view.container
        self._containers = containers
        self._events = events
        self._paths = view.paths
        self._started = view.status.started or time.time_ns()
        self._check = check
        self._health = _known(view, run)
        self._told = self._health.status

    def due(self) -> tuple[int, int]:
        """Return when the next probe is due."""
        return next_probe(self._health, self._check, self._started)

    def make(self, cancel: Cancel) -> bool:
        """Make a probe and write down what came of it."""
        identity = self.container.id
        probe = self._containers.probe(identity, cancel=cancel)
        if is_void(self._containers, identity, probe, cancel):
            return False
        found = after(probe, self._health, self._check, self._started)
        if not documents.save(self._paths, found):
            return False
        self._health = found
        return True

    def tell(self) -> None:
        """Tell that it has become healthy or unhealthy."""
        if self._told != self._health.status:
            self._told = self._health.status
            self._events.tell(f"health_status: {self._told}", self.container)


class HealthProber(Prober):
    """Makes the health checks of the containers that it is shown.

    Args:
        loop: in whose thread everything here is called.
        containers: of the store.
        events: of the same.
        rested: is called when the last probe of a container that is left alone has ended.
    """

    def __init__(
        self, loop: Loop, containers: Containers, events: Events, rested: Callable[[], None]
    ) -> None:
        super().__init__(loop, rested)
        self._containers = containers
        self._events = events

    def is_asked(self, view: View) -> bool:
        """Return whether a container has a health check."""
        return documents.check_of(view.container) is not None

    def begin(self, view: View, run: str) -> Sequence[Series]:
        """Return the one series of a run."""
        check = documents.check_of(view.container)
        assert check is not None
        return (_Checks(self._containers, self._events, view, run, check),)
