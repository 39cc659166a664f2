"""What a container uses now: the figures of its cgroup and of its network namespace."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

from pycontain.engine import records
from pycontain.errors import NotFound, kernel_error
from pycontain.kernel import cgroup, process
from pycontain.model.container import cgroup_path
from pycontain.model.stats import Pressure, Stats
from pycontain.runtime import cgroup_stats, cgroups

if TYPE_CHECKING:
    from pycontain.engine.containers import View

    Figures = dict[str, Any]


def sample(view: View) -> Stats:
    """Return one sample; nothing is known of a container that does not run.

    Raises:
        KernelError: the caller may not.
    """
    container = view.container
    known: Figures = {}
    if view.status.state in ("running", "paused"):
        known = {**_figures(view), **_network(view)}
    return Stats(
        id=container.id, name=container.name, time=time.time_ns(), clock=time.monotonic_ns(),
        **known,
    )  # fmt: skip


def _figures(view: View) -> Figures:
    path = cgroup_path(view.container.id, view.container.options.cgroup_parent)
    try:
        folder = cgroups.open_folder(path)
    except NotFound:  # it has ended, or never had one (an ordinary user's)
        return {}
    try:
        counts_io = cgroup.exists(folder, "io.stat")
        found: Figures = cgroup_stats.stats(folder)
    except NotFound:
        return {}
    finally:
        os.close(folder)
    cpu, memory = found.get("cpu", {}), found.get("memory", {})
    block = found.get("blkio", {})
    return {
        **_cpu(cpu),
        **_memory(memory),
        "pids": found.get("pids", {}).get("current"),
        "pids_limit": found.get("pids", {}).get("limit"),
        "block_read": _bytes(block, "Read") if counts_io else None,
        "block_written": _bytes(block, "Write") if counts_io else None,
        "cpu_pressure": _pressure(cpu),
        "memory_pressure": _pressure(memory),
        "io_pressure": _pressure(block),
    }


def _cpu(cpu: Figures) -> Figures:
    usage, throttling = cpu.get("usage", {}), cpu.get("throttling", {})
    return {
        "cpu_usec": _usec(usage.get("total")),
        "cpu_user_usec": _usec(usage.get("user")),
        "cpu_system_usec": _usec(usage.get("kernel")),
        "cpu_throttled_usec": _usec(throttling.get("throttledTime")),
    }


def _usec(nanoseconds: int | None) -> int | None:
    return None if nanoseconds is None else nanoseconds // 1000


def _memory(memory: Figures) -> Figures:
    usage, swap = memory.get("usage", {}), memory.get("swap", {})
    used, limit = usage.get("usage"), usage.get("limit")
    if used is None:
        return {}
    both = swap.get("usage")
    return {
        "memory": max(0, used - memory.get("raw", {}).get("inactive_file", 0)),
        "memory_limit": None if limit == cgroup_stats.UNLIMITED else limit,
        "memory_peak": usage.get("max"),
        "swap": None if both is None else max(0, both - used),
    }


def _bytes(block: Figures, operation: str) -> int:
    """The bytes of all devices; a cgroup that has done no I/O has no line."""
    entries = block.get("ioServiceBytesRecursive", [])
    return sum(entry["value"] for entry in entries if entry["op"] == operation)


def _pressure(part: Figures) -> Pressure | None:
    found = part.get("psi", {})
    some, full = found.get("some"), found.get("full", {})
    if some is None:
        return None
    return Pressure(
        some=some["avg10"], full=full.get("avg10"),
        some_usec=some["total"], full_usec=full.get("total"),
    )  # fmt: skip


def _network(view: View) -> Figures:
    """The bytes of its network namespace, unless that is ours."""
    record = records.load_run(view.paths)
    if record is None:
        return {}
    try:
        theirs, ours = os.stat(f"/proc/{record.pid}/ns/net"), os.stat("/proc/self/ns/net")
        if os.path.samestat(theirs, ours):
            return {}
        with open(f"/proc/{record.pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ESRCH, errno.EINVAL):  # it has ended
            return {}
        raise kernel_error("read network counters", view.container.name, err.errno or 0) from err
    if process.start_time(record.pid) != record.pid_start:
        return {}  # its pid was another's already
    return network_totals(lines)


def network_totals(lines: list[str]) -> dict[str, int]:
    """Return what all interfaces but the loopback received and sent, in bytes.

    Args:
        lines: of /proc/PID/net/dev without its headings (proc_pid_net(5)).
    """
    received = sent = 0
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            words = numbers.split()
            received += int(words[0])
            sent += int(words[8])
    return {"net_received": received, "net_sent": sent}
