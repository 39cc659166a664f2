"""SIGKILL inside of the verbs on what is declared, and of the supervisor that keeps it.

``killer.c`` kills whichever process is about to make the N-th call that changes something: the
command or one of its threads, the supervisor, what holds a sandbox, a container's monitor or its
first process. After that the next ``apply`` or ``down`` comes to what is declared, as if nothing
had been, and leaves nothing that nobody knows.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cffi
import msgspec
import pytest
from harness import wait_until
from pace import seconds

import pycontain
from pycontain.engine import supervision
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

    from pycontain.model import kube

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: traces and runs containers"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for killer.c"),
]

EVERY = "PYCONTAIN_TEST_EVERY_POINT"
SAMPLE = 3  # points of each verb, with each random seed others
ANYBODY = "-1"
LIMIT = seconds(90)  # seconds after which something counts as stuck
COMMAND = """\
import sys
sys.path[:0] = sys.argv[3].split(":")
from pycontain.cli.main import main
sys.exit(main(["--root", sys.argv[1], "--state", sys.argv[2], *sys.argv[4:]]))
"""
SUPERVISOR = """\
import sys
sys.path[:0] = sys.argv[3].split(":")
from pycontain.supervisor.main import main
main(sys.argv[1], sys.argv[2])
"""
PLACES = [
    os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
    for module in (pycontain, msgspec, cffi)
]
SHOP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {word: WORD}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: single}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "cp /config/word /shared/word"]
    volumeMounts: &mounts
    - {name: shared, mountPath: /shared}
    - {name: config, mountPath: /config}
    - {name: data, mountPath: /data}
  containers:
  - name: up
    image: busybox
    command: [sleep, "1000"]
    env: [{name: SAID, value: WORD}]
    volumeMounts: *mounts
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: config, configMap: {name: settings}}
  - {name: data, persistentVolumeClaim: {claimName: kept}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: several}
spec:
  replicas: 1
  selector: {matchLabels: {app: several}}
  template:
    metadata: {labels: {app: several}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      containers:
      - {name: up, image: busybox, command: [sleep, "1000"], env: [{name: SAID, value: WORD}]}
"""


class Verb(NamedTuple):
    """A command line before the manifest's path, and whether the manifest of before is applied."""

    words: tuple[str, ...]
    found: bool


WAITING = ("--wait", "--timeout", f"{LIMIT:.0f}")
VERBS = {
    "apply": Verb(("kube", "apply", *WAITING), found=False),
    "apply of a change": Verb(("kube", "apply", *WAITING), found=True),
    "play --replace": Verb(("kube", "play", "--replace", *WAITING), found=True),
    "down": Verb(("kube", "down"), found=True),
    "down --force": Verb(("kube", "down", "--force"), found=True),
}


