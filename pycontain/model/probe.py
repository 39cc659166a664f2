"""What is asked of a container while it runs, and done when it starts and ends: probes and hooks.

Words and defaults are Kubernetes' (core/v1: Probe, Lifecycle); times are seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a container's document."""


class ExecAction(_Part, frozen=True, kw_only=True, tag="exec"):
    """A program in the container; it succeeds with exit code 0."""

    command: tuple[str, ...]


class HttpAction(_Part, frozen=True, kw_only=True, tag="http"):
    """A GET; a status of 200 to 399 is a success.

    Attributes:
        host: empty is the container itself.
        headers: names and values.
    """

    port: int
    path: str = "/"
    host: str = ""
    scheme: Literal["http", "https"] = "http"
    headers: tuple[tuple[str, str], ...] = ()


class TcpAction(_Part, frozen=True, kw_only=True, tag="tcp"):
    """A connection; it succeeds once it stands.

    Attributes:
        host: empty is the container itself.
    """

    port: int
    host: str = ""


class SleepAction(_Part, frozen=True, kw_only=True, tag="sleep"):
    """Nothing, for so many seconds; a hook only."""

    seconds: int


class ProbeCheck(_Part, frozen=True, kw_only=True):
    """How a container is asked.

    Attributes:
        initial_delay: after its start.
        period: from one probe to the next.
        timeout: after which a probe has failed.
        successes: so many in a row make it well.
        failures: so many in a row make it unwell.
        grace: before a container is killed that is unwell; None is its own stop time-out.
    """

    action: ExecAction | HttpAction | TcpAction
    initial_delay: int = 0
    period: int = 10
    timeout: int = 1
    successes: int = 1
    failures: int = 3
    grace: int | None = None


class Probes(_Part, frozen=True, kw_only=True):
    """The probes of a container.

    Attributes:
        startup: until it has succeeded the others are not made; failed, the container is ended.
        liveness: failed, the container is ended, and its restart policy says what follows.
        readiness: says whether it can be used.
    """

    startup: ProbeCheck | None = None
    liveness: ProbeCheck | None = None
    readiness: ProbeCheck | None = None


class Hooks(_Part, frozen=True, kw_only=True):
    """What is done with a container at its start and before its end.

    Attributes:
        post_start: right after its start; failed, the container is ended.
        pre_stop: before the stop signal, within the stop time-out.
    """

    post_start: ExecAction | HttpAction | TcpAction | SleepAction | None = None
    pre_stop: ExecAction | HttpAction | TcpAction | SleepAction | None = None


class Streak(_Part, frozen=True, kw_only=True):
    """What the probes of one kind have come to in one run.

    Attributes:
        count: how many in a row have succeeded; negative: have failed.
        last: when the newest one began, nanoseconds since the epoch; 0: none was made.
    """

    count: int = 0
    last: int = 0


class ProbeRecord(_Part, frozen=True, kw_only=True):
    """``probes.json``: what is known of one run of a container that has probes.

    Written by the supervisor alone, after each probe; the next run begins anew.

    Attributes:
        run: id of the run.
        started: its startup probe has succeeded, or it has none.
        ready: it is started, and its readiness probe, where it has one, says that it can be used.
        since: when `ready` became so, nanoseconds since the epoch; 0: with the start.
        message: what the newest probe that failed has said; empty once the same kind succeeds.
        failed: for which probe it is ended; empty: for none.
        startup, liveness, readiness: of each kind.
    """

    run: str
    started: bool = False
    ready: bool = False
    since: int = 0
    message: str = ""
    failed: Literal["", "startup", "liveness"] = ""
    startup: Streak = Streak()
    liveness: Streak = Streak()
    readiness: Streak = Streak()


class ProbeState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a container has started and can be used.

    Attributes:
        since: when `ready` became so, nanoseconds since the epoch; 0: it does not run.
        message: why it is not ready, or what its newest failed probe has said; empty where there is
            nothing to say.
    """

    started: bool
    ready: bool
    since: int
    message: str = ""
