"""Times what is declared and kept: from ``apply`` to all ready, and from a kill to what is healed.

Usage, as root::

    python -m tests.bench.kube [PODS [ROUNDS]]

Beside it podman's ``kube play`` of as many pods, where podman is installed: its version 4.3 makes
one pod of a Deployment whatever its ``replicas`` say, so each is a Pod of its own there, and here.
Nothing here passes or fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from pycontain import Engine
from pycontain.engine import records, supervision
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.model import kube

PODS = 50
ROUNDS = 10
PATIENCE = 600.0
IDLE = 10.0  # seconds over which an idle supervisor's time is taken
READY = "readinessProbe: {exec: {command: ['true']}, periodSeconds: 10}"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: bench}}
spec:
  replicas: {count}
  selector: {{matchLabels: {{app: bench}}}}
  template:
    metadata: {{labels: {{app: bench}}}}
    spec:
      {spec}
      terminationGracePeriodSeconds: 0
      containers:
      - name: up
        image: busybox
        command: [sleep, "10000"]
        {probe}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {{name: bench{index}}}
spec:
  {spec}
  terminationGracePeriodSeconds: 0
  containers:
  - name: up
    image: {image}
    command: [sleep, "10000"]
"""


def deployment(count: int, *, spec: str = "", probe: str = "") -> str:
    """Return the manifest of a Deployment of so many pods."""
    return DEPLOYMENT.format(count=count, spec=spec, probe=probe)


def single_pods(count: int, image: str, *, spec: str = "") -> str:
    """Return a manifest of so many Pods."""
    return "".join(POD.format(index=index, image=image, spec=spec) for index in range(count))


def took(act: Callable[[], object]) -> float:
    """Return how many seconds something took."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def wait_until(condition: Callable[[], object]) -> None:
    """Poll until `condition` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("it did not happen")
        time.sleep(0.001)


class Bench:
    """A store, and what is declared in it."""

    def __init__(self, folder: str) -> None:
        self.engine = Engine(f"{folder}/root", f"{folder}/state")
        self.engine.images.ensure("busybox")
        self.kube = Kube(self.engine)
        self.argv = (
            *(sys.executable, "-m", "pycontain.cli"),
            *("--root", f"{folder}/root", "--state", f"{folder}/state"),
        )

    def apply(self, text: str) -> float:
        """Return the seconds of ``kube apply --wait``, the start of its program included."""
        return self._run("kube", "apply", "--wait", "-", text=text)

    def down(self, text: str) -> float:
        """Return the seconds of ``kube down``."""
        return self._run("kube", "down", "-", text=text)

    def _run(self, *words: str, text: str) -> float:
        def act() -> None:
            subprocess.run(
                [*self.argv, *words], input=text.encode(), stdout=subprocess.DEVNULL, check=True
            )

        return took(act)

    def supervisor(self) -> int:
        """Return the pid of the supervisor, once it sleeps."""
        wait_until(lambda: supervision.lives(self.engine.layout))
        found = supervision.recorded(self.engine.layout)
        assert found is not None
        time.sleep(1)
        return found[0]

    def replicas(self) -> list[str]:
        """Return the names of the pods that are declared."""
        return [*Declarations(self.engine.layout).names("Pod")]


# ---- figures of a process ----


def pss(pid: int) -> int:
    """Return the memory of a process in kB, shared pages in proportion (proc_pid_smaps(5))."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def processor_time(pid: int) -> float:
    """Return the seconds that a process has run (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show_supervisor(bench: Bench, what: str) -> None:
    """Print what a supervisor takes that has nothing to do."""
    pid = bench.supervisor()
    before = processor_time(pid)
    time.sleep(IDLE)
    used = (processor_time(pid) - before) / IDLE * 100
    print(f"{what}: supervisor {pss(pid)} kB PSS, {used:.2f} % of a processor when idle")


# ---- what is measured ----


def show_apply(bench: Bench, count: int, what: str, **options: str) -> None:
    """Print how long so many replicas take."""
    text = deployment(count, **options)
    applied = bench.apply(text)
    show_supervisor(bench, f"{what}, kept")
    down = bench.down(text)
    print(f"{what}: apply --wait {applied:.2f} s, down {down:.2f} s")


def show_pods(bench: Bench, count: int, podman: Callable[[str], tuple[float, float]]) -> None:
    """Print how long so many Pods of one file take here and with podman."""
    for what, spec in (("in a network", ""), ("on the host's", "hostNetwork: true")):
        text = single_pods(count, "busybox", spec=spec)
        played, down = bench.apply(text), bench.down(text)
        print(f"{count} Pods {what}: apply --wait {played:.2f} s, down {down:.2f} s")
        played, down = podman(spec)
        print(f"{count} Pods {what}: podman kube play {played:.2f} s, down {down:.2f} s")


def show_healing(bench: Bench, rounds: int) -> None:
    """Print how long it takes until what was killed or removed is there again."""
    text = deployment(3)
    bench.apply(text)
    bench.supervisor()
    kills = sorted(killed(bench) for _ in range(rounds))
    holders = sorted(without_holder(bench) for _ in range(rounds))
    removals = sorted(removed(bench) for _ in range(rounds))
    bench.down(text)
    for what, times in (
        ("kill of a container to its start", kills),
        ("kill of a sandbox's holder to the next one", holders),
        ("pod rm -f of a replica (its end) to the ready replacement", removals),
    ):
        middle, last = statistics.median(times) * 1000, times[-1] * 1000
        print(f"{what}: median {middle:.1f} ms, worst of {rounds} {last:.1f} ms")


def killed(bench: Bench) -> float:
    """Return the seconds from the kill of a replica's container to its next start.

    Each time another's: the second restart of one is not immediate.
    """
    replica = bench.replicas()[0]
    view = bench.engine.containers.get(f"{replica}-up")
    before = records.load_run(view.paths)
    assert before is not None
    begin = time.time_ns()
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: (run := records.load_run(view.paths)) is not None and run.run != before.run)
    after = records.load_run(view.paths)
    assert after is not None
    removed(bench)
    return (after.started - begin) / 1e9


