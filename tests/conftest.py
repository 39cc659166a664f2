"""What all tests share: how the process that runs them stands, and that each leaves it so."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from pycontain import trace

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    """A shell starts what goes on in the background with SIGINT ignored, nohup with SIGHUP."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Commands that are called in this process are made for one of their own.

    ``--debug`` turns tracing on, and what stays in the foreground of the OCI face blocks signals.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    trace.enable(None)
