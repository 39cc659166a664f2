"""Whether a container has started and can be used, as its probes found.

The supervisor makes the probes and writes ``probes.json``; whoever looks reads it. What is not
there is derived: of a run that nobody has probed yet, not started, not ready.

Source: Kubernetes' ``ContainerStatus`` (core/v1), whose ``started`` and ``ready`` these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.engine import records
from pycontain.errors import InvalidInput, NotFound
from pycontain.model.probe import ProbeRecord, ProbeState
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.engine.containers import View
    from pycontain.model.container import Container, ExitRecord, RunOptions
    from pycontain.store.layout import ContainerPaths

KINDS = ("startup", "liveness", "readiness")
_UNHOOKED = "its postStart hook has not ended"


# ---- what is asked for ----


def validate(options: RunOptions) -> None:
    """Refuse probes and hooks that nobody can carry out.

    Raises:
        InvalidInput: with the field that is wrong.
    """
    for kind in KINDS:
        check = getattr(options.probes, kind, None)
        if check is None:
            continue
        least = {"initial_delay": 0, "period": 1, "timeout": 1, "successes": 1, "failures": 1}
        for name, value in least.items():
            if getattr(check, name) < value:
                raise InvalidInput(f"{kind} probe: {name} cannot be less than {value}")
        if check.grace is not None and (check.grace < 1 or kind == "readiness"):
            raise InvalidInput(f"{kind} probe: a grace is at least 1, and not of readiness")
        if kind != "readiness" and check.successes != 1:
            raise InvalidInput(f"{kind} probe: one success decides, not {check.successes}")
        _check_action(f"{kind} probe", check.action)
    for name in ("post_start", "pre_stop"):
        action = getattr(options.hooks, name, None)
        if action is not None:
            _check_action(f"{name} hook", action)


def _check_action(what: str, action: object) -> None:
    if getattr(action, "command", True) == ():
        raise InvalidInput(f"{what}: no command is given")
    if not 0 < getattr(action, "port", 1) < 65536:
        raise InvalidInput(f"{what}: a port is 1 to 65535")
    if getattr(action, "seconds", 0) < 0:
        raise InvalidInput(f"{what}: no time is negative")


# ---- what is known ----


def load(paths: ContainerPaths, run: str) -> ProbeRecord | None:
    """Return what is known of a run; None where nobody has probed it.

    Raises:
        StoreError: the document is damaged.
    """
    return records.load_of_run(paths.probes, ProbeRecord, run)


def save(paths: ContainerPaths, record: ProbeRecord) -> bool:
    """Write what is known of a run; for the supervisor alone. Blocks while others change it.

    Returns:
        Whether it was written: it is not where another run has begun, or the container is gone.

    Raises:
        StoreError: it cannot be written.
    """
    return records.save_of_run(paths, paths.probes, record)


def begin(container: Container, run: str) -> ProbeRecord:
    """Return what is known of a run when its hook has ended."""
    probes = container.options.probes
    started = probes is None or probes.startup is None
    ready = started and (probes is None or probes.readiness is None)
    return ProbeRecord(run=run, started=started, ready=ready)


def state(view: View) -> ProbeState:
    """Return whether a container has started and can be used.

    One without probes is started and ready since its start; one that does not run is neither.

    Raises:
        StoreError: a document is damaged.
    """
    options = view.container.options
    if view.status.state not in ("running", "paused"):
        return ProbeState(started=False, ready=False, since=0)
    start = view.status.started or 0
    if options.probes is None and options.hooks is None:
        return ProbeState(started=True, ready=True, since=start)
    if options.hooks is not None:
        from pycontain.engine import hooks

        if not hooks.has_begun(view):
            return ProbeState(started=False, ready=False, since=start, message=_UNHOOKED)
    run = records.last_run(view.paths)
    record = load(view.paths, run) or begin(view.container, run)
    return ProbeState(
        started=record.started, ready=record.ready, since=record.since or start,
        message=record.message,
    )  # fmt: skip


def note_ending(container: Container, paths: ContainerPaths, run: str) -> None:
    """Note that this process stops a run: what a probe finds meanwhile is no reason to end it.

    Raises:
        StoreError: it cannot be noted.
    """
    if container.options.probes is not None:
        word = f"{run} {records.own_word()}"
        records.of_run(paths, run, lambda: files.write_word(paths.ending, word))


def note_not_ending(paths: ContainerPaths) -> None:
    """Note that nobody stops a container any more: it goes on.

    Raises:
        StoreError: it cannot be noted.
    """
    files.remove(paths.ending)


def is_ending(paths: ContainerPaths, run: str) -> bool:
    """Whether a process is stopping a run.

    Raises:
        StoreError: that cannot be read.
    """
    try:
        found, _, word = files.read_word(paths.ending).partition(" ")
    except NotFound:
        return False
    return found == run and records.living(word) is not None


def judged(container: Container, paths: ContainerPaths, ended: ExitRecord) -> ExitRecord:
    """Return how a run ended, as a restart policy sees it: what was ended because it was unwell has
    failed, whatever its exit code.

    Raises:
        StoreError: a document is damaged.
    """
    options = container.options
    if ended.code != 0:
        return ended
    record = load(paths, ended.run)
    failed = record is not None and bool(record.failed)
    if not failed and options.hooks is not None and options.hooks.post_start is not None:
        from pycontain.engine import hooks

        failed = hooks.progress(paths, ended.run) == "failed"
    return replace(ended, code=_FAILED) if failed else ended


_FAILED = 1
