"""Memory policies: what a configuration may ask for, and the step that is made of it."""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any, cast

import pytest

from pycontain.errors import InvalidInput
from pycontain.oci.features import features
from pycontain.runtime import fields, plan, privileges
from pycontain.runtime.check import check
from pycontain.runtime.steps import Handle, Step

STATIC, RELATIVE, BALANCING = 1 << 15, 1 << 14, 1 << 13
HEADER = "/usr/include/linux/mempolicy.h"


def config(policy: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}], "memoryPolicy": policy},
    }


def refusal(policy: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        check(config(policy))
    text = caught.value.message
    assert text.startswith("config.json: linux.memoryPolicy")
    return text.removeprefix("config.json: linux.memoryPolicy")


def step(mode: str, nodes: str = "", *flags: str) -> Step:
    asked = {"mode": f"MPOL_{mode}", "nodes": nodes, "flags": [f"MPOL_F_{flag}" for flag in flags]}
    accepted = check(config(asked))["linux"]["memoryPolicy"]
    return privileges.memory_policy(accepted)


@pytest.mark.parametrize(
    ("asked", "mode", "nodes"),
    [
        (("DEFAULT",), 0, 0),
        (("LOCAL",), 4, 0),
        (("PREFERRED",), 1, 0),
        (("PREFERRED", "1"), 1, 2),
        (("PREFERRED", "1", "RELATIVE_NODES"), 1 | RELATIVE, 2),
        (("BIND", "0-3,7"), 2, 0b1000_1111),
        (("BIND", "0", "STATIC_NODES", "NUMA_BALANCING"), 2 | STATIC | BALANCING, 1),
        (("INTERLEAVE", "0", "STATIC_NODES"), 3 | STATIC, 1),
        (("PREFERRED_MANY", "64", "NUMA_BALANCING"), 5 | BALANCING, 1 << 64),
        (("WEIGHTED_INTERLEAVE", "63"), 6, 1 << 63),
    ],
)
def test_mode_flags_and_nodes_become_the_kernels(
    asked: tuple[str, ...], mode: int, nodes: int
) -> None:
    found = step(*asked)
    assert found.name == "memory_policy"
    number, mask = found.args
    assert isinstance(mask, bytes)
    assert number == mode
    assert int.from_bytes(mask, "little") == nodes
    # set_mempolicy(2) takes whole longs.
    assert len(mask) == (nodes.bit_length() + 63) // 64 * 8


def test_a_mode_alone_is_enough_where_it_takes_no_nodes() -> None:
    accepted = check(config({"mode": "MPOL_LOCAL"}))["linux"]["memoryPolicy"]
    assert privileges.memory_policy(accepted) == Step("memory_policy", 4, b"")


def test_the_step_in_words() -> None:
    assert step("BIND", "0-1").text == "set memory policy MPOL_BIND of nodes 0-1"
    assert step("LOCAL").text == "set memory policy MPOL_LOCAL"


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({}, ".mode: missing"),
        ({"mode": "BIND"}, '.mode: unknown memory policy mode "BIND"'),
        ({"mode": "MPOL_BIND"}, ".nodes: missing for MPOL_BIND"),
        ({"mode": "MPOL_BIND", "nodes": ""}, ".nodes: missing for MPOL_BIND"),
        ({"mode": "MPOL_INTERLEAVE"}, ".nodes: missing for MPOL_INTERLEAVE"),
        ({"mode": "MPOL_PREFERRED_MANY"}, ".nodes: missing for MPOL_PREFERRED_MANY"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE"}, ".nodes: missing for MPOL_WEIGHTED_INTERLEAVE"),
        ({"mode": "MPOL_DEFAULT", "nodes": "0"}, ".nodes: MPOL_DEFAULT takes none"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, ".nodes: MPOL_LOCAL takes none"),
        ({"mode": "MPOL_BIND", "nodes": 0}, ".nodes: must be a string, not 0"),
        ({"mode": "MPOL_BIND", "nodes": "a"}, '.nodes: must be a list such as 0-3,7, not "a"'),
        ({"mode": "MPOL_BIND", "nodes": "3-1"}, '.nodes: no such range of memory nodes "3-1"'),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["STATIC_NODES"]},
         '.flags[0]: unknown memory policy flag "STATIC_NODES"'),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
         ".flags: MPOL_INTERLEAVE takes no MPOL_F_NUMA_BALANCING"),
        ({"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES"]},
         ".flags: MPOL_F_STATIC_NODES is nothing without nodes"),
        ({"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_RELATIVE_NODES"]},
         ".flags: MPOL_F_RELATIVE_NODES is nothing without nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0",
          "flags": ["MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]},
         ".flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"),
    ],
)  # fmt: skip
def test_what_cannot_be(policy: Any, reason: str) -> None:
    assert refusal(policy) == reason


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("3", [3]), ("0-2,7,1", [0, 1, 2, 7]), ("8191", [8191])]
)
def test_node_lists(text: str, numbers: list[int]) -> None:
    assert fields.node_list(text) == numbers


