"""The OCI runtime configuration as typed dictionaries (runtime-spec 1.3).

JSON in, JSON out: these types cost nothing at run time, so import this module under
``TYPE_CHECKING`` only. Field names are the specification's own. What another platform's runtime
reads is not here; a document from outside becomes a ``Spec`` by ``runtime.check``.
"""

from typing import Any, Literal, Required, TypedDict


class Root(TypedDict, total=False):
    """The root file system."""

    path: str
    readonly: bool


class IDMapping(TypedDict):
    """One line of a uid or gid map."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """One entry of ``mounts``."""

    destination: Required[str]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


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


class Scheduler(TypedDict, total=False):
    """How the kernel schedules the process, sched_setattr(2); times in nanoseconds."""

    policy: Required[str]
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


IOPriority = TypedDict("IOPriority", {"class": str, "priority": int})
"""The process's turn at block devices, ioprio_set(2)."""


class CPUAffinity(TypedDict, total=False):
    """The processors of an ``exec``, as lists such as ``0-3,7``."""

    initial: str
    final: str


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
    selinuxLabel: str
    scheduler: Scheduler
    ioPriority: IOPriority
    execCPUAffinity: CPUAffinity


class Hook(TypedDict, total=False):
    """A program that is run at a point of the container's life; the time-out in seconds."""

    path: Required[str]
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """The hooks of each kind, in their order."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Namespace(TypedDict, total=False):
    """A namespace that is made (no path) or joined."""

    type: Required[Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]]
    path: str


class Device(TypedDict, total=False):
    """A device node to be made."""

    type: Required[Literal["c", "b", "u", "p"]]
    path: Required[str]
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class NetDevice(TypedDict, total=False):
    """A network interface of the host that is moved into the container, and its name there."""

    name: str


class DeviceRule(TypedDict, total=False):
    """One device rule; without a number it means every number."""

    allow: bool
    type: Literal["a", "c", "b"]
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """Limits of memory, in bytes; -1 means none."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    """Shares of the processors; times in microseconds, lists like ``0-3,7``."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class WeightDevice(TypedDict, total=False):
    """The weight of one block device."""

    major: Required[int]
    minor: Required[int]
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict):
    """The rate of one block device, in bytes or operations a second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Shares and limits of block devices."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """A limit of huge pages of one size (``2MB``), in bytes."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict):
    """The priority of what the container sends through one interface."""

    name: str
    priority: int


class Network(TypedDict, total=False):
    """Class and priorities of the container's packets (cgroup v1)."""

    classID: int
    priorities: list[InterfacePriority]


class Pids(TypedDict, total=False):
    """How many tasks there may be; -1 means any number."""

    limit: int


class RDMA(TypedDict, total=False):
    """Limits of one RDMA device."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """Limits and rules of the cgroup."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, RDMA]
    unified: dict[str, str]


class IntelRdt(TypedDict, total=False):
    """Shares of caches and of memory bandwidth (resctrl)."""

    closID: str
    l3CacheSchema: str
    memBwSchema: str
    schemata: list[str]
    enableMonitoring: bool


class MemoryPolicy(TypedDict, total=False):
    """Which memory nodes are used, set_mempolicy(2)."""

    mode: Required[str]
    nodes: str
    flags: list[str]


class Personality(TypedDict, total=False):
    """The execution domain, personality(2)."""

    domain: Required[Literal["LINUX", "LINUX32"]]
    flags: list[str]


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
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SeccompRule]


class Linux(TypedDict, total=False):
    """The Linux part."""

    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: dict[str, dict[str, int]]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    cgroupsPath: str
    resources: Resources
    rootfsPropagation: str
    seccomp: Seccomp
    sysctl: dict[str, str]
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    personality: Personality


class Spec(TypedDict, total=False):
    """A whole ``config.json``."""

    ociVersion: str
    root: Root
    mounts: list[Mount]
    process: Process
    hostname: str
    domainname: str
    hooks: Hooks
    linux: Linux
    annotations: dict[str, Any]
