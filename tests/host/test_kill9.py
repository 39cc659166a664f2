"""SIGKILL at every stage of every verb: what is left must be true, removable and complete.

``killer.c`` kills one process (the command, the monitor, the executor's clone, the clean-up) right
before its N-th system call that changes something. The sampled test takes some of these points of
every verb, another choice with each random seed; the full one, on demand, takes them all.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cffi
import leaks
import msgspec
import pytest
from pace import seconds

import pycontain
from pycontain.errors import Conflict, NotFound
from pycontain.kernel import cgroup, process
from pycontain.model.container import RunOptions
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Store

    from pycontain.engine.containers import View

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: traces and runs containers"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for killer.c"),
]

COMMAND, MONITOR, CLONE, CLEANUP = "0", "2", "3", "4"
TO_THE_END = "+"  # the monitor outlives the command: follow it until it has ended
NAME = "doomed"
OTHER = "renamed"
BYSTANDER = "bystander"
SHARE = 10  # the sampled test takes one point in so many
LEAST = 2
EVERY = "PYCONTAIN_TEST_EVERY_POINT"
LIMIT = seconds(30)  # after which a command counts as stuck

# Several command lines in one process, which ends with the code of the last.
SCRIPT = """\
import sys
sys.path[:0] = sys.argv[3].split(":")
from pycontain.cli.main import main
for line in sys.argv[4:]:
    code = main(["--root", sys.argv[1], "--state", sys.argv[2], *line.split()])
