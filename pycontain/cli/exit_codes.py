"""Errors to exit codes and to what the user reads: the one table of this face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli.flags import Refused
from pycontain.cli.streams import harmless
from pycontain.errors import CommandNotFound, NotExecutable, PycontainError

if TYPE_CHECKING:
    from pycontain.cli.flags import Verb

COMMAND_CODES: tuple[tuple[type[PycontainError], int], ...] = (
    (CommandNotFound, 127),
    (NotExecutable, 126),
)
"""Of the verbs that report how a command in a container went, as the shell has them."""

BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read our output has gone."""

INTERRUPTED = 130
"""128 + SIGINT."""

INTERNAL = 70
"""An error that is not one of ours: a bug. EX_SOFTWARE of sysexits.h."""

_DOCKERS_WORDS = (
    ("no such container", "No such container"),
    ("no such object", "No such object"),
    ("no such image", "No such image"),
    ("the container name", "Conflict. The container name"),
    ("you cannot attach", "You cannot attach"),
)


def exit_code(error: PycontainError, verb: Verb | None) -> int:
    """Return the process's exit code for `error` while `verb` was carried out.

    docker: an error of the engine is 125 for ``run`` and 1 for the others; a command that is not
    there 127, that cannot be executed 126; a bad flag 125 for every verb.
    """
    if isinstance(error, Refused):
        return error.code
    if verb is None:
        return 1
    if verb.command:
        for kind, code in COMMAND_CODES:
            if isinstance(error, kind):
                return code
    return verb.failure


def message_of(error: PycontainError) -> str:
    """Return the lines for standard error.

    Where scripts look for docker's text, its spelling is kept: ``No such container: x``.
    """
    text = error.message
    for ours, dockers in _DOCKERS_WORDS:
        if text.startswith(ours):
            text = dockers + text[len(ours) :]
    lines = f"pycontain: {text}\n"
    return harmless(f"{lines}hint: {error.hint}\n" if error.hint else lines)
