"""What all tests share: how the process that runs them stands, and that each leaves it so."""

from __future__ import annotations

import ctypes
import signal
from collections import Counter
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


_libc = ctypes.CDLL(None)
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
LONG = frozenset((
    "test_image_recipes.py", "test_kill9.py", "test_many.py", "test_parity.py", "test_sanitize.py",
    "test_servers.py",
))  # fmt: skip
"""Files that take a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, then those with the most tests: so that no worker goes on with
    a long one alone at the end.
    """
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG, -sizes[item.path]))


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Commands that are called in this process are made for one of their own.

    ``--debug`` turns tracing on; what stays in the foreground of the OCI face blocks signals, and
    becomes the parent of orphans.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    trace.enable(None)
