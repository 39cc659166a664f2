"""What a process is and may do, from ``process`` of an OCI configuration, as steps.

The order is the kernel's: limits and scheduling while privileges are there, the seccomp filter
before they are given up unless no_new_privs allows it afterwards, and as late as it can be.
"""

from __future__ import annotations

import struct

from pycontain.errors import InvalidInput
from pycontain.kernel import capability
from pycontain.runtime import fields
from pycontain.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pycontain.model import oci

RLIMITS = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO"
    " RTTIME"
).split()
"""Resource names in the kernel's order (asm-generic/resource.h)."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}
"""personality(2), sys/personality.h."""

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
"""set_mempolicy(2), linux/mempolicy.h."""
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_NEW_LISTENER = 1 << 3  # SECCOMP_FILTER_FLAG_NEW_LISTENER

# struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")


def oom_score(process: oci.Process) -> list[Step]:
    """Return the step that sets oom_score_adj, where it is asked for."""
    if "oomScoreAdj" not in process:
        return []
    value = process["oomScoreAdj"]
    return [Step("oom_score", str(value), text=f"set oom_score_adj to {value}")]


def initial_affinity(process: oci.Process) -> list[Step]:
    """Return the step for the processors on which an ``exec`` begins."""
    cpus = process.get("execCPUAffinity", {}).get("initial")
    if not cpus:
        return []
    return [Step("initial_affinity", cpu_mask(cpus), text=f"run on processors {cpus}")]


def final_affinity(process: oci.Process) -> list[Step]:
    """Return the step for the processors of an ``exec`` in the container's cgroup."""
    cpus = process.get("execCPUAffinity", {}).get("final")
    if not cpus:
        return []
    return [Step("affinity", cpu_mask(cpus), text=f"run on processors {cpus}")]


def cpu_mask(cpus: str) -> bytes:
    """Return a list like ``0-3,7`` as the bit mask of sched_setaffinity(2).

    Raises:
        InvalidInput: it is none.
    """
    return _mask(fields.cpu_list(cpus))


def _mask(numbers: Iterable[int]) -> bytes:
    """The bit mask in whole words, as sched_setaffinity(2) and set_mempolicy(2) take it."""
    mask = 0
    for number in numbers:
        mask |= 1 << number
    size = (mask.bit_length() + 63) // 64 * 8
    return mask.to_bytes(size, "little")


def limits(process: oci.Process) -> list[Step]:
    """Return the steps that take privileges themselves: limits and scheduling."""
    steps = [_rlimit(limit) for limit in process.get("rlimits", [])]
    if "scheduler" in process:
        steps.append(_scheduler(process["scheduler"]))
    if "ioPriority" in process:
        asked = process["ioPriority"]
        value = IO_CLASSES[asked["class"]] << 13 | asked.get("priority", 0)
        steps.append(Step("io_priority", value, text=f"set I/O priority {asked['class']}"))
    return steps


def label(process: oci.Process) -> list[Step]:
    """Return the step that says under which AppArmor profile the program is to run.

    It writes to the host's /proc: what a container has there is its own.
    """
    if not process.get("apparmorProfile"):
        return []
    name = process["apparmorProfile"]
    return [Step("apparmor", name, text=f"use AppArmor profile {name}")]


def personality(asked: oci.Personality) -> Step:
    """Return the step for the execution domain."""
    domain = asked["domain"]
    return Step("personality", PERSONALITIES[domain], text=f"set personality {domain}")


def memory_policy(asked: oci.MemoryPolicy) -> Step:
    """Return the step for the memory nodes that are used (config-linux.md, "Memory policy").

    It is the calling thread's and goes on to what it executes and clones (set_mempolicy(2)).
    """
    mode, nodes = asked["mode"], asked.get("nodes", "")
    value = MEMORY_MODES[mode]
    for flag in asked.get("flags", ()):
        value |= MEMORY_FLAGS[flag]
    text = f"set memory policy {mode}{' of nodes ' if nodes else ''}{nodes}"
    return Step("memory_policy", value, _mask(fields.node_list(nodes)), text=text)


def _rlimit(limit: oci.Rlimit) -> Step:
    name = limit["type"].removeprefix("RLIMIT_")
    if name not in RLIMITS:
        raise InvalidInput(f"resource limit {limit['type']!r}: there is no such limit")
    return Step("rlimit", RLIMITS.index(name), limit["soft"], limit["hard"],
                text=f"limit {name.lower()} to {limit['soft']}:{limit['hard']}")  # fmt: skip


