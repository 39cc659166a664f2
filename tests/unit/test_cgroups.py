"""Resources to control files of cgroup v2, by value; figures from files that look alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import Conflict, InvalidInput, NotFound, NotSupported
from pycontain.kernel import cgroup
from pycontain.runtime import cgroup_stats, cgroups
from pycontain.runtime.resources import Write, weight_of_shares, writes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 1 << 30


def lines(**resources: Any) -> list[str]:
    return [f"{line.file}={line.text}" for line in writes(resources)]  # type: ignore[arg-type]


def device(major: int, minor: int, **values: int) -> dict[str, int]:
    return {"major": major, "minor": minor, **values}


MEMORY = [
    ({}, []),
    ({"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0}, []),
    ({"limit": GIB}, ["memory.max=1073741824"]),
    ({"limit": GIB, "kernel": -1, "kernelTCP": -1}, ["memory.max=1073741824"]),
    ({"reservation": GIB}, ["memory.low=1073741824"]),
    ({"reservation": -1}, ["memory.low=max"]),
    ({"limit": GIB, "swap": 2 * GIB}, ["memory.max=1073741824", "memory.swap.max=1073741824"]),
    ({"limit": GIB, "swap": GIB}, ["memory.max=1073741824", "memory.swap.max=0"]),
    ({"limit": GIB, "swap": -1}, ["memory.max=1073741824", "memory.swap.max=max"]),
    ({"swap": -1}, ["memory.swap.max=max"]),
    ({"limit": -1}, ["memory.max=max", "memory.swap.max=max"]),
    ({"disableOOMKiller": False, "useHierarchy": True, "checkBeforeUpdate": True}, []),
]


@pytest.mark.parametrize(("memory", "expected"), MEMORY)
def test_memory(memory: dict[str, object], expected: list[str]) -> None:
    assert lines(memory=memory) == expected


CPU = [
    ({"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0}, []),
    ({"shares": 1024}, ["cpu.weight=100"]),
    ({"quota": 50000, "period": 200000}, ["cpu.max=50000 200000"]),
    ({"quota": 50000}, ["cpu.max=50000"]),
    ({"quota": -1}, ["cpu.max=max"]),
    ({"period": 200000}, ["cpu.max=max 200000"]),
    ({"quota": 50000, "burst": 50000}, ["cpu.max=50000", "cpu.max.burst=50000"]),
    ({"burst": 0}, ["cpu.max.burst=0"]),
    ({"idle": 1}, ["cpu.idle=1"]),
    # The kernel refuses the weight of an idle cgroup, and idle 0 must come before a weight.
    ({"idle": 1, "shares": 1024}, ["cpu.idle=1"]),
    ({"idle": 0, "shares": 1024}, ["cpu.idle=0", "cpu.weight=100"]),
    ({"cpus": "0-2,4", "mems": "0"}, ["cpuset.cpus=0-2,4", "cpuset.mems=0"]),
    ({"cpus": "", "mems": ""}, []),
]


@pytest.mark.parametrize(("cpu", "expected"), CPU)
def test_cpu(cpu: dict[str, object], expected: list[str]) -> None:
    assert lines(cpu=cpu) == expected


# Those of runc 1.3.2 and later.
SHARES = [(1, 1), (2, 1), (1024, 100), (2000, 170), (262144, 10000), (1 << 40, 10000)]


@pytest.mark.parametrize(("shares", "weight"), SHARES)
def test_shares_become_a_weight(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@given(st.integers(0, 300_000))
def test_more_shares_are_never_less_weight(shares: int) -> None:
    assert 1 <= weight_of_shares(shares) <= weight_of_shares(shares + 1) <= 10000


def test_pids() -> None:
    assert lines(pids={"limit": 100}) == ["pids.max=100"]
    assert lines(pids={"limit": -1}) == ["pids.max=max"]
    assert lines(pids={"limit": 0}) == []
    assert lines(pids={}) == []


def test_the_weight_goes_to_bfq_or_else_to_io_cost() -> None:
    for weight, scaled in ((10, 1), (500, 4950), (1000, 10000)):
        other = Write("io.weight", f"default {scaled}")
        expected = [Write("io.bfq.weight", f"default {weight}", instead=other)]
        assert writes({"blockIO": {"weight": weight}}) == expected


def test_a_weight_of_a_device() -> None:
    other = Write("io.weight", "8:16 1")
    block = {"weight": 0, "leafWeight": 0, "weightDevice": [device(8, 16, weight=10)]}
    assert writes({"blockIO": block}) == [Write("io.bfq.weight", "8:16 10", instead=other)]  # type: ignore[typeddict-item]


def test_the_throttles_of_a_device_are_one_line() -> None:
    assert lines(
        blockIO={
            "throttleReadBpsDevice": [device(8, 0, rate=600), device(8, 16, rate=0)],
            "throttleWriteBpsDevice": [device(8, 0, rate=700)],
            "throttleReadIOPSDevice": [device(8, 0, rate=0)],
            "throttleWriteIOPSDevice": [device(7, 1, rate=300)],
        }
    ) == ["io.max=8:0 rbps=600 wbps=700 riops=max", "io.max=8:16 rbps=max", "io.max=7:1 wiops=300"]


def test_huge_pages_are_limited_in_use_and_in_reservation() -> None:
    limits = [{"pageSize": "2MB", "limit": 4 << 20}, {"pageSize": "1GB", "limit": 0}]
    assert lines(hugepageLimits=limits) == [
        "hugetlb.2MB.max=4194304",
        "hugetlb.2MB.rsvd.max=4194304",
        "hugetlb.1GB.max=0",
        "hugetlb.1GB.rsvd.max=0",
    ]


def test_rdma() -> None:
    entries = {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 0}}
    assert lines(rdma=entries) == [
        "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        "rdma.max=rxe3 hca_object=0",
    ]


def test_what_says_nothing_writes_nothing() -> None:
    assert lines() == []
    assert lines(network={"classID": 0, "priorities": []}, unified={}, rdma={}) == []


def test_unified_wins_over_what_is_converted() -> None:
    found = lines(
        memory={"limit": GIB, "swap": 2 * GIB}, unified={"memory.swap.max": "0", "memory.high": "7"}
    )
    assert found == ["memory.max=1073741824", "memory.swap.max=0", "memory.high=7"]


def test_lines_for_devices_stand_beside_those_of_unified() -> None:
    block = {"throttleReadBpsDevice": [device(8, 0, rate=600)]}
    found = lines(blockIO=block, unified={"io.max": "8:0 rbps=5\n259:0 wiops=6"})
    assert found == ["io.max=8:0 rbps=600", "io.max=8:0 rbps=5", "io.max=259:0 wiops=6"]


def test_only_what_limits_nothing_is_moot() -> None:
    moot = writes(
        {
            "memory": {"limit": -1},
            "cpu": {"quota": -1, "idle": 0, "burst": 0},
            "pids": {"limit": -1},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]},
        }
    )
    assert len(moot) == 7
    assert all(line.moot for line in moot)
    firm = writes(
        {
            "memory": {"limit": GIB, "swap": 2 * GIB, "reservation": -1},
            "cpu": {"quota": 5000, "period": 9000, "idle": 1, "burst": 1},
            "pids": {"limit": 1},
            "unified": {"memory.max": "max"},
        }
    )
    assert len(firm) == 7
    assert not any(line.moot for line in firm)


REFUSED = [
    ({"memory": {"limit": -2}}, "linux.resources.memory.limit: must be from -1 to"),
    ({"memory": {"limit": 1 << 63}}, "linux.resources.memory.limit: must be from -1 to"),
    ({"memory": {"reservation": -2}}, "linux.resources.memory.reservation"),
    ({"memory": {"swap": GIB}}, "linux.resources.memory.swap: limits memory and swap together"),
    ({"memory": {"swap": GIB, "limit": -1}}, "linux.resources.memory.swap"),
    ({"memory": {"swap": 1, "limit": 2}}, "linux.resources.memory.swap: memory and swap together"),
    ({"memory": {"kernel": 5}}, "linux.resources.memory.kernel: cgroup v2"),
    ({"memory": {"kernelTCP": 5}}, "linux.resources.memory.kernelTCP: cgroup v2"),
    ({"memory": {"swappiness": 0}}, "linux.resources.memory.swappiness: cgroup v2"),
    ({"memory": {"disableOOMKiller": True}}, "linux.resources.memory.disableOOMKiller: cgroup v2"),
    ({"memory": {"useHierarchy": False}}, "linux.resources.memory.useHierarchy: cgroup v2"),
    ({"cpu": {"shares": -1}}, "linux.resources.cpu.shares"),
    ({"cpu": {"quota": 999}}, "linux.resources.cpu.quota"),
    ({"cpu": {"quota": -2}}, "linux.resources.cpu.quota"),
    ({"cpu": {"period": 999}}, "linux.resources.cpu.period"),
    ({"cpu": {"period": 1_000_001}}, "linux.resources.cpu.period"),
    ({"cpu": {"burst": 1001, "quota": 1000}}, "linux.resources.cpu.burst"),
    ({"cpu": {"idle": 2}}, "linux.resources.cpu.idle"),
    ({"cpu": {"realtimeRuntime": 1}}, "linux.resources.cpu.realtimeRuntime: cgroup v2"),
    ({"cpu": {"realtimePeriod": 1}}, "linux.resources.cpu.realtimePeriod: cgroup v2"),
    ({"cpu": {"cpus": "0\n1"}}, "linux.resources.cpu.cpus"),
    ({"cpu": {"mems": "all"}}, "linux.resources.cpu.mems"),
    ({"pids": {"limit": -2}}, "linux.resources.pids.limit"),
    ({"blockIO": {"weight": 9}}, "linux.resources.blockIO.weight"),
    ({"blockIO": {"weight": 1001}}, "linux.resources.blockIO.weight"),
    ({"blockIO": {"leafWeight": 10}}, "linux.resources.blockIO.leafWeight"),
    ({"blockIO": {"weightDevice": [device(8, 0)]}}, "linux.resources.blockIO.weightDevice[0].we"),
    (
        {"blockIO": {"weightDevice": [device(8, 0, weight=10, leafWeight=10)]}},
        "linux.resources.blockIO.weightDevice[0].leafWeight",
    ),
    (
        {"blockIO": {"throttleReadBpsDevice": [device(-1, 0, rate=1)]}},
        "linux.resources.blockIO.throttleReadBpsDevice[0].major",
    ),
    ({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}, "hugepageLimits[0].pageSize"),
    ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "hugepageLimits[0].pageSize"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}, "hugepageLimits[0].limit"),
    ({"network": {"classID": 1}}, "linux.resources.network.classID: net_cls"),
    ({"network": {"priorities": [{"name": "a", "priority": 1}]}}, "network.priorities: net_prio"),
    ({"rdma": {"a b": {"hcaHandles": 1}}}, "linux.resources.rdma['a b']"),
    ({"rdma": {"": {"hcaHandles": 1}}}, "linux.resources.rdma['']"),
    ({"rdma": {"mlx": {}}}, "linux.resources.rdma['mlx']: must have"),
    ({"unified": {"../memory.max": "1"}}, "linux.resources.unified['../memory.max']"),
    ({"unified": {"memory..": "1"}}, "linux.resources.unified['memory..']"),
    ({"unified": {"memory": "1"}}, "linux.resources.unified['memory']"),
    ({"unified": {".max": "1"}}, "linux.resources.unified['.max']"),
    ({"unified": {"memory.max": "1\0"}}, "linux.resources.unified['memory.max']"),
    ({"unified": {"gpu.max": "1"}}, "there is no controller gpu"),
    ({"unified": {"cgroup.procs": "1"}}, "limits nothing"),
    ({"unified": {"cgroup.kill": "1"}}, "limits nothing"),
    ({"unified": {"cgroup.subtree_control": "+memory"}}, "limits nothing"),
]


@pytest.mark.parametrize(("resources", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_cannot_be_is_refused_by_its_name(resources: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        writes(resources)
    assert message in str(raised.value)


@pytest.mark.parametrize("path", ["", "/", "//", "/.", "a/b", "/a/../b", "/..", "/a\0", "/a\nb"])
def test_a_path_that_cannot_be_a_cgroup(path: str) -> None:
    with pytest.raises(InvalidInput, match=r"linux\.cgroupsPath"):
        cgroups.open_folder(path)


class Folder:
    """A folder with files that look like control files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.path / name.replace("__", ".")).write_text(text)

    def read(self, name: str) -> str:
        return (self.path / name).read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    os.close(folder.fd)


