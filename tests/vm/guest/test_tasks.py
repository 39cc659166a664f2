"""How many tasks there may be, all of them stopped, all of them killed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from oci.bundle import wait_until

from .control_files import BUSY, Group, group_of, refused_update, stats, update

if TYPE_CHECKING:
    from oci.bundle import Bundle

pytestmark = pytest.mark.vm

COUNT = "while :; do echo >>/tmp/count; done"
BOMB = "f() { f | f & }; f; exec sleep 1000"
SLEEPERS = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 >/dev/null 2>&1 & done; echo all"


def test_no_more_tasks_than_the_limit(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"pids": {"limit": 8}}
    bundle.up_sh(f"({SLEEPERS}); exec sleep 1000")
    said = bundle.until("can't fork")
    assert "Resource temporarily unavailable" in said
    assert "all" not in said
    group = group_of(bundle)
    assert group.key("pids.events", "max") > 0
    # Init and the children of the shell that gave up.
    wait_until(lambda: group.number("pids.current") == 7)
    assert stats(bundle)["pids"] == {"current": 7, "limit": 8}
    update(bundle, {"pids": {"limit": 7}})
    done = bundle.exec("true", ok=False)
    assert done.returncode == 255
    assert "resource temporarily unavailable" in done.stderr
    assert "pids.max" in done.stderr
    bundle.call("update", "--pids-limit", "-1", bundle.id)
    assert group.text("pids.max") == "max"
    assert bundle.exec("sh", "-c", SLEEPERS).stdout == "all\n"
    assert stats(bundle)["pids"] == {"current": 19}
    assert "pids" in refused_update(bundle, {"pids": {"limit": 1 << 40}})


@pytest.mark.parametrize("pid_namespace", [True, False])
def test_a_fork_bomb_is_held_and_killed_at_once(bundle: Bundle, pid_namespace: bool) -> None:
    """Without a pid namespace nothing but cgroup.kill reaches all of them."""
    bundle.linux["resources"] = {"pids": {"limit": 60}}
    if not pid_namespace:
        bundle.namespaces("mount", "ipc", "uts", "network")
    bundle.up_sh(BOMB)
    group = group_of(bundle)
    wait_until(lambda: group.key("pids.events", "max") > 20)
    assert group.number("pids.current") <= 60
    bundle.delete("--force")
    assert not os.path.exists(group.folder)
    assert not bundle.exists()


def test_paused_nothing_goes_on(bundle: Bundle) -> None:
    bundle.up_sh(COUNT)
    group = group_of(bundle)
    wait_until(lambda: count(bundle) > 5)
    bundle.call("pause", bundle.id)
    assert group.key("cgroup.events", "frozen") == 1
    assert bundle.status == "paused"
    still = count(bundle), group.key("cpu.stat", "usage_usec")
    time.sleep(1)
    assert (count(bundle), group.key("cpu.stat", "usage_usec")) == still
    assert bundle.exec("true", ok=False).returncode != 0
    # Limits and figures are at hand all the same.
    bundle.call("update", "--pids-limit", "30", bundle.id)
    assert stats(bundle)["pids"]["limit"] == 30
    assert count(bundle) == still[0]
    bundle.call("resume", bundle.id)
    assert bundle.status == "running"
    wait_until(lambda: count(bundle) > still[0])


def count(bundle: Bundle) -> int:
    """How far the container's loop has come."""
    try:
        return os.stat(f"{bundle.rootfs}/tmp/count").st_size
    except FileNotFoundError:
        return 0


def test_paused_with_cgroups_of_its_own_and_killed_so(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"pids": {"limit": 60}}
    bundle.up_sh(BOMB)
    group = group_of(bundle)
    inner = Group(f"{group.path}/inner")
    os.mkdir(inner.folder)
    wait_until(lambda: moved(group, inner))
    bundle.call("pause", bundle.id)
    assert inner.key("cgroup.events", "frozen") == 1
    bundle.delete("--force")
    assert not os.path.exists(group.folder)


def moved(group: Group, inner: Group) -> bool:
    """Move a process to a cgroup below; it may be gone before that."""
    try:
        inner.put("cgroup.procs", group.text("cgroup.procs").split()[-1])
    except ProcessLookupError:
        return False
    return True


def test_starved_it_ends_all_the_same(bundle: Bundle) -> None:
    """A process that is killed needs a processor to end: here all get 1 ms of it each second."""
    bundle.up_sh(f"for n in 1 2 3 4 5 6 7 8 9 10; do ({BUSY}) & done; echo up; wait")
    bundle.until("up")
    update(bundle, {"cpu": {"quota": 1000, "period": 1_000_000}})
    group = group_of(bundle)
    throttled = group.key("cpu.stat", "nr_throttled")
    wait_until(lambda: group.key("cpu.stat", "nr_throttled") > throttled + 2)
    # They need it to stop too. Where that takes too long, none is left stopped.
    paused = bundle.call("pause", bundle.id, ok=False).returncode == 0
    assert bundle.status == ("paused" if paused else "running")
    assert group.text("cgroup.freeze") == str(int(paused))
    bundle.delete("--force")
    assert not os.path.exists(group.folder)
