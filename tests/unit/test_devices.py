"""Device rules: the eBPF program, run by a tiny interpreter, against the rules' meaning."""

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.kernel import devices
from pycontain.model import oci

INSN = struct.Struct("<BBhi")
MASK64 = (1 << 64) - 1


def run(program: bytes, access: int, kind: int, major: int, minor: int) -> int:
    """Interpret `program` for one request, as the kernel would; return r0."""
    code = list(INSN.iter_unpack(program))
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers = [-1] * 11  # a read of one that was never written fails on its sign
    registers[1] = 0
    at = 0
    while True:
        opcode, regs, off, imm = code[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        if opcode == 0x61:  # load word
            assert registers[src] == 0  # from the context only
            registers[dst] = struct.unpack_from("<I", context, off)[0]
        elif opcode == 0xB7:
            registers[dst] = imm & MASK64
        elif opcode == 0xBF:
            registers[dst] = registers[src]
        elif opcode == 0x57:
            registers[dst] &= imm & MASK64
        elif opcode == 0x77:
            registers[dst] >>= imm
        elif opcode == 0x55:
            at += off if registers[dst] != imm & MASK64 else 0
        elif opcode == 0x56:
            at += off if registers[dst] & 0xFFFFFFFF != imm & 0xFFFFFFFF else 0
        elif opcode == 0x45:
            at += off if registers[dst] & imm & MASK64 else 0
        elif opcode == 0x05:
            at += off
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def allowed(
    rules: Sequence[oci.DeviceRule], access: str, kind: str, major: int, minor: int
) -> bool:
    """Say by the meaning of the rules whether a request passes: each access by its last rule."""

    def decides(rule: oci.DeviceRule, letter: str) -> bool:
        return (
            letter in rule["access"]
            and rule.get("type", "a") in ("a", kind)
            and rule.get("major", -1) in (-1, major)
            and rule.get("minor", -1) in (-1, minor)
        )

    for letter in access:
        verdicts = [rule.get("allow", False) for rule in rules if decides(rule, letter)]
        if not verdicts or not verdicts[-1]:
            return False
    return True


def ask(rules: Sequence[oci.DeviceRule], access: str, kind: str, major: int, minor: int) -> bool:
    bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    result = run(devices.program(rules), bits, {"b": 1, "c": 2}[kind], major, minor)
    assert result in (0, 1)
    return bool(result)


accesses = st.sets(st.sampled_from("rwm"), min_size=1).map("".join)
numbers = st.sampled_from([-1, 0, 1, 2, 0x80000000, 0xFFFFFFFF])
rule = st.fixed_dictionaries(
    {"allow": st.booleans(), "access": accesses},
    optional={"type": st.sampled_from("abc"), "major": numbers, "minor": numbers},
)
request = st.tuples(
    st.sets(st.sampled_from("rwm")).map("".join),
    st.sampled_from("bc"),
    st.sampled_from([0, 1, 2, 0x80000000, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 2, 0x80000000, 0xFFFFFFFF]),
)


@given(st.lists(rule, max_size=6), request)
def test_program_does_what_the_rules_say(rules: Any, asked: tuple[str, str, int, int]) -> None:
    assert ask(rules, *asked) == allowed(rules, *asked)


@pytest.mark.parametrize(
    ("rules", "access", "expected"),
    [
        ([], "r", False),
        ([], "", True),  # access(2) with F_OK
        ([{"allow": True, "access": "r"}, {"allow": True, "access": "w"}], "rw", True),
        ([{"allow": True, "access": "r"}], "rw", False),
        ([{"allow": True, "access": "rwm"}, {"allow": False, "access": "w"}], "rw", False),
        ([{"allow": True, "access": "rwm"}, {"allow": False, "access": "w"}], "r", True),
        ([{"allow": False, "access": "w"}, {"allow": True, "access": "rw"}], "rw", True),
        ([{"access": "rwm"}], "r", False),
        ([{"allow": True, "access": "r", "major": 8}], "r", False),
        ([{"allow": True, "access": "r", "major": 1, "minor": 3}], "r", True),
        ([{"allow": True, "access": "r", "minor": 3}], "r", True),
        ([{"allow": True, "access": "r", "type": "b"}], "r", False),
    ],
)
def test_one_request_to_the_character_device_1_3(rules: Any, access: str, expected: Any) -> None:
    assert ask(rules, access, "c", 1, 3) is expected


@pytest.mark.parametrize(
    ("access", "kind", "major", "minor", "expected"),
    [
        ("rw", "c", 1, 3, True),  # null
        ("rw", "c", 1, 5, True),  # zero
        ("rw", "c", 1, 7, True),  # full
        ("rw", "c", 1, 8, True),  # random
        ("rw", "c", 1, 9, True),  # urandom
        ("rw", "c", 5, 0, True),  # tty
        ("rw", "c", 5, 1, True),  # console
        ("rw", "c", 5, 2, True),  # ptmx
        ("rw", "c", 136, 0, True),
        ("rw", "c", 136, 250, True),
        ("m", "c", 10, 229, True),
        ("m", "b", 8, 0, True),
        ("r", "c", 1, 1, False),  # mem
        ("r", "c", 1, 11, False),  # kmsg
        ("r", "c", 10, 229, False),  # fuse
        ("rw", "c", 10, 200, False),  # tun
        ("r", "b", 8, 0, False),
        ("rw", "b", 1, 3, False),  # the same numbers, another kind
        ("rm", "b", 8, 0, False),
    ],
)
def test_default_rules(access: str, kind: str, major: int, minor: int, expected: Any) -> None:
    assert ask(devices.DEFAULT_RULES, access, kind, major, minor) is expected


@given(request)
def test_allow_all(asked: tuple[str, str, int, int]) -> None:
    assert ask(devices.ALLOW_ALL, *asked)


@pytest.mark.parametrize("number", [0, 1 << 31, (1 << 32) - 1])
def test_numbers_of_32_bits(number: int) -> None:
    rules: list[oci.DeviceRule] = [{"allow": True, "access": "r", "major": number, "minor": number}]
    assert ask(rules, "r", "c", number, number)
    assert not ask(rules, "r", "c", number, 7)
    assert not ask(rules, "r", "c", 7, number)


def test_an_access_that_does_not_exist_yet_is_denied() -> None:
    assert run(devices.program(devices.ALLOW_ALL), 8 | 2, 2, 1, 3) == 0


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"allow": True}, "access is empty"),
        ({"allow": True, "access": ""}, "access is empty"),
        ({"allow": True, "access": "rx"}, 'access "rx"'),
        ({"allow": True, "access": "r", "type": "u"}, 'type "u"'),
        ({"allow": True, "access": "r", "major": -2}, "major number -2"),
        ({"allow": True, "access": "r", "minor": 1 << 32}, "minor number 4294967296"),
    ],
)
def test_rules_that_are_none(rule: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        devices.program([rule])
