"""What a user may ask a container to be limited to, as ``linux.resources`` of an OCI configuration.

Owns docker's meaning of the options: what they mean together, which values are too small to start a
container with, what a change leaves as it is. ``resources`` makes control files' lines of the
result, and ``cgroups`` writes them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput
from pycontain.model.container import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.model import oci
    from pycontain.model.container import DeviceRate, DeviceWeight

    # Path of a block device → its major and minor number.
    Numbers = Callable[[str], tuple[int, int]]

LEAST_MEMORY = 6 << 20
"""Bytes below which docker starts no container: the runtime's own first steps need them."""

_PERIOD = 100_000  # microseconds, the kernel's own default
_GROUPS = (
    ("memory", "memory_swap"),
    ("cpus", "cpu_period", "cpu_quota"),
)
"""Fields that are only understood together."""

_BY_DEVICE = (
    "blkio_weight_device",
    "device_read_bps",
    "device_write_bps",
    "device_read_iops",
    "device_write_iops",
)
_RATES = (
    ("device_read_bps", "throttleReadBpsDevice"),
    ("device_write_bps", "throttleWriteBpsDevice"),
    ("device_read_iops", "throttleReadIOPSDevice"),
    ("device_write_iops", "throttleWriteIOPSDevice"),
)


def said(limits: Limits) -> dict[str, object]:
    """Return the limits that are said, by their field's name."""
    every = {name: getattr(limits, name) for name in Limits.__struct_fields__}
    return {name: value for name, value in every.items() if value not in (None, (), {})}


def check(limits: Limits) -> None:
    """Refuse limits that cannot be, whatever machine it is.

    Raises:
        InvalidInput: a value is out of its range, or two of them contradict each other.
    """
    _check_memory(limits)
    _check_cpu(limits)
    _check_cpuset(limits)
    weights = [("--blkio-weight", limits.blkio_weight)]
    weights += [("--blkio-weight-device", entry.weight) for entry in limits.blkio_weight_device]
    for flag, weight in weights:
        if weight is not None and not 10 <= weight <= 1000:
            raise InvalidInput(f"{flag} {weight}: a weight is from 10 to 1000")
    if limits.pids_limit is not None and limits.pids_limit < -1:
        raise InvalidInput(f"--pids-limit {limits.pids_limit}: must be -1 (no limit) or more")


def _check_memory(limits: Limits) -> None:
    memory, both = limits.memory, limits.memory_swap
    low = limits.memory_reservation
    for flag, value in (("--memory", memory), ("--memory-reservation", low)):
        if value is not None and (value < -1 or 0 < value < LEAST_MEMORY):
            raise InvalidInput(f"{flag} {value}: the least is 6m ({LEAST_MEMORY} bytes)")
    limited = memory is not None and memory > 0
    if both is not None and both < -1:
        raise InvalidInput(f"--memory-swap {both}: must be -1 (no limit) or more")
    if both is not None and both > 0:
        if not limited:
            raise InvalidInput(
                f"--memory-swap {both}: limits memory and swap together, so --memory is needed too"
            )
        if both < (memory or 0):
            raise InvalidInput(
                f"--memory-swap {both}: is memory and swap together, so not less than"
                f" --memory {memory}"
            )
    if limited and low is not None and low > (memory or 0):
        raise InvalidInput(f"--memory-reservation {low}: must not be more than --memory {memory}")


def _check_cpu(limits: Limits) -> None:
    period, quota = limits.cpu_period, limits.cpu_quota
    if limits.cpus:
        if period or quota:
            other = "--cpu-period" if period else "--cpu-quota"
            raise InvalidInput(f"conflicting options: --cpus and {other}")
        count = os.cpu_count() or 1
        if not 0.01 <= limits.cpus <= count:
            raise InvalidInput(
                f"--cpus {limits.cpus:g}: must be from 0.01 to {count}, the CPUs of this machine"
            )
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidInput(f"--cpu-period {period}: must be from 1000 to 1000000 microseconds")
    if quota is not None and (quota < -1 or 0 < quota < 1000):
        raise InvalidInput(
            f"--cpu-quota {quota}: must be -1 (no limit) or 1000 microseconds and up"
        )
    if limits.cpu_shares is not None and limits.cpu_shares < 0:
        raise InvalidInput(f"--cpu-shares {limits.cpu_shares}: must not be negative")


def _check_cpuset(limits: Limits) -> None:
    """What the kernel takes from a cpuset in silence: CPUs and nodes that are not online."""
    for flag, words, place in (
        ("--cpuset-cpus", limits.cpuset_cpus, "/sys/devices/system/cpu/online"),
        ("--cpuset-mems", limits.cpuset_mems, "/sys/devices/system/node/online"),
    ):
        if not words:
            continue
        online = _online(place)
        missing = sorted(_numbers(flag, words) - _numbers(flag, online))
        if missing:
            raise InvalidInput(f"{flag} {words!r}: {missing[0]} is not online (there are {online})")


