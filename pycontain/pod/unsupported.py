"""Fields and kinds that Kubernetes knows and pycontain does nothing with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.pod.checks import step_text
from pycontain.pod.quantities import RESOURCES
from pycontain.pod.typed import fields

if TYPE_CHECKING:
    from collections.abc import Iterator

_HARMLESS: dict[str, object] = {
    "enableServiceLinks": True,
    "fsGroupChangePolicy": "Always",
    "hostUsers": True,
    "mountPropagation": "None",
    "os": {"name": "linux"},
    "preemptionPolicy": "PreemptLowerPriority",
    "recursiveReadOnly": "Disabled",
    "schedulerName": "default-scheduler",
    "supplementalGroupsPolicy": "Merge",
}
"""What unsupported fields may say: it is so anyway."""


def _all_unsupported(type_: type[msgspec.Struct]) -> set[str]:
    return {one.encode_name for one in fields(type_) if one.type == kube.Unsupported}


OF_SERVERS = frozenset((
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation",
    "managedFields", "resourceVersion", "selfLink", "status", "uid",
))  # fmt: skip
"""What a server adds to an object; it wants nothing."""
_NEEDED = {
    kube.Container: {"restartPolicyRules", "volumeDevices"},
    kube.EnvVarSource: {"fileKeyRef"},
    kube.HTTPGetAction: {"protocol"},
    kube.Probe: {"grpc"},
    kube.KeyToPath: {"user"},
    kube.ConfigMapVolume: {"defaultUser"},
    kube.SecretVolume: {"defaultUser"},
    kube.DownwardAPIVolume: {"defaultUser"},
    kube.DownwardAPIVolumeFile: {"user"},
    kube.ProjectedVolume: {"defaultUser"},
    kube.VolumeProjection: _all_unsupported(kube.VolumeProjection),
    kube.EmptyDir: {"mode"},
    kube.VolumeMount: {"bindMountOptions"},
    kube.Volume: _all_unsupported(kube.Volume),
    kube.PersistentVolumeClaimSpec: {"dataSource", "dataSourceRef", "selector"},
}
"""Unsupported fields without which the pod is another one."""


OTHERS = {
    "HorizontalPodAutoscaler": ("autoscaling/v1", "autoscaling/v2"),
    "Ingress": ("networking.k8s.io/v1",),
    "IngressClass": ("networking.k8s.io/v1",),
    "LimitRange": ("v1",),
    "Namespace": ("v1",),
    "NetworkPolicy": ("networking.k8s.io/v1",),
    "PodDisruptionBudget": ("policy/v1",),
    "PriorityClass": ("scheduling.k8s.io/v1",),
    "ResourceQuota": ("v1",),
    "Role": ("rbac.authorization.k8s.io/v1",),
    "RoleBinding": ("rbac.authorization.k8s.io/v1",),
    "ClusterRole": ("rbac.authorization.k8s.io/v1",),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1",),
    "Service": ("v1",),
    "ServiceAccount": ("v1",),
    "StorageClass": ("storage.k8s.io/v1",),
}
"""Kinds without which the pods of a file are the same, and the versions that are known of them."""


def paths(part: msgspec.Struct, path: str) -> Iterator[str]:
    """Yield the paths of fields that are there and do nothing.

    Raises:
        InvalidInput: one of them may not be missing.
    """
    for field in fields(type(part)):
        value, here = getattr(part, field.name), f"{path}.{field.encode_name}".removeprefix(".")
        if field.type == kube.Unsupported:
            if field.encode_name in _NEEDED.get(type(part), ()) and value is not None:
                raise InvalidInput(f"{here}: not supported")
            if not is_harmless(field.encode_name, value):
                yield here
        elif isinstance(value, msgspec.Struct):
            yield from paths(value, here)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                if isinstance(one, msgspec.Struct):
                    yield from paths(one, f"{here}[{number}]")
    if isinstance(part, kube.ResourceRequirements):
        for name, resources in (("limits", part.limits), ("requests", part.requests)):
            others = (key for key in resources if key not in RESOURCES)
            yield from (f"{path}.{name}{step_text(key)}" for key in others)
    if isinstance(part, kube.DeploymentStrategy) and part.type == "RollingUpdate":
        yield f"{path}.type"


def is_harmless(name: str, value: object) -> bool:
    """Return whether a field that pycontain does nothing with says what is so anyway.

    Args:
        name: of the field, as it is written.
        value: None is a field that is not there.
    """
    if name == "hostUsers":
        return value in (None, True)
    return not value or name in OF_SERVERS or value == _HARMLESS.get(name)
