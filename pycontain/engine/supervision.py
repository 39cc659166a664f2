"""What the engine knows of the supervisor: who needs one, how it is started, what it decided.

There is at most one for a store, ``pycontain.supervisor``, while something needs it. A word says
who it is, ``PID START``. Whoever starts a container that needs one, or ends its run, wakes it:
starts it where it is gone. The *gate* is a lock that a waker holds while it looks, and a supervisor
that wants to end while it takes its last look around: so nobody relies on one that is about to go.

What a container's restart policy has come to is one word in its folder, the target of a symbolic
link, ``store.files.write_word``: cheap enough to be written at each end, and whole after a power
cut. It is written under the container's lock, by the supervisor and by users' verbs.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.engine import records
from pycontain.errors import NotFound, StoreError
from pycontain.kernel import process
from pycontain.model.container import ExitRecord, RestartRecord
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.model.container import Container, RestartPolicy
    from pycontain.model.status import Status
    from pycontain.store.layout import ContainerPaths, Layout

_PROGRAM = """\
import sys
sys.path.extend(sys.argv[3:])
from pycontain.supervisor.main import main
main(sys.argv[1], sys.argv[2])
"""

_LOST = 128  # the code of a start that failed
_INTERRUPTED = "start container: interrupted"


# ---- who needs one ----


def needs(container: Container) -> bool:
    """Whether a supervisor has to be there while such a container runs."""
    options = container.options
    if options.restart is not None or options.probes is not None or options.is_kept:
        return True
    if options.hooks is not None and options.hooks.post_start is not None:
        return True
    return _is_probed(container)


def _is_cared_for(container: Container, paths: ContainerPaths) -> bool:
    """Whether a supervisor has to be there for a container that runs: not any more for one whose
    postStart hook has ended, where it needs one for that alone.
    """
    options = container.options
    if options.hooks is None or options.restart is not None or options.probes is not None:
        return needs(container)
    from pycontain.engine import hooks

    if not hooks.has_post_start(container):
        return _is_probed(container)
    run = records.last_run(paths)
    return hooks.progress(paths, run) != "done" or _is_probed(container)


def _is_probed(container: Container) -> bool:
    if container.options.health is None and container.config.healthcheck is None:
        return False
    from pycontain.engine import health

    return health.check_of(container) is not None


# ---- waking it ----

_is_supervisor = False  # this process: it needs to wake nobody


def gate(layout: Layout) -> files.Lock:
    """Return the lock under which a supervisor is started, and ends."""
    return files.Lock(layout.lock("supervisor", "gate"))


def _word(layout: Layout) -> str:
    return f"{layout.state}/supervisor"


def recorded(layout: Layout) -> tuple[int, int] | None:
    """Return pid and start time of the supervisor, which may have ended; None if there is none."""
    try:
        pid, start = files.read_word(_word(layout)).split()
        return int(pid), int(start)
    except (NotFound, ValueError):
        return None


def lives(layout: Layout) -> bool:
    """Whether there is a supervisor now."""
    found = recorded(layout)
    return found is not None and process.start_time(found[0]) == found[1]


def claim(layout: Layout) -> bool:
    """Note that this process is the supervisor; False where there is another.

    Raises:
        StoreError: it cannot be noted.
    """
    global _is_supervisor
    with gate(layout):
        found = recorded(layout)
        if found is not None and found[0] != os.getpid() and lives(layout):
            return False
        _note(layout, os.getpid())
    _is_supervisor = True
    return True


def resign(layout: Layout) -> None:
    """Note that this process is the supervisor no more; the gate is held.

    Raises:
        StoreError: it cannot be noted.
    """
    files.remove(_word(layout))


def _note(layout: Layout, pid: int) -> None:
    files.write_word(_word(layout), f"{pid} {process.start_time(pid) or 0}")


def wake(layout: Layout) -> None:
    """See that there is a supervisor; it finds out by itself what there is to do.

    Raises:
        KernelError: it cannot be started.
        StoreError: it cannot be noted who it is.
    """
    if _is_supervisor:
        return
    with gate(layout):
        if not lives(layout):
            _note(layout, _start(layout))


def end(layout: Layout) -> None:
    """Kill the supervisor, if there is one: what it was about to do it does not do.

    The next one is started by whoever needs it.

    Raises:
        StoreError: it cannot be noted that it is gone.
    """
    from select import POLLIN, poll

    with gate(layout):
        found = recorded(layout)
        pidfd = None if found is None else process.open_process(*found)
        if pidfd is None:
            return
        try:
            process.send_signal(pidfd, 9)
            gone = poll()
            gone.register(pidfd, POLLIN)
            gone.poll()
        finally:
            os.close(pidfd)
        resign(layout)


def _start(layout: Layout) -> int:
    from pycontain.engine.launch import interpreter

    program = os.open(sys.executable, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid, pidfd = process.spawn(
            program, interpreter(_PROGRAM, layout.root, layout.state), (), -1
        )
    finally:
        os.close(program)
    os.close(pidfd)
    return pid


def wake_after_end(root: str, state: str) -> None:
    """See that there is a supervisor after the end of a run, in its monitor's place."""
    from pycontain.kernel import cgroup
    from pycontain.store.layout import Layout

    cgroup.leave()
    wake(Layout(root, state))


