"""What came of a command that somebody waited for."""

import msgspec


class ExecResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command in a container.

    Attributes:
        exit_code: of the command, 128 + signal when one killed it.
        stdout, stderr: what it wrote; with a terminal all of it is in stdout.
        cpu_usec: CPU time in microseconds; None where unknown, as the next.
        memory_peak: bytes.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    cpu_usec: int | None
    memory_peak: int | None


class RunResult(ExecResult, frozen=True, kw_only=True):
    """What came of a container of its own.

    Attributes:
        oom_killed: whether the kernel killed a process of it for memory.
        started, finished: nanoseconds since the epoch.
    """

    oom_killed: bool | None
    started: int | None
    finished: int | None
