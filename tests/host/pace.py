"""How long tests wait for what must happen: longer where the processor is emulated."""

from __future__ import annotations

import os

IN_VM = os.environ.get("PYCONTAIN_TEST_VM") == "1"
SLOWNESS = 10.0 if IN_VM else 4.0
"""Elsewhere other tests, and the machine that is emulated, have the same processors."""


def seconds(quiet: float) -> float:
    """How long to wait for what a quiet machine does in `quiet` seconds at the most."""
    return quiet * SLOWNESS
