"""``update``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb
from pycontain.cli.limits import LIMIT_FLAGS, limit_fields
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _update(app: App, values: Values, arguments: list[str]) -> int:
    fields = limit_fields(values)
    restart: str | None = values["restart"] or None
    if not fields and restart is None:
        raise InvalidInput(
            "nothing to change is given: at least one flag is needed",
            "pycontain update --help lists the flags",
        )
    from pycontain.model.container import Limits

    changes = Limits(**fields)

    def act(name: str) -> None:
        app.engine.containers.update(name, changes, restart=restart)
        streams.write(f"{name}\n")

    return app.each(arguments, act)


UPDATE = Verb(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Change limits and restart policy of one or more containers, now and for their next starts",
    _update,
    flags=(
        *LIMIT_FLAGS,
        Flag(
            "restart",
            "restart policy: no, on-failure[:most], always or unless-stopped",
            metavar="policy",
        ),
    ),
    least=1,
    examples=(
        ("pycontain update --memory 256m --cpus 0.5 web", "while it runs"),
        ("pycontain update --pids-limit -1 web db", "without a limit from now on"),
        ("pycontain update --restart no job", "let it end"),
    ),
)
