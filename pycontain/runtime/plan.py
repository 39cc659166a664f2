"""From an OCI configuration to a plan: which kernel steps, in which order.

Pure: nothing is opened or asked here. The order is the kernel's: namespaces before what lives in
them, mounts from the root up, masks over the mounts, the root changed last, and privileges given up
at the very end.
"""

from __future__ import annotations

from pycontain.errors import InvalidInput
from pycontain.kernel.mount import ATTR_RDONLY, MS_PRIVATE, MS_REC, MS_SLAVE
from pycontain.runtime import check, mounts, privileges
from pycontain.runtime.steps import Handle, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.model import oci
    from pycontain.runtime.links import Links

ROOT = Handle("given", "root")
CGROUP = Handle("given", "cgroup")
FIFO = Handle("given", "fifo")
FAILURE = Handle("given", "failure file")

CLONE_FLAGS = {
    "time": 0x80,
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
NOTHING = "/"
"""The program of a container that was given none: it can be created, and not started."""

_NO_PROCESS: oci.Process = {"args": [NOTHING], "cwd": "/"}
SYNC_CREATED = "created"
SYNC_HOOKS = "hooks"

_SIGKILL = 9


class Settings:
    """What a plan needs beside the configuration.

    Attributes:
        rootless: inside a user namespace: device nodes are shown, not made.
        cgroup: the container has a cgroup of its own (``CGROUP`` is given).
        devices: the device program, None where it cannot be attached.
        seccomp: program and flags of the filter, None for unconfined.
        size: rows and columns of the terminal.
        inherit: how many descriptors from 3 on the program gets (``inherited``).
        handed: targets of the binds whose mounts the caller brings (``handed``).
        links: the network devices that it gets; none but the loopback where it is None.
    """

    __slots__ = ("cgroup", "devices", "handed", "inherit", "links", "rootless", "seccomp", "size")

    def __init__(
        self,
        *,
        rootless: bool = False,
        cgroup: bool = True,
        devices: bytes | None = None,
        seccomp: tuple[bytes, int] | None = None,
        size: tuple[int, int] = (0, 0),
        inherit: int = 0,
        handed: Iterable[str] = (),
        links: Links | None = None,
    ) -> None:
        self.links = links
        self.inherit = inherit
        self.handed = frozenset(handed)
        self.rootless = rootless
        self.cgroup = cgroup
        self.devices = devices
        self.seccomp = seccomp
        self.size = size


class Detached:
    """How a container differs that no monitor keeps, under the OCI runtime face.

    Attributes:
        keyring: a session keyring of its own.
        pivot: leave the old root by pivot_root; else by chroot, where that cannot be.
        inherit: how many descriptors from 3 on the program gets (``inherited``).
        state: what a hook in the container reads, around the pid as it is there.
        wait: begin with a wait for ``start``.
        entered: the caller is in the container's user namespace already.
        rootfs: where hooks of the container's namespaces expect its root: on the host's path.
    """

    __slots__ = ("entered", "inherit", "keyring", "pivot", "rootfs", "state", "wait")

    def __init__(
        self,
        *,
        keyring: bool = True,
        pivot: bool = True,
        inherit: int = 0,
        state: Mapping[str, tuple[str, str]] | None = None,
        wait: bool = True,
        rootfs: str = "/",
        entered: bool = False,
    ) -> None:
        self.keyring = keyring
        self.pivot = pivot
        self.inherit = inherit
        self.state = state or {}
        self.wait = wait
        self.rootfs = rootfs
        self.entered = entered


def inherited(number: int) -> Handle:
    """Return the handle of the descriptor that the program finds at `number`."""
    return Handle("given", f"inherited {number}")


def handed(target: str) -> Handle:
    """Return the handle of the mount that the caller brings for the bind at `target`."""
    return Handle("given", f"mount for {target}")


def container(spec: oci.Spec, settings: Settings, detached: Detached | None = None) -> list[Step]:
    """Return the plan that starts the container that `spec` describes.

    Raises:
        InvalidInput: the configuration asks for something that cannot be.
    """
    linux = spec.get("linux", {})
    process = spec.get("process", _NO_PROCESS)
    new, joined = _namespaces(linux.get("namespaces", []))
    if detached and detached.entered:
        new.remove("user")
    first, later = _joins(joined, early=detached is not None)
    steps: list[Step] = []
    if settings.cgroup:
        steps.append(Step("cgroup", CGROUP))
        if settings.devices is not None:
            steps.append(
                Step("devices", CGROUP, settings.devices, text="attach device rules to the cgroup")
            )
    steps += first
    if "time" in new:
        steps.append(_time(linux.get("timeOffsets", {})))
    # A cgroup namespace shows as its root the cgroup that its maker is in, and clone makes it
    # while the parent is still that maker: it is made afterwards (cgroup_namespaces(7)). A time
    # namespace is never made by clone: its offsets are written before anybody is in it.
    flags = sum(CLONE_FLAGS[kind] for kind in new if kind not in ("cgroup", "time"))
    steps.append(Step("clone", flags, text=f"clone a process with new {_list(new)} namespaces"))
    if detached:
        steps.append(Step("sync", SYNC_CREATED, text="record the container's process"))
    steps += _user(linux, new)
    steps += privileges.oom_score(process)
    if settings.links:
        steps += settings.links.host
    steps += later
    steps += _identity(new, joined, detached)
    if "cgroup" in new:
        flag = CLONE_FLAGS["cgroup"]
        steps.append(Step("unshare", flag, text="make the cgroup namespace"))
    steps.append(_session(detached))
    steps += _names(spec, new, settings)
    steps += _root(spec, settings, detached)
    steps += privileges.label(process)
    steps += _process(process, settings, detached, spec)
    return steps


def execution(
    process: oci.Process,
    join: Step,
    settings: Settings,
    detached: Detached | None = None,
    personality: oci.Personality | None = None,
    memory_policy: oci.MemoryPolicy | None = None,
) -> list[Step]:
    """Return the plan that starts `process` in a running container, entered by `join`.

    Args:
        process: what is started.
        join: the step that enters the container's namespaces.
        settings: the rest.
        detached: no monitor keeps it.
        personality: the container's.
        memory_policy: the container's.
    """
    handle, flags = join.args[0], join.args[1]
    assert isinstance(handle, Handle)
    assert isinstance(flags, int)
    steps = [Step("cgroup", CGROUP)] if settings.cgroup else []
    steps += privileges.initial_affinity(process)
    if flags & CLONE_FLAGS["pid"]:
        flag = CLONE_FLAGS["pid"]
        steps.append(Step("join_first", handle, flag, text="join the container's pid namespace"))
    steps.append(Step("clone", 0, text="clone a process"))
    steps += privileges.oom_score(process)
    steps += privileges.final_affinity(process)
    steps += privileges.label(process)
    rest = flags & ~CLONE_FLAGS["pid"]
    steps.append(Step("join", handle, rest, text="join the container's namespaces"))
    if flags & CLONE_FLAGS["user"] or (detached and detached.entered):
        steps.append(Step("identity", 0, 0, text="become root of the user namespace"))
    steps.append(Step("enter", text="enter the container's root"))
    steps.append(_session(detached))
    if process.get("terminal"):
        steps.append(Step("console", *settings.size, 0, text="open a terminal in the container"))
    linux: oci.Linux = {}
    if personality:
        linux["personality"] = personality
    if memory_policy:
        linux["memoryPolicy"] = memory_policy
    steps += _process(process, settings, detached, {"linux": linux})
    return steps


def _list(words: Iterable[str]) -> str:
    return ", ".join(words) or "no"


def _namespaces(entries: Sequence[oci.Namespace]) -> tuple[list[str], dict[str, str]]:
    new: list[str] = []
    joined: dict[str, str] = {}
    for entry in entries:
        kind = entry["type"]
        if kind not in CLONE_FLAGS:
            raise InvalidInput(f"namespace {kind!r}: there is no such kind")
        if kind in new or kind in joined:
            raise InvalidInput(f"namespace {kind!r}: given twice")
        path = entry.get("path")
        if path:
            joined[kind] = path
        else:
            new.append(kind)
    if "mount" not in new:
        raise InvalidInput("namespaces: a container needs a mount namespace of its own")
    return new, joined


def _joins(joined: Mapping[str, str], *, early: bool) -> tuple[list[Step], list[Step]]:
    """The steps that join namespaces, before the clone and after it.

    A pid namespace is entered by children only. Others are joined in the clone, the user namespace
    first, because it gives the rights over the rest. A process that ends after the clone can do
    better (`early`): it joins everything while it has the rights of where it comes from, the user
    namespace last, so that the clone's new namespaces belong to that one.
    """
    order = sorted(joined, key=lambda kind: (kind == "user") == early)
    steps = {
        kind: Step("join_first" if early or kind == "pid" else "join", Handle("file", joined[kind]),
                   CLONE_FLAGS[kind], text=f"join {kind} namespace {joined[kind]}")
        for kind in order
    }  # fmt: skip
    return (
        [step for step in steps.values() if step.name == "join_first"],
        [step for step in steps.values() if step.name == "join"],
    )


def _time(offsets: Mapping[str, Mapping[str, int]]) -> Step:
    lines = "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in offsets.items()
    )
    return Step("time", lines, text="make the time namespace and write its offsets")


