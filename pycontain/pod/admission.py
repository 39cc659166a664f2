"""Whether a pod gets what it requests: the machine has so much, and other pods have asked for some.

A request is a promise kept by arithmetic: the sum of what the declared pods that have not finished
request is never more than the machine has. Nothing is measured, and what is not requested is not
counted (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/, "How Pods
with resource requests are scheduled").
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import Conflict, InvalidState, KernelError
from pycontain.kernel import cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycontain.pod.plan import Requests

_KIB = 1024
_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_MOST_NAMED = 5  # pods in a message
_OURS = "pycontain"  # the cgroup above those of all of root's containers


class Capacity(NamedTuple):
    """What pods can have of a machine.

    Attributes:
        cpu: processors; a quota of the cgroup around us counts.
        memory: bytes.
    """

    cpu: Decimal
    memory: int


# ---- by value ----


def admit(pod: str, wanted: Requests, others: Mapping[str, Requests], machine: Capacity) -> None:
    """Raise where a pod cannot have what it requests.

    Of what it does not request there may be nothing left.

    Args:
        pod: its name.
        wanted: what it requests.
        others: what the declared pods that have not finished request, by their names; what is
            there under the pod's own name is not counted.
        machine: what there is.

    Raises:
        InvalidState: the machine has not that much, whoever else were there.
        Conflict: others have requested so much that it is not free.
    """
    rest = {name: asked for name, asked in others.items() if name != pod}
    cpu = _shortage(wanted.cpu, {name: asked.cpu for name, asked in rest.items()}, machine.cpu)
    memory = _shortage(
        wanted.memory, {name: asked.memory for name, asked in rest.items()}, machine.memory
    )
    lacking = [
        f"requests {show(short.wanted)} {name}: {show(short.free)} of {show(short.whole)} are free"
        for name, short, show in (("cpu", cpu, _cpus), ("memory", memory, _bytes))
        if short is not None
    ]
    if not lacking:
        return
    message = f"pod {pod}: {'; '.join(lacking)}"
    shortages = [short for short in (cpu, memory) if short is not None]
    if any(short.wanted > short.whole for short in shortages):
        raise InvalidState(message, "this machine has not more: request less")
    holders = sorted({name for short in shortages for name in short.holders})
    raise Conflict(message, f"the rest is requested by {_named(holders)}")


class _Shortage(NamedTuple):
    wanted: Decimal
    free: Decimal
    whole: Decimal
    holders: tuple[str, ...]


def _shortage(
    wanted: Decimal | int, others: Mapping[str, Decimal | int], whole: Decimal | int
) -> _Shortage | None:
    """What there is too little of one resource; None: there is enough."""
    free = Decimal(whole) - sum(map(Decimal, others.values()), Decimal())
    if not wanted or wanted <= free:
        return None
    holders = tuple(name for name, asked in others.items() if asked)
    return _Shortage(Decimal(wanted), max(free, Decimal()), Decimal(whole), holders)


def _named(pods: list[str]) -> str:
    more = len(pods) - _MOST_NAMED
    shown = ", ".join(f"pod {name}" for name in pods[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _cpus(value: Decimal) -> str:
    """Processors as in a manifest: ``1.5``."""
    return f"{value.normalize():f}"


def _bytes(value: Decimal) -> str:
    """Bytes as in a manifest, rounded down to a tenth: ``1.5Gi``."""
    power = 0
    while value >= _KIB and power < len(_UNITS) - 1:
        value /= _KIB
        power += 1
    return f"{_cpus(Decimal(int(value * 10)) / 10)}{_UNITS[power]}"


# ---- this machine ----


def capacity(*, rootless: bool = False) -> Capacity:
    """Return what this machine has for pods.

    Its processors are those that we may run on (sched_getaffinity(2)), its memory is MemTotal of
    proc_meminfo(5); of both less where the cgroups above the containers are bounded
    (cgroup-v2.rst, cpu.max and memory.max), as they are where this machine is itself a container.

    Args:
        rootless: of an ordinary user's containers, which are in the cgroup of who starts them.
    """
    cpu, memory = Decimal(len(os.sched_getaffinity(0))), _total_memory()
    for quota, most in _bounds(cgroup.place_of(os.getpid()) if rootless else _OURS):
        cpu = min(cpu, parse_quota(quota, cpu))
        memory = min(memory, int(most) if most.isdecimal() else memory)
    return Capacity(cpu, memory)


def parse_quota(text: str, whole: Decimal) -> Decimal:
    """Return the processors that a cpu.max file allows (cgroup-v2.rst, ``$MAX $PERIOD``).

    Args:
        text: of the file; empty where there is none.
        whole: what ``max`` stands for.
    """
    quota, _, period = text.strip().partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return whole
    return Decimal(quota) / Decimal(period)


def _total_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * _KIB for line in file if line.startswith("MemTotal:"))


def _bounds(place: str) -> Iterator[tuple[str, str]]:
    """The texts of cpu.max and memory.max from the root of the hierarchy down to a cgroup."""
    try:
        folder = cgroup.open_root()
    except KernelError:
        return  # no cgroup v2: nothing there bounds anything
    try:
        yield _bounds_of(folder)
        for name in place.strip("/").split("/"):
            try:
                inner = cgroup.open_folder(folder, name or ".")
            except FileNotFoundError:
                return  # made with the first container; or outside of our cgroup namespace
            folder, outer = inner, folder
            os.close(outer)
            yield _bounds_of(folder)
    finally:
        os.close(folder)


def _bounds_of(folder: int) -> tuple[str, str]:
    quota, most = (cgroup.read(folder, file) or "" for file in ("cpu.max", "memory.max"))
    return quota, most.strip()
