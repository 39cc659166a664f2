"""How a container is: what its probes found."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["starting", "healthy", "unhealthy"]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One probe that was made.

    Attributes:
        start, end: nanoseconds since the epoch.
        code: the exit code; -1 where there is none: it could not be started, or took too long.
        output: what it wrote to both streams, at most 4096 bytes; or why there is no exit code.
    """

    start: int
    end: int
    code: int
    output: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """``health.json``: what is known of one run of a container that has a check.

    Written by the supervisor alone, after each probe; the next run begins anew.

    Attributes:
        run: id of the run.
        status: ``starting`` until a probe decides.
        streak: how many probes in a row have failed, of those that count.
        log: the last five probes, oldest first.
    """

    run: str
    status: Verdict = "starting"
    streak: int = 0
    log: tuple[Probe, ...] = ()
