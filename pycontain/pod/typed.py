"""Plain values to the types of Kubernetes' objects; what is wrong is named by its path."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import FieldInfo
from msgspec.structs import fields as fields_of

from pycontain.errors import InvalidInput
from pycontain.pod.checks import path_text, step_text
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.model import kube


@functools.cache
def fields(type_: type[msgspec.Struct]) -> tuple[FieldInfo, ...]:
    """Return the fields of a struct, which msgspec finds out anew each time."""
    return fields_of(type_)


def convert(raw: dict[str, Any], type_: type[kube.Object]) -> kube.Object:
    """Return an object of plain values as its type has it.

    Args:
        raw: of the document; fields that are null count as not there.
        type_: of ``kube.KINDS``.

    Raises:
        InvalidInput: a field is unknown, is missing, or has a value of another type.
    """
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
        raise InvalidInput(f"{path_text((*path, key))}: expected a text, there is none", "write ''")
    if isinstance(here, msgspec.Struct) and key not in _names(type(here)):
        raise InvalidInput(f"{path_text((*path, key))}: unknown field")


@functools.cache
def _names(type_: type[msgspec.Struct]) -> dict[str, str]:
    """Return the fields of a struct: the name on the wire to that in Python."""
    return {one.encode_name: one.name for one in fields(type_)}


_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


def _told(message: str, given: Any) -> InvalidInput:
    """Turn msgspec's words around: the path first."""
    what, _, path = message.rpartition(" - at `$")
    what, path = (what, path.removesuffix("`")) if what else (message, "")
    what = what.replace(" | null`", "`")  # a null is not there
    if "[...]" in path:
        path = path.replace("[...]", step_text(_odd_key(given, path)))
    path = path.removeprefix(".")
    field = _FIELD.match(what)
    if field:
        said = "unknown field" if field[1] == "contains unknown" else "is missing"
        return InvalidInput(f"{path}{step_text(field[2])}: {said}".removeprefix("."))
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
