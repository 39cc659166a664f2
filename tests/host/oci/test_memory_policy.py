"""The memory policy of a container's processes, read back from the kernel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import differs, older, spec

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(
        not os.path.exists("/proc/self/numa_maps"), reason="the kernel knows no memory nodes"
    ),
]
knows_it = older("it knows no memory policy", runc="1.4", crun="1.24")


def policies(text: str) -> set[str]:
    """The policies in a numa_maps (proc(5))."""
    return {line.split()[1] for line in text.splitlines()}


@knows_it
@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        (
            {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
            "interleave=relative:0",
        ),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_PREFERRED"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
def test_the_program_has_it_and_so_has_an_exec(
    bundle: Bundle, policy: dict[str, Any], shown: str
) -> None:
    bundle.linux["memoryPolicy"] = policy
    bundle.up("sleep", "100")
    with open(f"/proc/{bundle.pid}/numa_maps") as file:
        assert shown in policies(file.read())
    assert shown in policies(bundle.exec("cat", "/proc/self/numa_maps").stdout)


@knows_it
def test_it_is_for_ordinary_users_in_the_container_and_for_what_they_start(bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    assert "bind:0" in policies(bundle.sh("cat /proc/self/numa_maps; true"))


def test_without_one_the_policy_is_the_callers(bundle: Bundle) -> None:
    with open("/proc/self/numa_maps") as file:
        ours = policies(file.read())
    assert policies(bundle.out("cat", "/proc/self/numa_maps")) <= ours


@knows_it
def test_nodes_that_the_host_does_not_have(bundle: Bundle) -> None:
    with open("/sys/devices/system/node/possible") as file:
        last = int(file.read().strip().replace("-", ",").split(",")[-1])
    if last >= 1023:
        pytest.skip("the host may have every node")
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1023"}
    said = bundle.refused()
    assert "memory policy" in said
    assert "invalid argument" in said


@differs("it does not know the property", "runc", "crun")
@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"mode": "MPOL_EVERYWHERE"},
        {"mode": "MPOL_BIND"},
        {"mode": "MPOL_LOCAL", "nodes": "0"},
        {"mode": "MPOL_BIND", "nodes": "x"},
        {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
        {
            "mode": "MPOL_BIND",
            "nodes": "0",
            "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
        },
    ],
)
def test_a_policy_that_cannot_be(bundle: Bundle, policy: dict[str, Any]) -> None:
    bundle.linux["memoryPolicy"] = policy
    assert "memoryPolicy" in bundle.refused()
