"""What a container's volumes and images come to when it starts: folders, and detached mounts.

A volume with options is a mount that its users share. Nobody keeps it: the first user's start makes
it, and whoever starts while others run takes a copy of it from one of those, under the volume's
lock. It ends with its last user, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from pycontain.engine import records
from pycontain.engine.volumes import Users, Volumes
from pycontain.errors import Conflict, InvalidInput, KernelError, NotFound, kernel_error
from pycontain.kernel import mount, process
from pycontain.kernel.copy import copy_up
from pycontain.kernel.paths import open_in_root
from pycontain.runtime import handover
from pycontain.runtime.mounts import MountWords, id_map
from pycontain.runtime.spec import all_mounts
from pycontain.runtime.steps import Handle
from pycontain.store import files
from pycontain.volume.store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.model.container import Container, Mount, RunRecord
    from pycontain.model.volume import Volume
    from pycontain.store.layout import ContainerPaths, Layout

_OWN_ATTRIBUTES = (
    mount.ATTR_RDONLY | mount.ATTR_NOSUID | mount.ATTR_NODEV | mount.ATTR_NOEXEC
    | mount.ATTR_NODIRATIME | mount.ATTR_NOSYMFOLLOW
)  # fmt: skip
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NAMELESS = "a mount that is in no namespace can be copied since Linux 6.15"
_FORGETFUL = ("tmpfs", "ramfs")
# Whose files are never given to somebody: podman refuses these too.
_SYSTEM = frozenset(
    "/ /bin /boot /dev /etc /etc/pki /home /lib /lib64 /media /opt /proc /root /run /sbin /srv /sys"
    " /tmp /usr /usr/bin /usr/lib /usr/lib64 /usr/local /usr/sbin /var /var/lib /var/log".split()
)


class Opened:
    """The volumes and images of a container, for as long as it is being started.

    Attributes:
        folders: target → host path, of each mount of type ``volume`` or ``image``.
        given: target → detached mount, where it is to be attached instead of the path's.
        passing: targets whose mounts are new and keep nothing, as a tmpfs.
    """

    def __init__(self) -> None:
        self.passing: set[str] = set()
        self.folders: dict[str, str] = {}
        self.given: dict[str, int] = {}
        self._kept: list[int] = []
        self._locks: dict[str, files.Lock] = {}

    def hold(self, name: str, lock: files.Lock) -> None:
        """Take a volume's lock and keep it; it may be held already."""
        if name not in self._locks:
            lock.acquire()
            self._locks[name] = lock

    def locks(self) -> dict[Handle, int]:
        """Return the handles of the locks in a plan: of volumes whose mounts others look for.

        The monitor holds them until its run is recorded, whoever started it being killed: nobody
        looks for a mount while it is on its way into a container.
        """
        return {
            Handle("given", f"lock of volume {name}"): lock.fileno()
            for name, lock in self._locks.items()
        }

    def give(self, target: str, fd: int) -> None:
        """Keep a detached mount for a target."""
        self.given[target] = fd

    def keep(self, fd: int) -> None:
        """Close a descriptor at the end."""
        self._kept.append(fd)

    def close(self) -> None:
        """Let go of mounts and locks."""
        for fd in (*self.given.values(), *self._kept):
            os.close(fd)
        self.given.clear()
        self._kept.clear()
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_all(
    layout: Layout, container: Container, root: int, *, rootless: bool, durable: bool = True
) -> Opened:
    """Make, fill and mount the volumes of a container, and its images.

    Volumes are filled by the first start of a container; the container's lock is held.

    Args:
        layout: of the store.
        container: whose they are.
        root: descriptor of its root, to copy from.
        rootless: overlay's marks are kept as in a user namespace.
        durable: what is of this container alone survives a power cut.

    Raises:
        KernelError, StoreError: something cannot be copied or mounted.
        InvalidInput: the options of a volume cannot be carried out.
    """
    paths = layout.container(container.id)
    opened = Opened()
    try:
        if container.mounts is None:
            opened.folders |= _own_folders(paths.volumes, root, all_mounts(container), durable)
            return opened
        Volumes(layout).make_missing(container, durable=durable)
        starter = _Opener(layout, container, root, opened, durable=durable)
        volumes = [entry for entry in container.mounts if entry.type == "volume"]
        # By name: two who start at once, each with both, take the locks in one order.
        for entry in sorted(volumes, key=lambda entry: entry.source):
            starter.open_volume(entry)
        if volumes:
            _note_filled(paths)
        for entry in container.mounts:
            if entry.type == "image":
                _open_image(layout, paths, entry, opened, rootless=rootless)
            elif entry.type == "bind" and entry.subpath and os.path.exists(entry.source):
                opened.give(entry.target, _at_subpath(entry, entry.source))
    except BaseException:
        opened.close()
        raise
    return opened


