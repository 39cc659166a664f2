"""``pause`` and ``unpause``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _each(app: App, names: list[str], change: Callable[[str], object]) -> int:
    def act(name: str) -> None:
        change(name)
        streams.write(f"{name}\n")

    return app.each(names, act)


def _pause(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return _each(app, arguments, app.engine.containers.pause)


def _unpause(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return _each(app, arguments, app.engine.containers.unpause)


PAUSE = Verb(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    _pause,
    least=1,
    examples=(("pycontain pause web", "nothing of it runs until it is unpaused"),),
)

UNPAUSE = Verb(
    "unpause",
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    _unpause,
    least=1,
    examples=(("pycontain unpause web db", "they go on where they were"),),
)
