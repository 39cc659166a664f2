"""The state folder: what is known of each container between two commands.

``ROOT/ID/`` holds ``state.json`` (replaced by rename), ``config.json`` (as it was at create: later
changes of the bundle have no effect, runtime.md, "Lifecycle"), the fifo that ``start`` opens and
the file for a failure after that. The status is derived: from the process (pid and start time), the
fifo, the freezer and the lock of whoever is creating.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from pycontain.errors import Conflict, InvalidInput, InvalidState, NotFound, StoreError
from pycontain.kernel import cgroup, process
from pycontain.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci

SPEC_VERSION = "1.3.0"
CGROUP_PARENT = "/pycontain-runtime"
FIFO = "exec.fifo"
FAILURE = "failure"
_STATE = "state.json"
_CONFIG = "config.json"
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class State:
    """What ``state.json`` says.

    Attributes:
        bundle: the bundle's folder, absolute.
        rootfs: the root file system, absolute.
        created: when, RFC 3339.
        owner: uid of whoever created it.
        annotations: of the configuration.
        cgroup: path below the cgroup root, empty for none of its own.
        unit: systemd's unit that the cgroup belongs to, empty where it is ours.
        rootless: made by an ordinary user.
        pid, start: the process and its start time; 0 before it was made.
        complete: the creation came to its end.
        late: the steps after the wait (``runtime.runner.late_failure``).
    """

    FIELDS = (
        "bundle", "rootfs", "created", "owner", "annotations", "cgroup", "unit", "rootless", "pid",
        "start", "complete", "late",
    )  # fmt: skip

    def __init__(self, bundle: str, rootfs: str, created: str) -> None:
        self.bundle = bundle
        self.rootfs = rootfs
        self.created = created
        self.owner = os.geteuid()
        self.annotations: dict[str, str] = {}
        self.cgroup = ""
        self.unit = ""
        self.rootless = False
        self.pid = 0
        self.start = 0
        self.complete = False
        self.late: list[tuple[int, str, str]] = []


class Container:
    """One container's folder, open.

    Attributes:
        id: its name.
        path: of the folder.
        state: what was written last.
    """

    def __init__(self, root: str, identity: str, folder: int, state: State) -> None:
        self.id = identity
        self.path = f"{root}/{identity}"
        self.folder = folder
        self.state = state
        self._locked = False

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.folder)

    def lock(self, *, keep: bool = False) -> None:
        """Wait until no other command changes the container; held until the folder is closed.

        Args:
            keep: what is known already, where the state cannot be read.

        Raises:
            NotFound: it was removed meanwhile.
            StoreError: the state is damaged.
        """
        fcntl.flock(self.folder, fcntl.LOCK_EX)
        self._locked = True
        if not os.fstat(self.folder).st_nlink:
            raise NotFound(f"container {self.id} does not exist")
        try:
            self.state = _read(self.folder, self.path)
        except StoreError:
            if not keep:
                raise

    def unlock(self) -> None:
        """Let other commands change the container."""
        fcntl.flock(self.folder, fcntl.LOCK_UN)
        self._locked = False

    def save(self) -> None:
        """Write the state."""
        values = {name: getattr(self.state, name) for name in State.FIELDS}
        self.write(_STATE, document.dump(values).encode())

    def write(self, name: str, data: bytes) -> None:
        """Replace a file of the folder."""
        try:
            temporary = f".{name}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(temporary, flags, 0o600, dir_fd=self.folder)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except OSError as err:
            raise StoreError(f"{self.path}/{name}: {_reason(err)}") from err

    def config(self) -> oci.Spec:
        """Return the configuration as it was at create."""
        spec: oci.Spec = document.load(f"{self.path}/{_CONFIG}")  # type: ignore[assignment]
        return spec

    def keep_config(self, spec: oci.Spec) -> None:
        """Keep the configuration."""
        self.write(_CONFIG, document.dump(spec).encode())

    def alive(self) -> bool:
        """Whether the container's first process runs."""
        return self.state.pid > 0 and process.start_time(self.state.pid) == self.state.start

    def pidfd(self) -> int:
        """Return a pidfd of the container's first process.

        Raises:
            InvalidState: it does not run.
        """
        fd = process.open_process(self.state.pid, self.state.start) if self.state.pid > 0 else None
        if fd is None:
            raise InvalidState(f"container {self.id} is not running")
        return fd

    def status(self) -> str:
        """Return ``creating``, ``created``, ``running``, ``paused`` or ``stopped``."""
        if not self.state.complete:
            # Whoever waited for the lock knows that nobody creates it any more.
            return "creating" if not self._locked and self._is_locked() else "stopped"
        if not self.alive():
            return "stopped"
        if self._paused():
            return "paused"
        return "created" if self.waits() else "running"

    def waits(self) -> bool:
        """Whether the process has the fifo open, on which it waits for ``start``.

        The name alone does not tell: a ``start`` that was killed may have left it behind.
        """
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            info = os.stat(FIFO, dir_fd=self.folder, follow_symlinks=False)
            if not stat.S_ISFIFO(info.st_mode):
                return False
            os.close(os.open(FIFO, flags, dir_fd=self.folder))
        except FileNotFoundError:
            return False
        except OSError as err:
            if err.errno == errno.ENXIO:  # nobody has it open for reading (fifo(7))
                return False
            raise
        return True

    def _is_locked(self) -> bool:
        # A new open file description: our own lock, if we hold it, is another's to this one.
        other = os.open(".", _FOLDER_FLAGS, dir_fd=self.folder)
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(other)
        return False

    def _paused(self) -> bool:
        folder = self.open_cgroup()
        if folder is None:
            return False
        try:
            return (cgroup.read(folder, "cgroup.freeze") or "0").strip() == "1"
        finally:
            os.close(folder)

    def open_cgroup(self) -> int | None:
        """Return a descriptor of the container's cgroup, None where it has none."""
        if not self.state.cgroup:
            return None
        try:
            return open_cgroup(self.state.cgroup)
        except NotFound:
            return None

    def report(self) -> dict[str, object]:
        """Return the state as hooks and ``state`` show it (runtime.md, "State")."""
        return self.report_as(self.status(), self.state.pid)

    def report_as(self, status: str, pid: int) -> dict[str, object]:
        """Return the state with a status and a pid of the caller's choice."""
        values: dict[str, object] = {"ociVersion": SPEC_VERSION, "id": self.id, "status": status}
        if pid > 0 and status != "stopped":
            values["pid"] = pid
        values["bundle"] = self.state.bundle
        if self.state.annotations:
            values["annotations"] = self.state.annotations
        return values


