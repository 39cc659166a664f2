"""Startup, liveness and readiness probes: when they are made, and what follows from what was found.

``after`` and ``next_probe`` say what Kubernetes says, from values alone. What is known of a run is
on disk, ``probes.json``, so the next supervisor goes on where one was killed, with its streaks; and
with ending a container that it had found unwell.

Source: Kubernetes' documentation of probes (kubernetes.io, "Configure Liveness, Readiness and
Startup Probes"; core/v1 ``Probe``).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from pycontain.engine import hooks
from pycontain.engine import probes as documents
from pycontain.errors import StoreError
from pycontain.model.probe import ProbeRecord, Streak
from pycontain.supervisor.probing import SECOND, Prober, is_void

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers, View
    from pycontain.engine.events import Events
    from pycontain.model.health import Probe
    from pycontain.model.probe import ProbeCheck, Probes
    from pycontain.store.layout import Layout
    from pycontain.supervisor.loop import Loop
    from pycontain.supervisor.probing import Series

    Kind = Literal["startup", "liveness", "readiness"]

KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")


# ---- by value ----


def after(probes: Probes, kind: Kind, probe: Probe, record: ProbeRecord) -> ProbeRecord:
    """Return what is known of a run after one more probe.

    Args:
        probes: of the container.
        kind: of the probe, of which there is one.
        probe: the newest.
        record: before it.
    """
    check = _check(probes, kind)
    before: Streak = getattr(record, kind)
    good = probe.code == 0
    count = max(before.count, 0) + 1 if good else min(before.count, 0) - 1
    record = replace(
        record,
        message=_message(kind, probe, record.message),
        **{kind: Streak(count=count, last=probe.start)},
    )
    if good and count >= check.successes:
        return _succeeded(probes, kind, record, probe.end)
    if not good and -count >= check.failures:
        return _failed(kind, record, probe.end)
    return record


def _check(probes: Probes, kind: Kind) -> ProbeCheck:
    check: ProbeCheck | None = getattr(probes, kind)
    assert check is not None
    return check


def _message(kind: Kind, probe: Probe, before: str) -> str:
    begin = f"{kind} probe failed: "
    if probe.code:
        return begin + (" ".join(probe.output.split()) or f"exit code {probe.code}")
    return "" if before.startswith(begin) else before


def _succeeded(probes: Probes, kind: Kind, record: ProbeRecord, now: int) -> ProbeRecord:
    if kind == "startup":
        return _ready(replace(record, started=True), probes.readiness is None, now)
    return _ready(record, True, now) if kind == "readiness" else record


def _failed(kind: Kind, record: ProbeRecord, now: int) -> ProbeRecord:
    if kind != "readiness":
        record = replace(record, failed=kind)
    return _ready(record, False, now)


def _ready(record: ProbeRecord, ready: bool, now: int) -> ProbeRecord:
    return record if record.ready == ready else replace(record, ready=ready, since=now)


def next_probe(
    probes: Probes, kind: Kind, record: ProbeRecord, started: int
) -> tuple[int, int] | None:
    """Return when the next probe of a kind is due, as what it is after and how long after that.

    The startup probe is made until it has succeeded, the others after that.

    Args:
        probes: of the container.
        kind: of which there is one.
        record: what is known of the run.
        started: when the container was, nanoseconds since the epoch.

    Returns:
        A moment in nanoseconds since the epoch, and nanoseconds; None: not as things are.
    """
    if record.failed or (kind == "startup") == record.started:
        return None
    check = _check(probes, kind)
    last: int = getattr(record, kind).last
    return (last, check.period * SECOND) if last else (started, check.initial_delay * SECOND)


# ---- doing it ----


def _known(view: View, run: str) -> ProbeRecord:
    try:
        found = documents.load(view.paths, run)
    except StoreError:
        found = None  # what a damaged one said is lost; the next probe replaces it
    return found or documents.begin(view.container, run)


class _Run:
    """One run of a container that has probes: what all of them found."""

    def __init__(
        self, containers: Containers, layout: Layout, events: Events, view: View, run: str
    ) -> None:
        probes = view.container.options.probes
        assert probes is not None
        self.containers = containers
        self.layout = layout
        self.events = events
        self.view = view
        self.probes = probes
        self.started = view.status.started or time.time_ns()
        self.record = self._told = _known(view, run)
        self._guard = threading.Lock()  # its series have threads of their own

    def take(self, kind: Kind, probe: Probe) -> bool:
        """Write down what came of a probe; False where the run is over."""
        with self._guard:
            if self.record.failed:
                return False
            found = after(self.probes, kind, probe, self.record)
            if found.failed and documents.is_ending(self.view.paths, self.record.run):
                # Somebody stops it: only the streak is noted, lest that one is killed.
                found = replace(found, failed="", ready=self.record.ready, since=self.record.since)
            if not documents.save(self.view.paths, found):
                return False
            self.record = found
        return True

    def tell(self) -> None:
        """Tell what has changed since this was called last."""
        before, now = self._told, self.record
        container = self.view.container
        self._told = now
        if now.started and not before.started:
            self.events.tell("probe_status: started", container)
        if now.failed and not before.failed:
            self.events.tell("probe_status: unhealthy", container, message=now.message)
        if now.ready and not before.ready:
            self.events.tell("probe_status: ready", container)
        if before.ready and not now.ready:
            self.events.tell("probe_status: unready", container, message=now.message)


class _Asking:
    """The probes of one kind of a run."""

    def __init__(self, run: _Run, kind: Kind) -> None:
        self.container = run.view.container
        self._run = run
        self._kind: Kind = kind

    def due(self) -> tuple[int, int] | None:
        """Return when the next probe is due."""
        run = self._run
        return next_probe(run.probes, self._kind, run.record, run.started)

    def make(self, cancel: Cancel) -> bool:
        """Make a probe and write down what came of it."""
        from pycontain.engine import actions

        run, check = self._run, _check(self._run.probes, self._kind)
        probe = actions.carry_out(
            run.containers, run.layout, run.view, check.action, check.timeout, cancel
        )
        if is_void(run.containers, self.container.id, probe, cancel):
            return False
        return run.take(self._kind, probe)

    def tell(self) -> None:
        """Tell what has changed."""
        self._run.view = self._run.view._replace(container=self.container)
        self._run.tell()


class _Ending:
    """What follows a failed startup or liveness probe: the container is ended."""

    def __init__(self, run: _Run) -> None:
        self.container = run.view.container
        self._run = run

    def due(self) -> tuple[int, int] | None:
        """Return that it is now, where one of them has failed."""
        return (0, 0) if self._run.record.failed else None

    def make(self, cancel: Cancel) -> bool:  # noqa: ARG002 - what has failed is ended
        """End the container."""
        run, kind = self._run, self._run.record.failed
        assert kind
        grace = _check(run.probes, kind).grace
        run.containers.end(self.container.id, run.record.run, timeout=grace)
        return False

    def tell(self) -> None:
        """Tell nothing: the end is told by others."""


class Probing(Prober):
    """Makes the probes of the containers that it is shown, once their postStart hooks have ended.

    Args:
        loop: in whose thread everything here is called.
        layout: of the store.
        containers: of the same store.
        events: of the same store.
        rested: is called when the last probe of a container that is left alone has ended.
    """

    def __init__(
        self,
        loop: Loop,
        layout: Layout,
        containers: Containers,
        events: Events,
        rested: Callable[[], None],
    ) -> None:
        super().__init__(loop, rested)
        self._layout = layout
        self._containers = containers
        self._events = events

    def is_asked(self, view: View) -> bool:
        """Return whether a container has probes, and is to be probed already."""
        return view.container.options.probes is not None and hooks.has_begun(view)

    def begin(self, view: View, run: str) -> Sequence[Series]:
        """Return the series of a run: one of each kind that there is, and its end."""
        found = _Run(self._containers, self._layout, self._events, view, run)
        asked = [_Asking(found, kind) for kind in KINDS if getattr(found.probes, kind) is not None]
        return [*asked, _Ending(found)]
