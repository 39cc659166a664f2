"""How the unit tests run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes, or is in the making, says more about what else the machine does.
settings.register_profile(
    "without deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("without deadline")
