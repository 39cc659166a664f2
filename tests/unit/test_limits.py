"""Limits by value: texts to limits, limits to linux.resources, and what a change leaves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pycontain.cli.flags import UsageError, parse
from pycontain.cli.limits import create_fields, limit_fields
from pycontain.cli.run import CREATE, RUN
from pycontain.cli.update import UPDATE
from pycontain.engine import limits as engine_limits
from pycontain.engine.stats import network_totals
from pycontain.errors import InvalidInput, NotSupported
from pycontain.model.container import DeviceRate, DeviceWeight, Limits, RunOptions, cgroup_path
from pycontain.model.stats import Stats
from pycontain.runtime import limits as rules
from pycontain.runtime.resources import writes
from pycontain.runtime.spec import cgroup_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
DISKS = {"/dev/sda": (8, 0), "/dev/sdb": (8, 16)}


def limits(*words: str) -> Limits:
    values, _ = parse(UPDATE.flags, [*words, "web"], mixed=UPDATE.mixed)
    return Limits(**limit_fields(values))


def resources(asked: Limits, *, update: bool = False) -> dict[str, Any]:
    rules.check(asked)
    return {**rules.resources(asked, DISKS.__getitem__, update=update)}


def lines(asked: Limits, *, update: bool = False) -> set[str]:
    found = resources(asked, update=update)
    return {f"{line.file}={line.text}" for line in writes(found)}  # type: ignore[arg-type]


FLAGS: list[tuple[Sequence[str], dict[str, Any]]] = [
    (["-m", "64m"], {"memory": 64 * MIB}),
    (["--memory=1.5g"], {"memory": 1536 * MIB}),
    (["-m", "0"], {"memory": 0}),
    (["--memory-swap", "-1"], {"memory_swap": -1}),
    (["--memory-swap", "0"], {}),
    (["--memory-reservation", "32m"], {"memory_reservation": 32 * MIB}),
    (["--cpus", ".5"], {"cpus": 0.5}),
    (["--cpus", "1.000000001"], {"cpus": 1.000000001}),
    (["-c", "512"], {"cpu_shares": 512}),
    (["--cpu-shares", "0"], {}),
    (["--cpu-period", "50000", "--cpu-quota", "-1"], {"cpu_period": 50000, "cpu_quota": -1}),
    (["--cpuset-cpus", "0", "--cpuset-mems", ""], {"cpuset_cpus": "0"}),
    (["--pids-limit", "-1"], {"pids_limit": -1}),
    (["--blkio-weight", "300"], {"blkio_weight": 300}),
    (
        ["--blkio-weight-device", "/dev/sda:200", "--blkio-weight-device", "/dev/sda:100"],
        {"blkio_weight_device": (DeviceWeight(path="/dev/sda", weight=100),)},
    ),
    (
        ["--device-read-bps", "/dev/sda:1mb", "--device-write-bps", "/dev/sdb:0"],
        {
            "device_read_bps": (DeviceRate(path="/dev/sda", rate=MIB),),
            "device_write_bps": (DeviceRate(path="/dev/sdb", rate=0),),
        },
    ),
    (
        ["--device-read-iops", "/dev/sda:10", "--device-write-iops", "/dev/sda:20"],
        {
            "device_read_iops": (DeviceRate(path="/dev/sda", rate=10),),
            "device_write_iops": (DeviceRate(path="/dev/sda", rate=20),),
        },
    ),
    (
        ["--cgroup-conf", "memory.high=64M", "--cgroup-conf", "io.max=8:0 rbps=max"],
        {"cgroup_conf": {"memory.high": "64M", "io.max": "8:0 rbps=max"}},
    ),
    (["--kernel-memory", "0"], {}),
]


@pytest.mark.parametrize(("words", "fields"), FLAGS)
def test_flags(words: Sequence[str], fields: dict[str, Any]) -> None:
    assert limits(*words) == Limits(**fields)


BAD_FLAGS = [
    (["-m", "-1"], "invalid size"),
    (["-m", "64x"], "invalid size"),
    (["--memory-swap", "-2"], "invalid size"),
    (["--cpus", "x"], "number of processors"),
    (["--cpus", "-1"], "number of processors"),
    (["--cpus", ""], "number of processors"),
    (["--cpus", "1.0000000001"], "too precise"),
    (["--cpu-shares", "1.5"], "not a number"),
    (["--blkio-weight", "9"], "from 10 to 1000"),
    (["--blkio-weight", "1001"], "from 10 to 1000"),
    (["--blkio-weight-device", "/dev/sda"], "PATH:WEIGHT"),
    (["--blkio-weight-device", "/dev/sda:"], "PATH:WEIGHT"),
    (["--blkio-weight-device", "/dev/sda:9"], "from 10 to 1000"),
    (["--blkio-weight-device", "/dev/sda:10000000"], "from 10 to 1000"),
    (["--device-read-bps", "sda:1"], "below /dev"),
    (["--device-read-bps", "/dev/sda:x"], "bytes a second"),
    (["--device-write-bps", "/dev/sda:-1"], "bytes a second"),
    (["--device-read-iops", "/dev/sda:1k"], "operations a second"),
    (["--cgroup-conf", "memory.high"], "FILE=TEXT"),
    (["--cgroup-conf", "=1"], "FILE=TEXT"),
    (["--kernel-memory", "5m"], "memory controller of cgroup v2"),
]


@pytest.mark.parametrize(("words", "reason"), BAD_FLAGS)
def test_bad_flags(words: Sequence[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        limits(*words)


@pytest.mark.parametrize("verb", [RUN, CREATE])
def test_flags_of_version_1_are_known_and_refused(verb: Any) -> None:
    for words in (["--memory-swappiness", "5"], ["--oom-kill-disable"], ["--kernel-memory", "1"]):
        with pytest.raises(UsageError, match="memory controller of cgroup v2"):
            create_fields(parse(verb.flags, [*words, "busybox"], mixed=False)[0])
    # What they say of these holds.
    said = ["--memory-swappiness", "-1", "--oom-kill-disable=false", "--kernel-memory=0"]
    fields = create_fields(parse(verb.flags, [*said, "busybox"], mixed=False)[0])
    assert fields == {"oom_score_adj": None, "cgroup_parent": None}


def test_every_limit_has_a_flag_on_each_verb() -> None:
    named = {name.replace("_", "-") for name in Limits.__struct_fields__}
    for verb in (RUN, CREATE, UPDATE):
        assert named <= {flag.name for flag in verb.flags}


LINES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"memory": 64 * MIB, "memory_swap": 96 * MIB},
     {f"memory.max={64 * MIB}", f"memory.swap.max={32 * MIB}"}),
    ({"memory": 64 * MIB}, {f"memory.max={64 * MIB}", f"memory.swap.max={64 * MIB}"}),
    ({"memory": 64 * MIB, "memory_swap": -1}, {f"memory.max={64 * MIB}", "memory.swap.max=max"}),
    ({"memory": 0}, {"memory.max=max", "memory.swap.max=max"}),
    ({"memory_reservation": 32 * MIB}, {f"memory.low={32 * MIB}"}),
    ({"memory_reservation": 0}, set()),
    ({"cpus": 1.5}, {"cpu.max=150000 100000"}),
    ({"cpus": 0}, {"cpu.max=max"}),
    ({"cpu_quota": 20000}, {"cpu.max=20000"}),
    ({"cpu_quota": 0, "cpu_period": 50000}, {"cpu.max=max 50000"}),
    ({"cpu_period": 50000}, {"cpu.max=max 50000"}),
    ({"cpu_quota": 20000, "cpu_period": 50000}, {"cpu.max=20000 50000"}),
    ({"cpu_shares": 1024}, {"cpu.weight=100"}),
    ({"cpuset_cpus": "0", "cpuset_mems": "0"}, {"cpuset.cpus=0", "cpuset.mems=0"}),
    ({"pids_limit": 5}, {"pids.max=5"}),
    ({"pids_limit": 0}, {"pids.max=max"}),
    ({"blkio_weight": 500}, {"io.bfq.weight=default 500"}),
    ({"device_read_bps": (DeviceRate(path="/dev/sda", rate=5),),
      "device_write_iops": (DeviceRate(path="/dev/sda", rate=0),)},
     {"io.max=8:0 rbps=5 wiops=max"}),
    ({"cgroup_conf": {"memory.high": "1G"}, "memory": 64 * MIB, "memory_swap": 64 * MIB},
     {f"memory.max={64 * MIB}", "memory.swap.max=0", "memory.high=1G"}),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), LINES)
def test_lines(fields: dict[str, Any], expected: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert lines(Limits(**fields)) == expected


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"memory": MIB}, "--memory 1048576: the least is 6m"),
    ({"memory": -2}, "--memory -2"),
    ({"memory_reservation": MIB}, "--memory-reservation"),
    ({"memory": 64 * MIB, "memory_swap": 32 * MIB}, "not less than --memory"),
    ({"memory_swap": 32 * MIB}, "--memory is needed too"),
    ({"memory": 0, "memory_swap": 32 * MIB}, "--memory is needed too"),
    ({"memory_swap": -2}, "--memory-swap -2"),
    ({"memory": 16 * MIB, "memory_reservation": 32 * MIB}, "must not be more than --memory"),
    ({"cpus": 1, "cpu_quota": 5000}, "conflicting options: --cpus and --cpu-quota"),
    ({"cpus": 1, "cpu_period": 5000}, "conflicting options: --cpus and --cpu-period"),
    ({"cpus": 0.001}, "--cpus 0.001: must be from 0.01 to 8"),
    ({"cpus": 9}, "from 0.01 to 8"),
    ({"cpus": -1}, "from 0.01 to 8"),
    ({"cpu_period": 999}, "--cpu-period 999"),
    ({"cpu_period": 1_000_001}, "--cpu-period 1000001"),
    ({"cpu_quota": 999}, "--cpu-quota 999"),
    ({"cpu_quota": -2}, "--cpu-quota -2"),
    ({"cpu_shares": -1}, "--cpu-shares -1"),
    ({"cpuset_cpus": "x"}, "--cpuset-cpus 'x': must be a list"),
    ({"cpuset_cpus": "0-8000"}, "is not online"),
    ({"cpuset_mems": "1000"}, "--cpuset-mems '1000': 1000 is not online"),
    ({"pids_limit": -2}, "--pids-limit -2"),
    ({"blkio_weight": 5}, "--blkio-weight 5"),
    ({"blkio_weight_device": (DeviceWeight(path="/dev/sda", weight=2000),)}, "from 10 to 1000"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_refused(fields: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    with pytest.raises(InvalidInput) as caught:
        rules.check(Limits(**fields))
    assert reason in caught.value.message


def test_a_kernel_that_cannot_swap_gets_no_limit_of_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.path.exists
    monkeypatch.setattr("os.path.exists", lambda path: path != "/proc/swaps" and there(path))
    assert lines(Limits(memory=64 * MIB)) == {f"memory.max={64 * MIB}"}


def changed(old: Limits, changes: Limits) -> Limits:
    return msgspec.structs.replace(old, **rules.merged(old, changes))


def test_a_change_keeps_what_it_does_not_say() -> None:
    old = Limits(
        memory=64 * MIB,
        cpu_shares=5,
        device_read_bps=(
            DeviceRate(path="/dev/sda", rate=1),
            DeviceRate(path="/dev/sdb", rate=2),
        ),
        cgroup_conf={"memory.high": "1"},
    )
    changes = Limits(
        memory=0,
        device_read_bps=(DeviceRate(path="/dev/sda", rate=9),),
        cgroup_conf={"memory.min": "2"},
    )
    new = changed(old, changes)
    assert new == Limits(
        memory=0,
        cpu_shares=5,
        device_read_bps=(
            DeviceRate(path="/dev/sda", rate=9),
            DeviceRate(path="/dev/sdb", rate=2),
        ),
        cgroup_conf={"memory.high": "1", "memory.min": "2"},
    )
    # Of what stands for itself only what is new is written.
    assert lines(rules.affected(new, changes), update=True) == {
        "memory.max=max", "memory.swap.max=max", "io.max=8:0 rbps=9", "memory.min=2",
    }  # fmt: skip


def test_what_belongs_together_is_written_together() -> None:
    old = Limits(memory=64 * MIB, memory_swap=96 * MIB, cpu_quota=20000, pids_limit=5)
    changes = Limits(memory=32 * MIB, cpu_period=50000)
    new = changed(old, changes)
    assert lines(rules.affected(new, changes), update=True) == {
        f"memory.max={32 * MIB}", f"memory.swap.max={64 * MIB}", "cpu.max=20000 50000",
    }  # fmt: skip


def test_cpus_take_the_place_of_a_quota_that_is_lifted() -> None:
    old, changes = Limits(cpu_quota=20000), Limits(cpus=1, cpu_quota=0)
    new = changed(old, changes)
    rules.check(new)
    assert lines(rules.affected(new, changes), update=True) == {"cpu.max=100000 100000"}
    with pytest.raises(InvalidInput, match="conflicting options"):
        rules.check(changed(old, Limits(cpus=1)))


def test_a_reservation_is_lifted_by_saying_so() -> None:
    assert lines(Limits(memory_reservation=0), update=True) == {"memory.low=0"}


def test_an_ordinary_user_has_no_limits() -> None:
    assert engine_limits.resources(Limits(), rootless=True) == {}
    with pytest.raises(NotSupported, match="limit container: memory"):
        engine_limits.resources(Limits(memory=64 * MIB), rootless=True)
    with pytest.raises(NotSupported, match="make cgroup: /team"):
        engine_limits.checked(RunOptions(image="x", cgroup_parent="team"), rootless=True)


def test_limits_are_fields_of_the_options() -> None:
    options = RunOptions(image="busybox", memory=64 * MIB, name="web")
    assert rules.said(options) == {"memory": 64 * MIB}
    again = msgspec.json.decode(msgspec.json.encode(options), type=RunOptions)
    assert again == options


PARENTS = [
    ("", None), ("/", None), ("//./", None), ("pycontain", None), ("/pycontain/", None),
    ("team", "/team"), ("/team/a/", "/team/a"), ("pycontain/x", "/pycontain/x"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "parent"), PARENTS)
def test_cgroup_parent(word: str, parent: str | None) -> None:
    assert cgroup_parent(word) == parent
    ending = "/id" if parent else "/id/container"
    assert cgroup_path("id", parent) == (parent or "/pycontain") + ending


@pytest.mark.parametrize("word", ["..", "/a/../b", "a\0b", "a\nb"])
def test_bad_cgroup_parent(word: str) -> None:
    with pytest.raises(InvalidInput, match="--cgroup-parent"):
        cgroup_parent(word)


def sample(usec: int | None, clock: int) -> Stats:
    return Stats(id="a" * 64, name="web", time=0, clock=clock, cpu_usec=usec)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (sample(0, 0), sample(500_000, 1_000_000_000), 50.0),
        (sample(100, 0), sample(2_000_100, 1_000_000_000), 200.0),
        (sample(5, 0), sample(5, 1_000_000_000), 0.0),
        (sample(9, 0), sample(5, 1_000_000_000), None),  # started anew
        (sample(None, 0), sample(5, 1), None),
        (sample(0, 0), sample(None, 1), None),
        (sample(0, 7), sample(5, 7), None),
    ],
)
def test_cpu_percent(before: Stats, after: Stats, percent: float | None) -> None:
    assert after.cpu_percent(before) == percent


def test_network_totals_leave_the_loopback_out() -> None:
    lines = [
        "    lo:  100  1 0 0 0 0 0 0  100 1 0 0 0 0 0 0",
        "  eth0:  7  1 0 0 0 0 0 0  11 1 0 0 0 0 0 0",
        "veth12345678:3 1 0 0 0 0 0 0 4 1 0 0 0 0 0 0",
    ]
    assert network_totals(lines) == {"net_received": 10, "net_sent": 15}
    assert network_totals([]) == {"net_received": 0, "net_sent": 0}
