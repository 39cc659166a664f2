"""What is on disk about a container, and what state that and the kernel's word amount to.

Status is derived each time: the start marker says which run is meant, the run record who runs it,
/proc whether that process is still the same one, the exit record how it ended. A run whose monitor
is gone without an exit record was lost; whoever finds it ends what is left and writes the record.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pycontain.errors import NotFound, StoreError
from pycontain.kernel import process
from pycontain.model.container import Container, ExitRecord, RunRecord
from pycontain.model.status import Status
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol, TypeVar

    from pycontain.store.layout import ContainerPaths, Layout

    class OfRun(Protocol):
        """A document that says something of one run."""

        @property
        def run(self) -> str:
            """The run's id."""

    R = TypeVar("R", bound=OfRun)

NOT_STARTED = "not started"
_PROGRAM = os.urandom(4).hex()
"""Of this process, this program: execve(2) keeps pid and start time, and ends what was at it."""


def marker_path(paths: ContainerPaths) -> str:
    """Return the file that names the last run: written before a monitor starts."""
    return f"{paths.folder}/run"


def write_marker(paths: ContainerPaths, run: str) -> None:
    """Note that `run` is about to start in this boot."""
    files.write_word(marker_path(paths), f"{run} {process.boot_id()}")


def _marker(paths: ContainerPaths) -> tuple[str, str] | None:
    try:
        words = files.read_word(marker_path(paths)).split()
    except NotFound:
        return None
    # A marker that is not ours must not pass for one of another boot: that run would be ended.
    if len(words) != 2 or len(words[0]) != 16 or len(words[1]) != len(process.boot_id()):
        raise StoreError(f"container: {marker_path(paths)}: damaged: not a run and a boot")
    return words[0], words[1]


def last_run(paths: ContainerPaths) -> str:
    """Return the id of the last run, one that is about to start included; empty for none.

    Raises:
        StoreError: the marker is damaged.
    """
    marker = _marker(paths)
    return marker[0] if marker else ""


def last_boot(paths: ContainerPaths) -> str:
    """Return the boot in which the last run was begun; empty for none.

    Raises:
        StoreError: the marker is damaged.
    """
    marker = _marker(paths)
    return marker[1] if marker else ""


def _boot_path(paths: ContainerPaths) -> str:
    return f"{paths.folder}/boot"


def make_volatile(paths: ContainerPaths) -> None:
    """Note that the container, whose folder has just been made, is gone when this boot ends.

    Nothing of it has to be on the disk at any time, and what a power cut leaves of its documents is
    never read.

    Raises:
        StoreError: it cannot be noted.
    """
    files.write_word(_boot_path(paths), process.boot_id())


def is_volatile(paths: ContainerPaths) -> bool:
    """Whether the container dies with the boot."""
    return os.path.lexists(_boot_path(paths))


def _release_path(folder: str) -> str:
    return f"{folder}/release"


def note_release(paths: ContainerPaths, container: Container) -> None:
    """Note which volumes go with the container, before its folder is removed.

    Raises:
        StoreError: it cannot be noted.
    """
    names = {mount.source for mount in container.mounts or () if mount.anonymous}
    if names:
        data = "\n".join(sorted(names)).encode()
        files.write_atomic(_release_path(paths.folder), data, durable=False)


def to_release(folder: str) -> list[str]:
    """Return the volumes that go with the container whose folder is being removed."""
    try:
        return files.read(_release_path(folder)).decode().split()
    except NotFound:
        return []


def exists(paths: ContainerPaths) -> bool:
    """Whether there is such a container: a finished one, that has not died with its boot."""
    return os.path.exists(paths.document) and not _is_of_another_boot(paths)


def _is_of_another_boot(paths: ContainerPaths) -> bool:
    try:
        return files.read_word(_boot_path(paths)) != process.boot_id()
    except NotFound:
        return False


@contextlib.contextmanager
def hold(paths: ContainerPaths) -> Iterator[files.Lock]:
    """Hold the lock of a container that is there, or was a moment ago.

    Who waited for it while the container was removed has made its file anew, and removes that.

    Raises:
        StoreError: the lock cannot be taken.
    """
    lock = files.Lock(paths.lock)
    lock.acquire()
    try:
        yield lock
    finally:
        if not os.path.isdir(paths.folder):
            files.remove(lock.path)
        lock.release()


def of_run(paths: ContainerPaths, run: str, write: Callable[[], None]) -> bool:
    """Write something about the last run, under the container's lock, which this blocks for.

    Whoever removes the container's folder holds it: a file that came meanwhile would stay there.

    Returns:
        Whether it was written: it is not where another run has begun, or the container is gone.

    Raises:
        StoreError: it cannot be written.
    """
    lock = files.Lock(paths.lock)
    lock.acquire()
    there = exists(paths)
    try:
        if not there or last_run(paths) != run:
            return False
        write()
        return True
    finally:
        if not there:
            files.remove(lock.path)
        lock.release()


