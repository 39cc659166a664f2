"""``checkpoint``: a container's processes are written to files, by criu."""

from __future__ import annotations

import errno
import os

from pycontain.errors import (
    InvalidInput,
    InvalidState,
    NotSupported,
    PycontainError,
    StoreError,
)
from pycontain.kernel import cgroup
from pycontain.oci import document, ending, log, state
from pycontain.oci.flags import LIST, SWITCH, VALUE, Flag, UsageError
from pycontain.runtime import checkpoint, criu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.oci.flags import Values
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container
    from pycontain.runtime.criu import Fields

DEFAULT = "checkpoint"
SHARED = (
    Flag("image-path", VALUE, "folder for criu's image files; ./checkpoint by default"),
    Flag("work-path", VALUE, "folder for criu's log and work files; the image folder by default"),
    Flag("tcp-established", SWITCH, "with established TCP connections"),
    Flag("ext-unix-sk", SWITCH, "with unix sockets that others have the other end of"),
    Flag("shell-job", SWITCH, "refused"),
    Flag("file-locks", SWITCH, "with file locks"),
    Flag("manage-cgroups-mode", VALUE, "soft, full, strict or ignore", "soft"),
    Flag("empty-ns", LIST, "network: without its interfaces, which somebody else makes"),
    Flag("auto-dedup", SWITCH, "no page of memory twice in the image files"),
)
FLAGS = (
    *SHARED,
    Flag("parent-path", VALUE, "image files of the pre-dump before, from the image folder"),
    Flag("leave-running", SWITCH, "the container goes on"),
    Flag("tcp-skip-in-flight", SWITCH, "without TCP connections that are not established yet"),
    Flag("pre-dump", SWITCH, "memory only, and the container goes on"),
    Flag("lazy-pages", SWITCH, "refused"),
    Flag("status-fd", VALUE, "refused"),
    Flag("page-server", VALUE, "refused"),
)
SWITCHES = {
    "tcp-established": criu.TCP_ESTABLISHED,
    "ext-unix-sk": criu.UNIX_SOCKETS,
    "file-locks": criu.FILE_LOCKS,
    "auto-dedup": criu.AUTO_DEDUP,
    "leave-running": criu.LEAVE_RUNNING,
    "tcp-skip-in-flight": criu.TCP_SKIP_IN_FLIGHT,
}
REFUSED = {
    "shell-job": "a terminal of the host's cannot be written down, and a session is always its own",
    "lazy-pages": "memory is always written and read as a whole",
    "status-fd": "it is for --lazy-pages, which is not supported",
    "page-server": "memory is written to the image folder",
    "lsm-profile": "the profile is the one that was written down",
    "lsm-mount-context": "SELinux is not supported",
    "no-pivot": "criu has no other way to change the root",
}
_NETWORK = 0x4000_0000  # CLONE_NEWNET
_EMPTY = {"network": _NETWORK, "net": _NETWORK}
_LOG = "dump.log"


def refuse(command: Command) -> None:
    """Refuse what cannot be done whatever the container.

    Raises:
        NotSupported: a flag, or an ordinary user.
    """
    for name in sorted(command.values.given & REFUSED.keys()):
        raise NotSupported(command.verb, f"--{name}: {REFUSED[name]}", errno.EOPNOTSUPP)
    if command.rootless or os.geteuid():
        raise NotSupported(
            command.verb, "criu needs root's rights over processes", errno.EOPNOTSUPP
        )


def switches(values: Values) -> Fields:
    """Return the options of criu that flags turn on.

    Raises:
        UsageError: a value that there is not.
    """
    mode = values.text("manage-cgroups-mode")
    if mode not in criu.CGROUP_MODES:
        raise UsageError(f"--manage-cgroups-mode {mode!r}: {', '.join(criu.CGROUP_MODES)}")
    empty = 0
    for kind in values.many("empty-ns"):
        if kind not in _EMPTY:
            raise UsageError(f"--empty-ns {kind!r}: criu knows it of network only")
        empty |= _EMPTY[kind]
    options = [(criu.MANAGE_CGROUPS, 1), (criu.CGROUPS_MODE, criu.CGROUP_MODES[mode])]
    options += [(number, 1) for name, number in SWITCHES.items() if name in values.given
                and values.on(name)]  # fmt: skip
    if empty:
        options.append((criu.EMPTY_NAMESPACES, empty))
    return options


def folders(values: Values) -> tuple[str, str]:
    """Return the folder of the image files and that of the log."""
    images = os.path.abspath(values.text("image-path") or DEFAULT)
    return images, os.path.abspath(values.text("work-path") or images)


