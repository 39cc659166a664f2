"""The other controllers, ``unified``, and what is refused."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .control_files import MIB, eat, group_of, refused_update, stats, update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.bundle import Bundle

pytestmark = pytest.mark.vm

HUGE = 2 * MIB
POOL = Path(f"/sys/kernel/mm/hugepages/hugepages-{HUGE >> 10}kB/nr_hugepages")
MMAP = 9  # on x86-64
MAP_HUGETLB = 0x40000
FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Eight of them."""
    before = POOL.read_text()
    POOL.write_text("8")
    assert int(POOL.read_text()) == 8
    yield
    POOL.write_text(before)


def mapping(count: int) -> list[str]:
    """A program that maps so many huge pages, and uses them."""
    numbers = (MMAP, 0, count * HUGE, mmap.PROT_READ | mmap.PROT_WRITE, FLAGS, -1, 0)
    return ["probe", *map(str, numbers)]


def test_huge_pages(bundle: Bundle, huge_pages: None) -> None:
    bundle.linux["resources"] = {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * HUGE}]}
    bundle.up()
    group = group_of(bundle)
    assert bundle.exec(*mapping(2)).stdout == "ok\n"
    assert bundle.exec(*mapping(3)).stdout == "ENOMEM\n"
    refused = group.key("hugetlb.2MB.events", "max")
    assert refused > 0
    assert stats(bundle)["hugetlb"]["2MB"] == {"usage": 0, "failcnt": refused}
    update(bundle, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * HUGE}]})
    assert bundle.exec(*mapping(3)).stdout == "ok\n"
    said = refused_update(bundle, {"hugepageLimits": [{"pageSize": "3MB", "limit": HUGE}]})
    assert "hugetlb.3MB.max" in said


def test_unified_files(bundle: Bundle) -> None:
    given = {
        "memory.max": str(32 * MIB), "memory.high": str(24 * MIB), "memory.swap.max": "0",
        "memory.oom.group": "1", "pids.max": "30", "cpu.max": "50000 100000", "cpu.weight": "50",
        "cgroup.max.descendants": "3",
    }  # fmt: skip
    # Both forms for one limit: unified has the last word.
    bundle.linux["resources"] = {"unified": given, "pids": {"limit": 10}}
    bundle.up()
    group = group_of(bundle)
    assert {file: group.text(file) for file in given} == given
    assert bundle.exec(*eat(28)).returncode == 0
    assert group.key("memory.events", "high") > 0
    changed = {"pids.max": "40", "memory.high": "max"}
    update(bundle, {"unified": changed})
    assert {file: group.text(file) for file in given} == given | changed
    # With memory.oom.group the whole container goes.
    assert bundle.exec(*eat(48), ok=False).returncode == 137
    assert bundle.ended() == -9
    assert group.key("memory.events", "oom_group_kill") == 1


OUT_OF_RANGE: list[tuple[dict[str, Any], str]] = [
    ({"cpu": {"cpus": "0", "mems": "5"}}, "cpuset.mems=5"),
    ({"pids": {"limit": 1 << 40}}, f"pids.max={1 << 40}"),
    ({"cpu": {"quota": 1 << 62}}, f"cpu.max={1 << 62}"),
    ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma.max=mlx5_1 hca_handle=3"),
    ({"unified": {"memory.high": "much"}}, "memory.high=much"),
    ({"unified": {"cpu.weight": "20000"}}, "cpu.weight=20000"),
    ({"unified": {"misc.max": "sev 1"}}, "misc.max=sev 1"),
    ({"unified": {"memory.nothing": "1"}}, "this kernel has no such file"),
    ({"unified": {"dmem.max": "x 1"}}, "dmem (this kernel does not offer it)"),
    ({"hugepageLimits": [{"pageSize": "3MB", "limit": MIB}]}, "hugetlb.3MB.max"),
]


def test_what_the_kernel_refuses_is_named(bundle: Bundle) -> None:
    """In ``create`` and in ``update``, which leaves all limits as they were."""
    for resources, named in OUT_OF_RANGE:
        bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}, **resources}
        said = bundle.refused()
        assert named in said
        assert "Traceback" not in said
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 100}}
    bundle.up()
    group = group_of(bundle)
    for resources, named in OUT_OF_RANGE[::3]:
        said = refused_update(bundle, {"memory": {"limit": 32 * MIB}, **resources})
        assert named.partition(" (")[0] in said
        assert group.number("memory.max") == 64 * MIB
        assert group.number("pids.max") == 100
