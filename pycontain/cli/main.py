"""The entry: global flags, the verb, its errors.

Verbs are loaded when they are named, each from the module of the table here, and a verb imports
only what it uses: start-up is most of the time of a short command.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.exit_codes import BROKEN_PIPE, INTERNAL, INTERRUPTED, exit_code, message_of
from pycontain.cli.flags import Flag, HelpRequested, UsageError, Verb, closest, parse, switch
from pycontain.errors import KernelError, PycontainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.config import Config
    from pycontain.engine import Engine

VERBS = {
    "attach": "pycontain.cli.attach:ATTACH",
    "commit": "pycontain.cli.commit:COMMIT",
    "completion": "pycontain.cli.completion:COMPLETION",
    "cp": "pycontain.cli.cp:CP",
    "create": "pycontain.cli.run:CREATE",
    "diff": "pycontain.cli.diff:DIFF",
    "events": "pycontain.cli.events:EVENTS",
    "exec": "pycontain.cli.exec:EXEC",
    "export": "pycontain.cli.export:EXPORT",
    "history": "pycontain.cli.image_names:HISTORY",
    "images": "pycontain.cli.images:IMAGES",
    "import": "pycontain.cli.import_image:IMPORT",
    "info": "pycontain.cli.system:INFO",
    "inspect": "pycontain.cli.inspect:INSPECT",
    "kill": "pycontain.cli.lifecycle:KILL",
    "load": "pycontain.cli.transfer:LOAD",
    "login": "pycontain.cli.transfer:LOGIN",
    "logout": "pycontain.cli.transfer:LOGOUT",
    "logs": "pycontain.cli.logs:LOGS",
    "pause": "pycontain.cli.pause:PAUSE",
    "port": "pycontain.cli.port:PORT",
    "ps": "pycontain.cli.ps:PS",
    "pull": "pycontain.cli.transfer:PULL",
    "push": "pycontain.cli.transfer:PUSH",
    "rename": "pycontain.cli.rename:RENAME",
    "restart": "pycontain.cli.lifecycle:RESTART",
    "rm": "pycontain.cli.lifecycle:RM",
    "rmi": "pycontain.cli.image_names:RMI",
    "run": "pycontain.cli.run:RUN",
    "save": "pycontain.cli.transfer:SAVE",
    "start": "pycontain.cli.start:START",
    "stats": "pycontain.cli.stats:STATS",
    "stop": "pycontain.cli.lifecycle:STOP",
    "update": "pycontain.cli.update:UPDATE",
    "tag": "pycontain.cli.image_names:TAG",
    "top": "pycontain.cli.top:TOP",
    "unpause": "pycontain.cli.pause:UNPAUSE",
    "version": "pycontain.cli.system:VERSION",
    "wait": "pycontain.cli.lifecycle:WAIT",
}
"""Name of the verb to module and attribute."""

_CONTAINER_VERBS = (
    "attach commit cp create diff exec export inspect kill logs pause port ps rename restart rm run"
    " start stats stop top unpause update wait"
)  # docker's; of them those that there are here
_IMAGE_VERBS = "build history import load pull push save tag"

NOUNS: dict[str, tuple[str, dict[str, str]]] = {
    "container": (
        "Manage containers",
        {
            **{name: name for name in _CONTAINER_VERBS.split() if name in VERBS},
            "inspect": "pycontain.cli.inspect:CONTAINER_INSPECT",
            "list": "ps",
            "ls": "ps",
            "prune": "pycontain.cli.prune:CONTAINER_PRUNE",
        },
    ),
    "healthcheck": ("Probe a container", {"run": "pycontain.cli.healthcheck:RUN"}),
    "image": (
        "Manage images",
        {
            **{name: name for name in _IMAGE_VERBS.split() if name in VERBS},
            **({"rm": "rmi"} if "rmi" in VERBS else {}),
            "diff": "pycontain.cli.image_mount:DIFF",
            "exists": "pycontain.cli.image_names:EXISTS",
            "inspect": "pycontain.cli.inspect:IMAGE_INSPECT",
            "mount": "pycontain.cli.image_mount:MOUNT",
            "umount": "pycontain.cli.image_mount:UMOUNT",
            "unmount": "pycontain.cli.image_mount:UNMOUNT",
            "prune": "pycontain.cli.image_names:PRUNE",
            "list": "images",
            "ls": "images",
        },
    ),
    "kube": (
        "Manage pods that Kubernetes manifests declare",
        {
            **{
                name: f"pycontain.cli.kube:{name.upper()}"
                for name in ("apply", "delete", "down", "play")
            },
            **{
                name: f"pycontain.cli.kube_show:{name.upper()}"
                for name in ("describe", "get", "logs")
            },
            "generate": "pycontain.cli.kube_generate:GENERATE",
        },
    ),
    "manifest": (
        "Manage lists of images",
        {
            name: f"pycontain.cli.manifest:{name.upper()}"
            for name in ("add", "annotate", "create", "exists", "inspect", "push", "remove", "rm")
        },
    ),
    "network": (
        "Manage networks",
        {
            **{
                name: f"pycontain.cli.network:{name.upper()}"
                for name in (
                    "connect",
                    "create",
                    "disconnect",
                    "exists",
                    "inspect",
                    "ls",
                    "prune",
                    "rm",
                )
            },
            "list": "pycontain.cli.network:LS",
            "remove": "pycontain.cli.network:RM",
        },
    ),
    "pod": (
        "Manage pods: containers that share namespaces",
        {
            **{
                name: f"pycontain.cli.pod:{name.upper()}"
                for name in (
                    "create",
                    "exists",
                    "kill",
                    "pause",
                    "prune",
                    "restart",
                    "rm",
                    "start",
                    "stop",
                    "unpause",
                )
            },
            **{
                name: f"pycontain.cli.pod_show:{name.upper()}"
                for name in ("inspect", "logs", "ps", "stats", "top")
            },
            "list": "pycontain.cli.pod_show:PS",
            "ls": "pycontain.cli.pod_show:PS",
        },
    ),
    "system": (
        "Manage the store, and look at the machine",
        {
            "boot": "pycontain.cli.boot:BOOT",
            "check": "pycontain.cli.check:CHECK",
            "df": "pycontain.cli.disk:DF",
            "events": "events",
            "info": "info",
            "prune": "pycontain.cli.prune:SYSTEM_PRUNE",
            "shutdown": "pycontain.cli.shutdown:SHUTDOWN",
            "unit": "pycontain.cli.boot:UNIT",
        },
    ),
    "volume": (
        "Manage volumes",
        {
            **{
                name: f"pycontain.cli.volume:{name.upper()}"
                for name in ("create", "exists", "inspect", "prune", "rm")
            },
            "list": "pycontain.cli.volume:LIST",
            "ls": "pycontain.cli.volume:LIST",
        },
    ),
}
"""Name of the noun to its summary and its verbs: one of VERBS, or module and attribute."""

GLOBAL_FLAGS = (
    switch("debug", "log each step with its duration, show tracebacks", short="D"),
    Flag("root", "folder for what survives a reboot", metavar="folder"),
    Flag("state", "folder for what dies with the boot", metavar="folder"),
    switch("version", "print the version and quit", short="v"),
)


class App:
    """What a verb is given: the engine, made at first use, and what the user said globally."""

    def __init__(
        self,
        root: str | None = None,
        state: str | None = None,
        debug: bool = False,
        make_engine: Callable[[str | None, str | None], Engine] | None = None,
    ) -> None:
        self.root = root
        self.state = state
        self.debug = debug
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._settings: Config | None = None

    @property
    def engine(self) -> Engine:
        """The engine."""
        if self._engine is None:
            if self._make_engine is None:
                self._engine = _make_engine(self.root, self.state, self.settings)
            else:
                self._engine = self._make_engine(self.root, self.state)
        return self._engine

    @property
    def settings(self) -> Config:
        """What is configured; read once, before the namespaces of an ordinary user are entered."""
        if self._settings is None:
            from pycontain import config

            self._settings = config.load(os.environ)
        return self._settings

    def each(self, names: Sequence[str], act: Callable[[str], object]) -> int:
        """Do `act` for each name; an error is reported and the others are done all the same.

        Returns:
            The exit code: 1 if any failed.
        """
        problems = 0
        for name in names:
            try:
                act(name)
            except PycontainError as err:
                problems += self.report([err])
        return min(problems, 1)

    def together(self, names: Sequence[str], act: Callable[[str], object]) -> int:
        """Do `act` for all names at once, each in a thread; then write the names in their order.

        Nobody waits for the threads of a command that is interrupted.

        Returns:
            The exit code: 1 if any failed.
        """
        from threading import Thread

        failures: dict[int, BaseException] = {}

        def run(at: int) -> None:
            try:
                act(names[at])
            except BaseException as err:  # noqa: BLE001 - raised again by the caller's thread
                failures[at] = err

        threads = [Thread(target=run, args=(at,), daemon=True) for at in range(len(names))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        given = iter(range(len(names)))

        def tell(name: str) -> None:
            if (failure := failures.get(next(given))) is not None:
                raise failure
            streams.write(f"{name}\n")

        return self.each(names, tell)

    def report(self, problems: Sequence[PycontainError]) -> int:
        """Write errors to standard error, behind what was written so far; return the exit code."""
        if not problems:
            return 0
        for error in problems:
            streams.complain(message_of(error))
        return 1


def _make_engine(root: str | None, state: str | None, settings: Config) -> Engine:
    if os.geteuid() != 0:
        root, state = _enter_user_namespace(root, state, settings)
    from pycontain.engine import Engine

    return Engine(root=root, state=state, settings=settings)


def _enter_user_namespace(root: str | None, state: str | None, settings: Config) -> tuple[str, str]:
    """Enter the namespaces of an ordinary user and return the user's own folders.

    setns(2) wants a process of one thread; inside, the uid reads as 0, so the folders are found
    before.
    """
    from pycontain.engine import rootless
    from pycontain.store import files
    from pycontain.store.layout import Layout

    default = None
    if root is None or state is None:
        default = Layout.default(os.environ, settings=settings)
    chosen = Layout(root or default.root, state or default.state) if default else None
    layout = chosen or Layout(root or "", state or "")
    files.make_folders(layout.state)
    rootless.enter(layout)
    return layout.root, layout.state


def load_verb(name: str) -> Verb:
    """Import and return a verb of the table, ``run`` or ``container run``."""
    import importlib

    noun, _, last = name.rpartition(" ")
    place = NOUNS[noun][1][last] if noun else VERBS[name]
    module, _, attribute = VERBS.get(place, place).partition(":")
    verb: Verb = getattr(importlib.import_module(module), attribute)
    return verb.renamed(name) if noun else verb


def main(
    argv: Sequence[str] | None = None,
    make_engine: Callable[[str | None, str | None], Engine] | None = None,
) -> int:
    """Carry out one command line.

    Args:
        argv: the words after the program's name; default those of the process.
        make_engine: makes the engine from root and state; for tests.

    Returns:
        The process's exit code.
    """
    streams.prepare()
    run = _Run(sys.argv[1:] if argv is None else list(argv), make_engine)
    try:
        code = run.guarded()
        streams.flush()
    except BrokenPipeError:
        streams.silence()
        return BROKEN_PIPE
    except KernelError as err:  # of the flush: a full disk, say
        streams.silence()
        streams.complain(message_of(err))
        return exit_code(err, run.verb)
    return code


class _Run:
    """One command line on its way."""

    def __init__(
        self,
        words: list[str],
        make_engine: Callable[[str | None, str | None], Engine] | None,
    ) -> None:
        self.words = words
        self.make_engine = make_engine
        self.debug = False
        self.noun = ""
        self.verb: Verb | None = None

    def guarded(self) -> int:
        try:
            return self.act()
        except HelpRequested:
            from pycontain.cli.help import help_text

            streams.write(help_text(self.verb, self.noun))
            return 0
        except UsageError as err:
            self.complain_of(err)
            streams.complain(_usage(self.verb, self.noun))
            return err.code
        except PycontainError as err:
            self.complain_of(err)
            return exit_code(err, self.verb)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            raise
        except OSError as err:  # of a file or a limit: few descriptors, a full disk
            return self.complain_of_system(err)
        except Exception as err:  # noqa: BLE001 - the last stop: a bug, told as such
            return self.complain_of_bug(err)

    def act(self) -> int:
        check_text(self.words)
        values, words = parse(GLOBAL_FLAGS, self.words, mixed=False)
        self.debug = values["debug"]
        if values["version"]:
            import pycontain

            streams.write(f"pycontain version {pycontain.__version__}\n")
            return 0
        if not words:
            raise HelpRequested
        if values["debug"]:
            _log_steps()
        if words[0] == "__complete":
            from pycontain.cli.complete import complete

            return complete(words[1:], values["root"], values["state"])
        name, words = self.find(words)
        self.verb = verb = load_verb(name)
        verb_values, arguments = parse(verb.flags, words, mixed=verb.mixed)
        verb.check_count(len(arguments))
        app = App(values["root"], values["state"], self.debug, self.make_engine)
        return verb.run(app, verb_values, arguments)

    def find(self, words: list[str]) -> tuple[str, list[str]]:
        """Return the verb's name, with its noun, and what follows."""
        first, *rest = words
        if first in VERBS:
            return first, rest
        if first not in NOUNS:
            raise _unknown_verb(first, [*VERBS, *NOUNS])
        self.noun = first
        _, rest = parse((), rest, mixed=False)  # of a noun there is no flag but --help
        if not rest:
            raise HelpRequested
        if rest[0] not in NOUNS[first][1]:
            raise _unknown_verb(rest[0], NOUNS[first][1], f"{first} ")
        return f"{first} {rest[0]}", rest[1:]

    @staticmethod
    def trace(error: Exception) -> None:
        import traceback

        streams.complain("".join(traceback.format_exception(error)))

    def complain_of(self, error: PycontainError) -> None:
        if self.debug:
            self.trace(error)
        streams.complain(message_of(error))

    def complain_of_system(self, error: OSError) -> int:
        what = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        reason = (error.strerror or str(error)).lower()
        if self.debug:
            self.trace(error)
        streams.complain(f"pycontain: {what}{reason}\n")
        return 1 if self.verb is None else self.verb.failure

    def complain_of_bug(self, error: Exception) -> int:
        if self.debug:
            self.trace(error)
        hint = "" if self.debug else "hint: this is a bug; --debug shows where\n"
        kind = type(error).__name__
        streams.complain(f"pycontain: internal error: {kind}: {error}\n{hint}")
        if self.verb is not None and self.verb.failure != 1:
            return self.verb.failure
        return INTERNAL


def check_text(words: Sequence[str]) -> None:
    """Raise InvalidInput when a word is not valid text in the locale's encoding.

    Such bytes reach Python as lone surrogates (PEP 383), which no JSON document may hold.
    """
    for word in words:
        if not word.isascii():
            try:
                word.encode()
            except UnicodeEncodeError as err:
                raise UsageError(f"argument {word!a} is not valid utf-8") from err


def _unknown_verb(name: str, known: Iterable[str], noun: str = "") -> UsageError:
    close = closest(name, list(known))
    return UsageError(
        f"unknown command: pycontain {noun}{name}",
        f"did you mean pycontain {noun}{close}?" if close else None,
        code=1,
    )


def _usage(verb: Verb | None, noun: str) -> str:
    if verb is None:
        words = f"pycontain {noun} --help" if noun else "pycontain --help"
        return f"Run '{words}' for more information\n"
    return (
        f"\nUsage:  pycontain {verb.name} {verb.usage}\n\n"
        f"Run 'pycontain {verb.name} --help' for more information\n"
    )


def _log_steps() -> None:
    from pycontain import trace

    def sink(step: str, seconds: float) -> None:
        streams.complain(f"debug: {step}: {seconds * 1000:.3f} ms\n")

    trace.enable(sink)