def order(folder: Folder, before: dict[str, str], resources: Any) -> list[str]:
    folder.write(**before)
    present = {name.replace("__", "."): text for name, text in before.items()}
    return [line.file for line in cgroups._in_order(writes(resources), present)]


def test_swap_that_grows_is_changed_before_memory_and_after_it_otherwise(folder: Folder) -> None:
    def swap_after(before: str) -> list[str]:
        files = {"memory__max": "5", "memory__swap__max": before}
        return order(folder, files, {"memory": {"limit": 50, "swap": 150}})

    assert swap_after("99") == ["memory.swap.max", "memory.max"]
    assert swap_after("101") == ["memory.max", "memory.swap.max"]
    assert swap_after("max") == ["memory.max", "memory.swap.max"]


def test_a_burst_that_shrinks_is_changed_before_the_quota(folder: Folder) -> None:
    def burst_after(before: str) -> list[str]:
        files = {"cpu__max": "max 100000", "cpu__max__burst": before}
        return order(folder, files, {"cpu": {"quota": 5000, "burst": 4000}})

    assert burst_after("4001") == ["cpu.max.burst", "cpu.max"]
    assert burst_after("3999") == ["cpu.max", "cpu.max.burst"]


def test_update_takes_the_present_limit_where_none_is_said(folder: Folder) -> None:
    folder.write(memory__max="100\n", memory__swap__max="0\n", cpu__max="5000 100000\n")
    cgroups.update(folder.fd, {"memory": {"swap": 150}, "cpu": {"period": 200000}})
    assert folder.read("memory.swap.max") == "50"
    assert folder.read("cpu.max") == "5000 200000\n"  # a file keeps the end of what was longer


