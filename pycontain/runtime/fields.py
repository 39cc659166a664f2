"""The fields of a ``config.json`` as kinds: runtime-spec 1.3, config.md and config-linux.md.

What one value may be, taken alone; what several must agree on is in ``check``. Where the kernel
takes less than the specification's type, the kernel's range is here. Other platforms' fields are
absent.
"""

from __future__ import annotations

from pycontain.errors import InvalidInput
from pycontain.runtime.schema import Flag, List, Map, Number, Object, Text, Word, show

_INT32 = Number(-(1 << 31), (1 << 31) - 1)
_INT64 = Number(-(1 << 63), (1 << 63) - 1)
_UINT16 = Number(0, (1 << 16) - 1)
_UINT32 = Number(0, (1 << 32) - 1)
_UINT64 = Number(0, (1 << 64) - 1)
# The last one means "leave it as it is" in setresuid(2) and chown(2).
_ID = Number(0, (1 << 32) - 2)
_FLAG = Flag()
_TEXT = Text()
_TEXTS = List(_TEXT)


def _filled(text: str) -> str | None:
    return None if text else "must not be empty"


def _absolute(text: str) -> str | None:
    return None if text.startswith("/") else f"must be an absolute path, not {show(text)}"


def _absolute_or_empty(text: str) -> str | None:
    return _absolute(text) if text else None


def _line(text: str) -> str | None:
    return f"newline in {show(text)}" if "\n" in text else None


def _file_name(text: str) -> str | None:
    if text in ("", ".", "..") or "/" in text:
        return f"must be a file name, not {show(text)}"
    return _line(text)


def _device_name(text: str) -> str | None:
    # dev_valid_name, net/core/dev.c; IFNAMSIZ, netdevice(7).
    if text in ("", ".", "..") or len(text.encode()) > 15 or set(text) & set("/:% \t\n\v\f\r"):
        return f"must be the name of a network device, not {show(text)}"
    return None


def _new_device_name(text: str) -> str | None:
    # Empty stands for absent; of %d the kernel makes a number that is free.
    return _device_name(text.replace("%d", "0", 1)) if text else None


def _cgroups_path(text: str) -> str | None:
    if ".." in text.split("/"):
        return f"leaves its hierarchy: {show(text)}"
    return _line(text)  # the kernel refuses it in the name of a cgroup


def _host_name(text: str) -> str | None:
    # __NEW_UTS_LEN, sethostname(2).
    if len(text.encode()) > 64:
        return f"must be 64 bytes or shorter, not {show(text)}"
    return _line(text)


def _access(text: str) -> str | None:
    return f"must be made of r, w and m, not {show(text)}" if text.strip("rwm") else None


def _cpus(text: str) -> str | None:
    try:
        cpu_list(text)
    except InvalidInput as err:
        return err.message
    return None


def _nodes(text: str) -> str | None:
    try:
        node_list(text)
    except InvalidInput as err:
        return err.message
    return None


def _version(text: str) -> str | None:
    if not _semantic(text):
        return f"must be a semantic version, not {show(text)}"
    if text.partition(".")[0] != "1":
        return f"version {show(text)} is not supported, only 1"
    return None


def _semantic(text: str) -> bool:
    """Tell whether `text` follows the grammar of semver.org, version 2.0.0."""
    rest, plus, build = text.partition("+")
    core, dash, pre = rest.partition("-")
    numbers = core.split(".")
    return (
        len(numbers) == 3
        and all(_digits(number) and _no_leading_zero(number) for number in numbers)
        and (not dash or all(_identifier(word) and _pre(word) for word in pre.split(".")))
        and (not plus or all(_identifier(word) for word in build.split(".")))
    )


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _no_leading_zero(number: str) -> bool:
    return number == "0" or not number.startswith("0")


def _pre(word: str) -> bool:
    return not word.isdigit() or _no_leading_zero(word)


def _identifier(word: str) -> bool:
    return word.isascii() and (word.replace("-", "") or "0").isalnum() and word != ""


_FILLED = Text(_filled)
_LINE = Text(_line)
_FILE_NAME = Text(_file_name)
_ABSOLUTE = Text(_absolute)
_PATHS = List(_ABSOLUTE)
_CPUS = Text(_cpus)
_NODES = Text(_nodes)
_HOST_NAME = Text(_host_name)
_DEVICE_NAME = Text(_device_name)

