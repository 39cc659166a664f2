"""What a process is and may do, as steps: values as the kernel has them, and their order."""

from __future__ import annotations

import itertools
import os
import resource
import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.kernel import capability
from pycontain.runtime import privileges
from pycontain.runtime.privileges import DEFAULT_PATH, RLIMITS, Drop, cpu_mask, grantable
from pycontain.runtime.steps import Step

NEW_LISTENER = 1 << 3  # SECCOMP_FILTER_FLAG_NEW_LISTENER, linux/seccomp.h
SETS = ("bounding", "permitted", "effective", "inheritable", "ambient")


def process(**fields: Any) -> Any:
    return {"args": ["sh"], **fields}


def limits(**fields: Any) -> list[Step]:
    return privileges.limits(process(**fields))


# ------------------------------------------------------------------------------ scores and affinity


def test_oom_score() -> None:
    assert privileges.oom_score(process()) == []
    assert privileges.oom_score(process(oomScoreAdj=0)) == [Step("oom_score", "0")]
    found = privileges.oom_score(process(oomScoreAdj=-999))
    assert found == [Step("oom_score", "-999")]
    assert found[0].text == "set oom_score_adj to -999"


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("0", 1),
        ("0-3,7", 0b1000_1111),
        ("3,0", 0b1001),
        ("1-1", 0b10),
        ("0-2,1-3", 0b1111),
        ("63", 1 << 63),
        ("64", 1 << 64),
        ("8191", 1 << 8191),
    ],
)
def test_a_list_of_processors(text: str, mask: int) -> None:
    found = cpu_mask(text)
    assert int.from_bytes(found, "little") == mask
    # sched_setaffinity(2) takes whole longs.
    assert len(found) % 8 == 0
    assert len(found) - 8 < max(mask.bit_length() / 8, 1) <= len(found)


def test_an_empty_list_of_processors() -> None:
    assert cpu_mask("") == b""


@pytest.mark.parametrize(
    "text",
    [
        ",", "0,", ",0", "a", "1-a", "-1", "-", "0-", "0-1-2", "0x1", "1.5", "--1", "+1", "1_0",
        "0, 2", " 0", "\u0661", "00000",
    ],
)  # fmt: skip
def test_what_is_no_list_of_processors(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^must be a list such as 0-3,7, not "):
        cpu_mask(text)


@pytest.mark.parametrize("text", ["3-1", "8192", "0-8192", "0,9999"])
def test_processors_that_there_cannot_be(text: str) -> None:
    part = text.rpartition(",")[2]
    with pytest.raises(InvalidInput, match=rf'^no such range of processors "{part}"$'):
        cpu_mask(text)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), min_size=1, max_size=5))
def test_ranges_of_processors(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" for first, more in ranges)
    wanted = {cpu for first, more in ranges for cpu in range(first, first + more + 1)}
    mask = int.from_bytes(cpu_mask(text), "little")
    assert {cpu for cpu in range(300) if mask >> cpu & 1} == wanted


def test_a_mask_that_the_kernel_takes() -> None:
    allowed = os.sched_getaffinity(0)
    text = ",".join(map(str, allowed))
    assert int.from_bytes(cpu_mask(text), "little") == sum(1 << cpu for cpu in allowed)


@pytest.mark.parametrize("affinity", [None, {}, {"initial": ""}, {"final": ""}])
def test_no_affinity(affinity: Any) -> None:
    found = process() if affinity is None else process(execCPUAffinity=affinity)
    assert privileges.initial_affinity(found) == privileges.final_affinity(found) == []


def test_affinity_before_and_after() -> None:
    found = process(execCPUAffinity={"initial": "0", "final": "64"})
    (first,), (last,) = privileges.initial_affinity(found), privileges.final_affinity(found)
    assert first == Step("initial_affinity", b"\1" + bytes(7))
    assert last == Step("affinity", bytes(8) + b"\1" + bytes(7))
    assert (first.text, last.text) == ("run on processors 0", "run on processors 64")


# ------------------------------------------------------------------------------------------- limits


def test_limits_have_the_kernels_numbers() -> None:
    known = 0
    for number, name in enumerate(RLIMITS):
        constant = getattr(resource, f"RLIMIT_{name}", None)
        known += constant is not None
        assert constant in (None, number), name
    assert known >= 14
    assert len(RLIMITS) == len({*RLIMITS}) == 16  # RLIM_NLIMITS, asm-generic/resource.h


def test_limits_in_their_order() -> None:
    infinity = (1 << 64) - 1
    found = limits(
        rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": infinity},
        ]
    )
    assert found == [Step("rlimit", 7, 1, 2), Step("rlimit", 4, 0, infinity)]
    assert found[0].text == "limit nofile to 1:2"


