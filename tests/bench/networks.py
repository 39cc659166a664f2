"""Times data between containers, and between a container and the host, beside docker's bridge.

Usage, as root, with iperf3 and docker installed::

    python -m tests.bench.networks [ROUNDS]

The program is the host's, in containers that see the host's files. Nothing here passes or fails.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests import peers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMMAND = os.environ.get("PYCONTAIN", "pycontain").split()
SECONDS = 2
NOBODY = subprocess.DEVNULL
IPERF = ("chroot", "/mnt", "iperf3")


def said(argv: list[str]) -> str:
    """Return what a program prints; its failure ends all."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv}: exit {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


class Side:
    """One engine, with a network, a server and a client in it."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        said([*argv, "network", "create", "bench"])
        run = [*argv, "run", "-d", "--network", "bench", "-v", "/:/mnt:ro", "--tmpfs", "/mnt/tmp"]
        said([*run, "--name", "server", "busybox", *IPERF, "-s"])
        said([*run, "--name", "client", "busybox", "sleep", "9999"])
        self.server = self._address("IPAddress")
        self.host = self._address("Gateway")

    def _address(self, name: str) -> str:
        path = f'{{{{(index .NetworkSettings.Networks "bench").{name}}}}}'
        return said([*self.argv, "inspect", "-f", path, "server"]).strip()

    def rate(self, target: str) -> float:
        """Gigabits a second from the client to a server."""
        words = (*IPERF, "-J", "-t", str(SECONDS), "-c", target)
        report = json.loads(said([*self.argv, "exec", "client", *words]))
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9

    def close(self) -> None:
        """Remove what was made."""
        said([*self.argv, "rm", "-f", "client", "server"])
        said([*self.argv, "network", "rm", "bench"])


def compare(title: str, rounds: int, calls: Mapping[str, Callable[[], float]]) -> None:
    """Call them in turn and print a table."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            rates[name].append(call())
    first, other = rates
    ratio = statistics.median(a / b for a, b in zip(rates[first], rates[other], strict=True))
    print(f"\n{title} ({rounds} rounds of {SECONDS} s, interleaved)")
    for name, values in rates.items():
        print(f"  {name:<12}{statistics.median(values):8.2f} Gbit/s")
    print(f"  {first} / {other}: {ratio:.2f}", flush=True)


def main(rounds: int) -> None:
    """Make both networks, and compare them."""
    with tempfile.TemporaryDirectory() as name, peers.docker(Path(name) / "docker") as docker:
        folder = Path(name)
        ours = [*COMMAND, "--root", f"{folder}/root", "--state", f"{folder}/state"]
        said([*ours, "run", "--rm", "busybox", "true"])
        said([*ours, "save", "-o", f"{folder}/busybox.tar", "busybox"])
        said([*docker.argv, "load", "-i", f"{folder}/busybox.tar"])
        sides: dict[str, Side] = {}
        host = subprocess.Popen(
            ["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for engine, argv in (("pycontain", ours), ("docker", docker.argv)):
                sides[engine] = Side(argv)
            time.sleep(1)
            for title, target in (("to a container", "server"), ("to the host", "host")):
                calls = {
                    engine: partial(side.rate, getattr(side, target))
                    for engine, side in sides.items()
                }
                compare(f"from a container {title}", rounds, calls)
        finally:
            host.terminate()
            host.wait()
            for side in sides.values():
                side.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
