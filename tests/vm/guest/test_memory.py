"""linux.resources.memory: limits that kill, swap, and memory that is protected."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from oci.bundle import Running, bind, wait_until

from .control_files import MIB, Group, eat, group_of, refused_update, stats, update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.bundle import Bundle

pytestmark = pytest.mark.vm

KILLED = 137


def limited(bundle: Bundle, limit: int, swap: int | None = None) -> None:
    both = limit if swap is None else limit + swap
    bundle.linux["resources"] = {"memory": {"limit": limit, "swap": both}}


def test_a_program_that_takes_more_than_the_limit_is_killed(bundle: Bundle) -> None:
    limited(bundle, 24 * MIB)
    bundle.process["args"] = eat(64)
    assert bundle.run().returncode == KILLED
    bundle.process["args"] = eat(8)
    assert bundle.run().returncode == 0


def test_one_of_many_is_killed_told_and_counted(bundle: Bundle) -> None:
    limited(bundle, 32 * MIB)
    bundle.up()
    group = group_of(bundle)
    assert group.number("memory.max") == 32 * MIB
    assert group.number("memory.swap.max") == 0
    with Running(bundle.argv("events", "--interval", "1h", bundle.id)) as events:
        wait_until(lambda: watched(events.process.pid))
        assert bundle.exec(*eat(64), ok=False).returncode == KILLED
        assert json.loads(events.line()) == {"type": "oom", "id": bundle.id}
    assert bundle.status == "running"
    assert group.key("memory.events", "oom_kill") == 1
    told = stats(bundle)["memory"]
    assert told["usage"]["limit"] == 32 * MIB
    assert told["swap"]["limit"] == 32 * MIB
    assert told["usage"]["failcnt"] == group.key("memory.events", "max") > 0
    assert told["event_count"]["oom_kill"] == 1
    assert 0 < told["usage"]["usage"] <= 32 * MIB
    assert told["raw"]["anon"] >= 0
    assert told["psi"]["some"]["total"] >= 0


def watched(pid: int) -> bool:
    """Whether a process has opened memory.events."""
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"{folder}/{fd}").endswith("/memory.events"):
                return True
    return False


def test_a_limit_is_changed_while_it_runs(bundle: Bundle) -> None:
    limited(bundle, 24 * MIB)
    bundle.up()
    group = group_of(bundle)
    assert bundle.exec(*eat(48), ok=False).returncode == KILLED
    bundle.call("update", "--memory", "96m", "--memory-swap", "96m", bundle.id)
    assert bundle.exec(*eat(48)).returncode == 0
    bundle.exec("dd", "if=/dev/zero", "of=/dev/shm/kept", "bs=1M", "count=30")
    said = refused_update(bundle, {"memory": {"limit": 16 * MIB, "checkBeforeUpdate": True}})
    assert "memory.limit" in said
    assert group.number("memory.max") == 96 * MIB
    # Without the check the kernel makes room, by killing where nothing else helps.
    update(bundle, {"memory": {"limit": 16 * MIB}})
    wait_until(lambda: bundle.status == "stopped")
    assert bundle.ended() == -9


def test_no_limit_at_all(bundle: Bundle) -> None:
    limited(bundle, 24 * MIB)
    bundle.up()
    bundle.call("update", "--memory", "-1", bundle.id)
    group = group_of(bundle)
    assert (group.text("memory.max"), group.text("memory.swap.max")) == ("max", "max")
    assert bundle.exec(*eat(64)).returncode == 0
    assert stats(bundle)["memory"]["usage"]["limit"] == 2**64 - 1


# ---------------------------------------------------------------------------------------- swap


@pytest.fixture
def swap(place: str) -> Iterator[None]:
    """128 MiB of swap in a file on the disk."""
    place = f"{place}/swap"
    with open(place, "wb", opener=private) as file:
        os.posix_fallocate(file.fileno(), 0, 128 * MIB)
    subprocess.run(["mkswap", "-q", place], check=True)
    subprocess.run(["swapon", place], check=True)
    yield
    subprocess.run(["swapoff", place], check=True)


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def fill(count: int) -> list[str]:
    """A program that leaves so many MiB in the container's /dev/shm."""
    return ["dd", "if=/dev/zero", "of=/dev/shm/file", "bs=1M", f"count={count}"]


