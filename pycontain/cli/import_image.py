"""``import``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.commit import CHANGE
from pycontain.cli.flags import Flag, Verb
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from typing import BinaryIO

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _import(app: App, values: Values, arguments: list[str]) -> int:
    source: str | BinaryIO = arguments[0]
    if source == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidInput("import: nothing comes from a terminal", "redirect it from a file")
        source = sys.stdin.buffer
    image = app.engine.images.import_(
        source,
        arguments[1] if len(arguments) > 1 else None,
        changes=values["change"],
        message=values["message"],
        platform=values["platform"],
    )
    streams.write(f"{image.id}\n")
    return 0


IMPORT = Verb(
    "import",
    "[OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]",
    "Make an image of a tar archive of files",
    _import,
    flags=(
        CHANGE,
        Flag("message", "a word for the history", short="m", metavar="text", default=""),
        Flag("platform", "for this machine, as linux/arm64", metavar="os/arch[/variant]"),
    ),
    least=1,
    most=2,
    examples=(
        ("pycontain import -c 'CMD [\"sh\"]' root.tar.gz team/root", "from a file"),
        ("pycontain export web | pycontain import - web:flat", "a container in one layer"),
    ),
)
