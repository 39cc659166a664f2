"""linux.resources.blockIO: rates and weights at a disk."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oci.bundle import bind

from .control_files import MIB, disk, group_of, growth, refused_update, stats, update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.bundle import Bundle

pytestmark = pytest.mark.vm

NOT_THERE = {"major": 240, "minor": 7}


def device(**more: int) -> dict[str, int]:
    major, minor = map(int, disk().split(":"))
    return {"major": major, "minor": minor, **more}


def write(bundle: Bundle, count: int, size: int) -> float:
    """Write past the page cache; the seconds."""
    start = time.monotonic()
    words = [f"bs={size}", f"count={count}", "oflag=direct", "conv=notrunc"]
    bundle.exec("dd", "if=/dev/zero", "of=/mnt/file", *words)
    return time.monotonic() - start


def test_bytes_and_operations_are_held_to_their_rate(bundle: Bundle, place: str) -> None:
    bundle.mounts.append(bind(place, "/mnt"))
    bundle.linux["resources"] = {
        "blockIO": {"throttleWriteBpsDevice": [device(rate=MIB)]},
        "pids": {"limit": 100},
    }
    bundle.up()
    group = group_of(bundle)
    assert group.device("io.max", disk())["wbps"] == str(MIB)
    # A machine that is slow takes longer still. What a first slice lets through is no second's.
    assert write(bundle, 4, MIB) > 2.5
    # Not all that is written to a file counts for it: the journal's is the kernel's.
    assert int(group.device("io.stat", disk())["wbytes"]) >= 4 * MIB
    told = stats(bundle)["blkio"]
    (written,) = [
        entry["value"] for entry in told["ioServiceBytesRecursive"]
        if entry["op"] == "Write" and f"{entry['major']}:{entry['minor']}" == disk()
    ]  # fmt: skip
    assert written >= 4 * MIB
    assert told["psi"]["some"]["total"] > SECOND
    update(bundle, {"blockIO": {
        "throttleWriteBpsDevice": [device(rate=0)], "throttleWriteIOPSDevice": [device(rate=10)],
        "throttleReadBpsDevice": [device(rate=2 * MIB)],
    }})  # fmt: skip
    limits = {"rbps": str(2 * MIB), "wbps": "max", "riops": "max", "wiops": "10"}
    assert group.device("io.max", disk()) == limits
    assert write(bundle, 40, 4096) > 2.5
    start = time.monotonic()
    bundle.exec("dd", "if=/mnt/file", "of=/dev/null", "bs=1M", "count=4", "iflag=direct")
    assert time.monotonic() - start > 1.2
    said = refused_update(bundle, {
        "pids": {"limit": 50}, "blockIO": {"throttleReadBpsDevice": [{**NOT_THERE, "rate": 5}]},
    })  # fmt: skip
    assert "io.max=240:7 rbps=5" in said
    assert "whole disk" in said
    assert group.number("pids.max") == 100, "what was changed before the refusal is as it was"
    assert group.device("io.max", disk()) == limits


SECOND = 1_000_000
"""In microseconds, the unit of io.pressure."""


def test_a_rate_for_a_disk_that_is_not_there(bundle: Bundle) -> None:
    entry = {**NOT_THERE, "rate": MIB}
    bundle.linux["resources"] = {"blockIO": {"throttleReadBpsDevice": [entry]}}
    said = bundle.refused()
    assert "io.max=240:7" in said
    assert "whole disk" in said


def test_a_weight_without_a_scheduler_for_it(bundle: Bundle) -> None:
    """The kernel keeps a weight for all disks, and refuses one for a disk that has no policy."""
    bundle.linux["resources"] = {"blockIO": {"weight": 500}}
    bundle.up()
    group = group_of(bundle)
    assert group.text("io.weight") == "default 4950"
    bundle.call("update", "--blkio-weight", "10", bundle.id)
    assert group.text("io.weight") == "default 1"
    said = refused_update(bundle, {"blockIO": {"weightDevice": [device(weight=100)]}})
    assert f"io.weight={disk()} 910" in said
    with_cost_model(enable=1)
    try:
        update(bundle, {"blockIO": {"weightDevice": [device(weight=100)]}})
        assert f"{disk()} 910" in group.text("io.weight").splitlines()
    finally:
        with_cost_model(enable=0)


def with_cost_model(enable: int) -> None:
    with open("/sys/fs/cgroup/io.cost.qos", "w") as file:
        file.write(f"{disk()} enable={enable}")


@pytest.fixture
def slow_disk() -> Iterator[str]:
    """``MAJOR:MINOR`` of a disk that takes 5 ms for a request, one at a time, under BFQ.

    However slow the processor is, two readers have to wait for such a disk, and BFQ for the one of
    more weight.
    """
    subprocess.run(["modprobe", "bfq"], check=True)
    words = "nr_devices=1 queue_mode=2 irqmode=2 completion_nsec=5000000 hw_queue_depth=1"
    subprocess.run(["modprobe", "null_blk", *words.split()], check=True)
    queue = Path("/sys/block/nullb0/queue")
    (queue / "scheduler").write_text("bfq")
    (queue / "iosched/slice_idle").write_text("500")
    yield Path("/sys/block/nullb0/dev").read_text().strip()
    subprocess.run(["modprobe", "-r", "null_blk"], check=True)
    subprocess.run(["modprobe", "-r", "bfq"], check=True)


def test_a_disk_is_shared_by_weight(slow_disk: str, bundle: Bundle) -> None:
    other = bundle.another()
    major, minor = map(int, slow_disk.split(":"))
    rule = {"allow": True, "type": "b", "major": major, "minor": minor, "access": "r"}
    for one, weight in ((bundle, 20), (other, 1000)):
        one.mounts.append(bind("/dev/nullb0", "/disk"))
        one.linux["resources"] = {"blockIO": {"weight": weight}, "devices": [rule]}
        one.up("dd", "if=/disk", "of=/dev/null", "bs=64k", "iflag=direct")
    light, heavy = group_of(bundle), group_of(other)
    assert light.text("io.bfq.weight") == "default 20"

    def read() -> tuple[int, ...]:
        return tuple(int(one.device("io.stat", slow_disk).get("rios", 0)) for one in (light, heavy))

    _, grown = growth(read, 600)
    assert grown[1] > 3 * grown[0]
    entry = {"major": major, "minor": minor, "weight": 40}
    update(bundle, {"blockIO": {"weight": 30, "weightDevice": [entry]}})
    assert set(light.text("io.bfq.weight").splitlines()) == {"default 30", f"{slow_disk} 40"}