def _filled(paths: ContainerPaths) -> str:
    return f"{paths.folder}/filled"


def _note_filled(paths: ContainerPaths) -> None:
    if not os.path.lexists(_filled(paths)):
        files.write_word(_filled(paths), "volumes")


class _Opener:
    """Opens the volumes of one container."""

    def __init__(
        self, layout: Layout, container: Container, root: int, opened: Opened, *, durable: bool
    ) -> None:
        self._layout = layout
        self._store = VolumeStore(layout)
        self._container = container
        self._root = root
        self._opened = opened
        self._durable = durable
        self._wholes: dict[str, int] = {}  # volume → its mount, where that is open already
        self._fills = not os.path.lexists(_filled(layout.container(container.id)))

    def open_volume(self, entry: Mount) -> None:
        volume = self._store.get(entry.source)
        paths = self._store.paths(volume.name)
        self._opened.folders[entry.target] = paths.data
        fills = self._fills and not entry.no_copy and not entry.subpath
        if not volume.options.get("device"):
            if fills:
                self._fill_locked(volume, entry, paths.data)
            if entry.subpath:
                self._give(entry, _at_subpath(entry, paths.data))
            return
        words = MountWords(filter(None, volume.options.get("o", "").split(",")))
        _check(volume, words)
        if _is_bind(volume):
            device = volume.options["device"]
            if fills:
                self._fill_locked(volume, entry, device)
            fd = _at_subpath(entry, device) if entry.subpath else _copy_of(device, words)
            self._give(entry, fd)
            mount.set_attributes(fd, *words.whole())
            return
        self._open_shared(volume, entry, words, fills=fills)

    def _open_shared(self, volume: Volume, entry: Mount, words: MountWords, *, fills: bool) -> None:
        # Held till the run is recorded (Opened.locks): whoever comes next finds the mount there.
        self._opened.hold(volume.name, self._store.lock(volume.name))
        fd = self._of_others(volume, entry)
        new = fd is None and volume.name not in self._wholes
        if fd is None:
            fd = self._of_ours(volume, entry, words)
        self._give(entry, fd)
        if new and volume.options.get("type") in _FORGETFUL:
            self._opened.passing.add(entry.target)
        elif new and fills:
            self._fill(volume, entry, fd, ".")
        on, _ = words.whole()
        mount.set_attributes(fd, on, _OWN_ATTRIBUTES & ~on)

    def _targets(self, name: str) -> int:
        mounts = self._container.mounts or ()
        return sum(entry.type == "volume" and entry.source == name for entry in mounts)

    def _of_ours(self, volume: Volume, entry: Mount, words: MountWords) -> int:
        """The volume's mount, made here, for one of its targets."""
        whole = self._wholes.get(volume.name)
        if whole is None:
            whole = _new_mount(volume, words)
            try:
                self._note_mounted(volume, whole)
            except BaseException:
                os.close(whole)
                raise
            self._wholes[volume.name] = whole
            if not (entry.subpath or (entry.uid_map and self._targets(volume.name) > 1)):
                return whole
            self._opened.keep(whole)
        if entry.subpath:
            return _at_subpath(entry, f"/proc/self/fd/{whole}")
        return _again(whole, volume)

    def _note_mounted(self, volume: Volume, fd: int) -> None:
        mounted = self._store.paths(volume.name).mounted
        files.make_folder(os.path.dirname(mounted))
        files.write_word(mounted, _device(fd))

    def _give(self, entry: Mount, fd: int) -> None:
        self._opened.give(entry.target, fd)
        if entry.uid_map:
            _map_owners(fd, entry)

    # ---- sharing ----

    def _of_others(self, volume: Volume, entry: Mount) -> int | None:
        """A copy of the volume's mount, or of the part that is wanted, in a container that runs;
        None where none has it.

        Raises:
            Conflict: those that run have it only as it cannot be copied from, and another mount
                would be another tree.
        """
        try:
            device = files.read_word(self._store.paths(volume.name).mounted)
        except NotFound:
            return None
        holder = ""
        for identity in Users(self._layout).of(volume.name):
            if identity == self._container.id:
                continue
            record = records.load_run(self._layout.container(identity))
            if record is not None and process.start_time(record.pid) == record.pid_start:
                fd, there = _of_process(record, device, entry)
                if fd is not None:
                    return fd
                holder = identity if there else holder
        # A disk's file system is one, however often it is mounted; its number is not of major 0.
        if holder and device.startswith("0:"):
            raise Conflict(
                f"mount volume {volume.name}: container {holder[:12]} has not the whole of it",
                "of a subpath or of mapped owners there is no other mount: start it when that ends",
            )
        return None

    # ---- filling ----

    def _fill_locked(self, volume: Volume, entry: Mount, path: str) -> None:
        with self._store.lock(volume.name):
            try:
                folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as err:
                raise kernel_error(f"open volume {volume.name}", path, err.errno or 0) from err
            try:
                self._fill(volume, entry, folder, ".")
            finally:
                os.close(folder)

    def _fill(self, volume: Volume, entry: Mount, base: int, path: str) -> None:
        """Copy what the image has at the target, if the volume is empty; its lock is held.

        The mark is there while that goes on: a copy that was killed is begun anew.
        """
        mark = self._store.paths(volume.name).filling
        again = os.path.lexists(mark)
        durable = self._durable or not volume.anonymous
        try:
            folder = os.open(path, _FOLDER, dir_fd=base)
            try:
                if (os.listdir(folder) and not again) or not _has(self._root, entry.target):
                    return
                files.write_word(mark, self._container.id)
                copy_up(self._root, entry.target, folder, again=again)
                if durable:
                    files.sync_tree(f"/proc/self/fd/{folder}")
                files.remove(mark)
                if durable:
                    files.sync_folder(os.path.dirname(mark))
            finally:
                os.close(folder)
        except OSError as err:
            raise kernel_error(f"fill volume {volume.name}", entry.target, err.errno or 0) from err


