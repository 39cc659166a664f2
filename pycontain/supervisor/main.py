"""The process: looks at the containers of a store, hears what happens to them, and ends by itself.

It is started by ``engine.supervision.wake``. Each part is told of every container that was looked
at, ``consider``, and says whether it has to be cared for; where that is so of none, the process
ends, under the gate.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from pycontain.engine import Engine, records, supervision
from pycontain.engine.events import decode
from pycontain.errors import PycontainError, StoreError, is_shortage
from pycontain.kernel import cgroup, process
from pycontain.kernel.inotify import FolderWatch
from pycontain.runtime.privileges import DEFAULT_PATH
from pycontain.store import files
from pycontain.store.journal import Journal, Reader
from pycontain.store.layout import Layout
from pycontain.supervisor.health import HealthProber
from pycontain.supervisor.hooks import Hooks
from pycontain.supervisor.loop import APART, Loop
from pycontain.supervisor.probes import Probing
from pycontain.supervisor.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycontain.engine.containers import View
    from pycontain.supervisor.controllers import Controllers
    from pycontain.supervisor.loop import Timer

T = TypeVar("T")

_LATER = 2.0  # seconds until what the machine was too short of is tried again
_EACH = 60.0  # seconds between two looks at everything
_TOLD = 86400.0  # seconds for which it is kept why a supervisor has ended
_HEARD = frozenset((
    "start", "die", "stop", "pause", "unpause", "rename", "update", "destroy", "hook",
    "hook_failed",
))  # fmt: skip


class Part(Protocol):
    """What cares for containers in one way."""

    def consider(self, view: View) -> bool:
        """Take note of how a container is; return whether it has to be cared for."""

    def forget(self, identity: str) -> None:
        """Let a container be that is not there any more."""


def main(root: str, state: str) -> None:
    """Be the supervisor of a store until nothing needs one, unless there is one already.

    Args:
        root: folder for what survives a reboot.
        state: folder for what dies with it.
    """
    layout = Layout(root, state)
    process.set_title(f"pycontain-supervisor {root}")
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write("pycontain-super")  # what ps(1) shows; 15 characters
    # What it starts is looked for where a monitor's clean-up looks.
    os.environ["PATH"] = DEFAULT_PATH
    if not supervision.claim(layout):
        return
    try:
        cgroup.leave()
        Supervisor(Engine(root, state)).run()
        _forget_failure(layout)
    except BaseException as err:
        _note_failure(layout, err)
        if is_shortage(err):
            # Nobody else would see that there is none, until a command looks. What is open, and
            # the threads, end with the program; nothing is imported here, which needs descriptors.
            time.sleep(_LATER)
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - no shell is wanted
        raise
    finally:
        # Threads may still wait for what will not come.
        os._exit(0)


def _failure(layout: Layout) -> str:
    return f"{layout.state}/supervisor.failure"


def _note_failure(layout: Layout, err: BaseException) -> None:
    """Leave behind why it ended: nobody reads its standard error."""
    # Where there is no room for it, or no descriptor, there is nobody to tell that to.
    with contextlib.suppress(PycontainError, OSError):
        import traceback

        text = "".join(traceback.format_exception(err))
        if isinstance(err, PycontainError) and err.hint:
            text += f"hint: {err.hint}\n"
        data = text.encode(errors="replace")
        files.write_atomic(_failure(layout), data, durable=False)


def _forget_failure(layout: Layout) -> None:
    """Remove why an earlier one ended, once everybody had the time to look."""
    path = _failure(layout)
    with contextlib.suppress(FileNotFoundError):
        if time.time() - os.stat(path).st_mtime > _TOLD:
            files.remove(path)


class _Loop(Loop):
    """A loop in which a fault of ours, met by a job, is told and is that job's failure: it keeps
    nobody from caring for the others.

    Args:
        layout: of the store.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` in another thread, then call `done` in this one with what came of it."""

        def guarded() -> T:
            try:
                return job()
            except (PycontainError, OSError):
                raise
            except Exception as err:
                _note_failure(self._layout, err)
                raise PycontainError(f"unexpected: {type(err).__name__}: {err}") from err

        super().submit(guarded, done)


class Supervisor:
    """The supervisor of one store.

    Args:
        engine: of the store, in this process.
    """

    def __init__(self, engine: Engine) -> None:
        self._layout = engine.layout
        self._containers = engine.containers
        self._loop = _Loop(self._layout)
        self._parts: tuple[Part, ...] = (
            Restarts(self._layout, self._containers, self._loop, self._look),
            HealthProber(self._loop, self._containers, engine.events, self._end_if_idle),
            Hooks(self._loop, self._layout, self._containers, engine.events, self._look),
            Probing(self._loop, self._layout, self._containers, engine.events, self._end_if_idle),
        )
        self._engine = engine
        self._kube: Controllers | None = None
        self._cared: set[str] = set()
        self._others: set[str] = set()  # that need nobody, until they are changed
        self._looking: dict[str, bool] = {}  # and whether to look once more after that
        self._later: dict[str, Timer] = {}  # when to look again; of all, under an empty name
        self._monitors: dict[str, tuple[int, int]] = {}  # pid and pidfd
        self._watch = FolderWatch(self._layout.events)
        self._reader = Reader(Journal(self._layout.events), past=False)

    def run(self) -> None:
        """Care for the containers until none has to be cared for.

        Raises:
            StoreError: the store cannot be read.
        """
        self._loop.watch(self._watch.fileno(), self._hear)
        self._look_at_all()
        self._look_at_declared()
        self._loop.at(_EACH, self._look_once_more)
        self._end_if_idle()
        self._loop.run()

    # ---- hearing ----

    def _hear(self) -> None:
        # Asked before the journal is read: what is appended after it makes it readable again.
        changed = self._watch.clear()
        knew = self._kube is not None
        if self._kube is not None and changed - {self._layout.events}:
            self._kube.documents_changed()
        touched: dict[str, str] = {}
        try:
            for line in self._reader.lines():
                event = decode(line)
                if event is None:
                    continue
                if (kube := self._controllers()) is not None:
                    kube.hear(event)
                if event.type == "container" and event.verb in _HEARD:
                    touched[event.id] = event.verb
                    if event.verb in ("update", "destroy"):
                        self._others.discard(event.id)
        except StoreError:
            # Too slow: lines are gone that were not read. What they told of is there to be seen.
            self._reader.close()
            self._reader = Reader(Journal(self._layout.events), past=False)
            self._others.clear()
            self._look_at_all()
            self._look_at_declared(again=True)
        if not knew and self._kube is not None:
            self._look_at_declared()  # what is kept from now on was declared before
        for identity in touched:
            if identity not in self._others:
                self._look(identity)

    # ---- looking ----

    def _look(self, identity: str) -> None:
        """Look at a container, in a thread: its lock may be held."""
        if identity in self._looking:
            self._looking[identity] = True
            return
        self._looking[identity] = False
        self._loop.submit(
            lambda: self._containers.get(identity), lambda found: self._looked(identity, found)
        )

    def _looked(self, identity: str, found: View | BaseException) -> None:
        again = self._looking.pop(identity)
        if isinstance(found, BaseException):
            if not isinstance(found, (PycontainError, OSError)):
                raise found
            self._failed(identity, found)
        else:
            self._consider(found)
        if again:
            self._look(identity)
        self._end_if_idle()

    def _failed(self, identity: str, err: BaseException) -> None:
        """A container could not be looked at."""
        if is_shortage(err):
            self._look_later(identity)
        else:
            # Gone; or damaged, and then nobody knows what it wants.
            self._forget(identity)

    def _look_later(self, identity: str) -> None:
        if identity not in self._later:
            self._later[identity] = self._loop.at(_LATER, lambda: self._look_again(identity))

    def _look_again(self, identity: str) -> None:
        del self._later[identity]
        if identity:
            self._look(identity)
        else:
            self._look_at_all()
            self._look_at_declared()
        self._end_if_idle()

    def _look_once_more(self) -> None:
        """Look at everything now and then, at one after the other: who changes something tells of
        it after that, and tells nothing where it is killed in between.
        """
        self._loop.at(_EACH, self._look_once_more)
        try:
            found = {*records.ids(self._layout), *self._cared}
        except OSError as err:
            if not is_shortage(err):
                raise
            return
        for number, identity in enumerate(found):
            self._loop.at(number * APART, partial(self._look, identity))
        if (kube := self._controllers()) is not None:
            kube.look_once_more()

    def _look_at_all(self) -> None:
        problems: list[PycontainError] = []  # of damaged ones: nobody knows what they want
        try:
            views = self._containers.list(all=True, problems=problems)
        except (PycontainError, OSError) as err:
            if not is_shortage(err):
                raise
            self._look_later("")
            return
        if any(map(is_shortage, problems)):
            self._look_later("")
        else:
            for identity in self._cared - {view.container.id for view in views}:
                self._forget(identity)
        self._consider_all(views)

    def _controllers(self) -> Controllers | None:
        """The controllers of what is declared; None where nothing is: most stores have no use for
        what they take in time and memory.
        """
        if self._kube is None and os.path.isdir(self._layout.state_kube):
            from pycontain.supervisor import controllers

            self._kube = controllers.Controllers(
                self._loop, self._engine, self._watch, self._end_if_idle
            )
        return self._kube

    def _look_at_declared(self, *, again: bool = False) -> None:
        if (kube := self._controllers()) is None:
            return
        try:
            kube.look_at_all(again=again)
        except (PycontainError, OSError) as err:
            if not is_shortage(err):
                raise
            self._look_later("")

    def _consider_all(self, views: Iterable[View]) -> None:
        for view in views:
            if view.container.id not in self._others:
                self._consider(view)

    def _consider(self, view: View) -> None:
        identity = view.container.id
        try:
            wanted = [part.consider(view) for part in self._parts]
            if any(wanted):
                self._cared.add(identity)
                self._watch_monitor(view)
                return
        except (PycontainError, OSError) as err:
            if isinstance(err, StoreError):
                self._failed(identity, err)
            else:
                self._look_later(identity)
            return
        self._forget(identity)
        if supervision.needs(view.container):
            self._others.discard(identity)
        else:
            self._others.add(identity)

    def _forget(self, identity: str) -> None:
        for part in self._parts:
            part.forget(identity)
        self._cared.discard(identity)
        self._unwatch_monitor(identity)

    # ---- monitors: one that is killed tells nothing ----

    def _watch_monitor(self, view: View) -> None:
        identity = view.container.id
        record = records.load_run(view.paths)
        if view.status.state not in ("running", "paused") or record is None:
            self._unwatch_monitor(identity)
            return
        if self._monitors.get(identity, (0, -1))[0] == record.monitor:
            return
        self._unwatch_monitor(identity)
        pidfd = process.open_process(record.monitor, record.monitor_start)
        if pidfd is None:
            self._look(identity)
            return
        try:
            self._loop.watch(pidfd, lambda: self._monitor_ended(identity))
        except OSError:
            os.close(pidfd)
            raise
        self._monitors[identity] = (record.monitor, pidfd)

    def _unwatch_monitor(self, identity: str) -> None:
        _, pidfd = self._monitors.pop(identity, (0, -1))
        if pidfd >= 0:
            self._loop.unwatch(pidfd)
            os.close(pidfd)

    def _monitor_ended(self, identity: str) -> None:
        self._unwatch_monitor(identity)
        self._look(identity)

    # ---- ending ----

    def _is_busy(self) -> bool:
        return bool(
            self._cared or self._looking or self._later or self._loop.pending
            or (self._kube is not None and self._kube.is_busy)
        )  # fmt: skip

    def _end_if_idle(self) -> None:
        """End where nothing has to be cared for, and nobody relies on us."""
        if self._is_busy():
            return
        with supervision.gate(self._layout):
            # Whoever changed something before it came to the gate relies on us to see it.
            self._others.clear()
            self._look_at_all()
            self._look_at_declared()
            if not self._is_busy():
                supervision.resign(self._layout)
                self._loop.stop()