def _online(place: str) -> str:
    try:
        with open(place, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return "0"  # no sysfs, or a kernel without NUMA: its one node


def _numbers(flag: str, words: str) -> set[int]:
    from pycontain.runtime import fields

    try:
        return set(fields.cpu_list(words))
    except InvalidInput as err:
        raise InvalidInput(f"{flag} {words!r}: must be a list like 0-2,4") from err


def merged(old: Limits, changes: Limits) -> dict[str, object]:
    """Return the fields of `old` that `changes` has something to say of, as they are afterwards.

    Of lists, entries for other devices stay; likewise other control files. ``cpus`` takes the place
    of period and quota only where these are not said.
    """
    found = said(changes)
    for name in _BY_DEVICE:
        if name in found:
            entries = (*getattr(old, name), *getattr(changes, name))
            found[name] = tuple({entry.path: entry for entry in entries}.values())
    if "cgroup_conf" in found:
        found["cgroup_conf"] = {**old.cgroup_conf, **changes.cgroup_conf}
    return found


def affected(limits: Limits, changes: Limits) -> Limits:
    """Return what of `limits`, the limits after `changes`, has to be written to the cgroup."""
    names = said(changes).keys()
    groups = [set(group) for group in _GROUPS if names & set(group)]
    wanted = set(names).union(*groups)
    picked = {name: getattr(limits, name) for name in wanted - {*_BY_DEVICE, "cgroup_conf"}}
    # Of these what is new is enough: each line of the file stands for itself.
    picked.update({name: getattr(changes, name) for name in wanted & {*_BY_DEVICE, "cgroup_conf"}})
    return Limits(**picked)


def resources(limits: Limits, numbers: Numbers, *, update: bool = False) -> oci.Resources:
    """Return ``linux.resources`` for checked limits.

    Args:
        limits: what is asked for.
        numbers: finds a block device.
        update: of a cgroup that is there, in which what is lifted has to be said.

    Raises:
        InvalidInput, NotFound: a path that is no block device.
    """
    found: oci.Resources = {}
    if memory := _memory(limits):
        found["memory"] = memory
    if cpu := _cpu(limits):
        found["cpu"] = cpu
    if limits.pids_limit is not None:
        found["pids"] = {"limit": limits.pids_limit or -1}
    if block := _block_io(limits, numbers):
        found["blockIO"] = block
    unified = dict(limits.cgroup_conf)
    if update and limits.memory_reservation == 0:
        unified.setdefault("memory.low", "0")  # 0 in "memory" is what is not said
    if unified:
        found["unified"] = unified
    return found


def swap(limits: Limits) -> int:
    """Return the limit of memory and swap together, in bytes; 0 where it is not limited by us."""
    if limits.memory_swap:
        return limits.memory_swap
    memory = limits.memory or 0
    # As docker has it. A kernel that cannot swap at all has no file to limit it by (proc_swaps(5)).
    return 2 * memory if memory > 0 and os.path.exists("/proc/swaps") else 0


def _memory(limits: Limits) -> oci.Memory:
    found: oci.Memory = {}
    if limits.memory is not None:
        found["limit"] = limits.memory or -1
    if limits.memory_reservation:
        found["reservation"] = limits.memory_reservation
    if both := swap(limits):
        found["swap"] = both
    return found


def _cpu(limits: Limits) -> oci.CPU:
    found: oci.CPU = {}
    if limits.cpus:
        found["period"] = _PERIOD
        found["quota"] = round(limits.cpus * _PERIOD)
    else:
        quota = limits.cpus if limits.cpu_quota is None else limits.cpu_quota
        if quota is not None:
            found["quota"] = int(quota) or -1
        if limits.cpu_period:
            found["period"] = limits.cpu_period
    if limits.cpu_shares:
        found["shares"] = limits.cpu_shares
    if limits.cpuset_cpus:
        found["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        found["mems"] = limits.cpuset_mems
    return found


def _block_io(limits: Limits, numbers: Numbers) -> oci.BlockIO:
    found: oci.BlockIO = {}
    if limits.blkio_weight:
        found["weight"] = limits.blkio_weight
    if limits.blkio_weight_device:
        found["weightDevice"] = [_weight(entry, numbers) for entry in limits.blkio_weight_device]
    for name, key in _RATES:
        if entries := getattr(limits, name):
            found[key] = [_rate(entry, numbers) for entry in entries]  # type: ignore[literal-required]
    return found


def _weight(entry: DeviceWeight, numbers: Numbers) -> oci.WeightDevice:
    major, minor = numbers(entry.path)
    return {"major": major, "minor": minor, "weight": entry.weight}


def _rate(entry: DeviceRate, numbers: Numbers) -> oci.ThrottleDevice:
    major, minor = numbers(entry.path)
    return {"major": major, "minor": minor, "rate": entry.rate}