def test_update_with_swap_needs_a_limit_of_memory(folder: Folder) -> None:
    folder.write(memory__max="max\n", memory__swap__max="max\n")
    with pytest.raises(InvalidInput, match=r"memory\.swap"):
        cgroups.update(folder.fd, {"memory": {"swap": 150}})


def test_update_can_refuse_a_limit_below_the_usage(folder: Folder) -> None:
    folder.write(memory__max="max", memory__current="101\n")
    with pytest.raises(Conflict, match="limit of 100 is less than the 101 bytes in use"):
        cgroups.update(folder.fd, {"memory": {"limit": 100, "checkBeforeUpdate": True}})
    assert folder.read("memory.max") == "max"
    cgroups.update(folder.fd, {"memory": {"limit": 101, "checkBeforeUpdate": True}})
    assert folder.read("memory.max") == "101"


def test_what_is_to_end_gets_the_processor_back(folder: Folder) -> None:
    (folder.path / "inner").mkdir()
    for place in ("", "inner/"):
        folder.write(**{f"{place}cpu__max": "1000 1000000", f"{place}cpu__weight": "1"})
    cgroup.hasten(folder.fd)
    for place in ("", "inner/"):
        assert folder.read(f"{place}cpu.max").startswith("max")
        assert folder.read(f"{place}cpu.weight") == "10000"
    assert not (folder.path / "cpu.idle").exists()


