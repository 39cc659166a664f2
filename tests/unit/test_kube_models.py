"""The documents of Kubernetes beside the models of its own client for Python, of the same release.

From each kind of document all parts that it can have are visited: each has the fields that the API
has, no more, of the same types.
"""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
from kubernetes.client import models
from msgspec.structs import FieldInfo, fields

from pycontain.model import kube

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = type[msgspec.Struct]

NEEDED_HERE = {
    # The API may leave them out for the sake of parts that are not there (templates of other
    # kinds), or of old clients; without them nothing can be done.
    ("ConfigMap", "apiVersion"), ("ConfigMap", "kind"), ("ConfigMap", "metadata"),
    ("ConfigMapProjection", "name"), ("ConfigMapVolume", "name"), ("Container", "image"),
    ("Deployment", "apiVersion"), ("Deployment", "kind"), ("Deployment", "metadata"),
    ("EnvSource", "name"), ("KeySelector", "name"),
    ("PersistentVolumeClaim", "apiVersion"), ("PersistentVolumeClaim", "kind"),
    ("PersistentVolumeClaim", "metadata"), ("PersistentVolumeClaim", "spec"),
    ("Pod", "apiVersion"), ("Pod", "kind"), ("Pod", "metadata"), ("Pod", "spec"),
    ("PodDNSConfigOption", "name"), ("PodTemplateSpec", "spec"),
    ("Secret", "apiVersion"), ("Secret", "kind"), ("Secret", "metadata"),
    ("SecretProjection", "name"), ("SecretVolume", "secretName"),
}  # fmt: skip
"""Type of ours and field."""


class Pair(NamedTuple):
    """A part of ours, and the model of the client."""

    ours: Part
    theirs: Any


def is_supported(field: FieldInfo) -> bool:
    return bool(field.type != kube.Unsupported)


def plain(type_: Any) -> Any:
    """A type without its bounds, and without None."""
    if typing.get_origin(type_) is Annotated:
        return plain(typing.get_args(type_)[0])
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        several = [plain(one) for one in typing.get_args(type_) if one is not type(None)]
        return several[0] if len(several) == 1 else tuple(several)
    return type_


def shape(type_: Any) -> str:
    """The words of the client for a type of ours; parts are ``part``."""
    found = plain(type_)
    origin, arguments = typing.get_origin(found), typing.get_args(found)
    if origin is Literal:
        return type(arguments[0]).__name__
    if origin is tuple:
        return f"List[{shape(arguments[0])}]"
    if origin is dict:
        return f"Dict[str, {shape(arguments[1])}]"
    if found == (str, int, float):
        return "str"  # a quantity: what the client sends is a text
    if found == (int, str):
        return "object"  # the number of a port, or its name
    return "part" if issubclass(found, msgspec.Struct) else found.__name__


def part_of(type_: Any) -> Part | None:
    """The part that a field holds, or several of them."""
    found = plain(type_)
    if typing.get_origin(found) is tuple:
        found = plain(typing.get_args(found)[0])
    return found if isinstance(found, type) and issubclass(found, msgspec.Struct) else None


def wire(theirs: Any) -> dict[str, str]:
    """Field on the wire to the client's word for its type."""
    return {name: theirs.openapi_types[own] for own, name in theirs.attribute_map.items()}


def model(word: str) -> Any:
    return getattr(models, word.removeprefix("List[").removesuffix("]"))


def walk(pair: Pair, seen: set[Pair]) -> Iterator[Pair]:
    if pair in seen:
        return
    seen.add(pair)
    yield pair
    there = wire(pair.theirs)
    for field in fields(pair.ours):
        part = part_of(field.type) if is_supported(field) else None
        if part is not None and field.encode_name in there:
            yield from walk(Pair(part, model(there[field.encode_name])), seen)


SEEN: set[Pair] = set()
PAIRS = [
    pair
    for type_ in kube.KINDS.values()
    for pair in walk(Pair(type_, getattr(models, f"V1{type_.__name__}")), SEEN)
]


def test_every_part_is_visited() -> None:
    parts = {
        one for one in vars(kube).values()
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and one.__name__[0] != "_"
    }  # fmt: skip
    assert {pair.ours for pair in PAIRS} == parts


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.ours.__name__)
def test_fields_are_those_of_the_api(pair: Pair) -> None:
    assert {field.encode_name for field in fields(pair.ours)} == set(wire(pair.theirs))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.ours.__name__)
def test_types_are_those_of_the_api(pair: Pair) -> None:
    there = wire(pair.theirs)
    ours = {
        field.encode_name: shape(field.type) for field in fields(pair.ours) if is_supported(field)
    }
    theirs = {
        name: "part" if there[name].startswith("V1")
        else "List[part]" if there[name].startswith("List[V1")
        else "Dict[str, str]" if there[name] == "Dict[str, bytes]"  # in base64
        else there[name]
        for name in ours
    }  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.ours.__name__)
def test_what_is_needed_is_what_the_api_needs(pair: Pair) -> None:
    needed = {
        own.serialization_alias or name
        for name, own in pair.theirs.model_fields.items()
        if own.is_required()
    }
    ours = {field.encode_name for field in fields(pair.ours) if field.required}
    more = {field for part, field in NEEDED_HERE if part == pair.ours.__name__}
    assert more.isdisjoint(needed)
    assert ours == needed | more


def test_kinds_are_called_as_in_the_api() -> None:
    for kind, type_ in kube.KINDS.items():
        named = {field.encode_name: plain(field.type) for field in fields(type_)}
        assert typing.get_args(named["kind"]) == (kind,)
        version = "apps/v1" if kind == "Deployment" else "v1"
        assert typing.get_args(named["apiVersion"]) == (version,)