_NAMESPACES = "pid network mount ipc uts user cgroup time".split()
PROPAGATIONS = (
    "private rprivate slave rslave shared rshared unbindable runbindable"
).split()  # mount_namespaces(7)
_RLIMITS = (
    "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING"
    " STACK"
).split()  # getrlimit(2)
_CAPABILITY_SETS = "bounding effective inheritable permitted ambient".split()
_HOOKS = "prestart createRuntime createContainer startContainer poststart poststop".split()
ERRNO_LIMITS = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}  # SECCOMP_RET_DATA, seccomp(2)
NOTIFY = "SCMP_ACT_NOTIFY"
_ACTION = Word(
    "seccomp action",
    [*ERRNO_LIMITS, NOTIFY]
    + [f"SCMP_ACT_{name}" for name in "KILL KILL_PROCESS KILL_THREAD TRAP ALLOW LOG".split()],
)
_ARCHITECTURE = Word(
    "seccomp architecture",
    [
        f"SCMP_ARCH_{name}"
        for name in (
            "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64"
            " PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
        ).split()
    ],
)
_SECCOMP_FLAG = Word(
    "seccomp flag",
    [f"SECCOMP_FILTER_FLAG_{name}" for name in "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV".split()],
)
_OPERATOR = Word(
    "seccomp operator", [f"SCMP_CMP_{name}" for name in "NE LT LE EQ GE GT MASKED_EQ".split()]
)
REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
DEADLINE = "SCHED_DEADLINE"
# SCHED_ISO, which the specification lists, was never in Linux: sched_setscheduler(2).
_POLICY = Word(
    "scheduling policy",
    ["SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", DEADLINE, *REAL_TIME],
)
_SCHEDULER_FLAG = Word(
    "scheduling flag",
    [
        f"SCHED_FLAG_{name}"
        for name in (
            "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX"
        ).split()
    ],
)
# set_mempolicy(2) and linux/mempolicy.h.
_MEMORY_MODE = Word(
    "memory policy mode",
    [
        f"MPOL_{name}"
        for name in (
            "DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE"
        ).split()
    ],
)
_MEMORY_FLAG = Word(
    "memory policy flag",
    [f"MPOL_F_{name}" for name in "NUMA_BALANCING RELATIVE_NODES STATIC_NODES".split()],
)

PROCESS = Object(
    {
        "terminal": _FLAG,
        # struct winsize, ioctl_tty(2).
        "consoleSize": Object({"height!": _UINT16, "width!": _UINT16}),
        "user": Object(
            {"uid!": _ID, "gid!": _ID, "umask": Number(0, 0o777), "additionalGids": List(_ID)}
        ),
        "args!": List(_TEXT, least=1),
        "env": _TEXTS,
        "cwd!": _ABSOLUTE,
        "capabilities": Object(dict.fromkeys(_CAPABILITY_SETS, _TEXTS)),
        "rlimits": List(
            Object(
                {
                    "type!": Word("resource", [f"RLIMIT_{name}" for name in _RLIMITS]),
                    "soft!": _UINT64,
                    "hard!": _UINT64,
                }
            )
        ),
        "noNewPrivileges": _FLAG,
        "oomScoreAdj": Number(-1000, 1000),
        "apparmorProfile": _LINE,
        "scheduler": Object(
            {
                "policy!": _POLICY,
                "nice": Number(-20, 19),
                "priority": _INT32,
                "flags": List(_SCHEDULER_FLAG),
                "runtime": _UINT64,
                "deadline": _UINT64,
                "period": _UINT64,
            }
        ),
        "ioPriority": Object(
            {
                "class!": Word(
                    "class", ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]
                ),
                "priority!": Number(0, 7),
            }
        ),
        "execCPUAffinity": Object({"initial": _CPUS, "final": _CPUS}),
    }
)

_MAPPINGS = List(
    Object({"containerID!": _UINT32, "hostID!": _UINT32, "size!": Number(1, (1 << 32) - 1)})
)
_THROTTLES = List(Object({"major!": _INT64, "minor!": _INT64, "rate!": _UINT64}))

RESOURCES = Object(
    {
        "devices": List(
            Object(
                {
                    "allow!": _FLAG,
                    "type": Word("device type", ["a", "b", "c"]),
                    "major": _INT64,
                    "minor": _INT64,
                    "access": Text(_access),
                }
            )
        ),
        "memory": Object(
            {
                **dict.fromkeys("limit reservation swap kernel kernelTCP".split(), _INT64),
                "swappiness": _UINT64,
                **dict.fromkeys("disableOOMKiller useHierarchy checkBeforeUpdate".split(), _FLAG),
            }
        ),
        "cpu": Object(
            {
                **dict.fromkeys("shares burst period realtimePeriod".split(), _UINT64),
                **dict.fromkeys("quota realtimeRuntime idle".split(), _INT64),
                **dict.fromkeys("cpus mems".split(), _LINE),
            }
        ),
        "pids": Object({"limit": _INT64}),
        "blockIO": Object(
            {
                "weight": _UINT16,
                "leafWeight": _UINT16,
                "weightDevice": List(
                    Object(
                        {
                            "major!": _INT64,
                            "minor!": _INT64,
                            "weight": _UINT16,
                            "leafWeight": _UINT16,
                        }
                    )
                ),
                "throttleReadBpsDevice": _THROTTLES,
                "throttleWriteBpsDevice": _THROTTLES,
                "throttleReadIOPSDevice": _THROTTLES,
                "throttleWriteIOPSDevice": _THROTTLES,
            }
        ),
        "hugepageLimits": List(Object({"pageSize!": _FILE_NAME, "limit!": _UINT64})),
        "network": Object(
            {
                "classID": _UINT32,
                "priorities": List(Object({"name!": _FILE_NAME, "priority!": _UINT32})),
            }
        ),
        "rdma": Map(_FILE_NAME, Object({"hcaHandles": _UINT32, "hcaObjects": _UINT32})),
        # A key is the name of a file in the container's cgroup.
        "unified": Map(_FILE_NAME, _TEXT),
    }
)

