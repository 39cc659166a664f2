"""``run`` and ``create``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.attach import DETACH_KEYS, SIG_PROXY, check_terminal, code_of_run, relay
from pycontain.cli.flags import Flag, Refused, Verb, integer, switch
from pycontain.cli.run_options import CONTAINER_FLAGS, run_options
from pycontain.cli.terminal import OUTPUTS, our_size
from pycontain.errors import InvalidInput, RegistryError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pycontain.cli.flags import Values
    from pycontain.cli.id_file import IdFile
    from pycontain.cli.main import App
    from pycontain.model.container import RunOptions

_CIDFILE = Flag("cidfile", "write the container's id to this new file", metavar="file")


def progress(line: str) -> None:
    """Show one line of what takes long."""
    streams.complain(f"{line}\n")


def _id_file(path: str | None) -> AbstractContextManager[IdFile | None]:
    if path is None:
        return contextlib.nullcontext()
    from pycontain.cli.id_file import claimed

    return claimed(path)


def _options(app: App, values: Values, arguments: list[str]) -> RunOptions:
    """Return what is asked for, once it is known that this command may get the image."""
    options = run_options(values, arguments, app.settings)
    if values["replace"] and options.name is None:
        raise InvalidInput("--replace: it takes the --name of the container to replace")
    _pull(app, values["pull"], options.image)
    if values["pod"]:
        from pycontain.cli.pod import join

        return join(app, values["pod"], values, options)
    return options


def _pull(app: App, policy: str, image: str) -> None:
    """Do before the container is made what ``--pull`` says; what is missing comes by itself."""
    if policy == "never":
        app.engine.images.get(image)
    elif policy != "missing":
        from pycontain.cli.progress import Shown

        try:
            with Shown("pull", quiet=False, error=True) as shown:
                app.engine.images.pull(image, report=shown.report)
        except RegistryError:
            if policy != "newer":
                raise


def _create(app: App, values: Values, arguments: list[str]) -> int:
    options = _options(app, values, arguments)
    with _id_file(values["cidfile"]) as file:
        container = app.engine.containers.create(
            options, progress=progress, replace=values["replace"]
        )
        if file is not None:
            file.write(container.id)
    streams.write(f"{container.id}\n")
    return 0


def _run(app: App, values: Values, arguments: list[str]) -> int:
    # Before anything is opened: afterwards a number may be one of ours.
    descriptors = _descriptors(values["preserve-fds"])
    options = _options(app, values, arguments)
    streams_wanted = _streams_wanted(values, options)
    if values["explain"]:
        for line in app.engine.containers.explain(options):
            streams.write(f"{line}\n")
        return 0
    if values["detach"]:
        return _run_detached(app, values, options, descriptors)
    return _run_attached(app, values, options, descriptors, streams_wanted)


def _descriptors(count: int) -> tuple[int, ...]:
    """Return the descriptors that the caller hands on.

    Raises:
        InvalidInput: one of them is not open. What the interpreter opens is closed on exec, what
            was there before it cannot be.
    """
    for number in range(3, 3 + count):
        try:
            is_callers = os.get_inheritable(number)
        except OSError:
            is_callers = False
        if not is_callers:
            raise InvalidInput(f"--preserve-fds: descriptor {number} is not open")
    return tuple(range(3, 3 + count))


def _streams_wanted(values: Values, options: RunOptions) -> frozenset[str]:
    """Return which of the container's outputs this command shows.

    Raises:
        InvalidInput: ``--attach`` contradicts another flag.
    """
    asked = frozenset(values["attach"])
    if not asked:
        return OUTPUTS
    if values["detach"]:
        raise Refused("conflicting options: cannot specify both --attach and --detach")
    if "stdin" in asked and not options.interactive:
        raise InvalidInput("--attach stdin: the container's input is closed", "-i keeps it open")
    outputs = asked & OUTPUTS
    # A terminal has one output, where both arrive.
    return OUTPUTS if outputs and options.tty else outputs


def _run_detached(
    app: App, values: Values, options: RunOptions, descriptors: tuple[int, ...]
) -> int:
    with _id_file(values["cidfile"]) as file:
        container, _ = app.engine.containers.run(
            options, attach=False, progress=progress, replace=values["replace"],
            descriptors=descriptors,
        )  # fmt: skip
        if file is not None:
            file.write(container.id)
    streams.write(f"{container.id}\n")
    return 0


def _run_attached(
    app: App,
    values: Values,
    options: RunOptions,
    descriptors: tuple[int, ...],
    outputs: frozenset[str],
) -> int:
    check_terminal(options.interactive, options.tty)
    containers = app.engine.containers
    size = our_size() if options.tty else None
    with _id_file(values["cidfile"]) as file:
        container, attachment = containers.run(
            options, size=size, progress=progress, replace=values["replace"],
            descriptors=descriptors,
        )  # fmt: skip
        if file is not None:
            file.write(container.id)
    if attachment is None:
        return containers.wait(container.id)
    if not outputs:
        streams.write(f"{container.id}\n")
    code = relay(
        attachment,
        values,
        stdin=options.interactive,
        tty=options.tty,
        outputs=outputs,
        vanished=lambda: code_of_run(containers, container, attachment.run),
        told=False,
    )
    # As docker: who only gives input does not wait for what becomes of it.
    return code if outputs else 0


def _stream(text: str) -> str:
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise InvalidInput("valid streams are STDIN, STDOUT and STDERR")
    return name


def _count(text: str) -> int:
    number = integer(text)
    if number < 0:
        raise InvalidInput("must be 0 or more")
    return number


_ATTACH = Flag(
    "attach",
    "attach to stdin, stdout or stderr alone",
    short="a",
    kind="list",
    metavar="stream",
    convert=_stream,
)
_PRESERVE_FDS = Flag(
    "preserve-fds",
    "give the program this many of our descriptors from 3 on",
    metavar="n",
    convert=_count,
    default=0,
)
_DETACH = switch("detach", "run in the background and print the id", short="d")
_EXPLAIN = switch("explain", "print in words what would be done, and change nothing")
_USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"

RUN = Verb(
    "run",
    _USAGE,
    "Create and run a new container from an image",
    _run,
    flags=(
        *CONTAINER_FLAGS,
        _ATTACH,
        _CIDFILE,
        _DETACH,
        DETACH_KEYS,
        _EXPLAIN,
        _PRESERVE_FDS,
        SIG_PROXY,
    ),
    least=1,
    mixed=False,
    failure=125,
    command=True,
    examples=(
        ("pycontain run --rm busybox echo hello", "run a command, then remove the container"),
        ("pycontain run --rm -it busybox", "a shell with a terminal"),
        ("pycontain run -d --name web -v /srv:/srv:ro busybox httpd -f", "in the background"),
        (
            "pycontain run -d --replace --name job --tz local busybox crond -f",
            "instead of the last",
        ),
        ("pycontain run --explain --read-only busybox true", "what would be done"),
    ),
)

CREATE = Verb(
    "create",
    _USAGE,
    "Create a new container",
    _create,
    flags=(*CONTAINER_FLAGS, _CIDFILE),
    least=1,
    mixed=False,
    examples=(
        ("pycontain create --name job busybox sleep 60", "prints the id; start it later"),
        ("pycontain start -a job", "start it and see its output"),
    ),
)
