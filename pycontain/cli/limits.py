"""The flags of limits: a table for ``run``, ``create`` and ``update``, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli.flags import Flag, UsageError, integer, switch
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.flags import Values


def _later(name: str) -> Callable[[str], Any]:
    """A function of ``model.limits``, imported when a flag needs it: few commands do."""

    def convert(text: str) -> Any:
        from pycontain.model import limits

        return getattr(limits, name)(text)

    return convert


def _bytes(text: str) -> int:
    from pycontain.model.limits import parse_bytes

    return parse_bytes(text)


def _bytes_or_none(text: str) -> int:
    from pycontain.model.limits import parse_bytes

    return parse_bytes(text, unlimited=True)


def _small(text: str) -> int:
    number = integer(text)
    if not 0 <= number <= 1000 or 0 < number < 10:
        raise InvalidInput("must be from 10 to 1000, 0 for the default")
    return number


def _swappiness(text: str) -> int:
    if integer(text) != -1:
        raise InvalidInput("the memory controller of cgroup v2 has none: the host's holds")
    return -1


def _kernel_memory(text: str) -> int:
    if _bytes(text):
        raise InvalidInput("the memory controller of cgroup v2 counts it in --memory")
    return 0


def _rates(name: str, what: str, convert: str) -> Flag:
    return Flag(name, what, kind="list", metavar="device:rate", convert=_later(convert))


LIMIT_FLAGS = (
    Flag("blkio-weight", "weight at block devices, 10 to 1000", metavar="weight", convert=_small),
    Flag(
        "blkio-weight-device",
        "weight at one block device",
        kind="list",
        metavar="device:weight",
        convert=_later("parse_weight_device"),
    ),
    Flag(
        "cgroup-conf",
        "write a control file of cgroup v2, as memory.high=64M",
        kind="list",
        metavar="file=text",
        convert=_later("parse_control_file"),
    ),
    Flag("cpu-period", "period of the CPU quota, µs", metavar="µs", convert=integer),
    Flag("cpu-quota", "CPU time in each period, µs; -1: no limit", metavar="µs", convert=integer),
    Flag(
        "cpu-shares",
        "CPU weight beside other containers, 2 to 262144 (default 1024)",
        short="c",
        metavar="weight",
        convert=integer,
    ),
    Flag("cpus", "number of CPUs, as 1.5", metavar="number", convert=_later("parse_cpus")),
    Flag("cpuset-cpus", "CPUs to run on, as 0-2,4", metavar="list"),
    Flag("cpuset-mems", "memory nodes to use, as 0-1", metavar="list"),
    _rates("device-read-bps", "bytes read from a device in a second", "parse_byte_rate"),
    _rates("device-read-iops", "reads from a device in a second", "parse_operation_rate"),
    _rates("device-write-bps", "bytes written to a device in a second", "parse_byte_rate"),
    _rates("device-write-iops", "writes to a device in a second", "parse_operation_rate"),
    Flag("kernel-memory", "of cgroup v1: refused", metavar="bytes", convert=_kernel_memory),
    Flag("memory", "limit of memory", short="m", metavar="bytes", convert=_bytes),
    Flag(
        "memory-reservation",
        "memory that is protected while others want it too",
        metavar="bytes",
        convert=_bytes,
    ),
    Flag(
        "memory-swap",
        "limit of memory and swap together (default twice the memory); -1: no limit",
        metavar="bytes",
        convert=_bytes_or_none,
    ),
    Flag(
        "pids-limit",
        "number of processes and threads; -1: no limit",
        metavar="number",
        convert=integer,
    ),
)
"""The flags that ``run``, ``create`` and ``update`` share."""

CREATE_FLAGS = (
    *LIMIT_FLAGS,
    Flag("cgroup-parent", "cgroup in which the container's is made", metavar="path"),
    Flag("memory-swappiness", "of cgroup v1: refused", metavar="0-100", convert=_swappiness),
    switch("oom-kill-disable", "of cgroup v1: refused"),
    Flag(
        "oom-score-adj",
        "how soon the kernel kills it when memory runs short, -1000 to 1000",
        metavar="score",
        convert=integer,
    ),
)
"""Those of ``run`` and ``create``."""

_LISTS = (
    "blkio-weight-device",
    "device-read-bps",
    "device-write-bps",
    "device-read-iops",
    "device-write-iops",
)
# Of these, nothing or nought says nothing.
_DEFAULTS = (
    "blkio-weight",
    "cpu-period",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "memory-swap",
)
_NUMBERS = ("cpu-quota", "cpus", "memory", "memory-reservation", "pids-limit")


def limit_fields(values: Values) -> dict[str, Any]:
    """Return the fields of ``model.container.Limits`` that the command line says."""
    found = {_field(name): values[name] for name in _NUMBERS if values[name] is not None}
    found.update({_field(name): values[name] for name in _DEFAULTS if values[name]})
    found.update({_field(name): _by_path(values[name]) for name in _LISTS if values[name]})
    if values["cgroup-conf"]:
        found["cgroup_conf"] = dict(values["cgroup-conf"])
    return found


def _by_path(entries: list[Any]) -> tuple[Any, ...]:
    """One entry for each device; the last one counts."""
    return tuple({entry.path: entry for entry in entries}.values())


def create_fields(values: Values) -> dict[str, Any]:
    """Return the fields of ``RunOptions`` that the command line says of limits.

    Raises:
        UsageError: a flag of cgroup v1.
    """
    if values["oom-kill-disable"]:
        raise UsageError(
            "--oom-kill-disable: the memory controller of cgroup v2 always kills when memory runs"
            " short"
        )
    return {
        **limit_fields(values),
        "oom_score_adj": values["oom-score-adj"],
        "cgroup_parent": values["cgroup-parent"] or None,
    }


def _field(flag: str) -> str:
    return flag.replace("-", "_")
