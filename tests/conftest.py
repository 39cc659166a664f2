"""What all tests share: how the process that runs them stands."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell starts what goes on in the background with SIGINT ignored, and exec keeps that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
