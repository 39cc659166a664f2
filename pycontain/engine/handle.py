"""One container, as a Python program holds it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from pycontain.engine import command as commands
from pycontain.engine.command import Bounds
from pycontain.errors import InvalidInput, NotFound
from pycontain.model.container import ExecOptions, RunOptions
from pycontain.model.parse import parse_signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers
    from pycontain.engine.logs import LogEntry
    from pycontain.model.container import Container, ExitRecord
    from pycontain.model.result import ExecResult
    from pycontain.model.status import Status

IDLE = "/dev/init"
"""What an idle container runs: our init, alone. It reaps, and ends at SIGTERM."""


class ContainerHandle:
    """One container. Its state is asked for anew each time; nothing is kept open.

    As a context manager it is removed at the end, killed first where it runs::

        with Engine().start("busybox", idle=True) as box:
            box.exec(["echo", "hello"]).stdout

    Args:
        containers: of its store.
        identity: its id.
    """

    def __init__(self, containers: Containers, identity: str) -> None:
        self._containers = containers
        self.id = identity

    def __repr__(self) -> str:
        return f"<container {self.id[:12]}>"

    def __enter__(self) -> ContainerHandle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove it, killed first where it runs; one that is gone already is no error."""
        with contextlib.suppress(NotFound):
            self._containers.remove(self.id, force=True)

    # ---- looking ----

    @property
    def document(self) -> Container:
        """What was asked for, and the image's configuration as it was then."""
        return self._containers.get(self.id).container

    @property
    def name(self) -> str:
        """Its name now."""
        return self.document.name

    @property
    def status(self) -> Status:
        """Whether it runs, since when, and how it ended."""
        return self._containers.get(self.id).status

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
        until: int | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[LogEntry]:
        """Yield what it wrote, oldest first; see ``Containers.logs``."""
        return self._containers.logs(
            self.id, follow=follow, tail=tail, since=since, until=until, cancel=cancel
        )

    # ---- its life ----

    def start(self) -> None:
        """Start it again, or for the first time.

        Raises:
            InvalidState: it runs.
            PycontainError: the step that failed.
        """
        self._containers.start(self.id)

    def stop(self, *, timeout: int | None = None, signal: int | str | None = None) -> None:
        """Ask it to end, and kill it when it has not.

        Args:
            timeout: seconds; None is the container's own, negative waits for ever.
            signal: number or name; None is the container's own.
        """
        self._containers.stop(self.id, timeout=timeout, signal=_number(signal))

    def kill(self, signal: int | str = "KILL") -> None:
        """Send its first process a signal.

        Raises:
            InvalidState: it does not run.
        """
        number = _number(signal)
        assert number is not None
        self._containers.kill(self.id, number)

    def wait(
        self, timeout: float | None = None, *, cancel: Cancel | None = None
    ) -> ExitRecord | None:
        """Block until it does not run.

        Args:
            timeout: seconds; None for ever.
            cancel: ends the wait.

        Returns:
            How its last run ended; None when the time is over and it still runs.

        Raises:
            Cancelled: by `cancel`.
        """
        return self._containers.await_end(self.id, timeout=timeout, cancel=cancel)

    def await_record(self, *, cancel: Cancel | None = None) -> ExitRecord:
        """Block until it does not run; return how its last run ended.

        Raises:
            Cancelled: by `cancel`.
        """
        return self._containers.await_record(self.id, cancel=cancel)

    # ---- commands ----

    def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002 - subprocess.run's word
        timeout: float | None = None,
        max_output: int | None = None,
        check: bool = False,
        env: Mapping[str, str] | Sequence[str] = (),
        user: str | None = None,
        workdir: str | None = None,
        tty: bool = False,
        cancel: Cancel | None = None,
    ) -> ExecResult:
        """Run a command in it, and wait for its end.

        Args:
            command: the argument vector.
            input: given to its standard input; None closes it.
            timeout: seconds after which it is killed.
            max_output: bytes of both streams after which it is killed.
            check: an exit code other than 0 is an error.
            env: added to the container's.
            user: ``USER[:GROUP]``; None is the container's.
            workdir: None is the container's.
            tty: with a terminal; all output is in ``stdout`` then.
            cancel: ends it from another thread.

        Returns:
            Exit code, both streams, and what it used.

        Raises:
            TimedOut, OutputLimit, CommandFailed: with what there is of the result.
            CommandNotFound, NotExecutable: it cannot be started.
            InvalidState: the container does not run.
            Cancelled: by `cancel`; the command was killed.
        """
        asked = ExecOptions(
            command=words(command), interactive=input is not None, tty=tty, env=lines(env),
            user=user, workdir=workdir,
        )  # fmt: skip
        bounds = Bounds(timeout, max_output, cancel, check)
        return commands.execute(self._containers, self.id, asked, input, bounds)


def _number(signal: int | str | None) -> int | None:
    return parse_signal(signal) if isinstance(signal, str) else signal


def words(command: Sequence[str]) -> tuple[str, ...]:
    """Return an argument vector.

    Raises:
        InvalidInput: not a sequence of strings; a string alone is one for no program.
    """
    if isinstance(command, str) or not all(isinstance(word, str) for word in command):
        raise InvalidInput(f"command {command!r}: must be a sequence of strings: ['ls', '-l']")
    return tuple(command)


def lines(env: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    """Return an environment as ``NAME=value`` lines, given as that or as a mapping."""
    items = getattr(env, "items", None)
    if items is None:
        return tuple(env)
    return tuple(f"{name}={value}" for name, value in items())


def run_options(image: str, command: Sequence[str], options: Mapping[str, Any]) -> RunOptions:
    """Return the options of a container, checked.

    Args:
        image: as on the command line.
        command: replaces the image's when not empty.
        options: fields of ``RunOptions``, ``env`` also as a mapping; ``idle``: nothing but init.

    Raises:
        InvalidInput: an option that there is not, or a value of another type.
    """
    given = dict(options)
    if given.pop("idle", False):
        if command or given.get("entrypoint"):
            raise InvalidInput("an idle container runs no command")
        given.update(entrypoint=(IDLE,), init=True)
    unknown = given.keys() - set(RunOptions.__struct_fields__)
    if unknown:
        raise InvalidInput(f"no such option: {', '.join(sorted(unknown))}")
    if "env" in given:
        given["env"] = lines(given["env"])
    try:
        return msgspec.convert({**given, "image": image, "command": words(command)}, RunOptions)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"run {image}: {err}") from err
