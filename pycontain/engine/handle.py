"""One container, as a Python program holds it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from pycontain.engine import command as commands
from pycontain.engine.command import Bounds
from pycontain.errors import InvalidInput, NotFound
from pycontain.model.container import ExecOptions, HealthCheck, Limits, RunOptions
from pycontain.model.parse.signals import parse_signal
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from pycontain.config import Config
    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers
    from pycontain.engine.logs import LogEntry
    from pycontain.engine.tree import Tree
    from pycontain.image.store import Image
    from pycontain.model.container import Container, ExitRecord
    from pycontain.model.health import Health, Probe
    from pycontain.model.probe import ProbeState
    from pycontain.model.result import ExecResult
    from pycontain.model.stats import Stats
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
            self._containers.remove(self.id, force=True, volumes=True)

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

    def sample(self) -> Stats:
        """Return what it uses now; nothing is known of one that does not run."""
        return self._containers.stats(self.id)

    def stats(self, interval: float = 1.0, *, cancel: Cancel | None = None) -> Iterator[Stats]:
        """Yield what it uses, now and again and again, until it does not run.

        Args:
            interval: seconds in between.
            cancel: ends the wait.

        Raises:
            Cancelled: by `cancel`.
        """
        sample = self.sample()
        while sample.pids is not None or self.status.state in ("running", "paused"):
            yield sample
            if self._containers.await_end(self.id, timeout=interval, cancel=cancel):
                return
            sample = self.sample()

    # ---- its files ----

    def files(self) -> Tree:
        """Return its files, as a context manager; what there is to be done with them is there.

        The container's lock is held meanwhile where it does not run.
        """
        return self._containers.tree(self.id)

    def get(self, path: str, *, limit: int | None = None) -> bytes:
        """Return the content of a file in it, without running anything in it.

        Args:
            path: links are followed, as in the container.
            limit: bytes, more than which is an error.

        Raises:
            NotFound: there is nothing.
            InvalidInput: it is no regular file, or longer than `limit`.
        """
        with self.files() as files:
            return files.read(path, limit)

    def put(
        self,
        path: str,
        data: bytes,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        """Replace a file in it, or make it; see ``Tree.write``.

        Args:
            path: its folder exists.
            data: the new content.
            mode: permission bits; None are those of the file that is there, 0644 for a new one.
            uid: None is the same owner as before, 0 for a new one.
            gid: the same for the group.

        Raises:
            NotFound: its folder does not exist.
        """
        with self.files() as files:
            files.write(path, data, mode=mode, uid=uid, gid=gid)

    def commit(
        self,
        name: str | None = None,
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool | None = None,
    ) -> Image:
        """Make an image of it: its image, and what it changed; see ``Containers.commit``.

        Args:
            name: for the image; None: no name.
            author: for the image's history.
            message: the same.
            changes: lines that change its configuration, as in a Dockerfile: ``CMD ["serve"]``.
            pause: whether its processes wait; None: where they can.

        Raises:
            InvalidInput: a name or a change is malformed.
            PycontainError: as for ``Containers.commit``.
        """
        return self._containers.commit(
            self.id, name, author=author, message=message, changes=changes, pause=pause
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

    def pause(self) -> None:
        """Stop all its processes where they are.

        Raises:
            InvalidState: it does not run, or is paused.
        """
        self._containers.pause(self.id)

    def unpause(self) -> None:
        """Let its processes go on.

        Raises:
            InvalidState: it is not paused.
        """
        self._containers.unpause(self.id)

    def update(self, *, restart: str | None = None, **limits: Any) -> None:
        """Change its limits, also for its next start, or its policy; what is not named stays.

        Args:
            restart: the restart policy in the words of ``--restart``: ``no``, ``always`` …
            limits: fields of ``model.container.Limits``, as ``memory=64 << 20``.

        Raises:
            InvalidInput: there is no such limit.
            PycontainError: as for ``Containers.update``.
        """
        self._containers.update(self.id, _limits(limits), restart=restart)

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

    @property
    def health(self) -> Health | None:
        """How it is, as its probes found; None where it has no health check or never ran."""
        return self._containers.health(self.id)

    @property
    def probe_state(self) -> ProbeState:
        """Whether it has started and can be used, as its startup and readiness probes found; since
        its start where it has none.
        """
        return self._containers.probe_state(self.id)

    def probe(self, *, cancel: Cancel | None = None) -> Probe:
        """Make one probe now; its health does not change by that.

        Raises:
            InvalidState: it does not run, is paused, or has no health check.
            Cancelled: by `cancel`.
        """
        return self._containers.probe(self.id, cancel=cancel)

    def wait_for(
        self, *conditions: str, timeout: float | None = None, cancel: Cancel | None = None
    ) -> str | None:
        """Block until it is in one of some states; see ``Containers.wait_for``.

        Args:
            conditions: ``running``, ``paused``, ``healthy``, ``unhealthy``, ``exited``,
                ``removed`` …
            timeout: seconds; None for ever.
            cancel: ends the wait.

        Returns:
            The one that is met; None when the time is over.

        Raises:
            InvalidInput: an unknown condition.
            InvalidState: it is to be healthy, and has no health check or has ended.
            Cancelled: by `cancel`.
        """
        return self._containers.wait_for(self.id, conditions, timeout=timeout, cancel=cancel)

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


def _limits(given: Mapping[str, Any]) -> Limits:
    _refuse_unknown(given, Limits)
    try:
        files.prepare(Limits)
        return msgspec.convert(given, Limits)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"limits: {err}") from err


def _refuse_unknown(given: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    unknown = given.keys() - set(kind.__struct_fields__)
    if unknown:
        raise InvalidInput(f"no such option: {', '.join(sorted(unknown))}")


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


def _read_words(given: dict[str, Any]) -> None:
    """Read networks, ports and volumes that are given in the words of the command line."""
    if "network" in given and "networks" not in given:
        from pycontain.network import choice

        chosen = _read(given["network"], lambda word: (choice.parse_network(word),))
        given["network"], given["networks"] = choice.resolve(chosen, "none")
    if "publish" in given:
        from pycontain.network.ports import parse_publish

        given["publish"] = _read(given["publish"], parse_publish)
    if "health" in given:
        given["health"] = _check(given["health"])
    if isinstance(given.get("restart"), str):
        from pycontain.model.restart import parse_restart

        given["restart"] = parse_restart(given["restart"])
    if "mounts" in given:
        from pycontain.model.parse.mounts import parse_volume

        here = os.getcwd()
        given["mounts"] = _read(given["mounts"], lambda word: (parse_volume(word, here),))


def _check(given: Any) -> Any:
    """Return a health check that is given as a command, for a shell or not, or as False: none."""
    if given is False:
        return HealthCheck(test=("NONE",))
    if isinstance(given, str):
        return HealthCheck(test=("CMD-SHELL", given))
    if isinstance(given, (list, tuple)):
        return HealthCheck(test=("CMD", *words(given)))
    return given


def _read(entries: Any, parse: Callable[[str], Sequence[Any]]) -> Any:
    """Return a sequence in which words have become what they mean; one word stands for a list."""
    if isinstance(entries, str):
        entries = (entries,)
    if not isinstance(entries, (list, tuple)):
        return entries  # the type is wrong: told with the others
    found = [parse(entry) if isinstance(entry, str) else (entry,) for entry in entries]
    return tuple(entry for group in found for entry in group)


def run_options(
    image: str, command: Sequence[str], options: Mapping[str, Any], settings: Config
) -> RunOptions:
    """Return the options of a container, checked.

    Args:
        image: as on the command line.
        command: replaces the image's when not empty.
        options: fields of ``RunOptions``; ``env`` also as a mapping, ``network`` as one word or
            more of ``--network``, ``publish`` of ``-p``, ``mounts`` of ``-v``; ``health`` as a
            command, for a shell where it is a string, False for none; ``restart`` as ``--restart``;
            ``idle``: nothing but init.
        settings: what they have that is not said.

    Raises:
        InvalidInput: an option that there is not, or a value of another type.
    """
    given = {**settings.for_containers(), **options}
    if given.pop("idle", False):
        if command or given.get("entrypoint"):
            raise InvalidInput("an idle container runs no command")
        given.update(entrypoint=(IDLE,), init=True)
    _refuse_unknown(given, RunOptions)
    if "env" in given:
        given["env"] = lines(given["env"])
    _read_words(given)
    try:
        files.prepare(RunOptions)
        return msgspec.convert({**given, "image": image, "command": words(command)}, RunOptions)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"run {image}: {err}") from err
