"""What there is of a declared Pod: its sandbox, and its containers by their names in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec.structs import replace

from pycontain.engine import hooks, networks, probes, records, sandbox, supervision
from pycontain.errors import NotFound
from pycontain.model.container import UID_LABEL
from pycontain.model.pod import POD_LABEL
from pycontain.pod import podspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.engine import Engine
    from pycontain.engine.containers import View
    from pycontain.model.container import ExitRecord
    from pycontain.model.declared import Problem
    from pycontain.model.pod import Pod
    from pycontain.pod.declared import Declared
    from pycontain.store.layout import PodPaths

    State = Literal["absent", "created", "running", "paused", "restarting", "exited"]
    SandboxState = Literal["absent", "created", "running", "exited", "lost"]

_TERM = 15


class ContainerSeen(NamedTuple):
    """A container of a Pod as it is now; times are nanoseconds since the epoch.

    Attributes:
        name: as in the manifest.
        id: empty where it is not there.
        ended: how its last run ended, if that is over; or why it could not be started.
        before: how the run before its present one ended.
        started: when its present run began.
        is_of_this_run: its present or last run began since the sandbox runs.
        restarts: how many times it was started again.
        due: when it is started again; 0: not.
        starting: it runs, and its postStart hook has not ended.
        is_started: it runs, and its startup probe and its hook have succeeded.
        ready: it runs, and its readiness probe says so.
        ready_since: since when `ready` is as it is.
        message: what its last probe that failed said.
        stopped: by a user in this boot, until one starts it.
    """

    name: str
    id: str = ""
    state: State = "absent"
    ended: ExitRecord | None = None
    before: ExitRecord | None = None
    started: int | None = None
    is_of_this_run: bool = False
    restarts: int = 0
    due: int = 0
    starting: bool = False
    is_started: bool = False
    ready: bool = False
    ready_since: int = 0
    message: str = ""
    stopped: bool = False
    image_id: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is about to."""
        return self.state in ("running", "paused", "restarting")


class PodSeen(NamedTuple):
    """What there is of a Pod now; times are nanoseconds since the epoch.

    Attributes:
        id: of the pod; empty where there is none.
        uid: of the object for which it was made.
        stopped: a user stopped it, and nobody has started it since.
        started: when its sandbox was, in its present or last run.
        holder: pid and start time of what holds the sandbox; zeros while it does not run.
        ips: addresses in its networks, without lengths.
        containers: by their names in the manifest, all of them.
        problem: why the last step towards what is declared failed; None: it did not.
        exceeded: which of its folders has more in it than it may; empty: none.
    """

    id: str = ""
    uid: str = ""
    sandbox: SandboxState = "absent"
    stopped: bool = False
    started: int = 0
    holder: tuple[int, int] = (0, 0)
    ips: tuple[str, ...] = ()
    containers: Mapping[str, ContainerSeen] = {}
    problem: Problem | None = None
    exceeded: str = ""


def look(engine: Engine, declared: Declared, problem: Problem | None = None) -> PodSeen:
    """Return what there is of a declared Pod.

    Args:
        engine: of the store.
        declared: a Pod.
        problem: why the last step failed; None: it did not.

    Raises:
        StoreError: a document is damaged.
    """
    spec = declared.pod.spec
    names = [container.name for _, container in podspec.containers(spec)]
    absent = {name: ContainerSeen(name) for name in names}
    pod = _find(engine, declared.name)
    if pod is None:
        return PodSeen(containers=absent, problem=problem)
    paths = engine.layout.pod(pod.id)
    state = sandbox.state(engine.layout, pod.id)
    started, holder = _run(paths, state)
    since = _Since(started, records.last_run(paths))
    found = {name: _container(engine, pod, name, since) for name in names}
    return PodSeen(
        id=pod.id, uid=pod.labels.get(UID_LABEL, ""), sandbox=state,
        stopped=_was_stopped(paths, state) and any(one.stopped for one in found.values()),
        started=started, holder=holder,
        ips=_addresses(engine, pod) if state == "running" else (), containers=found,
        problem=problem,
    )  # fmt: skip


