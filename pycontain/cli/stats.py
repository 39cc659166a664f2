"""``stats``."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import LISTING_FORMAT, Verb, switch
from pycontain.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.errors import PycontainError
    from pycontain.model.stats import Pressure, Stats

_SHORT_ID = 12
INTERVAL = 1.0  # seconds between two rounds
GLANCE = 0.5  # and between the two that one look at the CPU needs
_UNKNOWN = "--"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# Cursor to the corner; what is left of a line; what is left of the screen (ECMA-48 CUP, EL, ED).
_HOME, _LINE_REST, _SCREEN_REST = "\x1b[H", "\x1b[K", "\x1b[J"

LISTING = output.Listing(
    kind="*formatter.statsContext",
    headings={
        "Container": "CONTAINER",
        "ID": "CONTAINER ID",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
        "Pressure": "PRESSURE CPU / MEM / IO",
        "CPUPressure": "CPU PRESSURE",
        "MemPressure": "MEM PRESSURE",
        "IOPressure": "IO PRESSURE",
    },
    table="{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}"
    "\t{{.BlockIO}}\t{{.PIDs}}\t{{.Pressure}}",
    quiet="{{.ID}}",
)


def binary_size(count: float) -> str:
    """Return a number of bytes with four digits and a binary unit, ``1.934MiB``."""
    unit = 0
    while count >= 1024 and unit < len(_SIZES) - 1:
        count /= 1024
        unit += 1
    return f"{count:.4g}{_SIZES[unit]}"


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def _pair(first: int | None, second: int | None) -> str:
    if first is None or second is None:
        return _UNKNOWN
    return f"{output.human_size(first)} / {output.human_size(second)}"


def _pressure(value: Pressure | None) -> str:
    return _percent(None if value is None else value.some)


def row(stats: Stats, before: Stats | None, total: int, name: str, full: bool) -> dict[str, Any]:
    """Return what a template may show of a sample.

    Args:
        stats: the sample.
        before: an earlier one, for the use of the CPU.
        total: the machine's memory in bytes, which is the limit where there is none.
        name: what the container was called by.
        full: do not cut the id.
    """
    limit = min(stats.memory_limit or total, total)
    memory = f"{_UNKNOWN} / {_UNKNOWN}"
    if stats.memory is not None:
        memory = f"{binary_size(stats.memory)} / {binary_size(limit)}"
    pressures = [
        _pressure(value) for value in (stats.cpu_pressure, stats.memory_pressure, stats.io_pressure)
    ]
    return {
        "Container": name,
        "ID": stats.id if full else stats.id[:_SHORT_ID],
        "Name": stats.name,
        "CPUPerc": _percent(None if before is None else stats.cpu_percent(before)),
        "MemUsage": memory,
        "MemPerc": _percent(None if stats.memory is None else stats.memory * 100 / limit),
        "NetIO": _pair(stats.net_received, stats.net_sent),
        "BlockIO": _pair(stats.block_read, stats.block_written),
        "PIDs": _UNKNOWN if stats.pids is None else str(stats.pids),
        "Pressure": " / ".join(pressures),
        "CPUPressure": pressures[0],
        "MemPressure": pressures[1],
        "IOPressure": pressures[2],
    }


class _Watch:
    """Rounds of samples of the containers that were named, or of those that run."""

    def __init__(self, app: App, names: Sequence[str], values: Values) -> None:
        self._containers = app.engine.containers
        self._names = list(names)
        self._all: bool = values["all"]
        self._full: bool = values["no-trunc"]
        self._total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._before: dict[str, Stats] = {}
        self.problems: list[PycontainError] = []
        for name in names:
            self._containers.get(name)  # one that is not there is an error at once

    def over(self) -> bool:
        """Whether those that were named are all gone."""
        return bool(self._names) and not self._before

    def round(self) -> list[dict[str, Any]]:
        """Take a sample of each; return a row for each."""
        now: dict[str, Stats] = {}
        rows = []
        for name in self._names or self._running():
            try:
                stats = self._containers.stats(name)
            except NotFound:
                continue  # removed meanwhile
            now[stats.id] = stats
            shown = name if self._names else name[:_SHORT_ID]
            rows.append(row(stats, self._before.get(stats.id), self._total, shown, self._full))
        self._before = now
        return rows

    def _running(self) -> list[str]:
        self.problems = []
        views = self._containers.list(all=self._all, problems=self.problems)
        return [view.container.id for view in views]


def _stats(app: App, values: Values, arguments: list[str]) -> int:
    watch = _Watch(app, arguments, values)
    form = values["format"]
    if values["no-stream"]:
        watch.round()
        time.sleep(GLANCE)
        streams.write(LISTING.render(watch.round(), form, False))
        return app.report(watch.problems)
    redraw = sys.stdout.isatty() and (not form or form.startswith("table"))
    pause = GLANCE
    while True:
        text = LISTING.render(watch.round(), form, False)
        if watch.over():
            return 0
        streams.write(_screen(text) if redraw else text)
        streams.flush()
        time.sleep(pause)
        pause = INTERVAL


def _screen(text: str) -> str:
    """The text in the place of the last one, without a moment of empty screen between."""
    return _HOME + text.replace("\n", f"{_LINE_REST}\n") + _SCREEN_REST


STATS = Verb(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Show what containers use: CPU, memory, network, block I/O, tasks, and pressure",
    _stats,
    flags=(
        switch("all", "show all containers, not just the running ones", short="a"),
        LISTING_FORMAT,
        switch("no-stream", "show them once and end"),
        switch("no-trunc", "do not truncate"),
    ),
    examples=(
        ("pycontain stats", "all running containers, again and again, until Ctrl-C"),
        ("pycontain stats --no-stream --format '{{.Name}} {{.CPUPerc}}' web", "one look at one"),
        ("pycontain stats --no-stream --format json", "for a program; -- is unknown"),
    ),
)
