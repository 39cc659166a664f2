"""The table: every scene."""

from __future__ import annotations

from . import (
    table_containers,
    table_events,
    table_files,
    table_images,
    table_limits,
    table_listings,
    table_run,
    table_system,
)

SCENES = (
    *table_run.SCENES,
    *table_containers.SCENES,
    *table_listings.SCENES,
    *table_limits.SCENES,
    *table_files.SCENES,
    *table_events.SCENES,
    *table_system.SCENES,
    *table_images.SCENES,
)
