"""``Engine.run``: one command, its output and what it used."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import msgspec

from pycontain.model.container import RunOptions

if TYPE_CHECKING:
    from pycontain.engine.containers import Containers
    from pycontain.runtime.attachment import Attachment


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run.

    Attributes:
        exit_code: of the command, 128 + signal when one killed it.
        stdout, stderr: what it wrote.
        cpu_usec: CPU time in microseconds; None where unknown, as the next.
        memory_peak: bytes.
        oom_killed: whether the kernel killed a process of it for memory.
        started, finished: nanoseconds since the epoch.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    cpu_usec: int | None
    memory_peak: int | None
    oom_killed: bool | None
    started: int | None
    finished: int | None


def run(
    containers: Containers,
    image: str,
    command: tuple[str, ...],
    data: bytes | None,
    options: dict[str, Any],
) -> RunResult:
    """Carry out ``Engine.run``."""
    asked = RunOptions(
        image=image, command=command, interactive=data is not None, remove=True, **options
    )
    container, attachment = containers.run(asked)
    assert attachment is not None
    try:
        stdout, stderr = communicate(attachment, data)
        record = containers.await_record(container.id)
    except BaseException:
        attachment.close()
        containers.remove(container.id, force=True)
        raise
    attachment.finish()
    return RunResult(
        exit_code=record.code,
        stdout=stdout,
        stderr=stderr,
        cpu_usec=record.cpu_usec,
        memory_peak=record.memory_peak,
        oom_killed=record.oom_killed,
        started=record.started,
        finished=record.finished,
    )


def communicate(attachment: Attachment, data: bytes | None) -> tuple[bytes, bytes]:
    """Feed `data` and collect both streams until the end."""
    output = {"stdout": bytearray(), "stderr": bytearray()}
    rest = memoryview(data or b"")
    open_input = data is not None
    poller = select.poll()
    while True:
        poller.register(attachment, select.POLLIN | (select.POLLOUT if open_input else 0))
        for _, events in poller.poll():
            if events & select.POLLOUT and open_input:
                rest = rest[attachment.write_stdin(bytes(rest[:32768])) :] if rest else rest
                open_input = bool(rest) or not attachment.close_stdin()
            if not events & ~select.POLLOUT:
                continue
            frame = attachment.read()
            if frame is None:
                continue
            if frame.kind in output:
                output[frame.kind] += frame.data
            elif frame.kind in ("exit", "closed"):
                return bytes(output["stdout"]), bytes(output["stderr"])
