"""The user namespace that an ordinary user's containers share; see docs/adr for the decision."""

from __future__ import annotations

import os

_ENVIRONMENT = "_PYCONTAIN_ROOTLESS_UID"


def entered() -> bool:
    """Whether this process runs inside the user's namespace, as its root."""
    return _ENVIRONMENT in os.environ


def owner() -> int:
    """Return the uid of the user outside, whose store this is."""
    return int(os.environ.get(_ENVIRONMENT, os.geteuid()))


def environment() -> tuple[str, ...]:
    """Return the lines by which a process started from here knows where it is."""
    return (f"{_ENVIRONMENT}={os.environ[_ENVIRONMENT]}",) if entered() else ()
