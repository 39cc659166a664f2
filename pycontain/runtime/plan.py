"""From an OCI configuration to a plan: which kernel steps, in which order.

Pure: nothing is opened or asked here. The order is the kernel's: namespaces before what lives in
them, mounts from the root up, masks over the mounts, the root changed last, and privileges given up
at the very end.
"""

from __future__ import annotations

import os
import signal
import stat
import struct
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput
from pycontain.kernel import capability
from pycontain.kernel.mount import (
    ATTR_ATIME,
    ATTR_NOATIME,
    ATTR_NODEV,
    ATTR_NODIRATIME,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_NOSYMFOLLOW,
    ATTR_RDONLY,
    ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from pycontain.runtime.steps import Handle, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.model import oci

ROOT = Handle("given", "root")
CGROUP = Handle("given", "cgroup")

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
RLIMITS = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO"
    " RTTIME"
).split()
"""Resource names in the kernel's order (asm-generic/resource.h)."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STANDARD_NODES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_STANDARD_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
)
_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (ATTR_RDONLY, 0),
    "rw": (0, ATTR_RDONLY),
    "nosuid": (ATTR_NOSUID, 0),
    "suid": (0, ATTR_NOSUID),
    "nodev": (ATTR_NODEV, 0),
    "dev": (0, ATTR_NODEV),
    "noexec": (ATTR_NOEXEC, 0),
    "exec": (0, ATTR_NOEXEC),
    "noatime": (ATTR_NOATIME, ATTR_ATIME),
    "relatime": (0, ATTR_ATIME),
    "strictatime": (ATTR_STRICTATIME, ATTR_ATIME),
    "atime": (0, ATTR_ATIME),
    "nodiratime": (ATTR_NODIRATIME, 0),
    "diratime": (0, ATTR_NODIRATIME),
    "nosymfollow": (ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, ATTR_NOSYMFOLLOW),
    "defaults": (0, 0),
}
_PROPAGATION = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE,
    "shared": MS_SHARED,
    "rshared": MS_SHARED,
}


class MountWords:
    """The options of one mount, sorted out.

    Attributes:
        set, clear: ``ATTR_…`` bits.
        propagation: ``MS_PRIVATE`` …, 0 where not said.
        recursive: a bind brings along what is mounted below.
        reach: what holds for the mounts below too: 1 the bits, 2 the propagation.
        data: what is left, for the file system itself.
    """

    __slots__ = ("clear", "data", "propagation", "reach", "recursive", "set")

    def __init__(self, options: Iterable[str]) -> None:
        self.set = self.clear = self.propagation = 0
        self.recursive = False
        self.reach = 0
        self.data: list[str] = []
        for option in options:
            if option in _ATTRIBUTES:
                on, off = _ATTRIBUTES[option]
                self.set = self.set & ~off | on
                self.clear = self.clear & ~on | off
            elif option in _PROPAGATION:
                self.propagation = _PROPAGATION[option]
                self.reach = self.reach & 1 | (2 if option.startswith("r") else 0)
            elif option == "rro":
                self.set |= ATTR_RDONLY
                self.reach |= 1
            elif option == "rbind":
                self.recursive = True
            elif option != "bind":
                self.data.append(option)


class Settings:
    """What a plan needs beside the configuration.

    Attributes:
        rootless: inside a user namespace: device nodes are shown, not made.
        cgroup: the container has a cgroup of its own (``CGROUP`` is given).
        devices: the device program, None where it cannot be attached.
        seccomp: program and flags of the filter, None for unconfined.
        size: rows and columns of the terminal.
    """

    __slots__ = ("cgroup", "devices", "rootless", "seccomp", "size")

    def __init__(
        self,
        *,
        rootless: bool = False,
        cgroup: bool = True,
        devices: bytes | None = None,
        seccomp: tuple[bytes, int] | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        self.rootless = rootless
        self.cgroup = cgroup
        self.devices = devices
        self.seccomp = seccomp
        self.size = size


def container(spec: oci.Spec, settings: Settings) -> list[Step]:
    """Return the plan that starts the container that `spec` describes.

    Raises:
        InvalidInput: the configuration asks for something that cannot be.
    """
    linux = spec.get("linux", {})
    process = spec["process"]
    new, joined = _namespaces(linux.get("namespaces", []))
    steps: list[Step] = []
    if settings.cgroup:
        steps.append(Step("cgroup", CGROUP))
        if settings.devices is not None:
            steps.append(
                Step("devices", CGROUP, settings.devices, text="attach device rules to the cgroup")
            )
    if "pid" in joined:
        path = joined["pid"]
        steps.append(Step("join_pid", Handle("file", path), text=f"join pid namespace {path}"))
    if "timeOffsets" in linux and "time" in new:
        steps.append(_time(linux["timeOffsets"]))
    # A cgroup namespace shows as its root the cgroup that its maker is in, and clone makes it
    # while the parent is still that maker: it is made afterwards (cgroup_namespaces(7)).
    flags = sum(CLONE_FLAGS[kind] for kind in new if kind not in ("cgroup", "time"))
    steps.append(Step("clone", flags, text=f"clone a process with new {_list(new)} namespaces"))
    steps += _oom_score(process)
    for kind, path in joined.items():
        if kind != "pid":
            text = f"join {kind} namespace {path}"
            steps.append(Step("join", Handle("file", path), CLONE_FLAGS[kind], text=text))
    if "cgroup" in new:
        flag = CLONE_FLAGS["cgroup"]
        steps.append(Step("unshare", flag, text="make the cgroup namespace"))
    steps.append(Step("session", text="start a session with a keyring of its own"))
    steps += _identity(spec, new)
    steps += _root(spec, settings)
    steps += _privileges(process, settings)
    return steps


def execution(process: oci.Process, join: Step, settings: Settings) -> list[Step]:
    """Return the plan that starts `process` in a running container, entered by `join`."""
    handle, flags = join.args[0], join.args[1]
    assert isinstance(handle, Handle)
    assert isinstance(flags, int)
    steps = [Step("cgroup", CGROUP)] if settings.cgroup else []
    if flags & CLONE_FLAGS["pid"]:
        steps.append(Step("join_pid", handle, text="join the container's pid namespace"))
    steps.append(Step("clone", 0, text="clone a process"))
    steps += _oom_score(process)
    steps.append(
        Step("join", handle, flags & ~CLONE_FLAGS["pid"], text="join the container's namespaces")
    )
    steps.append(Step("enter", text="enter the container's root"))
    steps.append(Step("session", text="start a session with a keyring of its own"))
    if process.get("terminal"):
        steps.append(Step("console", *settings.size, 0, text="open a terminal in the container"))
    steps += _privileges(process, settings)
    return steps


def _oom_score(process: oci.Process) -> list[Step]:
    if "oomScoreAdj" not in process:
        return []
    value = process["oomScoreAdj"]
    return [Step("oom_score", str(value), text=f"set oom_score_adj to {value}")]


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
    # The user namespace first: it gives the rights over the others.
    return new, dict(sorted(joined.items(), key=lambda item: item[0] != "user"))


def _time(offsets: Mapping[str, Mapping[str, int]]) -> Step:
    lines = "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in offsets.items()
    )
    return Step("time", lines, text="write the offsets of the time namespace")


def _root(spec: oci.Spec, settings: Settings) -> list[Step]:
    linux = spec.get("linux", {})
    process = spec["process"]
    steps = [
        Step("propagation", MS_REC | MS_SLAVE, text="let no mount of ours reach the host"),
        Step("root", ROOT, MS_PRIVATE, text="attach the root file system"),
    ]
    for mount in spec.get("mounts", []):
        steps.append(_mount(mount))
        if mount["destination"] == "/dev" and mount.get("type") == "tmpfs":
            # Right away, so that what is mounted below /dev later covers ours. A /dev that was
            # bound in is somebody else's: nothing is made there.
            steps += _devices(spec, settings)
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
            Step("attributes", "/", ATTR_RDONLY, 0, text="make the root file system read-only")
        )
    steps.append(Step("pivot", text="change into the root file system and drop the host's"))
    # Not before: pivot_root(2) refuses a shared root.
    propagation = linux.get("rootfsPropagation", "")
    if propagation not in ("", "private", "rprivate"):
        flags = _PROPAGATION[propagation] | (MS_REC if propagation.startswith("r") else 0)
        steps.append(Step("propagation", flags, text=f"make the root file system {propagation}"))
    return steps


def _mount(mount: oci.Mount) -> Step:
    kind, target = mount.get("type", "bind"), mount["destination"]
    source = mount.get("source", "")
    options = mount.get("options", [])
    words = MountWords(options)
    said = f" ({', '.join(options)})" if options else ""
    if kind in ("bind", "none") or "bind" in options or "rbind" in options:
        if words.data:
            raise InvalidInput(f"mount {target}: unknown option {words.data[0]!r} for a bind")
        recursive = words.recursive
        return Step(
            "bind", Handle("tree" if recursive else "branch", source), target,
            words.set, words.clear, words.propagation or MS_PRIVATE, words.reach,
            text=f"bind {source} to {target}{said}",
        )  # fmt: skip
    if kind == "cgroup":
        kind = "cgroup2"
    return Step(
        "mount", kind, source or kind, target, words.set, tuple(words.data),
        text=f"mount {kind} on {target}{said}",
    )  # fmt: skip


def _devices(spec: oci.Spec, settings: Settings) -> list[Step]:
    steps = [_node(path, "c", major, minor, settings) for path, major, minor in _STANDARD_NODES]
    steps += [
        _node(
            device["path"], device["type"], device.get("major", 0), device.get("minor", 0),
            settings, device.get("fileMode", 0o666), device.get("uid", 0), device.get("gid", 0),
        )
        for device in spec.get("linux", {}).get("devices", [])
    ]  # fmt: skip
    steps += [
        Step("symlink", target, path, text=f"link {path} to {target}")
        for target, path in _STANDARD_LINKS
    ]
    return steps


def _node(
    path: str,
    kind: str,
    major: int,
    minor: int,
    settings: Settings,
    mode: int = 0o666,
    uid: int = 0,
    gid: int = 0,
) -> Step:
    if settings.rootless:
        # mknod is refused in a user namespace: the host's node is shown instead.
        return Step("bind", Handle("branch", path), path, 0, 0, MS_PRIVATE, 0,
                    text=f"show the host's {path}")  # fmt: skip
    bits = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[kind]
    return Step("node", path, bits | mode & 0o777, os.makedev(major, minor), uid, gid,
                text=f"make device {path} ({kind} {major}:{minor})")  # fmt: skip


def _identity(spec: oci.Spec, new: Sequence[str]) -> list[Step]:
    steps = []
    if "network" in new:
        steps.append(Step("loopback", text="bring the loopback interface up"))
    if spec.get("hostname"):
        steps.append(Step("hostname", spec["hostname"], text=f"set hostname {spec['hostname']}"))
    if spec.get("domainname"):
        name = spec["domainname"]
        steps.append(Step("domainname", name, text=f"set domain name {name}"))
    for name, value in spec.get("linux", {}).get("sysctl", {}).items():
        path = name.replace(".", "/")
        steps.append(Step("sysctl", path, value, text=f"set sysctl {name}={value}"))
    return steps


def _privileges(process: oci.Process, settings: Settings) -> list[Step]:
    user = process.get("user", {})
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = user.get("additionalGids", [])
    sets = process.get("capabilities", {})
    steps = [_rlimit(limit) for limit in process.get("rlimits", [])]
    steps.append(
        Step("cwd", process.get("cwd") or "/", text=f"change to {process.get('cwd') or '/'}")
    )
    steps.append(Step("ready", text="record that it runs"))
    filters = []
    if settings.seccomp is not None:
        filters.append(Step("seccomp", *settings.seccomp, text="install the seccomp filter"))
    confined = process.get("noNewPrivileges", False)
    if confined:
        steps.append(Step("no_new_privs", text="set no_new_privs"))
    else:
        # Without no_new_privs a filter needs CAP_SYS_ADMIN (seccomp(2)): before it is given up.
        steps += filters
    masks = [
        capability.mask(sets.get("bounding", [])),
        capability.mask(sets.get("permitted", [])),
        capability.mask(sets.get("effective", [])),
        capability.mask(sets.get("inheritable", [])),
        capability.mask(sets.get("ambient", [])),
    ]
    names = [name.removeprefix("CAP_").lower() for name in sets.get("permitted", [])]
    steps.append(
        Step("credentials", uid, gid, struct.pack(f"={len(groups)}I", *groups), *masks,
             text=f"become {uid}:{gid} with capabilities {_list(names)}")
    )  # fmt: skip
    steps.append(Step("parent_death", int(signal.SIGKILL), text="die with the monitor"))
    umask = user.get("umask", 0o022)
    steps.append(Step("umask", umask, text=f"set umask {umask:04o}"))
    if confined:
        steps += filters
    args = process["args"]
    steps.append(
        Step("exec", tuple(args), tuple(process.get("env", [])), tuple(candidates(process)),
             text=f"execute {args[0]}")
    )  # fmt: skip
    return steps


def _rlimit(limit: oci.Rlimit) -> Step:
    name = limit["type"].removeprefix("RLIMIT_")
    if name not in RLIMITS:
        raise InvalidInput(f"resource limit {limit['type']!r}: there is no such limit")
    return Step("rlimit", RLIMITS.index(name), limit["soft"], limit["hard"],
                text=f"limit {name.lower()} to {limit['soft']}:{limit['hard']}")  # fmt: skip


def candidates(process: oci.Process) -> list[str]:
    """Return the paths at which the program may be, as execvp(3) would try them."""
    program = process["args"][0]
    if "/" in program:
        return [program]
    path = DEFAULT_PATH
    for line in process.get("env", []):
        if line.startswith("PATH="):
            path = line[5:]
    return [f"{folder or '.'}/{program}" for folder in path.split(":")] if program else ["./"]
