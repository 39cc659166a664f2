"""Keeps what is declared: looks at each object when something happened to it, and when it is due.

What is to be done is said by ``pod.controllers``, and done by ``pod.keeper``, in a thread. Here it
is only known when to ask: at the start for all, after each event that names an object or a pod of
it, when what holds a pod's sandbox has ended (which tells nothing if it was killed), a moment after
documents have changed (who was killed before telling of that never will), and some time after a
step has failed.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING

from pycontain.errors import NotFound, PycontainError, is_shortage
from pycontain.kernel import process
from pycontain.model.pod import POD_LABEL
from pycontain.pod import controllers
from pycontain.pod.keeper import Keeper, Kept
from pycontain.pod.pods import Pods
from pycontain.supervisor.loop import APART

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine import Engine
    from pycontain.kernel.inotify import FolderWatch
    from pycontain.model.event import Event
    from pycontain.pod.declared import Declared
    from pycontain.supervisor.loop import Loop, Timer

    Name = tuple[str, str]  # kind and name

_FIRST = 1.0  # seconds after a step that failed; then twice as long each time
_LAST = 60.0
_SOON = 1.0  # seconds until documents that changed are looked at; events are faster
_POD_VERBS = frozenset(("start", "stop", "remove", "kill"))


class _Object:
    """What is known of an object that is declared.

    Attributes:
        timer: when it is looked at again.
        holder: pid of what holds the sandbox, and its pidfd.
        at_rest: nothing is to be done until something happens to it.
        uid, generation: of the object that is at rest.
        owner: name of the Deployment that it belongs to; empty: to none; None: nobody has seen.
    """

    def __init__(self) -> None:
        self.timer: Timer | None = None
        self.holder: tuple[int, int] = (0, -1)
        self.at_rest = False
        self.version: tuple[str, int, bool] = ("", 0, False)
        self.owner: str | None = None
        self.finished = False


class Controllers:
    """Keeps the declared objects of a store; one of the supervisor's parts.

    Args:
        loop: in whose thread everything here is called.
        engine: of the store.
        watch: is to watch the documents too, for ``documents_changed``.
        changed: is called when there may be nothing left to keep.
    """

    def __init__(
        self, loop: Loop, engine: Engine, watch: FolderWatch, changed: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._pods = Pods(engine)
        self._keeper = Keeper(engine)
        self._declarations = self._keeper.declarations
        self._changed = changed
        self._objects: dict[Name, _Object] = {}
        self._looking: dict[Name, bool] = {}  # and whether to look once more after that
        self._soon: Timer | None = None  # when what has changed is looked at
        for folder in self._declarations.folders():
            watch.add(folder)

    @property
    def is_busy(self) -> bool:
        """Whether anything declared has to be cared for."""
        return bool(self._looking) or any(not one.at_rest for one in self._objects.values())

    def look_at_all(self, *, again: bool = False) -> None:
        """Look at all that is declared and was not looked at as it is now.

        Args:
            again: also at what was.

        Raises:
            StoreError: the store cannot be read.
        """
        if not self._declarations.are_kept:
            for name in tuple(self._objects):
                self._drop(name)
            return
        self._declarations.sweep()
        # One before this may have been killed while it made a pod. What is in the way of that keeps
        # nothing else from being kept; ``pod ps``, which sweeps too, says what it is.
        with contextlib.suppress(PycontainError):
            self._pods.sweep()
        problems: list[PycontainError] = []  # of damaged ones: nobody knows what they say
        found = {(one.kind, one.name): one for one in self._declarations.list(problems=problems)}
        for name in self._objects.keys() - found.keys():
            self._drop(name)
        for name, declared in found.items():
            known = self._objects.get(name)
            if again or known is None or known.version != _version(declared):
                self._look(name)

    def look_once_more(self) -> None:
        """Look at all that is declared, at one after the other."""
        self._look_at_changed()
        for number, name in enumerate(self._objects):
            self._loop.at(number * APART, partial(self._touch, name))

    def documents_changed(self) -> None:
        """Look soon at those that were changed: who changes one tells of it after that, and tells
        nothing where it is killed in between.
        """
        if self._soon is None:
            self._soon = self._loop.at(_SOON, self._look_at_changed)

    def _look_at_changed(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        try:
            self.look_at_all()
        except (PycontainError, OSError) as err:
            if not is_shortage(err):
                raise
            self.documents_changed()
        self._changed()

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        said = event.attributes
        if event.type == "kube":
            self._hear_declared((said.get("kind", ""), said.get("name", "")))
        elif event.type == "pod":
            if event.verb in _POD_VERBS:
                self._touch(("Pod", said.get("name", "")))
        elif _is_of_pod(event):
            self._touch(("Pod", said[POD_LABEL]))

    def _hear_declared(self, name: Name) -> None:
        if self._declarations.are_kept:
            self._look(name)
        known = self._objects.get(name)
        if known is not None and known.owner:
            self._look(("Deployment", known.owner))

    def _touch(self, name: Name) -> None:
        if name in self._objects and self._declarations.are_kept:
            self._look(name)

    # ---- looking ----

    def _look(self, name: Name) -> None:
        if name in self._looking:
            self._looking[name] = True
            return
        self._looking[name] = False
        known = self._objects.setdefault(name, _Object())
        known.at_rest = False
        if known.timer is not None:
            known.timer.cancel()
            known.timer = None
        self._loop.submit(lambda: self._keeper.keep(*name), lambda kept: self._looked(name, kept))

    def _looked(self, name: Name, kept: Kept | BaseException) -> None:
        again = self._looking.pop(name)
        if isinstance(kept, Kept):
            self._note(name, kept)
        elif isinstance(kept, (PycontainError, OSError)):
            self._failed(name)
        else:
            raise kept
        if again and (name in self._objects or isinstance(kept, Kept)):
            self._look(name)
        self._changed()

    def _note(self, name: Name, kept: Kept) -> None:
        known = self._objects.get(name)
        if kept.declared is None or known is None:
            self._drop(name)
            return
        declared, seen = kept.declared, kept.seen
        known.version = _version(declared)
        known.owner = _owner(declared)
        if kept.again is not None:
            known.timer = self._loop.at(kept.again / 1e9, lambda: self._due(name))
        if seen is None:
            known.at_rest = name[0] != "Deployment" and kept.again is None
            return
        finished = controllers.is_finished(declared, seen)
        if finished and not known.finished and known.owner:
            self._look(("Deployment", known.owner))
        known.finished = finished
        known.at_rest = finished or seen.stopped
        try:
            self._watch_holder(name, known, seen.holder)
        except (PycontainError, OSError) as err:
            if not is_shortage(err):
                raise
            self._look_later(name, known, _FIRST)

    def _failed(self, name: Name) -> None:
        """A step failed: it is tried again, later each time."""
        known = self._objects.get(name)
        if known is None:
            return  # nothing is kept any more, or it was taken back meanwhile
        try:
            declared = self._declarations.get(*name)
        except NotFound:
            self._drop(name)
            return
        except PycontainError:
            declared = None  # damaged, until it is declared anew
        if declared is not None:
            known.version = _version(declared)
            known.owner = _owner(declared)
        self._look_later(name, known, _LAST if declared is None else self._wait(declared))

    def _look_later(self, name: Name, known: _Object, wait: float) -> None:
        if known.timer is not None:
            known.timer.cancel()
        known.timer = self._loop.at(wait, lambda: self._due(name))

    def _wait(self, declared: Declared) -> float:
        """Seconds until a step that failed is tried again; what kept no note of it was no step."""
        problem = self._declarations.problem(declared)
        tries = problem.tries if problem else 1
        return min(_FIRST * (1 << min(tries - 1, 10)), _LAST)

    def _due(self, name: Name) -> None:
        known = self._objects.get(name)
        if known is not None:
            known.timer = None
            self._look(name)

    def _drop(self, name: Name) -> None:
        known = self._objects.pop(name, None)
        if known is None:
            return
        if known.timer is not None:
            known.timer.cancel()
        self._unwatch_holder(known)
        for owner in self._owners(name, known):
            self._look(owner)

    def _owners(self, name: Name, known: _Object) -> list[Name]:
        """Who misses an object that is gone; a pod may go before anybody has seen whose it was."""
        if known.owner:
            return [("Deployment", known.owner)]
        if known.owner is None and name[0] == "Pod" and self._declarations.are_kept:
            return [one for one in self._objects if one[0] == "Deployment"]
        return []

    # ---- what holds a sandbox: killed, it tells nothing ----

    def _watch_holder(self, name: Name, known: _Object, holder: tuple[int, int]) -> None:
        pid, start = holder
        if known.holder[0] == pid:
            return
        self._unwatch_holder(known)
        if not pid:
            return
        pidfd = process.open_process(pid, start)
        if pidfd is None:
            self._look(name)
            return
        try:
            self._loop.watch(pidfd, lambda: self._holder_ended(name))
        except OSError:
            os.close(pidfd)
            raise
        known.holder = pid, pidfd

    def _unwatch_holder(self, known: _Object) -> None:
        _, pidfd = known.holder
        known.holder = 0, -1
        if pidfd >= 0:
            self._loop.unwatch(pidfd)
            os.close(pidfd)

    def _holder_ended(self, name: Name) -> None:
        known = self._objects.get(name)
        if known is not None:
            self._unwatch_holder(known)
            self._look(name)


def _is_of_pod(event: Event) -> bool:
    """Whether something that may matter happened to a container of a pod: not each exec of a probe,
    of which is told what it found.
    """
    is_exec = event.verb.startswith("exec_")
    return event.type == "container" and POD_LABEL in event.attributes and not is_exec


def _owner(declared: Declared) -> str:
    return declared.owner.name if declared.owner else ""


def _version(declared: Declared) -> tuple[str, int, bool]:
    return declared.uid, declared.generation, bool(declared.deleted)
