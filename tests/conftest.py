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
def nothing_is_traced() -> Iterator[None]:
    """``--debug`` turns tracing on for a whole process: the next test did not ask for it."""
    yield
    trace.enable(None)
