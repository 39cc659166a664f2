"""A seccomp profile that a user wrote, as an OCI object.

Two forms are read: the OCI's own (runtime-spec, config-linux.md, "Seccomp") and docker's, which
adds ``archMap`` (an architecture and its relatives), ``name`` beside ``names``, and for each rule
``includes`` and ``excludes`` (architectures, capabilities, oldest kernel). Nobody takes a listener
for a profile that comes this way, so SCMP_ACT_NOTIFY is refused. Imported only when a file is
named.
"""

from __future__ import annotations

import json
import os

from pycontain.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pycontain.model import oci

# machine, uname(2): the name in includes and excludes, and the one in archMap.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}


class _Place:
    """A value of the document and where it stands, for errors such as ``…: syscalls[3].names``."""

    def __init__(self, document: str, path: str, value: Any) -> None:
        self.document = document
        self.path = path
        self.value = value

    def error(self, reason: str) -> InvalidInput:
        return InvalidInput(": ".join(part for part in (self.document, self.path, reason) if part))

    def get(self, key: str) -> _Place:
        """Return a member of this object; one that is absent has the value None, as null has."""
        path = f"{self.path}.{key}" if self.path else key
        return _Place(self.document, path, self.value.get(key))

    def object(self) -> _Place:
        if not isinstance(self.value, dict):
            raise self.error("not an object")
        return self

    def items(self) -> list[_Place]:
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error("not a list")
        return [
            _Place(self.document, f"{self.path}[{at}]", item) for at, item in enumerate(self.value)
        ]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error("missing" if self.value is None else "not a string")
        return self.value

    def number(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.error("missing" if self.value is None else "not a whole number")
        return self.value

    def texts(self) -> list[str]:
        return [item.text() for item in self.items()]


def load(path: str, capabilities: Iterable[str]) -> oci.Seccomp:
    """Return the profile in the JSON file `path`; see `seccomp.load_profile`.

    Raises:
        InvalidInput: it cannot be read or is no profile; says where.
    """
    where = f"seccomp profile: {path}"
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as err:
        raise InvalidInput(f"{where}: {(err.strerror or str(err)).lower()}") from err
    return parse(text, where, capabilities)


def parse(text: bytes, where: str, capabilities: Iterable[str]) -> oci.Seccomp:
    """Return the profile in the JSON `text`; `where` begins the messages.

    Raises:
        InvalidInput: it is no profile; says where.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise InvalidInput(f"{where}: not json: {str(err).lower()}") from err
    document = _Place(where, "", value).object()
    profile: oci.Seccomp = {"defaultAction": _action(document.get("defaultAction"))}
    if document.get("defaultErrnoRet").value is not None:
        profile["defaultErrnoRet"] = document.get("defaultErrnoRet").number()
    profile["architectures"] = _architectures(document)
    profile["flags"] = document.get("flags").texts()
    profile["syscalls"] = _rules(document, set(capabilities))
    return profile


def _architectures(document: _Place) -> list[str]:
    plain = document.get("architectures").texts()
    mapped = document.get("archMap").items()
    if plain and mapped:
        raise document.error("architectures and archMap exclude each other")
    _, mine = _machine()
    for entry in mapped:
        name = entry.object().get("architecture").text()
        if name == mine:
            return [name, *entry.get("subArchitectures").texts()]
    return plain


def _machine() -> tuple[str, str]:
    return _MACHINES.get(os.uname().machine, ("", ""))


def _rules(document: _Place, capabilities: set[str]) -> list[oci.SeccompRule]:
    calls = [call.object() for call in document.get("syscalls").items()]
    return [_rule(call) for call in calls if _applies(call, capabilities)]


def _rule(call: _Place) -> oci.SeccompRule:
    rule: oci.SeccompRule = {"names": _names(call), "action": _action(call.get("action"))}
    if call.get("errnoRet").value is not None:
        rule["errnoRet"] = call.get("errnoRet").number()
    args = [_argument(item.object()) for item in call.get("args").items()]
    if args:
        rule["args"] = args
    return rule


def _action(place: _Place) -> str:
    if place.text() == "SCMP_ACT_NOTIFY":
        raise place.error("SCMP_ACT_NOTIFY is not supported: nobody would answer")
    return place.text()


def _names(call: _Place) -> list[str]:
    names = call.get("names").texts()
    single = call.get("name")
    if single.value:
        if names:
            raise call.error("name and names exclude each other")
        return [single.text()]
    if not names:
        raise call.error("names no system call")
    return names


def _argument(item: _Place) -> oci.SeccompArg:
    argument: oci.SeccompArg = {
        "index": item.get("index").number(),
        "value": item.get("value").number(),
        "op": item.get("op").text(),
    }
    if item.get("valueTwo").value is not None:
        argument["valueTwo"] = item.get("valueTwo").number()
    return argument


def _applies(call: _Place, capabilities: set[str]) -> bool:
    """Tell whether a rule counts here: all of ``includes`` holds and nothing of ``excludes``."""
    includes, excludes = _condition(call, "includes"), _condition(call, "excludes")
    if includes is not None and not all(_facts(includes, capabilities, all)):
        return False
    return excludes is None or not any(_facts(excludes, capabilities, any))


def _condition(call: _Place, key: str) -> _Place | None:
    place = call.get(key)
    return None if place.value is None else place.object()


def _facts(
    condition: _Place, capabilities: set[str], join: Callable[[Iterable[bool]], bool]
) -> list[bool]:
    """Return the truth of each part that is given; `join` says how capabilities add up."""
    facts = []
    arches = condition.get("arches").texts()
    if arches:
        facts.append(_machine()[0] in arches)
    caps = condition.get("caps").texts()
    if caps:
        facts.append(join(cap in capabilities for cap in caps))
    kernel = condition.get("minKernel")
    if kernel.value:
        facts.append(_version(os.uname().release) >= _oldest(kernel))
    return facts


def _oldest(place: _Place) -> tuple[int, int]:
    major, dot, minor = place.text().partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise place.error(f'"{place.value}" is not a kernel version such as 4.8')
    return int(major), int(minor)


def _version(release: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel's `release`, such as ``6.18.44-fc``."""
    major, _, rest = release.partition(".")
    digits = ""
    for letter in rest:
        if not letter.isdecimal():
            break
        digits += letter
    return int(major), int(digits or 0)