def _user(linux: oci.Linux, new: Sequence[str]) -> list[Step]:
    if "user" not in new:
        return []
    uids, gids = _maps(linux)
    if not uids or not gids:
        raise InvalidInput("user namespace: it needs uidMappings and gidMappings")
    return [Step("id_maps", uids, gids, text="write the id maps")]


def _maps(linux: oci.Linux) -> tuple[str, str]:
    return (
        mounts.id_map(linux.get("uidMappings", [])),
        mounts.id_map(linux.get("gidMappings", [])),
    )


def _identity(
    new: Sequence[str], joined: Mapping[str, str], detached: Detached | None
) -> list[Step]:
    entered = detached is not None and detached.entered
    if "user" not in new and "user" not in joined and not entered:
        return []
    return [Step("identity", 0, 0, text="become root of the user namespace")]


def _session(detached: Detached | None) -> Step:
    if detached and not detached.keyring:
        return Step("session", 0, text="start a session")
    return Step("session", 1, text="start a session with a keyring of its own")


def _root(spec: oci.Spec, settings: Settings, detached: Detached | None) -> list[Step]:
    linux = spec.get("linux", {})
    process = spec.get("process", {})
    asked = mounts.PROPAGATION[linux.get("rootfsPropagation") or "rprivate"]
    # What is not private receives from the host, and is made to send only when it is in place:
    # pivot_root(2) refuses a shared root.
    begin = MS_PRIVATE if asked & MS_PRIVATE else MS_SLAVE
    steps = [
        Step("propagation", MS_REC | MS_SLAVE, text="let no mount of ours reach the host"),
        Step("root", ROOT, _place(spec, detached), begin, text="attach the root file system"),
    ]
    steps += _mounts(spec, settings)
    cwd = process.get("cwd") or "/"
    if cwd != "/":
        steps.append(Step("directory", cwd, 0o755, text=f"make the working directory {cwd}"))
    if process.get("terminal"):
        steps.append(Step("console", *settings.size, 1, text="open a terminal on /dev/console"))
    if readonly := linux.get("readonlyPaths"):
        text = f"make {', '.join(readonly)} read-only"
        steps.append(Step("readonly", tuple(readonly), text=text))
    if masked := linux.get("maskedPaths"):
        steps.append(Step("mask", tuple(masked), text=f"hide {', '.join(masked)}"))
    if spec["root"].get("readonly"):
        steps.append(
            Step("attributes", "/", ATTR_RDONLY, 0, 0, text="make the root file system read-only")
        )
    steps += _hooks(spec, detached)
    for name, value in linux.get("sysctl", {}).items():
        # After the hooks: those make the interfaces that net.* may be about.
        path = check.sysctl_path(name)
        steps.append(Step("sysctl", path, value, text=f"set sysctl {name}={value}"))
    pivot = not detached or detached.pivot
    steps.append(
        Step("pivot", int(pivot), text="change into the root file system and drop the host's")
    )
    if begin != MS_PRIVATE:
        name = linux["rootfsPropagation"]
        steps.append(Step("propagation", asked, text=f"make the root file system {name}"))
    return steps


