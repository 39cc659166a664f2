"""Is a configuration one that can be carried out? Asked of the whole before anything is done.

``fields`` says what each field of a parsed ``config.json`` (runtime-spec 1.3) may be, the rules
here what they must agree on, and ``UNSUPPORTED`` what pycontain leaves to others. Pure: the host is
not asked, so whether a path exists, or whether a namespace file is the host's own, is for those who
open it; and what a limit may be is for ``cgroups``.

What the specification lets a runtime decide is decided like this: a newer minor version is
accepted, unknown fields are ignored, an unknown capability is no error (``unknown_capabilities``
lists them, to be warned about), and a relative mount destination begins at ``/``.
"""

from __future__ import annotations

from pycontain.errors import InvalidInput
from pycontain.kernel.capability import NUMBERS
from pycontain.runtime.fields import (
    DEADLINE,
    ERRNO_LIMITS,
    NOTIFY,
    PROCESS,
    PROPAGATIONS,
    REAL_TIME,
    RESOURCES,
    SPEC,
    VERSION,
)
from pycontain.runtime.schema import Wrong, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontain.model import oci

_PLATFORM = "another platform's configuration"

# Where, what asks for nothing there, and why anything else is refused when a container is created.
UNSUPPORTED: tuple[tuple[str, object, str], ...] = (
    ("process.selinuxLabel", "", "SELinux labels are not supported"),
    ("linux.mountLabel", "", "SELinux labels are not supported"),
    ("linux.intelRdt", None, "resctrl is not supported"),
    ("vm", None, "virtual machines are not supported"),
)


def check(document: object, *, name: str = "config.json") -> oci.Spec:
    """Return the configuration in `document`, if all of it can be carried out.

    ``process`` may be absent (config.md: only `start` needs it); ``root`` may not.

    Args:
        document: as json.loads gives it; it is not changed.
        name: begins the messages.

    Returns:
        A copy without what is unknown, null, or to be ignored, mount destinations absolute.

    Raises:
        InvalidInput: with the place, such as ``config.json: process.args[0]: must be …``.
    """
    try:
        VERSION.read(document)
        _refuse_unsupported(document, "")
        spec: oci.Spec = SPEC.read(_without_idle_size(document))
        _rules(spec)
    except Wrong as wrong:
        raise _invalid(name, wrong) from None
    return spec


def check_process(
    document: object, *, spec: oci.Spec | None = None, name: str = "process.json"
) -> oci.Process:
    """Return the process in `document`, if it can be started in the container of `spec`.

    Args:
        document: as json.loads gives it; it is not changed.
        spec: the container's configuration, None where it does not matter.
        name: begins the messages.

    Returns:
        A copy without what is unknown, null, or to be ignored.

    Raises:
        InvalidInput: with the place, such as ``process.json: args[0]: must be …``.
    """
    try:
        _refuse_unsupported(document, "process.")
        process: oci.Process = PROCESS.read(_without_size_of_none(document))
        _process(process, {} if spec is None else spec.get("linux", {}))
    except Wrong as wrong:
        raise _invalid(name, wrong) from None
    return process


def check_resources(document: object, *, name: str = "resources") -> oci.Resources:
    """Return the cgroup's limits in `document`, which `update` gives alone.

    Args:
        document: as json.loads gives it; it is not changed.
        name: begins the messages.

    Raises:
        InvalidInput: with the place, such as ``resources: memory.limit: must be …``.
    """
    try:
        resources: oci.Resources = RESOURCES.read(document)
        _resources(resources)
    except Wrong as wrong:
        raise _invalid(name, wrong) from None
    return resources


def unknown_capabilities(spec: oci.Spec) -> list[str]:
    """Return the names in ``process.capabilities`` that no kernel knows, each once, sorted.

    config.md, "Linux Process": they are warned about, and the container starts without them.
    """
    sets: Mapping[str, Any] = spec.get("process", {}).get("capabilities", {})
    return sorted({name for names in sets.values() for name in names if name not in NUMBERS})


def sysctl_path(key: str) -> str:
    """Return the path below /proc/sys of a kernel parameter, sysctl(8).

    The separator that comes first separates; the other then stands for what cannot be written: the
    interface of ``net.ipv4.conf.eth0/5.forwarding`` is eth0.5, as in ``net/ipv4/conf/eth0.5/…``.
    """
    dot, slash = key.find("."), key.find("/")
    if slash < 0:
        return key.replace(".", "/")
    if dot < 0 or slash < dot:
        return key
    return key.translate({ord("."): "/", ord("/"): "."})


