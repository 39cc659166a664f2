"""One probe of a container: a command in it, heard, bounded in time, and killed with its children.

The command begins a session of its own (setsid(2)). What it started is found by that, and by who is
whose child: a shell that is killed alone leaves behind what it waited for, at each probe some more.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from pycontain.engine.cancel import Deadline, wait_readable
from pycontain.engine.health import MOST_OUTPUT, SECOND, command
from pycontain.errors import InvalidState, NotFound, PycontainError
from pycontain.kernel import process
from pycontain.model.container import ExecOptions
from pycontain.model.health import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers
    from pycontain.model.container import Container, HealthCheck
    from pycontain.runtime.attachment import Attachment

_FAILED = -1
_LINGER = 10.0  # seconds that what was killed gets to be gone
_ROUNDS = 20


class _Talk:
    """What a probe says, until its end."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._said = bytearray()
        self._more = False
        self.ended = False

    def hear(self, deadline: Deadline, cancel: Cancel | None) -> None:
        """Listen until the end, or until the time is over.

        Raises:
            Cancelled: by `cancel`.
        """
        # Asked each time: of one that goes on writing there always is something to be read.
        while not self.ended and not deadline.over:
            if not wait_readable((self._attachment.fileno(),), deadline.left(), cancel):
                return
            frame = self._attachment.read()
            if frame is None:
                continue
            if frame.kind in ("stdout", "stderr"):
                room = MOST_OUTPUT - len(self._said)
                self._said += frame.data[:room]
                self._more |= len(frame.data) > room
            elif frame.kind in ("exit", "closed"):
                self.ended = True

    @property
    def text(self) -> str:
        """What it said so far; dots stand for what was too much."""
        return self._said.decode(errors="replace") + ("..." if self._more else "")


def run(
    containers: Containers, container: Container, check: HealthCheck, cancel: Cancel | None = None
) -> Probe:
    """Make one probe.

    Args:
        containers: of the store.
        container: which is running.
        check: with its defaults filled in.
        cancel: ends it from another thread.

    Returns:
        What came of it; where it could not be started or took too long, a failure too.

    Raises:
        InvalidState, NotFound: the container does not run any more, or is paused.
        Cancelled: by `cancel`; the probe was killed.
    """
    words = command(container, check)
    late = "Health check exceeded timeout ({})"  # docker's words
    return execute(containers, container, words, check.timeout / SECOND, cancel, late)


def execute(
    containers: Containers,
    container: Container,
    words: Sequence[str],
    timeout: float | None,
    cancel: Cancel | None,
    late: str = "it took longer than {}",
) -> Probe:
    """Run a command in a container, and hear what it says; one that takes too long is killed with
    all that it has started.

    Args:
        containers: of the store.
        container: which is running.
        words: the command.
        timeout: seconds, None for ever.
        cancel: ends it from another thread.
        late: what is said of one that took too long; the time is put into it.

    Returns:
        What came of it; where it could not be started or took too long, a failure too.

    Raises:
        InvalidState, NotFound: the container does not run any more, or is paused.
        Cancelled: by `cancel`; the command was killed.
    """
    start = time.time_ns()
    try:
        attachment = containers.exec(container.id, ExecOptions(command=tuple(words)), leash=True)
    except (InvalidState, NotFound):
        raise
    except PycontainError as err:
        return Probe(start=start, end=time.time_ns(), code=_FAILED, output=err.message)
    assert attachment is not None
    try:
        return _followed(attachment, start, timeout, cancel, late)
    finally:
        attachment.close()


def _followed(
    attachment: Attachment, start: int, timeout: float | None, cancel: Cancel | None, late: str
) -> Probe:
    began = process.start_time(attachment.pid) if attachment.pid else None
    talk = _Talk(attachment)
    try:
        talk.hear(Deadline(timeout), cancel)
    except BaseException:
        _kill(attachment, began)
        raise
    if talk.ended:
        if attachment.code is None:
            raise InvalidState("probe: its monitor was killed")
        return Probe(start=start, end=time.time_ns(), code=attachment.code, output=talk.text)
    _kill(attachment, began)
    talk.hear(Deadline(_LINGER), None)
    said = f": {talk.text}" if talk.text else ""
    text = f"{late.format(f'{timeout:g}s')}{said}"
    return Probe(start=start, end=time.time_ns(), code=_FAILED, output=text)


# ---- killing ----


def _kill(attachment: Attachment, began: int | None) -> None:
    """Kill a probe and what it has started.

    They are stopped before they are looked for: who is stopped starts no others (fork(2) would be
    the way out of a list that is made in several steps). Whoever has left the session and whose
    parent has ended has left for good, as daemons do.
    """
    known: dict[int, int] = {}
    for _ in range(_ROUNDS):
        found = process.family(attachment.pid, began) if began is not None else {}
        new = found.items() - known.items()
        if not new:
            break
        known |= found
        for pid, start in new:
            _send(pid, start, signal.SIGSTOP)
    for pid, start in known.items():
        _send(pid, start, signal.SIGKILL)
    attachment.signal(signal.SIGKILL)


def _send(pid: int, start: int, number: int) -> None:
    pidfd = process.open_process(pid, start)
    if pidfd is not None:
        try:
            process.send_signal(pidfd, number)
        finally:
            os.close(pidfd)
