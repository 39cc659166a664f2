"""The resources of an OCI configuration as lines for control files of cgroup v2.

Pure. runtime-spec, config-linux.md, "Control Groups"; the files are those of the kernel's
cgroup-v2.rst. What the specification states for cgroup v1 is converted where cgroup v2 has an
equal, and refused by its name where it has none. Zero is what managers send for "not said".

Device rules are no control files: see kernel/devices.py.
"""

from __future__ import annotations

from pycontain.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycontain.model import oci

NESTED = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "io.latency": "target=0",
    "rdma.max": "hca_handle=max hca_object=max",
    "misc.max": "max",
    "dmem.max": "max",
}
"""Files with a line for each device, and what takes a device's line away."""

_PLACE = "linux.resources"
_CONTROLLERS = frozenset("cpu cpuset dmem hugetlb io memory misc pids rdma".split())
# The others of the core move, freeze or kill processes.
_CORE_LIMITS = frozenset(("cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"))
_UNSAID = (0, -1)
_I64 = 2**63 - 1
_U32 = 2**32 - 1
_U64 = 2**64 - 1


class Write:
    """One line for one control file.

    Attributes:
        file: its name in the cgroup's folder.
        text: what is written.
        controller: whose file it is, empty for those of the core.
        moot: the line says what holds anyhow where the file is missing (no limit).
        instead: what is written where the file is missing.
    """

    __slots__ = ("controller", "file", "instead", "moot", "text")

    def __init__(
        self, file: str, text: str, *, moot: bool = False, instead: Write | None = None
    ) -> None:
        self.file = file
        self.text = text
        prefix = file.partition(".")[0]
        self.controller = "" if prefix == "cgroup" else prefix
        self.moot = moot
        self.instead = instead

    def files(self) -> set[str]:
        """Return the files of which one is written."""
        return {self.file} | (self.instead.files() if self.instead else set())

    def _all(self) -> tuple[object, ...]:
        return (self.file, self.text, self.moot, self.instead)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Write) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        moot = ", moot=True" if self.moot else ""
        instead = f", instead={self.instead!r}" if self.instead else ""
        return f"Write({self.file!r}, {self.text!r}{moot}{instead})"


def writes(resources: oci.Resources) -> list[Write]:
    """Return the lines for control files that `resources` asks for, in the order for a new cgroup.

    Args:
        resources: ``linux.resources`` of the right types, as ``check`` gives them; ``devices`` is
            not looked at.

    Raises:
        InvalidInput: a value is out of its range, or has no equal in cgroup v2; with its place,
            as ``linux.resources.memory.limit``.
    """
    found = [line for convert in _CONVERTERS for line in convert(resources)]
    own = _unified(resources)
    # Beside a device's line another may stand, and the later one wins.
    said = {line.file for line in own if line.file not in NESTED}
    return [line for line in found if line.file not in said] + own


