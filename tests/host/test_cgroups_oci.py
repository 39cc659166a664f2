"""A container's cgroup on a real kernel: what works in every one, and what is refused where it is
not there. Controllers that this host does not offer are tried in the virtual machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, wait_until

from pycontain.errors import Conflict, KernelError, NotFound, NotSupported
from pycontain.kernel import cgroup
from pycontain.runtime import cgroup_stats, cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.model import oci

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: cgroups of the host"),
]

TOP = f"/pycontain-test-{os.getpid()}"
LEAF = f"{TOP}/pod/one"
NEEDS = {
    "memory": ({"memory": {"limit": 1 << 30}}, "memory.max", "1073741824"),
    "pids": ({"pids": {"limit": 100}}, "pids.max", "100"),
    "cpu": ({"cpu": {"quota": 50000, "period": 200000}}, "cpu.max", "50000 200000"),
    "cpuset": ({"cpu": {"cpus": "0"}}, "cpuset.cpus", "0"),
    "hugetlb": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]},
        "hugetlb.2MB.max",
        "4194304",
    ),
}


def offered() -> set[str]:
    root = cgroup.open_root()
    words = (cgroup.read(root, "cgroup.controllers") or "").split()
    os.close(root)
    return set(words)


def needs(controller: str) -> None:
    if controller not in offered():
        pytest.skip(f"no controller {controller} in cgroup v2 here")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    cgroups.remove(TOP)
    assert not there(TOP)


def there(path: str) -> bool:
    try:
        os.close(cgroups.open_folder(path))
    except NotFound:
        return False
    return True


@contextmanager
def made(resources: oci.Resources | None = None, path: str = LEAF) -> Iterator[int]:
    folder = cgroups.make(path, resources or {})
    try:
        yield folder
    finally:
        os.close(folder)


def text(folder: int, file: str) -> str:
    return (cgroup.read(folder, file) or "").strip()


def there_by(folder: int) -> bool:
    return cgroup.read(folder, "cgroup.events") is not None


@contextmanager
def running(folder: int, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell in the cgroup."""
    place = f"/proc/{os.getpid()}/fd/{folder}/cgroup.procs"
    command = ["sh", "-c", f"echo $$ >{place}; {script}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            wait_until(lambda: process.pid in cgroup.processes(folder))
            yield process
        finally:
            process.kill()
            if there_by(folder):
                cgroup.kill(folder)


def test_make_makes_what_is_above_and_remove_leaves_it() -> None:
    with made():
        assert there(LEAF)
    cgroups.remove(LEAF)
    assert not there(LEAF)
    assert there(f"{TOP}/pod")
    cgroups.remove(LEAF)  # a missing one is fine


@pytest.mark.parametrize("controller", NEEDS)
def test_a_limit_is_set_or_refused_with_its_controller(controller: str) -> None:
    resources, file, expected = NEEDS[controller]
    if controller in offered():
        with made(resources) as folder:  # type: ignore[arg-type]
            assert text(folder, file) == expected
        return
    with pytest.raises(NotSupported, match=rf"{controller} \(.*needed for {file}=") as raised:
        cgroups.make(LEAF, resources)  # type: ignore[arg-type]
    if cgroup.in_version_1(controller):
        assert "a cgroup v1 hierarchy has it" in str(raised.value)
    assert not there(TOP)


def test_no_limit_needs_no_controller() -> None:
    unlimited: oci.Resources = {
        "memory": {"limit": -1},
        "pids": {"limit": -1},
        "cpu": {"quota": -1, "idle": 0},
    }
    with made(unlimited) as folder:
        for controller in {"memory", "pids"} & offered():
            assert text(folder, f"{controller}.max") == "max"


def test_only_what_is_needed_is_handed_down() -> None:
    needs("hugetlb")
    os.close(cgroups.make(LEAF, {"unified": {"hugetlb.2MB.max": "0"}}, accounting=()))
    for path in (TOP, f"{TOP}/pod"):
        folder = cgroups.open_folder(path)
        assert text(folder, "cgroup.subtree_control") == "hugetlb"
        os.close(folder)
    with made({}, f"{TOP}/other/two") as folder:
        assert cgroup.read(folder, "hugetlb.2MB.max") is None


def test_huge_pages_are_limited_in_use_and_in_reservation() -> None:
    needs("hugetlb")
    with made({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}) as folder:
        assert text(folder, "hugetlb.2MB.max") == str(4 << 20)
        assert text(folder, "hugetlb.2MB.rsvd.max") == str(4 << 20)


def test_a_size_that_the_kernel_does_not_have_leaves_nothing() -> None:
    needs("hugetlb")
    with pytest.raises(NotSupported, match=r"hugetlb\.3KB\.max=1 \(this kernel has no such file"):
        cgroups.make(LEAF, {"hugepageLimits": [{"pageSize": "3KB", "limit": 1}]})
    assert not there(TOP)


def test_a_failure_leaves_what_was_there_before() -> None:
    with made({}, f"{TOP}/pod"):
        pass
    with pytest.raises(KernelError, match=r"cgroup\.max\.depth=many"):
        cgroups.make(LEAF, {"unified": {"cgroup.max.depth": "many"}})
    assert there(f"{TOP}/pod")
    assert not there(LEAF)


def test_a_name_that_is_a_control_file_is_no_cgroup() -> None:
    with pytest.raises(KernelError, match=r"cgroup\.procs: not a directory"):
        cgroups.make(f"{TOP}/cgroup.procs", {})


def test_an_empty_cgroup_is_used_and_an_inhabited_one_refused() -> None:
    with made():
        pass
    with made() as folder, running(folder, "exec sleep 60"):
        with pytest.raises(Conflict, match="there are processes in it"):
            cgroups.make(LEAF, {})
        assert there(LEAF)


def test_a_frozen_cgroup_is_refused() -> None:
    with made() as folder:
        cgroup.freeze(folder)
        with pytest.raises(Conflict, match="frozen"):
            cgroups.make(LEAF, {})


def test_a_cgroup_that_hands_controllers_down_is_refused() -> None:
    needs("hugetlb")
    with made({"unified": {"hugetlb.2MB.max": "0"}}):
        pass
    with pytest.raises(Conflict, match=f"{TOP}/pod: it hands .*hugetlb.* down"):
        cgroups.make(f"{TOP}/pod", {})


def test_a_threaded_cgroup_is_refused() -> None:
    with made() as folder:
        cgroup.write(folder, "cgroup.type", "threaded")
        with pytest.raises(Conflict, match=f"{LEAF}: it is threaded"):
            cgroups.make(LEAF, {})
        with pytest.raises(Conflict, match=f"{TOP}/pod/two: it is domain invalid"):
            cgroups.make(f"{TOP}/pod/two", {})
    assert not there(f"{TOP}/pod/two")


def test_limits_cannot_come_below_processes() -> None:
    needs("hugetlb")
    with made({}, TOP) as folder, running(folder, "exec sleep 60"):
        with pytest.raises(KernelError, match=f"hugetlb below {TOP} .processes are in that cgroup"):
            cgroups.make(LEAF, {"unified": {"hugetlb.2MB.max": "0"}})
        assert not there(f"{TOP}/pod")
        # Without limits it can, and is not made a threaded one for the sake of figures.
        with made() as below:
            assert text(below, "cgroup.type") == "domain"


def test_update_sets_all_or_nothing() -> None:
    needs("hugetlb")
    with made({"unified": {"hugetlb.2MB.max": "4194304", "cgroup.max.depth": "3"}}) as folder:
        cgroups.update(folder, {"unified": {"hugetlb.2MB.max": "2097152"}})
        assert text(folder, "hugetlb.2MB.max") == "2097152"
        wrong: oci.Resources = {
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "unified": {"cgroup.max.descendants": "5", "cgroup.max.depth": "many"},
        }
        with pytest.raises(KernelError, match=r"cgroup\.max\.depth=many"):
            cgroups.update(folder, wrong)
        assert text(folder, "hugetlb.2MB.max") == "2097152"
        assert text(folder, "cgroup.max.descendants") == "max"
        assert text(folder, "cgroup.max.depth") == "3"


def test_update_enables_a_controller_below_which_processes_run() -> None:
    needs("hugetlb")
    with made() as folder, running(folder, "exec sleep 60"):
        assert cgroup.read(folder, "hugetlb.2MB.max") is None
        cgroups.update(folder, {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]})
        assert text(folder, "hugetlb.2MB.max") == "0"


