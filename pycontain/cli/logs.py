"""``logs``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pycontain.cli.flags import Flag, Verb, switch
from pycontain.cli.output import SECOND, rfc3339
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine import LogEntry

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND}
_UNITS["h"] = 3600 * SECOND
_UNIT_LETTERS = "nuµmsh"


def duration(text: str) -> int | None:
    """Return nanoseconds of a Go duration, ``1h30m`` or ``1.5s``; None when it is none."""
    rest = text
    total = 0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip(_UNIT_LETTERS))]
        rest = rest[len(unit) :]
        whole, _, part = number.partition(".")
        if unit not in _UNITS or not (whole + part).isdigit():
            return None
        total += int(whole or "0") * _UNITS[unit]
        total += int(part) * _UNITS[unit] // 10 ** len(part) if part else 0
    return total if text else None


def moment(flag: str, text: str | None, now: int) -> int | None:
    """Return nanoseconds since the epoch of ``--since`` and ``--until``.

    Args:
        flag: its name, for errors.
        text: seconds since the epoch, a duration before now, or a date in RFC 3339, of which the
            time, the seconds and the zone (then the local one) may be missing; None is None.
        now: nanoseconds since the epoch.

    Raises:
        InvalidInput: none of these.
    """
    if not text:
        return None
    whole, dot, part = text.partition(".")
    if text.isascii() and whole.isdigit() and (part.isdigit() or not dot):
        return int(whole) * SECOND + int(part.ljust(9, "0")[:9])
    length = duration(text)
    if length is not None:
        return now - length
    return _date(flag, text)


def _date(flag: str, text: str) -> int:
    import datetime

    try:
        # 3.11 reads nine digits of a fraction and keeps six
        found = datetime.datetime.fromisoformat(text)
    except ValueError as err:
        raise InvalidInput(
            f'invalid value for "{flag}": failed to parse value as time or duration: "{text}"',
            "as 42m, 2026-11-21T04:24:08Z, 2026-11-21 or seconds since the epoch",
        ) from err
    found = found.astimezone()
    seconds = int(found.replace(microsecond=0).timestamp())
    return seconds * SECOND + found.microsecond * 1000


def _tail(text: str) -> int | None:
    # as docker: what is not a number of lines is all of them
    return int(text) if text.isascii() and text.isdigit() else None


def _copy(entries: Iterable[LogEntry], stamps: bool) -> None:
    outs = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    # where an entry continues the last line of its stream
    inside = {"stdout": False, "stderr": False}
    for entry in entries:
        out = outs[entry.stream]
        if stamps and not inside[entry.stream]:
            out.write(f"{rfc3339(entry.time, 9)} ".encode())
        out.write(entry.data)
        out.flush()
        inside[entry.stream] = not entry.data.endswith(b"\n")


def _logs(app: App, values: Values, arguments: list[str]) -> int:
    now = time.time_ns()
    entries = app.engine.containers.logs(
        arguments[0],
        follow=values["follow"],
        tail=_tail(values["tail"]),
        since=moment("since", values["since"], now),
        until=moment("until", values["until"], now),
    )
    _copy(entries, values["timestamps"])
    return 0


LOGS = Verb(
    "logs",
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    _logs,
    flags=(
        switch("follow", "wait for more until the container ends", short="f"),
        Flag("since", "show what came after this time, as 42m or a date", metavar="time"),
        Flag(
            "tail",
            "number of lines from the end, or all",
            short="n",
            metavar="n",
            default="all",
        ),
        switch("timestamps", "show when each line came", short="t"),
        Flag("until", "show what came before this time, as 42m or a date", metavar="time"),
    ),
    least=1,
    most=1,
    examples=(
        ("pycontain logs -f --tail 10 web", "the last ten lines and what follows"),
        ("pycontain logs --since 5m -t web", "five minutes, with times"),
    ),
)