class Stage:
    """A store in which something is declared, and somebody is killed at it."""

    def __init__(self, store: Store, killer: str) -> None:
        self.store = store
        self.kube = Kube(store.engine)
        self._killer = killer
        self._report = f"{os.path.dirname(store.root)}/calls"

    def objects(self, word: str) -> tuple[kube.Object, ...]:
        return tuple(manifest.parse(SHOP.replace("WORD", word), strict=True).objects)

    def path(self, word: str) -> str:
        path = Path(self.store.root).with_name(f"{word}.yaml")
        path.write_text(SHOP.replace("WORD", word))
        return str(path)

    def start(self, point: int, program: str, *words: str) -> subprocess.Popen[str]:
        """Start a program, of whose calls the one with this number is not made (0: all are)."""
        store = self.store
        script = [sys.executable, "-ISB", "-c", program, store.root, store.state, ":".join(PLACES)]
        return subprocess.Popen(
            [self._killer, self._report, ANYBODY, str(point), *script, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self, child: subprocess.Popen[str]) -> int:
        """Wait for a program; nothing in it was unforeseen."""
        _, errors = child.communicate(timeout=2 * LIMIT)
        assert "Traceback" not in errors, errors
        assert "internal error" not in errors, errors
        return child.returncode

    def calls(self) -> list[str]:
        """The calls that were made or, the last one, was not."""
        return Path(self._report).read_text().splitlines()

    # ---- what is to be so ----

    def become(self, word: str) -> None:
        """Apply, and see that all is as declared."""
        objects = self.objects(word)
        self.kube.apply(objects)
        self.kube.await_ready([(one.kind, one.name) for one in objects], timeout=LIMIT)
        (replica,) = (name for name in self._pods() if name != "single")
        for name in ("single", replica):
            said = self.store.exec(f"{name}-up", "sh", "-c", "echo $SAID").stdout.decode()
            assert said.split() == [word]
        there = self.store.exec("single-up", "cat", "/shared/word", "/config/word").stdout.decode()
        assert there == word * 2

    def _pods(self) -> list[str]:
        return [*Declarations(self.store.layout).names("Pod")]

    def vanish(self) -> None:
        """Take everything back, and see that nothing is left."""
        self.kube.down(self.objects("any"), force=True)
        wait_until(lambda: not supervision.lives(self.store.layout), LIMIT)
        # What was begun and has no document yet goes with the next look.
        assert self.store.containers.list(all=True) == []
        assert Pods(self.store.engine).list() == []
        assert self.store.left_of_declared(killed=True) == []

    def has_failure(self) -> str:
        """Why a supervisor has ended that should not have."""
        path = Path(self.store.state, "supervisor.failure")
        return path.read_text() if path.exists() else ""


def points(count: int, share: int | None) -> list[int]:
    """The numbers of the calls before which somebody is killed."""
    every = range(1, count + 1)
    return [*every] if share is None else sorted(random.sample(every, min(count, share)))


def sweep(stage: Stage, verb: Verb, share: int | None) -> None:
    def prepare() -> None:
        if verb.found:
            stage.become("before")

    prepare()
    words = (*verb.words, stage.path("after"))
    assert stage.end(stage.start(0, COMMAND, *words)) == 0
    count = len(stage.calls())
    stage.vanish()
    for point in points(count, share):
        prepare()
        stage.end(stage.start(point, COMMAND, *words))
        check(stage, point)


def check(stage: Stage, point: int) -> None:
    """Whatever is declared next comes true."""
    made = stage.calls()
    try:
        if point % 2:
            stage.become("after")
        stage.vanish()
        assert not stage.has_failure()
    except BaseException as err:
        where = f"killed before call {point}, {made[-1:]} after {made[-4:-1]}"
        raise AssertionError(f"{where}: {err}") from err


def keep(stage: Stage, point: int) -> None:
    """Let a supervisor keep what was declared until all is ready, or somebody was killed."""
    declarations = Declarations(stage.store.layout)
    for one in stage.objects("after"):
        declarations.apply(one)
    child = stage.start(point, SUPERVISOR)
    wait_until(lambda: supervision.lives(stage.store.layout) or child.poll() is not None, LIMIT)
    stage.kube.await_ready([("Pod", "single"), ("Deployment", "several")], timeout=LIMIT)
    stage.kube.down(stage.objects("after"), force=True)
    stage.end(child)


def sweep_supervisor(stage: Stage, share: int | None) -> None:
    keep(stage, 0)
    count = len(stage.calls())
    stage.vanish()
    for point in points(count, share):
        keep(stage, point)
        check(stage, point)


@pytest.fixture
def stage(store: Store, killer: str) -> Iterator[Stage]:
    stage = Stage(store, killer)
    yield stage
    stage.kube.down(stage.objects("any"), force=True)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_some_points(stage: Stage, verb: str) -> None:
    sweep(stage, VERBS[verb], SAMPLE)


def test_the_supervisor_killed_at_some_points(stage: Stage) -> None:
    sweep_supervisor(stage, SAMPLE)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(EVERY), reason=f"takes an hour: only with {EVERY}=1")
@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_every_point(stage: Stage, verb: str) -> None:
    sweep(stage, VERBS[verb], None)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(EVERY), reason=f"takes an hour: only with {EVERY}=1")
def test_the_supervisor_killed_at_every_point(stage: Stage) -> None:
    sweep_supervisor(stage, None)
