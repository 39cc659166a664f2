"""A seccomp profile as a BPF program, through libseccomp. Imported on a cache miss only.

Owns the words of the OCI profile (actions, operators, architectures, flags) and what a profile
means where the specification is silent; there it does what runc does, because profiles are written
for it:

- a system call that libseccomp does not know is left out;
- two conditions on the same argument are alternatives, conditions on different ones must all hold;
- a call newer than every call that the profile names fails with ENOSYS, where an unnamed call is
  refused: libc then falls back to an older one, which it does not on EPERM.
"""

from __future__ import annotations

import errno
import os
import struct

from pycontain.errors import InvalidInput, NotSupported, kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.model import oci

try:
    import pycontain._native._seccomp as _seccomp
except ImportError as _err:
    raise NotSupported(
        "load libseccomp",
        "",
        errno.ENOSYS,
        "install libseccomp and pycontain's native parts, or run with "
        "--security-opt seccomp=unconfined",
    ) from _err

_ffi = _seccomp.ffi
_lib = _seccomp.lib

# SECCOMP_RET_*, linux/seccomp.h; ERRNO and TRACE carry 16 bits of data.
_ACTIONS = {
    "SCMP_ACT_KILL": _lib.SCMP_ACT_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _lib.SCMP_ACT_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _lib.SCMP_ACT_KILL_PROCESS,
    "SCMP_ACT_TRAP": _lib.SCMP_ACT_TRAP,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": _lib.SCMP_ACT_LOG,
    "SCMP_ACT_NOTIFY": _lib.SCMP_ACT_NOTIFY,
    "SCMP_ACT_ALLOW": _lib.SCMP_ACT_ALLOW,
}
# The most that an action's number can be: the kernel cuts larger errnos (seccomp(2)), and to a
# tracer go the 16 bits of SECCOMP_RET_DATA.
_NUMBER_LIMITS = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}
_NOTIFY = "SCMP_ACT_NOTIFY"

# The one call between the filter and the moment when somebody can answer: native/message.c sends
# the listener with it. What follows is notified like any call of the container.
_HANDOVER = "sendmsg"
_PASSING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")

# With these as the default nothing unnamed is refused, so new calls are left to them: a tracer is
# taken to know what it does.
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

_OPERATORS = {
    "SCMP_CMP_NE": _lib.SCMP_CMP_NE,
    "SCMP_CMP_LT": _lib.SCMP_CMP_LT,
    "SCMP_CMP_LE": _lib.SCMP_CMP_LE,
    "SCMP_CMP_EQ": _lib.SCMP_CMP_EQ,
    "SCMP_CMP_GE": _lib.SCMP_CMP_GE,
    "SCMP_CMP_GT": _lib.SCMP_CMP_GT,
    "SCMP_CMP_MASKED_EQ": _lib.SCMP_CMP_MASKED_EQ,
}
_ARGUMENTS = 6
_UINT64 = 0xFFFFFFFFFFFFFFFF

_BINARY_TREE = 2

# config-linux.md, "Seccomp".
_ARCH_PREFIX = "SCMP_ARCH_"
_ARCHITECTURES = [
    _ARCH_PREFIX + word
    for word in (
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64"
        " PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
    ).split()
]

# linux/seccomp.h.
_TSYNC = 1 << 0
_NEW_LISTENER = 1 << 3
_TSYNC_ESRCH = 1 << 4
_WAIT_KILLABLE = 1 << 5
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": _TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": _WAIT_KILLABLE,
}

_X86_64: int = _lib.seccomp_arch_resolve_name(b"x86_64")
# x32 is no architecture to the kernel: its calls are x86-64's with this bit, asm/unistd.h.
_X32: int = _lib.seccomp_arch_resolve_name(b"x32")
_X32_BIT = 0x40000000
# 32-bit arm keeps calls of its own (cacheflush, set_tls) far above the others, asm/unistd.h.
_ARM: int = _lib.seccomp_arch_resolve_name(b"arm")
_ARM_PRIVATE = 0xF0000
_BORDERS = {_X86_64: _X32_BIT, _ARM: _ARM_PRIVATE}
_NO_BORDER = 1 << 32