def _scheduler(asked: oci.Scheduler) -> Step:
    flags = 0
    for flag in asked.get("flags", ()):
        flags |= SCHEDULER_FLAGS[flag]
    attributes = _SCHED_ATTR.pack(
        _SCHED_ATTR.size, POLICIES[asked["policy"]], flags, asked.get("nice", 0),
        asked.get("priority", 0), asked.get("runtime", 0), asked.get("deadline", 0),
        asked.get("period", 0),
    )  # fmt: skip
    return Step("scheduler", attributes, text=f"schedule by {asked['policy']}")


class Drop:
    """The giving up of privileges, in the two parts between which a container may wait.

    Attributes:
        first: up to the change of user.
        last: what can and should come as late as possible.
    """

    __slots__ = ("first", "last")

    def __init__(self, process: oci.Process, seccomp: tuple[bytes, int] | None) -> None:
        self.last: list[Step] = []
        filters: list[Step] = []
        if seccomp is not None:
            filters.append(Step("seccomp", *seccomp, text="install the seccomp filter"))
        if not process.get("noNewPrivileges", False):
            # Without no_new_privs a filter needs CAP_SYS_ADMIN (seccomp(2)): before it is given up.
            self.first = [*filters, _credentials(process)]
            return
        self.first = [Step("no_new_privs", text="set no_new_privs"), _credentials(process)]
        # A listener has to be handed out while there is somebody to take it.
        late = seccomp is not None and not seccomp[1] & _NEW_LISTENER
        (self.last if late else self.first).extend(filters)


def _credentials(process: oci.Process) -> Step:
    user = process.get("user", {})
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = user.get("additionalGids", [])
    sets: Mapping[str, Iterable[str]] = process.get("capabilities", {})  # type: ignore[assignment]
    masks = [
        capability.mask(sets.get(kind, ()))
        for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")
    ]
    names = [name.removeprefix("CAP_").lower() for name in sets.get("permitted", ())]
    return Step(
        "credentials", uid, gid, struct.pack(f"={len(groups)}I", *groups), *masks,
        text=f"become {uid}:{gid} with capabilities {', '.join(names) or 'no'}",
    )  # fmt: skip


def grantable(sets: oci.Capabilities, limit: int | None) -> tuple[oci.Capabilities, list[str]]:
    """Return the sets without what cannot be granted, and the names of that.

    config.md, "Linux Process": what cannot be granted is warned about and no error. An ambient
    capability has to be permitted and inheritable too (capabilities(7)).

    Args:
        sets: as asked for.
        limit: mask of what the caller can grant; None for everything, as in a new user namespace.
    """
    refused: set[str] = set()
    result: dict[str, list[str]] = {}
    for kind, names in sets.items():
        good = [name for name in names if _can_grant(name, limit)]  # type: ignore[attr-defined]
        if kind == "ambient":
            base = set(sets.get("permitted", ())) & set(sets.get("inheritable", ()))
            good = [name for name in good if name in base]
        refused.update(set(names) - set(good))  # type: ignore[call-overload]
        result[kind] = good
    return result, sorted(refused)  # type: ignore[return-value]


def _can_grant(name: str, limit: int | None) -> bool:
    number = capability.NUMBERS.get(name)
    return number is not None and (limit is None or bool(limit >> number & 1))


def umask(process: oci.Process) -> Step:
    """Return the step that sets the umask."""
    value = process.get("user", {}).get("umask", 0o022)
    return Step("umask", value, text=f"set umask {value:04o}")


def program(process: oci.Process) -> Step:
    """Return the last step."""
    args = process["args"]
    return Step("exec", tuple(args), tuple(process.get("env", [])), tuple(candidates(process)),
                text=f"execute {args[0]}")  # fmt: skip


def candidates(process: oci.Process) -> list[str]:
    """Return the paths at which the program may be, as execvp(3) would try them."""
    name = process["args"][0]
    if "/" in name:
        return [name]
    path = DEFAULT_PATH
    for line in process.get("env", []):
        if line.startswith("PATH="):
            path = line[5:]
    return [f"{folder or '.'}/{name}" for folder in path.split(":")] if name else ["./"]
