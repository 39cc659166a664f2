"""Health of containers: which check one has, and what is known of it.

The supervisor makes the probes and writes ``health.json``; whoever looks reads it. What is not
there is derived: of a run that nobody has probed yet, *starting*.

Source: docker's ``HealthConfig`` and ``State.Health`` (Engine API), whose words and defaults these
are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pycontain.engine import effective, records
from pycontain.errors import InvalidInput
from pycontain.model.health import Health

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine.containers import View
    from pycontain.model.container import Container, HealthCheck
    from pycontain.store.layout import ContainerPaths

SECOND = 1_000_000_000
MOST_OUTPUT = 4096
"""Bytes that are kept of what a probe writes."""

_INTERVAL = 30 * SECOND
_TIMEOUT = 30 * SECOND
_START_INTERVAL = 5 * SECOND
_RETRIES = 3
_LEAST = 1_000_000
_SHELL = ("/bin/sh", "-c")
_KINDS = ("CMD", "CMD-SHELL", "NONE")


# ---- checks ----


def validate(check: HealthCheck) -> None:
    """Refuse a check that nobody can make.

    Raises:
        InvalidInput: with the part that is wrong.
    """
    test = check.test or ()
    if test and test[0] not in _KINDS:
        raise InvalidInput(f"health check: unknown type {test[0]!r}", f"one of {', '.join(_KINDS)}")
    if len(test) == 1 and test[0] != "NONE":
        raise InvalidInput(f"health check: {test[0]}: no command follows")
    durations = {
        "interval": check.interval,
        "timeout": check.timeout,
        "start period": check.start_period,
        "start interval": check.start_interval,
    }
    for name, value in durations.items():
        if value and value < _LEAST:
            raise InvalidInput(f"{name} in health check cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidInput("retries in health check cannot be negative")


def check_of(container: Container) -> HealthCheck | None:
    """Return the check that is made of a container, defaults filled in; None where none is.

    The default of the interval in the start period is docker's 5 s, but not more than the interval:
    who asks for a probe each second wants no fewer at the start.
    """
    check = effective.health_check(container.options, container.config)
    if check is None or not check.test:
        return None
    if check.test[0] not in ("CMD", "CMD-SHELL") or len(check.test) < 2:
        return None
    interval = _said(check.interval, _INTERVAL)
    return replace(
        check,
        interval=interval,
        timeout=_said(check.timeout, _TIMEOUT),
        start_period=max(0, check.start_period),
        start_interval=_said(check.start_interval, min(_START_INTERVAL, interval)),
        retries=_said(check.retries, _RETRIES),
    )


def _said(value: int, default: int) -> int:
    return value if value > 0 else default


def command(container: Container, check: HealthCheck) -> tuple[str, ...]:
    """Return the argument vector of a check's probes."""
    kind, *words = check.test or ("",)
    if kind == "CMD":
        return tuple(words)
    return (*(container.config.shell or _SHELL), *words)


# ---- what is known ----


def load(paths: ContainerPaths, run: str) -> Health | None:
    """Return what is known of a run, None where nobody has probed it.

    Raises:
        StoreError: the document is damaged.
    """
    return records.load_of_run(paths.health, Health, run)


def save(paths: ContainerPaths, health: Health) -> bool:
    """Write what is known of a run; for the supervisor alone. Blocks while others change it.

    Returns:
        Whether it was written: it is not where another run has begun, or the container is gone.

    Raises:
        StoreError: it cannot be written.
    """
    return records.save_of_run(paths, paths.health, health)


def of(view: View) -> Health | None:
    """Return how a container is; None where it has no check, or never ran.

    Of one that has ended its last probes are known still; as docker has it, it is unhealthy.

    Raises:
        StoreError: a document is damaged.
    """
    if view.status.state == "created" or check_of(view.container) is None:
        return None
    run = records.last_run(view.paths)
    known = load(view.paths, run) or Health(run=run)
    if view.status.state in ("running", "paused"):
        return known
    return replace(known, status="unhealthy")


def document(health: Health, time: Callable[[int], str]) -> dict[str, Any]:
    """Return docker's ``State.Health``.

    Args:
        health: what is known.
        time: makes docker's text of nanoseconds since the epoch.
    """
    return {
        "Status": health.status,
        "FailingStreak": health.streak,
        "Log": [
            {
                "Start": time(probe.start),
                "End": time(probe.end),
                "ExitCode": probe.code,
                "Output": probe.output,
            }
            for probe in health.log
        ],
    }


def check_document(check: HealthCheck) -> dict[str, Any]:
    """Return docker's ``Config.Healthcheck``: what is not said is not there."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(check)
    return found
