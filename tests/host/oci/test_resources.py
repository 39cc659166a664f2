"""config-linux.md, control groups: where a container is put, and what limits do or are refused."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from pace import seconds

from .bundle import KIND, cgroups, differs, environment, mount, older, spec
from .test_mounts import with_user_namespace

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


def cgroup2() -> str:
    """Where cgroup2 is mounted."""
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            if " - cgroup2 " in line:
                return line.split()[4]
    pytest.skip("cgroup2 is mounted nowhere")


def own_place(pid: int) -> str:
    """A process's place in cgroup2."""
    with open(f"/proc/{pid}/cgroup") as lines:
        return next(line.strip()[3:] for line in lines if line.startswith("0::"))


def folder_of(bundle: Bundle) -> str:
    return cgroup2() + own_place(bundle.pid)


def offered() -> set[str]:
    with open(f"{cgroup2()}/cgroup.controllers") as file:
        return set(file.read().split())


@pytest.fixture
def parent(bundle: Bundle) -> str:
    """The name of a cgroup that a configuration may name; removed in every hierarchy."""
    bundle.parents.append(f"parent-{bundle.own}")
    return bundle.parents[0]


# ---------------------------------------------------------------------------------------- the place


@spec(
    "config-linux.md#configLinuxCgroupsPath: cgroupsPath is absolute or relative",
    "config-linux.md#configLinuxCgroupsPath: an absolute cgroupsPath starts at the mount point",
    "config-linux.md#configLinuxCgroupsPath: the same cgroupsPath is the same place",
)
@differs("on a hybrid host some hierarchies start at the caller's place", "crun")
def test_an_absolute_path(bundle: Bundle, parent: str) -> None:
    bundle.linux["cgroupsPath"] = f"/{parent}/{bundle.id}"
    places = set()
    for _ in range(2):
        bundle.create()
        places.add(own_place(bundle.pid))
        bundle.delete("--force")
    assert len(places) == 1
    assert places.pop().startswith(f"/{parent}/{bundle.id}")
    assert not cgroups(bundle.id)


@spec("config-linux.md#configLinuxCgroupsPath: cgroupsPath is absolute or relative")
def test_a_relative_path(bundle: Bundle, parent: str) -> None:
    bundle.linux["cgroupsPath"] = f"{parent}/{bundle.id}"
    bundle.create()
    assert f"{parent}/{bundle.id}" in own_place(bundle.pid)


def test_the_place_where_none_is_named(bundle: Bundle) -> None:
    bundle.create()
    assert bundle.id in own_place(bundle.pid)


@spec("config-linux.md#configLinuxCgroupsPath: a cgroupsPath that is not valid is an error")
@pytest.mark.parametrize("form", ["../../{}", "/../../../{}", "/a/../../{}"])
def test_a_path_with_dots_stays_below_the_mount_point(bundle: Bundle, form: str) -> None:
    bundle.linux["cgroupsPath"] = form.format(bundle.id)
    done = bundle.create(ok=False)
    if done.returncode == 0:
        assert own_place(bundle.pid).endswith(bundle.id)
        assert ".." not in own_place(bundle.pid)


@spec("config-linux.md#configLinuxControlGroups: a cgroup that is found unfit is an error")
@older("it does not look", crun="99")
def test_a_cgroup_in_which_somebody_lives(bundle: Bundle, parent: str) -> None:
    """Two containers in one cgroup would be killed and frozen together."""
    bundle.linux["cgroupsPath"] = f"/{parent}"
    bundle.up()
    other = bundle.another()
    other.linux["cgroupsPath"] = f"/{parent}"
    done = other.create(ok=False)
    if done.returncode == 0:
        pytest.skip("this runtime only warns")
    assert bundle.status == "running"


@spec("config-linux.md#configLinuxControlGroups: a cgroup that is found unfit is an error")
@differs("it would wait for ever or go on", "runc", "crun")
def test_a_frozen_cgroup(bundle: Bundle, parent: str) -> None:
    folder = f"{cgroup2()}/{parent}"
    os.mkdir(folder)
    with open(f"{folder}/cgroup.freeze", "w") as file:
        file.write("1")
    bundle.linux["cgroupsPath"] = f"/{parent}"
    bundle.refused()
    assert os.path.isdir(folder), "it was there before"


