"""Before the machine goes down: everything that runs is ended in order, and comes again after it.

First what is declared is kept no more, then the containers end, all at once: each gets its stop
signal and its time. In a pod sidecars end after the others, the last one first, and what they share
at last. What is ended so is noted as *held*: neither the supervisor nor a controller starts it
again before ``system boot`` does.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from pycontain.engine import hooks, supervision
from pycontain.errors import InvalidState, NotFound, PycontainError
from pycontain.pod.pods import Pods, together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.engine import Engine
    from pycontain.engine.containers import View
    from pycontain.pod.pods import PodView

_ROUNDS = 10  # what was being started meanwhile is met in the next one
_PATIENCE = 5.0  # seconds that a command gets which acts for a pod
_PAUSE = 0.05
_ACTIVE = ("running", "paused", "restarting")


def end_all(
    engine: Engine, problems: list[PycontainError] | None = None, *, timeout: int | None = None
) -> Sequence[str]:
    """End all containers and pods of a store, in order, until ``system boot`` or a user's start.

    Args:
        engine: over the store, in this process.
        problems: gets an error for each that cannot be read or ended; without it the first one is
            raised, once the others have ended.
        timeout: seconds before a container is killed; None is each one's own.

    Returns:
        The names of the containers that ended.

    Raises:
        InvalidState: containers are started again and again.
    """
    _rest(engine)
    order = _Order(engine, timeout)
    order.look(order.problems)
    for _ in range(_ROUNDS):
        if not order.round():
            break
    else:
        running = ", ".join(sorted(view.container.name for view in order.active()))
        order.problems.append(
            InvalidState(f"end all containers: they are started again and again: {running}")
        )
    if problems is None:
        for problem in order.problems:
            raise problem
    else:
        problems += order.problems
    return order.ended


def _rest(engine: Engine) -> None:
    """Have nothing kept any more that is declared; whoever is at it comes to no end."""
    if os.path.isdir(engine.layout.state_kube):
        from pycontain.pod.declared import Declarations

        Declarations(engine.layout).rest()
    supervision.end(engine.layout)


class _Order:
    """The ending of a store's containers.

    Attributes:
        ended: their names, in the order in which they ended.
        problems: what was in the way.
    """

    def __init__(self, engine: Engine, timeout: int | None) -> None:
        self._engine = engine
        self._pods = Pods(engine)
        self._timeout = timeout
        self._failed: set[str] = set()  # ids of what could not be ended
        self.ended: list[str] = []
        self.problems: list[PycontainError] = []

    def active(self) -> list[View]:
        """Return the containers that run, or are about to be started again."""
        found = self._engine.containers.list(all=True, problems=[])
        return [view for view in found if view.status.state in _ACTIVE]

    def look(self, problems: list[PycontainError]) -> list[PodView]:
        """Return the pods of which anything runs.

        Args:
            problems: gets an error for each pod and container that cannot be read.
        """
        return [pod for pod in self._pods.list(problems) if _runs(pod)]

    def round(self) -> bool:
        """End what runs; return whether there was anything that had not been tried."""
        pods = self.look([])
        of_pods = {pod.pod.id for pod in pods}
        alone = [view for view in self.active() if view.container.options.pod not in of_pods]
        pods = [pod for pod in pods if pod.pod.id not in self._failed]
        alone = [view for view in alone if view.container.id not in self._failed]
        together([
            *(partial(self._end_pod, pod) for pod in pods),
            *(partial(self._end, view) for view in alone),
        ])  # fmt: skip
        return bool(pods or alone)

    def _end(self, view: View, began: float | None = None) -> None:
        """End a container in its time; of that, in what is left since `began`."""
        identity, timeout = view.container.id, self._timeout
        if began is not None:
            limit = view.container.stop_timeout if timeout is None else timeout
            timeout = int(hooks.left(limit, began))
        if identity in self._failed or view.status.state not in _ACTIVE:
            return
        try:
            self._engine.containers.hold(identity, timeout=timeout)
        except NotFound:
            return  # removed meanwhile, as one that was to be removed at its end
        except PycontainError as err:
            self._failed.add(identity)
            self.problems.append(err)
        else:
            self.ended.append(view.container.name)

    def _end_pod(self, pod: PodView) -> None:
        try:
            with _locked(self._engine, pod):
                self._end_members(pod)
                self._end_shared(pod)
        except PycontainError as err:
            self._failed.add(pod.pod.id)
            self.problems.append(err)

    def _end_members(self, pod: PodView) -> None:
        sidecars, began = _sidecars(self._engine, pod), time.monotonic()
        others = [view for view in pod.members if view not in sidecars]
        together([partial(self._end, view) for view in others])
        for view in reversed(sidecars):
            self._end(view, began)

    def _end_shared(self, pod: PodView) -> None:
        if self._failed & {view.container.id for view in pod.members}:
            self._failed.add(pod.pod.id)
            return
        try:
            for failed in self._pods.stop(pod.pod.id):
                raise failed.error
        except NotFound:
            return
        except PycontainError as err:
            self._failed.add(pod.pod.id)
            self.problems.append(err)


def _runs(pod: PodView) -> bool:
    return pod.sandbox in ("running", "lost") or any(
        view.status.state in _ACTIVE for view in pod.members
    )


@contextlib.contextmanager
def _locked(engine: Engine, pod: PodView) -> Iterator[None]:
    """Let who acts for a declared pod come to an end, and nobody else begin.

    A command may be at it for as long as its hook takes: it is not waited for for ever. What it
    starts after that is met in the next round.
    """
    if not _is_kept(pod):
        yield
        return
    from pycontain.pod.declared import Declarations

    lock = Declarations(engine.layout).lock("Pod", pod.pod.name)
    end = time.monotonic() + _PATIENCE
    while not (is_held := lock.acquire(wait=False)) and time.monotonic() < end:
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        if is_held:
            lock.release()


def _is_kept(pod: PodView) -> bool:
    return any(view.container.options.is_kept for view in pod.members)


def _sidecars(engine: Engine, pod: PodView) -> Sequence[View]:
    """Those of a pod's containers that are declared to run beside the others, in their order."""
    from pycontain.pod.controllers import is_sidecar
    from pycontain.pod.declared import Declarations
    from pycontain.pod.plan import CONTAINER_LABEL

    if not _is_kept(pod):
        return ()
    try:
        declared = Declarations(engine.layout).find("Pod", pod.pod.name)
    except PycontainError:
        return ()  # damaged: nobody knows an order
    if declared is None:
        return ()
    # Not in the order in which they were made: one that was removed has been made again.
    members = {view.container.options.labels.get(CONTAINER_LABEL): view for view in pod.members}
    names = [one.name for one in declared.pod.spec.init_containers if is_sidecar(one)]
    return [members[name] for name in names if name in members]
