"""The folders of a pod: the files of its ConfigMaps and Secrets, its empty ones, paths of the host.

The files of a volume change all at once, for whoever reads them. They lie in a version of their
own, and the names that are seen are links to it by way of one link, which is replaced::

    ..2026_11_22_10_30_00.123456789/key
    ..data -> ..2026_11_22_10_30_00.123456789
    key -> ..data/key

So programs that wait for ``..data`` with inotify(7) work as in a cluster. Whoever was killed on the
way leaves what the next write removes.

Source: "Mounted ConfigMaps are updated automatically" and "Configure volume permission and
ownership change policy for Pods" of Kubernetes' documentation, and the core/v1 API reference.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from pycontain.engine.disk import folder_space
from pycontain.errors import InvalidInput, NotFound
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pycontain.pod.configs import File
    from pycontain.pod.plan import Folder, HostPath

_DATA = "..data"
_NEW_LINK = "..new"
_FOLDER_MODE = 0o755
# What the group of a pod's files gets, whatever their mode says.
_GROUP_READS = 0o440
_GROUP_ENTERS = 0o2550  # the group is inherited
_GROUP_WRITES = 0o2770


def write(top: str, folder: Folder, fs_group: int | None = None) -> bool:
    """Make a folder of a pod what it is to be; it is on disk when this returns.

    An ``emptyDir`` is made once and is the containers' from then on. Files that are as they should
    be are left alone, so that nobody is told of a change.

    Args:
        top: where the pod's folders are; made where it is missing.
        folder: what is to be.
        fs_group: the group that all of it belongs to, and which may read (an ``emptyDir``: write);
            None: the caller's.

    Returns:
        Whether anything was changed.

    Raises:
        InvalidInput: a file has a name that is the layout's.
        StoreError: it cannot be written.
    """
    files.make_folder(top)
    with files.Lock(f"{top}/.lock"):
        made = _make(top, folder, fs_group)
        if folder.files is None:
            return made
        return _Volume(f"{top}/{folder.name}", folder.files, fs_group).write() or made


def _make(top: str, folder: Folder, fs_group: int | None) -> bool:
    """Make the folder itself, whole, if it is missing."""
    place, temporary = f"{top}/{folder.name}", f"{top}/.{folder.name}.new"
    files.remove_tree(temporary)
    if os.path.isdir(place):
        return False
    files.make_folder(temporary, folder.mode)
    _give(
        temporary, folder.mode, fs_group, _GROUP_WRITES if folder.files is None else _GROUP_ENTERS
    )
    try:
        os.rename(temporary, place)
        files.sync_folder(top)
    except OSError as err:
        raise files.store_error("make folder", place, err) from err
    return True


def _give(path: str, mode: int, group: int | None, more: int) -> None:
    """Give something to the group, if there is one, and the mode that it has then."""
    if group is None:
        return
    try:
        os.chown(path, -1, group)
        os.chmod(path, mode | more)  # after it: chown(2) takes bits away
    except OSError as err:
        raise files.store_error("change owner", path, err) from err


class _Volume:
    """The files of one ConfigMap or Secret at `place`; no other process writes there."""

    def __init__(self, place: str, wanted: Sequence[File], group: int | None) -> None:
        self._place = place
        self._wanted = wanted
        self._group = group
        self._names = dict.fromkeys(one.path.partition("/")[0] for one in wanted)
        odd = [one.path for one in wanted if _is_odd(one.path)]
        if odd:
            raise InvalidInput(f"volume {os.path.basename(place)}: file {odd[0]!r}: no such name")

    def write(self) -> bool:
        changed = False
        version = self._version()
        if version is None or not self._is_current(version):
            version = self._write_version()
            _link(self._place, _DATA, version)
            changed = True
        for name in self._names:
            changed |= _link(self._place, name, f"{_DATA}/{name}")
        kept = {version, _DATA, *self._names}
        for name in os.listdir(self._place):
            if name not in kept:
                changed |= files.remove_tree(f"{self._place}/{name}")
        if changed:
            files.sync_folder(self._place)
        return changed

    def _version(self) -> str | None:
        """The version that is seen; None: there is none."""
        try:
            version = os.readlink(f"{self._place}/{_DATA}")
        except OSError:
            return None  # none yet, or not a link: it is replaced
        is_ours = version.startswith("..") and "/" not in version and version not in ("..", _DATA)
        return version if is_ours else None

    # -- what is there --

    def _is_current(self, version: str) -> bool:
        """Whether a version has the files that are wanted and no others."""
        top = f"{self._place}/{version}"
        wanted = {one.path: one for one in self._wanted}
        folders = {"", *(above for one in self._wanted for above in _above(one.path))}
        try:
            found = {name for name in _names_below(top) if name not in folders}
            return (
                found == set(wanted)
                and all(self._is_same(f"{top}/{path}", one) for path, one in wanted.items())
                and all(self._is_same_folder(f"{top}/{path}") for path in folders)
            )
        except (OSError, NotFound):
            return False  # damaged: it is written anew

    def _is_same(self, path: str, one: File) -> bool:
        info = os.lstat(path)
        mode = one.mode if self._group is None else one.mode | _GROUP_READS
        return (
            stat.S_ISREG(info.st_mode)
            and stat.S_IMODE(info.st_mode) == mode
            and self._has_group(info)
            and info.st_size == len(one.content)
            and files.read(path) == one.content
        )

    def _is_same_folder(self, path: str) -> bool:
        info = os.lstat(path)
        mode = _FOLDER_MODE if self._group is None else _FOLDER_MODE | _GROUP_ENTERS
        is_right = stat.S_ISDIR(info.st_mode) and stat.S_IMODE(info.st_mode) == mode
        return is_right and self._has_group(info)

    def _has_group(self, info: os.stat_result) -> bool:
        return self._group is None or info.st_gid == self._group

    # -- a new one --

    def _write_version(self) -> str:
        version = _new_version(self._place)
        top = f"{self._place}/{version}"
        folders = dict.fromkeys(above for one in self._wanted for above in _above(one.path))
        for path in (top, *(f"{top}/{folder}" for folder in folders)):
            files.make_folder(path, _FOLDER_MODE)
            _give(path, _FOLDER_MODE, self._group, _GROUP_ENTERS)
        for one in self._wanted:
            path = f"{top}/{one.path}"
            files.write_atomic(path, one.content, one.mode, durable=False)
            _give(path, one.mode, self._group, _GROUP_READS)
        try:
            files.sync_tree(top)
        except OSError as err:
            raise files.store_error("write", top, err) from err
        return version


def _new_version(place: str) -> str:
    while True:
        now = time.time_ns()
        when = time.strftime("%Y_%m_%d_%H_%M_%S", time.gmtime(now // 10**9))
        name = f"..{when}.{now % 10**9:09d}"
        if not os.path.lexists(f"{place}/{name}"):
            return name


def _is_odd(path: str) -> bool:
    return path.startswith("..") or not {"", ".", ".."}.isdisjoint(path.split("/"))


def _above(path: str) -> list[str]:
    """The folders that a relative path goes through, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _names_below(top: str) -> Iterable[str]:
    for folder, folders, names in os.walk(top, onerror=_raise):
        for name in (*folders, *names):
            yield os.path.relpath(f"{folder}/{name}", top)


