"""``events``: what a container uses, again and again, and when it runs out of memory."""

from __future__ import annotations

import os
import time

from pycontain.errors import InvalidState, NotFound, NotSupported
from pycontain.kernel import cgroup
from pycontain.oci import document, state
from pycontain.oci.flags import SWITCH, VALUE, Flag, UsageError
from pycontain.runtime import cgroup_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.oci.main import Command
    from pycontain.oci.state import Container

    # Seconds to how many were killed for want of memory; None: the container has ended.
    Wait = Callable[[float], int | None]

FLAGS = (
    Flag("interval", VALUE, "time between two reports, such as 500ms", "5s"),
    Flag("stats", SWITCH, "print one report and end"),
)
# Readers look into each; where nothing is known, it is empty.
_PARTS = ("cpu", "memory", "pids", "blkio", "hugetlb")


def show_events(command: Command) -> int:
    """``events``: a JSON document on each line, until the container ends."""
    interval = _interval(command)
    with state.find(command.root, command.identity()) as container:
        if container.status() not in ("created", "running", "paused"):
            raise InvalidState(f"container {container.id} is not running")
        folder = container.open_cgroup()
        if folder is None:
            raise InvalidState(f"container {container.id} has no cgroup to tell what it uses")
        try:
            if command.values.on("stats"):
                _print_stats(command, container.id, folder)
            else:
                _follow(command, container, folder, interval)
        finally:
            os.close(folder)
    return 0


def _interval(command: Command) -> float:
    """The seconds between two reports."""
    if "interval" not in command.values.given:
        return 5.0
    from pycontain.model.parse.times import parse_duration  # few reports need it

    word = command.values.text("interval")
    nanoseconds = parse_duration(word, "--interval")
    if nanoseconds <= 0:
        raise UsageError(f"--interval {word!r}: must be more than nothing")
    return nanoseconds / 1e9


def _print_stats(command: Command, identity: str, folder: int) -> None:
    figures = cgroup_stats.stats(folder)
    data = {name: figures.get(name, {}) for name in _PARTS}
    command.print(document.dump({"type": "stats", "id": identity, "data": data}))


def _follow(command: Command, container: Container, folder: int, interval: float) -> None:
    try:
        watch = cgroup.OomWatch(folder)
    except NotSupported:
        # Without the memory controller nobody is killed for the container's memory.
        _follow_process(command, container, folder, interval)
        return
    with watch:
        _report(command, container.id, folder, interval, watch.wait)


def _follow_process(command: Command, container: Container, folder: int, interval: float) -> None:
    import select

    pidfd = container.pidfd()
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        _report(
            command, container.id, folder, interval,
            lambda seconds: None if poller.poll(max(seconds, 0) * 1000) else 0,
        )  # fmt: skip
    finally:
        os.close(pidfd)


def _report(command: Command, identity: str, folder: int, interval: float, wait: Wait) -> None:
    due = time.monotonic() + interval
    while (killed := wait(due - time.monotonic())) is not None:
        for _ in range(killed):
            command.print(document.dump({"type": "oom", "id": identity}))
        if time.monotonic() >= due:
            try:
                _print_stats(command, identity, folder)
            except NotFound:
                return  # deleted since
            due = time.monotonic() + interval
