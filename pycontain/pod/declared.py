"""What is declared in a store: Kubernetes' objects, until they are taken back.

An object is a file, ``ROOT/kube/KIND/NAME``, written whole and on disk before anything is done for
it. Whoever changes one, or acts for one, holds its lock. What is declared is kept by the supervisor
from the first declaration of a boot on, or from ``system boot``: a folder that dies with the boot,
``STATE/kube``, says that it is.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from pycontain.engine import supervision
from pycontain.engine.events import Events
from pycontain.errors import NotFound, PycontainError, StoreError, is_shortage
from pycontain.model import kube
from pycontain.model.declared import Failure, Owner, Problem, Record
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pycontain.store.layout import Layout

    Problems = list[PycontainError]

Change = Literal["created", "configured", "unchanged"]


class Declared(NamedTuple):
    """An object that was declared.

    Attributes:
        uid: new with each object of its name; a Pod that was changed is another one.
        created: nanoseconds since the epoch.
        generation: how many times its specification was declared.
        deleted: when its removal was asked for, nanoseconds since the epoch; 0: it is wanted.
        owner: which object made it; None: a user.
        failure: why it has failed as a whole, of a Pod.
    """

    uid: str
    created: int
    generation: int
    deleted: int
    owner: Owner | None
    failure: Failure | None
    object: kube.Object

    @property
    def kind(self) -> str:
        """``Pod``, and so on."""
        return self.object.kind

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.object.name

    @property
    def pod(self) -> kube.Pod:
        """The object of a Pod."""
        assert isinstance(self.object, kube.Pod), self.kind
        return self.object

    @property
    def deployment(self) -> kube.Deployment:
        """The object of a Deployment."""
        assert isinstance(self.object, kube.Deployment), self.kind
        return self.object

    def owns(self, other: Declared) -> bool:
        """Whether `other` was made by this one."""
        return other.owner is not None and other.owner.uid == self.uid


class Declarations:
    """The declared objects of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._events = Events(layout)

    def _path(self, kind: str, name: str) -> str:
        return f"{self._layout.kube}/{kind.lower()}/{_checked(kind, name)}"

    def lock(self, kind: str, name: str) -> files.Lock:
        """Return the lock of an object, which need not be there.

        Raises:
            NotFound: no object can have the name.
        """
        return files.Lock(self._layout.lock(f"kube-{kind.lower()}", _checked(kind, name)))

    def folders(self) -> list[str]:
        """Return where the documents are, a folder for each kind; all of them are there then."""
        found = [f"{self._layout.kube}/{kind.lower()}" for kind in kube.KINDS]
        for folder in found:
            files.make_folders(folder, 0o700)
        return found

    # ---- reading ----

    def get(self, kind: str, name: str) -> Declared:
        """Return an object.

        Args:
            kind: of ``kube.KINDS``.
            name: ``metadata.name``.

        Raises:
            NotFound: there is none.
            StoreError: its document is damaged.
        """
        try:
            return _declared(self._record(kind, name), kind, self._path(kind, name))
        except NotFound:
            raise _not_found(kind, name) from None

    def find(self, kind: str, name: str) -> Declared | None:
        """Return an object; None: there is none.

        Raises:
            StoreError: its document is damaged.
        """
        try:
            return self.get(kind, name)
        except NotFound:
            return None

    def find_whole(self, kind: str, name: str) -> Declared | None:
        """Return an object; None: there is none, or its document is damaged.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            return self.find(kind, name)
        except StoreError as err:
            if isinstance(err.__cause__, OSError):
                raise
            return None

    def is_damaged(self, kind: str, name: str) -> bool:
        """Whether the document of an object is none: nobody knows what it said.

        Raises:
            StoreError: it cannot be read.
        """
        return self.find_whole(kind, name) is None and os.path.lexists(self._path(kind, name))

    def _record(self, kind: str, name: str) -> Record:
        return files.load(self._path(kind, name), Record)

    def names(self, kind: str) -> Sequence[str]:
        """Return the names of a kind's objects, sorted."""
        try:
            found = os.listdir(f"{self._layout.kube}/{kind.lower()}")
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def list(self, kind: str | None = None, problems: Problems | None = None) -> list[Declared]:
        """Return the objects, by kind and name.

        Args:
            kind: None is every one.
            problems: gets an error for each that is damaged; without it the first one is raised.

        Raises:
            StoreError: the machine is short of something, so that nobody knows what there is.
        """
        return [*self._every((kind,) if kind else tuple(kube.KINDS), problems)]

    def _every(self, kinds: tuple[str, ...], problems: Problems | None) -> Iterator[Declared]:
        for kind in kinds:
            for name in self.names(kind):
                try:
                    yield self.get(kind, name)
                except NotFound:
                    continue  # taken back meanwhile
                except PycontainError as err:
                    # What cannot be read for now is not what is not there.
                    if problems is None or is_shortage(err):
                        raise
                    problems.append(err)

    # ---- declaring ----

    def apply(self, wanted: kube.Object, owner: Owner | None = None) -> tuple[Declared, Change]:
        """Declare an object; it is on disk when this returns.

        A Pod that is declared otherwise than before is another one, with an identity of its own;
        so is what takes the place of a damaged document.

        Args:
            wanted: which may be declared already.
            owner: which object makes it.

        From then on all that is declared is kept in this boot, also where nothing has changed.

        Raises:
            StoreError: it cannot be written, or the one that is there cannot be read.
        """
        from pycontain.pod import normal

        kind, name = wanted.kind, wanted.name
        self._keep()
        with self.lock(kind, name):
            known = self.find_whole(kind, name)
            if known is not None and not known.deleted and normal.same(known.object, wanted):
                return known, "unchanged"
            record = Record(
                uid=str(uuid.uuid4()), created=time.time_ns(), owner=owner,
                object=msgspec.Raw(msgspec.json.encode(wanted)),
            )  # fmt: skip
            if known is not None and not known.deleted and kind != "Pod":
                record = replace(
                    record, uid=known.uid, created=known.created, owner=known.owner,
                    generation=known.generation + 1,
                )  # fmt: skip
            self._write(kind, name, record)
            if known is not None and known.uid != record.uid:
                self.settle(known)
        self._tell("apply", kind, name, record.uid)
        declared = _declared(record, kind, self._path(kind, name))
        return declared, "created" if known is None else "configured"

    def delete(self, kind: str, name: str) -> Declared:
        """Ask for an object's removal; it is forgotten once nothing of it is left.

        In the place of a damaged document there is then one that says nothing but that.

        Raises:
            NotFound: there is none.
        """
        with self.lock(kind, name) as lock:
            if not os.path.lexists(self._path(kind, name)):
                files.remove(lock.path)
                raise _not_found(kind, name)
            known = self.find_whole(kind, name)
            if known is None or not known.deleted:
                record = _empty(kind, name) if known is None else self._record(kind, name)
                record = replace(record, deleted=time.time_ns())
                self._mark(kind, name, record)
                known = known or _declared(record, kind, self._path(kind, name))
        self._keep()
        self._tell("delete", kind, name, known.uid)
        return known

    def fail(self, declared: Declared, failure: Failure) -> Declared:
        """Note why a pod has failed as a whole, and return it so; its lock is held."""
        record = self._record(declared.kind, declared.name)
        self._mark(declared.kind, declared.name, replace(record, failure=failure))
        self._tell("fail", declared.kind, declared.name, declared.uid)
        return declared._replace(failure=failure)

    def forget(self, declared: Declared) -> None:
        """Remove an object of which nothing is left; its lock is held.

        One that was declared anew stays.
        """
        known = self.find(declared.kind, declared.name)
        if known is None or known.uid != declared.uid:
            return
        self.settle(declared)
        files.remove(self._path(declared.kind, declared.name))
        self._tell("forget", declared.kind, declared.name, declared.uid)

    def _write(self, kind: str, name: str, record: Record) -> None:
        path = self._path(kind, name)
        folder = os.path.dirname(path)
        files.make_folders(folder, 0o700)
        files.sweep(folder)
        files.write_atomic(path, files.dump(record))

    def _mark(self, kind: str, name: str, record: Record) -> None:
        try:
            self._write(kind, name, record)
        except StoreError as err:
            if not is_shortage(err):
                raise
            # A full disk: who takes something back wants room on it, and so does an eviction.
            files.overwrite(self._path(kind, name), files.dump(record))

    def _tell(self, action: str, kind: str, name: str, uid: str) -> None:
        self._events.tell_kube(action, kind, name, uid)

    def sweep(self) -> None:
        """Remove the locks of objects that are not there, and documents that are none yet: who was
        about to make one was killed.

        Raises:
            StoreError: one cannot be removed.
        """
        locks = os.listdir(self._layout.locks)
        for kind in kube.KINDS:
            files.sweep(f"{self._layout.kube}/{kind.lower()}")
            prefix = f"kube-{kind.lower()}-"
            for name in (file[len(prefix) :] for file in locks if file.startswith(prefix)):
                if _is_name(name) and not os.path.exists(self._path(kind, name)):
                    self._sweep_lock(kind, name)

    def _sweep_lock(self, kind: str, name: str) -> None:
        lock = self.lock(kind, name)
        if not lock.acquire(wait=False):
            return
        try:
            if not os.path.exists(self._path(kind, name)):
                files.remove(lock.path)
        finally:
            lock.release()

    # ---- in this boot ----

    def _keep(self) -> None:
        files.make_folders(self._layout.state_kube, 0o700)
        files.sweep(self._layout.state_kube)

    def rest(self) -> None:
        """Have nothing kept any more in this boot, until ``resume`` or a declaration."""
        files.remove_tree(self._layout.state_kube)

    def resume(self, several: Iterable[Declared] = ()) -> None:
        """Have what is declared kept in this boot, as after each declaration.

        Args:
            several: what that is, for a supervisor that is there already.
        """
        self._keep()
        for one in several:
            self._tell("boot", one.kind, one.name, one.uid)

    @property
    def are_kept(self) -> bool:
        """Whether what is declared is kept in this boot."""
        return os.path.isdir(self._layout.state_kube)

    def see_kept(self) -> None:
        """Have a supervisor that keeps what is declared: whoever looks at something that may need a
        step sees to it, as one that is killed while no container runs is missed by nothing that
        ends.
        """
        if self.are_kept and not supervision.lives(self._layout):
            supervision.wake(self._layout)

    def _problem(self, declared: Declared) -> str:
        return f"{self._layout.state_kube}/{declared.uid}"

    def problem(self, declared: Declared) -> Problem | None:
        """Return why an object is not as declared; None: nothing is known to be in the way."""
        try:
            return files.load(self._problem(declared), Problem)
        except (NotFound, StoreError):
            return None

    def note_problem(
        self, declared: Declared, message: str, reason: str = "", container: str = ""
    ) -> Problem:
        """Note that a step towards what is declared has failed.

        Args:
            declared: the object.
            message: of the error.
            reason: as of ``Problem``.
            container: as of ``Problem``.
        """
        before = self.problem(declared)
        problem = Problem(
            message=message, tries=1 if before is None else before.tries + 1,
            since=time.time_ns(), reason=reason, container=container,
        )  # fmt: skip
        files.write_atomic(self._problem(declared), files.dump(problem), durable=False)
        return problem

    def settle(self, declared: Declared) -> None:
        """Note that nothing is in the way any more."""
        files.remove(self._problem(declared))