def _find(engine: Engine, name: str) -> Pod | None:
    """The pod that was made for a declared one: by its name, so without looking at all others."""
    layout = engine.layout
    identity = engine.containers.holder(name)
    if identity is None or not layout.has_pod(identity):
        return None
    try:
        pod = sandbox.load(layout, identity)
    except NotFound:
        return None
    return pod if pod.labels.get(POD_LABEL) == name else None


def _run(paths: PodPaths, state: SandboxState) -> tuple[int, tuple[int, int]]:
    run = records.load_run(paths)
    if state in ("running", "lost") and run is not None:
        return run.started, (run.monitor, run.monitor_start)
    ended = records.load_exit(paths)
    return (ended.started or 0) if ended else 0, (0, 0)


def _was_stopped(paths: PodPaths, state: SandboxState) -> bool:
    """Whether the sandbox was ended in this boot: by ``pod stop``, or with all others."""
    if state != "exited":
        return False
    ended = records.load_exit(paths)
    if ended is None or ended.reason or ended.signal != _TERM:
        return False
    return supervision.ran_in_this_boot(paths)


def _addresses(engine: Engine, pod: Pod) -> tuple[str, ...]:
    if not pod.networks:
        return ()
    found = networks.attachments(engine.layout, pod.id)
    return tuple(address.partition("/")[0] for one in found for address in one.addresses)


class _Since(NamedTuple):
    """The last run of a pod's sandbox.

    Attributes:
        started: when it began; 0: it did not.
        run: its id.
    """

    started: int
    run: str

    def has(self, view: View, started: int | None) -> bool:
        """Whether the last run of a container, which began at `started`, is of it."""
        noted = sandbox.run_of_member(view.paths)
        if not (started and self.started):
            return False
        # A container that an earlier version started has no note.
        return noted == self.run if noted else started >= self.started


def _container(engine: Engine, pod: Pod, name: str, since: _Since) -> ContainerSeen:
    try:
        view = engine.containers.get(f"{pod.name}-{name}")
    except NotFound:
        return ContainerSeen(name)
    if view.container.options.pod != pod.id:
        return ContainerSeen(name)
    return _seen(view, name, since)


def _is_begun_again(view: View) -> bool:
    """Whether a restart policy starts a container that was being started when it was looked at, or
    has decided what follows that run by now: it is not the pod's to start.
    """
    if supervision.is_begun_again(view.paths):
        return True
    record = supervision.load(view.paths)
    if not record.count or record.run != records.last_run(view.paths):
        return False
    return records.load_exit(view.paths, record.run) is not None


def _seen(view: View, name: str, since: _Since) -> ContainerSeen:
    status, record = view.status, supervision.load(view.paths)
    if status.state == "created" and status.record is None and _is_begun_again(view):
        status, due = replace(status, state="restarting"), record.due
    else:
        is_due = status.record is not None and supervision.is_due(record, status.record.run)
        due = record.due if is_due and status.state == "restarting" else 0
    runs = status.state in ("running", "paused")
    # What was ended with all others has not come to its own end.
    ended = None if runs or record.held else status.record
    # What is on record while one runs is the end of the run before.
    before = records.load_exit(view.paths) if runs else None
    started = status.started if runs else ended.started if ended else None
    probed = probes.state(view)
    return ContainerSeen(
        name=name, id=view.container.id, state=status.state, ended=ended, before=before,
        started=status.started if runs else None,
        is_of_this_run=since.has(view, started),
        restarts=record.count, due=due,
        starting=runs and not hooks.has_begun(view),
        is_started=probed.started, ready=probed.ready, ready_since=probed.since,
        message=probed.message, image_id=view.container.image_id,
        # Not beyond a boot, after which all that is declared is kept.
        stopped=record.stopped and supervision.ran_in_this_boot(view.paths),
    )  # fmt: skip
