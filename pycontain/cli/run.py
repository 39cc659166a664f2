"""``run`` and ``create``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.attach import DETACH_KEYS, SIG_PROXY, check_terminal, relay
from pycontain.cli.flags import Flag, Verb, switch
from pycontain.cli.run_options import CONTAINER_FLAGS, run_options
from pycontain.cli.terminal import our_size
from pycontain.errors import InvalidInput, NotFound, PycontainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.model.container import Container, RunOptions

_CIDFILE = Flag("cidfile", "write the container's id to this new file", metavar="file")


def progress(line: str) -> None:
    """Show one line of what takes long."""
    streams.complain(f"{line}\n")


class _IdFile:
    """The file of ``--cidfile``: made before the container, so that a bad path costs nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._used = False

    def write(self, container_id: str) -> None:
        with open(self._path, "w", encoding="ascii") as file:
            file.write(container_id)
        self._used = True

    def claim(self) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(self._path, flags, 0o644))
        except FileExistsError as err:
            raise InvalidInput(
                "container ID file found, make sure the other container isn't running or "
                f"delete {self._path}"
            ) from err
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise InvalidInput(f"cidfile: {self._path}: {reason}") from err

    def release(self) -> None:
        if not self._used:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


@contextlib.contextmanager
def _id_file(path: str | None) -> Iterator[_IdFile | None]:
    if path is None:
        yield None
        return
    file = _IdFile(path)
    file.claim()
    try:
        yield file
    finally:
        file.release()


def _create(app: App, values: Values, arguments: list[str]) -> int:
    options = run_options(values, arguments)
    with _id_file(values["cidfile"]) as file:
        container = app.engine.containers.create(options, progress=progress)
        if file is not None:
            file.write(container.id)
    streams.write(f"{container.id}\n")
    return 0


def _run(app: App, values: Values, arguments: list[str]) -> int:
    options = run_options(values, arguments)
    if values["explain"]:
        for line in app.engine.containers.explain(options):
            streams.write(f"{line}\n")
        return 0
    if values["detach"]:
        return _run_detached(app, values, options)
    return _run_attached(app, values, options)


def _run_detached(app: App, values: Values, options: RunOptions) -> int:
    with _id_file(values["cidfile"]) as file:
        container, _ = app.engine.containers.run(options, attach=False, progress=progress)
        if file is not None:
            file.write(container.id)
    streams.write(f"{container.id}\n")
    return 0


def _run_attached(app: App, values: Values, options: RunOptions) -> int:
    check_terminal(options.interactive, options.tty)
    containers = app.engine.containers
    size = our_size() if options.tty else None
    with _id_file(values["cidfile"]) as file:
        container, attachment = containers.run(options, size=size, progress=progress)
        if file is not None:
            file.write(container.id)
    if attachment is None:
        return containers.wait(container.id)
    return relay(
        attachment,
        values,
        stdin=options.interactive,
        tty=options.tty,
        vanished=lambda: _code_of(app, container),
        told=False,
    )


def _code_of(app: App, container: Container) -> int:
    try:
        return app.engine.containers.wait(container.id)
    except NotFound:
        if not container.options.remove:
            raise
        raise PycontainError(
            f"container {container.name}: its monitor was lost, and --rm has removed it",
        ) from None


_DETACH = switch("detach", "run in the background and print the id", short="d")
_EXPLAIN = switch("explain", "print in words what would be done, and change nothing")
_USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"

RUN = Verb(
    "run",
    _USAGE,
    "Create and run a new container from an image",
    _run,
    flags=(*CONTAINER_FLAGS, _CIDFILE, _DETACH, DETACH_KEYS, _EXPLAIN, SIG_PROXY),
    least=1,
    mixed=False,
    failure=125,
    command=True,
    examples=(
        ("pycontain run --rm busybox echo hello", "run a command, then remove the container"),
        ("pycontain run --rm -it busybox", "a shell with a terminal"),
        ("pycontain run -d --name web -v /srv:/srv:ro busybox httpd -f", "in the background"),
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
