"""Times commands beside each other, interleaved, and shows medians and ratios."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Calls = dict[str, "Callable[[], object]"]
Times = dict[str, list[float]]
"""Of each call, the seconds of its rounds."""


def quiet(argv: list[str], env: dict[str, str] | None = None) -> Callable[[], object]:
    """Return a call that runs a program whose output nobody wants and whose failure ends all."""

    def call() -> None:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{argv}: exit {done.returncode}: {done.stderr.decode()}")

    return call


def lean(argv: list[str], env: Mapping[str, str] | None = None) -> Callable[[], object]:
    """Return the same with as little of our own as can be: the output goes where nobody looks."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    environment = dict(os.environ if env is None else env)

    def call() -> None:
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise SystemExit(f"{argv}: exit {code}")

    return call


def measure(rounds: int, calls: Calls, between: Callable[[], object] | None = None) -> Times:
    """Run the calls in turn, `rounds` times after one warm-up; `between` them, not timed."""
    times: Times = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - start)
            if between:
                between()
    return times


def ratio(times: Times, name: str) -> float:
    """Return the median, over the rounds, of the first call's time divided by that one's."""
    first = next(iter(times.values()))
    return statistics.median(ours / peer for ours, peer in zip(first, times[name], strict=True))


def show(title: str, times: Times) -> None:
    """Print a table."""
    first, *others = times
    print(f"\n{title} ({len(times[first])} rounds, interleaved)")
    for name, values in times.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        line = f"  {name:<28}{middle * 1e3:8.1f} ms   ({low * 1e3:.1f} to {high * 1e3:.1f})"
        if name in others:
            line += f"   {first} / this: {ratio(times, name):.2f}"
        print(line, flush=True)


def compare(title: str, rounds: int, calls: Calls) -> None:
    """Measure, and print a table."""
    show(title, measure(rounds, calls))
