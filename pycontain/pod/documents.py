"""YAML text to plain data, as Kubernetes reads it, with bounds.

The text is read event by event, so nothing is built before its size is known. What differs from
PyYAML's own loader is what its users stumble over in manifests: dates and ``12:30:45`` are texts,
``1e3`` is a number, a key is always a text, and the same key twice is refused. Of YAML's tags only
``!!str`` is known. JSON is read as such: not all of it is YAML 1.1.

Source: YAML 1.1 (https://yaml.org/spec/1.1/), its types "merge", "bool", "int", "float", "null";
RFC 8259.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from yaml import events

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_LIMIT = 4 << 20
"""Characters of a file."""
EXPANDED_LIMIT = 16 << 20
"""Characters of what its aliases make of it, and 8 for each value."""
DEPTH_LIMIT = 64
"""Collections in one another; the documents of Kubernetes have about 12."""

_STR = ("!", "tag:yaml.org,2002:str")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_INT = re.compile(r"[-+]?(?:0b[01]+|0x[0-9a-fA-F]+|0o[0-7]+|0[0-7]*|[1-9][0-9]*)\Z", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z")
_DIGITS = 400
"""Longer numbers are texts."""


class Document(NamedTuple):
    """One of several.

    Attributes:
        line: where it begins, from 1.
        value: dict, list, str, int, float, bool or None; what aliases name is there several times,
            as the same object.
    """

    line: int
    value: Any


class _Value(NamedTuple):
    """A value that is complete, and its size when aliases are written out."""

    value: Any
    size: int


class _Open:
    """A collection that is being read."""

    __slots__ = ("anchor", "key", "list", "map", "merged", "merging", "size")

    def __init__(self, *, mapping: bool, anchor: str | None) -> None:
        self.map: dict[str, Any] | None = {} if mapping else None
        self.list: list[Any] = []
        self.key: str | None = None
        self.merged: list[Any] | None = None
        self.merging = False
        self.anchor = anchor
        self.size = 8

    @property
    def wants_key(self) -> bool:
        return self.map is not None and self.key is None


def read(text: str) -> Iterator[Document]:
    """Yield the documents of a text.

    Raises:
        InvalidInput: no YAML, or beyond a bound; names line and column.
    """
    if len(text) > TEXT_LIMIT:
        raise InvalidInput(f"more than {TEXT_LIMIT >> 20} MiB of YAML")
    try:
        yield from _json(text) or _documents(text)
    except yaml.MarkedYAMLError as err:
        raise _bad(err.problem_mark or err.context_mark, err.problem or "no YAML") from err
    except (yaml.YAMLError, UnicodeError) as err:
        reason = getattr(err, "reason", "") or str(err)
        raise InvalidInput(f"no YAML: {reason[:1].lower()}{reason[1:]}") from err


_BETWEEN = re.compile(r"(?:[ \t\r\n\ufeff]|---(?=\s|\Z))*")


def _json(text: str) -> list[Document]:
    """Return the objects of JSON, one after the other; none where it is not that: YAML's flow
    mappings begin so too, and its reader says what is wrong.
    """
    line, at = 1, _after_blanks(text, 0)
    if text[at : at + 1] != "{":
        return []
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique, parse_int=_resolve, parse_float=_resolve, parse_constant=_none
    )
    found, before = [], 0
    try:
        while at < len(text):
            value, end = decoder.raw_decode(text, at)
            _check_json(value, DEPTH_LIMIT)
            line += text.count("\n", before, at)
            found.append(Document(line, value))
            before, at = at, _after_blanks(text, end)
    except (ValueError, RecursionError):
        return []
    return found


def _after_blanks(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    assert match is not None
    return match.end()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _none("a key is there twice")


def _none(what: str) -> Any:
    raise ValueError(what)


def _check_json(value: Any, depth: int) -> None:
    """Refuse what is too deep, and halves of a surrogate pair, which are no characters."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, (dict, list)):
        if not depth:
            _none("too deep")
        for one in value.items() if isinstance(value, dict) else value:
            _check_json(one, depth - 1)
    elif isinstance(value, tuple):
        for one in value:
            _check_json(one, depth)


def _documents(text: str) -> Iterator[Document]:
    line, reader = 1, _Reader()
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, events.DocumentStartEvent):
            line, reader = getattr(event.start_mark, "line", 0) + 1, _Reader()
        elif isinstance(event, events.DocumentEndEvent):
            yield Document(line, reader.root)
        elif isinstance(event, events.NodeEvent | events.CollectionEndEvent):
            reader.take(event)


