"""Times the OCI runtime face beside runc and crun: the same bundle, in the same minute.

Usage, as root, with ``pycontain-runtime`` installed (or named by ``PYCONTAIN_RUNTIME``)::

    python tests/bench/oci.py [--rounds N] [--docker] [--json] [--explain]

``run`` of true from a prepared bundle, ``exec`` of true in a running container, and each verb of a
container's life apart. ``--docker`` adds docker's masked and read-only paths and its seccomp
filter; ``--explain`` tells where our own time goes. Runtimes that are not installed are left out
and named. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "host"))

from oci.bundle import APPLETS, default_config

from pycontain.runtime import masks, seccomp
from tests import peers
from tests.bench.timing import Calls, Times, lean, measure, ratio, show

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "pycontain-runtime"
RUNTIME = os.environ.get("PYCONTAIN_RUNTIME", OURS).split()
PEERS = ("runc", "crun")
UNIFIED = "PYCONTAIN_BENCH_UNIFIED"
NAME = f"bench-{os.getpid()}"


class Runtime:
    """One runtime over a state folder of its own."""

    def __init__(self, name: str, argv: list[str], folder: Path) -> None:
        self.name = name
        self.argv = [*argv, "--root", f"{folder}/{name}"]
        self.id = f"{NAME}-{name}"

    def call(self, *words: str) -> None:
        """Run a verb to its end."""
        lean([*self.argv, *words])()


def runtimes(folder: Path) -> list[Runtime]:
    """Ours first, then what is installed of the peers."""
    found = [Runtime(OURS, RUNTIME, folder)]
    for name in PEERS:
        if peers.available(name):
            found.append(Runtime(name, [name], folder))
        else:
            print(f"{name} is not installed: left out", file=sys.stderr)
    return found


def make_bundle(folder: Path, *command: str, docker: bool) -> str:
    """Make a bundle that all of them take as it is, and return its folder."""
    rootfs = folder / "rootfs"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", rootfs / "bin" / "busybox")
    for name in APPLETS:
        (rootfs / "bin" / name).symlink_to("busybox")
    (folder / "config.json").write_text(json.dumps(configuration(command, docker=docker)))
    return str(folder)


def configuration(command: tuple[str, ...], *, docker: bool) -> dict[str, Any]:
    """No limits and no device rules: not every machine has the controllers and the memlock."""
    config = default_config()
    config["process"]["args"] = list(command)
    if docker:
        allowed = config["process"]["capabilities"]["bounding"]
        config["linux"] |= {
            "maskedPaths": list(masks.MASKED_PATHS),
            "readonlyPaths": list(masks.READONLY_PATHS),
            "seccomp": seccomp.default_profile(allowed),
        }
    return config


def bench_run(found: list[Runtime], bundle: str, rounds: int) -> Times:
    """``run`` of true: created, started, waited for and deleted."""
    calls: Calls = {one.name: lean([*one.argv, "run", "--bundle", bundle, one.id]) for one in found}
    return measure(rounds, calls)


def bench_exec(found: list[Runtime], bundle: str, rounds: int) -> Times:
    """``exec`` of true in a container that runs."""
    for one in found:
        one.call("run", "--detach", "--bundle", bundle, one.id)
    try:
        calls: Calls = {one.name: lean([*one.argv, "exec", one.id, "true"]) for one in found}
        return measure(rounds, calls)
    finally:
        for one in found:
            one.call("delete", "--force", one.id)


def bench_verbs(found: list[Runtime], bundle: str, rounds: int) -> dict[str, Times]:
    """What a manager waits for: each verb of a life, apart."""
    times: dict[str, Times] = {
        verb: {one.name: [] for one in found} for verb in ("create", "start", "state", "delete")
    }
    words = {"create": ["create", "--bundle", bundle], "delete": ["delete", "--force"]}
    for number in range(rounds + 1):
        for one in found:
            for verb, values in times.items():
                call = lean([*one.argv, *words.get(verb, [verb]), one.id])
                start = time.perf_counter()
                call()
                if number:
                    values[one.name].append(time.perf_counter() - start)
    return times


# ------------------------------------------------------------------------------ where our time goes


def explain(folder: Path, bundle: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return, for ``run`` and ``exec``, parts of our time in milliseconds (medians)."""
    one = Runtime(OURS, RUNTIME, folder)
    verbs = {"run": ["run", "--bundle", bundle, one.id]}
    parts = {"run": account(one, verbs["run"], "create", rounds)}
    sleeping = folder / "sleeping"
    sleeping.mkdir()
    one.call("run", "--detach", "--bundle", make_sleeper(bundle, sleeping), one.id)
    try:
        parts["exec"] = account(one, ["exec", one.id, "true"], "exec", rounds)
    finally:
        one.call("delete", "--force", one.id)
    return parts