def _invalid(name: str, wrong: Wrong) -> InvalidInput:
    return InvalidInput(": ".join(part for part in (name, wrong.path, wrong.reason) if part))


def _refuse_unsupported(document: object, below: str) -> None:
    for path, nothing, reason in UNSUPPORTED:
        if not path.startswith(below):
            continue
        place = path.removeprefix(below)
        value = _at(document, place)
        if value is not None and value != nothing:
            raise Wrong(place, reason)


def _at(document: object, path: str) -> object:
    for key in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def _without_idle_size(document: Any) -> Any:
    process = _at(document, "process")
    clean = _without_size_of_none(process)
    return document if clean is process else {**document, "process": clean}


def _without_size_of_none(process: Any) -> Any:
    """Return `process` without the size of a terminal that it does not have.

    config.md: runtimes ignore it then, whatever it is.
    """
    if not isinstance(process, dict) or process.get("terminal") or "consoleSize" not in process:
        return process
    return {key: value for key, value in process.items() if key != "consoleSize"}


def _rules(spec: oci.Spec) -> None:
    linux = spec.get("linux", {})
    namespaces = _kinds(linux.get("namespaces", []))
    _id_maps(linux, "linux", ("user" in namespaces, "no user namespace in linux.namespaces"))
    if linux.get("timeOffsets") and namespaces.get("time") is not True:
        raise Wrong("linux.timeOffsets", "no new time namespace in linux.namespaces")
    for key in ("hostname", "domainname"):
        if spec.get(key) and "uts" not in namespaces:
            raise Wrong(key, "no uts namespace in linux.namespaces: it would be the host's")
    for key in linux.get("sysctl", {}):
        _sysctl(key, namespaces)
    for at, mount in enumerate(spec.get("mounts", [])):
        _mount(mount, f"mounts[{at}]", "user" in namespaces)
    for at, device in enumerate(linux.get("devices", [])):
        _device(device, f"linux.devices[{at}]")
    if linux.get("netDevices"):
        _below("linux.netDevices", _net_devices, linux["netDevices"], namespaces)
    if "memoryPolicy" in linux:
        _below("linux.memoryPolicy", _memory_policy, linux["memoryPolicy"])
    if "seccomp" in linux:
        _seccomp(linux["seccomp"])
    if "resources" in linux:
        _below("linux.resources", _resources, linux["resources"])
    if "process" in spec:
        _below("process", _process, spec["process"], linux)


def _below(path: str, rule: Any, *args: object) -> None:
    try:
        rule(*args)
    except Wrong as wrong:
        raise wrong.under(path) from None


def _kinds(namespaces: Sequence[oci.Namespace]) -> dict[str, bool]:
    """Return the kinds that are not the host's, each with whether it is made anew."""
    kinds: dict[str, bool] = {}
    for at, namespace in enumerate(namespaces):
        kind = namespace["type"]
        if kind in kinds:
            raise Wrong(f"linux.namespaces[{at}].type", f"{show(kind)} is given twice")
        kinds[kind] = not namespace.get("path")
    return kinds


def _id_maps(owner: Mapping[str, Any], path: str, allowed: tuple[bool, str]) -> None:
    for key in ("uidMappings", "gidMappings"):
        entries = owner.get(key)
        if entries and not allowed[0]:
            raise Wrong(f"{path}.{key}", allowed[1])
        if entries:
            _id_map(entries, f"{path}.{key}")


def _id_map(entries: Sequence[oci.IDMapping], path: str) -> None:
    # UID_GID_MAP_MAX_EXTENTS, user_namespaces(7).
    if len(entries) > 340:
        raise Wrong(path, f"the kernel takes 340 entries, not {len(entries)}")
    for side in ("containerID", "hostID"):
        ranges = sorted((entry[side], entry["size"], at) for at, entry in enumerate(entries))
        end = 0
        for first, size, at in ranges:
            if first < end:
                raise Wrong(f"{path}[{at}].{side}", "overlaps another entry")
            end = first + size
            # The kernel adds in 32 bits, and the last id is no id.
            if end >= 1 << 32:
                raise Wrong(f"{path}[{at}].size", f"ends beyond the last id, {(1 << 32) - 2}")


