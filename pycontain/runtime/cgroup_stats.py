"""The figures of a cgroup in the form of ``runc events --stats``.

A figure that this kernel or cgroup does not keep is left out, never 0. Times are nanoseconds, sizes
bytes.
"""

from __future__ import annotations

import os

from pycontain.errors import NotFound
from pycontain.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Figures = dict[str, object]

UNLIMITED = 2**64 - 1
"""What stands for a memory limit that is not there, as what reads these figures knows it."""

_USAGE = (
    ("total", "usage_usec", 1000),
    ("kernel", "system_usec", 1000),
    ("user", "user_usec", 1000),
)
_THROTTLING = (
    ("periods", "nr_periods", 1),
    ("throttledPeriods", "nr_throttled", 1),
    ("throttledTime", "throttled_usec", 1000),
)
_IO = (
    ("ioServiceBytesRecursive", (("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard"))),
    ("ioServicedRecursive", (("rios", "Read"), ("wios", "Write"), ("dios", "Discard"))),
)


def stats(folder: int) -> Figures:
    """Return the figures of the cgroup and those below it.

    Args:
        folder: of the cgroup.

    Returns:
        The ``data`` of an event of type ``stats``, fit for JSON, without ``network_interfaces``
        and ``intel_rdt``.

    Raises:
        NotFound: the cgroup has been removed.
        KernelError: the caller may not.
    """
    if not cgroup.exists(folder, "cgroup.controllers"):
        raise NotFound("cgroup: it has been removed")
    parts: Figures = {
        "cpu": _cpu(folder),
        "memory": _memory(folder),
        "pids": _pids(folder),
        "blkio": _io(folder),
        "hugetlb": _hugepages(folder),
    }
    return {name: part for name, part in parts.items() if part}


def _number(folder: int, file: str) -> int | None:
    """The number in a control file, `UNLIMITED` for max, None where there is no such file."""
    text = cgroup.read(folder, file)
    if text is None:
        return None
    return UNLIMITED if text.strip() == "max" else int(text)


def _known(**figures: object) -> Figures:
    """Those of the figures that are known."""
    return {name: value for name, value in figures.items() if value not in (None, {}, [])}


def _picked(values: dict[str, int], table: Sequence[tuple[str, str, int]]) -> Figures:
    return {name: values[key] * scale for name, key, scale in table if key in values}


def _cpu(folder: int) -> Figures:
    values = cgroup.flat(cgroup.read(folder, "cpu.stat"))
    return _known(
        usage=_picked(values, _USAGE),
        throttling=_picked(values, _THROTTLING),
        psi=_pressure(folder, "cpu.pressure"),
    )


def _pressure(folder: int, file: str) -> Figures:
    """Pressure stall information (accounting/psi.rst); the averages are percentages."""
    found: Figures = {}
    for line in (cgroup.read(folder, file) or "").splitlines():
        kind, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        total = int(values.pop("total"))
        found[kind] = {**{name: float(value) for name, value in values.items()}, "total": total}
    return found


def _memory(folder: int) -> Figures:
    raw = cgroup.flat(cgroup.read(folder, "memory.stat"))
    events = cgroup.flat(cgroup.read(folder, "memory.events"))
    return _known(
        cache=raw.get("file"),
        usage=_known(
            limit=_number(folder, "memory.max"),
            usage=_number(folder, "memory.current"),
            max=_number(folder, "memory.peak"),
            failcnt=events.get("max"),
        ),
        swap=_swap(folder),
        raw=raw,
        psi=_pressure(folder, "memory.pressure"),
        event_count=events,
    )


def _swap(folder: int) -> Figures:
    """Memory and swap together, as the reader of these figures knows it from cgroup v1."""
    limits = _number(folder, "memory.max"), _number(folder, "memory.swap.max")
    usages = _number(folder, "memory.current"), _number(folder, "memory.swap.current")
    events = cgroup.flat(cgroup.read(folder, "memory.swap.events"))
    return _known(limit=_sum(limits), usage=_sum(usages), failcnt=events.get("max"))


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(sum(known), UNLIMITED) if len(known) == len(values) else None


def _pids(folder: int) -> Figures:
    current, limit = _number(folder, "pids.current"), _number(folder, "pids.max")
    return _known(
        # The controller counts threads too.
        current=len(cgroup.threads(folder)) if current is None else current,
        limit=None if limit == UNLIMITED else limit,
    )


def _io(folder: int) -> Figures:
    rows = [line.split() for line in (cgroup.read(folder, "io.stat") or "").splitlines()]
    found = {name: _entries(rows, keys) for name, keys in _IO}
    return _known(**found, psi=_pressure(folder, "io.pressure"))


def _entries(rows: list[list[str]], keys: Sequence[tuple[str, str]]) -> list[Figures]:
    found: list[Figures] = []
    for device, *words in rows:
        major, _, minor = device.partition(":")
        values = dict(word.split("=", 1) for word in words if "=" in word)
        found += [
            {"major": int(major), "minor": int(minor), "op": op, "value": int(values[key])}
            for key, op in keys
            if key in values
        ]
    return found


def _hugepages(folder: int) -> Figures:
    """For each page size (2MB …) what is in use, and how often the limit refused."""
    found: Figures = {}
    for name in sorted(os.listdir(folder)):
        words = name.split(".")
        if len(words) == 3 and words[0] == "hugetlb" and words[2] == "current":
            events = cgroup.flat(cgroup.read(folder, f"hugetlb.{words[1]}.events"))
            found[words[1]] = _known(usage=_number(folder, name), failcnt=events.get("max"))
    return found
