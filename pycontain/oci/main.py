"""The entry of ``pycontain-runtime``: global flags, the verbs, and what an error becomes."""

from __future__ import annotations

import os
import sys

from pycontain.errors import PycontainError
from pycontain.oci import flags, log
from pycontain.oci.flags import SWITCH, VALUE, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GLOBAL = (
    Flag("root", VALUE, "folder for the state of containers"),
    Flag("log", VALUE, "file for errors and warnings"),
    Flag("log-format", VALUE, "text or json", "text"),
    Flag("debug", SWITCH, "log details too"),
    Flag("rootless", VALUE, "true, false or auto: made by an ordinary user", "auto"),
    Flag("systemd-cgroup", SWITCH, "create, run: let systemd make the cgroup"),
    Flag("version v", SWITCH, "print the version"),
    Flag("help h", SWITCH, "print this"),
)
HELP = Flag("help h", SWITCH, "print this")

# verb → module, function, its flags' name in the module, arguments, one line.
VERBS = {
    "create": ("create", "create", "FLAGS", "ID", "make a container, up to its program"),
    "start": ("start", "start", "", "ID", "let a created container run its program"),
    "run": ("create", "run", "RUN_FLAGS", "ID", "create and start"),
    "state": ("control", "show_state", "", "ID", "print what a container is"),
    "kill": ("control", "kill", "KILL_FLAGS", "ID [SIGNAL]", "send a signal, SIGTERM by default"),
    "delete": ("control", "delete", "DELETE_FLAGS", "ID", "remove what is left of a container"),
    "exec": ("exec", "execute", "FLAGS", "ID COMMAND [ARG...]", "run another process in it"),
    "pause": ("control", "pause", "", "ID", "freeze every process"),
    "resume": ("control", "resume", "", "ID", "let them go on"),
    "list": ("listing", "list_containers", "LIST_FLAGS", "", "print which containers there are"),
    "ps": ("listing", "show_processes", "PS_FLAGS", "ID [PS OPTION...]", "print its processes"),
    "events": ("events", "show_events", "FLAGS", "ID", "print what it uses, and when it runs out"),
    "update": ("update", "update", "FLAGS", "ID", "change its limits"),
    "checkpoint": (
        "checkpoint",
        "checkpoint_container",
        "FLAGS",
        "ID",
        "write its processes to files",
    ),
    "restore": ("restore", "restore", "FLAGS", "ID", "make a container of such files"),
    "features": ("features", "show_features", "", "", "print what this runtime knows"),
    "spec": ("specfile", "write_spec", "FLAGS", "", "write a configuration to begin with"),
}
# In these a command line of somebody else's follows the id, with flags of its own.
COMMAND_FOLLOWS = ("exec", "ps")


class Command:
    """One command line, read.

    Attributes:
        verb: its name.
        values: the verb's flags, and the words after them.
        root: folder of the containers.
        rootless: an ordinary user's.
        systemd: what is created gets its cgroup from systemd; what is there has kept how it got it.
    """

    __slots__ = ("root", "rootless", "systemd", "values", "verb")

    def __init__(
        self,
        verb: str,
        values: flags.Values,
        root: str,
        rootless: bool,
        *,
        systemd: bool = False,
    ) -> None:
        self.verb = verb
        self.values = values
        self.root = root
        self.rootless = rootless
        self.systemd = systemd

    def words(self, least: int, most: int | None = None) -> list[str]:
        """Return the words after the flags.

        Raises:
            UsageError: too few or too many.
        """
        words = self.values.words
        if len(words) < least or (most is not None and len(words) > most):
            usage = VERBS[self.verb][3]
            raise UsageError(f"{self.verb}: usage: pycontain-runtime {self.verb} {usage}".rstrip())
        return words

    def identity(self) -> str:
        """Return the only word: a container's id."""
        return self.words(1, 1)[0]

    def print(self, text: str) -> None:
        """Write a line, or several, to standard output."""
        data = memoryview(text.encode(errors="surrogateescape") + b"\n")
        while data:
            data = data[os.write(1, data) :]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry one command line out and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    code = 1
    try:
        values = flags.read(GLOBAL, words)
        code = 255 if values.words[:1] == ["exec"] else 1
        return _main(values)
    except PycontainError as err:
        log.error(err.message, err.hint)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130
    return code


def _main(values: flags.Values) -> int:
    log.set_up(values.text("log"), values.text("log-format"), values.on("debug"))
    if values.on("version"):
        return _version()
    if values.on("help") or not values.words or values.words[0] == "help":
        return _help()
    verb, *words = values.words
    if verb not in VERBS:
        raise UsageError(f"{verb}: no such command", "pycontain-runtime --help lists them")
    module_name, function, table, _, _ = VERBS[verb]
    module = __import__(f"pycontain.oci.{module_name}", fromlist=[function])
    verb_flags = (*(getattr(module, table) if table else ()), HELP)
    own = flags.read(verb_flags, words, interspersed=verb not in COMMAND_FOLLOWS)
    if own.on("help"):
        return _verb_help(verb, verb_flags)
    act: Callable[[Command], int] = getattr(module, function)
    rootless = _rootless(values.text("rootless"))
    if log.debugging():
        from pycontain import trace

        trace.enable(lambda step, seconds: log.debug(f"{seconds * 1000:8.3f} ms  {step}"))
    root = _root(values.text("root"), rootless)
    return act(Command(verb, own, root, rootless, systemd=values.on("systemd-cgroup")))


def _rootless(text: str) -> bool:
    if text == "auto":
        from pycontain.kernel import userns

        return os.geteuid() != 0 or userns.inside()
    if text not in ("true", "false"):
        raise UsageError(f"--rootless {text!r}: true, false or auto")
    return text == "true"


def _root(given: str, rootless: bool) -> str:
    if given:
        return os.path.abspath(given)
    if not rootless:
        return "/run/pycontain-runtime"
    place = os.environ.get("XDG_RUNTIME_DIR", "")
    # A relative path counts as none (XDG Base Directory Specification).
    place = place if place.startswith("/") else ""
    if not place and os.geteuid() == 0:
        return "/run/pycontain-runtime"
    if not place:
        raise UsageError("--root: an ordinary user without XDG_RUNTIME_DIR has to give it")
    return f"{place}/pycontain-runtime"


def _version() -> int:
    from pycontain import __version__
    from pycontain.oci import state

    os.write(1, f"pycontain-runtime version {__version__}\nspec: {state.SPEC_VERSION}\n".encode())
    return 0


def _help() -> int:
    lines = ["usage: pycontain-runtime [FLAGS] COMMAND [FLAGS] ID [ARGUMENTS]", "", "commands:"]
    lines += [f"  {name:12} {row[4]}" for name, row in VERBS.items()]
    lines += ["", "flags:", *_flag_lines(GLOBAL)]
    os.write(1, ("\n".join(lines) + "\n").encode())
    return 0


def _verb_help(verb: str, verb_flags: Sequence[Flag]) -> int:
    row = VERBS[verb]
    usage = f"usage: pycontain-runtime {verb} [FLAGS] {row[3]}".rstrip()
    lines = [usage, "", row[4], "", "flags:"]
    os.write(1, ("\n".join([*lines, *_flag_lines(verb_flags)]) + "\n").encode())
    return 0


def _flag_lines(table: Sequence[Flag]) -> list[str]:
    names = [
        ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in flag.names)
        for flag in table
    ]
    return [f"  {name:22} {flag.help}" for name, flag in zip(names, table, strict=True)]
