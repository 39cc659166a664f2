"""SIGKILL at every stage of every verb of the OCI runtime face.

``killer.c`` kills one process (the command, the runner, or the clone that becomes the container's
process) right before its N-th system call that changes something. Whatever is left must be true in
``state`` and ``list`` and removable by ``delete``, and the id must be free again. The sampled test
takes some of these points of every verb, the full one, on demand, takes them all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import leaks
import pytest
from oci.bundle import (
    FOREVER,
    PATIENCE,
    QUIET,
    Bundle,
    cgroups,
    children,
    make_source,
    reap,
    reap_inner,
    subreaper,
)
from test_kill9 import EVERY, LEAST, LIMIT, PLACES, SHARE, settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: traces and runs containers"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for killer.c"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox"),
]

# As killer.c counts, by who made whom: the clone comes after the runner, whoever its parent is.
COMMAND, RUNNER, CLONE = "0", "1", "2"

# Several command lines in one process, which ends with the code of the first that fails.
SCRIPT = """\
import sys
sys.path[:0] = sys.argv[2].split(":")
from pycontain.oci.main import main
for line in sys.argv[3:]:
    if code := main(["--root", sys.argv[1], *line.split()]):
        sys.exit(code)
"""


class Verb(NamedTuple):
    """A command line to be killed in, and the state in which it finds the container."""

    line: str
    found: str  # "absent", "created", "running", "paused" or "stopped"
    program: tuple[str, ...] = tuple(FOREVER)


STATES = 4  # created, running, stopped, gone: it goes no further
CREATE = "create -b {bundle} {id}"
VERBS = {
    "create": Verb(CREATE, "absent"),
    "run": Verb("run -b {bundle} {id}", "absent", ("true",)),
    "run detached": Verb("run -d -b {bundle} {id}", "absent"),
    "start": Verb("start {id}", "created"),
    "exec": Verb("exec {id} true", "running"),
    "exec detached": Verb("exec -d {id} sleep 1000", "running"),
    "kill": Verb("kill {id} KILL", "running"),
    "pause": Verb("pause {id}", "running"),
    "resume": Verb("resume {id}", "paused"),
    "delete": Verb("delete {id}", "stopped"),
    "delete --force": Verb("delete --force {id}", "running"),
    "delete --force of a paused one": Verb("delete --force {id}", "paused"),
}
FOUND = {
    "absent": (),
    "created": (CREATE,),
    "running": (CREATE, "start {id}"),
    "paused": (CREATE, "start {id}", "pause {id}"),
    "stopped": (CREATE, "start {id}", "kill {id} KILL"),
}
STAGES = [
    *((verb, COMMAND) for verb in VERBS),
    *((verb, RUNNER) for verb in ("create", "run", "exec")),
    *((verb, CLONE) for verb in ("create", "run", "run detached", "exec", "exec detached")),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_source(str(tmp_path_factory.mktemp("rootfs")))


@pytest.fixture
def nothing_left_behind(session: leaks.Session, whole_host: None) -> Iterator[None]:
    """Mounts, links and descriptors; the processes are this one's children and counted there."""

    def look() -> leaks.Things:
        return {
            "mount": leaks.mounts(session),
            "link": leaks.links(),
            "descriptor": leaks.descriptors(),
        }

    before = look()
    yield
    left = leaks.settled(before, look)
    assert not left, left


@pytest.fixture
def bundle(source: str, tmp_path: Path, nothing_left_behind: None) -> Iterator[Bundle]:
    with subreaper():
        bundle = Bundle(f"{tmp_path}/b", source)
        yield bundle
        Face(bundle).call("delete --force {id}")
        problems = bundle.close()
    assert not problems, problems


