"""Times pycontain beside its peers in the same minute, interleaved, and prints medians and ratios.

Usage, as root::

    python tests/bench/run.py [ROUNDS]

Peers that are not installed are left out and named. Nothing here passes or fails.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pycontain import Engine
from tests import peers
from tests.bench.timing import compare, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Maker = Callable[[Sequence[str]], Callable[[], object]]

COMMAND = os.environ.get("PYCONTAIN", "pycontain").split()


def memory(pid: int) -> int:
    """Proportional set size of a process, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def main(rounds: int) -> None:
    """Run all comparisons."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [*COMMAND, "--root", f"{folder}/root", "--state", f"{folder}/state"]
        engine = Engine(f"{folder}/root", f"{folder}/state")
        image = engine.images.ensure("busybox")
        rootfs = Path(engine.layout.layer(image.diff_ids[0]))
        archive = folder / "busybox.tar"
        subprocess.run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], check=True)
        api(rounds, engine, folder, rootfs)
        command_line(rounds, ours, folder, archive)
        with_engine_monitor(engine)
        listing(rounds, ours, engine)


def api(rounds: int, engine: Engine, folder: Path, rootfs: Path) -> None:
    """The Python API, process already running, beside crun on a prepared bundle."""
    calls: dict[str, Callable[[], object]] = {
        "pycontain (API)": lambda: engine.run("busybox", ["true"])
    }
    if peers.available("crun"):
        bundle = peers.crun_bundle(folder, rootfs, ["true"])
        calls["crun run (bundle)"] = quiet(peers.unified(f"crun run -b {bundle} bench"))
    compare("run of true", rounds, calls)


def command_line(rounds: int, ours: list[str], folder: Path, archive: Path) -> None:
    """The command lines side by side."""
    run = ["run", "--rm", "--network", "none", "busybox", "true"]
    held = ["run", "-d", "--name", "bench", "--network", "none", "busybox", "sleep", "1000"]
    calls = {"pycontain": quiet([*ours, *run])}
    execs = {"pycontain": quiet([*ours, "exec", "bench", "true"])}
    quiet([*ours, *held])()
    podman = peers.podman_argv(folder / "podman")
    env = peers.podman_environment(folder / "podman")
    if peers.available("podman", "crun"):
        prefix = "mount -t cgroup2 none /sys/fs/cgroup; exec "
        words = " ".join(
            [*podman, "run", "--rm", "--network", "none", "--pids-limit=-1", "busybox", "true"]
        )
        quiet([*podman, "import", str(archive), "busybox"], env)()
        calls["podman (crun)"] = quiet(["unshare", "-m", "sh", "-c", prefix + words], env)
    try:
        if peers.available("dockerd", "docker"):
            with peers.docker(folder / "docker") as docker:
                docker("import", str(archive), "busybox:latest")
                calls["docker"] = quiet([*docker.argv, *run])
                quiet([*docker.argv, *held])()
                execs["docker"] = quiet([*docker.argv, "exec", "bench", "true"])
                compare("run --rm --network none busybox true", rounds, calls)
                compare("exec true", rounds, execs)
                docker("rm", "-f", "bench")
                with networked_podman(folder / "podman") as beside:
                    networked(rounds, ours, docker, beside)
        else:
            print("docker is not installed: left out")
            compare("run --rm --network none busybox true", rounds, calls)
            compare("exec true", rounds, execs)
    finally:
        quiet([*ours, "rm", "-f", "bench"])()


@contextlib.contextmanager
def networked_podman(folder: Path) -> Iterator[Maker | None]:
    """Give what makes calls of podman with a network; None where it is not installed.

    Podman leaves chains of iptables behind and needs cgroup v2 alone: so it is in namespaces of its
    own, which are entered by nsenter, and that is not in its favour by a millisecond. A container
    stays in its network.
    """
    if not peers.available("podman", "crun", "nsenter"):
        yield None
        return
    env = peers.podman_environment(folder)
    script = "mount -t cgroup2 none /sys/fs/cgroup; ip link set lo up; echo there; exec sleep 99999"
    words = ["unshare", "-m", "-n", "sh", "-ec", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None
        machine.stdout.readline()
        enter = ["nsenter", "-t", str(machine.pid), "-m", "-n", *peers.podman_argv(folder)]
        enter += ["--network-config-dir", f"{folder}/networks"]
        held = ["run", "-d", "--name", "member", "--network", "bench", "--pids-limit=-1"]
        try:
            quiet([*enter, "network", "create", "bench"], env)()
            quiet([*enter, *held, "busybox", "sleep", "1000"], env)()
            yield lambda words: quiet([*enter, *words], env)
            quiet([*enter, "rm", "-f", "-t", "0", "member"], env)()
            quiet([*enter, "network", "rm", "bench"], env)()
        finally:
            machine.kill()


def networked(
    rounds: int,
    ours: list[str],
    docker: peers.Docker,
    podman: Maker | None,
) -> None:
    """With a network, and with a published port; what of ours is the network is the last of them.

    Docker writes no firewall rules here (``peers.docker``), which is in its favour. A container of
    ours stays in the network, so that its bridge is up as docker's is.
    """
    docker("network", "create", "bench")
    held = ["run", "-d", "--name", "member", "--network", "bridge", "busybox", "sleep", "1000"]
    quiet([*ours, *held])()
    run, end = ["run", "--rm"], ["busybox", "true"]
    try:
        for words in ([], ["-p", "47031:80"]):
            calls = {
                "pycontain": quiet([*ours, *run, "--network", "bridge", *words, *end]),
                "docker": quiet([*docker.argv, *run, "--network", "bench", *words, *end]),
                "pycontain, none": quiet([*ours, *run, "--network", "none", *end]),
            }
            if podman is not None:
                calls["podman (crun)"] = podman(
                    [*run, "--network", "bench", "--pids-limit=-1", *words, *end]
                )
            compare(f"run --rm --network NETWORK {' '.join(words)} busybox true", rounds, calls)
    finally:
        docker("network", "rm", "bench")
        quiet([*ours, "rm", "-f", "member"])()


def with_engine_monitor(engine: Engine) -> None:
    """The memory of an idle container's monitor."""
    from pycontain.engine import records
    from pycontain.model.container import RunOptions

    container, _ = engine.containers.run(
        RunOptions(image="busybox", command=("sleep", "1000")), attach=False
    )
    record = records.load_run(engine.layout.container(container.id))
    assert record
    print(f"\nmonitor of an idle container: {memory(record.monitor)} KiB (PSS)")
    engine.containers.remove(container.id, force=True)


def listing(rounds: int, ours: list[str], engine: Engine, count: int = 500) -> None:
    """``ps`` of many containers, half of which run, beside one of none: what is more is theirs."""
    from pycontain.model.container import RunOptions

    none = [*ours[:-4], *_elsewhere(ours[-4:])]
    made = []
    try:
        for number in range(count):
            command = ("sleep", "1000") if number % 2 else ("true",)
            options = RunOptions(image="busybox", command=command)
            made.append(engine.containers.run(options, attach=False)[0].id)
        calls = {
            f"ps -a of {count}": quiet([*ours, "ps", "-a"]),
            f"ps of {count}": quiet([*ours, "ps"]),
            "ps -a of none": quiet([*none, "ps", "-a"]),
            "version": quiet([*ours, "version"]),
        }
        compare("ps", rounds, calls)
    finally:
        for identity in made:
            engine.containers.remove(identity, force=True)


def _elsewhere(words: list[str]) -> list[str]:
    """The flags of another store beside this one."""
    return [word if word.startswith("--") else f"{word}-empty" for word in words]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
