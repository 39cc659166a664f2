"""Controllers are found, handed down as far as limits need them, and left to the container."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from oci.bundle import mount, wait_until

from pycontain.kernel import cgroup

from .control_files import MIB, Group, eat, group_of, stats, update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.bundle import Bundle

pytestmark = pytest.mark.vm

ACCOUNTING = {"cpu", "io", "memory", "pids"}


@pytest.fixture
def parent(bundle: Bundle) -> Group:
    """A cgroup that a configuration may name."""
    bundle.parents.append(f"parent-{bundle.own}")
    return Group(f"/{bundle.parents[0]}")


@contextmanager
def somebody(group: Group) -> Iterator[None]:
    """A process in a cgroup, which is made."""
    os.mkdir(group.folder)
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            group.put("cgroup.procs", str(process.pid))
            yield
        finally:
            process.kill()
    wait_until(lambda: not group.text("cgroup.procs"))


def test_a_mount_in_the_hosts_namespace_leaves_the_hierarchys_options(bundle: Bundle) -> None:
    subprocess.run(["mount", "-o", "remount,nsdelegate", "/sys/fs/cgroup"], check=True)
    try:
        bundle.namespaces("mount", "pid", "uts", "ipc", "network")
        bundle.mounts = [*bundle.mounts, mount("cgroup2", "/sys/fs/cgroup", "cgroup2", "ro")]
        assert "nsdelegate" in bundle.out("grep", "cgroup2", "/proc/mounts")
        assert "nsdelegate" in cgroup.options()
    finally:
        subprocess.run(["mount", "-o", "remount,nsdelegate", "/sys/fs/cgroup"], check=True)


def test_each_cgroup_above_hands_down_what_is_needed(bundle: Bundle, parent: Group) -> None:
    bundle.parents.insert(0, f"between-{bundle.own}")
    between = Group(f"{parent.path}/{bundle.parents[0]}")
    bundle.linux["cgroupsPath"] = f"{between.path}/{bundle.id}"
    bundle.linux["resources"] = {
        "cpu": {"cpus": "0"}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    }  # fmt: skip
    bundle.up()
    for above in (Group("/"), parent, between):
        assert above.words("cgroup.subtree_control") >= {"cpuset", "hugetlb"} | ACCOUNTING
    own = group_of(bundle)
    assert own.path == f"{between.path}/{bundle.id}"
    assert own.words("cgroup.controllers") == between.words("cgroup.subtree_control")
    assert not own.words("cgroup.subtree_control")
    assert set(stats(bundle)) == {"cpu", "memory", "pids", "blkio", "hugetlb"}
    bundle.delete("--force")
    assert os.path.isdir(between.folder)


def test_a_controller_that_a_later_limit_needs(bundle: Bundle, parent: Group) -> None:
    bundle.linux["cgroupsPath"] = f"{parent.path}/{bundle.id}"
    bundle.up()
    assert "cpuset" not in parent.words("cgroup.subtree_control")
    bundle.call("update", "--cpuset-cpus", "1", bundle.id)
    assert "cpuset" in parent.words("cgroup.subtree_control")
    assert group_of(bundle).text("cpuset.cpus") == "1"


def test_below_a_cgroup_in_which_somebody_lives(bundle: Bundle, parent: Group) -> None:
    """It cannot hand controllers down; without limits none are needed."""
    bundle.linux["cgroupsPath"] = f"{parent.path}/{bundle.id}"
    with somebody(parent):
        bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}}
        said = bundle.refused()
        assert f"memory below {parent.path}" in said
        assert "processes are in that cgroup itself" in said
        assert not os.path.exists(f"{parent.folder}/{bundle.id}")
        bundle.linux["resources"] = {}
        bundle.up()
        assert not group_of(bundle).words("cgroup.controllers")
        told = stats(bundle)
        assert "usage" in told["cpu"]
        assert told["pids"] == {"current": 1}
        assert "usage" not in told["memory"]
        done = bundle.call("update", "--pids-limit", "50", bundle.id, ok=False)
        assert done.returncode == 1
        assert f"pids below {parent.folder}" in done.stderr
        assert "processes are in that cgroup itself" in done.stderr
    bundle.call("update", "--pids-limit", "50", bundle.id)
    assert group_of(bundle).number("pids.max") == 50


def test_a_container_cannot_lift_its_own_limits(bundle: Bundle) -> None:
    """The hierarchy is mounted with nsdelegate: its cgroup namespace is a border, even for root."""
    with_cgroups(bundle)
    bundle.linux["resources"] = {"pids": {"limit": 20}}
    bundle.up()
    lift = "echo max >/sys/fs/cgroup/pids.max"
    assert "Operation not permitted" in bundle.exec("sh", "-c", lift, ok=False).stderr
    assert group_of(bundle).number("pids.max") == 20


def with_cgroups(bundle: Bundle) -> None:
    """A cgroup namespace, and its cgroups to write to."""
    bundle.add_namespace("cgroup")
    bundle.mounts.append(mount("cgroup", "/sys/fs/cgroup", "cgroup", "nosuid"))


def test_a_container_limits_what_is_below_it(bundle: Bundle) -> None:
    """As systemd or a container engine in it would; all verbs go on to work."""
    with_cgroups(bundle)
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}
    bundle.up_sh(
        "cd /sys/fs/cgroup && mkdir init inner && echo $$ >init/cgroup.procs"
        " && echo '+memory +pids' >cgroup.subtree_control && echo 16M >inner/memory.max && echo up;"
        " exec sleep 1000"
    )
    bundle.until("up")
    group = Group(os.path.dirname(group_of(bundle).path))
    hungry = f"echo $$ >/sys/fs/cgroup/inner/cgroup.procs; exec {' '.join(eat(32))}"
    # The container's own cgroup may hold no process now: exec goes where init is.
    assert bundle.exec("sh", "-c", hungry, ok=False).returncode == 137
    assert bundle.exec(*eat(32)).returncode == 0
    assert bundle.exec("cat", "/proc/self/cgroup").stdout == "0::/init\n"
    assert bundle.exec("--cgroup", "inner", "--", *eat(32), ok=False).returncode == 137
    assert group.key("memory.events", "oom_kill") == 2
    assert stats(bundle)["memory"]["event_count"]["oom_kill"] == 2
    update(bundle, {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}})
    assert bundle.exec(*eat(32), ok=False).returncode == 137
    bundle.call("pause", bundle.id)
    assert Group(f"{group.path}/init").key("cgroup.events", "frozen") == 1
    bundle.call("resume", bundle.id)
    bundle.delete("--force")
    assert not os.path.exists(group.folder)
