"""The table: every scene."""

from __future__ import annotations

from . import (
    table_commit,
    table_containers,
    table_events,
    table_files,
    table_health,
    table_images,
    table_kube,
    table_kube_show,
    table_limits,
    table_listings,
    table_manifests,
    table_networks,
    table_pods,
    table_ports,
    table_restart,
    table_run,
    table_system,
    table_volumes,
)

SCENES = (
    *table_run.SCENES,
    *table_containers.SCENES,
    *table_listings.SCENES,
    *table_limits.SCENES,
    *table_files.SCENES,
    *table_events.SCENES,
    *table_system.SCENES,
    *table_ports.SCENES,
    *table_networks.SCENES,
    *table_images.SCENES,
    *table_manifests.SCENES,
    *table_volumes.SCENES,
    *table_commit.SCENES,
    *table_health.SCENES,
    *table_restart.SCENES,
    *table_pods.SCENES,
    *table_kube.SCENES,
    *table_kube_show.SCENES,
)
