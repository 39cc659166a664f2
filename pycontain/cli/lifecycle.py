"""The verbs that act on containers that exist: stop, restart, kill, rm and wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, switch, wait_seconds
from pycontain.model.parse.signals import parse_signal

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App

_SEVERAL = "[OPTIONS] CONTAINER [CONTAINER...]"


_TIME = Flag(
    "time timeout",
    "seconds to wait before SIGKILL, -1 for ever (default: the container's own)",
    short="t",
    metavar="seconds",
    convert=wait_seconds,
)
_SIGNAL = Flag("signal", "signal to send", short="s", metavar="signal")


def _signal(values: Values) -> int | None:
    # converted here: docker's exit code for a bad signal is the engine's, not that of a bad flag
    return None if values["signal"] is None else parse_signal(values["signal"])


def _done(name: str) -> None:
    streams.write(f"{name}\n")


def _stop(app: App, values: Values, arguments: list[str]) -> int:
    number = _signal(values)
    # An ordinary user's namespaces are entered while there is one thread.
    containers = app.engine.containers

    def act(name: str) -> None:
        containers.stop(name, timeout=values["time"], signal=number)

    return app.together(arguments, act)


def _restart(app: App, values: Values, arguments: list[str]) -> int:
    number = _signal(values)

    def act(name: str) -> None:
        app.engine.containers.restart(name, timeout=values["time"], signal=number)
        _done(name)

    return app.each(arguments, act)


def _kill(app: App, values: Values, arguments: list[str]) -> int:
    number = parse_signal(values["signal"])

    def act(name: str) -> None:
        app.engine.containers.kill(name, number)
        _done(name)

    return app.each(arguments, act)


def _rm(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.cli.exit_codes import message_of
    from pycontain.errors import NotFound

    def act(name: str) -> None:
        try:
            app.engine.containers.remove(name, force=values["force"], volumes=values["volumes"])
        except NotFound as err:
            if not values["force"]:
                raise
            # as docker: told, but what was wanted is so
            streams.complain(message_of(err))
            return
        _done(name)

    return app.each(arguments, act)


def _wait(app: App, values: Values, arguments: list[str]) -> int:
    conditions = [word for words in values["condition"] for word in words.split(",")]

    def act(name: str) -> None:
        code = _awaited(app, name, conditions) if conditions else app.engine.containers.wait(name)
        streams.write(f"{code}\n")
        streams.flush()

    return app.each(arguments, act)


def _awaited(app: App, name: str, conditions: list[str]) -> int:
    """Wait for one of `conditions`; return the exit code, as podman -1 where it has not ended."""
    containers = app.engine.containers
    ended = {"exited", "stopped"}
    # One that --rm removes is waited for by its process, and heard of however soon it is gone.
    if ended.issuperset(conditions) or containers.wait_for(name, conditions) in ended:
        return containers.wait(name)
    return -1


STOP = Verb(
    "stop",
    _SEVERAL,
    "Stop one or more running containers",
    _stop,
    flags=(_SIGNAL, _TIME),
    least=1,
    examples=(
        ("pycontain stop web", "its stop signal, then SIGKILL when its time is up"),
        ("pycontain stop -t 0 web db", "at once"),
    ),
)

RESTART = Verb(
    "restart",
    _SEVERAL,
    "Restart one or more containers",
    _restart,
    flags=(_SIGNAL, _TIME),
    least=1,
    examples=(("pycontain restart -t 3 web", "stop it within three seconds and start it again"),),
)

KILL = Verb(
    "kill",
    _SEVERAL,
    "Kill one or more running containers",
    _kill,
    flags=(
        Flag(
            "signal",
            "signal to send (default KILL)",
            short="s",
            metavar="signal",
            default="KILL",
        ),
    ),
    least=1,
    examples=(
        ("pycontain kill web", "SIGKILL"),
        ("pycontain kill -s HUP web", "ask it to read its configuration again"),
    ),
)

RM = Verb(
    "rm",
    _SEVERAL,
    "Remove one or more containers",
    _rm,
    flags=(
        switch("force", "kill it first if it runs", short="f"),
        switch("volumes", "remove its anonymous volumes too", short="v"),
    ),
    least=1,
    examples=(
        ("pycontain rm job", "remove a stopped container"),
        ("pycontain rm -f $(pycontain ps -aq)", "remove all containers"),
    ),
)

WAIT = Verb(
    "wait",
    _SEVERAL,
    "Block until one or more containers stop, then print their exit codes",
    _wait,
    flags=(
        Flag(
            "condition",
            "wait for this instead, or for one of several: running, paused, healthy, unhealthy, "
            "exited, removed (prints -1 where it has not ended)",
            kind="list",
            metavar="condition",
        ),
    ),
    least=1,
    examples=(
        ("pycontain wait job", "prints 0 when it went well"),
        ("pycontain wait --condition healthy db", "until its health check says so"),
    ),
)
