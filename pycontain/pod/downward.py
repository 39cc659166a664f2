"""The downward API: what a pod may be told about itself, as variables and as files.

Source: "Downward API" of the Kubernetes documentation; the Kubernetes API reference, core/v1,
ObjectFieldSelector and ResourceFieldSelector.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput
from pycontain.pod.quantities import quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.model import kube
    from pycontain.pod.plan import Facts

_FIELD = re.compile(r"(metadata\.(?:labels|annotations))\['([^']+)'\]\Z")
_METADATA = ("metadata.name", "metadata.namespace", "metadata.uid")
_ENV = (
    *_METADATA, "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
    "status.podIP", "status.podIPs",
)  # fmt: skip
_MAPS = ("metadata.labels", "metadata.annotations")
_RESOURCES = ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")


def check_field(field_path: str, *, in_volume: bool) -> None:
    """Refuse what is no field that a pod may ask for.

    Args:
        field_path: such as ``metadata.labels['app']``.
        in_volume: as a file: maps may be asked for, addresses may not.

    Raises:
        InvalidInput: it is another field.
    """
    known = (*_METADATA, *_MAPS) if in_volume else _ENV
    if field_path not in known and _FIELD.match(field_path) is None:
        there = ", ".join((*known, *(f"{name}['KEY']" for name in _MAPS)))
        raise InvalidInput(f"{field_path!r} is not supported", f"there are {there}")


def check_resource(name: str) -> None:
    """Refuse what is no resource that a pod may ask for.

    Raises:
        InvalidInput: it is another one.
    """
    if name not in _RESOURCES:
        raise InvalidInput(f"{name!r} is not supported", f"there are {', '.join(_RESOURCES)}")


def tells_addresses(container: kube.Container) -> bool:
    """Whether a container is told, as a variable, what another start of its pod may change."""
    refs = (one.value_from.field_ref for one in container.env if one.value_from is not None)
    return any(ref is not None and ref.field_path.startswith("status.") for ref in refs)


def field(pod: kube.Pod, field_path: str, facts: Facts) -> str:
    """Return the text of a field that :func:`check_field` lets pass; of a missing key, none."""
    match = _FIELD.match(field_path)
    maps = {_MAPS[0]: pod.metadata.labels, _MAPS[1]: pod.metadata.annotations}
    if match is not None:
        return maps[match[1]].get(match[2], "")
    if field_path in maps:
        return _lines(maps[field_path])
    account = pod.spec.service_account_name
    return {
        "metadata.name": pod.name,
        "metadata.namespace": pod.metadata.namespace or "default",
        "metadata.uid": facts.uid,
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": account if isinstance(account, str) and account else "default",
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": ",".join(facts.pod_ips),
    }[field_path]


def resource(container: kube.Container, ref: kube.ResourceFieldSelector, facts: Facts) -> str:
    """Return a resource of a container, in units of the divisor, rounded up.

    Without a limit, what the machine has is one; without a request, the limit that is said is one.
    """
    what, _, name = ref.resource.partition(".")
    limits, requests = container.resources.limits, container.resources.requests
    if what == "limits":
        there = {"cpu": facts.cpus, "memory": facts.memory}[name]
        value = quantity(limits.get(name, there))
    else:
        value = quantity(requests.get(name, limits.get(name, 0)))
    # a divisor of 0 is what is written for none
    unit = quantity(ref.divisor or 1) or Decimal(1)
    return str((value / unit).to_integral_value(ROUND_CEILING))


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(values.items()))


_ESCAPES = {
    "\\": "\\\\", '"': '\\"', "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
    "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def _quoted(text: str) -> str:
    """Quote a text as a string of Go, which is how Kubernetes writes them."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    if char in _ESCAPES or char == " " or char.isprintable():
        return _ESCAPES.get(char, char)
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
