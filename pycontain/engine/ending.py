"""How containers are ended: asked to, killed, waited for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.engine import records, settling
from pycontain.engine.cancel import wait_readable
from pycontain.engine.freezer import thaw
from pycontain.errors import NotFound, StoreError
from pycontain.kernel import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine.containers import View
    from pycontain.engine.events import Events
    from pycontain.model.container import Container, ExitRecord
    from pycontain.store.layout import ContainerPaths, Layout

    BeforeStop = Callable[[View, int, float], float]

_MONITOR = b"pycontain-monitor "  # how a monitor's argv[0] begins, see launch.py


def gracefully(
    view: View,
    events: Events,
    before_stop: BeforeStop,
    *,
    timeout: float | None = None,
    signal: int | None = None,
    run: str | None = None,
    rootless: bool,
) -> None:
    """Carry the preStop hook out, ask the container to end, and kill it if it does not.

    Args:
        view: of a container that runs.
        events: of its store.
        before_stop: carries the preStop hook out in what is left of that many seconds; it returns
            what is left then.
        timeout: seconds for all of that; default the container's own; negative: no end.
        signal: default the container's own.
        run: nothing is done where that is not the present run; default: which there is.
        rootless: the caller is in the namespaces of an ordinary user.
    """
    pidfd = open_init(view.paths, run)
    if pidfd is None:
        return
    try:
        limit: float = view.container.stop_timeout if timeout is None else timeout
        if view.container.options.probes is not None:
            from pycontain.engine import probes

            probes.note_ending(view.container, view.paths, run or records.last_run(view.paths))
        if view.container.options.hooks is not None:
            if view.status.state == "paused":
                go_on(events, view, rootless=rootless)
                view = view._replace(status=replace(view.status, state="running"))
            limit = before_stop(view, pidfd, limit)
        send(events, pidfd, view.container, signal or view.container.stop_signal)
        go_on(events, view, rootless=rootless)
        if not wait_process(pidfd, None if limit < 0 else limit):
            send(events, pidfd, view.container, 9)
            wait_process(pidfd, None)
    except BaseException:
        _note_not_ending(view)
        raise
    finally:
        os.close(pidfd)


def _note_not_ending(view: View) -> None:
    if view.container.options.probes is not None:
        from pycontain.engine import probes

        probes.note_not_ending(view.paths)


def send(events: Events, pidfd: int, container: Container, number: int) -> None:
    """Send a container's first process a signal, and tell it."""
    # Told first: its monitor may tell the end before we get to run again.
    events.tell("kill", container, signal=str(int(number)))
    process.send_signal(pidfd, number)


def go_on(events: Events, view: View, *, rootless: bool) -> None:
    """Thaw a paused container, so that it sees the signal that it was sent."""
    if view.status.state == "paused":
        thaw(view.container, rootless=rootless)
        events.tell("unpause", view.container)


def open_init(paths: ContainerPaths, run: str | None = None) -> int | None:
    """Return a pidfd of a container's first process; None where it has ended.

    Args:
        paths: of the container.
        run: which of its runs; default: the last one.
    """
    record = records.load_run(paths, run)
    if record is None or record.boot != process.boot_id():
        return None
    return process.open_process(record.pid, record.pid_start)


def await_record(
    layout: Layout, events: Events, paths: ContainerPaths, run: str | None = None
) -> ExitRecord | None:
    """Wait for the record of the present run, or of `run`; a lost run is settled."""
    asked, run = run, run or records.last_run(paths)
    pidfd = open_init(paths, asked)
    if pidfd is not None:
        try:
            wait_readable((pidfd,), None)
        finally:
            os.close(pidfd)
    pause = 0.0005
    while True:
        try:
            status = settling.status_of(layout, events, paths)
        except (NotFound, FileNotFoundError):
            return None
        if status.state not in ("running", "paused"):
            settling.await_told(paths)
            return status.record
        if records.last_run(paths) != run:
            return records.load_exit(paths, run)  # it was started again
        # Its process is dead; its monitor drains the output and writes the record.
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def wait_process(pidfd: int, timeout: float | None) -> bool:
    """Wait until the process of a pidfd has ended; False when it has not in `timeout` seconds."""
    return bool(wait_readable((pidfd,), None if timeout is None else timeout * 1000))


def kill_all(
    layout: Layout, events: Events, paths: ContainerPaths, container: Container | None
) -> None:
    """Kill what runs and wait until the monitor is gone, so that nobody writes there."""
    _end_processes(events, paths, container)
    # Of a run that has ended it was told when the container was settled, or by its monitor.
    if container is not None and os.path.exists(paths.event):
        settling.tell_end(layout, events, paths)


def _end_processes(events: Events, paths: ContainerPaths, container: Container | None) -> None:
    try:
        record = records.load_run(paths)
    except StoreError:
        return
    if record is None or record.boot != process.boot_id():
        return
    init = process.open_process(record.pid, record.pid_start)
    if init is not None:
        if container is None:
            process.send_signal(init, 9)
        else:
            send(events, init, container, 9)
        os.close(init)
    monitor = process.open_process(record.monitor, record.monitor_start)
    if monitor is not None:
        try:
            # Held by an owner who does not read, or about to do what we do.
            if record.monitor != os.getpid() and not _monitor_ended(record.monitor, monitor):
                process.send_signal(monitor, 9)
                wait_process(monitor, settling.LINGER)
        finally:
            os.close(monitor)


def _monitor_ended(pid: int, pidfd: int) -> bool:
    """Wait for a monitor's end; False when it has become a clean-up or goes on for too long.

    The clean-up is executed in the monitor's place, and waits for the lock that we hold.
    """
    pause = 0.001
    end = time.monotonic() + settling.LINGER
    while not wait_process(pidfd, pause):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                title = file.read(len(_MONITOR))
        except OSError:
            continue
        if (title and title != _MONITOR) or time.monotonic() > end:
            return wait_process(pidfd, 0)
        pause = min(pause * 2, 0.05)
    return True