@pytest.mark.parametrize("name", ["RLIMIT_NONSENSE", "x", "", "RLIMIT_", "RLIMIT_RLIMIT_CPU"])
def test_a_limit_that_there_is_not(name: str) -> None:
    with pytest.raises(InvalidInput, match="there is no such limit"):
        limits(rlimits=[{"type": name, "soft": 1, "hard": 1}])


# --------------------------------------------------------------------------------------- scheduling


def test_the_attributes_of_the_scheduler() -> None:
    """The sched_attr of sched_setattr(2), in its first form."""
    (found,) = limits(
        scheduler={
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
            "nice": -5,
            "priority": 0,
            "runtime": 1 << 40,
            "deadline": (1 << 63) - 1,
            "period": 3,
        }
    )
    assert found.name == "scheduler"
    assert found.text == "schedule by SCHED_DEADLINE"
    (data,) = found.args
    assert data == (
        bytes([48, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0])
        + bytes([0xFB, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0])
        + bytes([0, 0, 0, 0, 0, 1, 0, 0]) + b"\xff" * 7 + b"\x7f" + bytes([3, 0, 0, 0, 0, 0, 0, 0])
    )  # fmt: skip


@pytest.mark.parametrize("name", ["OTHER", "FIFO", "RR", "BATCH", "IDLE"])
def test_policies_have_the_kernels_numbers(name: str) -> None:
    number = getattr(os, f"SCHED_{name}")
    (found,) = limits(scheduler={"policy": f"SCHED_{name}", "priority": 9})
    assert found.args == (struct.pack("=IIQiIQQQ", 48, number, 0, 0, 9, 0, 0, 0),)


@pytest.mark.parametrize(
    ("name", "bit"),
    [
        ("RESET_ON_FORK", 1), ("RECLAIM", 2), ("DL_OVERRUN", 4), ("KEEP_POLICY", 8),
        ("KEEP_PARAMS", 0x10), ("UTIL_CLAMP_MIN", 0x20), ("UTIL_CLAMP_MAX", 0x40),
    ],
)  # fmt: skip
def test_flags_have_the_kernels_bits(name: str, bit: int) -> None:
    (found,) = limits(scheduler={"policy": "SCHED_OTHER", "flags": [f"SCHED_FLAG_{name}"] * 2})
    (data,) = found.args
    assert isinstance(data, bytes)
    assert struct.unpack_from("=Q", data, 8) == (bit,)


@pytest.mark.parametrize(
    ("name", "priority", "value"),
    [("RT", 0, 1 << 13), ("RT", 7, 1 << 13 | 7), ("BE", 4, 2 << 13 | 4), ("IDLE", 0, 3 << 13)],
)
def test_priorities_of_io(name: str, priority: int, value: int) -> None:
    """IOPRIO_PRIO_VALUE of ioprio_set(2)."""
    asked = {"class": f"IOPRIO_CLASS_{name}", "priority": priority}
    (found,) = limits(ioPriority=asked)
    assert found == Step("io_priority", value)
    assert found.text == f"set I/O priority IOPRIO_CLASS_{name}"
    if not priority:
        assert limits(ioPriority={"class": asked["class"]}) == [found]


def test_the_profile_of_apparmor() -> None:
    asked = process(apparmorProfile="docker-default")
    assert privileges.label(asked) == [Step("apparmor", "docker-default")]
    assert privileges.label(process(apparmorProfile="")) == []


def test_what_takes_privileges_in_its_order() -> None:
    found = limits(
        rlimits=[{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}],
        scheduler={"policy": "SCHED_OTHER"},
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 0},
    )
    assert [step.name for step in found] == ["rlimit", "scheduler", "io_priority"]
    assert limits() == []


