"""Objects in one form, so that two spellings of the same are equal.

Quantities have one text, and what a server would fill in where nothing is said is not there. It is
for comparing only: what a user has written is what is stored and shown.

Source: the Kubernetes API reference, core/v1 and apps/v1 (defaults of fields); "Quantity" of its
documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.pod import quantities, typed, unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec.structs import FieldInfo

    Rule = tuple[type[msgspec.Struct], str]

S = TypeVar("S", bound=msgspec.Struct)

_QUANTITIES = {"size_limit", "divisor"}
_RESOURCES = (kube.ResourceRequirements, kube.VolumeResourceRequirements)
_MEANS_SOMETHING: set[Rule] = {
    (kube.PersistentVolumeClaimSpec, "storage_class_name"),
    (kube.PodDNSConfigOption, "value"),
}
"""Fields in which an empty text is not the same as none."""
_DEFAULTS: dict[Rule, object] = {
    (kube.Container, "termination_message_path"): "/dev/termination-log",
    (kube.Container, "termination_message_policy"): "File",
    (kube.ContainerPort, "host_port"): 0,
    (kube.DeploymentSpec, "progress_deadline_seconds"): 600,
    (kube.DeploymentSpec, "revision_history_limit"): 10,
    (kube.DeploymentStrategy, "type"): "RollingUpdate",
    (kube.DeploymentStrategy, "rolling_update"): {"maxSurge": "25%", "maxUnavailable": "25%"},
    (kube.HTTPGetAction, "path"): "/",
    (kube.SecurityContext, "proc_mount"): "Default",
}
"""What fields that are not there stand for."""
_ZEROS = {"period_seconds": 10, "timeout_seconds": 1, "success_threshold": 1,
          "failure_threshold": 3}  # fmt: skip
"""Of probes: 0 is the default."""


def same(one: kube.Object, other: kube.Object) -> bool:
    """Whether two objects ask for the same."""
    return one == other or normal(one) == normal(other)


def normal(part: S) -> S:
    """Return an object or a part of one in the form in which equal ones are equal.

    Args:
        part: as ``manifest.parse`` returns it.
    """
    changed = {}
    for field in typed.fields(type(part)):
        before = getattr(part, field.name)
        after = _normal(type(part), field, before)
        if after is not before:
            changed[field.name] = after
    if changed:
        part = replace(part, **changed)
    if isinstance(part, kube.Container):
        return replace(part, **_of_container(part))
    return part


def _normal(type_: type[msgspec.Struct], field: FieldInfo, value: Any) -> Any:
    """Return the value of a field; what stands for nothing becomes the default."""
    if field.type == kube.Unsupported and unsupported.is_harmless(field.encode_name, value):
        return None
    if (type_, field.name) in _DEFAULTS and value == _DEFAULTS[type_, field.name]:
        return None
    if value in ("", ()) and field.default is None and (type_, field.name) not in _MEANS_SOMETHING:
        return None
    if type_ is kube.Probe and value == 0:
        return _ZEROS.get(field.name, value)
    if isinstance(value, msgspec.Struct):
        found = normal(value)
        # the very default: an encoder leaves out no other
        return field.default if found == field.default else found
    if isinstance(value, tuple):
        return tuple(normal(one) if isinstance(one, msgspec.Struct) else one for one in value)
    if value is not None and field.name in _QUANTITIES:
        return _text(value)
    if type_ in _RESOURCES and field.type != kube.Unsupported:
        return _texts(value)
    return value


def _texts(resources: Mapping[str, kube.Quantity]) -> dict[str, str]:
    return {name: _text(value) for name, value in resources.items()}


def _text(value: kube.Quantity) -> str:
    return f"{quantities.quantity(value).normalize():f}"


def _of_container(one: kube.Container) -> dict[str, Any]:
    """What of a container stands for its default beside another field."""
    found: dict[str, Any] = {}
    limits, requests = one.resources.limits, one.resources.requests
    own = {name: value for name, value in requests.items() if limits.get(name) != value}
    if own != requests:  # a limit is a request where none is said
        found["resources"] = replace(one.resources, requests=own)
    # Not ``Always``: where nothing is said, what is here will do where no registry answers.
    if one.image_pull_policy == "IfNotPresent" and _has_version(one.image):
        found["image_pull_policy"] = None
    return found


def _has_version(image: str) -> bool:
    from pycontain.image import reference

    try:
        ref = reference.parse(image)
    except InvalidInput:
        return False  # what it is has no default
    return bool(ref.digest) or ref.tag not in (None, "", "latest")
