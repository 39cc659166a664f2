"""What a container uses at one moment."""

from __future__ import annotations

import msgspec


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """How long tasks had to wait for a resource (accounting/psi.rst).

    Attributes:
        some: percentage of the last ten seconds in which at least one task waited.
        full: the same, in which none of them could work; None where the kernel does not tell.
        some_usec, full_usec: microseconds since the container's start.
    """

    some: float
    full: float | None = None
    some_usec: int
    full_usec: int | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of a container's figures. None is unknown: never counted, or it does not run.

    Attributes:
        id, name: of the container.
        time: nanoseconds since the epoch.
        clock: nanoseconds of CLOCK_MONOTONIC, to measure what happened between two samples.
        cpu_usec: CPU time since the start, in microseconds; of it in user mode and in the kernel.
        cpu_throttled_usec: microseconds for which its quota held it up.
        memory: bytes in use, without the file cache that the kernel would give up first.
        memory_limit: bytes; None also where there is no limit of its own.
        memory_peak: the most bytes that were in use at one time, cache included.
        swap: bytes.
        pids: tasks (threads count).
        pids_limit: tasks; None also where there is no limit.
        net_received, net_sent: bytes through all interfaces of its network namespace but the
            loopback; None where that is the host's.
        block_read, block_written: bytes.
        cpu_pressure, memory_pressure, io_pressure: how long its tasks had to wait.
    """

    id: str
    name: str
    time: int
    clock: int
    cpu_usec: int | None = None
    cpu_user_usec: int | None = None
    cpu_system_usec: int | None = None
    cpu_throttled_usec: int | None = None
    memory: int | None = None
    memory_limit: int | None = None
    memory_peak: int | None = None
    swap: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    net_received: int | None = None
    net_sent: int | None = None
    block_read: int | None = None
    block_written: int | None = None
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None

    def cpu_percent(self, before: Stats) -> float | None:
        """Return the use of the CPU since the sample `before`; 100 is one processor all the time.

        None where one of the samples does not know, or they are not of one run.
        """
        span = self.clock - before.clock
        if self.cpu_usec is None or before.cpu_usec is None or span <= 0:
            return None
        used = self.cpu_usec - before.cpu_usec
        return used * 1000 / span * 100 if used >= 0 else None
