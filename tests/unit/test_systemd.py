"""What systemd is told of a container: names, properties, values of annotations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotSupported
from pycontain.runtime import gvariant, systemd
from pycontain.runtime.resources import Write, writes

if TYPE_CHECKING:
    from pycontain.model import oci

INFINITY = 2**64 - 1


def said(resources: oci.Resources) -> dict[str, tuple[str, object]]:
    return dict(systemd.limits(writes(resources)))


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("path", "parent", "unit"),
    [
        ("", "system.slice", "pycontain-box.scope"),
        ("machine.slice:libpod:0123", "machine.slice", "libpod-0123.scope"),
        ("a-b-c.slice:pre:fix", "a-b-c.slice", "pre-fix.scope"),
        (":docker:0123", "system.slice", "docker-0123.scope"),
        ("-:pre:fix", "-.slice", "pre-fix.scope"),
        ("-.slice:pre:fix", "-.slice", "pre-fix.scope"),
        ("user.slice::alone", "user.slice", "alone.scope"),
        (r"a.slice:b\x2bc:d@e", "a.slice", r"b\x2bc-d@e.scope"),
    ],
)
def test_slice_and_unit(path: str, parent: str, unit: str) -> None:
    assert systemd.unit_of(path, "box") == (parent, unit)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/a/b", "SLICE:PREFIX:NAME"),
        ("a.slice:b", "SLICE:PREFIX:NAME"),
        ("a.slice:b:c:d", "SLICE:PREFIX:NAME"),
        ("a.slice:b:", "SLICE:PREFIX:NAME"),
        ("a.slice:b:c.slice", "a scope, not a slice"),
        ("a:b:c", "'a' is no slice"),
        ("a--b.slice:b:c", "is no slice"),
        ("-a.slice:b:c", "is no slice"),
        ("a-.slice:b:c", "is no slice"),
        (".slice:b:c", "is no slice"),
        ("a/b.slice:b:c", "is no name of a unit"),
        ("a.slice:b:c+d", "is no name of a unit"),
        ("a.slice:b:../c", "is no name of a unit"),
        (f"a.slice:b:{'c' * 300}", "is no name of a unit"),
    ],
)
def test_names_that_systemd_does_not_have(path: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        systemd.unit_of(path, "box")


def test_an_id_that_is_no_name_of_a_unit() -> None:
    with pytest.raises(InvalidInput, match=r"a\+b"):
        systemd.unit_of("", "a+b")


# -------------------------------------------------------------------------------------- properties


def test_nothing_is_said_of_no_limits() -> None:
    assert said({}) == {}


def test_memory() -> None:
    assert said({"memory": {"limit": 1 << 30, "reservation": 4096, "swap": 3 << 29}}) == {
        "MemoryMax": ("t", 1 << 30), "MemoryLow": ("t", 4096), "MemorySwapMax": ("t", 1 << 29),
    }  # fmt: skip
    assert said({"memory": {"limit": -1}}) == {
        "MemoryMax": ("t", INFINITY), "MemorySwapMax": ("t", INFINITY),
    }  # fmt: skip


def test_tasks_and_weights() -> None:
    resources: oci.Resources = {
        "pids": {"limit": 7}, "cpu": {"shares": 1024}, "blockIO": {"weight": 1000},
    }  # fmt: skip
    assert said(resources) == {
        "TasksMax": ("t", 7), "CPUWeight": ("t", 100), "IOWeight": ("t", 10000),
    }  # fmt: skip
    assert said({"pids": {"limit": -1}}) == {"TasksMax": ("t", INFINITY)}
    assert said({"cpu": {"idle": 1}}) == {"CPUWeight": ("t", 0)}
    assert said({"cpu": {"idle": 0}}) == {}


@pytest.mark.parametrize(
    ("quota", "period", "share"),
    [
        (50_000, 100_000, 500_000),
        (50_000, 0, 500_000),
        (200_000, 50_000, 4_000_000),
        (12_345, 100_000, 130_000),  # 12.345 %: the next whole percent
        (1_000, 1_000_000, 10_000),
        (-1, 0, INFINITY),
    ],
)
def test_quota(quota: int, period: int, share: int) -> None:
    found = said({"cpu": {"quota": quota, "period": period}})
    assert found.pop("CPUQuotaPerSecUSec") == ("t", share)
    assert found == ({"CPUQuotaPeriodUSec": ("t", period)} if period else {})


@given(st.integers(1000, 10**9), st.integers(1000, 1_000_000))
def test_the_quota_of_the_unit_is_never_tighter(quota: int, period: int) -> None:
    kind, share = said({"cpu": {"quota": quota, "period": period}})["CPUQuotaPerSecUSec"]
    assert kind == "t"
    assert isinstance(share, int)
    assert 0 <= share * period - quota * 1_000_000 < 10_000 * period
    assert share % 10_000 == 0


@pytest.mark.parametrize(
    ("text", "mask"),
    [("0", b"\x01"), ("0-2,4", b"\x17"), ("7", b"\x80"), ("8", b"\x00\x01"), ("0, 9", b"\x01\x02")],
)
def test_processors_and_nodes(text: str, mask: bytes) -> None:
    assert said({"cpu": {"cpus": text}}) == {"AllowedCPUs": ("ay", mask)}
    assert said({"cpu": {"mems": text}}) == {"AllowedMemoryNodes": ("ay", mask)}


def test_lines_of_the_users_own() -> None:
    unified = {
        "memory.high": "1G", "memory.min": "0x1000", "pids.max": "max", "io.weight": "default 50",
        "cpu.max": "max 50000", "cpuset.cpus": "", "cpu.weight": "200",
    }  # fmt: skip
    assert said({"unified": unified, "pids": {"limit": 5}}) == {
        "MemoryHigh": ("t", 1 << 30), "MemoryMin": ("t", 4096), "TasksMax": ("t", INFINITY),
        "IOWeight": ("t", 50), "CPUQuotaPerSecUSec": ("t", INFINITY),
        "CPUQuotaPeriodUSec": ("t", 50_000), "AllowedCPUs": ("ay", b""), "CPUWeight": ("t", 200),
    }  # fmt: skip


def test_what_systemd_does_not_set_has_no_property() -> None:
    files = {
        "io.max": "8:0 rbps=1", "io.weight": "8:0 100", "hugetlb.2MB.max": "0", "misc.max": "a 1",
        "memory.oom.group": "1", "cgroup.max.depth": "3",
    }  # fmt: skip
    assert systemd.limits([Write(file, text) for file, text in files.items()]) == []


@pytest.mark.parametrize("text", ["", "much", "-1", "1Q", "G", "99999999999999999999"])
def test_no_amount(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"memory\.high"):
        systemd.limits([Write("memory.high", text)])


# ------------------------------------------------------------------------------------- annotations


def test_annotations() -> None:
    annotations = {
        "org.systemd.property.TimeoutStopSec": "1.5",
        "org.systemd.property.JobTimeoutSec": "uint64 3",
        "org.systemd.property.RuntimeMaxUSec": "uint64 4",
        "org.systemd.property.CollectMode": "'inactive'",
        "org.systemd.propertyOther": "ignored",
        "another": "one",
    }
    assert systemd.annotated(annotations) == [
        ("TimeoutStopUSec", ("t", 1_500_000)),
        ("JobTimeoutUSec", ("t", 3_000_000)),
        ("RuntimeMaxUSec", ("t", 4)),
        ("CollectMode", ("s", "inactive")),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PIDs", "[uint32 1]"),
        ("", "1"),
        ("A.B", "1"),
        ("Ä", "1"),
        ("TimeoutStopSec", "'long'"),
        ("TimeoutStopSec", "-1"),
        ("Description", "words"),
    ],
)
def test_annotations_that_cannot_be(name: str, text: str) -> None:
    key = f"org.systemd.property.{name}"
    with pytest.raises(InvalidInput) as info:
        systemd.annotated({key: text})
    assert key in info.value.message


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", "b", True),
        (" false ", "b", False),
        ("5", "i", 5),
        ("-5", "i", -5),
        ("0x1f", "i", 31),
        ("1.5", "d", 1.5),
        ("uint64 18446744073709551615", "t", INFINITY),
        ("int64 -1", "x", -1),
        ("double 2", "d", 2.0),
        ("byte 255", "y", 255),
        ("boolean true", "b", True),
        ("@t 5", "t", 5),
        ("'a \"b\" \\'c\\''", "s", "a \"b\" 'c'"),
        ('"tab\\tand \\u00e9 \\U0001f600"', "s", "tab\tand é \U0001f600"),
        ("objectpath '/a'", "o", "/a"),
        ("['a', 'b']", "as", ["a", "b"]),
        ("[1,2,]", "ai", [1, 2]),
        ("[uint32 1, 2]", "au", [1, 2]),
        ("@as []", "as", []),
        ("@au [1, 2]", "au", [1, 2]),
        ("[byte 1, 2]", "ay", b"\x01\x02"),
        ("[[1], [2]]", "aai", [[1], [2]]),
        ("('/dev/null', uint64 3)", "(st)", ("/dev/null", 3)),
        ("[('/dev/null', 'rw')]", "a(ss)", [("/dev/null", "rw")]),
        ("()", "()", ()),
    ],
)
def test_values(text: str, kind: str, value: Any) -> None:
    assert gvariant.parse(text) == (kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "word", "1 2", "1]", "[", "[1", "[1 2]", "[1, 'a']", "[]", "'open", "'bad\\u12'",
        "uint64 -1", "byte 256", "int32 2147483648", "uint32 'a'", "boolean 1", "string 5",
        "5000000000", "@", "@a", "@z 1", "@a{sv} {}", "{'a': 1}", "<1>", "just 5", "b'bytes'",
        "@as ['a', 1]", "(1", "@s [1]", "uint64", "uint64 int32 1",
    ],
)  # fmt: skip
def test_no_values(text: str) -> None:
    with pytest.raises(InvalidInput, match="GVariant text"):
        gvariant.parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        gvariant.parse(text)
    except InvalidInput:
        return


@given(st.text())
def test_a_string_is_read_back(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    assert gvariant.parse(f"'{quoted}'") == ("s", text)


# --------------------------------------------------------------------------------- the conversation


def test_without_systemd_nothing_is_asked() -> None:
    if systemd.booted():
        pytest.skip("systemd runs this machine")
    with pytest.raises(NotSupported, match="systemd does not run this machine"):
        systemd.Manager()


def test_the_placeholder_ends_and_is_waited_for() -> None:
    holder = systemd.Placeholder()
    assert os.path.exists(f"/proc/{holder.pid}")
    holder.end()
    assert not os.path.exists(f"/proc/{holder.pid}")
    holder.end()
