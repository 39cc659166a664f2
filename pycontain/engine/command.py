"""Commands that somebody waits for: fed, heard, bounded, and killed when nobody waits any more."""

from __future__ import annotations

import contextlib
import select
import signal
from typing import TYPE_CHECKING, NamedTuple

from pycontain.engine import records
from pycontain.engine.cancel import Deadline
from pycontain.errors import (
    Cancelled,
    CommandFailed,
    Incomplete,
    InvalidState,
    NotFound,
    OutputLimit,
    PycontainError,
    TimedOut,
)
from pycontain.model.result import ExecResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers
    from pycontain.model.container import ExecOptions, RunOptions
    from pycontain.runtime.attachment import Attachment, Frame

_PART = 32768
_LINGER = 10.0  # seconds that what was killed gets to be gone


class Bounds(NamedTuple):
    """How far somebody waits.

    Attributes:
        timeout: seconds, None for ever.
        max_output: bytes, of both streams together; None for any number.
        cancel: ends it from another thread.
        check: whether an exit code other than 0 is an error.
    """

    timeout: float | None = None
    max_output: int | None = None
    cancel: Cancel | None = None
    check: bool = False


class Output:
    """What a command wrote, up to a bound.

    Attributes:
        lost: that there was more.
    """

    def __init__(self, limit: int | None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.lost = False
        self._room = limit

    def add(self, frame: Frame) -> None:
        """Take a piece; what is beyond the bound is dropped."""
        data = frame.data
        if self._room is not None:
            self.lost |= len(data) > self._room
            data = data[: self._room]
            self._room -= len(data)
        (self.stdout if frame.kind == "stdout" else self.stderr).extend(data)


class Conversation:
    """The owner's part in the life of a command: its input, its output, its end.

    Args:
        attachment: the owner's connection.
        data: the command's whole input; None where it has none.
        max_output: bytes to keep.
    """

    def __init__(self, attachment: Attachment, data: bytes | None, max_output: int | None) -> None:
        self.attachment = attachment
        self.output = Output(max_output)
        self.ended = False
        self._rest = memoryview(data or b"")
        self._feeding = data is not None

    def step(self, timeout: float | None, cancel: Cancel | None) -> bool:
        """Wait for the next thing to happen, and let it happen; False when time was over.

        Raises:
            Cancelled: by `cancel`.
        """
        poller = select.poll()
        writing = select.POLLOUT if self._feeding else 0
        poller.register(self.attachment, select.POLLIN | writing)
        if cancel is not None:
            poller.register(cancel, select.POLLIN)
        ready = dict(poller.poll(timeout))
        if cancel is not None and cancel.fileno() in ready:
            raise Cancelled
        events = ready.get(self.attachment.fileno(), 0)
        if events & select.POLLOUT and self._feeding:
            self._feed()
        if events & ~select.POLLOUT:
            self._hear()
        return bool(ready)

    def _feed(self) -> None:
        if self._rest:
            self._rest = self._rest[self.attachment.write_stdin(bytes(self._rest[:_PART])) :]
        else:
            self._feeding = not self.attachment.close_stdin()

    def _hear(self) -> None:
        frame = self.attachment.read()
        if frame is None:
            return
        if frame.kind in ("stdout", "stderr"):
            self.output.add(frame)
        elif frame.kind in ("exit", "closed"):
            self.ended = True

    def kill(self) -> None:
        """End the command, and hear its last words."""
        self.attachment.signal(signal.SIGKILL)
        self._feeding = False
        deadline = Deadline(_LINGER)
        while not self.ended and self.step(deadline.left(), None):
            pass


def converse(
    attachment: Attachment, data: bytes | None, bounds: Bounds
) -> tuple[Output, type[TimedOut | OutputLimit] | None]:
    """Feed `data` and collect both streams until the end, or until a bound: then it is killed.

    Returns:
        The output, and the bound that was met.

    Raises:
        Cancelled: the command was killed for it.
    """
    talk = Conversation(attachment, data, bounds.max_output)
    deadline = Deadline(bounds.timeout)
    met: type[TimedOut | OutputLimit] | None = None
    try:
        while not talk.ended and met is None:
            talk.step(deadline.left(), bounds.cancel)
            if talk.output.lost:
                met = OutputLimit
            elif deadline.over and not talk.ended:
                met = TimedOut
    except BaseException:
        talk.kill()
        raise
    if not talk.ended:
        talk.kill()
    return talk.output, met


def run(containers: Containers, asked: RunOptions, data: bytes | None, bounds: Bounds) -> RunResult:
    """Run a command in a container of its own, which is gone afterwards, whatever happens.

    Raises:
        Incomplete: a bound was met, or the exit code was to be 0.
        PycontainError: as for ``Containers.run``; ``Cancelled``.
    """
    identity, attachment = records.new_id(), None
    try:
        container, attachment = containers.run(asked, leash=True, identity=identity)
        assert attachment is not None
        output, met = converse(attachment, data, bounds)
        record = containers.await_record(identity)
        attachment.finish()
    except BaseException as err:
        if attachment is not None:
            attachment.close()
            remove(containers, identity)
        else:
            undo(containers, identity, err)
        raise
    result = RunResult(
        exit_code=record.code,
        stdout=bytes(output.stdout),
        stderr=bytes(output.stderr),
        cpu_usec=record.cpu_usec,
        memory_peak=record.memory_peak,
        oom_killed=record.oom_killed,
        started=record.started,
        finished=record.finished,
    )
    _judge(asked.command or container.command, result, met, bounds)
    return result


def undo(containers: Containers, identity: str, err: BaseException) -> None:
    """Undo the start of a container that nobody has been told of.

    What fails undoes what it began; an interrupt may come between any two steps, also after the
    last of them.
    """
    if not isinstance(err, PycontainError):
        remove(containers, identity)


def remove(containers: Containers, identity: str) -> None:
    """Remove a container, which may have ended and be gone."""
    with contextlib.suppress(NotFound):
        containers.remove(identity, force=True, volumes=True)


def execute(
    containers: Containers, ref: str, asked: ExecOptions, data: bytes | None, bounds: Bounds
) -> ExecResult:
    """Run a command in a running container.

    Raises:
        Incomplete: a bound was met, or the exit code was to be 0.
        InvalidState: the container does not run, or ended with the command's end unknown.
        PycontainError: as for ``Containers.exec``; ``Cancelled``.
    """
    attachment = containers.exec(ref, asked, leash=True)
    assert attachment is not None
    try:
        output, met = converse(attachment, data, bounds)
        if attachment.code is None:
            raise InvalidState(f"exec {asked.command[0]}: its monitor was killed")
        result = ExecResult(
            exit_code=attachment.code,
            stdout=bytes(output.stdout),
            stderr=bytes(output.stderr),
            cpu_usec=attachment.cpu_usec,
            memory_peak=attachment.memory_peak,
        )
    finally:
        attachment.close()
    _judge(asked.command, result, met, bounds)
    return result


def _judge(
    command: Sequence[str],
    result: ExecResult,
    met: type[TimedOut | OutputLimit] | None,
    bounds: Bounds,
) -> None:
    kind: type[Incomplete]
    name = command[0] if command else ""
    if met is TimedOut:
        kind, text = met, f"killed: did not end within {bounds.timeout:g} s"
    elif met is OutputLimit:
        kind, text = met, f"killed: wrote more than {bounds.max_output} bytes"
    elif bounds.check and result.exit_code != 0:
        last = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        kind, text = CommandFailed, f"exit code {result.exit_code}: {last}".rstrip(": ")
    else:
        return
    raise kind(
        f"{name}: {text}",
        exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr,
    )  # fmt: skip
