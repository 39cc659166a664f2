"""``exec``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli.attach import DETACH_KEYS, check_terminal, relay
from pycontain.cli.environment import ENV, ENV_FILE, USER, WORKDIR, environment, working_folder
from pycontain.cli.flags import Flag, Verb, switch
from pycontain.cli.terminal import our_size
from pycontain.errors import InvalidInput, PycontainError

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App


def _timeout(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # not a number and infinity compare false
    if not 0 <= number < 1e9:
        raise InvalidInput("must be a number of seconds, 0 for none")
    return number


def _exec(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.model.container import ExecOptions

    name, *command = arguments
    detach: bool = values["detach"]
    interactive = values["interactive"] and not detach
    tty: bool = values["tty"]
    options = ExecOptions(
        command=tuple(command),
        interactive=interactive,
        tty=tty,
        detach=detach,
        env=environment(values),
        user=values["user"],
        workdir=working_folder(values),
        timeout=values["timeout"],
    )
    check_terminal(interactive, tty)
    size = our_size() if tty else None
    attachment = app.engine.containers.exec(name, options, size=size)
    if attachment is None:
        return 0
    return relay(
        attachment,
        values,
        stdin=interactive,
        tty=tty,
        vanished=lambda: _lost(name),
    )


def _lost(name: str) -> int:
    raise PycontainError(f"exec in {name}: the connection was lost before the command's end")


EXEC = Verb(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    _exec,
    flags=(
        switch("detach", "run the command in the background", short="d"),
        DETACH_KEYS,
        ENV,
        ENV_FILE,
        switch("interactive", "keep standard input open", short="i"),
        Flag(
            "timeout",
            "kill the command after so many seconds (default: never)",
            metavar="seconds",
            convert=_timeout,
            default=0.0,
        ),
        switch("tty", "allocate a terminal", short="t"),
        USER,
        WORKDIR,
    ),
    least=2,
    mixed=False,
    command=True,
    examples=(
        ("pycontain exec web ps", "see its processes"),
        ("pycontain exec -it web sh", "a shell in it"),
        ("pycontain exec --timeout 5 -u nobody web true", "as another user, five seconds long"),
    ),
)
