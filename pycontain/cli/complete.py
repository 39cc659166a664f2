"""What may come next on a command line: the other end of the scripts of ``completion``.

A shell calls ``pycontain __complete SHELL …`` at each press of its key, so no more is imported than
the verb's own module, nothing is started, and the store is read as it lies there. The first line of
the answer says how to go on: ``words``, those that follow; ``nospace``, the same, of which one is
the beginning of a word; ``files``, the shell's own completion.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import UsageError
from pycontain.cli.main import GLOBAL_FLAGS, NOUNS, VERBS, load_verb
from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.cli.flags import Flag, Verb
    from pycontain.store.layout import Layout

    Candidate = tuple[str, str]
    """A word, and one line about it or nothing."""

_SHORT_ID = 12
_MODES = ("host", "container:")
_VALUES: dict[str, tuple[str, ...]] = {
    "cgroupns": ("private", "host"),
    "condition": (
        "created",
        "exited",
        "healthy",
        "paused",
        "removed",
        "running",
        "stopped",
        "unhealthy",
    ),
    "format": ("json", "table"),
    "ipc": ("private", "none", *_MODES),
    "log-opt": ("max-size=", "max-file="),
    "network": ("none", *_MODES),
    "pid": _MODES,
    "restart": ("no", "on-failure", "always", "unless-stopped"),
    "type": ("container", "image"),
    "uts": ("host",),
}
_FILES = ("device", "volume")
"""Flags whose values begin with a path, beside those whose metavar says so."""


class _Files(Exception):
    """A path comes next."""


class _Store:
    """Names of what is in a store."""

    def __init__(self, root: str | None, state: str | None) -> None:
        self.root = root
        self.state = state

    def _layout(self) -> Layout:
        from pycontain.store.layout import Layout

        if self.root and self.state:
            return Layout(self.root, self.state)
        default = Layout.default(os.environ)
        return Layout(self.root or default.root, self.state or default.state)

    def containers(self, start: str) -> list[str]:
        """Return names, or where none begins so, ids that do."""
        layout = self._layout()
        names = [name for name in _listed(layout.names) if name.startswith(start)]
        pods = self.pods() if os.path.isdir(layout.pods) else ()
        names = [name for name in names if name not in pods]
        if names or not start:
            return names
        return [name[:_SHORT_ID] for name in _listed(layout.containers) if name.startswith(start)]

    def pods(self) -> list[str]:
        """Return the names of pods."""
        from pycontain.store import files

        layout = self._layout()
        known = set(_listed(layout.pods))
        return [
            name for name in _listed(layout.names) if files.read_word(layout.name(name)) in known
        ]

    def images(self) -> list[str]:
        """Return the names of images that are there."""
        from pycontain.image.store import ImageStore

        return [name for image in ImageStore(self._layout()).list() for name in image.names]

    def lists(self) -> list[str]:
        """Return the names of lists of images."""
        from pycontain.image.manifests import Lists

        return [name for listed in Lists(self._layout()).all() for name in listed.names]

    def volumes(self) -> list[str]:
        """Return the names of volumes."""
        return _listed(self._layout().volumes)

    def networks(self) -> list[str]:
        """Return the names of networks."""
        from pycontain.network import store

        return [*store.MODES, *{store.DEFAULT, *store.names(self._layout())}]

    def declared(self, kind: str) -> list[str]:
        """Return the names of the declared objects of a kind."""
        return _listed(f"{self._layout().kube}/{kind.lower()}")

    def recipes(self) -> list[str]:
        """Return the names of images that would be made."""
        from pycontain.image import recipes

        return recipes.offers()


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []


# ---- the line ----


class _Line:
    """A command line up to the word that is being typed, read as ``flags`` reads it.

    Attributes:
        arguments: the words that are no flags and no values of flags.
        pending: the flag whose value the word being typed is.
        ended: no flags any more.
    """

    def __init__(self, flags: Sequence[Flag], *, mixed: bool) -> None:
        self.flags = flags
        self.mixed = mixed
        self.arguments: list[str] = []
        self.values: dict[str, str] = {}
        self.pending: Flag | None = None
        self.ended = False

    def read(self, words: Sequence[str], *, stop: bool = False) -> int:
        """Read words; return how many. `stop` at the first argument."""
        for at, word in enumerate(words):
            if self.pending is not None:
                self.values[self.pending.name] = word
                self.pending = None
            elif self.ended or not word.startswith("-") or word == "-":
                if stop:
                    return at
                self.arguments.append(word)
                self.ended = self.ended or not self.mixed
            elif word == "--":
                self.ended = True
            else:
                self._read_flag(word)
        return len(words)

    def _read_flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        flag = self.find(name)
        if flag is None or flag.kind == "bool":
            return
        if equals:
            self.values[flag.name] = value
        elif name.startswith("--") or name.endswith(flag.short):
            self.pending = flag

    def find(self, word: str) -> Flag | None:
        """Return the flag that a word without its value names; of letters, the one with a value."""
        if word.startswith("--"):
            found = [flag for flag in self.flags if word[2:] in (flag.name, *flag.aliases)]
        else:
            letters = word[1:]
            found = [flag for flag in self.flags if flag.short and flag.short in letters]
            found.sort(key=lambda flag: flag.kind == "bool")
        return found[0] if found else None


def _after_verb(verb: Verb, words: Sequence[str], store: _Store) -> Iterable[Candidate]:
    line = _Line(verb.flags, mixed=verb.mixed)
    *before, current = words
    line.read(before)
    if line.pending is not None:
        return _values(line.pending, current, store)
    if current.startswith("-") and not line.ended:
        return _flags(line, current, store)
    if line.ended and not verb.mixed:
        raise _Files  # of another's command
    if "KIND" in verb.usage:
        return _of_kinds(verb, line.arguments, current, store)
    return _arguments(verb, len(line.arguments), current, store)


def _flags(line: _Line, current: str, store: _Store) -> Iterable[Candidate]:
    name, equals, value = current.partition("=")
    if equals:
        flag = line.find(name)
        if flag is None:
            return []
        return [(f"{name}={word}", text) for word, text in _values(flag, value, store)]
    return [
        *((f"--{flag.name}", flag.help) for flag in line.flags),
        ("--help", "show this verb's help"),
    ]


def _values(flag: Flag, current: str, store: _Store) -> Iterable[Candidate]:
    if flag.name == "volume" and current and current[0] not in "/.~":
        names = [f"{name}:" for name in store.volumes() if name.startswith(current)]
        if names:
            return _plain(names)
    if flag.name in _FILES or flag.metavar in ("file", "folder"):
        raise _Files
    if current.startswith("container:") and "container:" in _VALUES.get(flag.name, ()):
        names = store.containers(current.removeprefix("container:"))
        return _plain(f"container:{name}" for name in names)
    if flag.name == "network":
        return _plain(dict.fromkeys((*_VALUES["network"], *store.networks())))
    if flag.name == "pod" and flag.kind == "value":
        return _plain(store.pods())
    if flag.name == "volumes-from":
        return _plain(store.containers(current))
    if flag.name in ("signal", "stop-signal"):
        import signal

        return _plain(member.name.removeprefix("SIG") for member in signal.Signals)
    if flag.name in ("cap-add", "cap-drop"):
        from pycontain.kernel.capability import NAMES

        return _plain(["ALL", *(name.removeprefix("CAP_") for name in NAMES)])
    if flag.name == "log-driver":
        from pycontain.config import LOG_DRIVERS

        return _plain(LOG_DRIVERS)
    if "|" in flag.metavar:
        return _plain(flag.metavar.split("|"))
    return _plain(_VALUES.get(flag.name, ()))


def _plain(words: Iterable[str]) -> list[Candidate]:
    return [(word, "") for word in words]


def _arguments(verb: Verb, number: int, current: str, store: _Store) -> Iterable[Candidate]:
    """Go by the usage line: ``CONTAINER [CONTAINER...]``, ``IMAGE [COMMAND] [ARG...]``."""
    places = [word.strip("[]") for word in verb.usage.split() if word != "[OPTIONS]"]
    if number >= len(places):
        if not places or not places[-1].endswith("..."):
            return []
        number = -1
    place = places[number].removesuffix("...")
    if place in _PLACES:
        found = _PLACES[place](store, current)
        # what is not there yet can be run, but not looked at
        makes = place == "IMAGE" and verb.name.rpartition(" ")[2] in ("create", "run")
        return {*found, *_plain(store.recipes())} if makes else found
    if place in ("FILE|-", "FILE|URL|-"):
        raise _Files
    if "CONTAINER:" in verb.usage:
        return _paths(store, current)
    if "|" in place and place.islower():
        return _plain(place.split("|"))
    return []


_KINDS = ("pod", "deployment", "configmap", "secret", "pvc")


def _of_kinds(
    verb: Verb, before: Sequence[str], current: str, store: _Store
) -> Iterable[Candidate]:
    """``KIND NAME...`` and ``KIND/NAME...``."""
    from pycontain.cli.kube import kind_of

    if before and "NAME..." not in verb.usage:
        return []
    kind, slash, _ = current.partition("/")
    if slash:
        return _plain(f"{kind}/{name}" for name in store.declared(kind_of(kind)))
    if before and not any("/" in word for word in before):
        return _plain(store.declared(kind_of(before[0])))
    pods = store.declared("Pod") if "POD" in verb.usage else ()
    return _plain((*_KINDS, *pods))


def _paths(store: _Store, current: str) -> Iterable[Candidate]:
    if not current or "/" in current or current.startswith("."):
        raise _Files
    names = [f"{name}:" for name in store.containers(current)]
    if not names:
        raise _Files
    return _plain(names)


def _objects(store: _Store, current: str) -> Iterable[Candidate]:
    return _plain([*store.containers(current), *store.images()])


_PLACES: dict[str, Callable[[_Store, str], Iterable[Candidate]]] = {
    "CONTAINER": lambda store, current: _plain(store.containers(current)),
    "CONTAINER|POD": lambda store, current: _plain([*store.containers(current), *store.pods()]),
    "IMAGE": lambda store, _: _plain(store.images()),
    "IMAGE|DIGEST": lambda store, _: _plain(store.images()),
    "NETWORK": lambda store, _: _plain(store.networks()),
    "LIST": lambda store, _: _plain(store.lists()),
    "NAME|ID": _objects,
    "POD": lambda store, _: _plain(store.pods()),
    "VOLUME": lambda store, _: _plain(store.volumes()),
    "REPOSITORY[:TAG": lambda store, _: _plain(store.images()),
}


def _candidates(words: Sequence[str], root: str | None, state: str | None) -> Iterable[Candidate]:
    line = _Line(GLOBAL_FLAGS, mixed=False)
    at = line.read(words[:-1], stop=True)
    store = _Store(line.values.get("root", root), line.values.get("state", state))
    if line.pending is not None:
        return _values(line.pending, words[-1], store)
    rest = words[at:]
    if len(rest) == 1:
        if rest[0].startswith("-"):
            return _flags(line, rest[0], store)
        return [*_plain(VERBS), *((name, NOUNS[name][0]) for name in NOUNS)]
    name, rest = rest[0], rest[1:]
    if name in NOUNS:
        if len(rest) == 1:
            return _plain(NOUNS[name][1])
        name, rest = f"{name} {rest[0]}", rest[1:]
        known: Iterable[str] = (f"{noun} {verb}" for noun in NOUNS for verb in NOUNS[noun][1])
    else:
        known = VERBS
    return _after_verb(load_verb(name), rest, store) if name in known else []


def candidates(
    words: Sequence[str], root: str | None = None, state: str | None = None
) -> list[Candidate] | None:
    """Return what may stand in the place of the last word, sorted; None for a path.

    Args:
        words: those behind the program's name; the last one is being typed, and may be empty.
        root: the store's folder, where the words do not say it.
        state: likewise.
    """
    try:
        found = sorted(_candidates(words, root, state))
    except _Files:
        return None
    except PycontainError:
        return []  # a damaged store: somebody who types is not the one to be told
    return [pair for pair in found if pair[0].startswith(words[-1])]


# ---- shells ----


def split(line: str) -> list[str]:
    """Return the words of a line of bash up to the cursor, without their quotes; the last is begun.

    Expansions stay as they are written.
    """
    words = [""]
    quote = ""
    begun = escaped = False
    for char in line:
        if escaped:
            words[-1] += char
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = begun = True
        elif char in "\"'" and quote in ("", char):
            quote = "" if quote else char
            begun = True
        elif char.isspace() and not quote:
            if words[-1] or begun:
                words.append("")
            begun = False
        else:
            words[-1] += char
    return words


def _for_bash(found: Iterable[Candidate], current: str, breaks: str) -> list[str]:
    """Keep what bash replaces: the part behind the last of its word breaks."""
    kept = 1 + max((current.rfind(char) for char in ":=" if char in breaks), default=-1)
    return [word[kept:] for word, _ in found]


def _for_zsh(found: Iterable[Candidate]) -> list[str]:
    pairs = ((word.replace(":", "\\:"), text) for word, text in found)
    return [f"{word}:{text}" if text else word for word, text in pairs]


def complete(arguments: Sequence[str], root: str | None, state: str | None) -> int:
    """Carry out ``__complete``: the shell, then a line and word breaks (bash), or the words."""
    if len(arguments) < 2 or (arguments[0] == "bash" and len(arguments) != 3):
        raise UsageError("__complete: for the scripts of 'pycontain completion' alone", code=1)
    shell, *rest = arguments
    words = (split(rest[0])[1:] or [""]) if shell == "bash" else rest
    found = candidates(words, root, state)
    if found is None:
        lines = ["files"]
    else:
        nospace = any(word.endswith((":", "=")) for word, _ in found)
        lines = ["nospace" if nospace else "words"]
        if shell == "bash":
            lines += _for_bash(found, words[-1], rest[1])
        elif shell == "zsh":
            lines += _for_zsh(found)
        else:
            lines += [f"{word}\t{text}" if text else word for word, text in found]
    streams.write("".join(f"{line}\n" for line in lines))
    return 0
