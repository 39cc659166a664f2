"""``port``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Verb
from pycontain.errors import InvalidInput, NotFound
from pycontain.network import ports

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _port(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    name = arguments[0]
    found = app.engine.containers.ports(name)
    if len(arguments) == 1:
        for entry in sorted(found, key=lambda entry: (entry.target, entry.protocol)):
            where = ports.endpoint(entry.address, entry.port)
            streams.write(f"{entry.target}/{entry.protocol} -> {where}\n")
        return 0
    wanted = _wanted(arguments[1])
    lines = [
        f"{ports.endpoint(entry.address, entry.port)}\n"
        for entry in found
        if (entry.target, entry.protocol) == wanted
    ]
    if not lines:
        raise NotFound(f"No public port '{arguments[1]}' published for {name}")
    streams.write("".join(lines))
    return 0


def _wanted(word: str) -> tuple[int, str]:
    number, _, protocol = word.partition("/")
    if not (number.isascii() and number.isdecimal()) or int(number) > 65535:
        raise InvalidInput(f"invalid port ({number}): not a number from 0 to 65535")
    return int(number), protocol.lower() or "tcp"


PORT = Verb(
    "port",
    "CONTAINER [PORT[/PROTOCOL]]",
    "List the published ports of a container, or where one of them is",
    _port,
    least=1,
    most=2,
    examples=(
        ("pycontain port web", "80/tcp -> 0.0.0.0:8080"),
        ("pycontain port web 80", "where port 80 is to be reached"),
    ),
)