@pytest.mark.parametrize(("domain", "value"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(domain: Any, value: int) -> None:
    found = privileges.personality({"domain": domain})
    assert found == Step("personality", value)
    assert found.text == f"set personality {domain}"


# --------------------------------------------------------------------------------- giving up rights


def parts(
    no_new_privileges: bool, seccomp: tuple[bytes, int] | None
) -> tuple[list[str], list[str]]:
    drop = Drop(process(noNewPrivileges=no_new_privileges), seccomp)
    return [step.name for step in drop.first], [step.name for step in drop.last]


@pytest.mark.parametrize(
    ("no_new_privileges", "flags", "first", "last"),
    [
        (False, None, ["credentials"], []),
        (True, None, ["no_new_privs", "credentials"], []),
        # Without no_new_privs a filter needs CAP_SYS_ADMIN (seccomp(2)).
        (False, 0, ["seccomp", "credentials"], []),
        (False, NEW_LISTENER, ["seccomp", "credentials"], []),
        (True, 0, ["no_new_privs", "credentials"], ["seccomp"]),
        (True, 2, ["no_new_privs", "credentials"], ["seccomp"]),
        # While there is somebody to take the listener.
        (True, NEW_LISTENER, ["no_new_privs", "credentials", "seccomp"], []),
        (True, NEW_LISTENER | 2, ["no_new_privs", "credentials", "seccomp"], []),
    ],
)
def test_where_the_filter_stands(
    no_new_privileges: bool, flags: int | None, first: list[str], last: list[str]
) -> None:
    seccomp = None if flags is None else (b"F" * 8, flags)
    assert parts(no_new_privileges, seccomp) == (first, last)
    drop = Drop(process(noNewPrivileges=no_new_privileges), seccomp)
    filters = [step for step in (*drop.first, *drop.last) if step.name == "seccomp"]
    assert filters == ([] if flags is None else [Step("seccomp", b"F" * 8, flags)])


def test_no_new_privileges_unsaid_are_not_set() -> None:
    assert [step.name for step in Drop(process(), None).first] == ["credentials"]


def credentials(**fields: Any) -> Step:
    (found,) = Drop(process(**fields), None).first
    return found


def test_credentials_of_nobody_in_particular() -> None:
    """Without the field there are no capabilities at all."""
    assert credentials() == Step("credentials", 0, 0, b"", 0, 0, 0, 0, 0)
    assert credentials().text == "become 0:0 with capabilities no"


def test_users_and_groups() -> None:
    user = {"uid": 1, "gid": 4294967294, "additionalGids": [5, 4294967294, 5]}
    found = credentials(user=user)
    assert found.args[:3] == (1, 4294967294, struct.pack("=III", 5, 4294967294, 5))


@pytest.mark.parametrize("kind", SETS)
def test_each_set_of_capabilities_has_its_place(kind: str) -> None:
    found = credentials(capabilities={kind: ["CAP_CHOWN", "CAP_SYS_ADMIN"]})
    expected = [1 | 1 << 21 if name == kind else 0 for name in SETS]
    assert [*found.args[3:]] == expected


def test_capabilities_in_words() -> None:
    found = credentials(capabilities={"permitted": ["CAP_CHOWN", "CAP_KILL"]})
    assert found.text == "become 0:0 with capabilities chown, kill"


def test_a_capability_that_there_is_not() -> None:
    with pytest.raises(InvalidInput, match="CAP_NONSENSE"):
        credentials(capabilities={"effective": ["CAP_NONSENSE"]})


# ------------------------------------------------------------------------------ what can be granted


def granted(sets: Any, limit: int | None) -> tuple[dict[str, list[str]], list[str]]:
    result, refused = grantable(sets, limit)
    return cast("dict[str, list[str]]", result), refused


def test_everything_can_be_granted_in_a_new_user_namespace() -> None:
    sets = {kind: [*capability.NAMES] for kind in SETS}
    assert granted(sets, None) == (sets, [])


def test_what_the_caller_does_not_have_cannot_be_granted() -> None:
    sets = {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_CHOWN"]}
    only_kill = 1 << capability.NUMBERS["CAP_KILL"]
    assert granted(sets, only_kill) == ({"bounding": ["CAP_KILL"], "effective": []}, ["CAP_CHOWN"])
    assert granted(sets, 0) == ({"bounding": [], "effective": []}, ["CAP_CHOWN", "CAP_KILL"])


@pytest.mark.parametrize("limit", [None, (1 << 64) - 1])
def test_what_no_kernel_knows_cannot_be_granted(limit: int | None) -> None:
    sets = {"bounding": ["CAP_NEW", "CAP_KILL", "kill", ""], "permitted": ["CAP_NEW"]}
    assert granted(sets, limit) == (
        {"bounding": ["CAP_KILL"], "permitted": []}, ["", "CAP_NEW", "kill"],
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["permitted", "inheritable"])
def test_an_ambient_capability_has_to_be_permitted_and_inheritable(missing: str) -> None:
    names = ["CAP_KILL", "CAP_CHOWN"]
    sets = {"permitted": names, "inheritable": names, "ambient": names}
    assert granted(sets, None) == (sets, [])
    fewer = {**sets, missing: ["CAP_CHOWN"]}
    assert granted(fewer, None) == ({**fewer, "ambient": ["CAP_CHOWN"]}, ["CAP_KILL"])
    del fewer[missing]
    assert granted(fewer, None) == ({**fewer, "ambient": []}, ["CAP_CHOWN", "CAP_KILL"])


def test_ambient_and_not_grantable_at_all() -> None:
    names = ["CAP_KILL", "CAP_CHOWN"]
    sets = {"permitted": names, "inheritable": names, "ambient": names}
    limit = 1 << capability.NUMBERS["CAP_CHOWN"]
    assert granted(sets, limit) == ({kind: ["CAP_CHOWN"] for kind in sets}, ["CAP_KILL"])


def test_nothing_asked_for() -> None:
    assert granted({}, 0) == ({}, [])
    assert granted({"ambient": []}, None) == ({"ambient": []}, [])


def test_what_was_asked_for_is_not_changed() -> None:
    names = ["CAP_KILL"]
    sets = {"bounding": names}
    granted(sets, 0)
    assert sets == {"bounding": ["CAP_KILL"]}
    assert names == ["CAP_KILL"]


words = st.sampled_from([*capability.NAMES[:6], "CAP_NEW"])


@given(
    st.dictionaries(st.sampled_from(SETS), st.lists(words, max_size=6)),
    st.none() | st.integers(0, 63),
)
def test_what_is_granted_can_be_set(sets: dict[str, list[str]], limit: int | None) -> None:
    result, refused = granted(sets, limit)
    assert result.keys() == sets.keys()
    found = credentials(capabilities=result)
    for mask in found.args[3:]:
        assert isinstance(mask, int)
        assert limit is None or not mask & ~limit
    inheritable, ambient = found.args[6:]
    permitted = found.args[4]
    assert isinstance(ambient, int)
    assert isinstance(permitted, int)
    assert isinstance(inheritable, int)
    assert not ambient & ~(permitted & inheritable)
    lost = {name for kind in sets for name in sets[kind] if name not in result[kind]}
    assert refused == sorted(lost)


# -------------------------------------------------------------------------------------- the program


@pytest.mark.parametrize(
    ("user", "value", "text"),
    [
        (None, 0o022, "set umask 0022"),
        ({}, 0o022, "set umask 0022"),
        ({"umask": 0}, 0, "set umask 0000"),
        ({"umask": 0o777}, 0o777, "set umask 0777"),
    ],
)
def test_umask(user: Any, value: int, text: str) -> None:
    found = privileges.umask(process() if user is None else process(user=user))
    assert found == Step("umask", value)
    assert found.text == text


def test_the_program() -> None:
    found = privileges.program(process(args=["a", "", "b"], env=["PATH=/x", "A="]))
    assert found == Step("exec", ("a", "", "b"), ("PATH=/x", "A="), ("/x/a",))
    assert found.text == "execute a"
    assert privileges.program(process(args=["/a"])) == Step("exec", ("/a",), (), ("/a",))


@pytest.mark.parametrize(
    ("program", "env", "paths"),
    [
        ("sh", ["PATH=/a:/b"], ["/a/sh", "/b/sh"]),
        ("/bin/sh", ["PATH=/a"], ["/bin/sh"]),
        ("./sh", ["PATH=/a"], ["./sh"]),
        ("a/b", [], ["a/b"]),
        ("sh", ["PATH=/a", "PATH=/b"], ["/b/sh"]),
        ("sh", ["PATH=/a::/b"], ["/a/sh", "./sh", "/b/sh"]),
        ("sh", ["PATH=/a:"], ["/a/sh", "./sh"]),
        ("sh", ["XPATH=/a"], [f"{folder}/sh" for folder in DEFAULT_PATH.split(":")]),
        ("sh", ["PATH"], [f"{folder}/sh" for folder in DEFAULT_PATH.split(":")]),
        ("sh", ["PATH="], ["./sh"]),
        ("", ["PATH=/a"], ["./"]),
    ],
)
def test_candidates(program: str, env: list[str], paths: list[str]) -> None:
    assert privileges.candidates({"args": [program], "env": env}) == paths


def test_candidates_without_an_environment() -> None:
    found = privileges.candidates({"args": ["sh"]})
    assert found == [f"{folder}/sh" for folder in DEFAULT_PATH.split(":")]


@given(st.lists(st.text("ab/.", max_size=3), max_size=4), st.text("ab", min_size=1, max_size=3))
def test_there_is_always_a_candidate(folders: list[str], name: str) -> None:
    found = privileges.candidates({"args": [name], "env": [f"PATH={':'.join(folders)}"]})
    assert len(found) == max(len(folders), 1)
    assert all(path.endswith(f"/{name}") for path in found)
    for folder, path in itertools.zip_longest(folders, found, fillvalue=""):
        assert path == f"{folder or '.'}/{name}"
