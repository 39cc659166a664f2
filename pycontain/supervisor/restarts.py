"""Containers that are started again when they end, as their restart policies say.

What follows an end is decided by value, ``next_step``, and kept before it is done: who is killed in
between leaves a record from which the next supervisor goes on.

The first restart of a series is immediate; then they wait as docker's do: 100 ms, twice as long
each time, a minute at most. A run of 10 s ends the series. Those of a policy with ``crash_loop``
wait as Kubernetes' do: 10 s, twice as long each time, 5 minutes at most, till a run of 10 minutes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from pycontain.engine import records, supervision
from pycontain.errors import NotFound, PycontainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine.containers import Containers, View
    from pycontain.model.container import Container, ExitRecord, RestartPolicy, RestartRecord
    from pycontain.store.layout import Layout
    from pycontain.supervisor.loop import Loop, Timer

_SECOND = 1_000_000_000
_AGAIN = 1.0  # seconds until one is looked at again whose sandbox did not run, or a step failed


class _Waits(NamedTuple):
    """How the waits of a series grow, in nanoseconds.

    Attributes:
        first: of the second restart.
        last: of the later ones.
        long: a run that did well: it ends the series.
    """

    first: int
    last: int
    long: int


_DOCKER = _Waits(_SECOND // 10, 60 * _SECOND, 10 * _SECOND)
_KUBERNETES = _Waits(10 * _SECOND, 300 * _SECOND, 600 * _SECOND)


def _waits(policy: RestartPolicy | None) -> _Waits:
    return _KUBERNETES if policy is not None and policy.crash_loop else _DOCKER


class Restart(NamedTuple):
    """The container is started again.

    Attributes:
        record: what is kept of the decision.
        after: nanoseconds from now.
    """

    record: RestartRecord
    after: int


class Leave(NamedTuple):
    """The container is left as it is.

    Attributes:
        record: what is kept of the decision.
    """

    record: RestartRecord


def delay(series: int, policy: RestartPolicy | None = None) -> int:
    """Return how long a restart waits, in nanoseconds, after so many others of its series."""
    waits = _waits(policy)
    return min(waits.first << min(series - 1, 10), waits.last) if series > 0 else 0


def next_step(
    policy: RestartPolicy | None, record: RestartRecord, ended: ExitRecord, now: int
) -> Restart | Leave:
    """Return what follows the end of a container's last run.

    Args:
        policy: the container's; None is ``no``.
        record: what was decided so far.
        ended: how the run ended.
        now: nanoseconds since the epoch.
    """
    if supervision.is_due(record, ended.run):
        if not supervision.is_wanted(policy, record.count - 1, ended):
            return Leave(replace(record, due=0))
        # The clock may have been set meanwhile.
        return Restart(record, max(0, min(record.due - now, delay(record.series - 1, policy))))
    if not supervision.is_undecided(record, ended):
        return Leave(record)
    if not supervision.is_wanted(policy, record.count, ended):
        return Leave(replace(record, run=ended.run, due=0))
    series = 0 if _ran_long(policy, ended) else record.series
    return _again(policy, replace(record, run=ended.run), series, now)


def after_failure(policy: RestartPolicy | None, record: RestartRecord, now: int) -> Restart | Leave:
    """Return what follows an attempt that failed before there was a run.

    Args:
        policy: the container's; None is ``no``.
        record: what was decided, and is due.
        now: nanoseconds since the epoch.
    """
    if policy is None or (policy.most and record.count >= policy.most):
        return Leave(replace(record, due=0))
    return _again(policy, record, record.series, now)


def _again(policy: RestartPolicy | None, record: RestartRecord, series: int, now: int) -> Restart:
    after = delay(series, policy)
    kept = replace(record, count=record.count + 1, series=series + 1, due=now + after)
    return Restart(kept, after)


def _ran_long(policy: RestartPolicy | None, ended: ExitRecord) -> bool:
    if ended.started is None or ended.finished is None:
        return False
    return ended.finished - ended.started >= _waits(policy).long


class Restarts:
    """Starts containers again; one of the supervisor's parts.

    Args:
        layout: of the store.
        containers: of the same store.
        loop: the supervisor's.
        look: asks the supervisor to look at a container again.
    """

    def __init__(
        self, layout: Layout, containers: Containers, loop: Loop, look: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._containers = containers
        self._loop = loop
        self._look = look
        self._due: dict[str, tuple[str, Timer]] = {}  # with the run after which it is
        self._under_way: set[str] = set()

    def consider(self, view: View) -> bool:
        """Take note of how a container is; return whether it has to be cared for."""
        identity, status = view.container.id, view.status
        policy = view.container.options.restart
        if policy is None or status.state in ("running", "paused"):
            self.forget(identity)
            return policy is not None
        if identity in self._under_way:
            return True
        if status.record is None and supervision.is_begun_again(view.paths):
            self._begin(identity)  # and was lost, unless somebody is at it
            return True
        if status.record is None or not supervision.ran_in_this_boot(view.paths):
            return False
        record = supervision.load(view.paths)
        ended = supervision.judged(view.container, view.paths, status.record)
        step = next_step(policy, record, ended, time.time_ns())
        if isinstance(step, Leave) and step.record == record:
            self.forget(identity)
            return False
        if self._is_its_pods(view.container):
            self.forget(identity)
            if isinstance(step, Leave):
                return False
            # Where its containers outlive it, the sandbox is taken over, and nothing is started.
            self._look_later(identity)
            return True
        if identity not in self._due or self._due[identity][0] != status.record.run:
            self.forget(identity)
            self._begin(identity)
        return True

    def _look_later(self, identity: str) -> None:
        self.forget(identity)
        self._due[identity] = "", self._loop.at(_AGAIN, lambda: self._look(identity))

    def forget(self, identity: str) -> None:
        """Let a container be: it runs, or is not there any more."""
        _, timer = self._due.pop(identity, (None, None))
        if timer is not None:
            timer.cancel()

    def _is_its_pods(self, container: Container) -> bool:
        """Whether a container's pod is kept as declared, and what the containers share is gone: its
        controller starts that, and then the containers in their order.
        """
        if not container.options.is_kept:
            return False
        from pycontain.engine import sandbox

        return sandbox.state(self._layout, container.options.pod) != "running"

    def _begin(self, identity: str) -> None:
        self._due.pop(identity, None)
        self._under_way.add(identity)

        def done(outcome: tuple[str, int] | BaseException | None) -> None:
            self._under_way.discard(identity)
            self._ended(identity, outcome)

        self._loop.submit(lambda: self._carry_out(identity), done)

    def _ended(self, identity: str, outcome: tuple[str, int] | BaseException | None) -> None:
        # What went wrong is met again, and told apart, when the container is looked at.
        if isinstance(outcome, BaseException) and not isinstance(
            outcome, (PycontainError, OSError)
        ):
            raise outcome
        if isinstance(outcome, BaseException):
            # Not at once: a full disk stays full, and nothing of it could be noted.
            self._look_later(identity)
            return
        if isinstance(outcome, tuple):
            run, after = outcome
            timer = self._loop.at(after / 1e9, lambda: self._begin(identity))
            self._due[identity] = (run, timer)
        self._look(identity)

    def _carry_out(self, identity: str) -> tuple[str, int] | None:
        """Decide, and start the container where it is due; in a thread.

        Returns:
            The run that has ended, and in how many nanoseconds it is due after that; None where
            there is nothing more to be done.
        """
        while True:
            step = self._decide(identity, next_step)
            if step is None:
                return None
            run, after = step.record.run, step.after
            if after:
                return run, after
            try:
                self._containers.start(identity, after=run)
            except NotFound:
                return None
            except (PycontainError, OSError):
                # Of a failed start the record says why; of one that did not get so far nothing.
                if records.last_run(self._layout.container(identity)) == run:
                    self._decide(identity, lambda policy, record, _, now: after_failure(
                        policy, record, now
                    ))  # fmt: skip
            else:
                return None

    def _decide(
        self,
        identity: str,
        decide: Callable[[RestartPolicy | None, RestartRecord, ExitRecord, int], Restart | Leave],
    ) -> Restart | None:
        """Decide what follows the last end of a container, and keep it; None where nothing does."""
        view = self._containers.get(identity)
        if view.status.state == "created" and supervision.is_begun_again(view.paths):
            supervision.settle_start(view.paths)
            view = self._containers.get(identity)
        ended = view.status.record
        if ended is None or view.status.state in ("running", "paused"):
            return None
        if self._is_its_pods(view.container):
            return None
        paths = view.paths
        with records.hold(paths):
            if not records.exists(paths) or records.last_run(paths) != ended.run:
                return None  # removed or started meanwhile
            record = supervision.load(paths)
            container = records.load(paths)
            ended = supervision.judged(container, paths, ended)
            step = decide(container.options.restart, record, ended, time.time_ns())
            if step.record != record:
                supervision.save(paths, step.record)
        return step if isinstance(step, Restart) else None
