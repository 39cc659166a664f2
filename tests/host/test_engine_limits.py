"""Limits and totals where this machine's cgroup v2 may have no controllers at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import InvalidInput, NotFound, NotSupported
from pycontain.kernel import cgroup
from pycontain.model.container import DeviceRate, Limits

if TYPE_CHECKING:
    from harness import Store

pytestmark = pytest.mark.host

MIB = 1 << 20


def offered() -> set[str]:
    root = cgroup.open_root()
    try:
        return set((cgroup.read(root, "cgroup.controllers") or "").split())
    finally:
        os.close(root)


NEEDS = [
    ("memory", {"memory": 64 * MIB}),
    ("memory", {"cgroup_conf": {"memory.high": "64M"}}),
    ("pids", {"pids_limit": 10}),
    ("cpu", {"cpus": 0.5}),
    ("cpuset", {"cpuset_cpus": "0"}),
    ("io", {"blkio_weight": 100}),
]


@pytest.mark.parametrize(("controller", "fields"), NEEDS)
def test_a_limit_without_its_controller_is_refused(
    store: Store, controller: str, fields: dict[str, object]
) -> None:
    if controller in offered():
        pytest.skip(f"{controller} is there: tests/vm has the tests of limits that bite")
    with pytest.raises(NotSupported, match=rf"cgroup controller: {controller} \(.*\), needed for"):
        store.create("true", **fields)
    assert not store.containers.list(all=True), "nothing is made"
    container = store.create("true", name="web")
    with pytest.raises(NotSupported, match=controller):
        store.containers.update("web", Limits(**fields))  # type: ignore[arg-type]
    assert store.view("web").container == container


def test_a_limit_that_says_none_needs_no_controller(store: Store) -> None:
    fields = {"memory": 0, "pids_limit": -1, "cpus": 0.0, "memory_reservation": 0}
    assert store.code("true", **fields) == 0
    identity = store.detach(**fields)
    changed = store.containers.update(identity, Limits(memory=-1, pids_limit=0))
    assert store.view(identity).container == changed
    assert (changed.options.memory, changed.options.pids_limit) == (-1, 0)


def test_a_limit_that_cannot_be(store: Store) -> None:
    rate = (DeviceRate(path="/dev/null", rate=1),)
    gone = (DeviceRate(path="/dev/nosuch", rate=1),)
    for fields, kind, reason in (
        ({"memory": MIB}, InvalidInput, "the least is 6m"),
        ({"cpus": 0.5, "cpu_quota": 5000}, InvalidInput, "conflicting options"),
        ({"device_read_bps": rate}, InvalidInput, "/dev/null: not a block device"),
        ({"device_read_bps": gone}, NotFound, "/dev/nosuch: no such file"),
        ({"cgroup_conf": {"nosuch.max": "1"}}, InvalidInput, "--cgroup-conf nosuch.max: there is"),
        ({"cgroup_conf": {"cgroup.procs": "1"}}, InvalidInput, "--cgroup-conf cgroup.procs"),
        ({"oom_score_adj": 1001}, InvalidInput, "--oom-score-adj 1001"),
        ({"cgroup_parent": "../x"}, InvalidInput, "--cgroup-parent"),
    ):
        with pytest.raises(kind, match=reason):
            store.create("true", **fields)
    assert not store.containers.list(all=True)


def test_nothing_to_update(store: Store) -> None:
    identity = store.create("true").id
    with pytest.raises(InvalidInput, match="no limit is given"):
        store.containers.update(identity, Limits())
    with pytest.raises(NotFound):
        store.containers.update("nosuch", Limits(memory=0))


def test_the_oom_score_is_the_containers(store: Store) -> None:
    look = "cat /proc/self/oom_score_adj"
    assert store.sh(look) == "0\n"
    assert store.sh(look, oom_score_adj=700) == "700\n"


NETWORK = (
    "ip link add out type veth; ip link set veth0 up; ip link set out up;"
    " ip addr add 192.0.2.1/24 dev out; arping -c 2 -I out 192.0.2.2 >/dev/null;"
)


def test_totals_of_a_run(store: Store) -> None:
    """The container's network is counted although it is gone when its last process is."""
    script = f"i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; {NETWORK} exit 4"
    store.create("sh", "-c", script, name="job", cap_add=("NET_ADMIN", "NET_RAW"))
    store.containers.start("job")
    record = store.containers.await_record("job")
    assert record is not None
    assert record.code == 4
    assert record.cpu_usec
    assert record.cpu_user_usec is not None
    assert record.cpu_system_usec is not None
    # Each is rounded for itself.
    assert abs(record.cpu_user_usec + record.cpu_system_usec - record.cpu_usec) <= 2
    assert record.net_sent == record.net_received, "each end has what the other sent"
    assert record.net_sent is not None
    assert record.net_sent >= 2 * 42
    known = offered()
    assert (record.memory_peak is not None) == ("memory" in known)
    assert (record.pids_peak is not None) == ("pids" in known)
    assert (record.block_read is not None) == ("io" in known)


def test_who_has_no_network_of_its_own_has_no_totals_of_it(store: Store) -> None:
    store.create("true", name="host", network="host")
    store.containers.start("host")
    record = store.containers.await_record("host")
    assert record is not None
    assert (record.net_sent, record.net_received) == (None, None)


def test_a_sample_of_one_that_runs(store: Store) -> None:
    store.detach("sh", "-c", "sleep 1000 & while :; do :; done", name="web")
    first = store.containers.stats("web")
    store.sh("sleep 0.3")
    second = store.containers.stats("web")
    percent = second.cpu_percent(first)
    assert percent is not None
    assert percent > 0
    assert second.pids == 2
    assert (second.net_received, second.net_sent) == (0, 0)
    known = offered()
    assert (second.memory is not None) == ("memory" in known)
    assert (second.block_read is not None) == ("io" in known)
    store.containers.stop("web", timeout=0)
    after = store.containers.stats("web")
    assert (after.cpu_usec, after.pids, after.net_sent) == (None, None, None)
    assert after.cpu_pressure is None
    assert after.cpu_percent(second) is None


def test_a_cgroup_of_ones_choice(store: Store) -> None:
    parent = f"team-{os.path.basename(os.path.dirname(store.root))}"
    root = cgroup.open_root()
    place = f"/proc/self/fd/{root}/{parent}"
    try:
        identity = store.detach(cgroup_parent=f"{parent}/web")
        with open(f"{place}/web/{identity}/cgroup.procs") as file:
            assert file.read().split() == [str(store.run_record(identity).pid)]
        assert store.exec(identity, "cat", "/proc/self/cgroup").stdout.endswith(b"0::/\n")
        with open(f"{place}/web/{identity}/cgroup.procs") as file:
            assert len(file.read().split()) == 1
        store.containers.remove(identity, force=True)
        assert not os.path.exists(f"{place}/web/{identity}")
    finally:
        os.rmdir(f"{place}/web")
        os.rmdir(place)
        os.close(root)
