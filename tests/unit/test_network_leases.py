"""Leases of addresses: given once, taken over when void, in turn."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import Conflict
from pycontain.network import address
from pycontain.network.leases import Leases
from pycontain.store import files

if TYPE_CHECKING:
    from pathlib import Path

SUBNET = address.parse("10.1.2.0/29")  # hosts .1 to .6


def give(leases: Leases, holder: str = "box run", lives: bool = True) -> str:
    return leases.give(SUBNET, SUBNET, [address.number("10.1.2.1")[1]], holder, lambda _: lives)


def test_the_next_after_the_last(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    assert [give(leases) for _ in range(3)] == ["10.1.2.2", "10.1.2.3", "10.1.2.4"]
    leases.free("10.1.2.3", "box run")
    # not the one that has just been freed
    assert [give(leases) for _ in range(3)] == ["10.1.2.5", "10.1.2.6", "10.1.2.3"]
    with pytest.raises(Conflict):
        give(leases)


def test_a_void_lease_is_taken_over(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    for _ in range(5):
        give(leases, "dead run")
    assert give(leases, "other run", lives=False) == "10.1.2.2"
    assert leases.all()["10.1.2.2"] == "other run"


def test_what_somebody_else_frees_and_claims_meanwhile_stays(tmp_path: Path) -> None:
    folder = f"{tmp_path}/leases"
    leases = Leases(folder)
    leases.take("10.1.2.2", "old run", lambda _: True)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    def free() -> None:
        os.close(held)  # else it would have our lock, too
        leases.free("10.1.2.2", "old run")

    other = multiprocessing.get_context("fork").Process(target=free)
    other.start()
    waiting = f":{os.fstat(held).st_ino} "
    while other.is_alive() and not _is_waited_for(waiting):
        time.sleep(0.001)
    assert other.is_alive()
    os.unlink(f"{folder}/10.1.2.2")
    os.symlink("new run", f"{folder}/10.1.2.2")
    os.close(held)
    other.join()
    assert leases.all() == {"10.1.2.2": "new run"}


def _is_waited_for(inode: str) -> bool:
    with open("/proc/locks", encoding="ascii") as file:
        return any("->" in line and inode in line for line in file)


def test_what_is_being_written_is_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks which are void comes between the writing of the last one's and its name."""
    leases = Leases(f"{tmp_path}/leases")
    rename = os.rename

    def looked(source: str, target: str) -> None:
        assert list(leases.held(lambda holder: holder == "box run")) == ["10.1.2.2"]
        rename(source, target)

    monkeypatch.setattr(os, "rename", looked)
    assert give(leases) == "10.1.2.2"


def test_one_that_is_wanted(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    leases.take("10.1.2.5", "box run", lambda _: True)
    with pytest.raises(Conflict, match=r"10\.1\.2\.5"):
        leases.take("10.1.2.5", "other run", lambda _: True)
    leases.take("10.1.2.5", "other run", lambda holder: holder != "box run")
    assert leases.all() == {"10.1.2.5": "other run"}


def test_only_the_holder_frees(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    give(leases)
    leases.free("10.1.2.2", "another run")
    assert leases.all() == {"10.1.2.2": "box run"}
    leases.free("10.1.2.2", "box run")
    leases.free("10.1.2.2", "box run")
    assert leases.all() == {}


def test_void_ones_go_when_they_are_seen(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    give(leases, "dead run")
    give(leases, "box run")
    assert leases.held(lambda holder: holder == "box run") == {"10.1.2.3": "box run"}
    assert leases.all() == {"10.1.2.3": "box run"}
    assert not leases.is_used(lambda _: False)
    assert leases.all() == {}


def test_a_part_of_the_subnet(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    pool = address.parse("10.1.2.4/30")
    given = [
        leases.give(pool, SUBNET, [], "box run", lambda _: True) for _ in range(3)
    ]  # .7 is that of all hosts
    assert given == ["10.1.2.4", "10.1.2.5", "10.1.2.6"]


def test_ipv6_is_not_counted_through(tmp_path: Path) -> None:
    leases = Leases(f"{tmp_path}/leases")
    wide = address.parse("fd00::/64")
    given = [leases.give(wide, wide, [wide.first + 1], "a b", lambda _: True) for _ in range(2)]
    assert given == ["fd00::2", "fd00::3"]


def _many(folder: str, holder: str) -> None:
    wide = address.parse("10.2.0.0/16")
    for number in range(40):
        with files.Lock(f"{folder}.lock"):
            Leases(folder).give(wide, wide, [], f"{holder} {number}", lambda _: True)


def test_many_at_once_get_one_each(tmp_path: Path) -> None:
    folder = f"{tmp_path}/leases"
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_many, args=(folder, str(number))) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = Leases(folder).all()
    assert len(found) == len(set(found.values())) == 160
    assert all(os.path.islink(f"{folder}/{name}") for name in found)
