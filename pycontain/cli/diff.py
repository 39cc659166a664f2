"""``diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Verb

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _diff(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    for change in app.engine.containers.changes(arguments[0]):
        streams.write(f"{change.kind} {change.path}\n")
    return 0


DIFF = Verb(
    "diff",
    "CONTAINER",
    "List what a container changed on its file system: A added, C changed, D deleted",
    _diff,
    least=1,
    most=1,
    examples=(("pycontain diff web", "as A /etc/new, C /etc, D /tmp/old"),),
)