class _Reader:
    """One document.

    Attributes:
        root: its value, once all events are taken.
    """

    def __init__(self) -> None:
        self.root: Any = None
        self._open: list[_Open] = []
        self._anchors: dict[str, _Value] = {}

    def take(self, event: events.Event) -> None:
        """Take the next event."""
        if isinstance(event, events.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, events.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, events.AliasEvent):
            self._alias(event)
        elif isinstance(event, events.ScalarEvent):
            self._scalar(event)

    def _begin(self, event: events.CollectionStartEvent) -> None:
        if event.tag is not None:
            raise _bad(event.start_mark, f"tag {event.tag} is not supported")
        if len(self._open) >= DEPTH_LIMIT:
            raise _bad(event.start_mark, f"more than {DEPTH_LIMIT} levels")
        if self._open and self._open[-1].wants_key:
            raise _bad(event.start_mark, "a key is a list or a mapping")
        mapping = isinstance(event, events.MappingStartEvent)
        self._open.append(_Open(mapping=mapping, anchor=event.anchor))

    def _end(self, event: events.CollectionEndEvent) -> None:
        done = self._open.pop()
        value: Any = done.list
        if done.map is not None:
            value = done.map if done.merged is None else _merge(done.map, done.merged, event)
        self._place(_Value(value, done.size), done.anchor, event)

    def _alias(self, event: events.AliasEvent) -> None:
        known = self._anchors.get(event.anchor or "")
        if known is None:
            raise _bad(event.start_mark, f"alias *{event.anchor}: nothing complete has this anchor")
        if self._open and self._open[-1].wants_key:
            raise _bad(event.start_mark, "a key is an alias")
        self._place(known, None, event)

    def _scalar(self, event: events.ScalarEvent) -> None:
        if event.tag is not None and event.tag not in _STR:
            raise _bad(event.start_mark, f"tag {event.tag} is not supported")
        plain = event.implicit[0] and event.tag is None
        if self._open and self._open[-1].wants_key:
            self._key(event, plain=plain)
            return
        value = _resolve(event.value) if plain else event.value
        self._place(_Value(value, len(event.value) + 8), event.anchor, event)

    def _key(self, event: events.ScalarEvent, *, plain: bool) -> None:
        mapping, key = self._open[-1], event.value
        assert mapping.map is not None
        merging = plain and key == "<<"
        if key in mapping.map or (merging and mapping.merged is not None):
            raise _bad(event.start_mark, f"key {key!r} is there twice")
        mapping.key = key
        mapping.size += len(key) + 8
        mapping.merging = merging

    def _place(self, done: _Value, anchor: str | None, event: events.Event) -> None:
        if anchor is not None:
            self._anchors[anchor] = done
        if not self._open:
            self.root = done.value
            return
        into = self._open[-1]
        into.size += done.size
        if into.size > EXPANDED_LIMIT:
            raise _bad(event.start_mark, "too large once its aliases are written out")
        if into.map is None:
            into.list.append(done.value)
        elif into.merging:
            into.merged = done.value if isinstance(done.value, list) else [done.value]
        else:
            assert into.key is not None
            into.map[into.key] = done.value
        into.key, into.merging = None, False


def _merge(own: dict[str, Any], others: list[Any], event: events.Event) -> dict[str, Any]:
    """Return a mapping with what ``<<`` brings: its own keys win, then those of the first."""
    merged = own.copy()
    for other in others:
        if not isinstance(other, dict):
            raise _bad(event.end_mark, "<< of what is no mapping")
        for key, value in other.items():
            merged.setdefault(key, value)
    return merged


def _resolve(text: str) -> Any:
    """Return what an unquoted text stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _DIGITS or text[:1] not in "+-.0123456789":
        return text
    if _INT.match(text):
        return _integer(text)
    return float(text) if _FLOAT.match(text) else text


def _integer(text: str) -> int:
    """Return an integer; a leading 0 makes it octal, as in YAML 1.1 and for file modes."""
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    number = int(f"0o{digits}" if octal else digits, 0)
    return -number if text[0] == "-" else number


def _bad(mark: Any, what: str) -> InvalidInput:
    if mark is None:
        return InvalidInput(f"no YAML: {what}")
    return InvalidInput(f"line {mark.line + 1}, column {mark.column + 1}: {what}")
