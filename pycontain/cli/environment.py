"""What ``run`` and ``exec`` share: environment, user, working directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.cli.flags import Flag
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycontain.cli.flags import Values


def variable(text: str) -> str:
    """Check the value of ``-e``: ``NAME=value`` or ``NAME``."""
    if not text.partition("=")[0]:
        raise InvalidInput(f"invalid environment variable: {text}")
    return text


def resolve(lines: Iterable[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Give each ``NAME`` its value from `environ`; one that has none there is left out.

    Raises:
        InvalidInput: a value is not UTF-8.
    """
    for line in lines:
        if "=" in line:
            yield line
        elif line in environ:
            value = environ[line]
            try:
                value.encode()
            except UnicodeEncodeError as err:
                raise InvalidInput(f"environment variable {line}: not valid utf-8") from err
            yield f"{line}={value}"


def parse_env_file(content: bytes, path: str) -> list[str]:
    """Return the variables of an env file, ``NAME=value`` or ``NAME``.

    One a line; blank lines, lines that begin with ``#`` and blanks before the name are skipped;
    everything behind the equals sign is the value, quotes included: docker's form has no quoting.

    Raises:
        InvalidInput: a name with blanks, no name, not UTF-8.
    """
    lines = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip()
        except UnicodeDecodeError as err:
            raise InvalidInput(f"env file {path}: line {number}: not valid utf-8") from err
        if line and not line.startswith("#"):
            _check_name(line.partition("=")[0], f"{path}: line {number}")
            lines.append(line)
    return lines


def _check_name(name: str, where: str) -> None:
    if not name:
        raise InvalidInput(f"env file {where}: no variable name")
    if any(char.isspace() for char in name):
        raise InvalidInput(f"env file {where}: variable '{name}' contains whitespaces")
    if "\0" in name:
        raise InvalidInput(f"env file {where}: variable name holds a nul byte")


def read_env_file(path: str) -> list[str]:
    """Return the variables of the env file `path`.

    Raises:
        InvalidInput: it cannot be read or understood.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as err:
        reason = (getattr(err, "strerror", None) or str(err)).lower()
        raise InvalidInput(f"open {path}: {reason}") from err
    if b"\0" in content:
        raise InvalidInput(f"env file {path}: holds a nul byte")
    return parse_env_file(content, path)


def environment(values: Values) -> tuple[str, ...]:
    """Return the ``NAME=value`` lines of ``--env-file`` and ``-e``; later ones win."""
    lines = [line for path in values["env-file"] for line in read_env_file(path)]
    return tuple(resolve([*lines, *values["env"]], os.environ))


def working_folder(values: Values) -> str | None:
    """Return ``-w``, None where it was not given.

    Raises:
        InvalidInput: it is not an absolute path.
    """
    folder: str | None = values["workdir"] or None
    if folder is not None and not folder.startswith("/"):
        raise InvalidInput(
            f"the working directory '{folder}' is invalid, it needs to be an absolute path"
        )
    return folder


ENV = Flag(
    "env",
    "set an environment variable; NAME alone takes our value",
    short="e",
    kind="list",
    metavar="NAME[=value]",
    convert=variable,
)
ENV_FILE = Flag("env-file", "read environment variables from a file", kind="list", metavar="file")
USER = Flag("user", "user and group, names or numbers", short="u", metavar="user[:group]")
WORKDIR = Flag("workdir", "working directory in the container", short="w", metavar="folder")