def _reason(err: OSError) -> str:
    return os.strerror(err.errno or 0).lower()


def check_id(identity: str) -> None:
    """Refuse what cannot be a container's id.

    Raises:
        InvalidInput: with the reason.
    """
    if not identity or identity in (".", "..") or not _ID_LETTERS.issuperset(identity):
        raise InvalidInput(
            f"container id {identity!r}: letters, digits and _+-. are allowed, and no path"
        )
    if len(identity) > 255:
        raise InvalidInput(f"container id {identity[:20]}…: longer than 255 characters")


def claim(root: str, identity: str, state: State) -> Container:
    """Make the folder of a new container, locked.

    Raises:
        Conflict: there is such a container.
        InvalidInput: the id.
        StoreError: the folder cannot be made.
    """
    check_id(identity)
    try:
        os.makedirs(root, 0o700, exist_ok=True)
    except OSError as err:
        raise StoreError(f"{root}: {_reason(err)}") from err
    path = f"{root}/{identity}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        raise Conflict(f"container {identity} already exists") from None
    except OSError as err:
        raise StoreError(f"{path}: {_reason(err)}") from err
    try:
        folder = os.open(path, _FOLDER_FLAGS)
    except OSError as err:
        os.rmdir(path)
        raise StoreError(f"{path}: {_reason(err)}") from err
    container = Container(root, identity, folder, state)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        container.save()
    except BaseException:
        try:
            remove(container)
        finally:
            os.close(folder)
        raise
    return container


def find(root: str, identity: str) -> Container:
    """Open a container's folder.

    Raises:
        NotFound: there is none.
        StoreError: its state is damaged.
    """
    check_id(identity)
    path = f"{root}/{identity}"
    try:
        folder = os.open(path, _FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"container {identity} does not exist") from None
    except OSError as err:
        raise StoreError(f"{path}: {_reason(err)}") from err
    try:
        return Container(root, identity, folder, _read(folder, path))
    except BaseException:
        os.close(folder)
        raise


