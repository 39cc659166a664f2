"""Pods as users make them."""

from __future__ import annotations

import msgspec

# msgspec reads the types.
from pycontain.model.container import Limits, Mount, NetworkChoice, Publish

SHARED = ("ipc", "net", "uts")
"""What the containers of a pod share unless the user says otherwise."""
KINDS = {"ipc": "ipc", "net": "network", "pid": "pid", "uts": "uts"}
"""Words of ``--share`` to the OCI namespace types."""


class Pod(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``pod.json``: what was asked for, immutable.

    Attributes:
        version: of this document's form.
        id: 64 hexadecimal digits.
        created: nanoseconds since the epoch.
        share: which namespaces its containers share, of ``ipc``, ``net``, ``pid`` and ``uts``,
            sorted.
        hostname: of the shared UTS namespace.
        network: ``bridge``, ``none`` or ``host``, as of a container; where `net` is not shared,
            ``none``.
        networks: that it is in; empty unless `network` is ``bridge``.
        publish: ports of the host that lead to it.
        add_host, dns, dns_search, dns_option: as of a container.
        volumes: what each of its containers has mounted, unless it has something else there.
        shm_size: bytes of the shared /dev/shm.
        limits: of all its containers together.
    """

    version: int = 1
    id: str
    name: str
    created: int
    labels: dict[str, str] = {}
    share: tuple[str, ...] = SHARED
    hostname: str = ""
    network: str = "none"
    networks: tuple[NetworkChoice, ...] = ()
    publish: tuple[Publish, ...] = ()
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    volumes: tuple[Mount, ...] = ()
    shm_size: int = 64 << 20
    limits: Limits = Limits()


def cgroup_path(pod_id: str) -> str:
    """Return the cgroup that those of a pod's containers are in, absolute from the root."""
    return f"/pycontain/pod-{pod_id}/containers"
