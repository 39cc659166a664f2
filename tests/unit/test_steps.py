"""Plans on the wire: the table of operations is the executor's, and a bad plan is refused whole."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycontain._native._kernel import ffi, lib

from pycontain.runtime.steps import OPERATIONS, Handle, Step, encode, handles, indexes

HEADER = struct.Struct("=8sIIII")
SIDES = {"setting": 0, "host": 1, "container": 2}


def check(data: bytes) -> str | None:
    """What the executor's reader says: None for a plan that it would carry out."""
    why = lib.plan_check(data, len(data))
    return None if why == ffi.NULL else ffi.string(why).decode()


def wire(steps: list[Step], descriptors: int | None = None) -> bytes:
    wanted = handles(steps)
    return encode(steps, indexes(wanted), len(wanted) if descriptors is None else descriptors)


DEVICES = (Handle("given", "cgroup"), bytes(16))
NAMESPACE = Handle("file", "/proc/1/ns/net")
WAIT = Step("wait", Handle("given", "fifo"), Handle("given", "failure file"))


def good() -> list[Step]:
    return [
        Step("run", "r", "b"),
        Step("owner", Handle("given", "owner"), 1, 0),
        Step("cgroup", Handle("given", "cgroup")),
        Step("devices", Handle("given", "cgroup"), bytes(16)),
        Step("clone", 0x20000),
        Step("oom_score", "0"),
        Step("root", Handle("given", "root"), "/", 0),
        Step("bind", Handle("tree", "/a"), "/b", 0, 0, 0, 0, 0),
        Step("mount", "proc", "proc", "/proc", 14, ("a=b", "c"), 0),
        Step("ready"),
        Step("credentials", 1, 2, bytes(8), 3, 4, 5, 6, 7),
        Step("exec", ("sh", "-c", ""), (), ("/bin/sh",)),
    ]


def without(name: str) -> list[Step]:
    return [step for step in good() if step.name != name]


# ---------------------------------------------------------------------------------------- the table


def test_the_table_is_the_executors() -> None:
    theirs = []
    number = 1
    while (name := lib.plan_op_name(number)) != ffi.NULL:
        theirs.append((ffi.string(name).decode(), ffi.string(lib.plan_op_args(number)).decode()))
        number += 1
    assert tuple(theirs) == OPERATIONS[1:]
    assert lib.plan_op_name(0) == lib.plan_op_name(-1) == ffi.NULL


def test_no_name_is_there_twice() -> None:
    names = [name for name, _ in OPERATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("log", "setting"), ("streams", "setting"),
        ("clone", "host"), ("ready", "host"), ("sync", "host"), ("join_first", "host"),
        ("initial_affinity", "host"),
        ("mask", "container"), ("affinity", "container"), ("hook", "container"),
        ("wait", "container"), ("exec", "container"),
    ],
)  # fmt: skip
def test_sides(name: str, side: str) -> None:
    number = [row[0] for row in OPERATIONS].index(name)
    assert lib.plan_op_side(number) == SIDES[side]


# ------------------------------------------------------------------------------------ the wire form


def test_the_form_of_a_step() -> None:
    data = wire([Step("timeout", 5)])
    assert data[:24] == HEADER.pack(b"pycplan", 1, len(data), 1, 0)
    number = [row[0] for row in OPERATIONS].index("timeout")
    assert data[24:] == struct.pack("=IHH", 24, number, 1) + struct.pack("=IIQ", 8, 0, 5)


def test_strings_lists_and_padding() -> None:
    data = wire([Step("symlink", "ab", "")])
    assert data[32:] == (
        struct.pack("=II", 3, 0) + b"ab\0" + bytes(5) + struct.pack("=II", 1, 0) + bytes(8)
    )
    data = wire([Step("mask", ("a", "", "bc"))])
    assert data[32:] == struct.pack("=II", 6, 0) + b"a\0\0bc\0" + bytes(2)
    assert wire([Step("mask", ())])[32:] == struct.pack("=II", 0, 0)


def test_numbers_are_64_bits_and_wrap() -> None:
    assert wire([Step("timeout", -1)])[-8:] == b"\xff" * 8
    assert wire([Step("timeout", 1 << 63)])[-8:] == bytes(7) + b"\x80"


def test_a_path_of_any_bytes() -> None:
    name = b"/\xff\xfe".decode("utf-8", "surrogateescape")
    assert b"/\xff\xfe\0" in wire([Step("cwd", name)])


