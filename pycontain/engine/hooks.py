"""Hooks: what is done right after a container's start, and before its stop signal.

Who starts a container carries its postStart hook out. How far that has got is a word written under
the container's lock, ``RUN STATE``: the word of the process that is at it (``records.own_word``),
``-`` while nobody is, ``done``, or ``failed`` and who ends the container therefore. Where that
process was killed, or the start was one that somebody is attached to, the supervisor does it: at
least once, as Kubernetes has it.

Source: Kubernetes' core/v1, ``Lifecycle``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

from pycontain.engine import records
from pycontain.engine.cancel import ProcessEnd, wait_readable
from pycontain.errors import Cancelled, InvalidState, NotFound, PycontainError
from pycontain.kernel import process
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.engine.actions import Action
    from pycontain.engine.containers import Containers, View
    from pycontain.engine.events import Events
    from pycontain.model.container import Container
    from pycontain.store.layout import ContainerPaths, Layout

    Progress = Literal["none", "under way", "done", "failed"]

LEAST = 2.0
"""Seconds that a container has after its stop signal, whatever its preStop hook took."""

_NOBODY = "-"
_FAILED = "failed "
_ENDING = 1000.0  # milliseconds until the end of a container is told, after that of what is in it
_KILLED = 137
_ours: set[str] = set()  # the runs whose hooks this process is at

# ---- how far it has got ----


def has_post_start(container: Container) -> bool:
    """Whether something is done right after each start."""
    hooks = container.options.hooks
    return hooks is not None and hooks.post_start is not None


def begin(paths: ContainerPaths, run: str, *, claim: bool) -> None:
    """Note that a run with a postStart hook is about to be started; the container's lock is held.

    Args:
        paths: the container's.
        run: the new run.
        claim: this process will carry it out.

    Raises:
        StoreError: it cannot be noted.
    """
    files.make_folder(paths.state_folder)
    if claim:
        _ours.add(run)
    _write(paths, run, records.own_word() if claim else _NOBODY)


def let_go(run: str) -> None:
    """Be at the hook of a run no more, however that has come: without a word where there is room
    for none, so that this process may live on and seem to be at it.
    """
    _ours.discard(run)


def _write(paths: ContainerPaths, run: str, word: str) -> None:
    files.write_word(paths.post_start, f"{run} {word}")


def _read(paths: ContainerPaths, run: str) -> str:
    try:
        found, _, word = files.read_word(paths.post_start).partition(" ")
    except NotFound:
        return _NOBODY
    return word if found == run else _NOBODY


def progress(paths: ContainerPaths, run: str) -> Progress:
    """Return how far the hook of a run's start has got; ``none`` where nobody is at it.

    Raises:
        StoreError: that cannot be read.
    """
    word = _read(paths, run)
    if word == "done":
        return "done"
    if word.startswith(_FAILED):
        return "failed"
    return "under way" if claimer(paths, run) else "none"


def claimer(paths: ContainerPaths, run: str) -> tuple[int, int] | None:
    """Return pid and start time of the process that carries the hook out, or ends the container
    because it failed; None where none does.

    Raises:
        StoreError: that cannot be read.
    """
    found = records.living(_read(paths, run).removeprefix(_FAILED))
    return None if found and found[0] == os.getpid() and run not in _ours else found


def has_begun(view: View) -> bool:
    """Whether a container that runs has no postStart hook, or that has succeeded in this run.

    Raises:
        StoreError: how far it has got cannot be read.
    """
    if not has_post_start(view.container):
        return True
    return progress(view.paths, records.last_run(view.paths)) == "done"


# ---- after the start ----


def take_over(containers: Containers, layout: Layout, events: Events, view: View, run: str) -> None:
    """Carry a postStart hook out that nobody is at any more, or what follows where it has failed;
    nothing where somebody is at it.

    Raises:
        PycontainError: as for ``after_start``.
    """
    with records.hold(view.paths):
        if not records.exists(view.paths) or records.last_run(view.paths) != run:
            return
        found = progress(view.paths, run)
        if found == "done" or claimer(view.paths, run) is not None:
            return
        if found == "none":
            begin(view.paths, run, claim=True)
    if found == "failed":
        containers.end(view.container.id, run)
        return
    after_start(containers, layout, events, view, run)


def after_start(
    containers: Containers, layout: Layout, events: Events, view: View, run: str
) -> None:
    """Carry the postStart hook of a run out, which this process has claimed.

    Where it fails, the container is ended, and its restart policy decides what follows. Where the
    container ends meanwhile there is nothing to be done.

    Raises:
        InvalidState: it failed.
        StoreError: what came of it cannot be noted.
    """
    try:
        _after_start(containers, layout, events, view, run)
    finally:
        let_go(run)


def _after_start(
    containers: Containers, layout: Layout, events: Events, view: View, run: str
) -> None:
    hooks, paths = view.container.options.hooks, view.paths
    assert hooks is not None
    assert hooks.post_start is not None
    try:
        failure = _carried_out(containers, layout, view, run, hooks.post_start, None)
    except BaseException:
        if records.of_run(paths, run, lambda: _write(paths, run, _NOBODY)):
            events.tell("hook_failed: postStart", view.container, message="interrupted")
        raise
    if failure is None:
        return
    word = _FAILED + records.own_word() if failure else "done"
    if not records.of_run(paths, run, lambda: _write(paths, run, word)):
        return
    if not failure:
        events.tell("hook: postStart", view.container)
        return
    events.tell("hook_failed: postStart", view.container, message=failure)
    try:
        containers.end(view.container.id, run)
    except BaseException:
        # Whoever looks next ends it: this process may live on, and seem to be at it.
        records.of_run(paths, run, lambda: _write(paths, run, _FAILED + _NOBODY))
        raise
    raise InvalidState(f"container {view.container.name}: postStart hook: {failure}")


def _carried_out(
    containers: Containers,
    layout: Layout,
    view: View,
    run: str,
    action: Action,
    timeout: float | None,
) -> str | None:
    """Carry a hook out while a container runs; return why it failed, empty for a success, None
    where the container has ended.
    """
    record = records.load_run(view.paths, run)
    pidfd = process.open_process(record.pid, record.pid_start) if record else None
    if pidfd is None:
        return None
    try:
        return _while_alive(containers, layout, view, action, timeout, pidfd)
    finally:
        os.close(pidfd)


def _while_alive(
    containers: Containers,
    layout: Layout,
    view: View,
    action: Action,
    timeout: float | None,
    pidfd: int,
) -> str | None:
    from pycontain.engine import actions

    end = ProcessEnd(pidfd)
    code, said = actions.FAILED, ""
    try:
        found = actions.carry_out(containers, layout, view, action, timeout, end)
        code, said = found.code, " ".join(found.output.split())
    except Cancelled:
        return None
    except PycontainError as err:
        said = err.message
    finally:
        end.close()
    if code == 0:
        return ""
    # What is in a container is killed before its end is told (pid_namespaces(7)).
    if code in (_KILLED, actions.FAILED) and wait_readable((pidfd,), _ENDING):
        return None
    return said or f"exit code {code}"


# ---- before the stop signal ----


def left(limit: float, began: float) -> float:
    """Return the seconds that are left to end in: always two, or all of a shorter time.

    Args:
        limit: seconds; negative: no end.
        began: when they began to be spent, as ``time.monotonic`` has it.
    """
    return limit if limit < 0 else max(min(LEAST, limit), limit - (time.monotonic() - began))


def before_stop(
    containers: Containers, layout: Layout, events: Events, view: View, pidfd: int, limit: float
) -> float:
    """Carry a preStop hook out, if there is one and there is time.

    Args:
        containers: of the store.
        layout: of the same store.
        events: of the same store.
        view: of a container that runs.
        pidfd: of its first process.
        limit: seconds until it is killed; negative: it is not.

    Returns:
        The seconds that are left.
    """
    hooks = view.container.options.hooks
    if hooks is None or hooks.pre_stop is None or limit == 0:
        return limit
    began = time.monotonic()
    timeout = None if limit < 0 else limit
    failure = _while_alive(containers, layout, view, hooks.pre_stop, timeout, pidfd)
    if failure:
        events.tell("hook_failed: preStop", view.container, message=failure)
    return left(limit, began)
