"""The state of a container, and which verb is legal in it: one table."""

from __future__ import annotations

from typing import Literal

import msgspec

from pycontain.errors import InvalidState
from pycontain.model.container import ExitRecord  # noqa: TC001 - msgspec reads the types

State = Literal["created", "running", "paused", "restarting", "exited"]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a container now; derived each time, never stored.

    Attributes:
        state: ``created`` (never ran, or its last start failed), ``running``, ``paused``,
            ``restarting`` (has ended, and is about to be started again), ``exited``.
        pid: of the first process, on the host.
        started: nanoseconds since the epoch, of the present or the last run.
        record: how the last run ended.
        error: why the last start failed.
    """

    state: State
    pid: int | None = None
    started: int | None = None
    record: ExitRecord | None = None
    error: str | None = None


_LEGAL: dict[str, tuple[State, ...]] = {
    "start": ("created", "restarting", "exited"),
    "kill": ("running", "paused"),
    "attach": ("running",),
    "exec": ("running",),
    "join": ("running", "paused"),
    "pause": ("running",),
    "unpause": ("paused",),
    "top": ("running", "paused"),
    "remove": ("created", "exited"),
}

_SAID: dict[str, str] = {
    "start": "container {name} is already running",
    "kill": "container {name} is not running",
    "attach": "you cannot attach to a stopped container, start it first",
    "exec": "container {name} is not running",
    "join": "cannot join namespaces of container {name}: it is not running",
    "pause": "container {name} is not running",
    "unpause": "container {name} is not paused",
    "top": "container {name} is not running",
    "remove": "cannot remove container {name}: it is {state}",
}

_SAID_OF_PAUSED: dict[str, str] = {
    "start": "cannot start a paused container, try unpause instead",
    "attach": "you cannot attach to a paused container, unpause it first",
    "exec": "container {name} is paused, unpause the container before exec",
    "pause": "container {name} is already paused",
}

_SAID_OF_RESTARTING: dict[str, str] = {
    "kill": "container {name} is restarting, it has no process now",
    "attach": "you cannot attach to a restarting container, wait until it is running",
    "exec": "container {name} is restarting, wait until the container is running",
    "pause": "container {name} is restarting, wait until the container is running",
    "top": "container {name} is restarting, wait until the container is running",
    "remove": "you cannot remove a restarting container {name}",
}

_HINTS: dict[str, str] = {
    "exec": "start it first: pycontain start {name}",
    "remove": "stop it first, or use rm -f",
}

_HINTS_FOR_PAUSED: dict[str, str] = {
    "exec": "pycontain unpause {name}",
    "attach": "pycontain unpause {name}",
    "start": "pycontain unpause {name}",
    "remove": "unpause and stop it first, or use rm -f",
}


_HINTS_FOR_RESTARTING: dict[str, str] = {
    "kill": "pycontain stop {name} ends the restarts",
    "remove": "stop it first, or use rm -f",
}


def check(verb: str, name: str, status: Status) -> None:
    """Refuse `verb` where the container `name` is in a state in which it makes no sense.

    Raises:
        InvalidState: with the state and what to do.
    """
    if status.state in _LEGAL[verb]:
        return
    said, hint = _SAID[verb], _HINTS.get(verb)
    if status.state == "restarting":
        said, hint = _SAID_OF_RESTARTING.get(verb, said), _HINTS_FOR_RESTARTING.get(verb)
    if status.state == "paused":
        said, hint = _SAID_OF_PAUSED.get(verb, said), _HINTS_FOR_PAUSED.get(verb)
    said = said.format(name=name, state=status.state)
    raise InvalidState(said, hint.format(name=name) if hint else None)
