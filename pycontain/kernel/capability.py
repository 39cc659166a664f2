"""Capabilities by name and by number, and which of them a container gets.

Owns the table of capabilities(7), the 64-bit masks of /proc/PID/status, and the rules of
``--cap-add`` and ``--cap-drop``. Knows nothing of the five sets of a process: the OCI
configuration says which set gets what, and the executor sets them.
"""

from __future__ import annotations

import errno

from pycontain.errors import InvalidInput, KernelError, NotPermitted, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Index is the number, linux/capability.h. A name that the running kernel lacks is above last_cap().
NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}

# What docker gives to a container that asks for nothing.
DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
)

_ALL = "ALL"


def bounding_set() -> int:
    """Return the calling thread's capability bounding set as a mask, read anew at each call.

    No process below can ever have a capability that is not in it, capabilities(7).

    Raises:
        KernelError: /proc cannot be read.
    """
    path = "/proc/thread-self/status"
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.readall()
    except OSError as err:
        raise KernelError("read bounding set", path, err.errno or errno.EIO) from err
    _, found, rest = text.partition(b"\nCapBnd:")
    if not found:
        raise KernelError("read bounding set", path, errno.ENODATA)
    return int(rest.partition(b"\n")[0], 16)


def last_cap() -> int:
    """Return the number of the last capability that the running kernel knows, proc(5).

    Raises:
        KernelError: /proc cannot be read.
    """
    path = "/proc/sys/kernel/cap_last_cap"
    try:
        with open(path, "rb", buffering=0) as file:
            return int(file.readall())
    except OSError as err:
        raise KernelError("read last capability", path, err.errno or errno.EIO) from err


def parse(name: str) -> str:
    """Return a user's `name` (any case, with or without ``CAP_``) as the kernel's.

    Raises:
        InvalidInput: there is no such capability.
    """
    upper = name.upper()
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NUMBERS:
        raise InvalidInput(f'invalid capability: "{name}"', "capabilities(7) lists the names")
    return full


def mask(names: Iterable[str]) -> int:
    """Return the mask of `names` (``CAP_…``): bit N is capability N.

    Raises:
        InvalidInput: a name is unknown.
    """
    result = 0
    for name in names:
        if name not in NUMBERS:
            raise InvalidInput(f'invalid capability: "{name}"', "capabilities(7) lists the names")
        result |= 1 << NUMBERS[name]
    return result


def names(mask: int) -> tuple[str, ...]:
    """Return the names of the capabilities in `mask`, by number.

    Bits above the table, of a kernel newer than it, have no name and are left out: an OCI
    configuration, which knows names only, cannot grant them.
    """
    return tuple(name for number, name in enumerate(NAMES) if mask >> number & 1)


def resolve(
    add: Iterable[str],
    drop: Iterable[str],
    privileged: bool,
    default: Iterable[str] = DEFAULT,
    bounding: int | None = None,
) -> tuple[str, ...]:
    """Return the capabilities of a container, by number, as docker's flags decide them.

    - privileged: all; `add` and `drop` are checked and have no effect.
    - `add` has ALL: all but those in `drop` (ALL in `drop` then has no effect).
    - `drop` has ALL: those in `add` only.
    - otherwise: `default` without `drop`, then with `add`: what is in both is granted.

    "All" is what the bounding set has. Defaults outside of it are left out without a word; what
    the user named is not.

    Args:
        add: names in the user's words, or ``ALL``.
        drop: the same.
        privileged: ``--privileged``.
        default: ``CAP_…`` names of a container that asks for nothing.
        bounding: the mask to stay within; None reads that of this process.

    Raises:
        InvalidInput: a name is unknown.
        NotSupported: a name of `add` is newer than this kernel.
        NotPermitted: a name of `add` is not in the bounding set.
    """
    limit = bounding_set() if bounding is None else bounding
    add_all, added = _parse(add)
    drop_all, dropped = _parse(drop)
    if privileged:
        return names(limit)
    _check_available(added, limit)
    if add_all:
        return names(limit & ~dropped)
    if drop_all:
        return names(added)
    return names(mask(default) & limit & ~dropped | added)


def _parse(words: Iterable[str]) -> tuple[bool, int]:
    everything = False
    named: list[str] = []
    for word in words:
        if word.upper() == _ALL:
            everything = True
        else:
            named.append(parse(word))
    return everything, mask(named)


def _check_available(added: int, limit: int) -> None:
    for name in names(added & ~limit):
        if NUMBERS[name] > last_cap():
            raise NotSupported(
                "add capability", name, errno.EOPNOTSUPP, "this kernel does not have it"
            )
        raise NotPermitted(
            "add capability",
            name,
            errno.EPERM,
            "it is not in the bounding set of this process, so no container can have it here",
        )