def _has(root: int, target: str) -> bool:
    try:
        os.close(open_in_root(root, target, os.O_PATH | os.O_DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


# ---- mounts ----


def _check(volume: Volume, words: MountWords) -> None:
    subject = f"volume {volume.name}: options {volume.options.get('o', '')!r}"
    if words.copy_up or words.remount or words.idmap is not None or words.propagation:
        raise InvalidInput(f"{subject}: not for a volume")
    if _is_bind(volume) and words.data:
        raise InvalidInput(f"{subject}: unknown option {words.data[0]!r} for a bind")


def _is_bind(volume: Volume) -> bool:
    words = volume.options.get("o", "").split(",")
    return "bind" in words or "rbind" in words


def _copy_of(device: str, words: MountWords) -> int:
    return mount.clone_tree(device, recursive=words.recursive)


def _new_mount(volume: Volume, words: MountWords) -> int:
    pairs: list[tuple[str, str | None]] = [("source", volume.options["device"])]
    for word in words.data:
        name, sign, value = word.partition("=")
        pairs.append((name, value if sign else None))
    if words.whole()[0] & mount.ATTR_RDONLY:
        pairs.append(("ro", None))  # a disk that cannot be written is not mounted otherwise
    try:
        return mount.new_mount(volume.options["type"], pairs)
    except KernelError as err:
        raise kernel_error(f"mount volume {volume.name}", err.subject, err.errno, err.hint) from err


def _again(fd: int, volume: Volume) -> int:
    try:
        return mount.clone_tree(f"/proc/self/fd/{fd}", recursive=False)
    except KernelError as err:
        raise kernel_error(f"mount volume {volume.name}", "twice", err.errno, _NAMELESS) from err


def _device(fd: int) -> str:
    number = os.fstat(fd).st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def _of_process(record: RunRecord, device: str, entry: Mount) -> tuple[int | None, bool]:
    """A copy of what a process has of a device, if it has the whole, and whether it has any."""
    try:
        namespace = handover.open_namespace(f"/proc/{record.pid}/ns/mnt")
    except KernelError:
        return None, False
    try:
        with open(f"/proc/{record.pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
            mounts = list(mounts_of(f.read(), device))
        # Checked after the opens: the pid still was the container's.
        if process.start_time(record.pid) != record.pid_start:
            return None, False
        for point, whole in mounts:
            fd = _copy_within(namespace, point, device) if whole else None
            if fd is None or not entry.subpath:
                if fd is not None:
                    return fd, True
                continue
            try:
                part = part_within(namespace, point, fd, entry)
            finally:
                os.close(fd)
            if part is not None:
                return part, True
    except (FileNotFoundError, ProcessLookupError):
        return None, False
    finally:
        os.close(namespace)
    return None, bool(mounts)


def _copy_within(namespace: int, point: str, device: str) -> int | None:
    """A copy of a mount of a device in another namespace; None where it is not there any more."""
    try:
        fd = mount.clone_tree_within(namespace, point)
    except KernelError:
        return None  # unmounted meanwhile
    if _device(fd) == device:
        return fd
    os.close(fd)  # something else is mounted over it
    return None


def part_within(namespace: int, point: str, whole: int, entry: Mount) -> int | None:
    """A copy of a part of a mount in another namespace; None where it is not reached there.

    Args:
        namespace: descriptor of the namespace.
        point: where the mount is there.
        whole: a copy of it. Of a copy out of another namespace the kernel makes no further ones.
        entry: says which part.
    """
    wanted = _open_subpath(entry, f"/proc/self/fd/{whole}")
    try:
        if not stat.S_ISDIR(os.fstat(wanted).st_mode):
            raise InvalidInput(
                f"subpath {entry.subpath} of volume {entry.source}: not a folder",
                "of a volume that is a mount of its own, and in use, folders can be had",
            )
        # Below the copy's own root, without links.
        path = os.readlink(f"/proc/self/fd/{wanted}")
        try:
            fd = mount.clone_tree_within(namespace, f"{point.rstrip('/')}{path}")
        except KernelError:
            return None
        if os.path.samestat(os.fstat(fd), os.fstat(wanted)):
            return fd
        os.close(fd)  # renamed, or something is mounted there
        return None
    finally:
        os.close(wanted)


def mounts_of(mountinfo: str, device: str) -> Iterator[tuple[str, bool]]:
    """Yield where a file system is mounted (proc_pid_mountinfo(5)), and whether that is the whole
    of it, its owners being as they are.

    Args:
        mountinfo: the text of the file.
        device: ``major:minor``.
    """
    for line in mountinfo.splitlines():
        fields = line.split(" ", 6)
        if len(fields) == 7 and fields[2] == device:
            mapped = "idmapped" in fields[5].split(",")
            yield _unescaped(fields[4]), fields[3] == "/" and not mapped


def _unescaped(text: str) -> str:
    """A blank, tab, newline or backslash is a backslash and three octal digits there."""
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _at_subpath(entry: Mount, path: str) -> int:
    """A copy of a folder in a volume, an image or a folder of the host."""
    fd = _open_subpath(entry, path)
    try:
        return mount.clone_tree(f"/proc/self/fd/{fd}", recursive=True)
    except KernelError as err:
        # A mount that is in no namespace is copied since Linux 6.15.
        hint = _NAMELESS if path.startswith("/proc/self/fd/") else err.hint
        subject = f"{entry.subpath} of {entry.type} {entry.source}"
        raise kernel_error("mount subpath", subject, err.errno, hint) from err
    finally:
        os.close(fd)


def _open_subpath(entry: Mount, path: str) -> int:
    """Open a folder or file in a volume or image; whatever is a link there leads nowhere else."""
    try:
        base = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if entry.make_source:
                _make_subpath(base, entry.subpath)
            return open_in_root(base, entry.subpath, os.O_PATH)
        finally:
            os.close(base)
    except OSError as err:
        subject = f"{entry.subpath} of {entry.type} {entry.source}"
        raise kernel_error("open subpath", subject, err.errno or 0) from err


def _make_subpath(base: int, path: str) -> None:
    """Make the folders that are missing below an open one, with its mode; links as above."""
    parts = [part for part in path.split("/") if part]
    for depth, name in enumerate(parts):
        try:
            os.close(open_in_root(base, "/".join(parts[: depth + 1]), os.O_PATH))
            continue
        except FileNotFoundError:
            above = open_in_root(base, "/".join(parts[:depth]) or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileExistsError):  # of another start, or a link to nowhere
                os.mkdir(name, 0o700, dir_fd=above)
                made = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
                try:
                    os.fchmod(made, stat.S_IMODE(os.fstat(base).st_mode))
                finally:
                    os.close(made)
        finally:
            os.close(above)


def _map_owners(fd: int, entry: Mount) -> None:
    uids, gids = (
        id_map([{"containerID": inner, "hostID": outer, "size": count}
                for inner, outer, count in ranges])
        for ranges in (entry.uid_map, entry.gid_map)
    )  # fmt: skip
    try:
        namespace = process.user_namespace(uids, gids)
        try:
            mount.map_owners(fd, namespace, recursive=True)
        finally:
            os.close(namespace)
    except KernelError as err:
        raise kernel_error("map the owners of", entry.target, err.errno, err.hint) from err


def _open_image(
    layout: Layout, paths: ContainerPaths, entry: Mount, opened: Opened, *, rootless: bool
) -> None:
    """The files of an image, as an overlay without an upper layer: nobody can write there."""
    layers = [layout.layer(layer) for layer in entry.layers]
    if len(layers) == 1:  # such an overlay wants two
        empty = f"{paths.state_folder}/empty"
        files.make_folder(paths.state_folder)
        files.make_folder(empty, 0o755)
        layers.insert(0, empty)
    fd = mount.stack(layers, user_xattr=rootless)
    opened.folders[entry.target] = f"image {entry.source}"
    if entry.subpath:
        try:
            part = _at_subpath(entry, f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        fd = part
    opened.give(entry.target, fd)
    mount.set_attributes(fd, mount.ATTR_RDONLY | mount.ATTR_NODEV)


# ---- owners ----


def give_files(container: Container, opened: Opened | None, uid: int, gid: int) -> None:
    """Give the files of mounts with ``U`` to the container's user.

    Raises:
        InvalidInput: they are the system's.
        KernelError: an owner cannot be changed.
    """
    for entry in all_mounts(container):
        if not entry.chown or entry.type not in ("bind", "volume"):
            continue
        path = opened.folders.get(entry.target, entry.source) if opened else entry.source
        if entry.type == "bind" and os.path.realpath(path) in _SYSTEM:
            raise InvalidInput(
                f"mount {entry.target}: {path} is the system's, U would give it away"
            )
        fd = opened.given.get(entry.target) if opened else None
        place = path if fd is None else f"/proc/self/fd/{fd}"
        try:
            _give_tree(place, uid, gid)
        except OSError as err:
            raise kernel_error("change owners of", path, err.errno or 0) from err


def _give_tree(path: str, uid: int, gid: int) -> None:
    if not stat.S_ISDIR(os.stat(path).st_mode):
        os.chown(path, uid, gid)
        return
    # By descriptors, no link followed: a container may have the folder, and change it meanwhile.
    # The path itself may be a link, which os.fwalk by itself passes over in silence.
    top = os.open(path, _FOLDER)
    try:
        for _, folders, names, folder in os.fwalk(".", dir_fd=top):
            info = os.fstat(folder)
            if (info.st_uid, info.st_gid) != (uid, gid):
                os.fchown(folder, uid, gid)
            for name in (*folders, *names):  # a link to a folder is among the folders
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if (info.st_uid, info.st_gid) != (uid, gid):
                    os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(top)


# ---- containers of an earlier version ----


def _own_folders(folder: str, root: int, mounts: Sequence[Mount], durable: bool) -> dict[str, str]:
    """Make and fill a folder in the container's for each of its anonymous volumes."""
    targets = [entry.target for entry in mounts if entry.type == "volume"]
    found: dict[str, str] = {}
    for number, target in enumerate(sorted(targets)):
        files.make_folder(folder)
        place = found[target] = f"{folder}/{number}"
        if os.path.exists(place):
            continue
        # Under another name until it is whole: what a killed copy left is begun anew.
        temporary = f"{folder}/.{number}.new"
        files.remove_tree(temporary)
        os.mkdir(temporary, 0o755)
        try:
            copy = os.open(temporary, _FOLDER)
            try:
                copy_up(root, target, copy)
            finally:
                os.close(copy)
            if durable:
                # Before the name that says it is whole.
                files.sync_tree(temporary)
            os.rename(temporary, place)
        except OSError as err:
            files.remove_tree(temporary)
            raise kernel_error("fill volume", target, err.errno or 0) from err
    return found