# struct sock_filter: code, jump if true, jump if false, k; linux/filter.h.
_SOCK_FILTER = struct.Struct("=HBBI")
_LD_ABS = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JEQ = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JGT = 0x25
_JGE = 0x35
_RET = 0x06  # BPF_RET | BPF_K
_DATA_NR, _DATA_ARCH = 0, 4  # offsets in struct seccomp_data
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_RET_ENOSYS = 0x00050000 | errno.ENOSYS


def compile_profile(profile: oci.Seccomp) -> tuple[bytes, int]:
    """Return the struct sock_filter array of `profile` for this machine, and its flags.

    Raises:
        InvalidInput: an action, operator, argument, architecture or flag is unknown, libseccomp
            refuses a rule, or the profile stands in the way of its own listener.
    """
    flags = _flags(profile.get("flags") or [])
    default_name = profile.get("defaultAction", "")
    default = _action(default_name, profile.get("defaultErrnoRet"), "default action")
    if default_name == _NOTIFY:
        raise InvalidInput(
            f"seccomp profile: default action: {_NOTIFY} would stop the start itself, before"
            " anybody has the listener"
        )
    context = _lib.seccomp_init(default)
    if context == _ffi.NULL:
        raise kernel_error("make seccomp filter", "", errno.ENOMEM)
    try:
        architectures = _add_architectures(context, profile.get("architectures") or [])
        notifies = False
        for rule in profile.get("syscalls") or []:
            added = _add_rule(context, rule, default)
            notifies |= added and rule.get("action") == _NOTIFY
        # A binary tree instead of a chain: some 10 comparisons for a call instead of hundreds.
        optimise = _lib.SCMP_FLTATR_CTL_OPTIMIZE
        _check(_lib.seccomp_attr_set(context, optimise, _BINARY_TREE), "binary tree")
        body = _export(context)
    finally:
        _lib.seccomp_release(context)
    if notifies:
        _check_handover(profile)
    program = body if default_name in _PERMISSIVE else _newer(profile, architectures) + body
    if len(program) > _MAX_INSTRUCTIONS * _SOCK_FILTER.size:
        raise InvalidInput("seccomp profile: more than 4096 BPF instructions")
    return program, _with_listener(flags, notifies)


def known_actions() -> list[str]:
    """See ``seccomp.known_actions``."""
    return sorted(_ACTIONS)


def known_operators() -> list[str]:
    """See ``seccomp.known_operators``."""
    return sorted(_OPERATORS)


def known_architectures() -> list[str]:
    """See ``seccomp.known_architectures``."""
    return sorted(name for name in _ARCHITECTURES if _resolve(name))


def known_flags() -> list[str]:
    """See ``seccomp.known_flags``."""
    return sorted(_FLAGS)


def supported_flags() -> list[str]:
    """See ``seccomp.supported_flags``."""
    return sorted(name for name, bit in _FLAGS.items() if _takes(bit))


def library_version() -> str:
    """See ``seccomp.library_version``."""
    version = _lib.seccomp_version()
    return f"{version.major}.{version.minor}.{version.micro}"


def library_path() -> str:
    """Return the path of the libseccomp that this process has loaded, proc_pid_maps(5).

    Where it is linked into the extension that is the extension's own.

    Raises:
        KernelError: /proc cannot be read.
    """
    path = "/proc/self/maps"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if "/libseccomp.so" in line:
                    return line.rstrip("\n").split(None, 5)[5]
    except OSError as err:
        raise kernel_error("find libseccomp", path, err.errno or errno.EIO) from err
    extension: str = _seccomp.__file__
    return extension


def _flags(names: list[str]) -> int:
    result = 0
    for name in names:
        if name not in _FLAGS:
            raise InvalidInput(f'seccomp profile: unknown flag "{name}"')
        result |= _FLAGS[name]
    return result


def _with_listener(flags: int, notifies: bool) -> int:
    if not notifies:
        if flags & _WAIT_KILLABLE:
            raise InvalidInput(
                "seccomp profile: flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: no call has"
                f" {_NOTIFY}, so there is no listener to receive"
            )
        return flags
    if flags & _TSYNC:
        # TSYNC tells by its number which thread did not follow, where a listener's descriptor is
        # due: the kernel takes both only where an errno may say it (seccomp(2), TSYNC_ESRCH).
        flags |= _TSYNC_ESRCH
    return flags | _NEW_LISTENER


