"""After a reboot, or ``system shutdown``: starting what is to run."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pycontain.engine import records, supervision
from pycontain.errors import NotFound, PycontainError
from pycontain.model.container import Container, ExitRecord, RestartRecord

if TYPE_CHECKING:
    from pycontain.engine.containers import Containers, View
    from pycontain.store.layout import ContainerPaths, Layout

_FAILED = 128
_RETRY = 100_000_000  # nanoseconds until the supervisor tries again


def start_wanted(
    containers: Containers, layout: Layout, problems: list[PycontainError] | None
) -> list[Container]:
    """Start the containers that are to run after a reboot, oldest first: later ones join them.

    Those that were ended with all others are to run, whatever their policies.

    Args:
        containers: of the store.
        layout: of the same store.
        problems: gets an error for each that cannot be read or started; without it the first one
            is raised. The supervisor tries again to start it.

    Returns:
        Those that were started.
    """
    started = []
    for view in reversed(containers.list(all=True, problems=problems)):
        try:
            _forget_hold(view)
            if not _is_wanted(view):
                continue
            try:
                containers.start(view.container.id)
            except NotFound:
                continue  # removed meanwhile
            except PycontainError as err:
                _leave_to_supervisor(layout, view.paths, err)
                raise
            started.append(view.container)
        except PycontainError as err:
            if problems is None:
                raise
            problems.append(err)
    return started


def _is_wanted(view: View) -> bool:
    policy, ended = view.container.options.restart, view.status.record
    if policy is None or ended is None or view.container.options.is_kept:
        return False
    record = supervision.load(view.paths)
    if not record.held and supervision.ran_in_this_boot(view.paths):
        return False
    if view.status.state == "created" and not record.count:
        return False  # a user could not start it
    return supervision.is_wanted_after_boot(policy, record, ended)


def _forget_hold(view: View) -> None:
    """Let the policy of a container hold again that was to be ended with all others, and runs."""
    if view.status.state not in ("running", "paused"):
        return
    if view.container.options.restart is None or not supervision.load(view.paths).held:
        return
    with records.hold(view.paths):
        supervision.note_kept(view.paths)


def _leave_to_supervisor(layout: Layout, paths: ContainerPaths, err: PycontainError) -> None:
    """Let the failed start be one that is followed by others, as a restart's is."""
    with records.hold(paths):
        if not records.exists(paths):
            return
        if not supervision.ran_in_this_boot(paths):
            run = os.urandom(8).hex()
            records.write_marker(paths, run)
            failed = ExitRecord(
                run=run, code=_FAILED, reason=records.NOT_STARTED, error=err.message
            )
            records.write_exit(paths, failed)
        record = RestartRecord(
            count=1, series=1, run=records.last_run(paths), due=time.time_ns() + _RETRY
        )
        supervision.save(paths, record)
    supervision.wake(layout)
