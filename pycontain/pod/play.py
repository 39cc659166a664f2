"""Declares what a Kubernetes manifest says, and takes it back: ``kube play``, ``apply``, ``down``.

What is declared is kept by the supervisor. The first steps are taken here, in the caller's process,
so that what is wrong is the caller's error, and nothing of it stays.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from pycontain.engine import supervision
from pycontain.engine.cancel import Deadline, wait_readable
from pycontain.engine.failure import told
from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError
from pycontain.kernel.inotify import FolderWatch
from pycontain.model import kube
from pycontain.pod import claims, controllers, immutable, normal, observed, readiness
from pycontain.pod.images import Images
from pycontain.pod.keeper import Keeper, in_threads
from pycontain.pod.plan import plan
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.engine import Engine
    from pycontain.engine.cancel import Cancel
    from pycontain.image.intake import Report
    from pycontain.model.kube_status import DeploymentStatus, PodStatus
    from pycontain.pod.declared import Change, Declared
    from pycontain.pod.plan import Member

_ORDER = tuple(kube.KINDS)
_LOOK = 1000.0  # milliseconds until what nobody told of is looked at


class Applied(NamedTuple):
    """What came of an object.

    Attributes:
        change: ``created``, ``configured`` or ``unchanged``.
        pod: id, of a Pod.
        containers: ids, as in the manifest, without those of init.
    """

    declared: Declared
    change: Change
    pod: str = ""
    containers: tuple[str, ...] = ()


class Kube:
    """What is declared in one store.

    Args:
        engine: over the store; one that has a worker (docs/adr/0011) has the verbs carried out
            there.
    """

    def __new__(cls, engine: Engine) -> Kube:  # noqa: D102 - the class says it
        return engine.elsewhere(cls) or super().__new__(cls)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pods = Pods(engine)
        self._keeper = Keeper(engine)
        self._declarations = self._keeper.declarations
        self._images = Images(engine)

    # ---- declaring ----

    @told("check what is declared")
    def check(self, objects: Sequence[kube.Object], *, replace_old: bool = False) -> None:
        """Raise what would keep objects from being declared, as far as it is known beforehand.

        Args:
            objects: as ``manifest.parse`` returns them; their names are looked up among them, and
                among what is declared.
            replace_old: as of ``play``.

        Raises:
            Conflict: a field that is immutable is declared otherwise.
            InvalidInput: one contradicts itself, or there is no such thing here.
            NotFound: what one names is not declared.
        """
        if not replace_old:
            self._check_changes(objects)
        self._members(objects)

    def _members(self, objects: Sequence[kube.Object]) -> list[Member]:
        """The containers that are made for objects."""
        known = {(one.kind, one.name): one.object for one in self._declarations.list(problems=[])}
        known.update({(one.kind, one.name): one for one in objects})
        everything = [*known.values()]
        members: list[Member] = []
        for one in objects:
            if isinstance(one, kube.PersistentVolumeClaim):
                claims.check(one)
            if isinstance(one, kube.Deployment):
                one = controllers.pod_of(one, f"{one.name}-0")  # longer than its own, as they are
            if isinstance(one, kube.Pod):
                planned = plan(one, everything, self._keeper.around())
                members += (*planned.init, *planned.members)
        return members

    @told("play")
    def play(
        self,
        objects: Sequence[kube.Object],
        *,
        replace_old: bool = False,
        progress: Callable[[str], None] | None = None,
        report: Report | None = None,
    ) -> list[Applied]:
        """Declare objects that are not there yet, and begin to make them true.

        Args:
            objects: as ``manifest.parse`` returns them.
            replace_old: Pods and Deployments of their names are taken down before, and the data of
                others may change that is immutable.
            progress: is given lines of text while an image is built or pulled.
            report: is told how far each layer is, from several threads.

        Returns:
            What came of each.

        Raises:
            Conflict: a Pod or Deployment of a name is declared, or another pod or container has it;
                or a field that is immutable is declared otherwise.
            PycontainError: whatever is in the way; what was begun is undone.
        """
        members = self._members(objects)
        running = [one for one in objects if isinstance(one, kube.Pod | kube.Deployment)]
        if not replace_old:
            for one in running:
                self._check_new(one)
            self._check_changes(objects)
        self._images.prepare(members, progress, report)
        if replace_old:
            self.down([one for one in running if self._is_declared(one)])
        return self._declare(objects)

    @told("apply")
    def apply(
        self,
        objects: Sequence[kube.Object],
        *,
        progress: Callable[[str], None] | None = None,
        report: Report | None = None,
    ) -> list[Applied]:
        """Declare objects, in place of what is declared under their names, and begin to make them
        true.

        A Pod that was declared otherwise is replaced, as are the pods of a Deployment whose
        template has changed.

        Args:
            objects: as ``manifest.parse`` returns them.
            progress: is given lines of text while an image is built or pulled.
            report: is told how far each layer is, from several threads.

        Returns:
            What came of each.

        Raises:
            Conflict: a field that is immutable is declared otherwise.
            PycontainError: whatever is in the way; what was begun is undone.
        """
        self._check_changes(objects)
        self._images.prepare(self._members(objects), progress, report)
        return self._declare(objects)

    def _check_changes(self, objects: Iterable[kube.Object]) -> None:
        for one in objects:
            before = self._declarations.find_whole(one.kind, one.name)
            if before is not None and not before.deleted:
                immutable.check(before.object, one)

    def _check_new(self, wanted: kube.Object) -> None:
        if self._is_declared(wanted):
            raise Conflict(
                f"{wanted.kind} {wanted.name} is declared already",
                "kube apply changes it, kube play --replace takes the old one down first",
            )

    def _is_declared(self, wanted: kube.Object) -> bool:
        known = self._declarations.find_whole(wanted.kind, wanted.name)
        if known is None:
            return self._declarations.is_damaged(wanted.kind, wanted.name)
        return not known.deleted

    def _declare(self, objects: Sequence[kube.Object]) -> list[Applied]:
        found: list[Applied] = []
        with contextlib.ExitStack() as undo:
            for one in sorted(objects, key=lambda one: _ORDER.index(one.kind)):
                before = self._declarations.find_whole(one.kind, one.name)
                if one.kind == "Pod" and before and not normal.same(before.object, one):
                    self._keeper.interrupt(one.name)
                declared, change = self._declarations.apply(one)
                if change != "unchanged":
                    undo.callback(self._take_back, declared, before)
                found.append(self._begin(declared, change))
            undo.pop_all()
        supervision.wake(self._engine.layout)
        return found

    def _begin(self, declared: Declared, change: Change) -> Applied:
        kept = self._keeper.keep(declared.kind, declared.name)
        if kept.seen is None:
            return Applied(declared, change)
        names = [container.name for container in declared.pod.spec.containers]
        ids = tuple(kept.seen.containers[name].id for name in names)
        return Applied(declared, change, kept.seen.id, ids)

    def _take_back(self, declared: Declared, before: Declared | None) -> None:
        """Undo a declaration; what was declared before is declared again, and kept from now on."""
        if before is None or before.deleted:
            self._remove([(declared.kind, declared.name)])
        else:
            self._declarations.apply(before.object, before.owner)
            supervision.wake(self._engine.layout)

    # ---- taking back ----

    @told("take down")
    def down(self, objects: Iterable[kube.Object], *, force: bool = False) -> list[Declared]:
        """Take objects back, and wait until nothing is left of them.

        Args:
            objects: of which kind and name count; those that are not declared are passed over.
            force: the volumes of claims go too, with what is in them.

        Returns:
            What was declared, and is not any more.

        Raises:
            PycontainError: something cannot be stopped or removed; the supervisor goes on with it.
        """
        wanted = [(one.kind, one.name) for one in objects]
        gone = self._remove(wanted)
        self._declarations.sweep()
        # What a supervisor was making of it when it was killed goes with this look.
        self._pods.list(problems=[])
        if force:
            for kind, name in wanted:
                if kind == "PersistentVolumeClaim":
                    claims.release(self._engine, name, force=True)
        return gone

    @told("take down")
    def delete(self, kind: str, name: str) -> Declared:
        """Take an object back, and wait until nothing is left of it.

        Raises:
            NotFound: it is not declared.
        """
        return self._remove([(kind, name)], missing=True)[0]

    def _remove(
        self, wanted: Iterable[tuple[str, str]], *, missing: bool = False
    ) -> list[Declared]:
        found = []
        for kind, name in sorted(wanted, key=lambda one: _ORDER.index(one[0]), reverse=True):
            try:
                found.append(self._keeper.delete(kind, name))
            except NotFound:
                if missing:
                    raise
        try:
            for failure in in_threads(self._end, found):
                raise failure
        except BaseException:
            supervision.wake(self._engine.layout)
            raise
        return found

    def _end(self, declared: Declared) -> None:
        """Let nothing be left of an object whose removal was asked for, nor of what it owns."""
        self._keeper.keep(declared.kind, declared.name)
        if declared.kind != "Deployment":
            return
        owned = [one for one in self._declarations.list("Pod", problems=[]) if declared.owns(one)]
        for failure in in_threads(self._end, owned):
            raise failure
        self._keeper.keep(declared.kind, declared.name)

    # ---- looking ----

    @told("look at what is declared")
    def get(self, kind: str, name: str) -> Declared:
        """Return an object as it is declared.

        Args:
            kind: ``Pod``, ``Deployment``, ``ConfigMap``, ``Secret`` or ``PersistentVolumeClaim``.
            name: ``metadata.name``.

        Raises:
            NotFound: there is none.
        """
        return self._declarations.get(kind, name)

    @told("list what is declared")
    def objects(
        self, kind: str | None = None, problems: list[PycontainError] | None = None
    ) -> list[Declared]:
        """Return what is declared, by kind and name.

        Args:
            kind: None is every one.
            problems: gets an error for each that cannot be read; without it the first one is
                raised.
        """
        return self._declarations.list(kind, problems)

    @told("look at what is declared")
    def status(self, kind: str, name: str) -> PodStatus | DeploymentStatus:
        """Return how a Pod or a Deployment is, in Kubernetes' words.

        Raises:
            NotFound: there is none.
            InvalidInput: objects of this kind have no status here.
        """
        from pycontain.network import outside
        from pycontain.pod import status

        if kind not in ("Pod", "Deployment"):
            raise InvalidInput(f"{kind} {name} has no status", "Pods and Deployments have one")
        declared = self._declarations.get(kind, name)
        problem = self._declarations.problem(declared)
        said = problem.message if problem else ""
        if kind == "Pod":
            seen = observed.look(self._engine, declared, problem)
            if not (seen.stopped or controllers.is_finished(declared, seen)):
                self._declarations.see_kept()
            return status.status(declared, seen, outside.host_address())
        self._declarations.see_kept()
        owned = [one for one in self._declarations.list("Pod", problems=[]) if declared.owns(one)]
        pods = [controllers.PodOf(one, observed.look(self._engine, one)) for one in owned]
        return status.deployment_status(declared, pods, time.time_ns(), said)

    # ---- waiting ----

    @told("wait for what is declared")
    def await_ready(
        self,
        names: Sequence[tuple[str, str]],
        *,
        timeout: float | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """Block until Pods are ready, or have done what they were to do, and Deployments have all
        of their pods ready.

        Args:
            names: kinds and names; other kinds are passed over.
            timeout: seconds, None for ever.
            cancel: ends the wait.

        Raises:
            InvalidState: one will not be ready: it has failed, or fails again and again; or the
                time is over.
            NotFound: one was taken back.
            Cancelled: by `cancel`.
        """
        deadline = Deadline(timeout)
        watch = FolderWatch(self._engine.layout.events)
        try:
            while True:
                watch.clear()
                self._declarations.see_kept()
                missing = [text for name in names if (text := self._missing(*name))]
                if not missing:
                    return
                if deadline.over:
                    raise readiness.too_late(missing)
                left = deadline.left()
                pause = _LOOK if left is None else min(left, _LOOK)
                wait_readable((watch.fileno(),), pause, cancel)
        finally:
            watch.close()

    def _missing(self, kind: str, name: str) -> str:
        """What an object lacks to be as declared; empty: nothing."""
        if kind == "Pod":
            return self._missing_of_pod(self._declarations.get(kind, name))
        if kind != "Deployment":
            return ""
        declared = self._declarations.get(kind, name)
        # Those of an earlier one of the name are on their way out.
        every = [
            one
            for one in self._declarations.list("Pod", problems=[])
            if one.owner is not None and (one.owner.kind, one.owner.name) == (kind, name)
        ]
        current = [
            one for one in every if declared.owns(one) and controllers.is_current(declared, one)
        ]
        lacking = [text for one in current if (text := self._missing_of_pod(one))]
        if len(current) != declared.deployment.spec.replicas or len(every) != len(current):
            return f"Deployment {name}: {len(current)} of its pods are declared"
        return lacking[0] if lacking else ""

    def _missing_of_pod(self, declared: Declared) -> str:
        if text := self._lacks(declared):
            return text
        # A program that cannot be started runs for a moment; who starts it holds the lock.
        lock = self._declarations.lock("Pod", declared.name)
        if not lock.acquire(wait=False):
            return f"pod {declared.name}: a step is under way"
        try:
            return self._lacks(declared)
        finally:
            lock.release()

    def _lacks(self, declared: Declared) -> str:
        problem = self._declarations.problem(declared)
        seen = observed.look(self._engine, declared, problem)
        return readiness.missing(self._engine, declared, seen, problem)

    # ---- before and after a reboot ----

    @told("end everything")
    def shutdown(
        self, problems: list[PycontainError] | None = None, *, timeout: int | None = None
    ) -> Sequence[str]:
        """End all containers and pods, also those that are not declared: ``shutdown.end_all``.

        ``Containers.boot`` and ``boot`` bring back what is to run.

        Args:
            problems: gets an error for each that cannot be ended; without it the first one is
                raised.
            timeout: seconds before a container is killed; None is each one's own.

        Returns:
            The names of the containers that ended.
        """
        from pycontain.pod import shutdown

        return shutdown.end_all(self._engine, problems, timeout=timeout)

    @told("keep what is declared")
    def boot(self, problems: list[PycontainError] | None = None) -> list[Declared]:
        """Keep what is declared from now on in this boot, and begin with the Pods.

        Args:
            problems: gets an error for each object that cannot be kept yet; without it the first
                one is raised. The supervisor tries again.

        Returns:
            The Pods that were begun with.
        """
        every = self._declarations.list(problems=problems)
        if not every:
            return []
        self._declarations.resume(every)
        begun = []
        for declared in (one for one in every if one.kind == "Pod"):
            try:
                self._keeper.keep(declared.kind, declared.name)
                begun.append(declared)
            except PycontainError as err:
                if problems is None:
                    raise
                problems.append(err)
        supervision.wake(self._engine.layout)
        return begun
