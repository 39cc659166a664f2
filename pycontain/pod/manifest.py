"""Kubernetes manifests: YAML text to typed objects that can be carried out, or an error.

A field that Kubernetes does not know is an error; one that it knows and pycontain has no use for is
named, and an error where the pod could not be what it says without it. What is wrong is named by
its document, ``KIND/NAME`` and the field's path.

Source: the Kubernetes API reference, core/v1 and apps/v1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.pod import claims, documents, kinds, podspec, typed, unsupported
from pycontain.pod.checks import check, check_metadata, check_subdomain, check_volume_name, within

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSIONS = {"Deployment": "apps/v1"}
"""The ``apiVersion`` of those that are not of ``v1``."""


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
        with within(place):
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
            with within(f"{place}: List"):
                items = _listed(value)
            yield from ((f"{place}: items[{at}]", item) for at, item in enumerate(items))
        elif value is not None:
            yield place, value


def _listed(value: dict[str, Any]) -> list[Any]:
    for key in value:
        check(key, key in ("apiVersion", "kind", "metadata", "items"), "unknown field")
    check("apiVersion", value.get("apiVersion") == "v1", "is not v1")
    items = value.get("items")
    check("items", items is None or isinstance(items, list), "no list")
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
    kind = raw["kind"]
    if raw.get("apiVersion") not in unsupported.OTHERS.get(kind, ()):
        return ""
    return f"{kind}/{_name(kind, raw)}"


def _name(kind: str, raw: dict[str, Any]) -> str:
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise InvalidInput(f"{kind}: metadata.name: is missing, or no text")
    check_subdomain(f"{kind}: metadata.name", name)
    return name


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
    name = _name(kind, raw)
    with within(f"{kind}/{name}"):
        one = typed.convert(raw, type_)
        check_metadata("metadata", one.metadata)
        paths = [*unsupported.paths(one, "")]
        one = _without_servers(_checked(one))
    _check_possible(one)
    return one, [f"{kind}/{name}: {path}" for path in paths]


def _without_servers(one: kube.Object) -> kube.Object:
    """Leave out what a server says of an object: what was got from one is what was declared."""
    meta = typed.fields(kube.ObjectMeta)
    said = [field.name for field in meta if field.encode_name in unsupported.OF_SERVERS]
    metadata = replace(one.metadata, **dict.fromkeys(["owner_references", *said]))
    if isinstance(one, kube.ConfigMap | kube.Secret):
        return replace(one, metadata=metadata)
    return replace(one, metadata=metadata, status=None)


def _checked(one: kube.Object) -> kube.Object:
    if isinstance(one, kube.Pod):
        return replace(one, spec=podspec.checked("spec", one.spec))
    if isinstance(one, kube.Deployment):
        return kinds.checked_deployment(one)
    if isinstance(one, kube.PersistentVolumeClaim):
        check_volume_name("metadata.name", one.name)
        kinds.check_claim(one.spec)
        return one
    return kinds.checked_data(one)


def _check_possible(one: kube.Object) -> None:
    """Refuse what is in order and cannot be on this machine."""
    if isinstance(one, kube.PersistentVolumeClaim):
        claims.check(one)