@pytest.mark.parametrize(
    "step",
    [
        Step("cwd", "a\0b"),
        Step("mask", ("a", "\0")),
        Step("cwd", 5),
        Step("timeout", "5"),
        Step("timeout"),
        Step("timeout", 1, 2),
        Step("hold", 3),
        Step("seccomp", "text", 0),
        Step("mask", "text"),
    ],
    ids=repr,
)
def test_what_does_not_fit_its_row(step: Step) -> None:
    with pytest.raises(ValueError, match=r"NUL|does not fit|takes"):
        wire([step])


def test_given_handles_are_shared_and_copies_of_mounts_are_not() -> None:
    """A copy that is attached at a second place would leave the first (move_mount(2))."""
    root, tree, branch = Handle("given", "r"), Handle("tree", "/a"), Handle("branch", "/a")
    plan = [
        Step("hold", root),
        Step("bind", tree, "/x", 0, 0, 0, 0, 0),
        Step("hold", root),
        Step("bind", Handle("tree", "/a"), "/y", 0, 0, 0, 0, 0),
        Step("bind", branch, "/z", 0, 0, 0, 0, 0),
        Step("hold", Handle("process", "1")),
    ]
    wanted = handles(plan)
    assert wanted == [root, tree, tree, branch, Handle("process", "1")]
    index = indexes(wanted)
    assert [index(step.args[0]) for step in plan] == [0, 1, 0, 2, 3, 4]  # type: ignore[arg-type]


def test_a_tmpfs_that_was_filled_is_attached_once_too() -> None:
    first = Handle("copy_up", "/var", ("size=1m",))
    plan = [
        Step("bind", first, "/var", 0, 0, 0, 0, 0),
        Step("bind", Handle("copy_up", "/var", ("size=1m",)), "/var", 0, 0, 0, 0, 0),
        Step("bind", Handle("copy_up", "/var"), "/var", 0, 0, 0, 0, 0),
    ]
    wanted = handles(plan)
    assert wanted == [first, first, Handle("copy_up", "/var")]
    index = indexes(wanted)
    assert [index(step.args[0]) for step in plan] == [0, 1, 2]  # type: ignore[arg-type]


def test_the_same_tree_with_other_owners_is_another() -> None:
    plain, mapped = Handle("tree", "/a"), Handle("tree", "/a", ("0 1 1\n", "0 1 1\n", ""))
    assert plain != mapped
    assert len({plain, mapped, Handle("tree", "/a")}) == 2
    assert handles([Step("hold", plain), Step("hold", mapped)]) == [plain, mapped]
    assert repr(plain) == "Handle('tree', '/a')"
    assert repr(mapped) == "Handle('tree', '/a', ('0 1 1\\n', '0 1 1\\n', ''))"


def test_a_handle_is_like_no_other_object() -> None:
    assert Handle("given", "root") != "root"
    assert Step("ready") != "ready"


def test_steps_are_values() -> None:
    assert Step("cwd", "/", text="one") == Step("cwd", "/", text="other")
    assert Step("cwd", "/") != Step("cwd", "/a")
    assert len({Step("cwd", "/"), Step("cwd", "/")}) == 1
    assert repr(Step("cwd", "/")) == "Step('cwd', '/')"


# ---------------------------------------------------------------------------------- what is refused


def test_a_good_plan_is_taken() -> None:
    assert check(wire(good())) is None


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([], "no clone or no exec"),
        (without("clone"), "before"),
        (without("exec"), "no clone or no exec"),
        ([*good(), Step("cwd", "/")], "exec is not the last step"),
        ([Step("cwd", "/"), *good()], "before the clone"),
        ([*good()[:-1], Step("timeout", 1), good()[-1]], "after the clone"),
        ([Step("clone", 0), *good()], "more than one clone|after the clone"),
        ([Step("ready"), *good()], "before it"),
        ([Step("sync", "id maps"), *good()], "before it"),
        ([*good()[:-1], Step("time", ""), good()[-1]], "after it"),
        ([*good()[:-1], Step("devices", *DEVICES), good()[-1]], "after it"),
        ([*good()[:-1], Step("join_first", NAMESPACE, 0), good()[-1]], "after it"),
        ([*good()[:-1], Step("initial_affinity", bytes(8)), good()[-1]], "after it"),
        ([*good()[:-1], WAIT, WAIT, good()[-1]], "after the wait"),
        ([*good()[:-1], WAIT, Step("ready"), good()[-1]], "after the wait"),
        ([*good()[:-1], WAIT, Step("sync", "hooks"), good()[-1]], "after the wait"),
        ([*good()[:-1], WAIT, Step("oom_score", "1"), good()[-1]], "after the wait"),
        ([*good()[:-1], Step("exec", (), (), ("/x",))], "no arguments"),
        ([*good()[:-1], Step("exec", ("x",), (), ())], "no candidate"),
    ],
)
def test_plans_in_the_wrong_order(steps: list[Step], why: str) -> None:
    told = check(wire(steps))
    assert told is not None
    assert any(word in told for word in why.split("|")), told