# What ipc_namespaces(7) names, and what came later (ipc/ipc_sysctl.c).
_IPC_SYSCTLS = frozenset(
    f"kernel/{name}"
    for name in (
        "msgmax msgmnb msgmni msg_next_id auto_msgmni sem sem_next_id shmall shmmax shmmni"
        " shm_next_id shm_rmid_forced"
    ).split()
)


def _sysctl(key: str, namespaces: Mapping[str, bool]) -> None:
    path, where = sysctl_path(key), f"linux.sysctl[{show(key)}]"
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise Wrong(where, "is not the name of a kernel parameter")
    if path == "kernel/hostname":
        raise Wrong(where, "is set by the field hostname")
    kind = _sysctl_namespace(path)
    if not kind:
        raise Wrong(where, "belongs to no namespace: it would be the host's")
    if kind not in namespaces:
        raise Wrong(where, f"no {kind} namespace in linux.namespaces: it would be the host's")


def _sysctl_namespace(path: str) -> str:
    if path in _IPC_SYSCTLS or path.startswith("fs/mqueue/"):
        return "ipc"
    if path == "kernel/domainname":
        return "uts"
    return {"net": "network", "user": "user"}.get(path.partition("/")[0], "")


def _mount(mount: oci.Mount, path: str, has_user: bool) -> None:
    if not mount["destination"].startswith("/"):
        mount["destination"] = "/" + mount["destination"]
    options = mount.get("options", [])
    propagations = {option for option in options if option in PROPAGATIONS}
    if len(propagations) > 1:
        listed = " and ".join(sorted(propagations))
        raise Wrong(f"{path}.options", f"{listed} exclude each other")
    bind = "bind" in options or "rbind" in options
    if not mount.get("type") and not bind and "remount" not in options:
        raise Wrong(f"{path}.type", "missing, and neither bind nor rbind in options")
    if bind and not mount.get("source"):
        raise Wrong(f"{path}.source", "missing for a bind mount")
    _idmap(mount, path, has_user)


def _idmap(mount: oci.Mount, path: str, has_user: bool) -> None:
    _id_maps(mount, path, (True, ""))
    uids, gids = mount.get("uidMappings"), mount.get("gidMappings")
    if bool(uids) != bool(gids):
        missing = "gidMappings" if uids else "uidMappings"
        raise Wrong(f"{path}.{missing}", "uidMappings and gidMappings need each other")
    words = {"idmap", "ridmap"}.intersection(mount.get("options", []))
    if len(words) > 1:
        raise Wrong(f"{path}.options", "idmap and ridmap exclude each other")
    if words and not uids and not has_user:
        raise Wrong(
            f"{path}.options",
            f"{words.pop()} without mappings, and no user namespace in linux.namespaces",
        )


def _device(device: oci.Device, path: str) -> None:
    for key in ("major", "minor"):
        if key not in device and device["type"] != "p":
            raise Wrong(f"{path}.{key}", "missing")


def _net_devices(devices: Mapping[str, oci.NetDevice], namespaces: Mapping[str, bool]) -> None:
    if "network" not in namespaces:
        raise Wrong("", "no network namespace in linux.namespaces: they would stay the host's")
    seen: set[str] = set()
    for key, device in devices.items():
        name = device.get("name") or key
        if name in seen and "%" not in name:
            raise Wrong(f"[{show(key)}].name", f"{show(name)} is given twice")
        seen.add(name)


_NODELESS = ("MPOL_DEFAULT", "MPOL_LOCAL")
_NODES_BY_CHOICE = ("MPOL_PREFERRED",)
_BALANCING = "MPOL_F_NUMA_BALANCING"
_BALANCED = ("MPOL_BIND", "MPOL_PREFERRED_MANY")
_PLACING = ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES")


def _memory_policy(policy: oci.MemoryPolicy) -> None:
    """Check what set_mempolicy(2) would answer EINVAL to, and what it would silently ignore."""
    mode, nodes, flags = policy["mode"], policy.get("nodes", ""), policy.get("flags", [])
    if nodes and mode in _NODELESS:
        raise Wrong("nodes", f"{mode} takes none")
    if not nodes and mode not in (*_NODELESS, *_NODES_BY_CHOICE):
        raise Wrong("nodes", f"missing for {mode}")
    if _BALANCING in flags and mode not in _BALANCED:
        raise Wrong("flags", f"{mode} takes no {_BALANCING}")
    placing = [flag for flag in _PLACING if flag in flags]
    if placing and not nodes:
        raise Wrong("flags", f"{placing[0]} is nothing without nodes")
    if len(placing) > 1:
        raise Wrong("flags", f"{' and '.join(placing)} exclude each other")