def _checked(kind: str, name: str) -> str:
    """A name that a user may have typed is a file's, and leads nowhere else."""
    if not _is_name(name):
        raise _not_found(kind, name)
    return name


def _is_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and {"/", "\0"}.isdisjoint(name)


def _empty(kind: str, name: str) -> Record:
    """An object of which nothing is known but that there is one."""
    pod: dict[str, object] = {"containers": []}
    specs: dict[str, dict[str, object]] = {
        "Pod": pod,
        "Deployment": {"selector": {}, "template": {"spec": pod}},
        "PersistentVolumeClaim": {},
    }
    said = {"apiVersion": "apps/v1" if kind == "Deployment" else "v1", "kind": kind,
            "metadata": {"name": name}}  # fmt: skip
    whole = {**said, "spec": specs[kind]} if kind in specs else said
    return Record(
        uid=str(uuid.uuid4()),
        created=time.time_ns(),
        object=msgspec.Raw(msgspec.json.encode(whole)),
    )


def _not_found(kind: str, name: str) -> NotFound:
    return NotFound(f'{kind} "{name}" not found: it is not declared')


def _declared(record: Record, kind: str, path: str) -> Declared:
    try:
        wanted = files.decode(bytes(record.object), kube.KINDS[kind])
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise StoreError(f"read: {path}: damaged: {str(err).lower()}") from err
    if wanted.name != os.path.basename(path):
        raise StoreError(f"read: {path}: damaged: it says that it is {kind} {wanted.name}")
    return Declared(
        record.uid, record.created, record.generation, record.deleted, record.owner,
        record.failure, wanted,
    )  # fmt: skip
