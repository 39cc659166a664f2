"""Device rules of a cgroup as a BPF_PROG_TYPE_CGROUP_DEVICE program.

cgroup v2 has no devices controller: the kernel asks an eBPF program at each open(2) and mknod(2) of
a device (Documentation/admin-guide/cgroup-v2.rst, "Device controller"; linux/bpf.h, struct
bpf_cgroup_dev_ctx). This module turns the OCI list of rules into the bytes of that program. It
loads and attaches nothing: the executor does, and gets these bytes only.

Meaning of a list of rules: the kernel asks for a set of accesses to one device (an ``O_RDWR`` open
asks for read and write at once). Each access is decided for itself by the *last* rule that matches
the device and names the access; what no rule names is denied; the request passes when all its
accesses do. So two rules that allow ``r`` and ``w`` together allow ``O_RDWR``, and a later rule
that denies ``w`` leaves ``r``. That is also what the devices controller of cgroup v1 does, save
that there a rule cannot take an access back from a wildcard.
"""

from __future__ import annotations

import struct

from pycontain.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model import oci

# linux/bpf.h, BPF_DEVCG_*.
MKNOD = 1
READ = 2
WRITE = 4
BLOCK = 1
CHARACTER = 2

_ACCESS = {"m": MKNOD, "r": READ, "w": WRITE}
_TYPES = {"a": 0, "b": BLOCK, "c": CHARACTER}
_ANY = -1
_UINT32 = 0xFFFFFFFF

# What every container may use: runc and docker agree on it. mknod of anything is allowed, because
# it gives no access: opening what was made is asked again. CAP_MKNOD is needed besides.
DEFAULT_RULES: tuple[oci.DeviceRule, ...] = (
    {"allow": False, "type": "a", "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},  # null
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},  # zero
    {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"},  # full
    {"allow": True, "type": "c", "major": 1, "minor": 8, "access": "rwm"},  # random
    {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},  # urandom
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},  # tty
    {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"},  # console
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},  # ptmx
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},  # pts/*
)

# --privileged.
ALLOW_ALL: tuple[oci.DeviceRule, ...] = ({"allow": True, "type": "a", "access": "rwm"},)

# struct bpf_insn: code, dst_reg (low nibble) and src_reg, off, imm; linux/bpf.h.
_INSN = struct.Struct("<BBhi")
_LDX_W = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOV_IMM = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_MOV_REG = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_AND_IMM = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_RSH_IMM = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_JNE_IMM = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_JNE32_IMM = 0x56  # BPF_JMP32 | BPF_JNE | BPF_K: the immediate is not sign-extended to 64 bits
_JSET_IMM = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_JA = 0x05  # BPF_JMP | BPF_JA
_EXIT = 0x95  # BPF_JMP | BPF_EXIT

_RESULT, _CONTEXT, _TYPE, _PENDING, _NUMBER = range(5)  # registers
_MAJOR, _MINOR = 4, 8  # offsets in struct bpf_cgroup_dev_ctx


def program(rules: Iterable[oci.DeviceRule]) -> bytes:
    """Return the program for `rules` (OCI runtime-spec, config-linux.md, "Allowed Device list").

    The rules are walked from the last to the first with the accesses that are still to be decided:
    an allowing rule takes its own out, and the request passes when none are left; a denying rule
    that names one of them refuses.

    Args:
        rules: in order, later ones win. A number that is absent or -1 stands for all.

    Returns:
        an array of struct bpf_insn for a BPF_PROG_TYPE_CGROUP_DEVICE, little-endian.

    Raises:
        InvalidInput: a rule's type, number or access is none.
    """
    code = [
        _insn(_LDX_W, _TYPE, _CONTEXT, 0),
        _insn(_MOV_REG, _PENDING, _TYPE),
        # access_type is (access << 16) | type.
        _insn(_AND_IMM, _TYPE, imm=0xFFFF),
        _insn(_RSH_IMM, _PENDING, imm=16),
    ]
    for rule in reversed(list(rules)):
        code += _rule(rule)
    # access(2) with F_OK asks for no access at all: nothing is pending, so it passes.
    code += [
        _insn(_MOV_IMM, _RESULT, imm=0),
        _insn(_JNE_IMM, _PENDING, off=1),
        _insn(_MOV_IMM, _RESULT, imm=1),
        _insn(_EXIT),
    ]
    return b"".join(code)


def access_mask(access: str) -> int:
    """Return the BPF_DEVCG_ACC_* mask of an OCI `access` string such as ``rwm``.

    Raises:
        InvalidInput: it is empty or has another letter.
    """
    result = 0
    for letter in access:
        if letter not in _ACCESS:
            raise InvalidInput(f'device rule: access "{access}": letters are r, w and m')
        result |= _ACCESS[letter]
    if not result:
        raise InvalidInput("device rule: access is empty")
    return result


def _rule(rule: oci.DeviceRule) -> list[bytes]:
    access = access_mask(rule.get("access", ""))
    code = _allow(access) if rule.get("allow", False) else _deny(access)
    # From the inside out: a test that fails jumps over what it guards.
    for offset, value in _numbers(rule):
        # Loaded anew for each test: a register that keeps what earlier tests found out about it
        # makes the verifier walk the rest once for each rule, and refuse at a thousand of them.
        load = _insn(_LDX_W, _NUMBER, _CONTEXT, offset)
        code = [load, _insn(_JNE32_IMM, _NUMBER, off=len(code), imm=value), *code]
    kind = _kind(rule)
    return [_insn(_JNE_IMM, _TYPE, off=len(code), imm=kind), *code] if kind else code


def _kind(rule: oci.DeviceRule) -> int:
    kind = rule.get("type", "a")
    if kind not in _TYPES:
        raise InvalidInput(f'device rule: type "{kind}": must be a, b or c')
    return _TYPES[kind]


def _numbers(rule: oci.DeviceRule) -> list[tuple[int, int]]:
    minor = (_MINOR, _number(rule.get("minor"), "minor"))
    major = (_MAJOR, _number(rule.get("major"), "major"))
    return [test for test in (minor, major) if test[1] != _ANY]


def _number(value: int | None, what: str) -> int:
    if value is None or value == _ANY:
        return _ANY
    if not 0 <= value <= _UINT32:
        raise InvalidInput(f"device rule: {what} number {value}: out of range")
    return value


def _allow(access: int) -> list[bytes]:
    return [
        _insn(_AND_IMM, _PENDING, imm=~access),
        _insn(_JNE_IMM, _PENDING, off=2),
        _insn(_MOV_IMM, _RESULT, imm=1),
        _insn(_EXIT),
    ]


def _deny(access: int) -> list[bytes]:
    return [
        _insn(_JSET_IMM, _PENDING, off=1, imm=access),
        _insn(_JA, off=2),
        _insn(_MOV_IMM, _RESULT, imm=0),
        _insn(_EXIT),
    ]


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    signed = imm - (1 << 32) if imm > _UINT32 >> 1 else imm
    return _INSN.pack(code, src << 4 | dst, off, signed)