def make_sleeper(bundle: str, folder: Path) -> str:
    """A bundle over the same root file system, whose process does not end."""
    config = json.loads(Path(f"{bundle}/config.json").read_text())
    config["process"]["args"] = ["sleep", "1000"]
    config["root"]["path"] = f"{bundle}/rootfs"
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def account(one: Runtime, words: list[str], module: str, rounds: int) -> dict[str, float]:
    """Divide one command's time: by what a shorter program takes, and by its own report."""
    python = interpreter(one.argv[0])
    path = f"import sys; sys.path.append({str(package_folder())!r}); "
    # As the command ends: without taking the interpreter apart.
    begin, end = "import gc, os; gc.disable(); ", "; os._exit(0)"
    imports = f"{begin}{path}from pycontain.oci import main, {module}{end}"
    calls: Calls = {
        "whole": lean([*one.argv, *words]),
        "interpreter": lean([*python, "-c", f"{begin}pass{end}"]),
        "imports": lean([*python, "-c", imports]),
    }
    middle = {name: statistics.median(values) for name, values in measure(rounds, calls).items()}
    steps = [sum(seconds for _, seconds in trace(one, words)) for _ in range(5)]
    executor = statistics.median(steps)
    shares = {
        "whole": middle["whole"],
        "interpreter": middle["interpreter"],
        "imports": middle["imports"] - middle["interpreter"],
        "steps of the plan": executor,
    }
    shares["python, spawn, program, end"] = middle["whole"] - middle["imports"] - executor
    return {name: round(seconds * 1e3, 2) for name, seconds in shares.items()}


def interpreter(command: str) -> list[str]:
    """The words of the first line of a script."""
    path = shutil.which(command) or command
    with open(path, "rb") as file:
        line = file.readline().decode(errors="replace")
    if not line.startswith("#!"):
        raise SystemExit(f"{path}: not a script: there is no interpreter to measure")
    return line[2:].split()


def package_folder() -> Path:
    """Where the package is that the command imports."""
    code = "import pycontain; print(pycontain.__path__[0])"
    script = shutil.which(RUNTIME[0]) or RUNTIME[0]
    lib = Path(script).resolve().parent.parent / "lib"
    for folder in lib.glob("python*/site-packages/pycontain"):
        return folder.parent
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()).parent


def trace(one: Runtime, words: list[str]) -> Iterator[tuple[str, float]]:
    """Yield each step of the plan and its seconds, as ``--debug`` reports them."""
    with tempfile.NamedTemporaryFile() as log:
        flags = ["--debug", "--log", log.name, "--log-format", "json"]
        lean([*one.argv, *flags, *words])()
        for line in log:
            entry = json.loads(line)
            duration, unit, step = entry["msg"].partition(" ms ")
            if entry["level"] == "debug" and unit:
                yield step.strip(), float(duration) / 1e3


def show_parts(verb: str, parts: dict[str, float]) -> None:
    """Print one account."""
    print(f"\nwhere {verb} spends its time")
    for name, milliseconds in parts.items():
        share = milliseconds / parts["whole"]
        print(f"  {name:<28}{milliseconds:8.1f} ms   {share:4.0%}")


def show_steps(one: Runtime, words: list[str]) -> None:
    """Print the steps of one plan, the longest first."""
    print("\nsteps of its plan")
    for step, seconds in sorted(trace(one, words), key=lambda row: -row[1]):
        if seconds > 2e-5:
            print(f"  {seconds * 1e3:8.2f} ms  {step}")


# ---------------------------------------------------------------------------------------- the whole


def results(titles: dict[str, Times]) -> dict[str, dict[str, dict[str, float]]]:
    """Return medians in milliseconds and our ratio to each peer, for machines."""
    return {
        title: {
            name: {
                "median_ms": round(statistics.median(values) * 1e3, 2),
                "least_ms": round(min(values) * 1e3, 2),
                "ratio": round(ratio(times, name), 3),
            }
            for name, values in times.items()
        }
        for title, times in titles.items()
    }


def main(options: argparse.Namespace) -> None:
    """Run all comparisons."""
    with tempfile.TemporaryDirectory(prefix="bench-oci-") as name:
        folder = Path(name)
        bundle = make_bundle(folder / "true", "true", docker=options.docker)
        sleeper = make_bundle(folder / "sleep", "sleep", "1000", docker=options.docker)
        if options.explain:
            parts = explain(folder, bundle, options.rounds)
            if options.json:
                print(json.dumps(parts, indent=2))
                return
            for verb, shares in parts.items():
                show_parts(verb, shares)
            one = Runtime(OURS, RUNTIME, folder)
            show_steps(one, ["run", "--bundle", bundle, one.id])
            return
        found = runtimes(folder)
        titles = {
            "run of true from a bundle": bench_run(found, bundle, options.rounds),
            "exec of true": bench_exec(found, sleeper, options.rounds),
            **bench_verbs(found, sleeper, options.rounds),
        }
        if options.json:
            print(json.dumps(results(titles), indent=2))
            return
        for title, times in titles.items():
            show(title, times)


def enter_unified_view() -> None:
    """Go on where /sys/fs/cgroup is cgroup v2 alone, which crun wants."""
    if UNIFIED in os.environ:
        return
    words = peers.unified(shlex.join([sys.executable, *sys.argv]))
    os.execvpe(words[0], words, {**os.environ, UNIFIED: "1"})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="times pycontain-runtime beside runc and crun")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--docker", action="store_true", help="docker's masks and seccomp filter")
    parser.add_argument("--json", action="store_true", help="figures for machines")
    parser.add_argument("--explain", action="store_true", help="where our own time goes")
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    enter_unified_view()
    main(asked)
