"""``export``."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from pycontain.cli.flags import Flag, Refused, Verb
from pycontain.errors import kernel_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _export(app: App, values: Values, arguments: list[str]) -> int:
    def write(file: BinaryIO) -> None:
        app.engine.containers.export(arguments[0], file)

    path = values["output"]
    if path:
        _to_file(path, write)
    elif sys.stdout.isatty():
        raise Refused(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            f"pycontain export -o {arguments[0]}.tar {arguments[0]}",
        )
    else:
        write(sys.stdout.buffer)
    return 0


def _to_file(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file that appears as a whole; what stood there stays until then."""
    _check(path)
    temporary = f"{path}.new-{os.getpid()}"
    try:
        # Mode 0600: it may hold what only root could read in the container.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise kernel_error("write", path, err.errno or 0) from err
    try:
        with open(fd, "wb", buffering=0) as file:
            write(file)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _check(path: str) -> None:
    above = os.path.dirname(path) or "."
    if not os.path.isdir(above):
        raise Refused(f'invalid output path: directory "{above}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise Refused(f'invalid output path: "{path}" is not a regular file')


EXPORT = Verb(
    "export",
    "[OPTIONS] CONTAINER",
    "Write a container's file system as a tar archive, without what is mounted in it",
    _export,
    flags=(
        Flag("output", "write to a file instead of standard output", short="o", metavar="file"),
    ),
    least=1,
    most=1,
    examples=(
        ("pycontain export -o web.tar web", "into a file"),
        ("pycontain export web | tar t", "what is in it"),
    ),
)
