"""Instructions that change an image's configuration, in the grammar of a Dockerfile.

What ``commit --change`` and ``import --change`` take; of a Dockerfile those lines that need no
build. Text in, configuration out: knows no store and no container.

Grammar: docs.docker.com/reference/dockerfile (the shell and the exec form, quotes, line
continuation, environment replacement). Fields: OCI image-spec 1.1, config.md; docker's ``OnBuild``
and ``Shell``.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pycontain.model.container import ImageConfig

    Change = Callable[[ImageConfig, str], ImageConfig]

SHELL = ("/bin/sh", "-c")
"""What the shell form is given to, where the configuration names nothing else."""

_ESCAPE = "\\"
_BLANK = " \t"
_FOR_BUILDS = "ADD ARG COPY FROM MAINTAINER RUN".split()


class Instruction(NamedTuple):
    """One line.

    Attributes:
        name: in capitals, ``ENV``.
        rest: what follows, continuation lines joined.
    """

    name: str
    rest: str

    def __str__(self) -> str:
        return f"{self.name} {self.rest}"


def parse(text: str) -> list[Instruction]:
    """Return the instructions of some lines; empty ones and comments are passed over.

    Raises:
        InvalidInput: a line has a name alone.
    """
    return [_instruction(line) for line in _joined(text.split("\n"))]


def apply(config: ImageConfig, instructions: Sequence[Instruction]) -> ImageConfig:
    """Return a configuration as instructions change it, one after the other.

    Raises:
        InvalidInput: an instruction that there is not, that only a build can carry out, or that is
            malformed; it is named.
    """
    has_command = False
    for one in instructions:
        change = _CHANGES.get(one.name)
        if change is None:
            known = ", ".join(sorted(_CHANGES))
            why = "only a build can do that" if one.name in _FOR_BUILDS else "no such instruction"
            raise InvalidInput(f"{one}: {why}", f"there are {known}")
        try:
            config = change(config, one.rest)
        except InvalidInput as err:
            raise InvalidInput(f"{one}: {err.message}", err.hint) from err
        # Whoever changes the entrypoint alone does not mean the old one's arguments.
        has_command = has_command or one.name == "CMD"
        if one.name == "ENTRYPOINT" and not has_command:
            config = replace(config, cmd=None)
    return config


# ---- lines ----


def _joined(lines: Sequence[str]) -> Iterator[str]:
    """Yield whole lines; a comment or an empty line does not end a continued one."""
    begun = ""
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if line.rstrip().endswith(_ESCAPE):
            begun += line.rstrip()[:-1]
        else:
            yield (begun + line).strip()
            begun = ""
    if begun.strip():
        yield begun.strip()


def _instruction(line: str) -> Instruction:
    name, *rest = line.split(None, 1)
    if not rest:
        raise InvalidInput(f"{name.upper()}: nothing follows it")
    return Instruction(name.upper(), rest[0].strip())


# ---- words ----


def words(text: str) -> list[str]:
    """Return the words of a line, split at blanks that are in no quotes; quotes and escapes stay.

    Raises:
        InvalidInput: a quote is not closed.
    """
    found: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        letter = text[at]
        if letter == _ESCAPE and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _BLANK:
            if word:
                found.append(word)
            word, at = "", at + 1
            continue
        word += letter
        at += 1
    if quote:
        raise InvalidInput(f"a quote {quote} is not closed")
    return [*found, word] if word else found


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Return a word without quotes and escapes, its variables replaced.

    ``$name``, ``${name}``, ``${name:-default}``, ``${name:+instead}``; in single quotes nothing is
    special, a missing variable is nothing.

    Raises:
        InvalidInput: a quote or a brace is not closed, or another form of ``${}``.
    """
    return _Expansion(word, variables).run()


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0

    def run(self) -> str:
        return self._until("")

    def _until(self, end: str) -> str:
        """Read up to one of the letters of `end`, which is left out."""
        found = ""
        while self._at < len(self._text):
            letter = self._take()
            if letter and letter in end:
                return found
            if letter == _ESCAPE:
                found += self._escaped(end)
            elif letter == "'" and end != '"':
                found += self._literal()
            elif letter == '"' and end != '"':
                found += self._until('"')
            elif letter == "$":
                found += self._variable()
            else:
                found += letter
        if end:
            raise InvalidInput(f"{end} is missing")
        return found

    def _take(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _escaped(self, end: str) -> str:
        if self._at == len(self._text):
            return _ESCAPE
        letter = self._take()
        # In double quotes an escape is one for what is special there.
        return letter if end != '"' or letter in '"$\\' else _ESCAPE + letter

    def _literal(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise InvalidInput("' is missing")
        found, self._at = self._text[self._at : end], end + 1
        return found

    def _variable(self) -> str:
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braced()
        name = self._name()
        return self._variables.get(name, "") if name else "$"

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and _is_of_name(self._text[self._at], self._at - start):
            self._at += 1
        return self._text[start : self._at]

    def _braced(self) -> str:
        name = self._name()
        value = self._variables.get(name, "")
        operator = self._text[self._at : self._at + 2]
        if operator[:1] == "}":
            self._at += 1
            if name:
                return value
        elif operator in (":-", ":+"):
            self._at += 2
            other = self._until("}")
            return (value or other) if operator == ":-" else (other if value else "")
        raise InvalidInput(f"${{{name}{operator}: not ${{NAME}}, ${{NAME:-…}} or ${{NAME:+…}}")


def _is_of_name(letter: str, place: int) -> bool:
    if not letter.isascii():
        return False
    return letter == "_" or letter.isalpha() or (place > 0 and letter.isdigit())


def _pairs(text: str, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """The names and values of ``A=b "C D"=e``; or of ``A whatever follows``, which is one pair."""
    split = words(text)
    if "=" not in split[0]:
        name, *rest = text.split(None, 1)
        if not rest:
            raise InvalidInput(f"{name} has no value", f"as {name}=value")
        return [(expand(name, variables), expand(rest[0], variables))]
    found = []
    for word in split:
        name, equals, value = word.partition("=")
        name = expand(name, variables)
        if not equals or not name:
            raise InvalidInput(f"{word}: not NAME=value")
        found.append((name, expand(value, variables)))
    return found


def _json_words(text: str) -> list[str] | None:
    """The exec form, a JSON array of strings; None where it is not one."""
    import msgspec

    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text.encode(), type=list[str])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def variables_of(config: ImageConfig) -> dict[str, str]:
    """Return the environment of a configuration."""
    lines = (line.partition("=") for line in config.env or ())
    return {name: value for name, _, value in lines}


# ---- instructions ----


def _argv(config: ImageConfig, text: str) -> list[str]:
    found = _json_words(text)
    return [*(config.shell or SHELL), text] if found is None else found


def _cmd(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, cmd=_argv(config, text))


def _entrypoint(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, entrypoint=_argv(config, text))


def _shell(config: ImageConfig, text: str) -> ImageConfig:
    found = _json_words(text)
    if not found:
        raise InvalidInput("not a list of words", 'as SHELL ["/bin/bash", "-c"]')
    return replace(config, shell=found)


def _env(config: ImageConfig, text: str) -> ImageConfig:
    before = variables_of(config)
    # All words of a line see the environment before it.
    after = {**before, **dict(_pairs(text, before))}
    return replace(config, env=[f"{name}={value}" for name, value in after.items()])


def _label(config: ImageConfig, text: str) -> ImageConfig:
    labels = dict(_pairs(text, variables_of(config)))
    return replace(config, labels={**(config.labels or {}), **labels})


def _single(config: ImageConfig, text: str) -> str:
    split = words(text)
    if len(split) != 1:
        raise InvalidInput("not one word")
    found = expand(split[0], variables_of(config))
    if not found:
        raise InvalidInput("it is empty")
    return found


def _user(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, user=_single(config, text))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    folder = expand(text, variables_of(config))
    if not folder:
        raise InvalidInput("it is empty")
    if not folder.startswith("/"):
        folder = posixpath.normpath(posixpath.join("/", config.working_dir, folder))
    return replace(config, working_dir=folder)


def _stop_signal(config: ImageConfig, text: str) -> ImageConfig:
    from pycontain.model.parse.signals import parse_signal

    word = _single(config, text)
    parse_signal(word)
    return replace(config, stop_signal=word)


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    found = _json_words(text)
    if found is None:
        found = [expand(word, variables_of(config)) for word in words(text)]
    paths = [path.strip() for path in found]
    if not all(paths):
        raise InvalidInput("a path is empty")
    return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in paths}})


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    variables = variables_of(config)
    ports = [port for word in words(text) for port in _ports(expand(word, variables))]
    return replace(
        config, exposed_ports={**(config.exposed_ports or {}), **{port: {} for port in ports}}
    )


