"""Pods as users make them."""

from __future__ import annotations

import msgspec

# msgspec reads the types.
from pycontain.model.container import Limits, Mount, NetworkChoice, Publish

SHARED = ("ipc", "net", "uts")
"""What the containers of a pod share unless the user says otherwise."""
KINDS = {"ipc": "ipc", "net": "network", "pid": "pid", "uts": "uts"}
"""Words of ``--share`` to the OCI namespace types."""


POD_LABEL = "io.kubernetes.pod.name"
"""Label of a pod that was played, and of its containers: as kubelet names them."""


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume in memory, which is there as long as what a pod's containers share.

    Containers mount it as a ``tmpfs`` whose source is its name.

    Attributes:
        name: unique in the pod.
        size: bytes that it may take at most; 0 is tmpfs(5)'s own limit.
        group: that its folders and files belong to; None: their makers'.
    """

    name: str
    size: int = 0
    group: int | None = None


KIND_LABEL = "io.pycontain.container.kind"
"""Label of containers that are started before the others: ``init`` or ``sidecar``."""


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
        memory: volumes in memory.
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
    memory: tuple[Memory, ...] = ()
    limits: Limits = Limits()


def cgroup_path(pod_id: str) -> str:
    """Return the cgroup that those of a pod's containers are in, absolute from the root."""
    return f"/pycontain/pod-{pod_id}/containers"
