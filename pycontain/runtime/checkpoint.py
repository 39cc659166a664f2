"""What criu has to be told of a container: which mounts, files and namespaces are not its own.

criu writes down whatever belongs to a container's namespaces. What was brought in from the host
(binds, a joined namespace, the ends of pipes) it is told by name, and the name gets a new meaning
at the restore. A ``Record`` beside criu's files keeps which names there are.
"""

from __future__ import annotations

import errno
import os
import stat

from pycontain.errors import InvalidInput, InvalidState, NotSupported, kernel_error
from pycontain.kernel import paths
from pycontain.runtime import criu, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.model import oci
    from pycontain.runtime.criu import Fields

RECORD = "pycontain.json"
VERSION = 1
JOINED = ("network", "pid")
"""Namespaces that criu leaves to others, and joins at the restore."""

_KEYS = {"network": "net", "pid": "pid"}
_DEEPEST = 256  # mounts upon mounts
_LONGEST = 10_000  # processes from one to the first


class Record:
    """What a restore has to know beside criu's files.

    Attributes:
        mounts: of each mount that was brought in: where it is, the ``destination`` in the
            configuration that it is of, and where below that destination's source it comes from
            (empty: it is the source).
        streams: what criu calls standard input, output and error where they are the host's, else
            empty.
        namespaces: the kinds that were joined.
        no_new_privs: every process has it.
    """

    __slots__ = ("mounts", "namespaces", "no_new_privs", "streams")

    def __init__(
        self,
        mounts: Sequence[tuple[str, str, str]],
        streams: Sequence[str],
        namespaces: Sequence[str],
        *,
        no_new_privs: bool = False,
    ) -> None:
        self.no_new_privs = no_new_privs
        self.mounts = mounts
        self.streams = streams
        self.namespaces = namespaces

    def document(self) -> dict[str, object]:
        """Return it as a document."""
        return {
            "version": VERSION,
            "mounts": [[*entry] for entry in self.mounts],
            "streams": [*self.streams],
            "namespaces": [*self.namespaces],
            "noNewPrivileges": self.no_new_privs,
        }

    @classmethod
    def read(cls, value: object, name: str) -> Record:
        """Return the record that a document is.

        Raises:
            InvalidInput: it is none, or of another version.
        """
        found: dict[str, object] = value if isinstance(value, dict) else {}
        if found.get("version") != VERSION:
            raise InvalidInput(f"{name}: not of a checkpoint that this version has made")
        entries = found.get("mounts")
        whole = isinstance(entries, list) and all(_is_texts(entry, 3) for entry in entries)
        streams, namespaces = found.get("streams"), found.get("namespaces")
        strict = found.get("noNewPrivileges")
        whole = whole and _is_texts(streams, 3) and _is_texts(namespaces)
        if not whole or not isinstance(strict, bool):
            raise InvalidInput(f"{name}: damaged")
        return cls(entries, streams, namespaces, no_new_privs=strict)  # type: ignore[arg-type]


def _is_texts(value: object, count: int | None = None) -> bool:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        return False
    return all(isinstance(entry, str) for entry in value)


def check(spec: oci.Spec) -> None:
    """Refuse a container of which criu would not make the same again.

    Raises:
        NotSupported: with the reason.
    """
    linux = spec.get("linux", {})
    for entry in linux.get("namespaces", []):
        if entry["type"] == "user":
            raise _unsupported(
                "user namespace", "criu opens its files from in there, where they are not readable"
            )
        if entry.get("path") and entry["type"] not in JOINED:
            raise _unsupported(
                f"{entry['type']} namespace {entry['path']}",
                "criu would make one of its own of what is shared with others",
            )
    if linux.get("seccomp", {}).get("listenerPath"):
        raise _unsupported("linux.seccomp.listenerPath", "a listener's requests cannot be written")
    if "memoryPolicy" in linux:
        raise _unsupported("linux.memoryPolicy", "criu would not set it again")
    if "ioPriority" in spec.get("process", {}):
        raise _unsupported("process.ioPriority", "criu would not set it again")
    if linux.get("netDevices"):
        raise _unsupported("linux.netDevices", "a device of the host cannot be written to a file")
    for mount in spec.get("mounts", []):
        if mounts.MountWords(mount.get("options", [])).idmap is not None or mount.get(
            "uidMappings"
        ):
            raise _unsupported(
                f"mount {mount['destination']}", "criu would show its owners unmapped"
            )


def _unsupported(subject: str, reason: str) -> NotSupported:
    return NotSupported("checkpoint", f"{subject}: {reason}", errno.EOPNOTSUPP)


