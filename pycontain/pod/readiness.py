"""What a declared pod lacks to be ready, in words, and when it will never be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.engine import probes
from pycontain.errors import InvalidState, PycontainError
from pycontain.pod import controllers, reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine import Engine
    from pycontain.model.declared import Problem
    from pycontain.pod.declared import Declared
    from pycontain.pod.observed import ContainerSeen, PodSeen

_TRIES = 3  # of a step that fails again and again


def missing(engine: Engine, declared: Declared, seen: PodSeen, problem: Problem | None) -> str:
    """Return what a Pod lacks to be ready, or done; empty: nothing.

    Args:
        engine: of the store, for the last words of a container.
        declared: the Pod.
        seen: what there is of it.
        problem: why the last step towards what is declared failed.

    Raises:
        InvalidState: it has failed, or fails again and again.
    """
    title = f"pod {declared.name}"
    if declared.failure is not None:
        raise InvalidState(f"{title}: {declared.failure.reason}: {declared.failure.message}")
    for one in seen.containers.values():
        if _has_failed(declared, seen, one):
            raise _failure(engine, title, one)
    if problem is not None and problem.tries >= _TRIES:
        raise InvalidState(reasons.titled(title, problem.message))
    if controllers.is_finished(declared, seen) or controllers.is_ready(declared, seen):
        return ""
    if problem is not None:
        return reasons.titled(title, problem.message)
    return f"{title}{_waiting(declared, seen)}"


def _waiting(declared: Declared, seen: PodSeen) -> str:
    """What of a pod is waited for: its first container of init, or one that is not ready."""
    spec = declared.pod.spec
    begun = controllers.has_begun(declared, seen)
    for container in (*spec.init_containers, *spec.containers):
        one = seen.containers[container.name]
        if container in spec.containers or controllers.is_sidecar(container):
            if not one.ready:
                said = f": {one.message}" if one.message else ""
                return f": container {one.name} is not ready{said}"
        elif not begun and not controllers.has_succeeded(one):
            return f": init container {one.name} has not ended"
    return " is not running"


def _has_failed(declared: Declared, seen: PodSeen, one: ContainerSeen) -> bool:
    if one.ended is None or one.ended.code == 0 or not one.is_of_this_run:
        return False
    if one.state == "restarting":
        return one.due > 0 and one.restarts > 1
    return one.state == "exited" and controllers.is_finished(declared, seen)


def _failure(engine: Engine, title: str, one: ContainerSeen) -> InvalidState:
    assert one.ended is not None
    what = f"{title}: container {one.name} has ended with exit code {one.ended.code}"
    if one.state == "restarting":
        what += ", again and again"
    probed = probes.load(engine.layout.container(one.id), one.ended.run)
    if probed is not None and probed.failed:
        what += f": its {probed.failed} probe failed"
    return InvalidState(what, _last_words(engine, one.id))


def _last_words(engine: Engine, identity: str) -> str | None:
    """The end of what a container wrote; a log driver may keep none."""
    try:
        entries = [*engine.containers.logs(identity, tail=1)]
    except PycontainError:
        return None
    text = b"".join(entry.data for entry in entries).decode(errors="replace").strip()
    return f"it said: {text}" if text else None


def too_late(lacking: Sequence[str]) -> InvalidState:
    """Return the error of a wait that was too long for what is still missing."""
    return InvalidState(f"not ready in time: {lacking[0]}")