@spec("runtime.md#runtimeDelete: delete leaves what create did not make")
def test_a_cgroup_of_somebody_else_is_not_removed(bundle: Bundle, parent: str) -> None:
    os.mkdir(f"{cgroup2()}/{parent}")
    bundle.linux["cgroupsPath"] = f"/{parent}/{bundle.id}"
    bundle.up()
    bundle.delete("--force")
    assert os.path.isdir(f"{cgroup2()}/{parent}")


def test_every_process_of_the_container_is_in_it(bundle: Bundle) -> None:
    bundle.up_sh("sleep 1000 & sleep 1001 & echo up; wait")
    bundle.until("up")
    with open(f"{folder_of(bundle)}/cgroup.procs") as file:
        assert len(file.read().split()) == 3


def test_a_cgroup_namespace_hides_the_place(bundle: Bundle) -> None:
    bundle.add_namespace("cgroup")
    assert {line.split(":")[2] for line in bundle.sh("cat /proc/self/cgroup").splitlines()} == {"/"}


# -------------------------------------------------------------------------------------- its owner

DELEGATE = "/sys/kernel/cgroup/delegate"
WITHOUT_LIST = {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}


def delegated() -> set[str]:
    """What the kernel lists as safe to hand over, cgroups(7)."""
    with open(DELEGATE) as file:
        return set(file.read().split())


def owned_by(bundle: Bundle, uid: int) -> set[str]:
    """The files of the container's cgroup that belong to `uid`, and ``.`` for the folder."""
    folder = folder_of(bundle)
    return {
        name for name in (".", *os.listdir(folder)) if os.stat(f"{folder}/{name}").st_uid == uid
    }


def show_cgroups(bundle: Bundle, *options: str) -> None:
    bundle.mounts.append(mount("cgroup", "/sys/fs/cgroup", "cgroup", "nosuid", *options))


@spec("config-linux.md#configLinuxCgroupsPath: files of the delegation list may be missing")
@differs("on a hybrid host its cgroups are of v1 and stay root's", "runc", "crun")
def test_a_cgroup_that_is_shown_writable_belongs_to_the_containers_root(bundle: Bundle) -> None:
    """Nothing but what is delegated: with the rest it could lift its own limits."""
    with_user_namespace(bundle)
    bundle.add_namespace("cgroup")
    show_cgroups(bundle)
    bundle.create()
    files = set(os.listdir(folder_of(bundle)))
    assert owned_by(bundle, 100000) == {".", *delegated() & files}
    assert files - delegated() <= owned_by(bundle, 0)


@differs("on a hybrid host its cgroups are of v1 and stay root's", "runc", "crun")
def test_the_containers_root_makes_cgroups_in_its_own(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    bundle.add_namespace("cgroup")
    show_cgroups(bundle)
    script = (
        "cd /sys/fs/cgroup && mkdir inner && echo $$ >inner/cgroup.procs && cat /proc/self/cgroup"
        " && ! echo 5 2>/dev/null >cgroup.max.depth"
    )
    assert "0::/inner\n" in bundle.sh(script)


@differs("on a hybrid host its cgroups are of v1", "runc", "crun")
def test_exec_where_the_container_hands_controllers_down(bundle: Bundle) -> None:
    """Its own cgroup may hold no process then; what is executed goes where init is."""
    name = next(iter(sorted(offered() & {"hugetlb", "pids"})), "")
    if not name:
        pytest.skip("the host offers neither hugetlb nor pids")
    bundle.linux["resources"] = {
        "unified": {"pids.max": "max"} if name == "pids" else {"hugetlb.2MB.max": "max"}
    }
    bundle.add_namespace("cgroup")
    show_cgroups(bundle)
    bundle.up_sh(
        "cd /sys/fs/cgroup && mkdir init && echo $$ >init/cgroup.procs"
        f" && echo +{name} >cgroup.subtree_control && echo up; exec sleep 1000"
    )
    bundle.until("up\n")
    assert bundle.exec("grep", "^0:", "/proc/self/cgroup").stdout == "0::/init\n"
    done = bundle.exec("--cgroup", "/", "--", "true", ok=False)
    assert done.returncode == 255
    assert "hands controllers down" in done.stderr


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        (("user", "cgroup"), ["ro"]),
        (("user", "cgroup"), None),
        (("cgroup",), []),
        (("user",), []),
    ],
    ids=["read-only", "not shown", "no user namespace", "no cgroup namespace"],
)  # fmt: skip
def test_any_other_cgroup_stays_the_hosts(
    bundle: Bundle, kinds: tuple[str, ...], options: list[str] | None
) -> None:
    if "user" in kinds:
        with_user_namespace(bundle)
    if "cgroup" in kinds:
        bundle.add_namespace("cgroup")
    if options is not None:
        show_cgroups(bundle, *options)
    bundle.create()
    assert owned_by(bundle, 0) == {".", *os.listdir(folder_of(bundle))}


