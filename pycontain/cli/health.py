"""The flags of health checks: a table for ``run`` and ``create``, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli.flags import Flag, Refused, integer, switch
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.model.container import HealthCheck


def _duration(text: str) -> int:
    from pycontain.model.parse.times import parse_duration

    try:
        return parse_duration(text)
    except InvalidInput as err:
        raise InvalidInput(f'invalid duration "{text}"', err.hint) from err


def _time(name: str, what: str) -> Flag:
    return Flag(name, what, metavar="duration", convert=_duration, default=0)


HEALTH_FLAGS = (
    Flag("health-cmd", "find out with this command, for a shell, how it is", metavar="command"),
    _time("health-interval", "time between the probes (default 30s)"),
    Flag(
        "health-retries",
        "so many failures in a row make it unhealthy (default 3)",
        metavar="n",
        convert=integer,
        default=0,
    ),
    _time("health-start-interval", "time between the probes in the start period (default 5s)"),
    _time("health-start-period", "time from the start in which failures do not count (default 0s)"),
    _time("health-timeout", "a probe that takes longer has failed (default 30s)"),
    switch("no-healthcheck", "do not make the image's health check"),
)
"""The flags that ``run`` and ``create`` share."""

_NUMBERS = {
    "interval": "health-interval",
    "timeout": "health-timeout",
    "start_period": "health-start-period",
    "start_interval": "health-start-interval",
    "retries": "health-retries",
}


def health_check(values: Values) -> HealthCheck | None:
    """Return what the flags say; None where they say nothing.

    Raises:
        Refused: they contradict each other, or a number is negative.
    """
    command: str = values["health-cmd"] or ""
    fields: dict[str, Any] = {name: values[flag] for name, flag in _NUMBERS.items() if values[flag]}
    if values["no-healthcheck"]:
        if command or fields:
            raise Refused("--no-healthcheck conflicts with --health-* options", None, 125)
        fields["test"] = ("NONE",)
    elif command:
        fields["test"] = ("CMD-SHELL", command)
    for name, flag in _NUMBERS.items():
        if fields.get(name, 0) < 0:
            raise Refused(f"--{flag} cannot be negative", None, 125)
    if not fields:
        return None
    from pycontain.model.container import HealthCheck

    return HealthCheck(**fields)
