"""What a JSON document may hold, as a tree of kinds, and the walk along it.

Generic: which fields a document has is in ``fields``. A kind reads a value as json.loads gives it
and returns a clean copy: unknown fields left out, and fields that are null left out too, because a
program in Go writes an absent pointer as null and reads null as absent. Numbers are whole numbers:
neither ``true`` nor ``1.0`` is one.

The walk is bounded by the schema, so that no nesting of a document exhausts the stack, and a path
is made only when something is wrong.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_SHOWN = 60


class Wrong(Exception):
    """A value is not what the schema or a rule wants.

    Attributes:
        path: where, such as ``process.args[0]``; empty for the document itself.
        reason: what is wrong there.
    """

    __slots__ = ("path", "reason")

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def under(self, parent: str) -> Wrong:
        """Return this error, its path now below `parent`."""
        dot = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{parent}{dot}{self.path}"
        return self


def show(value: object) -> str:
    """Return `value` for a message: one short line of printable characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # repr escapes what cannot be printed, lone surrogates included.
        return f'"{repr(value[:_SHOWN])[1:-1]}{"…" if len(value) > _SHOWN else ""}"'
    if isinstance(value, int):
        # Above some thousand digits, str(int) refuses.
        return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


class Kind:
    """What a value may be."""

    __slots__ = ()

    def read(self, value: Any) -> Any:
        """Return a clean copy of `value`.

        Raises:
            Wrong: it is not of this kind.
        """
        raise NotImplementedError


class Flag(Kind):
    """True or false."""

    __slots__ = ()

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if type(value) is not bool:
            raise Wrong("", f"must be true or false, not {show(value)}")
        return value


class Number(Kind):
    """A whole number from `low` to `high`."""

    __slots__ = ("high", "low")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if type(value) is not int or not self.low <= value <= self.high:
            wanted = f"a whole number from {self.low} to {self.high}"
            raise Wrong("", f"must be {wanted}, not {show(value)}")
        return value


class Text(Kind):
    """A string that the kernel can be given: encodable and without NUL.

    `rule` gets such a string and returns what is wrong with it, or None.
    """

    __slots__ = ("rule",)

    def __init__(self, rule: Callable[[str], str | None] | None = None) -> None:
        self.rule = rule

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if type(value) is not str:
            raise Wrong("", f"must be a string, not {show(value)}")
        if "\0" in value:
            raise Wrong("", f"NUL in {show(value)}")
        if not value.isascii() and not _encodable(value):
            raise Wrong("", f"half a surrogate pair in {show(value)}")
        if self.rule is not None:
            reason = self.rule(value)
            if reason is not None:
                raise Wrong("", reason)
        return value


def _encodable(value: str) -> bool:
    # JSON can name a lone surrogate ("\udc80"). Python would make of some an arbitrary byte.
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Word(Kind):
    """One of some words; `what` names them all."""

    __slots__ = ("what", "words")

    def __init__(self, what: str, words: Iterable[str]) -> None:
        self.what = what
        self.words = frozenset(words)

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if type(value) is not str:
            raise Wrong("", f"must be a string, not {show(value)}")
        if value not in self.words:
            raise Wrong("", f"unknown {self.what} {show(value)}")
        return value


class List(Kind):
    """A list of one kind, with at least `least` items."""

    __slots__ = ("item", "least")

    def __init__(self, item: Kind, least: int = 0) -> None:
        self.item = item
        self.least = least

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if not isinstance(value, list):
            raise Wrong("", f"must be a list, not {show(value)}")
        if len(value) < self.least:
            raise Wrong("", "must not be empty")
        read = self.item.read
        result: list[Any] = []
        try:
            for item in value:
                result.append(read(item))  # noqa: PERF401 (its length is the index when one fails)
        except Wrong as wrong:
            raise wrong.under(f"[{len(result)}]") from None
        return result


class Map(Kind):
    """An object with any keys of one kind and values of one kind."""

    __slots__ = ("key", "value")

    def __init__(self, key: Kind, value: Kind) -> None:
        self.key = key
        self.value = value

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if not isinstance(value, dict):
            raise Wrong("", f"must be an object, not {show(value)}")
        result: dict[str, Any] = {}
        for key, item in value.items():
            try:
                result[self.key.read(key)] = self.value.read(item)
            except Wrong as wrong:
                raise wrong.under(f"[{show(key)}]") from None
        return result


class Object(Kind):
    """An object with named fields; a name that ends in ``!`` must be there."""

    __slots__ = ("fields", "required")

    def __init__(self, fields: dict[str, Kind]) -> None:
        self.fields = {name.rstrip("!"): kind for name, kind in fields.items()}
        self.required = [name[:-1] for name in fields if name.endswith("!")]

    def read(self, value: Any) -> Any:
        """See `Kind.read`."""
        if not isinstance(value, dict):
            raise Wrong("", f"must be an object, not {show(value)}")
        fields = self.fields
        result: dict[str, Any] = {}
        key = ""
        try:
            for key, item in value.items():
                if key in fields and item is not None:
                    result[key] = fields[key].read(item)
        except Wrong as wrong:
            raise wrong.under(key) from None
        for name in self.required:
            if name not in result:
                raise Wrong(name, "missing")
        return result
