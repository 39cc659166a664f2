"""Times what holds a pod's namespaces, and says what it takes of memory.

Usage, as root::

    python -m tests.bench.pods [ROUNDS]

Nothing here passes or fails.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from pycontain import Engine
from pycontain.engine import records, sandbox
from pycontain.model.container import NetworkChoice
from pycontain.pod.pods import Pods
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.model.pod import Pod

KINDS: dict[str, dict[str, Any]] = {
    "ipc, net, uts": {"network": "none"},
    "and pid": {"network": "none", "share": ("ipc", "net", "pid", "uts")},
    "in a network": {"networks": (NetworkChoice(name="bridge"),)},
}


def took(act: Callable[[], object]) -> float:
    """Return how many milliseconds something took."""
    begin = time.perf_counter()
    act()
    return (time.perf_counter() - begin) * 1000


def size(engine: Engine, pod: Pod) -> int:
    """Return the proportional set size of what holds a pod, in KB."""
    record = records.load_run(engine.layout.pod(pod.id))
    assert record is not None
    total = 0
    for pid in {record.monitor, record.pid}:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total


def measure(engine: Engine, what: str, options: dict[str, Any], rounds: int) -> None:
    """Start and stop one pod so many times, and print the medians."""
    pods = Pods(engine)
    pod = pods.create("bench", **options)
    starts, stops, sizes = [], [], []
    with files.Lock(engine.layout.pod(pod.id).lock) as lock:
        for _ in range(rounds):
            starts.append(took(lambda: sandbox.start(engine.layout, pod, lock.fileno())))
            sizes.append(size(engine, pod))
            stops.append(took(lambda: sandbox.stop(engine.layout, pod)))
    pods.remove(pod.id, force=True)
    print(
        f"{what:16} start {statistics.median(starts):6.1f} ms, at best {min(starts):6.1f}"
        f"   stop {statistics.median(stops):6.1f} ms   PSS {statistics.median(sizes):5.0f} KB"
    )


def main() -> None:
    """Print a line for each kind of pod."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(f"{folder}/root", f"{folder}/state")
        try:
            for what, options in KINDS.items():
                measure(engine, what, options, rounds)
        finally:
            engine.networks.sweep()


if __name__ == "__main__":
    main()