def test_update_of_a_removed_cgroup() -> None:
    with made() as folder:
        cgroups.remove(LEAF)
        with pytest.raises(NotFound, match="removed"):
            cgroups.update(folder, {"pids": {"limit": 1}})
        with pytest.raises(NotFound):
            cgroup_stats.stats(folder)


def test_processes_of_those_below_are_counted() -> None:
    with made({}, TOP) as top, made() as folder, running(folder, "sleep 60 & sleep 60"):
        wait_until(lambda: len(cgroup.processes(folder)) == 3)
        assert cgroup.processes(top) == cgroup.processes(folder)
        assert cgroup_stats.stats(top)["pids"] == {"current": 3}


def test_a_signal_reaches_every_process_once() -> None:
    loop = "trap 'echo caught' TERM; echo up; while sleep 0.05; do :; done"
    script = f"({loop}) & {loop}"
    with made() as folder, running(folder, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() + process.stdout.readline() == b"up\nup\n"
        cgroup.signal_all(folder, signal.SIGTERM)
        assert process.stdout.readline() + process.stdout.readline() == b"caught\ncaught\n"
        assert text(folder, "cgroup.freeze") == "0"


def test_a_signal_reaches_those_that_are_forked_meanwhile() -> None:
    with made() as folder, running(folder, "f() { sleep 0.01 & sleep 0.02; f; }; f & f & f"):
        cgroup.signal_all(folder, signal.SIGTERM)
        wait_until(lambda: text(folder, "cgroup.events").startswith("populated 0"))


def test_a_frozen_cgroup_stays_so_and_gets_its_signal_later() -> None:
    script = "trap 'echo caught; exit' TERM; echo up; while sleep 0.05; do :; done"
    with made() as folder, running(folder, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        cgroup.freeze(folder)
        cgroup.signal_all(folder, signal.SIGCONT)
        cgroup.signal_all(folder, signal.SIGTERM)
        # A signal wakes the frozen for a moment.
        wait_until(lambda: "frozen 1" in text(folder, "cgroup.events"))
        assert text(folder, "cgroup.freeze") == "1"
        assert process.poll() is None
        cgroup.freeze(folder, frozen=False)
        assert process.stdout.readline() == b"caught\n"


def test_a_kill_reaches_frozen_processes() -> None:
    with made() as folder, running(folder, "exec sleep 60") as process:
        cgroup.freeze(folder)
        cgroup.signal_all(folder, signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL


def test_remove_kills_what_runs_in_it_and_below() -> None:
    below = f"{LEAF}/a.scope/b"
    with made() as top, made({}, below) as folder, running(folder, "exec sleep 60") as process:
        assert cgroup.processes(top) == [process.pid]
        # A zombie counts until it is reaped.
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        cgroups.remove(TOP)
        reaper.join()
        assert process.returncode == -signal.SIGKILL
        assert not there(TOP)


def test_stats_grow_with_what_runs() -> None:
    with made() as folder, running(folder, "while :; do :; done"):

        def total() -> int:
            found: int = cgroup_stats.stats(folder)["cpu"]["usage"]["total"]  # type: ignore[index]
            return found

        # User and system time are told apart by ticks: some must have come (cputime_adjust()).
        wait_until(lambda: total() > 100_000_000)
        figures = cgroup_stats.stats(folder)
        usage = figures["cpu"]["usage"]  # type: ignore[index]
        assert 100_000_000 < usage["total"] < 1000 * PATIENCE * 1_000_000
        assert usage["total"] >= usage["user"] > 0
        assert figures["pids"]["current"] == 1  # type: ignore[index]
        if "memory" not in offered():
            assert "usage" not in figures.get("memory", {})  # type: ignore[operator]


def test_a_watch_is_woken_by_what_the_kernel_changes() -> None:
    with made() as folder, running(folder, "exec sleep 60") as process:
        events = os.open("cgroup.events", os.O_RDONLY, dir_fd=folder)
        assert "populated 1" in cgroup._again(events)
        killer = threading.Timer(0.1, process.kill)
        began = time.monotonic()
        killer.start()
        cgroup._wait((events,), 2 * PATIENCE)
        assert 0.05 < time.monotonic() - began < PATIENCE
        killer.join()
        process.wait()
        assert "populated 0" in cgroup._again(events)
        os.close(events)


def test_a_watch_needs_the_memory_controller() -> None:
    if "memory" in offered():
        with made() as folder, cgroup.OomWatch(folder) as watch:
            assert watch.wait() is None  # nobody is in it
        return
    with made() as folder, pytest.raises(NotSupported, match="memory controller"):
        cgroup.OomWatch(folder)


def test_a_memory_hog_is_told() -> None:
    needs("memory")
    limits: oci.Resources = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    hog = "head -c 64m /dev/zero | tail"
    with made(limits) as folder, cgroup.OomWatch(folder) as watch, running(folder, hog):
        assert watch.wait(PATIENCE) == 1


def test_give_hands_over_what_may_be_delegated() -> None:
    with made() as folder:
        cgroups.give(folder, 12345)
        owners = {name: os.stat(name, dir_fd=folder).st_uid for name in os.listdir(folder)}
        assert os.fstat(folder).st_uid == owners["cgroup.procs"] == 12345
        assert owners["cgroup.subtree_control"] == owners["cgroup.threads"] == 12345
        assert owners["cgroup.freeze"] == owners["cgroup.max.descendants"] == 0
