"""A seccomp profile as a BPF program, through libseccomp. Imported on a cache miss only.

Owns the words of the OCI profile (actions, operators, architectures) and what a profile means where
the specification is silent; there it does what runc does, because profiles are written for it:

- a system call that libseccomp does not know is left out;
- two conditions on the same argument are alternatives, conditions on different ones must all hold;
- a call newer than every call that the profile names fails with ENOSYS, where an unnamed call is
  refused: libc then falls back to an older one, which it does not on EPERM.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidInput, NotSupported, kernel_error

if TYPE_CHECKING:
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
    "SCMP_ACT_ALLOW": _lib.SCMP_ACT_ALLOW,
}
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_MAX_ERRNO = 4095  # the kernel cuts larger ones to this
_NOTIFY = "SCMP_ACT_NOTIFY"

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

_ARCH_PREFIX = "SCMP_ARCH_"
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


def compile_profile(profile: oci.Seccomp) -> bytes:
    """Return the struct sock_filter array of `profile` for this machine.

    Raises:
        InvalidInput: an action, operator, argument or architecture is unknown, or libseccomp
            refuses a rule.
    """
    default_name = profile.get("defaultAction", "")
    default = _action(default_name, profile.get("defaultErrnoRet"), "default action")
    context = _lib.seccomp_init(default)
    if context == _ffi.NULL:
        raise kernel_error("make seccomp filter", "", errno.ENOMEM)
    try:
        architectures = _add_architectures(context, profile.get("architectures") or [])
        for rule in profile.get("syscalls") or []:
            _add_rule(context, rule, default)
        # A binary tree instead of a chain: some 10 comparisons for a call instead of hundreds.
        optimise = _lib.SCMP_FLTATR_CTL_OPTIMIZE
        _check(_lib.seccomp_attr_set(context, optimise, _BINARY_TREE), "binary tree")
        body = _export(context)
    finally:
        _lib.seccomp_release(context)
    program = body if default_name in _PERMISSIVE else _newer(profile, architectures) + body
    if len(program) > _MAX_INSTRUCTIONS * _SOCK_FILTER.size:
        raise InvalidInput("seccomp profile: more than 4096 BPF instructions")
    return program


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


def _action(name: str, number: int | None, where: str) -> int:
    if name == _NOTIFY:
        raise InvalidInput(f"seccomp profile: {where}: {_NOTIFY} is not supported")
    if name not in _ACTIONS:
        raise InvalidInput(f'seccomp profile: {where}: unknown action "{name}"')
    value: int = _ACTIONS[name]
    if name in _WITH_ERRNO:
        return value | _errno(errno.EPERM if number is None else number, where)
    if number is not None:
        raise InvalidInput(f"seccomp profile: {where}: {name} takes no errno")
    return value


def _errno(number: int, where: str) -> int:
    if not 0 <= number <= _MAX_ERRNO:
        raise InvalidInput(f"seccomp profile: {where}: errno {number} is out of range")
    return number


def _token(name: str) -> int:
    known: int = 0
    if name.startswith(_ARCH_PREFIX):
        known = _lib.seccomp_arch_resolve_name(name[len(_ARCH_PREFIX) :].lower().encode())
    if not known:
        raise InvalidInput(f'seccomp profile: unknown architecture "{name}"')
    return known


def _add_architectures(context: Any, names: list[str]) -> list[int]:
    """Add `names` to the machine's own, which is always filtered; return the tokens of all.

    They must be there before the first rule: libseccomp translates a rule when it is added.
    """
    tokens: list[int] = [_lib.seccomp_arch_native()]
    for name in names:
        token = _token(name)
        if token not in tokens:
            _check(_lib.seccomp_arch_add(context, token), f"architecture {name}")
            tokens.append(token)
    return tokens


def _add_rule(context: Any, rule: oci.SeccompRule, default: int) -> None:
    names = rule.get("names") or []
    if not names:
        raise InvalidInput("seccomp profile: rule without a system call")
    where = names[0] if len(names) == 1 else f"{names[0]} …"
    action = _action(rule.get("action", ""), rule.get("errnoRet"), where)
    alternatives = [_comparisons(args) for args in _alternatives(rule.get("args") or [], where)]
    if action == default:
        return  # libseccomp refuses what changes nothing (EACCES)
    for name in names:
        call = _lib.seccomp_syscall_resolve_name(name.encode())
        if call == _lib.__NR_SCMP_ERROR:
            continue
        for comparisons in alternatives:
            _check(
                _lib.seccomp_rule_add_array(context, action, call, len(comparisons), comparisons),
                name,
            )


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
    calls = (_lib.seccomp_syscall_resolve_name_arch(token, name.encode()) for name in names)
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