def test_what_may_follow_a_wait() -> None:
    """What the process does to itself, while nobody is there to hear of it."""
    hook = Step("hook", "/h", ("/h",), (), 0, "{", "}")
    inherit = Step("inherit", Handle("given", "3"), 3)
    late = [hook, inherit, Step("close", 4), Step("seccomp", bytes(8), 0)]
    assert check(wire([*good()[:-1], WAIT, *late, good()[-1]])) is None


def test_what_may_precede_the_clone() -> None:
    early = [Step("initial_affinity", bytes(8)), Step("join_first", NAMESPACE, 0), Step("time", "")]
    assert check(wire([*good()[:4], *early, *good()[4:]])) is None


def test_descriptors_out_of_range() -> None:
    assert check(wire(good(), 5)) is None
    assert check(wire(good(), 3)) == "a descriptor index is out of range"
    assert check(wire(good(), 1025)) == "too many steps or descriptors"


@pytest.mark.parametrize(
    ("offset", "data", "why"),
    [
        (0, b"x", "not a plan"),
        (8, struct.pack("=I", 2), "another version"),
        (12, struct.pack("=I", 1), "not as long as"),
        (16, struct.pack("=I", 1000), "bad size"),
        (16, struct.pack("=I", 1), "bytes after the last step"),
        (16, struct.pack("=I", 1 << 30), "too many steps"),
        (24, struct.pack("=I", 0), "bad size"),
        (24, struct.pack("=I", 0xFFFFFFF8), "bad size"),
        (28, struct.pack("=H", 0), "unknown operation"),
        (28, struct.pack("=H", 999), "unknown operation"),
        (30, struct.pack("=H", 9), "wrong number of arguments"),
        (32, struct.pack("=I", 0xFFFFFFFF), "longer than its step"),
        (32, struct.pack("=I", 0), "NUL"),
    ],
)
def test_damaged_plans(offset: int, data: bytes, why: str) -> None:
    plan = bytearray(wire(good()))
    plan[offset : offset + len(data)] = data
    told = check(bytes(plan))
    assert told is not None
    assert why in told


def test_every_truncation_is_refused() -> None:
    plan = wire(good())
    for size in range(len(plan)):
        cut = bytearray(plan[:size])
        assert check(bytes(cut)) is not None
        if size >= 16:  # also where the header agrees
            cut[12:16] = struct.pack("=I", size)
            assert check(bytes(cut)) is not None


@settings(max_examples=400)
@given(st.data())
def test_no_mutation_crashes_the_reader(data: st.DataObject) -> None:
    plan = bytearray(wire(good()))
    for _ in range(data.draw(st.integers(1, 8))):
        kind = data.draw(st.sampled_from(["byte", "word", "cut", "insert"]))
        place = data.draw(st.integers(0, max(len(plan) - 1, 0)))
        if kind == "byte" and plan:
            plan[place] = data.draw(st.integers(0, 255))
        elif kind == "word":
            value = data.draw(st.sampled_from([0, 1, 7, 8, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF]))
            plan[place & ~3 : (place & ~3) + 4] = struct.pack("=I", value)
        elif kind == "cut":
            del plan[place : place + data.draw(st.integers(1, 64))]
        else:
            plan[place:place] = data.draw(st.binary(max_size=64))
    if data.draw(st.booleans()) and len(plan) >= 16:
        plan[12:16] = struct.pack("=I", len(plan))
    told = check(bytes(plan))
    assert told is None or told


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    assert check(data) is not None
    header = HEADER.pack(b"pycplan", 1, HEADER.size + len(data), 1, 0)
    assert check(header + data) is not None


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    st.integers(0, 2**64 - 1),
)
def test_any_text_and_number_is_carried(words: list[str], number: int) -> None:
    steps = [*good()[:-1], Step("umask", number), Step("exec", ("x", *words), words, ("/x",))]
    data = wire(steps)
    assert check(data) is None
    assert b"".join(word.encode() + b"\0" for word in words) in data
