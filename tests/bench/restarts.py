"""Times a restart by policy, from the death of a container's program to its successor's start.

Usage, as root::

    python -m tests.bench.restarts [ROUNDS]

The supervisor runs already, and each restart is the first of its series. Shown too: its memory
(PSS), before and after. Nothing here passes or fails.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time

from pycontain import Engine
from pycontain.engine import records, supervision

ROUNDS = 20
PATIENCE = 60.0


def pss(pid: int) -> int:
    """Return the memory of a process in kB, shared pages in proportion (proc_pid_smaps(5))."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def supervisor(engine: Engine) -> int:
    """Return the pid of the supervisor, once there is one that sleeps."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = supervision.recorded(engine.layout)
        if found is not None and supervision.lives(engine.layout):
            with open(f"/proc/{found[0]}/wchan") as file:
                if "epoll" in file.read():
                    return found[0]
        time.sleep(0.01)
    raise SystemExit("no supervisor")


def restarted(engine: Engine) -> float:
    """Return the seconds from a program's death to the start of the next one."""
    with engine.start("busybox", ["sleep", "1000"], leash=False, restart="always") as box:
        paths = engine.layout.container(box.id)
        supervisor(engine)
        time.sleep(0.3)  # it has looked at the new one
        before = records.load_run(paths)
        assert before is not None
        begin = time.time_ns()
        os.kill(before.pid, signal.SIGKILL)
        while True:
            record = records.load_run(paths)
            if record is not None and record.run != before.run:
                return (record.started - begin) / 1e9
            time.sleep(0.0005)


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="restarts-") as folder:
        engine = Engine(f"{folder}/root", f"{folder}/state")
        keeper = engine.start("busybox", idle=True, leash=False, restart="always")
        try:
            pid = supervisor(engine)
            fresh = pss(pid)
            times = sorted(restarted(engine) for _ in range(rounds))
            used = pss(pid)
        finally:
            keeper.close()
        while supervision.lives(engine.layout):
            time.sleep(0.01)
    middle, last = statistics.median(times) * 1000, times[-1] * 1000
    print(f"death to start: median {middle:.1f} ms, worst of {rounds} {last:.1f} ms")
    print(f"supervisor: {fresh} kB PSS, after {rounds} restarts {used} kB")


if __name__ == "__main__":
    main()