def _error(place: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{_PLACE}.{place}: {reason}")


def _within(place: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise _error(place, f"must be from {low} to {high}, not {value}")
    return value


def _refuse(reason: str, values: Iterable[tuple[str, int]]) -> None:
    """Refuse the numbers that have no equal in cgroup v2, where they are said."""
    for place, value in values:
        if value not in _UNSAID:
            raise _error(place, reason)


def _limit(place: str, value: int) -> int:
    """The limit: -1 for none, 0 where it is not said."""
    return _within(place, value, -1, _I64)


def _limited(file: str, value: int) -> list[Write]:
    """The line of a limit; none where it is not said."""
    if not value:
        return []
    return [Write(file, "max", moot=True) if value == -1 else Write(file, str(value))]


def _memory(resources: oci.Resources) -> list[Write]:
    memory = resources.get("memory", {})
    _refuse(
        "cgroup v2 counts it in memory.limit, not by itself",
        (
            ("memory.kernel", memory.get("kernel", 0)),
            ("memory.kernelTCP", memory.get("kernelTCP", 0)),
        ),
    )
    if "swappiness" in memory:
        raise _error("memory.swappiness", "cgroup v2 has none: the host's holds")
    if memory.get("disableOOMKiller"):
        raise _error("memory.disableOOMKiller", "cgroup v2 always kills when memory runs short")
    if not memory.get("useHierarchy", True):
        raise _error("memory.useHierarchy", "cgroup v2 always counts what is below")
    limit = _limit("memory.limit", memory.get("limit", 0))
    low = _limit("memory.reservation", memory.get("reservation", 0))
    found = _limited("memory.max", limit) + _swap(limit, memory.get("swap", 0))
    # Nothing is protected by default: unlike other limits, "max" says something here.
    return [*found, Write("memory.low", _or_max(low))] if low else found


def _swap(limit: int, both: int) -> list[Write]:
    """The limit of swap alone, from that of memory and swap together."""
    both = _limit("memory.swap", both)
    if not both:
        # In cgroup v1, swap without a limit came with memory without one: managers rely on it.
        return _limited("memory.swap.max", -1 if limit == -1 else 0)
    if both == -1:
        return _limited("memory.swap.max", -1)
    if limit in _UNSAID:
        raise _error("memory.swap", "limits memory and swap together: memory.limit must be set too")
    if both < limit:
        raise _error(
            "memory.swap", f"memory and swap together must be at least {limit}, not {both}"
        )
    # Since Linux 6.1 the file is missing only where the kernel cannot swap at all.
    return [Write("memory.swap.max", str(both - limit), moot=both == limit)]


def _or_max(value: int) -> str:
    return "max" if value == -1 else str(value)


def weight_of_shares(shares: int) -> int:
    """Return the cpu.weight (1 to 10000) for cpu.shares (2 to 262144, beyond is clamped).

    A quadratic in the logarithm that maps both ends and the defaults (1024 to 100) on each other,
    as runc since 1.3.2 and crun since 1.23 have it; earlier ones went straight from end to end.
    """
    import math  # few starts need it

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    exponent = (log * log + 125 * log) / 612 - 7 / 34
    # What is due to rounding must not reach the next whole number.
    return math.ceil(10**exponent - 1e-9)


def _cpu(resources: oci.Resources) -> list[Write]:
    cpu = resources.get("cpu", {})
    _refuse(
        "cgroup v2 does not share out realtime",
        (
            ("cpu.realtimeRuntime", cpu.get("realtimeRuntime", 0)),
            ("cpu.realtimePeriod", cpu.get("realtimePeriod", 0)),
        ),
    )
    # A cpuset must be there before a process is.
    found = _cpuset("cpus", cpu.get("cpus", "")) + _cpuset("mems", cpu.get("mems", ""))
    idle = _within("cpu.idle", cpu.get("idle", 0), 0, 1)
    if "idle" in cpu:
        found.append(Write("cpu.idle", str(idle), moot=not idle))
    shares = _within("cpu.shares", cpu.get("shares", 0), 0, _U64)
    # The kernel gives idle cgroups the least weight, and refuses to set another.
    if shares and not idle:
        found.append(Write("cpu.weight", str(weight_of_shares(shares))))
    return found + _bandwidth(cpu)


def _cpuset(name: str, value: str) -> list[Write]:
    value = value.strip()
    if value.strip("0123456789,- "):
        raise _error(f"cpu.{name}", f"must be a list like 0-2,4, not {value!r}")
    return [Write(f"cpuset.{name}", value)] if value else []


def _bandwidth(cpu: oci.CPU) -> list[Write]:
    # The kernel's own bounds (kernel/sched/core.c, tg_set_cfs_bandwidth), in microseconds.
    quota = _limit("cpu.quota", cpu.get("quota", 0))
    if quota not in _UNSAID:
        _within("cpu.quota", quota, 1000, _I64)
    if period := cpu.get("period", 0):
        _within("cpu.period", period, 1000, 1_000_000)
    burst = _within("cpu.burst", cpu.get("burst", 0), 0, _U64)
    if quota not in _UNSAID and burst > quota:
        raise _error("cpu.burst", f"must be at most the quota of {quota}, not {burst}")
    found = []
    if quota or period:
        text = _or_max(quota or -1) + (f" {period}" if period else "")
        found.append(Write("cpu.max", text, moot=quota in _UNSAID))
    if "burst" in cpu:
        found.append(Write("cpu.max.burst", str(burst), moot=not burst))
    return found


def _pids(resources: oci.Resources) -> list[Write]:
    return _limited("pids.max", _limit("pids.limit", resources.get("pids", {}).get("limit", 0)))


def _block_io(resources: oci.Resources) -> list[Write]:
    block = resources.get("blockIO", {})
    reason = "cgroup v2 has one weight for a cgroup and those below it"
    _refuse(reason, [("blockIO.leafWeight", block.get("leafWeight", 0))])
    found = []
    if weight := block.get("weight", 0):
        found.append(_weight("blockIO.weight", weight, "default"))
    for at, entry in enumerate(block.get("weightDevice", [])):
        place = f"blockIO.weightDevice[{at}]"
        _refuse(reason, [(f"{place}.leafWeight", entry.get("leafWeight", 0))])
        device = _device(place, entry)
        found.append(_weight(f"{place}.weight", entry.get("weight", 0), device))
    return found + _throttles(block)


def _weight(place: str, weight: int, device: str) -> Write:
    """The weight for the scheduler BFQ, which has OCI's range, or else for io.cost, 1 to 10000."""
    scaled = 1 + (_within(place, weight, 10, 1000) - 10) * 9999 // 990
    other = Write("io.weight", f"{device} {scaled}")
    return Write("io.bfq.weight", f"{device} {weight}", instead=other)


def _device(place: str, entry: oci.WeightDevice | oci.ThrottleDevice) -> str:
    major = _within(f"{place}.major", entry["major"], 0, _U32)
    return f"{major}:{_within(f'{place}.minor', entry['minor'], 0, _U32)}"


def _throttles(block: oci.BlockIO) -> list[Write]:
    """One line for each device, with all that is said of it."""
    lines: dict[str, dict[str, str]] = {}
    for key, name, entries in (
        ("rbps", "throttleReadBpsDevice", block.get("throttleReadBpsDevice", [])),
        ("wbps", "throttleWriteBpsDevice", block.get("throttleWriteBpsDevice", [])),
        ("riops", "throttleReadIOPSDevice", block.get("throttleReadIOPSDevice", [])),
        ("wiops", "throttleWriteIOPSDevice", block.get("throttleWriteIOPSDevice", [])),
    ):
        for at, entry in enumerate(entries):
            place = f"blockIO.{name}[{at}]"
            rate = _within(f"{place}.rate", entry["rate"], 0, _U64)
            # 0 lifted a limit in cgroup v1; io.max refuses it.
            lines.setdefault(_device(place, entry), {})[key] = str(rate or "max")
    return [
        Write(
            "io.max",
            " ".join([device, *(f"{key}={rate}" for key, rate in rates.items())]),
            moot=set(rates.values()) == {"max"},
        )
        for device, rates in lines.items()
    ]


def _hugepages(resources: oci.Resources) -> list[Write]:
    found = []
    for at, entry in enumerate(resources.get("hugepageLimits", [])):
        place = f"hugepageLimits[{at}]"
        size = entry["pageSize"]
        if not (size.isascii() and size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")):
            raise _error(f"{place}.pageSize", f"must be a size like 64KB, 2MB or 1GB, not {size!r}")
        limit = str(_within(f"{place}.limit", entry["limit"], 0, _U64))
        found.append(Write(f"hugetlb.{size}.max", limit))
        # Reservations are limited where the kernel counts them (since Linux 5.7).
        found.append(Write(f"hugetlb.{size}.rsvd.max", limit, moot=True))
    return found


def _network(resources: oci.Resources) -> list[Write]:
    network = resources.get("network", {})
    if network.get("classID"):
        raise _error("network.classID", "net_cls is of cgroup v1 only")
    if network.get("priorities"):
        raise _error("network.priorities", "net_prio is of cgroup v1 only")
    return []


def _rdma(resources: oci.Resources) -> list[Write]:
    found = []
    for device, entry in resources.get("rdma", {}).items():
        place = f"rdma[{device!r}]"
        if device.split() != [device]:
            raise _error(place, "must be the name of a device")
        words = [
            f"{key}={_within(f'{place}.{name}', value, 0, _U32)}"
            for key, name, value in (
                ("hca_handle", "hcaHandles", entry.get("hcaHandles")),
                ("hca_object", "hcaObjects", entry.get("hcaObjects")),
            )
            if value is not None
        ]
        if not words:
            raise _error(place, "must have hcaHandles or hcaObjects")
        found.append(Write("rdma.max", " ".join([device, *words])))
    return found


def _unified(resources: oci.Resources) -> list[Write]:
    """The lines that the user gave; each is a write of its own, as nested keyed files want it."""
    found = []
    for file, text in resources.get("unified", {}).items():
        place = f"unified[{file!r}]"
        prefix, _, rest = file.partition(".")
        if not (prefix and rest) or "/" in file or ".." in file or "\0" in file + text:
            raise _error(place, "must be a file of a cgroup, as memory.high")
        if prefix == "cgroup" and file not in _CORE_LIMITS:
            raise _error(place, "this file of the cgroup limits nothing")
        if prefix != "cgroup" and prefix not in _CONTROLLERS:
            raise _error(place, f"there is no controller {prefix}")
        found += [Write(file, line) for line in text.splitlines() or [""]]
    return found


_CONVERTERS: tuple[Callable[[oci.Resources], list[Write]], ...] = (
    _cpu,
    _memory,
    _pids,
    _block_io,
    _hugepages,
    _network,
    _rdma,
)
