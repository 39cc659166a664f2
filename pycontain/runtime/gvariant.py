"""Values in GVariant's text format, as annotations give properties of systemd units.

GLib's documentation, "GVariant Text Format". Of it: booleans, numbers, strings, arrays and tuples
of them, and the types before a value (``uint64 5``, ``@as []``). Dictionaries, variants, maybe
types and byte strings are refused.
"""

from __future__ import annotations

from pycontain.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u",
    "int64": "x", "uint64": "t", "double": "d", "string": "s", "objectpath": "o",
    "signature": "g",
}  # fmt: skip
_RANGES = {
    "y": (0, 2**8 - 1), "n": (-(2**15), 2**15 - 1), "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1), "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1), "t": (0, 2**64 - 1),
}  # fmt: skip
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ENDS = " \t\n,()[]"


def parse(text: str) -> tuple[str, object]:
    """Return the D-Bus signature and the value of `text`; numbers without a type are int32.

    Raises:
        InvalidInput: it is no value, or of a kind that is not supported.
    """
    reader = _Reader(text)
    found = reader.value("")
    reader.skip()
    if reader.at != len(text):
        raise reader.wrong("something follows the value")
    return found


class _Reader:
    """A text and a place in it."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def wrong(self, reason: str) -> InvalidInput:
        return InvalidInput(f"{self.text!r}: {reason} (GVariant text, character {self.at})")

    def skip(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    def peek(self) -> str:
        self.skip()
        return self.text[self.at : self.at + 1]

    def word(self) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _ENDS:
            self.at += 1
        return self.text[start : self.at]

    def value(self, wanted: str) -> tuple[str, object]:
        """Read a value of the type `wanted`, or of any."""
        first = self.peek()
        if first in ("'", '"'):
            return self._of(wanted, ("s", "o", "g"), self._string(first))
        if first == "[":
            return self._array(wanted)
        if first == "(":
            return self._tuple(wanted)
        word = self.word()
        if word in _TYPES or word.startswith("@"):
            kind = _TYPES.get(word) or self._signature(word[1:])
            if wanted not in ("", kind):
                raise self.wrong(f"{kind} where {wanted} is expected")
            return self.value(kind)
        if word in ("true", "false"):
            return self._of(wanted, ("b",), word == "true")
        return self._number(word, wanted)

    def _signature(self, kind: str) -> str:
        """A type after an at sign; the brackets of a tuple's end a word."""
        if kind.strip("a") not in ("", *_TYPES.values()) or not kind.strip("a"):
            raise self.wrong(f"the type {kind!r} is not supported")
        return kind

    def _of(self, wanted: str, kinds: tuple[str, ...], value: object) -> tuple[str, object]:
        if wanted and wanted not in kinds:
            raise self.wrong(f"{kinds[0]} where {wanted} is expected")
        return wanted or kinds[0], value

    def _number(self, word: str, wanted: str) -> tuple[str, object]:
        try:
            if wanted == "d" or (not wanted and "." in word):
                return "d", float(word)
            number = int(word, 0)
        except ValueError:
            raise self.wrong(f"{word!r} is no value of a known kind") from None
        kind = wanted or "i"
        if kind not in _RANGES:
            raise self.wrong(f"a number where {kind} is expected")
        low, high = _RANGES[kind]
        if not low <= number <= high:
            raise self.wrong(f"{number} is not from {low} to {high}")
        return kind, number

    def _string(self, quote: str) -> str:
        self.at += 1
        found = ""
        while (letter := self.text[self.at : self.at + 1]) != quote:
            if not letter:
                raise self.wrong("the string does not end")
            self.at += 1
            found += self._escaped() if letter == "\\" else letter
        self.at += 1
        return found

    def _escaped(self) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        length = {"u": 4, "U": 8}.get(letter, 0)
        if not length:
            return _ESCAPES.get(letter, letter)
        digits = self.text[self.at : self.at + length]
        self.at += length
        try:
            return chr(int(digits, 16))
        except ValueError:
            raise self.wrong(f"{digits!r} is no character's number") from None

    def _array(self, wanted: str) -> tuple[str, object]:
        if wanted and not wanted.startswith("a"):
            raise self.wrong(f"an array where {wanted} is expected")
        kind = wanted[1:]
        found: list[object] = []

        def element() -> None:
            nonlocal kind
            kind, value = self.value(kind)
            found.append(value)

        self._elements("]", element)
        if not kind:
            raise self.wrong("an empty array needs its type, such as @as []")
        return f"a{kind}", bytes(found) if kind == "y" else found  # type: ignore[arg-type]

    def _tuple(self, wanted: str) -> tuple[str, object]:
        found: list[tuple[str, object]] = []
        self._elements(")", lambda: found.append(self.value("")))
        kind = f"({''.join(kind for kind, _ in found)})"
        if wanted not in ("", kind):
            raise self.wrong(f"{kind} where {wanted} is expected")
        return kind, tuple(value for _, value in found)

    def _elements(self, end: str, element: Callable[[], None]) -> None:
        self.at += 1
        while self.peek() != end:
            element()
            if self.peek() == ",":
                self.at += 1
            elif self.peek() != end:
                raise self.wrong(f"',' or {end!r} is missing")
        self.at += 1
