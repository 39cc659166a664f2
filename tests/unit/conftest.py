"""How the unit tests run."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says more about what else the machine does.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
