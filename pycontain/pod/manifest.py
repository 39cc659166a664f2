"""Kubernetes manifests: YAML text to typed objects that can be carried out, or an error.

A field that Kubernetes does not know is an error; one that it knows and pycontain has no use for is
named, and an error where the pod could not be what it says without it. What is wrong is named by
its document, ``KIND/NAME`` and the field's path.

Source: the Kubernetes API reference, core/v1; "Object Names and IDs", "Labels and Selectors",
"Quantity" of its documentation.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import fields, replace

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.pod import documents
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

KINDS: dict[str, type[kube.Object]] = {
    "Pod": kube.Pod,
    "ConfigMap": kube.ConfigMap,
    "Secret": kube.Secret,
}
"""Documents of ``apiVersion: v1`` that are taken."""

DATA_LIMIT = 1 << 20
"""Bytes of a ConfigMap or a Secret."""

_HARMLESS: dict[str, object] = {
    "enableServiceLinks": True,
    "hostUsers": True,
    "mountPropagation": "None",
    "os": {"name": "linux"},
    "preemptionPolicy": "PreemptLowerPriority",
    "procMount": "Default",
    "recursiveReadOnly": "Disabled",
    "schedulerName": "default-scheduler",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What unsupported fields may say: it is so anyway."""
_NEEDED = {
    kube.Container: {"restartPolicy", "restartPolicyRules", "volumeDevices"},
    kube.EnvVarSource: {"fileKeyRef", "resourceFieldRef"},
    kube.KeyToPath: {"user"},
    kube.ConfigMapVolume: {"defaultUser"},
    kube.SecretVolume: {"defaultUser"},
    kube.EmptyDir: {"mode"},
    kube.VolumeMount: {"subPathExpr", "bindMountOptions"},
    kube.Volume: {one.encode_name for one in fields(kube.Volume) if one.type == kube.Unsupported},
}
"""Unsupported fields without which the pod is another one."""


class Parsed(NamedTuple):
    """What a text holds.

    Attributes:
        objects: in the text's order; no two of one kind have the same name.
        ignored: fields that pycontain does nothing with: ``Pod/web: spec.affinity``.
    """

    objects: tuple[kube.Object, ...]
    ignored: tuple[str, ...]


def parse(text: str, *, strict: bool = False) -> Parsed:
    """Read the documents of a manifest.

    Args:
        text: YAML or JSON.
        strict: refuse what would be in `ignored`.

    Raises:
        InvalidInput: no YAML, an unknown field, a value that is none, or a pod that contradicts
            itself: the first of them.
    """
    objects: dict[tuple[str, str], kube.Object] = {}
    ignored: list[str] = []
    for number, document in enumerate(documents.read(text), 1):
        if document.value is None:
            continue
        try:
            one, paths = _object(document.value)
            found = [f"{one.kind}/{one.name}: {path}" for path in paths]
            if (one.kind, one.name) in objects:
                raise InvalidInput(f"{one.kind}/{one.name}: is there twice")
            if strict and found:
                raise InvalidInput(f"{found[0]}: not supported")
        except InvalidInput as err:
            where = f"document {number} (line {document.line})"
            raise InvalidInput(f"{where}: {err.message}", err.hint) from err
        objects[one.kind, one.name] = one
        ignored.extend(found)
    return Parsed(tuple(objects.values()), tuple(ignored))


def _word(raw: dict[str, Any], name: str) -> str:
    word = raw.get(name)
    if not isinstance(word, str) or len(word) > 99:
        raise InvalidInput(f"{name}: is missing, or no word")
    return word


def _object(raw: Any) -> tuple[kube.Object, list[str]]:
    """Return an object that is in order, and the paths of its fields that do nothing."""
    if not isinstance(raw, dict):
        raise InvalidInput("no mapping")
    kind, version = _word(raw, "kind"), _word(raw, "apiVersion")
    type_ = KINDS.get(kind)
    if type_ is None or version != "v1":
        raise InvalidInput(
            f"kind {kind!r} of apiVersion {version!r} is not supported",
            f"supported are {', '.join(KINDS)}, of v1",
        )
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise InvalidInput(f"{kind}: metadata.name: is missing, or no text")
    _check_subdomain(f"{kind}: metadata.name", name)
    try:
        one = _typed(raw, type_)
        _check_metadata(one.metadata)
        paths = [*_unsupported(one, "")]
        return _checked_pod(one) if isinstance(one, kube.Pod) else _checked_data(one), paths
    except InvalidInput as err:
        raise InvalidInput(f"{kind}/{name}: {err.message}", err.hint) from err