def checkpoint_container(command: Command) -> int:
    """``checkpoint``: write it down; unless it is to go on, it is gone then."""
    refuse(command)
    values = command.values
    options = switches(values)
    images, work = folders(values)
    parent = _parent(values.text("parent-path"), images)
    goes_on = values.on("leave-running") or values.on("pre-dump")
    with state.find(command.root, command.identity()) as container:
        container.lock()
        status = container.status()
        if status not in ("running", "paused"):
            raise InvalidState(f"container {container.id} cannot be checkpointed: it is {status}")
        checkpoint.check(container.config())
        with _Dump(container, images, work) as dump:
            dump.write(options, parent, pre=values.on("pre-dump"))
        if not goes_on:
            ending.destroy(container)
    return 0


def _parent(path: str, images: str) -> str:
    """The folder of an earlier dump as criu reads it: from the image folder."""
    if not path:
        return ""
    place = os.path.normpath(os.path.join(images, path))
    if not os.path.exists(f"{place}/inventory.img") or place == images:
        raise InvalidInput(f"--parent-path {path}: no image files of another dump are there")
    return os.path.relpath(place, images)


class _Dump:
    """One dump: what it opens and makes, and takes back when it fails."""

    def __init__(self, container: Container, images: str, work: str) -> None:
        self.container = container
        self.images = images
        self.work = work
        self.made: list[str] = []
        self.before: set[str] = set()

    def __enter__(self) -> _Dump:
        for path in (self.images, self.work):
            if make_folder(path):
                self.made.append(path)
        self.before = set(os.listdir(self.images))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            self._undo()

    def write(self, options: Fields, parent: str, *, pre: bool) -> None:
        """Have criu write it.

        Raises:
            PycontainError: it cannot; the container goes on.
        """
        container = self.container
        pid = container.state.pid
        spec = container.config()
        wanted = [*options, (criu.PID, pid), (criu.ORPHAN_TERMINAL, 1)]
        if pre or parent:
            wanted.append((criu.TRACK_MEMORY, 1))
        if parent:
            wanted.append((criu.PARENT, parent))
        if path := self._freezer():
            wanted.append((criu.FREEZER, path))
        record = self._record(spec, pid)
        wanted += [(criu.EXTERNAL_MOUNT, [(1, point), (2, point)]) for point, _, _ in record.mounts]
        wanted += checkpoint.external_streams(record)
        wanted += checkpoint.external_namespaces(pid, record.namespaces)
        if not pre:
            text = document.dump(record.document())
            write_file(f"{self.images}/{checkpoint.RECORD}", text.encode())
        self._run(criu.PRE_DUMP if pre else criu.DUMP, wanted)

    def _record(self, spec: oci.Spec, pid: int) -> checkpoint.Record:
        linux = spec.get("linux", {})
        entries = checkpoint.brought_in(pid, checkpoint.binds(spec))
        checkpoint.check_points(entries)
        pids = self._processes()
        checkpoint.check_family(pids, pid)
        return checkpoint.Record(
            entries,
            checkpoint.streams(pid),
            [*checkpoint.joined(linux)],
            no_new_privs=checkpoint.no_new_privs(pids),
        )

    def _processes(self) -> list[int]:
        folder = self.container.open_cgroup()
        if folder is None:
            return [self.container.state.pid]
        try:
            return cgroup.processes(folder)
        finally:
            os.close(folder)

    def _freezer(self) -> str:
        """The path of the container's cgroup, for criu to freeze; empty where there is none."""
        path = self.container.state.cgroup
        for place in cgroup.mount_points() if path else ():
            if os.path.isdir(f"{place}{path}"):
                return f"{place}{path}"
        return ""

    def _run(self, kind: int, options: Fields) -> None:
        job = criu.Job(kind, self.images, self.work, _LOG)
        try:
            job.run(options, criu.Surroundings())
        except PycontainError as err:
            err.message = f"checkpoint container {self.container.id}: {err.message}"
            raise

    def _undo(self) -> None:
        try:
            for name in set(os.listdir(self.images)) - self.before - {_LOG}:
                os.unlink(f"{self.images}/{name}")
            for path in reversed(self.made):
                if not os.listdir(path):
                    os.rmdir(path)
        except OSError as err:
            log.warn(f"checkpoint: undoing it: {self.images}: {os.strerror(err.errno or 0)}")


def make_folder(path: str) -> bool:
    """Make a folder, and say whether it had been missing.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    except OSError as err:
        raise StoreError(f"{path}: {os.strerror(err.errno or 0).lower()}") from err
    return True


def write_file(path: str, data: bytes) -> None:
    """Write a file of the image folder.

    Raises:
        StoreError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as err:
        raise StoreError(f"{path}: {os.strerror(err.errno or 0).lower()}") from err