sys.exit(code)
"""
PLACES = [
    os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
    for module in (pycontain, msgspec, cffi)
]


class Verb(NamedTuple):
    """Command lines to be killed in, and the state in which they find the container."""

    lines: tuple[str, ...]
    found: str  # "absent", "created", "running", "paused" or "exited"
    stays: bool = False  # killed or not, there is one container afterwards, by either name


RUN = f"--network none --name {NAME} busybox"
VERBS = {
    "run": Verb((f"run --rm {RUN} echo hello",), "absent"),
    "run kept": Verb((f"run {RUN} echo hello",), "absent"),
    "run with volumes": Verb(
        (f"run --rm -v /anonymous -v data:/etc {RUN} cat /etc/passwd",), "absent"
    ),
    "run on a terminal": Verb((f"run --rm -t {RUN} echo hello",), "absent"),
    "run detached": Verb((f"run -d {RUN} sleep 1000",), "absent"),
    "run detached, then removed": Verb((f"run -d --rm {RUN} true",), "absent"),
    "create": Verb((f"create {RUN} true",), "absent"),
    "start": Verb((f"start {NAME}",), "created"),
    "start again": Verb((f"start {NAME}",), "exited"),
    "exec": Verb((f"exec {NAME} echo hello",), "running"),
    "exec on a terminal": Verb((f"exec -t {NAME} echo hello",), "running"),
    "stop": Verb((f"stop -t 0 {NAME}",), "running"),
    "kill": Verb((f"kill {NAME}",), "running"),
    "restart": Verb((f"restart -t 0 {NAME}",), "running"),
    "rename": Verb((f"rename {NAME} {OTHER}",), "created", stays=True),
    "rename one that runs": Verb((f"rename {NAME} {OTHER}",), "running", stays=True),
    "pause": Verb((f"pause {NAME}",), "running", stays=True),
    "unpause": Verb((f"unpause {NAME}",), "paused", stays=True),
    "rm": Verb((f"rm {NAME}",), "exited"),
    "rm -f": Verb((f"rm -f {NAME}",), "running"),
    "a life": Verb(
        (f"run -d {RUN} sleep 1000", f"exec {NAME} echo hello", f"restart -t 0 {NAME}",
         f"stop -t 0 {NAME}", f"start {NAME}", f"rm -f {NAME}"),
        "absent",
    ),
}  # fmt: skip
STAGES = [
    *((verb, COMMAND) for verb in VERBS if verb != "a life"),
    *((verb, CLONE) for verb in ("run", "run on a terminal", "start", "exec", "restart")),
    *((verb, MONITOR) for verb in ("run", "run on a terminal", "start", "exec", "a life")),
    ("run kept", MONITOR + TO_THE_END),
    ("run detached, then removed", MONITOR + TO_THE_END),
    ("run detached, then removed", CLEANUP + TO_THE_END),
    ("run with volumes", MONITOR),
]


class Stage:
    """One verb of which one process is killed."""

    def __init__(self, killer: str, store: Store, verb: Verb, role: str) -> None:
        self._killer = killer
        self._store = store
        self._verb = verb
        self._role = role
        self._report = f"{os.path.dirname(store.root)}/calls"

    def prepare(self) -> None:
        """Bring the container into the state that the verb finds."""
        if self._verb.found == "absent":
            return
        options = RunOptions(image="busybox", command=("sleep", "1000"), name=NAME)
        if self._verb.found == "created":
            self._store.containers.create(options)
            return
        self._store.containers.run(options, attach=False)
        if self._verb.found == "exited":
            self._store.containers.stop(NAME, timeout=0)
        if self._verb.found == "paused":
            self._store.containers.pause(NAME)

    def go(self, count: int) -> subprocess.CompletedProcess[str]:
        """Carry the verb out and kill before the call number `count` (0: kill nobody)."""
        store = self._store
        script = [sys.executable, "-ISB", "-c", SCRIPT, store.root, store.state, ":".join(PLACES)]
        return subprocess.run(
            [self._killer, self._report, self._role, str(count), *script, *self._verb.lines],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip

    def calls(self) -> list[str]:
        """The calls that the killed process made or, the last one, was about to make."""
        return [line.split()[1] for line in Path(self._report).read_text().splitlines()]

    def count(self) -> int:
        """How many calls there are to be killed before."""
        self.prepare()
        result = self.go(0)
        assert result.returncode == 0, result
        clear(self._store)
        return len(self.calls())

    def kill(self, count: int) -> None:
        """Kill at one point, and look at everything."""
        self.prepare()
        try:
            result = self.go(count)
            assert "Traceback" not in result.stderr, result.stderr
            # How often a call is tried again differs from run to run: it may have got through.
            if self._role == COMMAND and len(self.calls()) >= count:
                assert result.returncode == 137, result
            if self._verb.stays:
                (name,) = [view.container.name for view in doomed(self._store)]
                assert name in (NAME, OTHER)
                assert self._store.containers.find(name)
                with pytest.raises(NotFound):
                    self._store.containers.find(OTHER if name == NAME else NAME)
            check(self._store)
        except Exception as err:
            made = self.calls()
            point = f"killed before call {count} of {self._role}, {made[-1:]} after {made[-4:-1]}"
            raise AssertionError(f"{point}: {err}") from err


def doomed(store: Store) -> list[View]:
    """All containers but the bystander."""
    return [view for view in store.containers.list(all=True) if view.container.name != BYSTANDER]


def leaving(store: Store) -> list[str]:
    """The containers that were started, end at once, and remove themselves."""
    return [
        view.container.id for view in doomed(store)
        if view.container.options.remove and (view.status.state != "created" or is_starting(view))
    ]  # fmt: skip


def is_starting(view: View) -> bool:
    """Whether its monitor, which may be late, has the lock of the killed command."""
    lock = files.Lock(view.paths.lock)
    if not lock.acquire(wait=False):
        return True
    lock.release()
    return False


def clear(store: Store) -> None:
    for view in doomed(store):
        with contextlib.suppress(NotFound):  # it was faster
            store.containers.remove(view.container.id, force=True)


def check(store: Store) -> None:
    """``ps`` tells the truth, ``rm -f`` works, the name is free, and nothing is left."""
    identities = traces(store)
    settle(lambda: untruths(store))
    settle(lambda: leaving(store))
    for view in doomed(store):
        with pytest.raises(Conflict):
            store.create("true", name=view.container.name)
        store.containers.remove(view.container.id, force=True)
    assert not doomed(store)
    assert not mistold(store)
    store.containers.remove(store.create("true", name=NAME).id)
    settle(lambda: remains(store) + [one for one in identities if cgroup_exists(one)])


def mistold(store: Store) -> list[str]:
    """The containers whose ends were not told each once.

    A monitor may have been killed after the run had been recorded and before its start was told.
    """
    with store.engine.events.read(follow=False) as stream:
        told = [(event.id, event.verb) for event in stream]
    bystander = store.view(BYSTANDER).container.id
    return [
        f"{identity}: {[verb for one, verb in told if one == identity]}"
        for identity in {identity for identity, _ in told} - {bystander}
        if told.count((identity, "die")) - told.count((identity, "start")) not in (0, 1)
        or told.count((identity, "destroy")) > 1
    ]


def settle(look: Callable[[], object]) -> None:
    """Wait until `look` finds nothing; fail with what it found."""
    end = time.monotonic() + leaks.SETTLE
    while found := look():
        assert time.monotonic() < end, found
        time.sleep(0.01)


def untruths(store: Store) -> list[str]:
    """Where the list and the kernel do not say the same."""
    views = store.containers.list(all=True)
    unlisted = set(os.listdir(store.layout.containers)) - {view.container.id for view in views}
    found = [f"{identity} is not listed" for identity in unlisted]
    return found + [error for view in views if (error := untruth(view))]


def untruth(view: View) -> str:
    identity, state = view.container.id, view.status.state
    if state not in ("running", "paused"):
        return f"{state}, but processes run" if members(identity) else ""
    if view.status.pid is None or process.start_time(view.status.pid) is None:
        return "running, but its process does not"
    return "" if str(view.status.pid) in members(identity) else "running, but not in its cgroup"


def traces(store: Store) -> list[str]:
    """The ids of which there is a folder or a lock, but the bystander's."""
    bystander = store.view(BYSTANDER).container.id
    names = os.listdir(store.layout.containers) + os.listdir(store.layout.locks)
    found = {name[-64:] for name in names if len(name) >= 64}
    return sorted(found - {bystander})


