"""linux.resources.cpu: share, quota, processors and memory nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from oci.bundle import field, wait_until

from .control_files import BUSY, Group, group_of, growth, refused_update, stats, update

if TYPE_CHECKING:
    from oci.bundle import Bundle

pytestmark = pytest.mark.vm

SECOND = 1_000_000
"""In microseconds, the unit of cpu.stat and cpu.max."""


def usage(*groups: Group) -> tuple[int, ...]:
    return tuple(group.key("cpu.stat", "usage_usec") for group in groups)


def test_no_more_time_than_the_quota(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"cpu": {"quota": 20_000, "period": 100_000}}
    bundle.up_sh(BUSY)
    group = group_of(bundle)
    assert group.text("cpu.max") == "20000 100000"
    took, (used,) = growth(lambda: usage(group), SECOND // 2)
    # It wanted all of a processor; what is cut into slices may exceed the quota by some of them.
    assert used / SECOND < 0.3 * took
    told = stats(bundle)["cpu"]
    assert told["throttling"]["throttledPeriods"] > 5
    assert told["throttling"]["throttledTime"] > 0
    assert told["usage"]["total"] >= used * 1000
    bundle.call("update", "--cpu-quota", "-1", bundle.id)
    assert group.text("cpu.max").split()[0] == "max"
    took, (used,) = growth(lambda: usage(group), SECOND)
    assert used / SECOND > 0.5 * took


def test_a_quota_is_changed_with_its_period_and_burst(bundle: Bundle) -> None:
    """The kernel wants the quota not to be smaller than the burst, at every step."""
    bundle.linux["resources"] = {"cpu": {"quota": 50_000, "burst": 40_000}}
    bundle.up()
    group = group_of(bundle)

    def holds() -> tuple[str, str]:
        return group.text("cpu.max"), group.text("cpu.max.burst")

    assert holds() == ("50000 100000", "40000")
    for quota, burst in ((20_000, 10_000), (80_000, 70_000), (30_000, 0)):
        update(bundle, {"cpu": {"quota": quota, "burst": burst}})
        assert holds() == (f"{quota} 100000", str(burst))
    bundle.call("update", "--cpu-period", "200000", bundle.id)
    assert holds() == ("30000 200000", "0")
    bundle.call("update", "--cpu-burst", "30000", bundle.id)
    said = refused_update(bundle, {"cpu": {"quota": 20_000}})
    assert "cpu.max=20000" in said
    assert "cpu.burst" in said
    # The largest that the kernel can count in nanoseconds is less than what a number can hold.
    assert "cpu.max" in refused_update(bundle, {"cpu": {"quota": 1 << 62}})
    assert holds() == ("30000 200000", "30000")


def test_a_larger_quota_than_that_of_the_cgroup_above(bundle: Bundle) -> None:
    """It may be said; the one above holds."""
    parent = Group(f"/parent-{bundle.own}")
    bundle.parents.append(parent.path[1:])
    bundle.linux["cgroupsPath"] = f"{parent.path}/{bundle.id}"
    bundle.linux["resources"] = {"cpu": {"quota": 10_000}}
    bundle.up()
    parent.put("cpu.max", "20000 100000")
    bundle.call("update", "--cpu-quota", "50000", bundle.id)
    assert group_of(bundle).text("cpu.max") == "50000 100000"


def test_time_is_shared_by_weight(bundle: Bundle) -> None:
    """Both on one processor, where each would take all of it."""
    other = bundle.another()
    for one, shares in ((bundle, 1024), (other, 5120)):
        one.linux["resources"] = {"cpu": {"cpus": "1", "shares": shares}}
        one.up_sh(BUSY)
    light, heavy = group_of(bundle), group_of(other)
    weights = light.number("cpu.weight"), heavy.number("cpu.weight")
    assert weights[0] == 100
    assert weights[1] > 300
    _, used = growth(lambda: usage(light, heavy), 2 * SECOND)
    expected = weights[1] / weights[0]
    assert expected / 2 < used[1] / used[0] < expected * 2
    bundle.call("update", "--cpu-share", str(5120), bundle.id)
    _, used = growth(lambda: usage(light, heavy), 2 * SECOND)
    assert 0.5 < used[1] / used[0] < 2
    # Idle ones get what nobody else wants, and have no weight.
    other.call("update", "--cpu-idle", "1", other.id)
    assert heavy.number("cpu.idle") == 1
    _, used = growth(lambda: usage(light, heavy), 2 * SECOND)
    assert used[0] > 10 * used[1]
    said = refused_update(other, {"cpu": {"shares": 2048}})
    assert "cpu.weight" in said
    assert "cpu.idle to 0" in said
    update(other, {"cpu": {"idle": 0, "shares": 1024}})
    assert (heavy.number("cpu.idle"), heavy.number("cpu.weight")) == (0, 100)


def test_processors_and_memory_nodes(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"cpu": {"cpus": "1", "mems": "0"}}
    pid = bundle.up_sh("nproc; cat /proc/self/status; exec sleep 1000")
    group = group_of(bundle)
    said = bundle.until("nonvoluntary")
    assert "Cpus_allowed_list:\t1\n" in said
    assert "Mems_allowed_list:\t0\n" in said
    assert group.text("cpuset.cpus.effective") == "1"
    assert bundle.exec("grep", "Cpus_allowed_list", "/proc/self/status").stdout.endswith("\t1\n")
    bundle.call("update", "--cpuset-cpus", "0", bundle.id)
    assert field(pid, "Cpus_allowed_list") == "0"
    update(bundle, {"cpu": {"cpus": "0-1", "mems": "0"}})
    wait_until(lambda: field(pid, "Cpus_allowed_list") == "0-1")
    for resources in ({"cpus": "9"}, {"cpus": "1-0"}, {"mems": "3"}, {"cpus": "0", "mems": "3"}):
        said = refused_update(bundle, {"cpu": resources})
        assert "cpuset." in said
        assert "must exist" in said
        assert group.text("cpuset.cpus") == "0-1", "what was set before the refusal stays"


def test_processors_that_are_not_there(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"cpu": {"cpus": "0-63"}}
    assert "cpuset.cpus=0-63" in bundle.refused()