@spec("config-linux.md#configLinuxCgroupsPath: a missing delegation list is replaced")
@differs("on a hybrid host its cgroups are of v1 and stay root's", "runc", "crun")
def test_a_kernel_that_lists_nothing(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    bundle.add_namespace("cgroup")
    # Where a part of sysfs is covered, a user namespace may not mount it: user_namespaces(7).
    bundle.mounts = [entry for entry in bundle.mounts if entry["type"] != "sysfs"]
    show_cgroups(bundle)
    script = f'mount -t tmpfs none {os.path.dirname(DELEGATE)} && exec "$@"'
    bundle.shield = [
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"),
    ]
    bundle.create()
    assert owned_by(bundle, 100000) == {".", *WITHOUT_LIST}


# --------------------------------------------------------------------------------------- the limits


def test_an_empty_resources_object(bundle: Bundle) -> None:
    bundle.linux["resources"] = {}
    assert bundle.out("echo", "x") == "x\n"
    bundle.linux["resources"] = {"memory": {}, "cpu": {}, "pids": {}, "unified": {}, "blockIO": {}}
    assert bundle.out("echo", "x") == "x\n"


LIMITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "memory": ({"memory": {"limit": 64 << 20}}, "memory.max", str(64 << 20)),
    "memory swap": (
        {"memory": {"limit": 64 << 20, "swap": 96 << 20}}, "memory.swap.max", str(32 << 20),
    ),
    "memory low": ({"memory": {"reservation": 32 << 20}}, "memory.low", str(32 << 20)),
    "pids": ({"pids": {"limit": 50}}, "pids.max", "50"),
    "cpu": ({"cpu": {"quota": 50000, "period": 100000}}, "cpu.max", "50000 100000"),
    "shares": ({"cpu": {"shares": 1024}}, "cpu.weight", "100"),
    "cpus": ({"cpu": {"cpus": "0"}}, "cpuset.cpus", "0"),
    "idle": ({"cpu": {"idle": 1}}, "cpu.idle", "1"),
    "io": ({"blockIO": {"weight": 100}}, "io.weight", "default"),
}  # fmt: skip


@spec(
    "config-linux.md#configLinuxUnified: a resource that cannot be converted is an error",
    "config-linux.md#configLinuxUnified: controllers that unified needs are enabled",
)
@differs("on a hybrid host its limits are cgroup v1's", "runc", "crun")
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_there_or_refused(bundle: Bundle, name: str) -> None:
    """Where the controller is offered the file says what was asked; else the refusal names it."""
    resources, file_name, value = LIMITS[name]
    controller = file_name.partition(".")[0]
    bundle.linux["resources"] = resources
    if controller not in offered():
        said = bundle.refused()
        assert controller in said
        return
    bundle.create()
    with open(f"{folder_of(bundle)}/{file_name}") as file:
        assert file.read().split()[0] == value.split()[0]


@differs("on a hybrid host its limits are cgroup v1's", "runc", "crun")
def test_a_limit_of_huge_pages(bundle: Bundle) -> None:
    if "hugetlb" not in offered():
        pytest.skip("the host offers no hugetlb")
    bundle.linux["resources"] = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}
    bundle.create()
    found = []
    for name in ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
        with open(f"{folder_of(bundle)}/{name}") as file:
            found.append(file.read().strip())
    assert str(4 << 20) in found


@spec(
    "config-linux.md#configLinuxUnified: unknown files of unified are written",
    "config-linux.md#configLinuxUnified: controllers that unified needs are enabled",
)
@differs("unified is for unified hosts", "runc", "crun")
def test_unified_files_are_written(bundle: Bundle) -> None:
    given = {"cgroup.max.descendants": "17", "cgroup.max.depth": "5"}
    if "hugetlb" in offered():
        given["hugetlb.2MB.max"] = str(4 << 20)
    bundle.linux["resources"] = {"unified": given}
    bundle.create()
    for name, value in given.items():
        with open(f"{folder_of(bundle)}/{name}") as file:
            assert file.read().strip() == value