def check_family(pids: Iterable[int], init: int) -> None:
    """Refuse processes that criu would not find, as they do not descend from the first one.

    Such come from ``exec``; or, without a pid namespace, have lost their parent.

    Args:
        pids: of the container's processes.
        init: the first one.

    Raises:
        NotSupported: with the first such process.
    """
    family = {init, 0}
    for pid in pids:
        line = [pid]
        while line[-1] not in family and len(line) < _LONGEST:
            line.append(_parent(line[-1]))
        # 0: one above it is gone by now, or has no parent.
        if line[-1] in family - {0}:
            family.update(line)
        elif _parent(pid):
            raise _unsupported(f"process {pid}", "it does not descend from the first one")


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"PPid:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def no_new_privs(pids: Iterable[int]) -> bool:
    """Return whether processes have no_new_privs (proc_pid_status(5)), which criu does not keep.

    Raises:
        NotSupported: some have it, and some not.
    """
    found: dict[bool, int] = {}
    for pid in pids:
        for value in _no_new_privs(pid):
            found[value] = pid
    if len(found) > 1:
        subject = f"processes {found[True]} and {found[False]}"
        raise _unsupported(subject, "only the first has no_new_privs, and criu would not keep it")
    return found == {} or next(iter(found))


def _no_new_privs(pid: int) -> list[bool]:
    """What each thread has; nothing for a process that has ended."""
    try:
        found = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", "rb") as file:
                found += [line.split()[1] == b"1" for line in file if line.startswith(b"NoNew")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


# ------------------------------------------------------------------------------------------- mounts


class Place:
    """One mount of a process's namespace (proc_pid_mountinfo(5)).

    Attributes:
        id, parent: of the mount and the one that it is on.
        root: which folder of its file system it shows.
        point: where it is, seen from the process's root.
        device: of its file system.
    """

    __slots__ = ("device", "id", "parent", "point", "root")

    def __init__(self, line: bytes) -> None:
        words = line.split(b" ")
        self.id = int(words[0])
        self.parent = int(words[1])
        self.device = words[2]
        self.root = _unescaped(words[3])
        self.point = _unescaped(words[4])


def _unescaped(text: bytes) -> str:
    if b"\\" in text:
        # Spaces and the like are octal escapes.
        text = text.decode("unicode_escape").encode("latin-1")
    return os.fsdecode(text)


def places(pid: int) -> list[Place]:
    """Return the mounts of a process's namespace.

    Raises:
        KernelError: there is no such process.
    """
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            return [Place(line) for line in file]
    except OSError as err:
        raise kernel_error("read the mounts of process", str(pid), err.errno or 0) from err


def binds(spec: oci.Spec) -> dict[str, str]:
    """Return what a configuration brings in from the host: destination to source."""
    return {
        entry["destination"]: entry.get("source", "")
        for entry in spec.get("mounts", [])
        if mounts.is_bind(entry) and not mounts.MountWords(entry.get("options", [])).remount
    }


def brought_in(pid: int, destinations: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return the mounts that were brought in from the host, as ``Record.mounts`` has them.

    Args:
        pid: the container's first process.
        destinations: of the binds, as the configuration says them.

    Raises:
        KernelError: the process is gone.
    """
    table = {place.id: place for place in places(pid)}
    owners: dict[int, str] = {}
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for destination in destinations:
            number = _mount_at(root, destination)
            # The container may have unmounted it, or something on it.
            if number in table and number not in owners:
                owners[number] = destination
    finally:
        os.close(root)
    found = []
    for place in table.values():
        owner = _owner(place, table, owners)
        if owner is None:
            continue
        top, below = owner
        found.append((place.point, owners[top.id], below))
    return found


def _mount_at(root: int, path: str) -> int:
    """The id of the mount that a path below `root` is on; 0 where there is no such path."""
    try:
        fd = paths.open_in_root(root, path, os.O_PATH)
    except OSError:
        return 0
    try:
        return _mount_id(f"/proc/self/fdinfo/{fd}")
    finally:
        os.close(fd)


def _mount_id(fdinfo: str) -> int:
    with open(fdinfo, "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"mnt_id:")), 0)


def _owner(
    place: Place, table: Mapping[int, Place], owners: Mapping[int, str]
) -> tuple[Place, str] | None:
    """The bind that a mount is, or came with, and where it is below that; None for neither."""
    here = place
    for _ in range(_DEEPEST):
        if here.id in owners:
            return here, place.point[len(here.point) :].lstrip("/")
        above = table.get(here.parent)
        if above is None:
            break
        here = above
    return None


def check_points(entries: Iterable[tuple[str, str, str]]) -> None:
    """Refuse mounts over mounts: criu is told of one by its place alone.

    Raises:
        NotSupported: with the place.
    """
    seen = set()
    for point, _, _ in entries:
        if point in seen:
            raise _unsupported(f"mount {point}", "more than one mount of the host is there")
        seen.add(point)


def sources(record: Record, spec: oci.Spec) -> list[tuple[str, str]]:
    """Return what each name of a record means now: the name, and the path on the host.

    Raises:
        InvalidInput: the configuration has no such mount any more.
    """
    known = binds(spec)
    found = []
    for point, destination, below in record.mounts:
        if destination not in known:
            raise InvalidInput(
                f"config.json: mounts: {destination}: missing: the checkpoint has it"
            )
        source = known[destination]
        found.append((point, f"{source}/{below}" if below else source))
    return found


def make_point(root: int, point: str, source: str) -> None:
    """Make the place for a mount in a root file system, where it is not there.

    Args:
        root: descriptor of the root file system.
        point: absolute, without symbolic links when it was written down.
        source: what is to be shown there: for a folder a folder is made, otherwise a file.

    Raises:
        InvalidInput: there is no such source.
        KernelError: it cannot be made.
    """
    try:
        folder = stat.S_ISDIR(os.stat(source).st_mode)
    except OSError as err:
        raise InvalidInput(
            f"mount {point}: {source}: {os.strerror(err.errno or 0).lower()}"
        ) from None
    try:
        _make_parts(root, point.strip("/").split("/"), folder=folder)
    except OSError as err:
        raise kernel_error("make mount point", point, err.errno or 0) from err


def _make_parts(root: int, parts: Sequence[str], *, folder: bool) -> None:
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        for at, part in enumerate(parts):
            last = at == len(parts) - 1
            try:
                there = paths.open_in_root(root, "/".join(parts[: at + 1]), os.O_PATH)
            except FileNotFoundError:
                _make(here, part, folder=folder or not last)
                there = paths.open_in_root(root, "/".join(parts[: at + 1]), os.O_PATH)
            os.close(here)
            here = there
    finally:
        os.close(here)


def _make(parent: int, name: str, *, folder: bool) -> None:
    if folder:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))


# -------------------------------------------------------------------------------- files, namespaces


def streams(pid: int) -> list[str]:
    """Return what criu calls a process's standard streams where they are the host's, else empty.

    A pipe may lead out of the container. A file or device is the host's where the container has no
    mount that shows it (criu(8), --external file, --inherit-fd).

    Raises:
        KernelError: the process is gone.
    """
    known = {place.id for place in places(pid)}
    return [_stream(pid, number, known) for number in range(3)]


def _stream(pid: int, number: int, known: Iterable[int]) -> str:
    path = f"/proc/{pid}/fd/{number}"
    try:
        name = os.readlink(path)
        entry = os.stat(path)
        mount = _mount_id(f"/proc/{pid}/fdinfo/{number}")
    except FileNotFoundError:
        return ""  # it has closed it
    except OSError as err:
        raise kernel_error("read descriptors of process", str(pid), err.errno or 0) from err
    if stat.S_ISFIFO(entry.st_mode) and name.startswith("pipe:["):
        return name
    terminal = stat.S_ISCHR(entry.st_mode) and os.major(entry.st_rdev) in _TERMINALS
    if mount in known or not name.startswith("/") or terminal:
        return ""
    return f"file[{mount:x}:{entry.st_ino:x}]"


_TERMINALS = (4, 5, *range(136, 144))
"""Major numbers of terminals (admin-guide/devices.txt): criu has rules of its own for them."""


def external_streams(record: Record) -> Fields:
    """Return the options that tell a dump which streams are the host's."""
    return [(criu.EXTERNAL, name) for name in record.streams if name.startswith("file[")]


def joined(linux: oci.Linux) -> dict[str, str]:
    """Return the joined namespaces that criu leaves to others: kind to path."""
    return {
        entry["type"]: entry["path"]
        for entry in linux.get("namespaces", [])
        if entry.get("path") and entry["type"] in JOINED
    }


def external_namespaces(pid: int, kinds: Iterable[str]) -> Fields:
    """Return the options that tell a dump which namespaces were joined.

    Raises:
        InvalidState: the process is gone.
    """
    options = []
    for kind in kinds:
        key = _KEYS[kind]
        try:
            inode = os.stat(f"/proc/{pid}/ns/{key}").st_ino
        except OSError as err:
            raise InvalidState(f"process {pid} is gone") from err
        options.append((criu.EXTERNAL, f"{key}[{inode}]:{namespace_name(kind)}"))
    return options


def namespace_name(kind: str) -> str:
    """Return the name under which a joined namespace is known in criu's files."""
    return f"pycontain-{kind}"
