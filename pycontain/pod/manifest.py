"""Kubernetes manifests: YAML text to typed objects that can be carried out, or an error.

A field that Kubernetes does not know is an error; one that it knows and pycontain has no use for is
named, and an error where the pod could not be what it says without it. What is wrong is named by
its document, ``KIND/NAME`` and the field's path.

Source: the Kubernetes API reference, core/v1 and apps/v1; "Object Names and IDs", "Labels and
Selectors", "Sidecar Containers", "Quantity" of its documentation.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import FieldInfo, replace
from msgspec.structs import fields as fields_of

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.model import parse as words
from pycontain.pod import documents
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DATA_LIMIT = 1 << 20
"""Bytes of a ConfigMap or a Secret."""

_VERSIONS = {"Deployment": "apps/v1"}
"""The ``apiVersion`` of those that are not of ``v1``."""


@functools.cache
def fields(type_: type[msgspec.Struct]) -> tuple[FieldInfo, ...]:
    """Return the fields of a struct, which msgspec finds out anew each time."""
    return fields_of(type_)


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


_OF_SERVERS = frozenset((
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


_OTHERS = {
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


class Parsed(NamedTuple):
    """What a text holds.

    Attributes:
        objects: in the text's order; no two of one kind have the same name.
        ignored: fields that pycontain does nothing with: ``Pod/web: spec.affinity``; and objects
            of which it knows no more than the kind: ``Service/web``.
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
    for place, raw in _items(text):
        with _within(place):
            if other := _other(raw):
                if strict:
                    raise InvalidInput(f"{other}: not supported")
                ignored.append(other)
                continue
            one, found = _object(raw)
            if (one.kind, one.name) in objects:
                raise InvalidInput(f"{one.kind}/{one.name}: is there twice")
            if strict and found:
                raise InvalidInput(f"{found[0]}: not supported")
            objects[one.kind, one.name] = one
            ignored.extend(found)
    return Parsed(tuple(objects.values()), tuple(ignored))