@spec("config-linux.md#configLinuxUnified: a controller that is not there is an error")
@pytest.mark.parametrize("name", ["nothing.max", "memory.max", "hugetlb.3MB.max"])
def test_unified_files_that_are_not_there(bundle: Bundle, name: str) -> None:
    if name.partition(".")[0] in offered() - {"hugetlb"}:
        pytest.skip("the host offers it")
    bundle.linux["resources"] = {"unified": {name: "1048576"}}
    said = bundle.refused()
    assert name.partition(".")[0] in said or "unified" in said


@differs("unified is for unified hosts", "runc", "crun")
@pytest.mark.parametrize("name", ["../cgroup.procs", "a/b", "", "..", "cgroup.procs\n", "/etc/x"])
def test_unified_names_that_lead_elsewhere(bundle: Bundle, name: str) -> None:
    bundle.linux["resources"] = {"unified": {name: "0"}}
    bundle.refused()


@spec("config.md#valid-values: invalid and unsupported values are an error")
@differs("on a hybrid host some are ignored", "runc", "crun")
@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"limit": "64m"}},
        {"memory": {"limit": -5}},
        {"pids": {"limit": 1.5}},
        {"cpu": {"shares": -1}},
        {"cpu": {"period": 5, "quota": "x"}},
        {"cpu": {"cpus": "many"}},
        {"hugepageLimits": [{"pageSize": "3XB", "limit": 5}]},
        {"hugepageLimits": [{"pageSize": "2MB"}]},
        {"unified": {"cgroup.max.depth": 5}},
        {"unified": []},
        {"blockIO": {"weightDevice": [{"major": 8}]}},
        {"devices": "a"},
    ],
    ids=str,
)
def test_resources_that_cannot_be(bundle: Bundle, resources: dict[str, Any]) -> None:
    bundle.linux["resources"] = resources
    said = bundle.refused()
    assert "Traceback" not in said


@differs("on a hybrid host they are cgroup v1's", "runc", "crun")
@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"kernel": 1 << 20}},
        {"memory": {"swappiness": 50}},
        {"memory": {"disableOOMKiller": True}},
        {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 10000}},
        {"network": {"classID": 1}},
        {"network": {"priorities": [{"name": "lo", "priority": 1}]}},
        {"blockIO": {"leafWeight": 10}},
        {"rdma": {"mlx5_1": {"hcaHandles": 3}}},
    ],
    ids=str,
)
@spec("config-linux.md#configLinuxUnified: a resource that cannot be converted is an error")
def test_resources_of_cgroup_v1_alone(bundle: Bundle, resources: dict[str, Any]) -> None:
    """cgroup2 has no such thing: refused, never ignored."""
    bundle.linux["resources"] = resources
    bundle.refused()


def test_update_of_a_limit_that_the_host_does_not_offer(bundle: Bundle) -> None:
    if KIND != "ours" or "pids" in offered():
        pytest.skip("the host offers the controller")
    bundle.up()
    done = bundle.call("update", "--pids-limit", "20", bundle.id, ok=False)
    assert done.returncode != 0
    assert "pids" in done.stderr


@differs("unified is for unified hosts", "runc", "crun")
def test_update_of_a_unified_file(bundle: Bundle) -> None:
    bundle.up()
    text = '{"unified": {"cgroup.max.depth": "9"}}'
    bundle.call("update", "-r", "-", bundle.id, input=text)
    with open(f"{folder_of(bundle)}/cgroup.max.depth") as file:
        assert file.read() == "9\n"


def test_limits_hold_in_a_private_view_too(bundle: Bundle) -> None:
    """In a mount namespace where /sys/fs/cgroup is cgroup2 the runtime works as on such a host."""
    bundle.process["args"] = ["echo", "x"]
    bundle.write()
    argv = bundle.argv("run", "--bundle", bundle.folder, bundle.id)
    script = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *argv],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment(),
        timeout=seconds(10),
    )  # fmt: skip
    assert done.stdout == "x\n", done
