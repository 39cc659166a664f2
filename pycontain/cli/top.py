"""``top``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import output, streams
from pycontain.cli.flags import Verb

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App

_LEAST_WIDTH = 20


def _top(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    name, *options = arguments
    found = app.engine.containers.top(name, options)
    lines = ["\t".join(row) for row in (found.titles, *found.rows)]
    streams.write(output.align(lines, least=_LEAST_WIDTH))
    return 0


TOP = Verb(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    _top,
    least=1,
    mixed=False,
    examples=(
        ("pycontain top web", "its processes with their ids on the host"),
        ("pycontain top web -o pid,rss,args", "other columns, by the host's ps"),
    ),
)
