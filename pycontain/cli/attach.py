"""``attach``, and how every verb joins this terminal with a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Refused, Values, Verb, switch
from pycontain.cli.terminal import OUTPUTS, STDIN, Relay
from pycontain.errors import NotFound, PycontainError
from pycontain.model.parse import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.main import App
    from pycontain.cli.terminal import Attachment
    from pycontain.engine.containers import Containers
    from pycontain.model.container import Container

DETACH_KEYS = Flag(
    "detach-keys",
    "key sequence that detaches, as 'ctrl-p,ctrl-q'",
    metavar="keys",
    convert=names.parse_detach_keys,
)
SIG_PROXY = switch("sig-proxy", "forward signals to the process (without a terminal)", default=True)


def detach_keys(values: Values) -> bytes:
    """Return the sequence that the user asked for, or docker's."""
    keys: bytes | None = values["detach-keys"]
    return names.DETACH_KEYS if keys is None else keys


def check_terminal(interactive: bool, tty: bool) -> None:
    """Raise Refused when a terminal is asked for and our input is none."""
    if interactive and tty and not os.isatty(STDIN):
        raise Refused("the input device is not a TTY", "leave out -t, or use a terminal")


def relay(
    attachment: Attachment,
    values: Values,
    *,
    stdin: bool,
    tty: bool,
    vanished: Callable[[], int],
    told: bool = True,
    outputs: frozenset[str] = OUTPUTS,
) -> int:
    """Join this process's streams with `attachment` until it ends or the user detaches.

    Args:
        attachment: the engine's.
        values: of the verb; its ``detach-keys`` and, where it has it, ``sig-proxy``.
        stdin: pass our standard input on.
        tty: the other side is a terminal.
        vanished: finds the exit code when the other side ends without telling one.
        told: say so when the user detaches (docker does not where the verb started the container).
        outputs: what is shown of ``stdout`` and ``stderr``.

    Returns:
        The process's exit code.
    """
    # what we wrote so far comes before what the container writes to the same descriptor
    streams.flush()
    joined = Relay(
        attachment,
        stdin=stdin,
        tty=tty,
        detach_keys=detach_keys(values),
        sig_proxy=values.get("sig-proxy", False),
        outputs=outputs,
    )
    code = joined.run()
    if joined.detached and told:
        streams.complain("read escape sequence\n")
    return vanished() if code is None else code


def code_of_run(containers: Containers, container: Container, run: str) -> int:
    """Return the exit code of a run that this was joined with, which its monitor has not told.

    Raises:
        NotFound: the container is gone.
        PycontainError: nobody knows it.
    """
    try:
        record = containers.await_run(container.id, run)
    except NotFound:
        if not container.options.remove:
            raise
        raise PycontainError(
            f"container {container.name}: its monitor was lost, and --rm has removed it",
        ) from None
    if record is None:
        raise PycontainError(
            f"container {container.name}: its monitor was lost, and how that run ended is not known"
        )
    return record.code


def _attach(app: App, values: Values, arguments: list[str]) -> int:
    name = arguments[0]
    containers = app.engine.containers
    container = containers.get(name).container
    options = container.options
    stdin = options.interactive and not values["no-stdin"]
    check_terminal(stdin, options.tty)
    attachment = containers.attach(container.id)
    return relay(
        attachment,
        values,
        stdin=stdin,
        tty=options.tty,
        vanished=lambda: code_of_run(containers, container, attachment.run),
    )


ATTACH = Verb(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    _attach,
    flags=(
        DETACH_KEYS,
        switch("no-stdin", "do not attach standard input"),
        SIG_PROXY,
    ),
    least=1,
    most=1,
    examples=(
        ("pycontain attach web", "see the output; Ctrl-C goes to the process"),
        ("pycontain attach --sig-proxy=false web", "the same; Ctrl-C ends only the client"),
    ),
)