def _place(spec: oci.Spec, detached: Detached | None) -> str:
    """Where the root is attached until it is changed into: out of everybody's way, unless a hook
    looks for it.
    """
    if detached and spec.get("hooks", {}).get("createContainer"):
        return detached.rootfs
    return "/"


def _mounts(spec: oci.Spec, settings: Settings) -> list[Step]:
    linux = spec.get("linux", {})
    entries = spec.get("mounts", [])
    maps = _maps(linux)
    nodes = mounts.devices(linux.get("devices", []), shown=settings.rootless)
    steps = []
    if not any(mounts.is_dev(entry) for entry in entries):
        steps += nodes
    for entry in entries:
        if not mounts.is_new_dev(entry):
            # A /dev that was bound in is somebody else's: nothing is made there.
            target = entry["destination"]
            given = handed(target) if target in settings.handed else None
            steps += mounts.steps(entry, maps, given)
            continue
        # Writable as long as it is filled, and filled right away, so that what is mounted below
        # /dev later covers ours.
        options = entry.get("options", [])
        steps += mounts.steps({**entry, "options": [*options, "rw", "rrw"]}, maps)
        steps += nodes
        if mounts.MountWords(options).whole()[0] & ATTR_RDONLY:
            steps.append(Step("attributes", "/dev", ATTR_RDONLY, 0, 0, text="make /dev read-only"))
    return steps