def _takes(bit: int) -> bool:
    """Tell whether the kernel takes a flag: it looks at flags first, then at the program."""
    flags = bit | _NEW_LISTENER if bit == _WAIT_KILLABLE else bit
    number: int = _lib.try_flags(flags)
    return number == errno.EFAULT


def _check_handover(profile: oci.Seccomp) -> None:
    """Refuse a profile under which its own listener could not be handed over.

    Rules with conditions are left to the kernel's answer.
    """
    rules = [r for r in profile.get("syscalls") or [] if _HANDOVER in (r.get("names") or [])]
    actions = {rule.get("action", "") for rule in rules}
    if _NOTIFY in actions:
        raise InvalidInput(
            f"seccomp profile: {_HANDOVER}: {_NOTIFY} would stop the start itself, which hands"
            " over the listener with this call"
        )
    passes = profile.get("defaultAction") in _PASSING and all(rule.get("args") for rule in rules)
    if not passes and actions.isdisjoint(_PASSING):
        raise InvalidInput(
            f"seccomp profile: {_HANDOVER}: must be allowed where a call has {_NOTIFY}: the"
            " listener is handed over with it, under the filter"
        )


def _action(name: str, number: int | None, where: str) -> int:
    if name not in _ACTIONS:
        raise InvalidInput(f'seccomp profile: {where}: unknown action "{name}"')
    value: int = _ACTIONS[name]
    limit = _NUMBER_LIMITS.get(name)
    if limit is not None:
        return value | _number(errno.EPERM if number is None else number, limit, where)
    if number is not None:
        raise InvalidInput(f"seccomp profile: {where}: {name} takes no errno")
    return value


def _number(number: int, limit: int, where: str) -> int:
    if not 0 <= number <= limit:
        raise InvalidInput(f"seccomp profile: {where}: errno {number} is not 0 to {limit}")
    return number


def _resolve(name: str) -> int:
    """Return libseccomp's number of an architecture, 0 where it knows none."""
    found: int = _lib.seccomp_arch_resolve_name(name.removeprefix(_ARCH_PREFIX).lower().encode())
    return found


def _token(name: str) -> int:
    if name not in _ARCHITECTURES:
        raise InvalidInput(f'seccomp profile: unknown architecture "{name}"')
    known = _resolve(name)
    if not known:
        raise InvalidInput(
            f"seccomp profile: architecture {name}: libseccomp {library_version()} does not know it"
        )
    return known


def _add_architectures(context: Any, names: list[str]) -> list[int]:
    """Add `names` to the machine's own, which is always filtered; return the tokens of all.

    They must be there before the first rule: libseccomp translates a rule when it is added.
    """
    tokens: list[int] = [_lib.seccomp_arch_native()]
    for name in names:
        token = _token(name)
        if token not in tokens:
            result = _lib.seccomp_arch_add(context, token)
            if result == -errno.EDOM:
                raise InvalidInput(
                    f"seccomp profile: architecture {name}: has another byte order than this"
                    " machine"
                )
            _check(result, f"architecture {name}")
            tokens.append(token)
    return tokens


def _add_rule(context: Any, rule: oci.SeccompRule, default: int) -> bool:
    """Add a rule; tell whether anything of it is left."""
    names = rule.get("names") or []
    if not names:
        raise InvalidInput("seccomp profile: rule without a system call")
    where = names[0] if len(names) == 1 else f"{names[0]} …"
    action = _action(rule.get("action", ""), rule.get("errnoRet"), where)
    alternatives = [_comparisons(args) for args in _alternatives(rule.get("args") or [], where)]
    if action == default:
        return False  # libseccomp refuses what changes nothing (EACCES)
    added = False
    for name in names:
        call = _lib.seccomp_syscall_resolve_name(_word(name))
        if call == _lib.__NR_SCMP_ERROR:
            continue
        added = True
        for comparisons in alternatives:
            _check(
                _lib.seccomp_rule_add_array(context, action, call, len(comparisons), comparisons),
                name,
            )
    return added


def _word(name: str) -> bytes:
    """Return `name` for C; one with a NUL, which there would end it, is no call's: empty."""
    return b"" if "\0" in name else name.encode("utf-8", "surrogatepass")