def test_what_exceeds_the_limit_goes_to_swap_as_far_as_that_goes(
    swap: None, bundle: Bundle
) -> None:
    limited(bundle, 24 * MIB, 64 * MIB)
    bundle.up()
    group = group_of(bundle)
    assert group.number("memory.swap.max") == 64 * MIB
    bundle.exec(*fill(60))
    swapped = group.number("memory.swap.current")
    assert 30 * MIB <= swapped <= 64 * MIB
    told = stats(bundle)["memory"]["swap"]
    assert told["limit"] == 88 * MIB
    assert told["usage"] >= 55 * MIB
    assert group.key("memory.events", "oom_kill") == 0
    assert bundle.exec(*fill(120), ok=False).returncode == KILLED
    # memory.swap.events need not tell it: what has no room for swap is not reclaimed for it.
    assert group.key("memory.events", "oom_kill") == 1
    assert group.number("memory.swap.current") <= 64 * MIB
    # The same amount in all, with other shares: swap that grows is set before memory that shrinks.
    bundle.exec("rm", "/dev/shm/file")
    update(bundle, {"memory": {"limit": 16 * MIB, "swap": 88 * MIB}})
    assert group.number("memory.swap.max") == 72 * MIB
    bundle.exec(*fill(60))
    assert group.key("memory.events", "oom_kill") == 1
    bundle.exec("rm", "/dev/shm/file")
    bundle.call("update", "--memory-swap", "16m", bundle.id)
    assert group.number("memory.swap.max") == 0
    assert bundle.exec(*fill(60), ok=False).returncode == KILLED


def test_none_of_it_goes_to_swap_where_memory_and_swap_are_equal(
    swap: None, bundle: Bundle
) -> None:
    limited(bundle, 24 * MIB)
    bundle.up()
    assert bundle.exec(*fill(60), ok=False).returncode == KILLED
    assert group_of(bundle).number("memory.swap.current") == 0
    said = refused_update(bundle, {"memory": {"limit": 24 * MIB, "swap": 8 * MIB}})
    assert "memory.swap" in said


# ---------------------------------------------------------------------------------- protection


def test_a_reservation_keeps_memory_while_others_lose_theirs(bundle: Bundle, place: str) -> None:
    """Three containers cache files below one limit; the last reads more than there is."""
    parent = Group(f"/parent-{bundle.own}")
    bundle.parents.append(parent.path[1:])
    others = [bundle.another(), bundle.another()]
    three = [bundle, *others]
    for one in three:
        one.linux["cgroupsPath"] = f"{parent.path}/{one.id}"
        one.linux["resources"] = {"memory": {"reservation": 40 * MIB if one is bundle else 0}}
        size = 256 * MIB if one is three[-1] else 16 * MIB
        with open(f"{place}/{one.id}", "wb") as file:
            file.truncate(size)
        one.mounts.append(bind(f"{place}/{one.id}", "/file"))
        one.up()
    parent.put("memory.max", str(64 * MIB))
    protected, unprotected, _ = (group_of(one) for one in three)
    assert protected.number("memory.low") == 40 * MIB
    for one in three:
        one.exec("dd", "if=/file", "of=/dev/null", "bs=1M")
    kept = [group.key("memory.stat", "file") for group in (protected, unprotected)]
    assert kept[0] > 15 * MIB
    assert kept[1] < 8 * MIB
    bundle.call("update", "--memory-reservation", "1m", bundle.id)
    assert protected.number("memory.low") == MIB
    others[1].exec("dd", "if=/file", "of=/dev/null", "bs=1M")
    assert protected.key("memory.stat", "file") < 8 * MIB
