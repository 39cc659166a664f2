"""``logs``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, switch
from pycontain.cli.output import rfc3339
from pycontain.model.parse.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.logs import LogEntry


def _moment(values: Values, name: str, now: int) -> int | None:
    word: str | None = values[name] or None
    return None if word is None else parse_time(word, now, f"--{name}")


def _tail(text: str) -> int | None:
    # as docker: what is not a number of lines is all of them
    return int(text) if text.isascii() and text.isdigit() else None


def _copy(entries: Iterable[LogEntry], stamps: bool) -> None:
    # where an entry continues the last line of its stream
    inside = {"stdout": False, "stderr": False}
    for entry in entries:
        stamp = b""
        if stamps and not inside[entry.stream]:
            stamp = f"{rfc3339(entry.time, 9)} ".encode()
        streams.copy(entry.stream, stamp + entry.data)
        inside[entry.stream] = not entry.data.endswith(b"\n")


def _logs(app: App, values: Values, arguments: list[str]) -> int:
    now = time.time_ns()
    entries = app.engine.containers.logs(
        arguments[0],
        follow=values["follow"],
        tail=_tail(values["tail"]),
        since=_moment(values, "since", now),
        until=_moment(values, "until", now),
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
