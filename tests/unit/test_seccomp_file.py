"""Reading a seccomp profile that a user wrote, in OCI's form and in docker's."""

import json
import os
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, PycontainError
from pycontain.model import oci
from pycontain.runtime import seccomp, seccomp_file

HOST = types.SimpleNamespace(machine="x86_64", release="6.1.0-13-amd64")


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: HOST)


def parse(value: object, capabilities: Iterable[str] = ()) -> oci.Seccomp:
    return seccomp_file.parse(json.dumps(value).encode(), "p", capabilities)


def rules(*syscalls: object, capabilities: Iterable[str] = ()) -> list[oci.SeccompRule]:
    return parse({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls}, capabilities)[
        "syscalls"
    ]


def rule(**more: object) -> dict[str, object]:
    return {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", **more}


def test_oci_form(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 22,
                "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
            }
        ],
        "listenerMetadata": "unknown fields are nobody's business",
    }
    path.write_text(json.dumps(document))
    del document["listenerMetadata"]
    assert seccomp.load_profile(str(path), []) == document


def test_the_least() -> None:
    assert parse({"defaultAction": "SCMP_ACT_ALLOW"}) == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [],
        "flags": [],
        "syscalls": [],
    }


def test_null_is_absent() -> None:
    value: dict[str, object] = dict.fromkeys(
        ("defaultErrnoRet", "architectures", "archMap", "flags")
    )
    value["defaultAction"] = "SCMP_ACT_ALLOW"
    value["syscalls"] = [rule(args=None, errnoRet=None, includes=None, excludes=None, name=None)]
    assert parse(value)["syscalls"] == [rule()]


ARCH_MAP = [
    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
        ("aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        ("vax", []),
    ],
)
def test_arch_map(machine: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(machine=machine, release="6.1"))
    found = parse({"defaultAction": "SCMP_ACT_ALLOW", "archMap": ARCH_MAP})
    assert found["architectures"] == expected


def test_old_name() -> None:
    assert rules({"name": "read", "action": "SCMP_ACT_ALLOW"}) == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    ]


BOTH = ["CAP_A", "CAP_B"]


@pytest.mark.parametrize(
    ("condition", "capabilities", "expected"),
    [
        ({}, [], True),
        ({"includes": {}}, [], True),
        ({"excludes": {}}, [], True),
        ({"includes": {"caps": BOTH}}, ["CAP_A"], False),
        ({"includes": {"caps": BOTH}}, BOTH, True),
        ({"excludes": {"caps": BOTH}}, ["CAP_A"], False),
        ({"excludes": {"caps": BOTH}}, [], True),
        ({"includes": {"arches": ["amd64", "x32"]}}, [], True),
        ({"includes": {"arches": ["arm64"]}}, [], False),
        ({"excludes": {"arches": ["amd64"]}}, [], False),
        ({"excludes": {"arches": ["s390x"]}}, [], True),
        ({"includes": {"minKernel": "4.8"}}, [], True),
        ({"includes": {"minKernel": "6.1"}}, [], True),
        ({"includes": {"minKernel": "6.2"}}, [], False),
        ({"includes": {"minKernel": "10.0"}}, [], False),
        ({"excludes": {"minKernel": "6.1"}}, [], False),
        ({"excludes": {"minKernel": "6.2"}}, [], True),
        ({"includes": {"caps": ["CAP_A"], "arches": ["arm64"]}}, ["CAP_A"], False),
        ({"excludes": {"caps": ["CAP_A"], "arches": ["arm64"]}}, ["CAP_A"], False),
        ({"includes": {"arches": ["amd64"]}, "excludes": {"caps": ["CAP_A"]}}, ["CAP_A"], False),
        ({"includes": {"arches": ["amd64"]}, "excludes": {"caps": ["CAP_A"]}}, [], True),
    ],
)
def test_conditions(condition: dict[str, Any], capabilities: list[str], expected: Any) -> None:
    found = rules(rule(**condition), capabilities=capabilities)
    assert found == ([rule()] if expected else [])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "p: not an object"),
        ({}, "p: defaultAction: missing"),
        ({"defaultAction": 1}, "p: defaultAction: not a string"),
        (
            {"defaultAction": "SCMP_ACT_NOTIFY"},
            "p: defaultAction: SCMP_ACT_NOTIFY is not supported: nobody would answer",
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(action="SCMP_ACT_NOTIFY")]},
            "p: syscalls[0].action: SCMP_ACT_NOTIFY is not supported: nobody would answer",
        ),
        (
            {"defaultAction": "A", "architectures": ["B"], "archMap": ARCH_MAP},
            "p: architectures and archMap exclude each other",
        ),
        ({"defaultAction": "A", "archMap": [[]]}, "p: archMap[0]: not an object"),
        ({"defaultAction": "A", "syscalls": {}}, "p: syscalls: not a list"),
        ({"defaultAction": "A", "syscalls": [1]}, "p: syscalls[0]: not an object"),
        (
            {"defaultAction": "A", "syscalls": [{"action": "B"}]},
            "p: syscalls[0]: names no system call",
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(name="read")]},
            "p: syscalls[0]: name and names exclude each other",
        ),
        ({"defaultAction": "A", "syscalls": [{"names": ["x"]}]}, "p: syscalls[0].action: missing"),
        (
            {"defaultAction": "A", "syscalls": [rule(), rule(names=[1])]},
            "p: syscalls[1].names[0]: not a string",
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(errnoRet="EPERM")]},
            "p: syscalls[0].errnoRet: not a whole number",
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(args=[{"index": True}])]},
            "p: syscalls[0].args[0].index: not a whole number",
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(args=[{"index": 0}])]},
            "p: syscalls[0].args[0].value: missing",
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(includes={"minKernel": "six"})]},
            'p: syscalls[0].includes.minKernel: "six" is not a kernel version such as 4.8',
        ),
        (
            {"defaultAction": "A", "syscalls": [rule(excludes=[])]},
            "p: syscalls[0].excludes: not an object",
        ),
    ],
)
def test_documents_that_are_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_text_that_is_no_json(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="p: not json"):
        seccomp_file.parse(text, "p", [])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file or directory"):
        seccomp.load_profile(str(tmp_path / "none"), [])
    with pytest.raises(InvalidInput, match="is a directory"):
        seccomp.load_profile(str(tmp_path), [])


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
KEYS = """
    defaultAction architectures archMap syscalls names name action args index op value includes
    excludes caps arches minKernel flags errnoRet
"""
keys = st.sampled_from(KEYS.split())
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)


@given(documents)
def test_no_document_is_worse_than_invalid(document: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "uname", lambda: HOST)
        try:
            parse(document)
        except PycontainError as err:
            assert isinstance(err, InvalidInput)
