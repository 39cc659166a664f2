"""What the containers of a pod ask for together.

Source: "Init Containers", "Sidecar Containers" and "Pod-level resources" of the Kubernetes
documentation.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pycontain.pod.quantities import quantity

if TYPE_CHECKING:
    from pycontain.model import kube


def of_pod(spec: kube.PodSpec, name: str) -> Decimal:
    """Return what a pod asks for: what it says itself, or what its containers do.

    Args:
        spec: of the pod.
        name: of the resource: ``cpu`` (processors) or ``memory`` (bytes).
    """
    if name in spec.resources.requests:
        return quantity(spec.resources.requests[name])
    return of_containers(spec, name) or quantity(spec.resources.limits.get(name, 0))


def of_containers(spec: kube.PodSpec, name: str) -> Decimal:
    """Return the most that a pod's containers ask for at one time.

    That is all of them with the sidecars, or one that initialises with the sidecars before it. A
    limit stands for a request that is not said.
    """
    most = beside = Decimal(0)
    for container in spec.init_containers:
        wanted = _asked(container, name)
        if container.restart_policy == "Always":
            beside += wanted
            wanted = Decimal(0)
        most = max(most, beside + wanted)
    return max(most, beside + sum(_asked(one, name) for one in spec.containers))


def _asked(container: kube.Container, name: str) -> Decimal:
    resources = container.resources
    return quantity(resources.requests.get(name, resources.limits.get(name, 0)))