def salvage(root: str, identity: str) -> Container:
    """Open the folder of a container whose state is damaged, to remove it.

    What is left to go by is the configuration: it names the cgroup, and whoever is in there is the
    container's.

    Raises:
        NotFound: there is none.
    """
    check_id(identity)
    try:
        folder = os.open(f"{root}/{identity}", _FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"container {identity} does not exist") from None
    container = Container(root, identity, folder, State("", "", ""))
    part = _part(container)
    container.state.cgroup = cgroup_path(part, identity)
    there = container.open_cgroup()
    if there is None:
        container.state.unit = _possible_unit(part, identity)
    else:
        os.close(there)
    return container


def _part(container: Container) -> oci.Spec:
    """Of a configuration that nobody vouches for: where the cgroup is."""
    try:
        spec: object = container.config()
    except InvalidInput:
        return {}
    linux = spec.get("linux") if isinstance(spec, dict) else None
    path = linux.get("cgroupsPath") if isinstance(linux, dict) else None
    if not isinstance(path, str) or ".." in path.split("/"):
        return {}
    return {"linux": {"cgroupsPath": path}}


def _possible_unit(spec: oci.Spec, identity: str) -> str:
    """The unit that the container has if systemd made its cgroup; empty where that cannot be."""
    from pycontain.runtime import systemd

    if not systemd.booted():
        return ""
    try:
        return systemd.unit_of(spec.get("linux", {}).get("cgroupsPath", ""), identity)[1]
    except InvalidInput:
        return ""


def open_cgroup(path: str, *, beside: int = 0) -> int:
    """Return a descriptor of a cgroup that is there.

    Args:
        path: below the cgroup root.
        beside: a process in it, to which another is to come: see ``cgroup.open_beside``.

    Raises:
        NotFound: it is not.
        KernelError: it cannot be opened.
    """
    root = cgroup.open_root()
    try:
        if beside:
            return cgroup.open_beside(root, path, beside)
        return cgroup.open_folder(root, path.strip("/"))
    except FileNotFoundError:
        raise NotFound(f"cgroup {path} does not exist") from None
    finally:
        os.close(root)


def remove_cgroup(path: str) -> None:
    """Remove a container's cgroup with whoever is in it, and our own parent of such with the last.

    Raises:
        KernelError: processes do not leave, or the caller may not.
    """
    from pycontain.runtime import cgroups

    cgroups.remove(path)
    if path.startswith(f"{CGROUP_PARENT}/"):
        cgroups.remove_empty(CGROUP_PARENT)


def cgroup_path(spec: oci.Spec, identity: str) -> str:
    """Return where the container's cgroup is: as ``linux.cgroupsPath`` says, or one of ours."""
    path = spec.get("linux", {}).get("cgroupsPath", "")
    return path if path.startswith("/") else f"{CGROUP_PARENT}/{path or identity}"


def _read(folder: int, path: str) -> State:
    try:
        fd = os.open(_STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
        try:
            values = document.parse(document.read_all(fd), f"{path}/{_STATE}")
        finally:
            os.close(fd)
    except FileNotFoundError:
        # Killed between mkdir and the first write: there is nothing to know.
        return State("", "", "")
    except OSError as err:
        raise StoreError(f"{path}/{_STATE}: {_reason(err)}") from err
    except InvalidInput as err:
        raise StoreError(str(err)) from None
    state = State("", "", "")
    if not isinstance(values, dict):
        raise StoreError(f"{path}/{_STATE}: damaged: no object")
    for name in State.FIELDS:
        value = values.get(name)
        if type(value) is not type(getattr(state, name)):
            raise StoreError(f"{path}/{_STATE}: damaged: {name}")
        setattr(state, name, value)
    return state


def remove(container: Container) -> None:
    """Remove the folder; a killed removal is completed by the next.

    Raises:
        StoreError: something cannot be removed.
    """
    try:
        # The state goes last: without it nobody could find the cgroup.
        names = sorted(os.listdir(container.folder), key=lambda name: name == _STATE)
        for name in names:
            os.unlink(name, dir_fd=container.folder)
        os.rmdir(container.path)
    except OSError as err:
        raise StoreError(f"{container.path}: {_reason(err)}") from err