def cgroup_exists(identity: str) -> bool:
    root = cgroup.open_root()
    try:
        return os.path.exists(f"/proc/self/fd/{root}/pycontain/{identity}")
    finally:
        os.close(root)


def members(identity: str) -> list[str]:
    """The processes in a container's cgroup."""
    root = cgroup.open_root()
    try:
        # One that is removed after it was opened cannot be read: ENODEV.
        place = f"/proc/self/fd/{root}/pycontain/{identity}/container"
        return leaks.text(f"{place}/cgroup.procs").split()
    finally:
        os.close(root)


def remains(store: Store) -> list[str]:
    """What the bystander does not account for, unfinished files included."""
    layout = store.layout
    bystander = store.view(BYSTANDER).container
    shared = (layout.root, layout.names, layout.cache, layout.images, layout.state, layout.locks)
    paths = [f"{at}/{name}" for at in shared for name in os.listdir(at) if name.startswith(".tmp-")]
    paths += store.leftovers()
    # The named one is the user's; another goes with its container.
    paths += [volume.name for volume in store.engine.volumes.list() if volume.anonymous]
    return [path for path in paths if not path.endswith((bystander.id, f"/{BYSTANDER}"))]


def sweep(stage: Stage, store: Store, share: int) -> None:
    """Kill at one in `share` points."""
    bystander = store.detach("sleep", "1000", name=BYSTANDER)
    count = stage.count()
    points = range(1, count + 1)
    for point in sorted(random.sample(points, min(count, max(LEAST, count // share)))):
        stage.kill(point)
    assert store.state_of(bystander) == "running"


@pytest.mark.parametrize(("verb", "role"), STAGES)
def test_killed_at_some_points(killer: str, store: Store, verb: str, role: str) -> None:
    sweep(Stage(killer, store, VERBS[verb], role), store, SHARE)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(EVERY), reason=f"takes ten minutes: only with {EVERY}=1")
@pytest.mark.parametrize(("verb", "role"), STAGES)
def test_killed_at_every_point(killer: str, store: Store, verb: str, role: str) -> None:
    sweep(Stage(killer, store, VERBS[verb], role), store, 1)
