"""``start``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.attach import DETACH_KEYS, SIG_PROXY, check_terminal, code_of_run, relay
from pycontain.cli.flags import Verb, switch
from pycontain.cli.terminal import our_size
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.runtime.attachment import Attachment


def _start(app: App, values: Values, arguments: list[str]) -> int:
    if values["attach"] or values["interactive"]:
        if len(arguments) > 1:
            raise InvalidInput("you cannot start and attach multiple containers at once")
        return _start_attached(app, values, arguments[0])

    def act(name: str) -> None:
        # as docker: one that runs already is as it was wanted
        if app.engine.containers.get(name).status.state != "running":
            app.engine.containers.start(name)
        streams.write(f"{name}\n")

    return app.each(arguments, act)


def _start_attached(app: App, values: Values, name: str) -> int:
    containers = app.engine.containers
    view = containers.get(name)
    container, options = view.container, view.container.options
    stdin = options.interactive and values["interactive"]
    check_terminal(stdin, options.tty)
    size = our_size() if options.tty else None
    attachment: Attachment | None
    if view.status.state == "running":
        attachment = containers.attach(container.id)
    else:
        attachment = containers.start(container.id, attach=True, stdin=stdin, size=size)
    if attachment is None:
        return containers.wait(container.id)
    return relay(
        attachment,
        values,
        stdin=stdin,
        tty=options.tty,
        vanished=lambda: code_of_run(containers, container, attachment.run),
        told=False,
    )


START = Verb(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    _start,
    flags=(
        switch("attach", "attach output and forward signals", short="a"),
        DETACH_KEYS,
        switch("interactive", "attach standard input", short="i"),
        SIG_PROXY,
    ),
    least=1,
    examples=(
        ("pycontain start web db", "start two containers"),
        ("pycontain start -ai shell", "start one and use it"),
    ),
)
