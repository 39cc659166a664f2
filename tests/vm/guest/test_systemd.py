"""``--systemd-cgroup``: the container's cgroup is a scope of systemd's, with its limits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from oci.bundle import wait_until

from .control_files import MIB, ROOT, Group, eat, group_of, refused_update, update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.bundle import Bundle

pytestmark = [pytest.mark.vm, pytest.mark.systemd]

FLAG: dict[str, Any] = {"before": ["--systemd-cgroup"]}
KILLED = 137
NONE = "18446744073709551615"


def systemctl(*words: str, ok: bool = True) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    assert not ok or done.returncode == 0, done
    return done.stdout.strip()


def show(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def loaded(unit: str) -> bool:
    return show(unit, "LoadState")["LoadState"] != "not-found"


def unit_of(bundle: Bundle) -> str:
    return f"test-{bundle.id}.scope"


@pytest.fixture
def box(bundle: Bundle) -> Iterator[Bundle]:
    """A bundle whose container is to be in a scope of machine.slice."""
    bundle.linux["cgroupsPath"] = f"machine.slice:test:{bundle.id}"
    bundle.linux["resources"] = {}
    yield bundle
    unit = unit_of(bundle)
    if bundle.kept():
        bundle.delete("--force")
    assert not loaded(unit)
    assert not os.path.exists(f"{ROOT}/machine.slice/{unit}")


def test_the_life_of_a_container_and_its_limits(box: Bundle) -> None:
    box.linux["resources"] = {
        "memory": {"limit": 64 * MIB, "reservation": 16 * MIB, "swap": 96 * MIB},
        "cpu": {"quota": 33_333, "period": 50_000, "shares": 2048, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20},
        "blockIO": {"weight": 500},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"memory.high": "60M"},
    }
    box.add_namespace("cgroup")
    box.up("sh", "-c", "cat /proc/self/cgroup; exec sleep 1000", **FLAG)
    unit, group = unit_of(box), group_of(box)
    assert group.path == f"/machine.slice/{unit}"
    assert "0::/\n" in box.until("0::")
    # The files are exact, and those too that systemd knows nothing of.
    assert group.number("memory.max") == 64 * MIB
    assert group.number("memory.low") == 16 * MIB
    assert group.number("memory.swap.max") == 32 * MIB
    assert group.number("memory.high") == 60 * MIB
    assert group.text("cpu.max") == "33333 50000"
    assert group.text("cpuset.cpus") == "0"
    assert group.number("pids.max") == 20
    assert group.number("hugetlb.2MB.max") == 4 * MIB
    weight = group.text("cpu.weight")
    # systemd knows them, or it would set them back.
    assert show(
        unit, "MemoryMax", "MemoryLow", "MemoryHigh", "MemorySwapMax", "TasksMax", "CPUWeight",
        "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes", "IOWeight",
        "Delegate", "Slice", "ActiveState", "Description", "DefaultDependencies",
    ) == {
        "MemoryMax": str(64 * MIB), "MemoryLow": str(16 * MIB), "MemoryHigh": str(60 * MIB),
        "MemorySwapMax": str(32 * MIB), "TasksMax": "20", "CPUWeight": weight,
        "CPUQuotaPerSecUSec": "670ms", "CPUQuotaPeriodUSec": "50ms", "AllowedCPUs": "0",
        "AllowedMemoryNodes": "0", "IOWeight": "4950", "Delegate": "yes",
        "Slice": "machine.slice", "ActiveState": "active",
        "Description": f"pycontain container {box.id}", "DefaultDependencies": "no",
    }  # fmt: skip
    assert str(box.pid) in systemctl("status", unit)
    # Of the placeholder nothing is left; what comes by exec is in the scope too.
    assert group.words("cgroup.procs") == {str(box.pid)}
    assert box.exec("cat", "/proc/self/cgroup").stdout == "0::/\n"
    box.call("pause", box.id, **FLAG)
    assert box.status == "paused"
    box.call("resume", box.id)
    systemctl("daemon-reload")
    assert group.number("memory.max") == 64 * MIB
    assert group.number("pids.max") == 20
    assert group.text("cpuset.cpus") == "0"
    box.kill()
    box.ended()
    wait_until(lambda: not loaded(unit))
    box.delete()
    assert not os.path.exists(group.folder)


def test_a_container_that_runs_is_deleted_with_its_unit(box: Bundle) -> None:
    box.linux["cgroupsPath"] = f"parent{os.getpid()}-child.slice:test:{box.id}"
    box.up("sh", "-c", "trap '' TERM; sleep 1000 & while :; do sleep 1; done", **FLAG)
    parent = f"parent{os.getpid()}"
    assert group_of(box).path == f"/{parent}.slice/{parent}-child.slice/{unit_of(box)}"
    box.delete("--force")
    assert not loaded(unit_of(box))
    systemctl("stop", f"{parent}.slice")


def test_a_container_whose_state_is_damaged_is_deleted_with_its_unit(box: Bundle) -> None:
    pid = box.up("sh", "-c", "trap '' TERM; while :; do sleep 1; done", **FLAG)
    with open(f"{box.root}/{box.id}/state.json", "w") as file:
        file.write("damaged")
    box.delete("--force")
    assert not loaded(unit_of(box))
    assert not os.path.exists(f"/proc/{pid}")


def test_the_default_unit(box: Bundle) -> None:
    del box.linux["cgroupsPath"]
    box.up(**FLAG)
    assert group_of(box).path == f"/system.slice/pycontain-{box.id}.scope"
    # Nothing is said of tasks: systemd's own default holds.
    assert "max" not in group_of(box).text("pids.max")
    box.delete("--force")
    assert not loaded(f"pycontain-{box.id}.scope")


def test_memory_bites(box: Bundle) -> None:
    box.linux["resources"] = {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}}
    box.process["args"] = eat(64)
    assert box.run(**FLAG).returncode == KILLED
    assert not loaded(unit_of(box))


def test_one_task_is_all_there_may_be(box: Bundle) -> None:
    box.linux["resources"] = {"pids": {"limit": 1}}
    box.up(**FLAG)
    assert group_of(box).text("pids.max") == "1"
    assert show(unit_of(box), "TasksMax") == {"TasksMax": "1"}
    assert box.exec("true", ok=False).returncode != 0


def test_update(box: Bundle) -> None:
    box.linux["resources"] = {"memory": {"limit": 64 * MIB}, "cpu": {"quota": 20_500}}
    box.up(**FLAG)
    unit, group = unit_of(box), group_of(box)
    # systemd keeps whole percents of a processor; the file is exact.
    update(box, {"cpu": {"quota": 12_345}})
    assert group.text("cpu.max") == "12345 100000"
    assert show(unit, "CPUQuotaPerSecUSec") == {"CPUQuotaPerSecUSec": "130ms"}
    changes = {
        "memory": {"limit": 48 * MIB}, "pids": {"limit": 7},
        "cpu": {"quota": 12_000, "cpus": "1"}, "unified": {"hugetlb.2MB.max": "0"},
    }  # fmt: skip
    update(box, changes)
    names = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "AllowedCPUs")
    after = {"MemoryMax": str(48 * MIB), "TasksMax": "7", "CPUQuotaPerSecUSec": "120ms",
             "AllowedCPUs": "1"}  # fmt: skip

    def check() -> None:
        assert show(unit, *names) == after
        files = ("memory.max", "pids.max", "cpu.max", "cpuset.cpus", "hugetlb.2MB.max")
        said = [group.text(file) for file in files]
        assert said == [str(48 * MIB), "7", "12000 100000", "1", "0"]

    check()
    # Another property makes systemd write all of them again, and so does reading its units.
    systemctl("set-property", "--runtime", unit, "MemoryMin=1M")
    check()
    systemctl("daemon-reload")
    check()
    assert "cpuset" in refused_update(box, {"memory": {"limit": 32 * MIB}, "cpu": {"cpus": "4000"}})
    check()
    update(box, {"pids": {"limit": -1}})
    assert (group.text("pids.max"), show(unit, "TasksMax")) == ("max", {"TasksMax": "infinity"})


def test_what_systemd_refuses_changes_nothing(box: Bundle) -> None:
    box.up(**FLAG)
    group = group_of(box)
    update(box, {"memory": {"limit": 64 * MIB}})
    # The kernel would take it; systemd takes no limit of nothing.
    assert "systemd" in refused_update(box, {"unified": {"memory.high": "0"}})
    assert group.text("memory.high") == "max"


def test_properties_from_annotations(box: Bundle) -> None:
    box.config["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.CollectMode": "'inactive'",
        "org.systemd.property.Documentation": "['https://one.example', 'https://two.example']",
    }
    box.up(**FLAG)
    assert show(unit_of(box), "TimeoutStopUSec", "CollectMode", "Documentation") == {
        "TimeoutStopUSec": "7s",
        "CollectMode": "inactive",
        "Documentation": "https://one.example https://two.example",
    }


@pytest.mark.parametrize(
    ("path", "annotations", "why"),
    [
        ("/machine.slice/one", {}, "SLICE:PREFIX:NAME"),
        ("machine:test:one", {}, "is no slice"),
        ("machine.slice:test:one.slice", {}, "a scope, not a slice"),
        (None, {"org.systemd.property.NoSuchProperty": "true"}, "NoSuchProperty"),
        (None, {"org.systemd.property.TimeoutStopUSec": "seven"}, "TimeoutStopUSec"),
    ],
)
def test_refusals(box: Bundle, path: str | None, annotations: dict[str, str], why: str) -> None:
    if path:
        box.linux["cgroupsPath"] = path
    box.config["annotations"] = annotations
    assert why in box.refused(**FLAG)


def test_a_unit_that_is_there_already_is_left_alone(box: Bundle) -> None:
    box.up(**FLAG)
    other = box.another()
    other.linux["cgroupsPath"] = box.linux["cgroupsPath"]
    other.process["args"] = ["true"]
    assert "there is one already" in other.create(ok=False, **FLAG).stderr
    assert other.kept() == [box.id]
    assert box.status == "running"
    assert str(box.pid) in group_of(box).words("cgroup.procs")


def test_what_fails_after_the_scope_leaves_no_unit(box: Bundle) -> None:
    box.process["args"] = ["/no/such/program"]
    assert "/no/such/program" in box.refused(**FLAG)
    assert not loaded(unit_of(box))
    # What the kernel refuses, after systemd has taken it.
    box.linux["resources"] = {"unified": {"hugetlb.2MB.max": "many"}}
    assert "hugetlb.2MB.max" in box.refused(**FLAG)


_KILLED = """\
import os, sys
from pycontain.runtime import systemd
holder = systemd.Placeholder()
with systemd.Manager() as manager:
    print(manager.start_scope(sys.argv[1], "machine.slice", holder.pid, []), holder.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_scope_ends_with_the_runtime_that_is_killed_before_it_is_in_the_state() -> None:
    unit = f"killed-{os.getpid()}.scope"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, unit], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    path, pid = done.stdout.split()
    assert path == f"/machine.slice/{unit}"
    wait_until(lambda: not loaded(unit))
    assert not os.path.exists(Group(path).folder)
    assert not os.path.exists(f"/proc/{pid}")