def _hooks(spec: oci.Spec, detached: Detached | None) -> list[Step]:
    if not detached:
        return []
    hooks = spec.get("hooks", {})
    steps = []
    if hooks.get("prestart") or hooks.get("createRuntime"):
        steps.append(Step("sync", SYNC_HOOKS, text="run the hooks of the runtime's namespaces"))
    return steps + _inner_hooks("createContainer", spec, detached)


def _inner_hooks(kind: str, spec: oci.Spec, detached: Detached) -> list[Step]:
    hooks: Sequence[oci.Hook] = spec.get("hooks", {}).get(kind, [])  # type: ignore[assignment]
    return [
        Step("hook", hook["path"], tuple(hook.get("args") or (hook["path"],)),
             tuple(hook.get("env", ())), hook.get("timeout", 0) * 1000, *detached.state[kind],
             text=f"run {kind} hook {hook['path']}")
        for hook in hooks
    ]  # fmt: skip


def _names(spec: oci.Spec, new: Sequence[str], settings: Settings) -> list[Step]:
    steps = []
    if "network" in new:
        steps.append(Step("loopback", text="bring the loopback interface up"))
    if settings.links:
        steps += settings.links.container
    if spec.get("hostname"):
        steps.append(Step("hostname", spec["hostname"], text=f"set hostname {spec['hostname']}"))
    if spec.get("domainname"):
        name = spec["domainname"]
        steps.append(Step("domainname", name, text=f"set domain name {name}"))
    return steps


def _process(
    process: oci.Process, settings: Settings, detached: Detached | None, spec: oci.Spec
) -> list[Step]:
    steps = privileges.limits(process)
    linux = spec.get("linux", {})
    if "memoryPolicy" in linux:
        steps.append(privileges.memory_policy(linux["memoryPolicy"]))
    if "personality" in linux:
        steps.append(privileges.personality(linux["personality"]))
    cwd = process.get("cwd") or "/"
    steps.append(Step("cwd", cwd, text=f"change to {cwd}"))
    if not detached:
        steps.append(Step("ready", text="record that it runs"))
    drop = privileges.Drop(process, settings.seccomp)
    steps += drop.first
    if not detached:
        # A change of user clears it (prctl(2)).
        steps.append(Step("parent_death", _SIGKILL, text="die with the monitor"))
    steps.append(privileges.umask(process))
    if detached and detached.wait:
        program = process["args"][0]
        if program != NOTHING:
            paths = tuple(privileges.candidates(process))
            steps.append(Step("lookup", paths, text=f"find {program}"))
        steps.append(Step("wait", FIFO, FAILURE, text="wait for start"))
        steps += _inner_hooks("startContainer", spec, detached)
    end = 3 + (detached.inherit if detached else settings.inherit)
    for number in range(3, end):
        text = f"hand over descriptor {number}"
        steps.append(Step("inherit", inherited(number), number, text=text))
    steps.append(Step("close", end, text="close everything else"))
    steps += drop.last
    steps.append(privileges.program(process))
    return steps