_SECCOMP = Object(
    {
        "defaultAction!": _ACTION,
        "defaultErrnoRet": _UINT32,
        "architectures": List(_ARCHITECTURE),
        "flags": List(_SECCOMP_FLAG),
        "listenerPath": _TEXT,
        "listenerMetadata": _TEXT,
        "syscalls": List(
            Object(
                {
                    "names!": List(_FILLED, least=1),
                    "action!": _ACTION,
                    "errnoRet": _UINT32,
                    "args": List(
                        Object(
                            {
                                "index!": Number(0, 5),
                                "value!": _UINT64,
                                "valueTwo": _UINT64,
                                "op!": _OPERATOR,
                            }
                        )
                    ),
                }
            )
        ),
    }
)

_LINUX = Object(
    {
        "namespaces": List(
            Object({"type!": Word("namespace", _NAMESPACES), "path": Text(_absolute_or_empty)})
        ),
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        # time_namespaces(7).
        "timeOffsets": Map(
            Word("clock", ["monotonic", "boottime"]),
            Object({"secs": _INT64, "nanosecs": Number(0, 999_999_999)}),
        ),
        "devices": List(
            Object(
                {
                    "type!": Word("device type", ["b", "c", "p", "u"]),
                    "path!": _ABSOLUTE,
                    # MINORBITS, linux/kdev_t.h.
                    "major": Number(0, (1 << 12) - 1),
                    "minor": Number(0, (1 << 20) - 1),
                    # Some managers leave the bits of the type in.
                    "fileMode": _UINT32,
                    "uid": _ID,
                    "gid": _ID,
                }
            )
        ),
        "netDevices": Map(_DEVICE_NAME, Object({"name": Text(_new_device_name)})),
        "cgroupsPath": Text(_cgroups_path),
        "resources": RESOURCES,
        "rootfsPropagation": Word("propagation", ["", *PROPAGATIONS]),
        "seccomp": _SECCOMP,
        "sysctl": Map(_LINE, _TEXT),
        "maskedPaths": _PATHS,
        "readonlyPaths": _PATHS,
        "memoryPolicy": Object(
            {"mode!": _MEMORY_MODE, "nodes": _NODES, "flags": List(_MEMORY_FLAG)}
        ),
        "personality": Object(
            {
                "domain!": Word("domain", ["LINUX", "LINUX32"]),
                "flags": List(Word("personality flag", [])),
            }
        ),
    }
)

SPEC = Object(
    {
        "ociVersion!": Text(_version),
        "root!": Object({"path!": _FILLED, "readonly": _FLAG}),
        "mounts": List(
            Object(
                {
                    "destination!": _FILLED,
                    "type": _TEXT,
                    "source": _TEXT,
                    "options": _TEXTS,
                    "uidMappings": _MAPPINGS,
                    "gidMappings": _MAPPINGS,
                }
            )
        ),
        "process": PROCESS,
        "hostname": _HOST_NAME,
        "domainname": _HOST_NAME,
        "hooks": Object(
            dict.fromkeys(
                _HOOKS,
                List(
                    Object(
                        {
                            "path!": _ABSOLUTE,
                            "args": _TEXTS,
                            "env": _TEXTS,
                            "timeout": Number(1, (1 << 31) - 1),
                        }
                    )
                ),
            )
        ),
        "linux": _LINUX,
        "annotations": Map(_FILLED, _TEXT),
    }
)
VERSION = Object({"ociVersion!": Text(_version)})


def cpu_list(text: str) -> list[int]:
    """Return the numbers in a list such as ``0-3,7``, cpuset(7) "List format".

    Raises:
        InvalidInput: it is none, or goes beyond the 8192 processors that Linux can be built for.
    """
    return _numbers(text, "processors")


def node_list(text: str) -> list[int]:
    """Return the memory nodes in a list such as ``0-3,7``, cpuset(7) "List format".

    Raises:
        InvalidInput: it is none, or goes far beyond the nodes that Linux can be built for.
    """
    return _numbers(text, "memory nodes")


def _numbers(text: str, what: str) -> list[int]:
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        last = last if "-" in part else first
        if not all(_digits(word) and len(word) <= 4 for word in (first, last)):
            raise InvalidInput(f"must be a list such as 0-3,7, not {show(text)}")
        if not int(first) <= int(last) < 8192:
            raise InvalidInput(f"no such range of {what} {show(part)}")
        found.update(range(int(first), int(last) + 1))
    return sorted(found)