# ---- types ----


def _typed(raw: dict[str, Any], type_: type[kube.Object]) -> kube.Object:
    nulls: list[tuple[tuple[str | int, ...], str]] = []
    given = _without_nulls(raw, (), nulls)
    files.prepare(type_)
    try:
        one = msgspec.convert(given, type_)
    except msgspec.ValidationError as err:
        raise _told(str(err), given) from err
    for path, key in nulls:
        _check_null(one, path, key)
    return one


def _without_nulls(value: Any, path: tuple[str | int, ...], nulls: list[Any]) -> Any:
    """Return `value` without the fields that are null: to Kubernetes they are not there."""
    if isinstance(value, list):
        return [_without_nulls(one, (*path, number), nulls) for number, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    nulls.extend((path, key) for key, one in value.items() if one is None)
    return {
        key: _without_nulls(one, (*path, key), nulls)
        for key, one in value.items()
        if one is not None
    }


def _check_null(one: kube.Object, path: tuple[str | int, ...], key: str) -> None:
    """See that a null was a field of its struct: without it msgspec has not looked."""
    here: Any = one
    for step in path:
        if isinstance(here, msgspec.Struct):
            here = getattr(here, _names(type(here))[str(step)])
        elif isinstance(here, tuple | dict):
            here = here[step]  # type: ignore[index]
    if isinstance(here, dict):
        raise InvalidInput(f"{_text((*path, key))}: expected a text, there is none", "write ''")
    if isinstance(here, msgspec.Struct) and key not in _names(type(here)):
        raise InvalidInput(f"{_text((*path, key))}: unknown field")


@functools.cache
def _names(type_: type[msgspec.Struct]) -> dict[str, str]:
    """Return the fields of a struct: the name on the wire to that in Python."""
    return {one.encode_name: one.name for one in fields(type_)}


def _text(path: Iterable[str | int]) -> str:
    return "".join(map(_step, path)).removeprefix(".")


def _step(one: str | int) -> str:
    return f".{one}" if isinstance(one, str) and re.match(r"[\w-]+\Z", one) else f"[{one!r}]"


_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


def _told(message: str, given: Any) -> InvalidInput:
    """Turn msgspec's words around: the path first."""
    what, _, path = message.rpartition(" - at `$")
    what, path = (what, path.removesuffix("`")) if what else (message, "")
    what = what.replace(" | null`", "`")  # a null is not there
    if "[...]" in path:
        path = path.replace("[...]", _step(_odd_key(given, path)))
    path = path.removeprefix(".")
    field = _FIELD.match(what)
    if field:
        said = "unknown field" if field[1] == "contains unknown" else "is missing"
        return InvalidInput(f"{path}{_step(field[2])}: {said}".removeprefix("."))
    hint = "quote it: '…'" if what.startswith("Expected `str`, got") else None
    return InvalidInput(f"{path}: {what[:1].lower()}{what[1:]}", hint)


def _odd_key(given: Any, path: str) -> str:
    """Return the key that msgspec writes ``...`` for: the first whose value is no text."""
    for step in re.findall(r"\.(\w+)|\[(\d+)\]", path.partition("[...]")[0]):
        given = given[step[0] or int(step[1])]
    scalars = (str, int, float) if "limits" in path else (str,)
    return next((str(key) for key, one in given.items() if type(one) not in scalars), "...")


def _unsupported(part: msgspec.Struct, path: str) -> Iterator[str]:
    """Yield the paths of fields that are there and do nothing.

    Raises:
        InvalidInput: one of them may not be missing.
    """
    for field in fields(type(part)):
        value, here = getattr(part, field.name), f"{path}.{field.encode_name}".removeprefix(".")
        if field.type == kube.Unsupported:
            if field.encode_name in _NEEDED.get(type(part), ()) and value is not None:
                raise InvalidInput(f"{here}: not supported")
            if not _harmless(field.encode_name, value):
                yield here
        elif isinstance(value, msgspec.Struct):
            yield from _unsupported(value, here)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                if isinstance(one, msgspec.Struct):
                    yield from _unsupported(one, f"{here}[{number}]")
    if isinstance(part, kube.EmptyDir) and part.size_limit is not None and not part.medium:
        yield f"{path}.sizeLimit"
    if isinstance(part, kube.ResourceRequirements):
        others = (key for key in part.limits if key not in _LIMITS)
        yield from (f"{path}.limits{_step(key)}" for key in others)


def _harmless(name: str, value: object) -> bool:
    if name == "hostUsers":
        return value in (None, True)
    return not value or value == _HARMLESS.get(name)


# ---- values ----

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_VARIABLE = re.compile(r"[!-<>-~ ]+\Z")
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40}))"
    r"(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?\Z",
    re.ASCII,
)
_UNITS = {
    **{unit: Decimal(1000) ** (power - 3) for power, unit in enumerate(["n", "u", "m", ""])},
    **{unit: Decimal(1000) ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_LARGEST = (1 << 63) - 1


def quantity(value: kube.Quantity) -> Decimal:
    """Return a quantity as a number: ``100m`` is 0.1, ``64Mi`` 67108864, ``1G`` 1000000000.

    Raises:
        InvalidInput: it is none, negative, or larger than 2**63-1.
    """
    match = _QUANTITY.match(str(value)) if not isinstance(value, bool) else None
    if match is None:
        raise InvalidInput(f"{value!r} is no quantity", "quantities look like 500m, 0.5 or 64Mi")
    exponent = Decimal(10) ** int(match[3]) if match[3] else _UNITS[match[2] or ""]
    number = Decimal(match[1]) * exponent
    if not 0 <= number <= _LARGEST:
        raise InvalidInput(f"{value!r} is negative, or larger than 2**63-1")
    return number


def _whole(value: kube.Quantity) -> Decimal:
    number = quantity(value)
    if number != int(number):
        raise InvalidInput(
            f"{value!r} is no whole number of bytes", "m is a thousandth, M a million"
        )
    return number


_LIMITS: dict[str, Callable[[kube.Quantity], object]] = {"cpu": quantity, "memory": _whole}


def _check(path: str, ok: object, what: str, hint: str | None = None) -> None:
    if not ok:
        raise InvalidInput(f"{path}: {what}", hint)


def _check_label(path: str, name: str) -> None:
    hint = "lower case letters, digits and - within, at most 63"
    _check(path, _LABEL.match(name), f"{name!r} is no DNS-1123 label", hint)


def _check_subdomain(path: str, name: str) -> None:
    hint = "lower case letters, digits, - and . within, at most 253"
    good = len(name) <= 253 and _SUBDOMAIN.match(name)
    _check(path, good, f"{name!r} is no DNS-1123 subdomain", hint)


def _check_unique(path: str, names: Iterable[object]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    _check(path, not twice, f"{twice[0] if twice else ''!s} is there twice")


def _check_address(path: str, address: str) -> None:
    import ipaddress

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidInput(f"{path}: {address!r} is no address") from None


def _check_text(path: str, text: str) -> None:
    _check(path, "\0" not in text, "has a NUL byte")


def _check_metadata(metadata: kube.ObjectMeta) -> None:
    if metadata.namespace is not None:
        _check_label("metadata.namespace", metadata.namespace)
    for key, value in metadata.labels.items():
        _check_qualified(f"metadata.labels[{key!r}]", key)
        good = not value or _WORD.match(value)
        _check(f"metadata.labels[{key!r}]", good, f"{value!r} is no value of a label")
    for key in metadata.annotations:
        _check_qualified(f"metadata.annotations[{key!r}]", key)


def _check_qualified(path: str, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash:
        _check_subdomain(path, prefix)
    _check(path, _WORD.match(name), f"{key!r} is no key: [PREFIX/]NAME")


# ---- ConfigMap and Secret ----


def _checked_data(one: kube.ConfigMap | kube.Secret) -> kube.Object:
    from pycontain.pod import configs

    texts, name = (one.data, "data") if isinstance(one, kube.ConfigMap) else (one.string_data, "")
    for key in (*one.data, *texts, *(one.binary_data if isinstance(one, kube.ConfigMap) else ())):
        hint = "letters, digits, -, _ and ., not .. at its beginning"
        good = _KEY.match(key) and key != "." and not key.startswith("..")
        _check(f"data[{key!r}]", good, "is no key", hint)
    if name and isinstance(one, kube.ConfigMap):
        _check_unique("binaryData", (*one.data, *one.binary_data))
    size = sum(len(content) for content in configs.contents(one).values())
    _check("data", size <= DATA_LIMIT, f"more than {DATA_LIMIT >> 20} MiB")
    return one


# ---- Pod ----


def _checked_pod(pod: kube.Pod) -> kube.Pod:
    spec = pod.spec
    every = (*spec.init_containers, *spec.containers)
    _check("spec.containers", spec.containers, "is empty")
    _check_unique("spec.containers", (one.name for one in every))
    _check_unique("spec.volumes", (one.name for one in spec.volumes))
    for number, volume in enumerate(spec.volumes):
        _check_volume(f"spec.volumes[{number}]", volume)
    for path, container in containers(spec):
        _check_container(path, container, spec)
    ports = (
        (port.host_ip or "0.0.0.0", port.host_port, port.protocol)  # noqa: S104 - a default
        for one in spec.containers
        for port in one.ports
        if port.host_port
    )
    _check_unique("spec.containers: hostPort", ports)
    _check_hosts(spec)
    volumes = tuple(_sourced(volume) for volume in spec.volumes)
    return replace(pod, spec=replace(spec, volumes=volumes))


def containers(spec: kube.PodSpec) -> Iterator[tuple[str, kube.Container]]:
    """Yield path and container of each, those that initialise first."""
    for number, one in enumerate(spec.init_containers):
        yield f"spec.initContainers[{number}]", one
    for number, one in enumerate(spec.containers):
        yield f"spec.containers[{number}]", one


def _sourced(volume: kube.Volume) -> kube.Volume:
    """Give a volume that says no source Kubernetes' default."""
    return volume if _sources(volume) else replace(volume, empty_dir=kube.EmptyDir())


def _sources(volume: kube.Volume) -> list[str]:
    return [
        one.encode_name
        for one in fields(kube.Volume)
        if one.name != "name" and getattr(volume, one.name) is not None
    ]


def _check_volume(path: str, volume: kube.Volume) -> None:
    _check_label(f"{path}.name", volume.name)
    sources = _sources(volume)
    _check(path, len(sources) <= 1, f"more than one source: {', '.join(sources)}")
    if volume.empty_dir and volume.empty_dir.size_limit is not None:
        _at(f"{path}.emptyDir.sizeLimit", _whole, volume.empty_dir.size_limit)
    if volume.host_path:
        place = volume.host_path.path
        good = place.startswith("/") and ".." not in place.split("/")
        _check(f"{path}.hostPath.path", good, f"{place!r} is not absolute, or has ..")
        _check_text(f"{path}.hostPath.path", place)
    if volume.persistent_volume_claim:
        claim = volume.persistent_volume_claim.claim_name
        _check_subdomain(f"{path}.persistentVolumeClaim.claimName", claim)
    for name, source in (("configMap", volume.config_map), ("secret", volume.secret)):
        if source is not None:
            named = source.name if isinstance(source, kube.ConfigMapVolume) else source.secret_name
            _check_subdomain(f"{path}.{name}", named)
            _check_items(f"{path}.{name}.items", source.items or ())


def _check_items(path: str, items: tuple[kube.KeyToPath, ...]) -> None:
    for number, item in enumerate(items):
        here = f"{path}[{number}].path"
        _check_relative(here, item.path)
        plain = all(part not in ("", ".") for part in item.path.split("/"))
        _check(here, plain, f"{item.path!r} has an empty part, or .")
    _check_unique(path, (item.path for item in items))


def _check_relative(path: str, place: str) -> None:
    parts = place.split("/")
    good = place and parts[0] and ".." not in parts and not place.startswith("..")
    _check(path, good, f"{place!r} is not relative, or has ..")
    _check_text(path, place)


def _at(path: str, read: Callable[[kube.Quantity], object], value: kube.Quantity) -> None:
    try:
        read(value)
    except InvalidInput as err:
        raise InvalidInput(f"{path}: {err.message}", err.hint) from err


def _check_container(path: str, container: kube.Container, spec: kube.PodSpec) -> None:
    _check_label(f"{path}.name", container.name)
    _check(f"{path}.image", container.image.strip(), "is empty")
    for name in ("command", "args"):
        for word in getattr(container, name) or ():
            _check_text(f"{path}.{name}", word)
    if container.working_dir:
        _check(f"{path}.workingDir", container.working_dir[0] == "/", "is not absolute")
    for key, value in container.resources.limits.items():
        _at(f"{path}.resources.limits{_step(key)}", _LIMITS.get(key, quantity), value)
    _check_env(path, container)
    _check_ports(path, container.ports, host_network=spec.host_network)
    _check_mounts(path, container.volume_mounts, {volume.name for volume in spec.volumes})
    _check_rights(path, container.security_context, spec.security_context)


def _check_env(path: str, container: kube.Container) -> None:
    for number, one in enumerate(container.env):
        here = f"{path}.env[{number}]"
        _check(f"{here}.name", _VARIABLE.match(one.name), f"{one.name!r} is no name of a variable")
        _check_text(f"{here}.value", one.value or "")
        if one.value_from is not None:
            _check(here, not one.value, "both value and valueFrom")
            _check_one(f"{here}.valueFrom", one.value_from)
    for number, source in enumerate(container.env_from):
        here = f"{path}.envFrom[{number}]"
        good = not source.prefix or _VARIABLE.match(source.prefix)
        _check(f"{here}.prefix", good, f"{source.prefix!r} is no beginning of a variable's name")
        refs = [ref for ref in (source.config_map_ref, source.secret_ref) if ref is not None]
        _check(here, len(refs) == 1, "not one source")
        _check_subdomain(f"{here}: name", refs[0].name)


def _check_one(path: str, source: kube.EnvVarSource) -> None:
    there = [
        one.encode_name for one in fields(type(source)) if getattr(source, one.name) is not None
    ]
    _check(path, len(there) == 1, f"not one source: {', '.join(there) or 'none'}")
    for key in (source.config_map_key_ref, source.secret_key_ref):
        if key is not None:
            _check_subdomain(f"{path}: name", key.name)
    if source.field_ref is not None:
        from pycontain.pod import configs

        configs.field_key(source.field_ref.field_path, f"{path}.fieldRef.fieldPath")


def _check_ports(path: str, ports: tuple[kube.ContainerPort, ...], *, host_network: bool) -> None:
    for number, port in enumerate(ports):
        here = f"{path}.ports[{number}]"
        if port.name is not None:
            good = len(port.name) <= 15 and _PORT_NAME.match(port.name)
            _check(f"{here}.name", good, f"{port.name!r} is no name of a service")
        if port.host_ip:
            _check_address(f"{here}.hostIP", port.host_ip)
        same = not host_network or port.host_port in (None, port.container_port)
        _check(f"{here}.hostPort", same, "is not containerPort, in the host's network")
    _check_unique(f"{path}.ports", (port.name for port in ports if port.name is not None))


def _check_mounts(path: str, mounts: tuple[kube.VolumeMount, ...], volumes: set[str]) -> None:
    for number, mount in enumerate(mounts):
        here = f"{path}.volumeMounts[{number}]"
        _check(f"{here}.name", mount.name in volumes, f"there is no volume {mount.name!r}")
        place = mount.mount_path
        good = place.startswith("/") and ":" not in place and "\0" not in place
        _check(f"{here}.mountPath", good, f"{place!r} is not absolute, or has a colon")
        if mount.sub_path:
            _check_relative(f"{here}.subPath", mount.sub_path)
    _check_unique(f"{path}.volumeMounts", (mount.mount_path for mount in mounts))


def _check_rights(path: str, own: kube.SecurityContext, shared: kube.PodSecurityContext) -> None:
    strict = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    user = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    here = f"{path}.securityContext"
    _check(here, not strict or user != 0, "runAsNonRoot, and runAsUser is 0")
    raised = own.privileged or "SYS_ADMIN" in (own.capabilities or kube.Capabilities()).add
    good = own.allow_privilege_escalation is not False or not raised
    _check(here, good, "allowPrivilegeEscalation is false, and privileged or SYS_ADMIN asked for")


def _check_hosts(spec: kube.PodSpec) -> None:
    if spec.hostname is not None:
        _check_label("spec.hostname", spec.hostname)
    for number, alias in enumerate(spec.host_aliases):
        _check_address(f"spec.hostAliases[{number}].ip", alias.ip)
        for name in alias.hostnames:
            _check_subdomain(f"spec.hostAliases[{number}].hostnames", name)
    dns = spec.dns_config or kube.PodDNSConfig()
    for address in dns.nameservers:
        _check_address("spec.dnsConfig.nameservers", address)
    for name in dns.searches:
        _check_subdomain("spec.dnsConfig.searches", name.removesuffix("."))
    good = spec.dns_policy != "None" or dns.nameservers
    _check("spec.dnsConfig.nameservers", good, "is empty, with dnsPolicy None")