def _ports(word: str) -> list[str]:
    """The ports of ``80``, ``53/udp`` or ``8000-8010/tcp``, as a configuration has them."""
    numbers, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    first, dash, last = numbers.partition("-")
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidInput(f"{word}: protocol {protocol!r}", "tcp, udp or sctp")
    bounds = [first, last if dash else first]
    if not all(bound.isascii() and bound.isdecimal() and len(bound) < 6 for bound in bounds):
        raise InvalidInput(f"{word}: not a port", "as 80, 53/udp or 8000-8010")
    low, high = map(int, bounds)
    if not 0 < low <= high < 65536:
        raise InvalidInput(f"{word}: ports are 1 to 65535, the lower first")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def _onbuild(config: ImageConfig, text: str) -> ImageConfig:
    trigger = _instruction(text)
    if trigger.name in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidInput(f"{trigger.name} is no trigger")
    return replace(config, on_build=[*(config.on_build or ()), str(trigger)])


_DURATIONS = {
    "--interval": "interval",
    "--timeout": "timeout",
    "--start-period": "start_period",
    "--start-interval": "start_interval",
}
_LEAST_DURATION = 1_000_000


def _healthcheck(config: ImageConfig, text: str) -> ImageConfig:
    from pycontain.model.container import HealthCheck

    options, kind, rest = _health_words(text)
    fields = dict(_health_option(option) for option in options)
    if kind == "NONE":
        if rest or fields:
            raise InvalidInput("NONE stands alone")
        return replace(config, healthcheck=HealthCheck(test=("NONE",)))
    if kind != "CMD":
        raise InvalidInput(f"{kind or 'nothing'}: neither CMD nor NONE", "as HEALTHCHECK CMD true")
    if not rest:
        raise InvalidInput("no command follows CMD")
    found = _json_words(rest)
    if found == []:
        raise InvalidInput("no command follows CMD")
    test = ("CMD-SHELL", rest) if found is None else ("CMD", *found)
    return replace(config, healthcheck=HealthCheck(test=test, **fields))


