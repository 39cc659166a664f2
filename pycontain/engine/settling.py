"""How a container is: its state, after a run that was lost has been ended, recorded and told."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from pycontain.engine import connections, records, remains
from pycontain.engine.freezer import Freezer
from pycontain.errors import NotFound, StoreError
from pycontain.kernel import process
from pycontain.model.container import Container, ExitRecord
from pycontain.model.status import Status
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.engine.events import Events
    from pycontain.store.layout import ContainerPaths, Layout

LINGER = 2.0
"""Seconds that a monitor is given to end by itself once its container is dead."""
_KILLED = 137


def status_of(layout: Layout, events: Events, paths: ContainerPaths) -> Status:
    """Return the status; the container's lock is taken where something has to be settled first.

    Raises:
        NotFound: there is no such container.
        StoreError: a document is damaged.
    """
    try:
        status = records.status(paths)
        if status.state == "created" and os.path.exists(paths.endpoints):
            _give_back(layout, paths)
        if not (_is_untold(paths, status) or _is_connected(paths, status)):
            return status
    except records.Lost:
        pass
    with records.hold(paths):
        return settle(layout, events, paths)


def settle(layout: Layout, events: Events, paths: ContainerPaths) -> Status:
    """The status, after a lost run has been ended, recorded and told; the lock is held."""
    status = _settled(layout, events, paths)
    if status.state == "exited":
        await_told(paths)
    if _is_untold(paths, status):
        tell_end(layout, events, paths)
    if _is_connected(paths, status):
        connections.leave(layout, os.path.basename(paths.folder))
    return status


def present(
    layout: Layout, events: Events, paths: ContainerPaths, container: Container, *, rootless: bool
) -> Status:
    """The status as users see it, after a lost run has been settled; the lock is held."""
    status = settle(layout, events, paths)
    with Freezer(rootless=rootless) as freezer:
        return seen(layout, container, paths, status, freezer)


def seen(
    layout: Layout, container: Container, paths: ContainerPaths, status: Status, freezer: Freezer
) -> Status:
    """The status, in which one whose cgroup is frozen is paused, and one that is about to be
    started again is restarting.
    """
    status = freezer.seen(container, status)
    if not may_need_supervisor(container):
        return status
    from pycontain.engine import supervision

    return supervision.seen(layout, container, paths, status)


def may_need_supervisor(container: Container) -> bool:
    """Whether it is worth asking ``supervision``, which a container that has nothing pays not."""
    options = container.options
    return bool(
        options.restart or options.health or container.config.healthcheck
        or options.probes or options.hooks or options.is_kept
    )  # fmt: skip


def _settled(layout: Layout, events: Events, paths: ContainerPaths) -> Status:
    try:
        return records.status(paths)
    except records.Lost as lost:
        remains.remove_cgroup(layout, os.path.basename(paths.folder))
        connections.leave(layout, os.path.basename(paths.folder))
        killed = lost.reason == "monitor lost"
        record = ExitRecord(
            run=lost.run,
            code=_KILLED if killed else 255,
            signal=int(signal.SIGKILL) if killed else None,
            started=lost.started,
            finished=time.time_ns() if killed else None,
            reason=lost.reason,
        )
        try:
            records.write_exit(paths, record)
        except StoreError:
            # A full or read-only disk: what is known is told all the same, and found again.
            return Status(state="exited", record=record, started=record.started)
        if not killed:  # the file that says whom it is about is gone with that boot
            events.tell("die", records.load(paths), exitCode=str(record.code))
        return records.status(paths)


def _is_untold(paths: ContainerPaths, status: Status) -> bool:
    """Whether a run's end was not told, and its monitor will not do that any more."""
    told = status.state != "exited" or not os.path.exists(paths.event)
    return not told and monitor_lives(paths) is False


def tell_end(layout: Layout, events: Events, paths: ContainerPaths) -> None:
    """Tell the end of a run whose monitor is gone; the lock is held.

    Once: a monitor that was killed between the two may have told it, and not yet removed the
    file that says so.
    """
    try:
        container, run = records.load(paths), records.load_run(paths)
        record = records.load_exit(paths, run.run) if run else None
    except (NotFound, StoreError):
        return
    if run is not None and not events.was_told("die", container.id, run.started):
        code = _KILLED if record is None else record.code
        events.tell("die", container, exitCode=str(code))
        if container.mounts:
            from pycontain.engine.volumes import Volumes

            Volumes(layout).tell_unmounts(container)
    files.remove(paths.event)


def tell_failed_start(
    events: Events, paths: ContainerPaths, container: Container, run: str
) -> None:
    """Tell the end of a run whose monitor was killed when it had told the start, but not us."""
    record = records.load_run(paths, run)
    if record is not None and events.was_told("start", container.id, record.started):
        events.tell("die", container, exitCode=str(_KILLED))
    files.remove(paths.event)


def monitor_lives(paths: ContainerPaths) -> bool | None:
    """Whether the last run's monitor is there; None where its record is damaged."""
    try:
        record = records.load_run(paths)
    except StoreError:
        return None
    return record is not None and process.start_time(record.monitor) == record.monitor_start


def _is_connected(paths: ContainerPaths, status: Status) -> bool:
    """Whether a run has ended and has addresses or ports still: its monitor's clean-up was killed.

    Rules that lead to an address that another has next would lead there.
    """
    ended = status.state == "exited" and os.path.exists(paths.endpoints)
    return ended and monitor_lives(paths) is False


def _give_back(layout: Layout, paths: ContainerPaths) -> None:
    """Give back what a start has got in networks that was killed before there was a run. Who is
    starting the container now has its lock.
    """
    lock = files.Lock(paths.lock)
    if not lock.acquire(wait=False):
        return
    try:
        if records.status(paths).state == "created":
            connections.leave(layout, os.path.basename(paths.folder))
    except records.Lost:
        return  # started meanwhile, and lost
    finally:
        if not os.path.isdir(paths.folder):
            files.remove(lock.path)
        lock.release()


def await_told(paths: ContainerPaths) -> None:
    """Give the monitor of a run that has a record the time to tell the end, its next step."""
    end = time.monotonic() + LINGER
    while os.path.exists(paths.event) and monitor_lives(paths) and time.monotonic() < end:
        time.sleep(0.0005)
