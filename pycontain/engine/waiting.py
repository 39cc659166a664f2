"""Waiting until a container is in a state that somebody names.

Whoever waits looks, and looks again when something was told: the journal of events is written
after what it tells of. An event may be lost (a full disk), so it looks now and then all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.engine import health
from pycontain.engine.cancel import Deadline, wait_readable
from pycontain.errors import InvalidInput, InvalidState, NotFound
from pycontain.kernel.inotify import FolderWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import View

CONDITIONS = (
    "created", "exited", "healthy", "paused", "removed", "removing", "running", "stopped",
    "unhealthy",
)  # fmt: skip
"""podman's words, of those states that there are here; *removing* is over in a moment."""

ENDED = frozenset(("exited", "stopped"))
_GONE = frozenset(("removed", "removing"))
_PROBED = frozenset(("healthy", "unhealthy"))
_LOOK = 1000.0  # milliseconds


def check(conditions: Sequence[str]) -> None:
    """Refuse words that are none, or no words.

    Raises:
        InvalidInput: with the word.
    """
    if not conditions:
        raise InvalidInput("wait: no condition is given", f"there are {', '.join(CONDITIONS)}")
    for word in conditions:
        if word not in CONDITIONS:
            raise InvalidInput(
                f"wait: unknown condition {word!r}", f"there are {', '.join(CONDITIONS)}"
            )


def met(view: View, conditions: Sequence[str]) -> str | None:
    """Return the first of the conditions that holds of a container that is there, None for none.

    Raises:
        InvalidState: none of them can ever hold: it has no health check.
        StoreError: a document is damaged.
    """
    state = view.status.state
    if not set(conditions) - _PROBED and health.check_of(view.container) is None:
        raise InvalidState(f"container {view.container.name} has no health check")
    holding: set[str] = {state, "stopped"} if state == "exited" else {state}
    if state == "running" and not _PROBED.isdisjoint(conditions):
        known = health.of(view)
        holding |= {known.status} if known else set()
    return next((word for word in conditions if word in holding), None)


def wait(
    look: Callable[[], View],
    folder: str,
    conditions: Sequence[str],
    *,
    timeout: float | None,
    cancel: Cancel | None,
) -> str | None:
    """Block until one of the conditions holds; return which, None when the time is over.

    Args:
        look: returns the container as it is now.
        folder: of the events.
        conditions: of ``CONDITIONS``.
        timeout: seconds, None for ever.
        cancel: ends the wait.

    Raises:
        NotFound: there is no such container, or it was removed and that is no condition.
        InvalidState: it has no health check, or has ended, and only a running one can be healthy.
        Cancelled: by `cancel`.
    """
    deadline = Deadline(timeout)
    watch = FolderWatch(folder)
    seen = ran = False
    try:
        while True:
            # Before the look: what happens after it makes the watch readable again.
            watch.clear()
            try:
                view = look()
            except NotFound:
                if seen and not _GONE.isdisjoint(conditions):
                    return next(word for word in conditions if word in _GONE)
                raise
            seen = True
            found = met(view, conditions)
            if found is not None or deadline.over:
                return found
            ran = _still_hopeful(view, conditions, ran)
            left = deadline.left()
            wait_readable((watch.fileno(),), _LOOK if left is None else min(left, _LOOK), cancel)
    finally:
        watch.close()


def _still_hopeful(view: View, conditions: Sequence[str], ran: bool) -> bool:
    """Whether it has been seen running; one that has, and has ended, will not become healthy."""
    if view.status.state in ("running", "paused"):
        return True
    if ran and view.status.state == "exited" and not set(conditions) - _PROBED:
        code = "" if view.status.record is None else f" (exit code {view.status.record.code})"
        raise InvalidState(
            f"container {view.container.name} has ended{code} before it was"
            f" {' or '.join(conditions)}"
        )
    return ran