# ---- what was decided ----


def _path(paths: ContainerPaths) -> str:
    return f"{paths.folder}/restart"


def load(paths: ContainerPaths) -> RestartRecord:
    """Return what was decided about a container's restarts; of one that has none yet, the first.

    Raises:
        StoreError: the record is damaged.
    """
    path = _path(paths)
    try:
        count, word, series, due, run = files.read_word(path).split(" ")
        return RestartRecord(
            count=int(count), stopped=word == "stopped", held=word == "held", series=int(series),
            due=int(due), run=run,
        )  # fmt: skip
    except NotFound:
        return RestartRecord()
    except ValueError as err:
        raise StoreError(f"container: {path}: damaged: not a record of restarts") from err


def save(paths: ContainerPaths, record: RestartRecord) -> None:
    """Keep what was decided; the container's lock is held.

    Raises:
        StoreError: it cannot be written.
    """
    ended_by = "stopped" if record.stopped else "held" if record.held else "-"
    word = f"{record.count} {ended_by} {record.series} {record.due} {record.run}"
    files.write_word(_path(paths), word)


def begin(paths: ContainerPaths) -> None:
    """Forget what was decided: a user starts the container; its lock is held.

    Raises:
        StoreError: the record cannot be removed.
    """
    files.remove(_path(paths))


def note_stopped(paths: ContainerPaths) -> None:
    """Note that a user stops the container; its lock is held.

    Raises:
        StoreError: it cannot be written, or is damaged.
    """
    save(paths, replace(load(paths), stopped=True, held=False, due=0))


def note_held(paths: ContainerPaths) -> None:
    """Note that the container is ended with all others, until ``system boot``; its lock is held.

    One that a user had stopped stays so.

    Raises:
        StoreError: it cannot be written, or is damaged.
    """
    record = load(paths)
    if not record.stopped:
        save(paths, replace(record, held=True, due=0))


def note_kept(paths: ContainerPaths) -> None:
    """Note that what follows the container's end is its policy's again; its lock is held.

    Raises:
        StoreError: it cannot be written, or is damaged.
    """
    record = load(paths)
    if record.held:
        save(paths, replace(record, held=False))


def note_awaited(paths: ContainerPaths) -> None:
    """Note that a container which a user had stopped is its pod's controller's to start, as one
    that was ended with all others; its lock is held.

    Raises:
        StoreError: it cannot be written, or is damaged.
    """
    save(paths, replace(load(paths), stopped=False, held=True, due=0))


def note_settled(paths: ContainerPaths, run: str) -> None:
    """Let a new policy begin with the next run: nothing is due after `run`; the lock is held.

    Raises:
        StoreError: it cannot be written, or is damaged.
    """
    record = load(paths)
    if record.run != run:
        save(paths, replace(record, run=run, due=0))