def _raise(err: OSError) -> None:
    raise err


def _link(place: str, name: str, target: str) -> bool:
    """Have a name lead to `target`, from one moment to the next; whether that is new."""
    path, temporary = f"{place}/{name}", f"{place}/{_NEW_LINK}"
    try:
        if os.path.islink(path) and os.readlink(path) == target:
            return False
        files.remove_tree(temporary)
        os.symlink(target, temporary)
        if os.path.isdir(path) and not os.path.islink(path):
            files.remove_tree(path)  # of an earlier layout; rename(2) replaces no folder
        os.rename(temporary, path)
    except OSError as err:
        raise files.store_error("link", path, err) from err
    return True


# ---- how much there is ----


def usage(path: str, enough: int) -> int:
    """Return the bytes that a folder takes on disk; 0 without it.

    Args:
        path: the folder, which containers may be changing.
        enough: as soon as there is more than this, the rest is not looked at.

    Raises:
        StoreError: it cannot be read.
    """
    return folder_space(path, enough)


def exceeded(folders: Iterable[Folder], used: Mapping[str, int]) -> str:
    """Return in words which folder has more in it than it may have; empty for none.

    Args:
        folders: of a pod.
        used: the bytes in each, by name.
    """
    for folder in folders:
        if folder.limit and used.get(folder.name, 0) > folder.limit:
            return f"emptyDir {folder.name} takes more than its sizeLimit of {folder.limit} bytes"
    return ""


# ---- paths of the host ----

_KINDS: Mapping[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "DirectoryOrCreate": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


def check_host_path(wanted: HostPath) -> None:
    """Make what is missing where the type says so; refuse what is of another kind.

    Args:
        wanted: path and type.

    Raises:
        NotFound: there is none, and it is not to be made.
        InvalidInput: it is of another kind.
        StoreError: it cannot be made or looked at.
    """
    step = f"volume {wanted.volume}: hostPath {wanted.path}"
    if not wanted.type:
        return
    try:
        mode = os.stat(wanted.path).st_mode
    except FileNotFoundError:
        if wanted.type == "DirectoryOrCreate":
            files.make_folders(wanted.path, 0o755)
        elif wanted.type == "FileOrCreate":
            files.write_new(wanted.path, b"", 0o644)
        else:
            raise NotFound(f"{step}: there is no such {wanted.type}") from None
        return
    except OSError as err:
        raise files.store_error("look at", step, err) from err
    if not _KINDS[wanted.type](mode):
        raise InvalidInput(f"{step}: it is no {wanted.type.removesuffix('OrCreate')}")
