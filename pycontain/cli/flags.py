"""The grammar of the command line: verbs and their flags as data, and one parser for them.

The rules are those of docker's command line (POSIX short options with GNU long ones, as the Go
package pflag reads them), which differ from click's: booleans take a value with an equals sign
(``--rm=false``), ``-e=NAME`` means ``-e NAME``, and some verbs stop reading flags at their first
argument. So the table is read here, at the cost of no import; ``help`` makes click's objects from
the same table where a person reads the answer.

This module knows neither the engine nor the process: text in, values out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.cli.main import App

    Kind = Literal["bool", "value", "list"]


class Refused(InvalidInput):
    """The command line cannot be carried out from here.

    Attributes:
        code: the process's exit code.
    """

    def __init__(self, message: str, hint: str | None = None, code: int = 1) -> None:
        super().__init__(message, hint)
        self.code = code


class UsageError(Refused):
    """The command line itself is wrong.

    Its code is 125 for a bad flag, 1 for a wrong number of arguments or an unknown verb, as docker
    has it.
    """

    def __init__(self, message: str, hint: str | None = None, code: int = 125) -> None:
        super().__init__(message, hint, code)


class HelpRequested(Exception):
    """``--help`` was met."""


class Flag:
    """One flag.

    Args:
        names: the long name, then aliases; without dashes.
        short: one character, or empty.
        kind: ``bool``; ``value``, of which the last one wins; ``list``, which accumulates.
        metavar: what the value is, for the help text.
        help: one line.
        convert: makes the value from its text, or raises InvalidInput with the bare reason.
        default: of a bool or a value that is not given.
    """

    __slots__ = ("aliases", "convert", "default", "help", "kind", "metavar", "name", "short")

    def __init__(
        self,
        names: str,
        help: str,  # noqa: A002 - the field's word
        *,
        short: str = "",
        kind: Kind = "value",
        metavar: str = "string",
        convert: Callable[[str], Any] | None = None,
        default: Any = None,
    ) -> None:
        self.name, *self.aliases = names.split()
        self.short = short
        self.kind = kind
        self.metavar = metavar
        self.help = help
        self.convert = convert
        self.default = False if kind == "bool" and default is None else default

    def __str__(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def switch(
    names: str,
    help: str,  # noqa: A002 - the field's word
    *,
    short: str = "",
    default: bool = False,
) -> Flag:
    """Return a boolean flag."""
    return Flag(names, help, short=short, kind="bool", default=default)


class Values:
    """What a command line says, by long name.

    A list holds the converted values in the order given; a value that was not given is its flag's
    default.
    """

    def __init__(self, flags: Sequence[Flag]) -> None:
        self._values: dict[str, Any] = {
            f.name: [] if f.kind == "list" else f.default for f in flags
        }
        self._given: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def get(self, name: str, default: Any) -> Any:
        """Return the value of a flag that the verb may not have."""
        return self._values.get(name, default)

    def given(self, name: str) -> bool:
        """Return whether the user named the flag at all."""
        return name in self._given

    def store(self, flag: Flag, value: Any) -> None:
        """Keep one occurrence of `flag`."""
        self._given.add(flag.name)
        if flag.kind == "list":
            self._values[flag.name].append(value)
        else:
            self._values[flag.name] = value


class Verb:
    """One verb: how it is called, explained and carried out.

    Args:
        name: what the user types.
        usage: the arguments, for the usage line.
        summary: one line.
        run: carries it out and returns the process's exit code.
        flags: the table.
        least, most: number of arguments; most None is any number.
        mixed: flags may follow arguments (not where the arguments are another command's).
        examples: command lines and what they do.
        failure: the exit code of an error of the engine.
        command: a command runs in a container, so its codes 126 and 127 are reported.
    """

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        run: Callable[[App, Values, list[str]], int],
        *,
        flags: Sequence[Flag] = (),
        least: int = 0,
        most: int | None = None,
        mixed: bool = True,
        examples: Sequence[tuple[str, str]] = (),
        failure: int = 1,
        command: bool = False,
    ) -> None:
        self.name = name
        self.usage = usage
        self.summary = summary
        self.run = run
        self.flags = tuple(flags)
        self.least = least
        self.most = most
        self.mixed = mixed
        self.examples = tuple(examples)
        self.failure = failure
        self.command = command

    def renamed(self, name: str) -> Verb:
        """Return the same verb under another name, in its examples too."""
        return Verb(
            name, self.usage, self.summary, self.run,
            flags=self.flags, least=self.least, most=self.most, mixed=self.mixed,
            examples=[
                (command.replace(f"pycontain {self.name}", f"pycontain {name}", 1), meaning)
                for command, meaning in self.examples
            ],
            failure=self.failure, command=self.command,
        )  # fmt: skip

    def check_count(self, count: int) -> None:
        """Raise UsageError when `count` arguments are too few or too many."""
        if count >= self.least and (self.most is None or count <= self.most):
            return
        if self.most == 0:
            wanted = "accepts no arguments"
        elif self.most == self.least:
            wanted = f"requires {_arguments(self.least)}"
        elif count < self.least:
            wanted = f"requires at least {_arguments(self.least)}"
        else:
            wanted = f"requires at most {_arguments(self.most or 0)}"
        raise UsageError(f"'pycontain {self.name}' {wanted}", code=1)


def _arguments(count: int) -> str:
    return f"{count} argument" if count == 1 else f"{count} arguments"


class _Parser:
    def __init__(self, flags: Sequence[Flag], mixed: bool) -> None:
        self.values = Values(flags)
        self.mixed = mixed
        self.arguments: list[str] = []
        self._long = {name: f for f in flags for name in (f.name, *f.aliases)}
        self._short = {f.short: f for f in flags if f.short}

    def parse(self, words: Sequence[str]) -> None:
        rest = list(reversed(words))
        while rest:
            word = rest.pop()
            if word == "--":
                break
            if word.startswith("--"):
                self._read_long(word, rest)
            elif word.startswith("-") and word != "-":
                self._read_shorts(word, rest)
            else:
                self.arguments.append(word)
                if not self.mixed:
                    break
        self.arguments.extend(reversed(rest))

    def _read_long(self, word: str, rest: list[str]) -> None:
        name, equals, text = word[2:].partition("=")
        flag = self._long.get(name)
        if flag is None:
            if name == "help":
                raise HelpRequested
            raise self._unknown(f"unknown flag: --{name}", name)
        if flag.kind == "bool" and not equals:
            self.values.store(flag, True)
        elif equals:
            self._store(flag, text)
        elif rest:
            self._store(flag, rest.pop())
        else:
            raise UsageError(f"flag needs an argument: --{name}")

    def _read_shorts(self, word: str, rest: list[str]) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._short.get(letter)
            if flag is None:
                message = f"unknown shorthand flag: '{letter}' in {word}"
                # a long flag with one dash is a frequent slip; a cluster of other shorts is not
                hint = f"did you mean -{word}?" if word[1:].split("=")[0] in self._long else None
                raise UsageError(message, hint)
            if letters.startswith("="):
                self._store(flag, letters[1:])
                return
            if flag.kind == "bool":
                self.values.store(flag, True)
                continue
            if not letters and not rest:
                raise UsageError(f"flag needs an argument: '{letter}' in {word}")
            self._store(flag, letters or rest.pop())
            return

    def _store(self, flag: Flag, text: str) -> None:
        try:
            value = boolean(text) if flag.kind == "bool" else text
            if flag.convert is not None:
                value = flag.convert(text)
        except InvalidInput as err:
            message = err.message
            if not message.startswith("--"):  # most name the flag and the word themselves
                message = f'invalid argument "{text}" for "{flag}" flag: {message}'
            raise UsageError(message, err.hint) from err
        self.values.store(flag, value)

    def _unknown(self, message: str, name: str) -> UsageError:
        close = closest(name, list(self._long))
        return UsageError(message, f"did you mean --{close}?" if close else None)


def parse(flags: Sequence[Flag], words: Sequence[str], *, mixed: bool) -> tuple[Values, list[str]]:
    """Read a command line.

    Args:
        flags: the table.
        words: what follows the verb.
        mixed: flags may follow arguments.

    Returns:
        The values and the arguments.

    Raises:
        UsageError: an unknown flag, a missing or a bad value.
        HelpRequested: ``--help`` was met.
    """
    parser = _Parser(flags, mixed)
    parser.parse(words)
    return parser.values, parser.arguments


def closest(word: str, words: Sequence[str]) -> str | None:
    """Return the member of `words` that was probably meant by `word`, None if there is none."""
    import difflib

    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return found[0] if found else None


def boolean(text: str) -> bool:
    """Return the truth that `text` says."""
    from pycontain.model.parse.numbers import parse_boolean

    answer = parse_boolean(text)
    if answer is None:
        raise InvalidInput("invalid syntax: not a truth value")
    return answer


def integer(text: str) -> int:
    """Return a decimal number; underscores, blanks and foreign digits are refused."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidInput("invalid syntax: not a number")
    number = int(text)
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidInput("value out of range")
    return number


def wait_seconds(text: str) -> int:
    """Return a number of seconds, -1 for as long as it takes."""
    number = integer(text)
    if number < -1:
        raise InvalidInput("must be -1 (for ever) or more")
    return number


def tail_lines(text: str) -> int | None:
    """Return a number of lines from the end; None, for -1, is all of them."""
    number = integer(text)
    if number < -1:
        raise InvalidInput("must be -1 (all) or more")
    return None if number == -1 else number


def pair(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``.

    Raises:
        InvalidInput: it has another form.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidInput("not NAME=VALUE")
    return name, value


def filter_(text: str) -> tuple[str, str]:
    """Return the name and the value of a ``--filter``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


_FORMAT = "format the output: 'json', a Go template, or 'table' and a template"
FORMAT = Flag("format", _FORMAT, short="f", metavar="format")
"""``-f``/``--format`` of the verbs whose ``-f`` is not a filter."""

LISTING_FORMAT = Flag("format", _FORMAT, metavar="format")
"""``--format`` of a listing, whose ``-f`` is the filter."""


def listing_filter(example: str) -> Flag:
    """Return ``-f``/``--filter`` of a listing."""
    return Flag(
        "filter",
        f"show only what matches, as {example}",
        short="f",
        kind="list",
        metavar="name=value",
        convert=filter_,
    )
