"""``commit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, switch

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App

CHANGE = Flag(
    "change",
    "change the configuration by a line as in a Dockerfile, as 'CMD [\"sh\"]' or ENV=…",
    short="c",
    kind="list",
    metavar="instruction",
)


def _commit(app: App, values: Values, arguments: list[str]) -> int:
    image = app.engine.containers.commit(
        arguments[0],
        arguments[1] if len(arguments) > 1 else None,
        author=values["author"],
        message=values["message"],
        changes=values["change"],
        pause=values["pause"] if values.given("pause") else None,
    )
    streams.write(f"{image.id}\n")
    return 0


COMMIT = Verb(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Make an image of what a container changed, on top of its image",
    _commit,
    flags=(
        Flag("author", "who made it", short="a", metavar="name", default=""),
        CHANGE,
        Flag("message", "a word for the history", short="m", metavar="text", default=""),
        switch(
            "pause",
            "the container's processes wait meanwhile; without it said, where it has a cgroup",
            short="p",
            default=True,
        ),
    ),
    least=1,
    most=2,
    examples=(
        ("pycontain commit web team/web:2", "what web has changed, under a name"),
        ("pycontain commit -c 'CMD [\"serve\"]' -c 'EXPOSE 80' web", "and how it begins"),
    ),
)