@pytest.mark.parametrize("text", [",", "1,", "-", "1-", "-1", " 1", "8192", "0-99999999999", "٣"])
def test_no_node_lists(text: str) -> None:
    with pytest.raises(InvalidInput):
        fields.node_list(text)


@pytest.mark.skipif(not os.path.exists(HEADER), reason="there are no kernel headers")
def test_the_numbers_are_the_kernels() -> None:
    with open(HEADER) as file:
        text = file.read()
    modes = re.findall(r"^\t(MPOL_[A-Z_]+),", text, re.MULTILINE)
    modes.remove("MPOL_MAX")
    known = [*privileges.MEMORY_MODES]
    # A header may be older than what we know.
    assert known[: len(modes)] == modes[: len(known)]
    assert [*privileges.MEMORY_MODES.values()] == [*range(len(known))]
    flags = dict(re.findall(r"#define (MPOL_F_\w+)\s+\(1 << (1[345])\)", text))
    assert {name: 1 << int(bit) for name, bit in flags.items()} == privileges.MEMORY_FLAGS


def test_what_is_checked_is_what_is_known() -> None:
    for mode in privileges.MEMORY_MODES:
        assert "unknown" not in (refusal({"mode": mode, "nodes": "x"}))
    told = cast("dict[str, Any]", features())["linux"]["memoryPolicy"]
    assert told["modes"] == [*privileges.MEMORY_MODES]
    assert told["flags"] == [*privileges.MEMORY_FLAGS]


def test_it_is_set_while_privileges_are_there_and_in_an_exec_too() -> None:
    spec = check(config({"mode": "MPOL_BIND", "nodes": "0"}))
    wanted = Step("memory_policy", 2, b"\1" + bytes(7))
    seccomp = (b"", 0)
    first = plan.container(spec, plan.Settings(seccomp=seccomp))
    second = plan.execution(
        spec["process"],
        Step("join", Handle("given", "container"), 0x20000),
        plan.Settings(seccomp=seccomp),
        memory_policy=spec["linux"]["memoryPolicy"],
    )
    for steps in (first, second):
        names = [each.name for each in steps]
        assert steps[names.index("memory_policy")] == wanted
        order = ["clone", "memory_policy", "seccomp", "credentials", "exec"]
        assert sorted(order, key=names.index) == order


@pytest.mark.parametrize("mode", privileges.MEMORY_MODES)
@pytest.mark.parametrize("flags", [(), *((flag,) for flag in privileges.MEMORY_FLAGS)])
def test_what_is_accepted_the_kernel_takes(mode: str, flags: tuple[str, ...]) -> None:
    """And what is refused it would not take, but for flags that it ignores."""
    if not kernel_takes({"mode": "MPOL_DEFAULT"}):
        pytest.skip("the kernel knows no memory policy, or a filter forbids it")
    for nodes in ("", "0"):
        policy: Any = {"mode": mode, "nodes": nodes, "flags": [*flags]}
        try:
            check(config(policy))
        except InvalidInput as err:
            if mode != "MPOL_DEFAULT" or nodes:
                assert kernel_takes(policy) is False, err.message
        else:
            # Apart from what came after the oldest kernel that we know.
            newer = mode == "MPOL_WEIGHTED_INTERLEAVE" or (mode == "MPOL_PREFERRED_MANY" and flags)
            assert kernel_takes(policy) or newer


def kernel_takes(policy: Any) -> bool:
    """Whether set_mempolicy(2) takes it, tried in a child."""
    number, mask = privileges.memory_policy(policy).args
    assert isinstance(mask, bytes)
    call = ctypes.CDLL(None, use_errno=True).syscall
    child = os.fork()
    if child == 0:
        os._exit(call(set_mempolicy(), number, mask or None, len(mask) * 8 + 1) != 0)
    return os.waitpid(child, 0)[1] == 0


def set_mempolicy() -> int:
    return {"x86_64": 238, "aarch64": 237}[os.uname().machine]
