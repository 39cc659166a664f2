"""How long each step took, for whoever wants to know (``--debug``); nothing when nobody does."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[[str, float], None]

_sink: Sink | None = None


def enable(sink: Sink | None) -> None:
    """Give every step from now on to `sink`, as words and seconds; None stops that."""
    global _sink
    _sink = sink


def enabled() -> bool:
    """Whether anybody wants to know."""
    return _sink is not None


def report(step: str, seconds: float) -> None:
    """Give one step to the sink."""
    if _sink is not None:
        _sink(step, seconds)


class Span:
    """A step that lasts as long as a ``with`` block."""

    __slots__ = ("_start", "_step")

    def __init__(self, step: str) -> None:
        self._step = step
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        report(self._step, time.perf_counter() - self._start)
