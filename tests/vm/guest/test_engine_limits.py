"""Limits and figures of the engine's containers: each flag bites, or stands in its control file."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import fill, image_cache
from harness import CommandLine, Store, wait_until

from pycontain.errors import Conflict, InvalidInput, KernelError
from pycontain.kernel import cgroup
from pycontain.model.container import DeviceRate, DeviceWeight, ExitRecord, Limits, cgroup_path

from .control_files import BUSY, MIB, ROOT, Group, disk, growth

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["image_cache"]
pytestmark = pytest.mark.vm

DISK = "/dev/nvme0n1"


@pytest.fixture
def store(image_cache: str, place: str) -> Iterator[Store]:
    fill(image_cache, f"{place}/root", link=False)
    store = Store(place)
    yield store
    store.clear()
    left = store.leftovers()
    assert not left, left


def group_of(store: Store, ref: str) -> Group:
    container = store.view(ref).container
    return Group(cgroup_path(container.id, container.options.cgroup_parent))


def eat(mebibytes: int) -> str:
    """A command that has so much memory in use at once."""
    return f"dd if=/dev/zero of=/dev/null bs={mebibytes}M count=1"


def record_of(store: Store, ref: str) -> ExitRecord:
    store.containers.wait(ref)
    record = store.view(ref).status.record
    assert record is not None
    return record


def words(store: Store, *argv: str) -> str:
    """What a command line printed; it must succeed."""
    done = CommandLine(store)(*argv)
    assert done.returncode == 0, done
    return done.stdout.decode()


def test_every_flag_is_in_its_control_file(store: Store) -> None:
    line = (
        "run -d --name web -m 64m --memory-reservation 32m --memory-swap 96m --cpus 0.5"
        " --cpu-shares 2048 --cpuset-cpus 1 --cpuset-mems 0 --pids-limit 50 --blkio-weight 500"
        f" --device-read-bps {DISK}:1mb --device-write-bps {DISK}:2mb --device-read-iops {DISK}:30"
        f" --device-write-iops {DISK}:40 --cgroup-conf memory.high=60M --oom-score-adj 300"
        " busybox sleep 1000"
    )
    words(store, *line.split())
    group = group_of(store, "web")
    expected = {
        "memory.max": str(64 * MIB),
        "memory.low": str(32 * MIB),
        "memory.swap.max": str(32 * MIB),
        "memory.high": str(60 * MIB),
        "cpu.max": "50000 100000",
        "cpuset.cpus": "1",
        "cpuset.cpus.effective": "1",
        "cpuset.mems": "0",
        "pids.max": "50",
        "io.weight": "default 4950",
        "io.max": f"{disk()} rbps={MIB} wbps={2 * MIB} riops=30 wiops=40",
    }
    assert {file: group.text(file) for file in expected} == expected
    assert group.number("cpu.weight") > 100
    record = store.run_record("web")
    with open(f"/proc/{record.pid}/oom_score_adj") as file:
        assert file.read() == "300\n"
    monitor = Group(f"/pycontain/{store.view('web').container.id}/monitor")
    assert monitor.text("memory.max") == monitor.text("pids.max") == "max"
    assert str(record.monitor) in monitor.words("cgroup.procs")
    shown = json.loads(words(store, "inspect", "-f", "{{json .HostConfig}}", "web"))
    assert (shown["Memory"], shown["MemorySwap"]) == (64 * MIB, 96 * MIB)
    assert (shown["NanoCpus"], shown["PidsLimit"]) == (500_000_000, 50)
    assert shown["BlkioDeviceReadBps"] == [{"Path": DISK, "Rate": MIB}]


def test_period_and_quota(store: Store) -> None:
    store.detach(name="web", cpu_period=50_000, cpu_quota=20_000)
    assert group_of(store, "web").text("cpu.max") == "20000 50000"
    with pytest.raises(InvalidInput, match="conflicting options: --cpus and --cpu-period"):
        store.containers.update("web", Limits(cpus=1))
    store.containers.update("web", Limits(cpu_quota=-1))
    assert group_of(store, "web").text("cpu.max") == "max 50000"


def test_without_limits_everything_is_counted(store: Store, place: str) -> None:
    script = f"{eat(24)}; dd if=/dev/zero of=/file bs=1M count=4 oflag=direct; exit 3"
    container = store.create("sh", "-c", script, name="job")
    store.containers.start("job")
    record = record_of(store, "job")
    assert (record.code, record.oom_killed) == (3, False)
    assert record.memory_peak is not None
    assert 24 * MIB < record.memory_peak < 200 * MIB
    assert record.pids_peak in (2, 3)
    assert record.block_written is not None
    assert record.block_written >= 4 * MIB
    assert record.block_writes
    assert record.cpu_usec
    assert (record.cpu_user_usec or 0) + (record.cpu_system_usec or 0) <= record.cpu_usec + 2
    for figure in (record.cpu_stalled_usec, record.memory_stalled_usec, record.io_stalled_usec):
        assert figure is not None
    shown = json.loads(words(store, "inspect", "-f", "{{json .Totals}}", container.id))
    assert shown["MemoryPeak"] == record.memory_peak
    assert shown["BlockWritten"] == record.block_written


def test_out_of_memory_is_told(store: Store) -> None:
    words(store, "create", "--name", "job", "-m", "24m", "--memory-swap", "24m", "busybox",
          "sh", "-c", f"exec {eat(48)}")  # fmt: skip
    store.containers.start("job")
    record = record_of(store, "job")
    assert (record.code, record.oom_killed) == (137, True)
    assert words(store, "inspect", "-f", "{{.State.OOMKilled}}", "job") == "true\n"
    assert words(store, "ps", "-a", "--format", "{{.Status}}").endswith("ago (OOM killed)\n")
    # stored: the next run has it too, and a higher one lets it pass
    store.containers.start("job")
    assert record_of(store, "job").oom_killed
    store.containers.update("job", Limits(memory=96 * MIB, memory_swap=96 * MIB))
    store.containers.start("job")
    assert record_of(store, "job").code == 0


def test_tasks_processors_and_time_are_held(store: Store) -> None:
    script = f"for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; wait; {BUSY}"
    options: dict[str, Any] = {"pids_limit": 6, "cpus": 0.2, "cpuset_cpus": "0"}
    store.detach("sh", "-c", script, name="tight", **options)
    store.detach("sh", "-c", f"{BUSY} & {BUSY}", name="busy", cpus=0.2)
    group = group_of(store, "tight")
    wait_until(lambda: group.key("pids.events", "max"), patience=60)
    assert group.number("pids.current") <= 6
    busy = group_of(store, "busy")

    def used() -> tuple[int, ...]:
        return (busy.key("cpu.stat", "usage_usec"),)

    seconds, (usec,) = growth(used, 800_000)
    # two loops: without the quota they would take all that there is
    assert usec / 1e6 / seconds < 0.4
    assert busy.key("cpu.stat", "throttled_usec") > 0


def test_a_rate_bites(store: Store, place: str) -> None:
    script = "dd if=/dev/zero of=/file bs=1M count=4 oflag=direct conv=notrunc"
    limit = {"device_write_bps": (DeviceRate(path=DISK, rate=MIB),)}
    start = time.monotonic()
    assert store.code(script, **limit) == 0
    # A machine that is slow takes longer still.
    assert time.monotonic() - start > 2.5


def test_update_while_it_runs_and_after(store: Store) -> None:
    store.detach(name="web", memory=64 * MIB, device_read_bps=(DeviceRate(path=DISK, rate=MIB),))
    group = group_of(store, "web")
    assert group.text("memory.swap.max") == str(64 * MIB)
    line = f"update -m 128m --cpus 0.25 --pids-limit 20 --device-write-iops {DISK}:9 web"
    assert words(store, *line.split()) == "web\n"

    def look() -> list[str]:
        files = ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "io.max")
        return [group.text(file) for file in files]

    wanted = [
        str(128 * MIB), str(128 * MIB), "25000 100000", "20",
        f"{disk()} rbps={MIB} wbps=max riops=max wiops=9",
    ]  # fmt: skip
    assert look() == wanted
    store.containers.restart("web", timeout=0)
    assert look() == wanted
    # of a change that the kernel refuses, nothing stays
    with pytest.raises(KernelError, match=r"memory\.high"):
        store.containers.update("web", Limits(pids_limit=5, cgroup_conf={"memory.high": "much"}))
    assert look() == wanted
    store.containers.stop("web", timeout=0)
    lifted = Limits(memory=0, cpus=0, pids_limit=-1, cgroup_conf={"memory.high": "100M"})
    store.containers.update("web", lifted)
    store.containers.start("web")
    assert look()[:4] == ["max", "max", "max 100000", "max"]
    assert group.text("memory.high") == str(100 * MIB)


def test_memory_is_never_shrunk_by_killing(store: Store) -> None:
    script = (
        "dd if=/dev/zero of=/file bs=1M count=60 2>/dev/null; cat /file >/dev/null;"
        " dd if=/dev/zero of=/dev/shm/kept bs=1M count=30 2>/dev/null; echo ready; sleep 1000"
    )
    store.detach("sh", "-c", script, name="web", memory=256 * MIB, memory_swap=256 * MIB)
    wait_until(lambda: b"ready" in store.log("web"), patience=90)
    group = group_of(store, "web")
    assert group.number("memory.current") > 80 * MIB
    # the file's cache can go
    store.containers.update("web", Limits(memory=64 * MIB, memory_swap=64 * MIB))
    assert group.number("memory.max") == 64 * MIB
    assert group.number("memory.current") <= 64 * MIB
    # a tmpfs without swap cannot
    with pytest.raises(Conflict, match="cannot be reclaimed"):
        store.containers.update("web", Limits(memory=16 * MIB, memory_swap=16 * MIB))
    assert group.text("memory.max") == str(64 * MIB)
    assert store.view("web").container.options.memory == 64 * MIB
    assert store.state_of("web") == "running"
    assert group.key("memory.events", "oom_kill") == 0


def test_weights_of_a_device(store: Store) -> None:
    with open("/sys/fs/cgroup/io.cost.qos", "w") as file:
        file.write(f"{disk()} enable=1")
    try:
        weights = (DeviceWeight(path=DISK, weight=100),)
        store.detach(name="web", blkio_weight=1000, blkio_weight_device=weights)
        lines = group_of(store, "web").text("io.weight").splitlines()
        assert lines == ["default 10000", f"{disk()} 910"]
    finally:
        with open("/sys/fs/cgroup/io.cost.qos", "w") as file:
            file.write(f"{disk()} enable=0")


def test_a_cgroup_of_ones_choice(store: Store) -> None:
    parent = f"{ROOT}/team/web"
    words(store, *"run -d --name web --cgroup-parent team/web -m 32m busybox sleep 1000".split())
    try:
        identity = store.view("web").container.id
        folder = f"{parent}/{identity}"
        with open(f"{folder}/memory.max") as file:
            assert file.read() == f"{32 * MIB}\n"
        pid = store.run_record("web").pid
        with open(f"{folder}/cgroup.procs") as file:
            assert str(pid) in file.read().split()
        inside = store.exec("web", "cat", "/proc/self/cgroup")
        assert inside.stdout == b"0::/\n"
        assert store.containers.stats("web").memory_limit == 32 * MIB
        store.containers.update("web", Limits(memory=48 * MIB))
        with open(f"{folder}/memory.max") as file:
            assert file.read() == f"{48 * MIB}\n"
        # a document that nobody can read any more does not keep its cgroup
        paths = store.view("web").paths
        with open(paths.document, "w") as file:
            file.write("{")
        store.containers.remove("web", force=True)
        assert not os.path.exists(folder)
        assert not os.path.exists(f"{ROOT}/pycontain/{identity}")
    finally:
        os.rmdir(parent)
        os.rmdir(os.path.dirname(parent))


def test_figures_of_one_that_runs(store: Store) -> None:
    script = f"dd if=/dev/zero of=/dev/shm/kept bs=1M count=20 2>/dev/null; echo ready; {BUSY}"
    store.detach("sh", "-c", script, name="web", memory=64 * MIB, pids_limit=9)
    wait_until(lambda: b"ready" in store.log("web"), patience=60)
    first = store.containers.stats("web")
    time.sleep(1)
    second = store.containers.stats("web")
    percent = second.cpu_percent(first)
    assert percent is not None
    assert 10 < percent < 120
    assert second.memory is not None
    assert 20 * MIB <= second.memory < 64 * MIB
    assert (second.memory_limit, second.pids_limit, second.pids) == (64 * MIB, 9, 1)
    assert (second.net_received, second.net_sent) == (0, 0)
    assert second.block_read is not None
    assert second.memory_pressure is not None
    row = json.loads(words(store, "stats", "--no-stream", "--format", "json", "web"))
    assert row["MemUsage"].endswith(" / 64MiB")
    assert row["PIDs"] == "1"
    assert 20 < float(row["MemPerc"].rstrip("%")) < 100
    assert row["BlockIO"] != "--"
    assert row["CPUPerc"] != "--"


def test_what_a_machine_does_not_hand_down_is_refused(store: Store) -> None:
    folder = f"{ROOT}/closed"
    os.mkdir(folder)
    with open(f"{folder}/cgroup.procs", "w") as file:
        file.write("0")
    try:
        with pytest.raises(KernelError, match="memory below /closed"):
            store.detach(name="web", cgroup_parent="/closed", memory=32 * MIB)
        assert store.state_of("web") == "created"
        identity = store.view("web").container.id
        assert not os.path.exists(f"{ROOT}/pycontain/{identity}")
        assert not os.path.exists(f"{folder}/{identity}")
    finally:
        with open(f"{ROOT}/cgroup.procs", "w") as file:
            file.write("0")
        os.rmdir(folder)


def test_controllers_are_there() -> None:
    """What the others rely on."""
    root = cgroup.open_root()
    try:
        offered = cgroup.read(root, "cgroup.controllers") or ""
    finally:
        os.close(root)
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(offered.split())
