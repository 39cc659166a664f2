"""``rename``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli.flags import Verb

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _rename(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    app.engine.containers.rename(*arguments)
    return 0


RENAME = Verb(
    "rename",
    "CONTAINER NEW_NAME",
    "Rename a container",
    _rename,
    least=2,
    most=2,
    examples=(("pycontain rename amber_fox web", "it may be running"),),
)
