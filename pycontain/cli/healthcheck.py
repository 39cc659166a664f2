"""``healthcheck``: one probe, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Verb

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _run(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    probe = app.engine.containers.probe(arguments[0])
    if probe.code == 0:
        return 0
    streams.write("unhealthy\n")
    return 1


RUN = Verb(
    "run",
    "CONTAINER",
    "Make one probe of a container; its health does not change by that",
    _run,
    least=1,
    most=1,
    failure=125,
    examples=(("pycontain healthcheck run db && echo fine", "exit code 0 or 1"),),
)
