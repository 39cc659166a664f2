"""Control files of cgroup v2 from outside of a container, and processes that use something up."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from pace import seconds

from pycontain.kernel.cgroup import flat

if TYPE_CHECKING:
    from collections.abc import Callable

    from oci.bundle import Bundle

ROOT = "/sys/fs/cgroup"
MIB = 1 << 20
BUSY = "while :; do :; done"


def eat(mebibytes: int) -> list[str]:
    """A program that needs so much memory at once, and ends."""
    return ["dd", "if=/dev/zero", "of=/dev/null", f"bs={mebibytes}M", "count=1"]


class Group:
    """A cgroup.

    Args:
        path: absolute, below the hierarchy's root.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = ROOT + path

    def text(self, file: str) -> str:
        with open(f"{self.folder}/{file}") as opened:
            return opened.read().strip()

    def number(self, file: str) -> int:
        return int(self.text(file))

    def key(self, file: str, key: str) -> int:
        """A number of a flat keyed file, such as memory.events."""
        return flat(self.text(file))[key]

    def words(self, file: str) -> set[str]:
        return set(self.text(file).split())

    def device(self, file: str, device: str) -> dict[str, str]:
        """A device's values in a nested keyed file, such as io.stat; empty where it has no line."""
        for line in self.text(file).splitlines():
            name, *pairs = line.split()
            if name == device:
                return dict(pair.split("=", 1) for pair in pairs)
        return {}

    def put(self, file: str, text: str) -> None:
        with open(f"{self.folder}/{file}", "w") as opened:
            opened.write(text)


def group_of(bundle: Bundle) -> Group:
    """The cgroup of a container that has been created."""
    with open(f"/proc/{bundle.pid}/cgroup") as lines:
        return Group(next(line.strip()[3:] for line in lines if line.startswith("0::")))


def update(bundle: Bundle, resources: dict[str, Any], *, ok: bool = True) -> str:
    """``update`` from a document; what it said."""
    text = json.dumps(resources)
    return bundle.call("update", "-r", "-", bundle.id, input=text, ok=ok).stderr


def refused_update(bundle: Bundle, resources: dict[str, Any]) -> str:
    """``update`` must fail; what it said."""
    text = json.dumps(resources)
    done = bundle.call("update", "-r", "-", bundle.id, input=text, ok=False)
    assert done.returncode != 0, "it was accepted"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def stats(bundle: Bundle) -> dict[str, Any]:
    """The data of ``events --stats``."""
    data: dict[str, Any] = json.loads(bundle.call("events", "--stats", bundle.id).stdout)["data"]
    return data


def growth(look: Callable[[], tuple[int, ...]], enough: int) -> tuple[float, tuple[int, ...]]:
    """Wait until counters have grown by so much together; the seconds, and how much each has."""
    before, start = look(), time.monotonic()
    end = start + seconds(10)
    while True:
        time.sleep(0.2)
        now = look()
        grown = tuple(new - old for new, old in zip(now, before, strict=True))
        if sum(grown) >= enough:
            return time.monotonic() - start, grown
        assert time.monotonic() < end, f"too slow: {grown}"


def disk() -> str:
    """``MAJOR:MINOR`` of the disk with the root file system."""
    device = os.stat("/").st_dev
    return f"{os.major(device)}:{os.minor(device)}"
