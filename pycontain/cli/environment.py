"""What ``run`` and ``exec`` share: environment, user, working directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.cli.flags import Flag
from pycontain.errors import InvalidInput
from pycontain.model.parse.environment import parse_env_file, resolve_env

if TYPE_CHECKING:
    from pycontain.cli.flags import Values

ENV = Flag(
    "env",
    "set an environment variable; NAME alone takes our value",
    short="e",
    kind="list",
    metavar="NAME[=value]",
    convert=lambda word: resolve_env((word,), os.environ)[0],
)
ENV_FILE = Flag("env-file", "read environment variables from a file", kind="list", metavar="file")
USER = Flag("user", "user and group, names or numbers", short="u", metavar="user[:group]")
WORKDIR = Flag("workdir", "working directory in the container", short="w", metavar="folder")


def environment(values: Values) -> tuple[str, ...]:
    """Return the lines of ``--env-file`` and ``-e``, in the order in which later ones win.

    Raises:
        InvalidInput: a file cannot be read or understood.
    """
    files = [line for path in values["env-file"] for line in parse_env_file(path, os.environ)]
    return (*files, *values["env"])


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
