"""``cp``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from pycontain.cli import streams
from pycontain.cli.flags import Refused, Verb, switch

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


class Place(NamedTuple):
    """One argument of ``cp``.

    Attributes:
        container: id or name; None for the caller's own files.
        path: as it was written.
    """

    container: str | None
    path: str


def place(argument: str) -> Place:
    """Read an argument, ``CONTAINER:PATH`` or a path.

    What begins with a slash or a dot is a path, whatever colons it has.

    Raises:
        Refused: nothing before or behind the colon.
    """
    name, colon, path = argument.partition(":")
    if argument.startswith(("/", ".")) or not colon:
        return Place(None, argument)
    if not name:
        raise Refused(
            f"{argument}: container name is empty", f"a file of that name is ./{argument}"
        )
    if not path:
        raise Refused(f"{argument}: path cannot be empty", f"the container's root is {name}:/")
    return Place(name, path)


def _places(arguments: list[str]) -> tuple[Place, Place]:
    for word, what in zip(arguments, ("source", "destination"), strict=True):
        if not word:
            raise Refused(f"{what} can not be empty")
    source, target = map(place, arguments)
    if source.container is not None and target.container is not None:
        raise Refused(
            "copying between containers is not supported",
            "use an archive: pycontain cp ONE:PATH - | pycontain cp - OTHER:FOLDER",
        )
    if source.container is None and target.container is None:
        raise Refused("must specify at least one container source", "as CONTAINER:PATH")
    return source, target


def _cp(app: App, values: Values, arguments: list[str]) -> int:
    source, target = _places(arguments)
    options = {"archive": values["archive"], "follow": values["follow-link"]}
    containers = app.engine.containers
    if target.container is not None:
        with containers.tree(target.container) as tree:
            stream = sys.stdin.buffer if source.path == "-" else source.path
            size = tree.copy_in(stream, target.path, **options)
    elif source.container is not None:
        with containers.tree(source.container) as tree:
            if target.path == "-":
                tree.copy_out(source.path, sys.stdout.buffer, **options)
                return 0
            size = tree.copy_out(source.path, target.path, **options)
    if _tells(values):
        from pycontain.cli.output import human_size

        streams.complain(f"Successfully copied {human_size(size)} to {arguments[1]}\n")
    return 0


def _tells(values: Values) -> bool:
    """Whether to say how it went: to a person at a terminal, or where that was asked for."""
    return not values["quiet"] if values.given("quiet") else sys.stdout.isatty()


CP = Verb(
    "cp",
    "[OPTIONS] CONTAINER:PATH PATH|-  or  PATH|- CONTAINER:PATH",
    "Copy files and folders between a container and the local file system",
    _cp,
    flags=(
        switch(
            "archive",
            "keep owners, and what was given to them: set-id bits, capabilities",
            short="a",
        ),
        switch("follow-link", "copy what the source leads to where it is a link", short="L"),
        switch("quiet", "do not say how much was copied (default: only on a terminal)", short="q"),
    ),
    least=2,
    most=2,
    examples=(
        ("pycontain cp site.conf web:/etc/nginx/", "into a folder, running or not"),
        ("pycontain cp web:/var/log/. logs", "what is in a folder, into the folder logs"),
        ("pycontain cp web:/srv - | tar t", "as a tar archive"),
        ("tar c app | pycontain cp - web:/srv", "extract a tar archive, with its owners"),
    ),
)