def _health_words(text: str) -> tuple[list[str], str, str]:
    """The options in front, then ``CMD`` or ``NONE`` in capitals, and what follows it."""
    options = []
    word, _, text = text.partition(" ")
    while word.startswith("--"):
        options.append(word)
        word, _, text = text.lstrip().partition(" ")
    return options, word.upper(), text.strip()


def _health_option(option: str) -> tuple[str, int]:
    name, _, value = option.partition("=")
    if name == "--retries":
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise InvalidInput(f"{option}: not a number from 0 on")
        return "retries", int(value)
    if name not in _DURATIONS:
        known = ", ".join((*_DURATIONS, "--retries"))
        raise InvalidInput(f"{option}: no such option", f"there are {known}")
    from pycontain.model.parse.times import parse_duration

    duration = parse_duration(value, name)
    if duration < 0 or 0 < duration < _LEAST_DURATION:
        raise InvalidInput(f"{option}: less than 1ms")
    return _DURATIONS[name], duration


_CHANGES: dict[str, Change] = {
    "CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck, "LABEL": _label, "ONBUILD": _onbuild, "SHELL": _shell,
    "STOPSIGNAL": _stop_signal, "USER": _user, "VOLUME": _volume, "WORKDIR": _workdir,
}  # fmt: skip