def _items(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a text, those of a ``List`` one by one, and where each is."""
    for number, document in enumerate(documents.read(text), 1):
        place, value = f"document {number} (line {document.line})", document.value
        if isinstance(value, dict) and value.get("kind") == "List":
            with _within(f"{place}: List"):
                items = _listed(value)
            yield from ((f"{place}: items[{at}]", item) for at, item in enumerate(items))
        elif value is not None:
            yield place, value


@contextlib.contextmanager
def _within(place: str) -> Iterator[None]:
    """Say of what is refused where it is."""
    try:
        yield
    except InvalidInput as err:
        raise InvalidInput(f"{place}: {err.message}", err.hint) from err


def _listed(value: dict[str, Any]) -> list[Any]:
    for key in value:
        _check(key, key in ("apiVersion", "kind", "metadata", "items"), "unknown field")
    _check("apiVersion", value.get("apiVersion") == "v1", "is not v1")
    items = value.get("items")
    _check("items", items is None or isinstance(items, list), "no list")
    return items or []


def _word(raw: dict[str, Any], name: str) -> str:
    word = raw.get(name)
    if not isinstance(word, str) or len(word) > 99:
        raise InvalidInput(f"{name}: is missing, or no word")
    return word


def _other(raw: Any) -> str:
    """Return the title of an object of which nothing is done here; empty: it is another one."""
    if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
        return ""
    kind, metadata = raw["kind"], raw.get("metadata")
    if raw.get("apiVersion") not in _OTHERS.get(kind, ()):
        return ""
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise InvalidInput(f"{kind}: metadata.name: is missing, or no text")
    _check_subdomain(f"{kind}: metadata.name", name)
    return f"{kind}/{name}"


def _object(raw: Any) -> tuple[kube.Object, list[str]]:
    """Return an object that is in order, and its fields that do nothing."""
    if not isinstance(raw, dict):
        raise InvalidInput("no mapping")
    kind, version = _word(raw, "kind"), _word(raw, "apiVersion")
    type_ = kube.KINDS.get(kind)
    if type_ is None or version != _VERSIONS.get(kind, "v1"):
        taken = ", ".join(f"{known} of {_VERSIONS.get(known, 'v1')}" for known in kube.KINDS)
        raise InvalidInput(
            f"kind {kind!r} of apiVersion {version!r} is not supported", f"supported are {taken}"
        )
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise InvalidInput(f"{kind}: metadata.name: is missing, or no text")
    _check_subdomain(f"{kind}: metadata.name", name)
    with _within(f"{kind}/{name}"):
        one = _typed(raw, type_)
        _check_metadata("metadata", one.metadata)
        paths = [*_unsupported(one, "")]
        one = _without_servers(_checked(one))
    _check_possible(one)
    return one, [f"{kind}/{name}: {path}" for path in paths]


def _without_servers(one: kube.Object) -> kube.Object:
    """Leave out what a server says of an object: what was got from one is what was declared."""
    said = [field.name for field in fields(kube.ObjectMeta) if field.encode_name in _OF_SERVERS]
    metadata = replace(one.metadata, **dict.fromkeys(["owner_references", *said]))
    if isinstance(one, kube.ConfigMap | kube.Secret):
        return replace(one, metadata=metadata)
    return replace(one, metadata=metadata, status=None)


def _checked(one: kube.Object) -> kube.Object:
    if isinstance(one, kube.Pod):
        return replace(one, spec=_checked_spec("spec", one.spec))
    if isinstance(one, kube.Deployment):
        return _checked_deployment(one)
    if isinstance(one, kube.PersistentVolumeClaim):
        _check_volume_name("metadata.name", one.name)
        _check_claim(one.spec)
        return one
    return _checked_data(one)


def _check_possible(one: kube.Object) -> None:
    """Refuse what is in order and cannot be on this machine."""
    if isinstance(one, kube.PersistentVolumeClaim):
        from pycontain.pod import claims

        claims.check(one)


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
    return InvalidInput(f"{path}: {what[:1].lower()}{what[1:]}", _hint(what))


def _hint(what: str) -> str | None:
    if what == f"Expected `int` <= {0o777}":
        return "modes are octal: 0644"
    is_plain = not what.endswith(("`object`", "`array`"))
    return "quote it: '…'" if what.startswith("Expected `str`, got") and is_plain else None


def _odd_key(given: Any, path: str) -> str:
    """Return the key that msgspec writes ``...`` for: the first whose value is no text."""
    for step in re.findall(r"\.(\w+)|\[(\d+)\]", path.partition("[...]")[0]):
        given = given[step[0] or int(step[1])]
    scalars = (str, int, float) if "limits" in path or "requests" in path else (str,)
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
            if not is_harmless(field.encode_name, value):
                yield here
        elif isinstance(value, msgspec.Struct):
            yield from _unsupported(value, here)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                if isinstance(one, msgspec.Struct):
                    yield from _unsupported(one, f"{here}[{number}]")
    if isinstance(part, kube.ResourceRequirements):
        for name, resources in (("limits", part.limits), ("requests", part.requests)):
            others = (key for key in resources if key not in _RESOURCES)
            yield from (f"{path}.{name}{_step(key)}" for key in others)
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
    return not value or name in _OF_SERVERS or value == _HARMLESS.get(name)


# ---- values ----

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")
_SEARCH = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?\Z")
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_HOST = re.compile(r"[0-9A-Za-z.:_-]+\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
"""Of RFC 9110, section 5.6.2."""
_LINE = re.compile(r"[ -~\t]*\Z")
_URL_PATH = re.compile(r"[!-~]+\Z")
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


def _bytes(value: kube.Quantity) -> Decimal:
    """A fraction, as in ``0.1Gi``, is rounded where it is used; thousandths are a slip."""
    number = quantity(value)
    if number != int(number) and (number < 1 or str(value)[-1] in "num"):
        raise InvalidInput(
            f"{value!r} is no whole number of bytes", "m is a thousandth, M a million"
        )
    return number


_RESOURCES: dict[str, Callable[[kube.Quantity], object]] = {"cpu": quantity, "memory": _bytes}


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


def _check_volume_name(path: str, name: str) -> None:
    _check(path, len(name) > 1, f"{name!r}: is one character only, which no volume can be")


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


def _check_metadata(path: str, metadata: kube.ObjectMeta) -> None:
    if metadata.namespace is not None:
        _check_label(f"{path}.namespace", metadata.namespace)
    _check_labels(f"{path}.labels", metadata.labels)
    for key in metadata.annotations:
        _check_qualified(f"{path}.annotations[{key!r}]", key)


def _check_labels(path: str, labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        _check_qualified(f"{path}[{key!r}]", key)
        good = not value or _WORD.match(value)
        _check(f"{path}[{key!r}]", good, f"{value!r} is no value of a label")


def _check_qualified(path: str, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash:
        _check_subdomain(path, prefix)
    _check(path, _WORD.match(name), f"{key!r} is no key: [PREFIX/]NAME")


def is_label(name: str) -> bool:
    """Return whether this is a DNS-1123 label: what containers, volumes and hosts are called."""
    return _LABEL.match(name) is not None


def is_subdomain(name: str) -> bool:
    """Return whether this is a DNS-1123 subdomain: what objects are called."""
    return len(name) <= 253 and _SUBDOMAIN.match(name) is not None


def is_variable(name: str) -> bool:
    """Return whether a variable of the environment can be called so."""
    return _VARIABLE.match(name) is not None


def is_metadata(metadata: kube.ObjectMeta) -> bool:
    """Return whether labels and annotations are such."""
    try:
        _check_metadata("metadata", metadata)
    except InvalidInput:
        return False
    return True


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
    found = configs.contents(one)
    if isinstance(one, kube.Secret):
        _check_secret(one.type, found)
    size = sum(map(len, found.values()))
    _check("data", size <= DATA_LIMIT, f"more than {DATA_LIMIT >> 20} MiB")
    return _merged(one) if isinstance(one, kube.Secret) and one.string_data else one


def _merged(one: kube.Secret) -> kube.Secret:
    """Make its texts data like the others: ``stringData`` is for writing only."""
    import base64

    texts = {key: base64.b64encode(text.encode()).decode() for key, text in one.string_data.items()}
    return replace(one, data={**one.data, **texts}, string_data={})


_NEEDED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""What Secrets of these types have to have: "Secrets" of Kubernetes' documentation."""


def _check_secret(type_: str, data: Mapping[str, bytes]) -> None:
    for key in _NEEDED_KEYS.get(type_, ()):
        _check(f"data[{key!r}]", key in data, f"is missing, of type {type_}")
    good = type_ != "kubernetes.io/basic-auth" or not {"username", "password"}.isdisjoint(data)
    _check("data", good, f"neither username nor password, of type {type_}")


# ---- PersistentVolumeClaim ----


def _check_claim(spec: kube.PersistentVolumeClaimSpec) -> None:
    _check("spec.accessModes", spec.access_modes, "is empty")
    _check_unique("spec.accessModes", spec.access_modes)
    given = {"limits": spec.resources.limits, "requests": spec.resources.requests}
    for name, resources in given.items():
        for key, value in resources.items():
            here = f"spec.resources.{name}{_step(key)}"
            _check(here, key == "storage", "a claim has storage only")
            _at(here, _bytes, value)
    asked = spec.resources.requests.get("storage")
    _check("spec.resources.requests.storage", asked and quantity(asked), "is missing, or 0")
    _check_requests("spec.resources", spec.resources)


def _check_requests(
    path: str, resources: kube.ResourceRequirements | kube.VolumeResourceRequirements
) -> None:
    for key, value in resources.requests.items():
        limit = resources.limits.get(key)
        good = limit is None or quantity(value) <= quantity(limit)
        _check(f"{path}.requests{_step(key)}", good, f"{value} is more than the limit, {limit}")


# ---- Deployment ----


_MOST_REPLICAS = 1000
"""What is declared is written down one by one: a slip of the hand is not to fill the disk."""


def _checked_deployment(one: kube.Deployment) -> kube.Deployment:
    template, path = one.spec.template, "spec.template"
    few = one.spec.replicas <= _MOST_REPLICAS
    _check("spec.replicas", few, f"is more than {_MOST_REPLICAS}, which is for a cluster")
    _check_metadata(f"{path}.metadata", template.metadata)
    _check_selector("spec.selector", one.spec.selector)
    good = selects(one.spec.selector, template.metadata.labels)
    _check("spec.selector", good, f"does not select the labels of {path}")
    spec = _checked_spec(f"{path}.spec", template.spec)
    _check(f"{path}.spec.restartPolicy", spec.restart_policy == "Always", "is not Always")
    deadline = spec.active_deadline_seconds
    _check(f"{path}.spec.activeDeadlineSeconds", deadline is None, "not for what is to run on")
    return replace(one, spec=replace(one.spec, template=replace(template, spec=spec)))


def _check_selector(path: str, selector: kube.LabelSelector) -> None:
    _check(path, selector.match_labels or selector.match_expressions, "is empty")
    _check_labels(f"{path}.matchLabels", selector.match_labels)
    for number, one in enumerate(selector.match_expressions):
        here = f"{path}.matchExpressions[{number}]"
        _check_qualified(f"{here}.key", one.key)
        wants = one.operator in ("In", "NotIn")
        _check(f"{here}.values", bool(one.values) == wants, f"do not fit {one.operator}")


def selects(selector: kube.LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a selector means an object that has these labels."""
    exact = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return exact and all(_holds(one, labels) for one in selector.match_expressions)


def _holds(one: kube.LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    if one.operator == "In":
        return labels.get(one.key) in one.values
    if one.operator == "NotIn":
        return labels.get(one.key) not in one.values
    return (one.key in labels) == (one.operator == "Exists")


# ---- Pod ----


def _checked_spec(path: str, spec: kube.PodSpec) -> kube.PodSpec:
    every = (*spec.init_containers, *spec.containers)
    _check(f"{path}.containers", spec.containers, "is empty")
    _check_unique(f"{path}.containers", (one.name for one in every))
    _check_unique(f"{path}.volumes", (one.name for one in spec.volumes))
    for number, volume in enumerate(spec.volumes):
        _check_volume(f"{path}.volumes[{number}]", volume, spec)
    for here, container in containers(spec, path):
        _check_container(here, container, spec)
    for number, container in enumerate(spec.init_containers):
        _check_init(f"{path}.initContainers[{number}]", container)
    for number, container in enumerate(spec.containers):
        here = f"{path}.containers[{number}].restartPolicy"
        _check(here, container.restart_policy is None, "not supported")
    ports = (
        (port.host_ip or "0.0.0.0", port.host_port, port.protocol)  # noqa: S104 - a default
        for one in (*(one for one in spec.init_containers if one.restart_policy), *spec.containers)
        for port in one.ports
        if port.host_port
    )
    _check_unique(f"{path}.containers: hostPort", ports)
    _check_hosts(path, spec)
    _check_shared(path, spec)
    _check_together(path, spec)
    volumes = tuple(_sourced(volume) for volume in spec.volumes)
    return replace(spec, volumes=volumes)


def containers(spec: kube.PodSpec, path: str = "spec") -> Iterator[tuple[str, kube.Container]]:
    """Yield path and container of each, those that initialise first.

    Args:
        spec: of a pod.
        path: where it is.
    """
    for number, one in enumerate(spec.init_containers):
        yield f"{path}.initContainers[{number}]", one
    for number, one in enumerate(spec.containers):
        yield f"{path}.containers[{number}]", one


def _check_init(path: str, container: kube.Container) -> None:
    """Probes and hooks are of what runs on: of init containers, of sidecars."""
    policy = container.restart_policy
    _check(f"{path}.restartPolicy", policy in (None, "Always"), "not supported")
    asked = {
        "lifecycle": container.lifecycle, "livenessProbe": container.liveness_probe,
        "readinessProbe": container.readiness_probe, "startupProbe": container.startup_probe,
    }  # fmt: skip
    for name, value in asked.items():
        good = value is None or policy == "Always"
        _check(f"{path}.{name}", good, "only with restartPolicy Always", "that makes it a sidecar")


def _check_shared(path: str, spec: kube.PodSpec) -> None:
    """See what the pod has of the machine's namespaces, and what it sets in its own."""
    both = spec.host_pid and spec.share_process_namespace
    _check(f"{path}.shareProcessNamespace", not both, "hostPID shares the machine's")
    context, here = spec.security_context, f"{path}.securityContext"
    _check_profiles(here, context)
    names = [sysctl_name(one.name) for one in context.sysctls]
    _check_unique(f"{here}.sysctls", names)
    for number, (name, one) in enumerate(zip(names, context.sysctls, strict=True)):
        at = f"{here}.sysctls[{number}]"
        kind = words.sysctl_namespace(name)
        hint = "kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.* and net.* are the pod's"
        _check(f"{at}.name", kind, f"{one.name!r} is the machine's", hint)
        _check_text(f"{at}.value", one.value)
        theirs = spec.host_network if kind == "network" else spec.host_ipc
        _check(f"{at}.name", not theirs, f"{name} is the machine's, as its {kind} namespace is")


def sysctl_name(name: str) -> str:
    """Return a parameter's name with dots between its parts, which may be written with slashes.

    Source: sysctl.d(5): the first separator says which one it is.
    """
    slash, dot = name.find("/"), name.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name.translate(str.maketrans("./", "/."))
    return name


def _sourced(volume: kube.Volume) -> kube.Volume:
    """Give a volume that says no source Kubernetes' default."""
    return volume if _sources(volume) else replace(volume, empty_dir=kube.EmptyDir())


def _sources(volume: kube.Volume) -> list[str]:
    return [
        one.encode_name
        for one in fields(kube.Volume)
        if one.name != "name" and getattr(volume, one.name) is not None
    ]


def _check_volume(path: str, volume: kube.Volume, spec: kube.PodSpec) -> None:
    _check_label(f"{path}.name", volume.name)
    sources = _sources(volume)
    _check(path, len(sources) <= 1, f"more than one source: {', '.join(sources)}")
    if volume.empty_dir and volume.empty_dir.size_limit is not None:
        _at(f"{path}.emptyDir.sizeLimit", _bytes, volume.empty_dir.size_limit)
    if volume.host_path:
        place = volume.host_path.path
        good = place.startswith("/") and ".." not in place.split("/")
        _check(f"{path}.hostPath.path", good, f"{place!r} is not absolute, or has ..")
        _check_text(f"{path}.hostPath.path", place)
    if volume.persistent_volume_claim:
        claim = volume.persistent_volume_claim.claim_name
        _check_subdomain(f"{path}.persistentVolumeClaim.claimName", claim)
        _check_volume_name(f"{path}.persistentVolumeClaim.claimName", claim)
    for name, source in (("configMap", volume.config_map), ("secret", volume.secret)):
        if source is not None:
            named = source.name if isinstance(source, kube.ConfigMapVolume) else source.secret_name
            _check_subdomain(f"{path}.{name}", named)
            _check_items(f"{path}.{name}.items", source.items or ())
    if volume.downward_api:
        _check_facts(f"{path}.downwardAPI.items", volume.downward_api.items, spec)
    if volume.projected:
        _check_projected(f"{path}.projected.sources", volume.projected.sources, spec)


def _check_projected(
    path: str, sources: tuple[kube.VolumeProjection, ...], spec: kube.PodSpec
) -> None:
    """Paths that are written down have to differ; of keys without ``items`` the last one counts."""
    for number, part in enumerate(sources):
        _check_projection(f"{path}[{number}]", part, spec)
    parts = (one for part in sources for one in (part.config_map, part.secret, part.downward_api))
    _check_unique(path, (item.path for one in parts if one is not None for item in one.items or ()))


def _check_projection(path: str, part: kube.VolumeProjection, spec: kube.PodSpec) -> None:
    _check_one(path, part)
    for name, source in (("configMap", part.config_map), ("secret", part.secret)):
        if source is not None:
            _check_subdomain(f"{path}.{name}.name", source.name)
            _check_items(f"{path}.{name}.items", source.items or ())
    if part.downward_api:
        _check_facts(f"{path}.downwardAPI.items", part.downward_api.items, spec)


def _check_facts(
    path: str, items: tuple[kube.DownwardAPIVolumeFile, ...], spec: kube.PodSpec
) -> None:
    from pycontain.pod import downward

    for number, item in enumerate(items):
        here = f"{path}[{number}]"
        _check_path(f"{here}.path", item.path)
        sources = [one for one in (item.field_ref, item.resource_field_ref) if one is not None]
        _check(here, len(sources) == 1, "not one of fieldRef and resourceFieldRef")
        if item.field_ref is not None:
            with _within(f"{here}.fieldRef.fieldPath"):
                downward.check_field(item.field_ref.field_path, in_volume=True)
        if item.resource_field_ref is not None:
            named = item.resource_field_ref.container_name
            _check(f"{here}.resourceFieldRef.containerName", named, "is missing")
            _check_resource(f"{here}.resourceFieldRef", item.resource_field_ref, spec)
    _check_unique(path, (item.path for item in items))


def _check_resource(path: str, ref: kube.ResourceFieldSelector, spec: kube.PodSpec) -> None:
    from pycontain.pod import downward

    with _within(f"{path}.resource"):
        downward.check_resource(ref.resource)
    if ref.divisor is not None:
        _at(f"{path}.divisor", quantity, ref.divisor)
    names = {container.name for _, container in containers(spec)}
    good = ref.container_name is None or ref.container_name in names
    _check(f"{path}.containerName", good, f"there is no container {ref.container_name!r}")


def _check_items(path: str, items: tuple[kube.KeyToPath, ...]) -> None:
    for number, item in enumerate(items):
        _check_path(f"{path}[{number}].path", item.path)
    _check_unique(path, (item.path for item in items))


def _check_path(path: str, place: str) -> None:
    _check_relative(path, place)
    plain = all(part not in ("", ".") for part in place.split("/"))
    _check(path, plain, f"{place!r} has an empty part, or .")


def _check_relative(path: str, place: str) -> None:
    parts = place.split("/")
    good = place and parts[0] and ".." not in parts and not place.startswith("..")
    _check(path, good, f"{place!r} is not relative, or has ..")
    _check_text(path, place)


def _at(path: str, read: Callable[[kube.Quantity], object], value: kube.Quantity) -> None:
    with _within(path):
        read(value)


def _check_container(path: str, container: kube.Container, spec: kube.PodSpec) -> None:
    _check_label(f"{path}.name", container.name)
    _check(f"{path}.image", container.image.strip(), "is empty")
    for name in ("command", "args"):
        for word in getattr(container, name) or ():
            _check_text(f"{path}.{name}", word)
    if container.working_dir:
        _check(f"{path}.workingDir", container.working_dir[0] == "/", "is not absolute")
    _check_resources(f"{path}.resources", container.resources)
    _check_env(path, container, spec)
    _check_ports(path, container.ports, host_network=spec.host_network)
    _check_mounts(path, container.volume_mounts, {volume.name for volume in spec.volumes})
    _check_rights(path, container.security_context, spec.security_context)
    _check_profiles(f"{path}.securityContext", container.security_context)
    _check_probes(path, container)
    if container.lifecycle is not None:
        _check_lifecycle(f"{path}.lifecycle", container.lifecycle, container, spec)


def _check_resources(path: str, asked: kube.ResourceRequirements) -> None:
    for name, resources in (("limits", asked.limits), ("requests", asked.requests)):
        for key, value in resources.items():
            _at(f"{path}.{name}{_step(key)}", _RESOURCES.get(key, quantity), value)
    _check_requests(path, asked)


def _check_together(path: str, spec: kube.PodSpec) -> None:
    """See that no container may have more than all of them, and that all ask for enough."""
    from pycontain.pod import resources

    _check_resources(f"{path}.resources", spec.resources)
    for key, most in spec.resources.limits.items():
        there = quantity(most)
        for here, one in containers(spec, path):
            limit = one.resources.limits.get(key)
            if limit is not None and quantity(limit) > there:
                where = f"{here}.resources.limits{_step(key)}"
                raise InvalidInput(f"{where}: {limit} is more than the pod's limit, {most}")
    for key, asked in spec.resources.requests.items():
        least = resources.of_containers(spec, key)
        what = f"{asked} is less than its containers ask for, {least}"
        _check(f"{path}.resources.requests{_step(key)}", quantity(asked) >= least, what)


def _check_probes(path: str, container: kube.Container) -> None:
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is None:
            continue
        here = f"{path}.{name}"
        _check_handler(here, (probe.exec_, probe.http_get, probe.tcp_socket), container)
        if name == "readinessProbe":
            grace = probe.termination_grace_period_seconds
            _check(f"{here}.terminationGracePeriodSeconds", grace is None, "it ends no container")
        else:
            _check(f"{here}.successThreshold", probe.success_threshold in (0, 1), "is not 1")


def _check_lifecycle(
    path: str, lifecycle: kube.Lifecycle, container: kube.Container, spec: kube.PodSpec
) -> None:
    for name, hook in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if hook is None:
            continue
        here = f"{path}.{name}"
        actions = (hook.exec_, hook.http_get, hook.tcp_socket, hook.sleep)
        _check_handler(here, actions, container)
        most = spec.termination_grace_period_seconds
        good = hook.sleep is None or hook.sleep.seconds <= most
        _check(f"{here}.sleep.seconds", good, f"more than terminationGracePeriodSeconds, {most}")
    if lifecycle.stop_signal is not None:
        with _within(f"{path}.stopSignal"):
            words.parse_signal(lifecycle.stop_signal, "signal")


def _check_handler(
    path: str,
    actions: Iterable[
        kube.ExecAction | kube.HTTPGetAction | kube.TCPSocketAction | kube.SleepAction | None
    ],
    container: kube.Container,
) -> None:
    from pycontain.pod import actions as handlers

    there = [one for one in actions if one is not None]
    _check(path, len(there) == 1, "not one action")
    (action,) = there
    if isinstance(action, kube.ExecAction):
        _check(f"{path}.exec.command", action.command, "is empty")
        for word in action.command:
            _check_text(f"{path}.exec.command", word)
    if isinstance(action, kube.HTTPGetAction | kube.TCPSocketAction):
        here = f"{path}.{'httpGet' if isinstance(action, kube.HTTPGetAction) else 'tcpSocket'}"
        with _within(f"{here}.port"):
            handlers.port_number(container, action.port)
        good = not action.host or _HOST.match(action.host)
        _check(f"{here}.host", good, f"{action.host!r} is no host")
    if isinstance(action, kube.HTTPGetAction):
        _check_request(f"{path}.httpGet", action)


def _check_request(path: str, action: kube.HTTPGetAction) -> None:
    good = not action.path or _URL_PATH.match(action.path)
    _check(f"{path}.path", good, f"{action.path!r} is no path of a URL")
    for number, header in enumerate(action.http_headers):
        here = f"{path}.httpHeaders[{number}]"
        _check(f"{here}.name", _TOKEN.match(header.name), f"{header.name!r} is no header's name")
        _check(f"{here}.value", _LINE.match(header.value), "is no line of printable characters")


def _check_profiles(path: str, context: kube.SecurityContext | kube.PodSecurityContext) -> None:
    for name, profile in (
        ("seccompProfile", context.seccomp_profile),
        ("appArmorProfile", context.app_armor_profile),
    ):
        if profile is None:
            continue
        local, here = profile.localhost_profile, f"{path}.{name}.localhostProfile"
        _check(here, bool(local) == (profile.type == "Localhost"), f"does not fit {profile.type}")
        if local and name == "seccompProfile":
            _check_relative(here, local)
        elif local:
            _check(here, _LINE.match(local) and local.strip(), f"{local!r} is no name of a profile")
    armor = context.app_armor_profile
    good = armor is None or armor.type != "RuntimeDefault"
    hint = "a profile that the kernel has is named with type Localhost"
    _check(f"{path}.appArmorProfile.type", good, "RuntimeDefault: there is no such profile", hint)


def _check_env(path: str, container: kube.Container, spec: kube.PodSpec) -> None:
    for number, one in enumerate(container.env):
        here = f"{path}.env[{number}]"
        _check(f"{here}.name", _VARIABLE.match(one.name), f"{one.name!r} is no name of a variable")
        _check_text(f"{here}.value", one.value or "")
        if one.value_from is not None:
            _check(here, not one.value, "both value and valueFrom")
            _check_source(f"{here}.valueFrom", one.value_from, spec)
    for number, source in enumerate(container.env_from):
        here = f"{path}.envFrom[{number}]"
        good = not source.prefix or _VARIABLE.match(source.prefix)
        _check(f"{here}.prefix", good, f"{source.prefix!r} is no beginning of a variable's name")
        refs = [ref for ref in (source.config_map_ref, source.secret_ref) if ref is not None]
        _check(here, len(refs) == 1, "not one source")
        _check_subdomain(f"{here}: name", refs[0].name)


def _check_one(path: str, source: kube.EnvVarSource | kube.VolumeProjection) -> None:
    there = [
        one.encode_name for one in fields(type(source)) if getattr(source, one.name) is not None
    ]
    _check(path, len(there) == 1, f"not one source: {', '.join(there) or 'none'}")


def _check_source(path: str, source: kube.EnvVarSource, spec: kube.PodSpec) -> None:
    from pycontain.pod import downward

    _check_one(path, source)
    for key in (source.config_map_key_ref, source.secret_key_ref):
        if key is not None:
            _check_subdomain(f"{path}: name", key.name)
    if source.field_ref is not None:
        with _within(f"{path}.fieldRef.fieldPath"):
            downward.check_field(source.field_ref.field_path, in_volume=False)
    if source.resource_field_ref is not None:
        _check_resource(f"{path}.resourceFieldRef", source.resource_field_ref, spec)


def _check_ports(path: str, ports: tuple[kube.ContainerPort, ...], *, host_network: bool) -> None:
    for number, port in enumerate(ports):
        here = f"{path}.ports[{number}]"
        if port.name is not None:
            good = len(port.name) <= 15 and _PORT_NAME.match(port.name)
            _check(f"{here}.name", good, f"{port.name!r} is no name of a service")
        if port.host_ip:
            _check_address(f"{here}.hostIP", port.host_ip)
        same = not host_network or port.host_port in (None, 0, port.container_port)
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
        if mount.sub_path_expr:
            _check(here, not mount.sub_path, "both subPath and subPathExpr")
            _check_relative(f"{here}.subPathExpr", mount.sub_path_expr)
    _check_unique(f"{path}.volumeMounts", (mount.mount_path for mount in mounts))


def _check_rights(path: str, own: kube.SecurityContext, shared: kube.PodSecurityContext) -> None:
    strict = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    user = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    here = f"{path}.securityContext"
    _check(here, not strict or user != 0, "runAsNonRoot, and runAsUser is 0")
    raised = own.privileged or "SYS_ADMIN" in (own.capabilities or kube.Capabilities()).add
    good = own.allow_privilege_escalation is not False or not raised
    _check(here, good, "allowPrivilegeEscalation is false, and privileged or SYS_ADMIN asked for")


def _check_hosts(path: str, spec: kube.PodSpec) -> None:
    if spec.hostname is not None:
        _check_label(f"{path}.hostname", spec.hostname)
    for number, alias in enumerate(spec.host_aliases):
        _check_address(f"{path}.hostAliases[{number}].ip", alias.ip)
        for name in alias.hostnames:
            _check_subdomain(f"{path}.hostAliases[{number}].hostnames", name)
    dns = spec.dns_config or kube.PodDNSConfig()
    for address in dns.nameservers:
        _check_address(f"{path}.dnsConfig.nameservers", address)
    for name in dns.searches:
        is_domain = name == "." or (len(name) <= 254 and _SEARCH.match(name))
        _check(f"{path}.dnsConfig.searches", is_domain, f"{name!r} is no domain")
    good = spec.dns_policy != "None" or dns.nameservers
    _check(f"{path}.dnsConfig.nameservers", good, "is empty, with dnsPolicy None")