def load_of_run(path: str, type: type[R], run: str) -> R | None:  # noqa: A002 - as of files.load
    """Return the document that says something of a run; None where it is of another, or not there.

    Raises:
        StoreError: it is damaged.
    """
    try:
        found = files.load(path, type)
    except NotFound:
        return None
    return found if found.run == run else None


def save_of_run(paths: ContainerPaths, path: str, document: OfRun) -> bool:
    """Write a document that says something of a run, as ``of_run`` does; it dies with the boot.

    Raises:
        StoreError: it cannot be written.
    """
    return of_run(
        paths,
        document.run,
        lambda: files.write_atomic(path, files.dump(document), durable=False),
    )


def own_word() -> str:
    """Return a word that names this process, for ``living``."""
    pid = os.getpid()
    return f"{pid} {process.start_time(pid) or 0} {_PROGRAM}"


def living(word: str) -> tuple[int, int] | None:
    """Return pid and start time of the process that a word names; None where it has ended, or is
    this one and was another program then, or the word names none.
    """
    try:
        first, second, *program = word.split()
        pid, start = int(first), int(second)
    except ValueError:
        return None
    if pid == os.getpid() and program not in ([], [_PROGRAM]):
        return None
    return (pid, start) if process.start_time(pid) == start else None


def load_exit(paths: ContainerPaths, run: str | None = None) -> ExitRecord | None:
    """Return the exit record, None when there is none (or none of `run`)."""
    try:
        record = files.load(paths.exit_record, ExitRecord)
    except NotFound:
        return None
    return record if run is None or record.run == run else None


def load_run(paths: ContainerPaths, run: str | None = None) -> RunRecord | None:
    """Return the run record, None when there is none (or none of `run`)."""
    try:
        record = files.load(paths.run_record, RunRecord)
    except NotFound:
        return None
    return record if run is None or record.run == run else None


def write_exit(paths: ContainerPaths, record: ExitRecord) -> None:
    """Write an exit record in the monitor's place: it is gone, and the lock is held."""
    files.write_atomic(paths.exit_record, files.dump(record))
    sweep(paths)


def sweep(paths: ContainerPaths) -> None:
    """Remove what killed writers left: nobody else writes, since the lock is held and nothing runs.

    The monitor's unfinished files begin with a dot, as ours do.

    Raises:
        StoreError: a file cannot be removed.
    """
    try:
        names = os.listdir(paths.folder)
    except OSError as err:
        raise files.store_error("sweep", paths.folder, err) from err
    for name in names:
        if name.startswith("."):
            files.remove(f"{paths.folder}/{name}")


class Lost(Exception):
    """A run ended without a record: it has to be settled under the container's lock."""

    def __init__(self, run: str, reason: str, started: int | None) -> None:
        super().__init__(run, reason)
        self.run = run
        self.reason = reason
        self.started = started


def status(paths: ContainerPaths) -> Status:
    """Derive the status.

    Raises:
        Lost: the last run's monitor is gone and left no record.
        StoreError: a document is damaged.
    """
    marker = _marker(paths)
    if marker is None:
        return Status(state="created")
    run, boot = marker
    record = load_exit(paths, run)
    if record is None:
        if boot != process.boot_id():
            raise Lost(run, "reboot", None)
        current = load_run(paths, run)
        if current is None:
            # Being started (then the lock is held), or the start was killed before it ran.
            record = load_exit(paths, run)
            if record is None:
                return Status(state="created")
        elif _alive(current.monitor, current.monitor_start):
            return Status(state="running", pid=current.pid, started=current.started)
        else:
            # The monitor may have written the record between our two looks.
            record = load_exit(paths, run)
            if record is None:
                raise Lost(run, "monitor lost", current.started)
    if record.reason == NOT_STARTED:
        return Status(state="created", record=record, error=record.error)
    return Status(state="exited", record=record, started=record.started)


def _alive(pid: int, start: int) -> bool:
    return process.start_time(pid) == start


def load(paths: ContainerPaths) -> Container:
    """Return the container's document.

    Raises:
        NotFound: there is none: never finished, removed, or died with its boot.
        StoreError: it is damaged.
    """
    if _is_of_another_boot(paths):
        raise NotFound(f"container: {paths.folder}: of another boot")
    return files.load(paths.document, Container)


def planned_parent(paths: ContainerPaths) -> str | None:
    """Return ``--cgroup-parent`` by the OCI configuration, where the document is damaged."""
    try:
        spec = files.load(paths.spec, dict)
        path = str(spec["linux"]["cgroupsPath"])
    except (NotFound, StoreError, KeyError, TypeError):
        return None
    parent, _, name = path.rpartition("/")
    return parent if name == os.path.basename(paths.folder) else None


def ids(layout: Layout) -> list[str]:
    """Return the ids of all container folders."""
    return [name for name in os.listdir(layout.containers) if is_id(name)]


def new_id() -> str:
    """Return an id that no container has."""
    return os.urandom(32).hex()


def is_id(text: str) -> bool:
    """Whether `text` is a whole container id, as file names are made of."""
    return len(text) == 64 and not text.strip("0123456789abcdef")