def _alternatives(args: list[oci.SeccompArg], where: str) -> list[list[oci.SeccompArg]]:
    for arg in args:
        _check_argument(arg, where)
    indices = [arg["index"] for arg in args]
    if len(set(indices)) == len(indices):
        return [args]
    return [[arg] for arg in args]


def _check_argument(arg: oci.SeccompArg, where: str) -> None:
    index = arg.get("index", -1)
    if not 0 <= index < _ARGUMENTS:
        raise InvalidInput(f"seccomp profile: {where}: argument index {index} is not 0 to 5")
    if arg.get("op", "") not in _OPERATORS:
        raise InvalidInput(f'seccomp profile: {where}: unknown operator "{arg.get("op", "")}"')
    for value in (arg.get("value", 0), arg.get("valueTwo", 0)):
        if not 0 <= value <= _UINT64:
            raise InvalidInput(f"seccomp profile: {where}: value {value} is out of range")


def _comparisons(args: list[oci.SeccompArg]) -> Any:
    result = _ffi.new("struct scmp_arg_cmp[]", len(args))
    for slot, arg in zip(result, args, strict=True):
        slot.arg = arg["index"]
        slot.op = _OPERATORS[arg["op"]]
        slot.datum_a = arg.get("value", 0)
        slot.datum_b = arg.get("valueTwo", 0)
    return result


def _check(result: int, what: str) -> None:
    if result < 0:
        reason = os.strerror(-result).lower()
        raise InvalidInput(f"seccomp profile: {what}: refused by libseccomp: {reason}")


def _export(context: Any) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(_lib.seccomp_export_bpf(context, fd), "export")
        size = os.lseek(fd, 0, os.SEEK_END)
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def _newer(profile: oci.Seccomp, architectures: list[int]) -> bytes:
    """Return the instructions before libseccomp's that answer ENOSYS to calls unknown to it all.

    A filter's jumps are relative and its loads absolute, so it may stand behind any prefix that
    falls through.
    """
    names = {name for rule in profile.get("syscalls") or [] for name in rule.get("names") or []}
    code: list[bytes] = []
    for token in architectures:
        if token == _X32:
            continue  # with x86-64
        newest = _newest(token, names, _BORDERS.get(token, _NO_BORDER))
        if newest >= 0:
            x32 = _newest(_X32, names, _NO_BORDER) if _X32 in architectures else -1
            above = _bound(x32) if token == _X86_64 and x32 >= 0 else []
            code += _on_architecture(token, _bounds(token, newest, above))
    return b"".join(code)


def _newest(token: int, names: set[str], border: int) -> int:
    """Return the highest number below `border` of the calls `names`, -1 for none."""
    calls = (_lib.seccomp_syscall_resolve_name_arch(token, _word(name)) for name in names)
    # Negative numbers are libseccomp's for calls that this architecture does not have.
    return max((call for call in calls if 0 <= call < border), default=-1)


def _bound(newest: int) -> list[bytes]:
    """Return tests of a call's number, in the accumulator, that return ENOSYS or fall through."""
    return [_stmt(_JGT, newest, jf=1), _stmt(_RET, _RET_ENOSYS)]


def _bounds(token: int, newest: int, above: list[bytes]) -> list[bytes]:
    """Do the same where some numbers lie beyond a border: `above` is for those.

    Without `above` they go on to libseccomp's filter: arm's own calls, which it knows, and x32's
    where x32 is not in the profile, which it takes for a foreign architecture's.
    """
    if token not in _BORDERS:
        return _bound(newest)
    return [
        _stmt(_JGE, _BORDERS[token], jt=2),
        _stmt(_JGT, newest, jf=1 + len(above)),
        _stmt(_RET, _RET_ENOSYS),
        *above,
    ]


def _on_architecture(token: int, body: list[bytes]) -> list[bytes]:
    return [
        _stmt(_LD_ABS, _DATA_ARCH),
        _stmt(_JEQ, token, jf=len(body) + 1),
        _stmt(_LD_ABS, _DATA_NR),
        *body,
    ]


def _stmt(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return _SOCK_FILTER.pack(code, jt, jf, k)