def without_holder(bench: Bench) -> float:
    """Return the seconds from the kill of a sandbox's holder to the next one.

    The containers run on, in the namespaces that the next one takes over.
    """
    paths = Pods(bench.engine).get(bench.replicas()[0]).paths
    before = records.load_run(paths)
    assert before is not None

    def is_held() -> bool:
        record = records.load_run(paths)
        return record is not None and record.monitor != before.monitor

    time.sleep(0.3)  # it has been told to stay, and is watched
    os.kill(before.monitor, signal.SIGKILL)
    return took(lambda: wait_until(is_held))


def removed(bench: Bench) -> float:
    """Return the seconds from the removal of a replica to its replacement, which is ready."""
    replica = bench.replicas()[0]
    Pods(bench.engine).remove(replica, force=True)
    return took(lambda: bench.kube.await_ready([("Deployment", "bench")]))


# ---- podman ----


def podman(folder: str, count: int, spec: str) -> tuple[float, float]:
    """Return the seconds of podman's ``kube play`` and ``kube down`` of so many Pods.

    The image's first program is busybox of this machine, as in ours.
    """
    base = [
        "podman",
        "--root",
        f"{folder}/podman",
        "--runroot",
        f"{folder}/podman-run",
        *("--cgroup-manager", "cgroupfs", "--runtime", "runc", "--log-level", "error"),
        *("--network-config-dir", f"{folder}/podman-networks"),
    ]
    with open(f"{folder}/containers.conf", "w") as file:
        file.write("[containers]\ndefault_ulimits = []\n")  # it may not be allowed to raise them
    os.environ["CONTAINERS_CONF"] = f"{folder}/containers.conf"
    archive = f"{folder}/busybox.tar"
    if not os.path.exists(archive):
        top = f"{folder}/tree/bin"
        os.makedirs(top)
        shutil.copy("/bin/busybox", f"{top}/busybox")
        for name in ("sh", "sleep", "true"):
            os.symlink("busybox", f"{top}/{name}")
        subprocess.run(["tar", "-C", f"{folder}/tree", "-cf", archive, "."], check=True)
        run(*base, "import", archive, "localhost/bench:1")
    text = single_pods(count, "localhost/bench:1", spec=spec).replace("[sleep", "[/bin/sleep")
    try:
        return (
            took(lambda: run(*base, "kube", "play", "-", text=text)),
            took(lambda: run(*base, "kube", "down", "-", text=text)),
        )
    finally:
        run(*base, "pod", "rm", "-fa")


def run(*argv: str, text: str = "") -> None:
    """Run a program, which must succeed."""
    done = subprocess.run(argv, input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv}: {done.stderr.decode()[-1000:]}")


def objects(text: str) -> tuple[kube.Object, ...]:
    """Return what is in a manifest."""
    return tuple(manifest.parse(text).objects)


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="kube-") as folder:
        bench = Bench(folder)
        try:
            show_apply(bench, count, f"{count} replicas in a network")
            show_apply(bench, count, f"{count} replicas with a readiness probe", probe=READY)
            show_apply(bench, count, f"{count} replicas, host's network", spec="hostNetwork: true")
            show_healing(bench, rounds)
            if shutil.which("podman"):
                show_pods(bench, count, lambda spec: podman(folder, count, spec))
        finally:
            bench.kube.down(objects(deployment(1)) + objects(single_pods(count, "busybox")))
            while supervision.lives(bench.engine.layout):
                time.sleep(0.01)
            bench.engine.networks.sweep()


if __name__ == "__main__":
    main()