def is_due(record: RestartRecord, run: str) -> bool:
    """Whether a container is to be started again after its last run, `run`."""
    return record.due > 0 and record.run == run and not (record.stopped or record.held)


def is_undecided(record: RestartRecord, ended: ExitRecord) -> bool:
    """Whether nobody has decided yet what follows the end of the last run.

    Nothing follows a start that failed, unless it was the supervisor's own.
    """
    if record.stopped or record.held or record.run == ended.run:
        return False
    return ended.reason != records.NOT_STARTED or record.count > 0


def is_begun_again(paths: ContainerPaths) -> bool:
    """Whether the last run of a container, of which nothing is on record, is one that the
    supervisor has begun: it is being started, or that was lost.

    Raises:
        StoreError: a document is damaged.
    """
    run = records.last_run(paths)
    record = load(paths)
    if not run or not record.count or record.run == run or record.stopped or record.held:
        return False
    return ran_in_this_boot(paths)


def settle_start(paths: ContainerPaths) -> None:
    """Record that the last start of a container has come to nothing, if nobody else does, and
    nobody is at it; blocks for the container's lock.

    Raises:
        StoreError: it cannot be written.
    """
    with records.hold(paths):
        if not records.exists(paths):
            return
        try:
            status = records.status(paths)
        except records.Lost:
            return
        run = records.last_run(paths)
        if status.state == "created" and status.record is None and run:
            lost = ExitRecord(run=run, code=_LOST, reason=records.NOT_STARTED, error=_INTERRUPTED)
            records.write_exit(paths, lost)


def seen(layout: Layout, container: Container, paths: ContainerPaths, status: Status) -> Status:
    """Return a container's status, in which one that is about to be started again is restarting.

    Where a supervisor is needed and is gone, it is started.

    Raises:
        StoreError: the record of restarts is damaged.
        KernelError: the supervisor cannot be started.
    """
    if status.state in ("running", "paused"):
        if _is_cared_for(container, paths) and not lives(layout):
            wake(layout)
        return status
    if container.options.restart is None:
        return status
    if status.record is None:
        if is_begun_again(paths) and not lives(layout):
            wake(layout)
        return status
    ended = judged(container, paths, status.record)
    if not _is_to_run_again(container.options.restart, load(paths), ended):
        return status
    if not ran_in_this_boot(paths):
        return status
    if not lives(layout):
        wake(layout)
    return replace(status, state="restarting")


def judged(container: Container, paths: ContainerPaths, ended: ExitRecord) -> ExitRecord:
    """Return how a run ended, as a restart policy sees it: see ``probes.judged``.

    Raises:
        StoreError: a document is damaged.
    """
    if container.options.probes is None and container.options.hooks is None:
        return ended
    from pycontain.engine import probes

    return probes.judged(container, paths, ended)


def _is_to_run_again(policy: RestartPolicy, record: RestartRecord, ended: ExitRecord) -> bool:
    if is_due(record, ended.run):
        return is_wanted(policy, record.count - 1, ended)
    return is_undecided(record, ended) and is_wanted(policy, record.count, ended)


def is_wanted(policy: RestartPolicy | None, count: int, ended: ExitRecord) -> bool:
    """Whether a container that no user has stopped is started again.

    Args:
        policy: the container's; None is ``no``.
        count: how many times it was, since a user did.
        ended: how its last run ended.
    """
    if policy is None:
        return False
    if policy.name != "on-failure":
        return True
    return ended.code != 0 and (not policy.most or count < policy.most)


def is_wanted_after_boot(policy: RestartPolicy, record: RestartRecord, ended: ExitRecord) -> bool:
    """Whether a container whose last run was in another boot is to be started in this one.

    Args:
        policy: the container's.
        record: what was decided about its restarts.
        ended: how that run ended.
    """
    if policy.name == "always" or record.held:
        return True
    if record.stopped:
        return False
    return is_wanted(policy, record.count, ended)


def ran_in_this_boot(paths: ContainerPaths) -> bool:
    """Whether the last run was begun in this boot.

    Raises:
        StoreError: the marker is damaged.
    """
    return records.last_boot(paths) == process.boot_id()