def _seccomp(seccomp: oci.Seccomp) -> None:
    action = seccomp["defaultAction"]
    _errno(action, seccomp.get("defaultErrnoRet"), "linux.seccomp.defaultErrnoRet")
    actions = {action}
    for at, rule in enumerate(seccomp.get("syscalls", [])):
        _errno(rule["action"], rule.get("errnoRet"), f"linux.seccomp.syscalls[{at}].errnoRet")
        actions.add(rule["action"])
    if not seccomp.get("listenerPath"):
        if NOTIFY in actions:
            raise Wrong("linux.seccomp.listenerPath", f"missing for {NOTIFY}")
        if seccomp.get("listenerMetadata"):
            raise Wrong("linux.seccomp.listenerMetadata", "is nothing without listenerPath")


def _errno(action: str, value: int | None, path: str) -> None:
    if value is None:
        return
    if action not in ERRNO_LIMITS:
        raise Wrong(path, f"{action} takes no errno")
    if value > ERRNO_LIMITS[action]:
        raise Wrong(path, f"must be {ERRNO_LIMITS[action]} or less, not {value}")


def _resources(resources: oci.Resources) -> None:
    for at, device in enumerate(resources.get("blockIO", {}).get("weightDevice", [])):
        if "weight" not in device and "leafWeight" not in device:
            raise Wrong(f"blockIO.weightDevice[{at}]", "needs weight or leafWeight")
    for name, limits in resources.get("rdma", {}).items():
        if not limits:
            raise Wrong(f"rdma[{show(name)}]", "needs hcaHandles or hcaObjects")


def _process(process: oci.Process, linux: oci.Linux) -> None:
    _rlimits(process.get("rlimits", []))
    if "scheduler" in process:
        _scheduler(process["scheduler"])
    if _kinds(linux.get("namespaces", [])).get("user"):
        root: oci.User = {"uid": 0, "gid": 0}
        _mapped(process.get("user", root), linux)


def _rlimits(limits: Sequence[oci.Rlimit]) -> None:
    seen: set[str] = set()
    for at, limit in enumerate(limits):
        if limit["type"] in seen:
            raise Wrong(f"rlimits[{at}].type", f"{limit['type']} is given twice")
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise Wrong(f"rlimits[{at}].soft", f"{limit['soft']} is above hard, {limit['hard']}")


def _scheduler(scheduler: oci.Scheduler) -> None:
    """Check what sched_setattr(2) would answer EINVAL to, and what it would silently ignore."""
    policy, priority = scheduler["policy"], scheduler.get("priority", 0)
    if policy in REAL_TIME and not 1 <= priority <= 99:
        raise Wrong("scheduler.priority", f"must be from 1 to 99 for {policy}, not {priority}")
    if policy not in REAL_TIME and priority:
        raise Wrong("scheduler.priority", f"must be 0 for {policy}, not {priority}")
    if policy != DEADLINE:
        for key in ("runtime", "deadline", "period"):
            if scheduler.get(key):
                raise Wrong(f"scheduler.{key}", f"{policy} takes none, only {DEADLINE}")
        return
    runtime, deadline = scheduler.get("runtime", 0), scheduler.get("deadline", 0)
    period = scheduler.get("period", 0) or deadline
    if not 1024 <= runtime <= deadline <= period < 1 << 63:
        raise Wrong("scheduler", "must have 1024 <= runtime <= deadline <= period")


def _mapped(user: oci.User, linux: oci.Linux) -> None:
    """Check that the process's ids exist in the user namespace that is made for it."""
    uids, gids = linux.get("uidMappings", []), linux.get("gidMappings", [])
    _mapped_id(user["uid"], uids, "user.uid")
    _mapped_id(user["gid"], gids, "user.gid")
    for at, gid in enumerate(user.get("additionalGids", [])):
        _mapped_id(gid, gids, f"user.additionalGids[{at}]")


def _mapped_id(number: int, entries: Sequence[oci.IDMapping], path: str) -> None:
    for entry in entries:
        if 0 <= number - entry["containerID"] < entry["size"]:
            return
    raise Wrong(path, f"{number} is not mapped into the user namespace")