def test_stats_of_all_that_a_kernel_keeps(folder: Folder) -> None:
    pressure = "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n"
    folder.write(
        cgroup__controllers="",
        cpu__stat="usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\n"
        "throttled_usec 6\n",
        cpu__pressure=pressure,
        memory__current="100\n",
        memory__max="max\n",
        memory__peak="300\n",
        memory__stat="anon 60\nfile 40\n",
        memory__events="low 0\nhigh 0\nmax 8\noom 1\noom_kill 1\n",
        memory__swap__current="10\n",
        memory__swap__max="50\n",
        pids__current="3\n",
        pids__max="10\n",
        io__stat="8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
        hugetlb__2MB__current="4194304\n",
        hugetlb__2MB__events="max 2\n",
        hugetlb__2MB__rsvd__current="0\n",
    )
    some = {"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 7}}
    disk = {"major": 8, "minor": 16}
    assert cgroup_stats.stats(folder.fd) == {
        "cpu": {
            "usage": {"total": 5000, "kernel": 2000, "user": 3000},
            "throttling": {"periods": 9, "throttledPeriods": 4, "throttledTime": 6000},
            "psi": some,
        },
        "memory": {
            "cache": 40,
            "usage": {"limit": 2**64 - 1, "usage": 100, "max": 300, "failcnt": 8},
            "swap": {"limit": 2**64 - 1, "usage": 110},
            "raw": {"anon": 60, "file": 40},
            "event_count": {"low": 0, "high": 0, "max": 8, "oom": 1, "oom_kill": 1},
        },
        "pids": {"current": 3, "limit": 10},
        "blkio": {
            "ioServiceBytesRecursive": [
                {**disk, "op": "Read", "value": 1},
                {**disk, "op": "Write", "value": 2},
                {**disk, "op": "Discard", "value": 5},
            ],
            "ioServicedRecursive": [
                {**disk, "op": "Read", "value": 3},
                {**disk, "op": "Write", "value": 4},
                {**disk, "op": "Discard", "value": 6},
            ],
        },
        "hugetlb": {"2MB": {"usage": 4194304, "failcnt": 2}},
    }


def test_stats_leave_out_what_is_not_kept(folder: Folder) -> None:
    folder.write(cgroup__controllers="", cgroup__threads="7\n9\n", pids__max="max\n")
    assert cgroup_stats.stats(folder.fd) == {"pids": {"current": 2}}


def test_stats_of_a_removed_cgroup(folder: Folder) -> None:
    with pytest.raises(NotFound):
        cgroup_stats.stats(folder.fd)


def test_a_watch_tells_each_kill_once_and_then_the_end(folder: Folder) -> None:
    folder.write(memory__events="oom 1\noom_kill 1\n", cgroup__events="populated 1\nfrozen 0\n")
    with cgroup.OomWatch(folder.fd) as watch:
        assert watch.wait(0) == 0
        folder.write(memory__events="oom 4\noom_kill 3\n", cgroup__events="populated 0\nfrozen 0\n")
        assert watch.wait() == 2
        assert watch.wait() is None


def test_a_watch_needs_the_memory_controller(folder: Folder) -> None:
    with pytest.raises(NotSupported, match="memory controller"):
        cgroup.OomWatch(folder.fd)


def test_which_hierarchy_has_a_controller() -> None:
    assert not cgroup.in_version_1("no such controller")