class Face:
    """The command line of this checkout, over a bundle's state folder."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def argv(self, *lines: str) -> list[str]:
        words = {"bundle": self.bundle.folder, "id": self.bundle.id}
        script = [sys.executable, "-ISB", "-c", SCRIPT, self.bundle.root, ":".join(PLACES)]
        return script + [line.format(**words) for line in lines]

    def call(self, *lines: str) -> None:
        """Carry them out, in one process; all must succeed, whatever they leave running."""
        with open(self.bundle.log, "a+") as log:
            where = log.tell()
            streams: dict[str, Any] = QUIET | {"stderr": log}
            done = self._reaping(self.argv(*lines), **streams)
            log.seek(where)
            assert done == 0, (lines, done, log.read())

    def _reaping(self, argv: list[str], **streams: Any) -> int:
        # What dies in a container is ours to reap, and its pid namespace waits for that.
        with subprocess.Popen(argv, **streams) as running:
            while True:
                try:
                    return running.wait(0.01)
                except subprocess.TimeoutExpired:
                    reap_inner()

    def say(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(line), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip

    def status(self) -> str:
        """What ``state`` says, empty for no such container; ``list`` must say the same.

        Or it says that a folder without a state, of a create that was hardly begun or a delete that
        was all but done, is left out.
        """
        for _ in range(STATES):
            done = self.say("state {id}")
            listed = self.say("list --format json")
            assert listed.returncode == 0, listed
            rows = {row["id"]: row["status"] for row in json.loads(listed.stdout)}
            told = json.loads(done.stdout)["status"] if done.returncode == 0 else None
            if rows.get(self.bundle.id) == told or "it has no state" in listed.stderr:
                break
            # What was not killed goes on: it may end, or remove the container, between the two.
        if done.returncode:
            assert "does not exist" in done.stderr, done
            assert self.bundle.id not in rows
            return ""
        state: dict[str, str] = json.loads(done.stdout)
        if state["status"] == "stopped" and "it has no state" in listed.stderr:
            assert not rows
        else:
            assert rows == {self.bundle.id: state["status"]}
        return state["status"]


class Stage:
    """One verb of which one process is killed."""

    def __init__(self, killer: str, bundle: Bundle, verb: Verb, role: str) -> None:
        self._killer = killer
        self._bundle = bundle
        self._face = Face(bundle)
        self._verb = verb
        self._role = role
        self._report = f"{bundle.folder}/calls"
        bundle.process["args"] = list(verb.program)
        bundle.write()

    def prepare(self) -> None:
        """Bring the container into the state that the verb finds."""
        if lines := FOUND[self._verb.found]:
            self._face.call(*lines)

    def go(self, count: int) -> tuple[int, str]:
        """Carry the verb out and kill before the call number `count` (0: kill nobody)."""
        argv = [
            self._killer,
            self._report,
            self._role,
            str(count),
            *self._face.argv(self._verb.line),
        ]
        with open(f"{self._bundle.folder}/said", "w+") as said:
            streams: dict[str, Any] = QUIET | {"stderr": said}
            done = subprocess.run(argv, timeout=LIMIT, check=False, **streams)
            said.seek(0)
            return done.returncode, said.read()

    def calls(self) -> list[str]:
        """The calls that the killed process made or, the last one, was about to make."""
        with open(self._report) as lines:
            return [line.split()[1] for line in lines]

    def count(self) -> int:
        """How many calls there are to be killed before."""
        self.prepare()
        code, said = self.go(0)
        assert code == 0, said
        self.clear()
        return len(self.calls())

    def kill(self, count: int) -> None:
        """Kill at one point, and look at everything."""
        self.prepare()
        try:
            code, said = self.go(count)
            assert "Traceback" not in said, said
            if self._role == COMMAND and len(self.calls()) >= count:
                assert code == 137, (code, said)
            self.check()
        except Exception as err:
            made = self.calls()
            point = f"killed before call {count} of {self._role}, {made[-1:]} after {made[-4:-1]}"
            raise AssertionError(f"{point}: {err}") from err

    def check(self) -> None:
        """``state`` and ``list`` tell the truth, ``delete`` works, and the id is free."""
        settle(self.untruth)
        # A manager does not force what it takes for ended.
        if self._face.status() == "stopped":
            self._face.call("delete {id}")
        self.clear()
        self._face.call(CREATE, "delete --force {id}")
        settle(self.remains)

    def clear(self) -> None:
        """``delete --force``, twice: also of what is not there any more."""
        self._face.call("delete --force {id}", "delete --force {id}")
        assert not self._face.status()
        settle(self.remains)

    def untruth(self) -> str:
        """What ``state`` says and the kernel does not."""
        status = self._face.status()
        alive = self.members()
        if status in ("created", "running", "paused"):
            return "" if alive else f"{status}, but nothing runs"
        return f"{status or 'absent'}, but {alive} run" if alive else ""

    def members(self) -> list[str]:
        """The processes in the container's cgroup."""
        found = []
        for folder in cgroups(self._bundle.id):  # which the one that was not killed may remove
            found += leaks.text(f"{folder}/cgroup.procs").split()
        return found

    def remains(self) -> list[str]:
        """State, cgroups and processes of which there should be none."""
        for pid in children() - self._bundle.children:
            if not alive(pid):
                reap(pid)
        left = [f"process {pid}" for pid in children() - self._bundle.children]
        return left + self._bundle.kept() + cgroups(self._bundle.id)


def alive(pid: int) -> bool:
    """Whether a child runs, and is no zombie."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def sweep(stage: Stage, share: int) -> None:
    """Kill at one in `share` points."""
    count = stage.count()
    points = range(1, count + 1)
    for point in sorted(random.sample(points, min(count, max(LEAST, count // share)))):
        stage.kill(point)


@pytest.mark.parametrize(("verb", "role"), STAGES)
def test_killed_at_some_points(killer: str, bundle: Bundle, verb: str, role: str) -> None:
    sweep(Stage(killer, bundle, VERBS[verb], role), SHARE)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(EVERY), reason=f"takes ten minutes: only with {EVERY}=1")
@pytest.mark.parametrize(("verb", "role"), STAGES)
def test_killed_at_every_point(killer: str, bundle: Bundle, verb: str, role: str) -> None:
    sweep(Stage(killer, bundle, VERBS[verb], role), 1)
