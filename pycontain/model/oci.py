"""The OCI runtime configuration as typed dictionaries (runtime-spec 1.2, config.md).

JSON in, JSON out: these types cost nothing at run time, so import this module under
``TYPE_CHECKING`` only. Field names are the specification's own.
"""

from typing import Any, Literal, TypedDict


class Root(TypedDict, total=False):
    """The root file system."""

    path: str
    readonly: bool


class Mount(TypedDict, total=False):
    """One entry of ``mounts``."""

    destination: str
    type: str
    source: str
    options: list[str]


class ConsoleSize(TypedDict):
    """Terminal size in characters."""

    height: int
    width: int


class User(TypedDict, total=False):
    """Who the process runs as."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]


class Capabilities(TypedDict, total=False):
    """The five sets, by name (``CAP_…``)."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """One resource limit (``RLIMIT_…``)."""

    type: str
    soft: int
    hard: int


class Process(TypedDict, total=False):
    """The container's process."""

    terminal: bool
    consoleSize: ConsoleSize
    user: User
    args: list[str]
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    oomScoreAdj: int
    apparmorProfile: str


class Namespace(TypedDict, total=False):
    """A namespace that is made (no path) or joined."""

    type: Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
    path: str


class IDMapping(TypedDict):
    """One line of a uid or gid map."""

    containerID: int
    hostID: int
    size: int


class Device(TypedDict, total=False):
    """A device node to be made."""

    type: Literal["c", "b", "u", "p"]
    path: str
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class DeviceRule(TypedDict, total=False):
    """One device rule; without a number it means every number."""

    allow: bool
    type: Literal["a", "c", "b"]
    major: int
    minor: int
    access: str


class Resources(TypedDict, total=False):
    """Limits and rules of the cgroup."""

    devices: list[DeviceRule]


class SeccompArg(TypedDict, total=False):
    """A condition on one argument of a system call."""

    index: int
    value: int
    valueTwo: int
    op: str


class SeccompRule(TypedDict, total=False):
    """What happens to some system calls."""

    names: list[str]
    action: str
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    """The seccomp profile."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    syscalls: list[SeccompRule]


class Linux(TypedDict, total=False):
    """The Linux part."""

    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: dict[str, dict[str, int]]
    devices: list[Device]
    cgroupsPath: str
    resources: Resources
    rootfsPropagation: str
    seccomp: Seccomp
    sysctl: dict[str, str]
    maskedPaths: list[str]
    readonlyPaths: list[str]


class Spec(TypedDict, total=False):
    """A whole ``config.json``."""

    ociVersion: str
    root: Root
    mounts: list[Mount]
    process: Process
    hostname: str
    domainname: str
    linux: Linux
    annotations: dict[str, Any]
