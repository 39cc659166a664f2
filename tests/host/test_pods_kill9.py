"""SIGKILL inside of every verb on pods: what is left is true, and cleaned by the next command."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cffi
import msgspec
import pytest
from pace import seconds

import pycontain
from pycontain.engine import records
from pycontain.kernel import process
from pycontain.model.container import Mount, NetworkChoice, RunOptions
from pycontain.model.pod import Memory
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from harness import Store

    from pycontain.model.pod import Pod
    from pycontain.pod.pods import PodView

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: traces and runs containers"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for killer.c"),
]

EVERY = "PYCONTAIN_TEST_EVERY_POINT"
SHARE = 20  # one point in so many, with each random seed others
COMMAND = "0"
LIMIT = seconds(60)  # after which a command counts as stuck
SCRIPT = """\
import sys
sys.path[:0] = sys.argv[3].split(":")
from pycontain.cli.main import main
sys.exit(main(["--root", sys.argv[1], "--state", sys.argv[2], *sys.argv[4].split()]))
"""
PLACES = [
    os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
    for module in (pycontain, msgspec, cffi)
]


class Verb(NamedTuple):
    """A command line, and the state in which it finds the pod ``web`` and its container ``box``."""

    line: str
    found: str  # "absent", "created", "running", "lost" or "exited"


VERBS = {
    "create": Verb("pod create --network none web", "absent"),
    "run": Verb("run -d --pod new:web --network none busybox sleep 1000", "absent"),
    "start": Verb("pod start web", "created"),
    "start of a container": Verb("start box", "created"),
    "start of what was killed": Verb("pod start web", "lost"),
    "stop": Verb("pod stop -t 0 web", "running"),
    "restart": Verb("pod restart web", "running"),
    "rm": Verb("pod rm web", "exited"),
    "rm -f": Verb("pod rm -f web", "running"),
    "shutdown": Verb("system shutdown -t 0", "running"),
}


def prepare(store: Store, pods: Pods, verb: Verb, network: str) -> None:
    if verb.found == "absent":
        return
    choices = (NetworkChoice(name="bridge"),) if network == "bridge" else ()
    memory = (Memory(name="other"), Memory(name="scratch"))
    pods.create("web", network=network, networks=choices, memory=memory)
    scratch = Mount(type="tmpfs", source="scratch", target="/scratch")
    asked = RunOptions(
        image="busybox", command=("sleep", "1000"), name="box", init=True, mounts=(scratch,)
    )
    store.containers.create(pods.member("web", asked))
    if verb.found != "created":
        assert pods.start("web") == []
    if verb.found == "lost":
        assert store.exec("box", "touch", "/scratch/kept").code == 0
        (holder,) = holders(store)
        pidfd = os.pidfd_open(holder)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], LIMIT)[0]
        os.close(pidfd)
    if verb.found == "exited":
        assert pods.stop("web", timeout=0) == []


def calls(store: Store, killer: str, verb: Verb, count: int) -> list[str]:
    """Carry the verb out and kill before the call number `count` (0: kill nobody).

    Returns:
        The calls that it made.
    """
    report = f"{os.path.dirname(store.root)}/calls"
    script = [sys.executable, "-ISB", "-c", SCRIPT, store.root, store.state, ":".join(PLACES)]
    done = subprocess.run(
        [killer, report, COMMAND, str(count), *script, verb.line],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    made = [line.split()[1] for line in Path(report).read_text().splitlines()]
    if count == 0:
        assert done.returncode == 0, done
    elif len(made) >= count:
        assert done.returncode == 137, done
    return made


def holders(store: Store) -> list[int]:
    """The processes that hold sandboxes of the store: those that have its records, and others."""
    known = []
    for identity in sorted(os.listdir(store.layout.pods)):
        if records.is_id(identity):
            record = records.load_run(store.layout.pod(identity))
            if record and process.start_time(record.monitor) == record.monitor_start:
                known.append(record.monitor)
    return known


def lives(view: PodView) -> bool:
    held = records.load_run(view.paths)
    return held is not None and process.start_time(held.monitor) == held.monitor_start


def in_memory(store: Store, pod: Pod) -> list[str]:
    """What is in the volume ``scratch`` of a pod that runs."""
    record = records.load_run(store.layout.pod(pod.id))
    assert record is not None
    return os.listdir(f"/proc/{record.pid}/root/memory/1")


def check(store: Store, pods: Pods, verb: Verb) -> None:
    """What is said is so, everything works, and nothing is left."""
    store.containers.list(all=True)
    for view in pods.list():
        assert pods.start(view.pod.id) == []
        # A holder that was not told to stay is about to end: it was not taken for one that runs.
        assert pods.get(view.pod.id).state == "Running"
        assert lives(view)
        if view.pod.memory:
            assert in_memory(store, view.pod) == (["kept"] if verb.found == "lost" else [])
        pods.remove(view.pod.id, force=True)
    for left in store.containers.list(all=True):
        store.containers.remove(left.container.id, force=True)
    assert holders(store) == [] if os.path.isdir(store.layout.pods) else True
    assert os.listdir(store.layout.names) == []
    for folder in (store.layout.pods, store.layout.state_pods):
        assert not os.path.isdir(folder) or os.listdir(folder) == []
    assert [name for name in os.listdir(store.layout.locks) if name.startswith("pod-")] == []


def sweep(store: Store, killer: str, verb: Verb, share: int, network: str = "none") -> None:
    pods = Pods(store.engine)
    prepare(store, pods, verb, network)
    count = len(calls(store, killer, verb, 0))
    check(store, pods, verb)
    points = range(1, count + 1)
    for point in sorted(random.sample(points, min(count, max(2, count // share)))):
        prepare(store, pods, verb, network)
        made = calls(store, killer, verb, point)
        try:
            check(store, pods, verb)
        except Exception as err:
            where = f"killed before call {point}, {made[-1:]} after {made[-4:-1]}"
            raise AssertionError(f"{where}: {err}") from err


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_some_points(killer: str, store: Store, verb: str) -> None:
    sweep(store, killer, VERBS[verb], SHARE)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(EVERY), reason=f"takes minutes: only with {EVERY}=1")
@pytest.mark.parametrize("network", ["none", "bridge"])
@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_every_point(killer: str, store: Store, verb: str, network: str) -> None:
    sweep(store, killer, VERBS[verb], 1, network)
