"""``system shutdown``: ends all that runs, in order, before the machine goes down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, wait_seconds

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.errors import PycontainError


def _shutdown(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.pod.shutdown import end_all

    problems: list[PycontainError] = []
    for name in end_all(app.engine, problems, timeout=values["time"]):
        streams.write(f"{name}\n")
    return app.report(problems)


SHUTDOWN = Verb(
    "shutdown",
    "[OPTIONS]",
    "Stop everything that runs, in order, until system boot",
    _shutdown,
    flags=(
        Flag(
            "time timeout",
            "seconds to wait before SIGKILL, -1 for ever (default: each container's own)",
            short="t",
            metavar="seconds",
            convert=wait_seconds,
        ),
    ),
    most=0,
    examples=(
        ("pycontain system shutdown", "as system unit's unit does, when the machine goes down"),
        ("pycontain system boot", "what was stopped so, and what is declared, comes again"),
    ),
)
