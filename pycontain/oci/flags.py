"""The grammar of runc's command line (urfave/cli over Go's flag package), as a table and a reader.

One dash or two; a value after a space or an equals sign; ``--flag=false`` for a boolean; no joined
letters. So it differs from the main command line's, which is docker's.
"""

from __future__ import annotations

from pycontain.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCH, VALUE, LIST, NUMBER = "switch", "value", "list", "number"


class UsageError(InvalidInput):
    """The command line itself is wrong."""


class Flag:
    """One flag.

    Args:
        names: the long name, then aliases; without dashes.
        kind: ``switch``, ``value``, ``list`` (may be repeated) or ``number``.
        help: one line.
        default: where it is not given.
    """

    __slots__ = ("default", "help", "kind", "names")

    def __init__(self, names: str, kind: str, help: str, default: object = None) -> None:  # noqa: A002 - the field's word
        self.names = names.split()
        self.kind = kind
        self.help = help
        self.default = default if default is not None else {SWITCH: False, NUMBER: 0}.get(kind)


class Values:
    """What a command line says: flags by long name, and the words after them."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self._values: dict[str, object] = {
            flag.names[0]: [] if flag.kind == LIST else flag.default for flag in flags
        }
        self.given: set[str] = set()
        self.words: list[str] = []

    def text(self, name: str) -> str:
        """Return a value, empty where it was not given."""
        value = self._values[name]
        return value if isinstance(value, str) else ""

    def on(self, name: str) -> bool:
        """Return whether a switch is on."""
        return self._values[name] is True

    def many(self, name: str) -> list[str]:
        """Return the values of a list."""
        value = self._values[name]
        return value if isinstance(value, list) else []

    def number(self, name: str) -> int:
        """Return a number."""
        value = self._values[name]
        return value if isinstance(value, int) else 0

    def store(self, flag: Flag, text: str) -> None:
        """Keep one occurrence."""
        name = flag.names[0]
        self.given.add(name)
        if flag.kind == SWITCH:
            self._values[name] = _boolean(name, text)
        elif flag.kind == LIST:
            self.many(name).append(text)
        elif flag.kind == NUMBER:
            if not text.removeprefix("-").isdecimal():
                raise UsageError(f"--{name}: {text!r} is not a number")
            self._values[name] = int(text)
        else:
            self._values[name] = text


def _boolean(name: str, text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise UsageError(f"--{name}: {text!r} is neither true nor false")


def read(flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool = False) -> Values:
    """Read flags up to the first word that is none; the rest is ``words``.

    Args:
        flags: those that there are.
        words: the command line.
        interspersed: flags may stand between and behind the others too, up to ``--``.

    Raises:
        UsageError: an unknown flag, or a missing or wrong value.
    """
    table = {name: flag for flag in flags for name in flag.names}
    values = Values(flags)
    place = 0
    while place < len(words):
        word = words[place]
        plain = not word.startswith("-") or word == "-"
        if plain and not interspersed:
            break
        place += 1
        if plain:
            values.words.append(word)
            continue
        if word == "--":
            break
        name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
        flag = table.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: {word.partition('=')[0]}")
        if not equals:
            if flag.kind == SWITCH:
                text = "true"
            elif place == len(words):
                raise UsageError(f"flag needs an argument: {word}")
            else:
                text = words[place]
                place += 1
        values.store(flag, text)
    values.words += words[place:]
    return values
