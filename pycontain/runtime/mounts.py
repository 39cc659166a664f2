"""The entries of ``mounts`` and the devices of an OCI configuration, as steps.

Options are sorted into what the kernel knows as attributes of a mount (for itself, or with a
leading ``r`` for all that is mounted below it too), its propagation, and what is the file system's.
"""

from __future__ import annotations

import os
import stat

from pycontain.errors import InvalidInput
from pycontain.kernel import cgroup
from pycontain.kernel.mount import (
    ATTR_ATIME,
    ATTR_NOATIME,
    ATTR_NODEV,
    ATTR_NODIRATIME,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_NOSYMFOLLOW,
    ATTR_RDONLY,
    ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from pycontain.runtime.steps import Handle, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontain.model import oci

_STANDARD_NODES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_STANDARD_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
)
_ON_OFF: dict[str, tuple[int, int]] = {
    "ro": (ATTR_RDONLY, 0),
    "rw": (0, ATTR_RDONLY),
    "nosuid": (ATTR_NOSUID, 0),
    "suid": (0, ATTR_NOSUID),
    "nodev": (ATTR_NODEV, 0),
    "dev": (0, ATTR_NODEV),
    "noexec": (ATTR_NOEXEC, 0),
    "exec": (0, ATTR_NOEXEC),
    "noatime": (ATTR_NOATIME, ATTR_ATIME),
    "relatime": (0, ATTR_ATIME),
    "strictatime": (ATTR_STRICTATIME, ATTR_ATIME),
    "nodiratime": (ATTR_NODIRATIME, 0),
    "diratime": (0, ATTR_NODIRATIME),
    "nosymfollow": (ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, ATTR_NOSYMFOLLOW),
    # relatime is what the kernel does unless it is told something else (mount(8)).
    "atime": (0, ATTR_ATIME),
    "norelatime": (0, ATTR_ATIME),
    "nostrictatime": (0, ATTR_ATIME),
}
ATTRIBUTES = {**_ON_OFF, "defaults": (0, 0)}
RECURSIVE = {f"r{name}": bits for name, bits in _ON_OFF.items()}
PROPAGATION = {
    "private": MS_PRIVATE,
    "slave": MS_SLAVE,
    "shared": MS_SHARED,
    "unbindable": MS_UNBINDABLE,
    "rprivate": MS_PRIVATE | MS_REC,
    "rslave": MS_SLAVE | MS_REC,
    "rshared": MS_SHARED | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
IDMAP = {"idmap": False, "ridmap": True}
# Without effect in the kernel's newer interface: how loud its log is, and what a file system that
# counts versions does by itself.
_SILENT = ("silent", "loud", "iversion", "noiversion")
# Of the file system itself: a bind leaves it as it is, whatever they say (mount(2), MS_BIND).
_SUPERBLOCK = (
    "sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "acl", "noacl",
)  # fmt: skip


class MountWords:
    """The options of one mount, sorted out.

    Attributes:
        set, clear: ``ATTR_…`` bits of the mount itself.
        below: the bits to set and to clear there and in what is mounted below.
        propagation: ``MS_PRIVATE`` … with ``MS_REC``, 0 where not said.
        recursive: a bind brings along what is mounted below.
        idmap: the owners are mapped; True: of what is mounted below too; None: they are not.
        copy_up: a tmpfs begins with what it covers.
        data: what is left, for the file system itself.
    """

    __slots__ = (
        "below", "clear", "copy_up", "data", "idmap", "propagation", "recursive", "remount", "set",
    )  # fmt: skip

    def __init__(self, options: Iterable[str]) -> None:
        self.set = self.clear = self.propagation = 0
        self.below = (0, 0)
        self.recursive = self.copy_up = self.remount = False
        self.idmap: bool | None = None
        self.data: list[str] = []
        for option in options:
            self._take(option)

    def _take(self, option: str) -> None:
        if option in ATTRIBUTES:
            on, off = ATTRIBUTES[option]
            self.set = self.set & ~off | on
            self.clear = self.clear & ~on | off
        elif option in PROPAGATION:
            self.propagation = PROPAGATION[option]
        elif option in RECURSIVE:
            on, off = RECURSIVE[option]
            self.below = (self.below[0] & ~off | on, self.below[1] & ~on | off)
        elif option == "rbind":
            self.recursive = True
        elif option in IDMAP:
            self.idmap = IDMAP[option]
        elif option == "tmpcopyup":
            self.copy_up = True
        elif option == "remount":
            self.remount = True
        elif option != "bind" and option not in _SILENT:
            self.data.append(option)

    def whole(self) -> tuple[int, int]:
        """Return the bits to set and to clear on a mount with nothing below it."""
        on, off = self.below
        return self.set & ~off | on, self.clear & ~on | off


def is_new_dev(mount: oci.Mount) -> bool:
    """Whether the entry is a file system of the container's own at /dev, to be filled by us."""
    return is_dev(mount) and not is_bind(mount) and "remount" not in mount.get("options", ())


def is_dev(mount: oci.Mount) -> bool:
    """Whether the entry is at /dev, however that is written."""
    return os.path.normpath(f"/{mount['destination'].lstrip('/')}") == "/dev"


def is_bind(mount: oci.Mount) -> bool:
    """Whether the entry shows a file or folder of the host."""
    options = mount.get("options", ())
    return mount.get("type", "bind") == "bind" or "bind" in options or "rbind" in options


def steps(mount: oci.Mount, maps: tuple[str, str], handed: Handle | None = None) -> list[Step]:
    """Return the steps for one entry.

    Args:
        mount: the entry.
        maps: the container's own uid and gid map, for ``idmap`` without maps of the mount's own.
        handed: the detached mount to attach for a bind; None: a copy of what its source names.

    Raises:
        InvalidInput: the options do not fit.
    """
    options = mount.get("options", [])
    words = MountWords(options)
    target = mount["destination"]
    said = f" ({', '.join(options)})" if options else ""
    if words.remount:
        return _remount(mount, words, said)
    if is_bind(mount):
        return [_bind(mount, words, maps, said, handed)]
    if words.idmap is not None or mount.get("uidMappings"):
        raise InvalidInput(f"mount {target}: only a bind can have its owners mapped")
    kind = mount.get("type", "")
    if kind == "cgroup":
        kind = "cgroup2"
    source = mount.get("source", "") or kind
    on, off = words.whole()
    text = f"mount {kind} on {target}{said}"
    if words.copy_up:
        if kind != "tmpfs":
            raise InvalidInput(f"mount {target}: tmpcopyup is for a tmpfs")
        handle = Handle("copy_up", target, tuple(words.data))
        return [Step("bind", handle, target, on, off, 0, 0, words.propagation, text=text)]
    data = tuple(words.data)
    return [Step("mount", kind, source, target, on, data, words.propagation, text=text)]


def _remount(mount: oci.Mount, words: MountWords, said: str) -> list[Step]:
    target = mount["destination"]
    if words.copy_up or words.idmap is not None or mount.get("uidMappings"):
        raise InvalidInput(f"mount {target}: what is mounted already cannot be mapped or filled")
    text = f"change mount {target}{said}"
    steps = [Step("attributes", target, *words.whole(), words.propagation, text=text)]
    if is_bind(mount):
        _check_bind(target, words)
    elif words.data:
        steps.append(Step("reconfigure", target, tuple(words.data), text=text))
    return steps


def _check_bind(target: str, words: MountWords) -> None:
    unknown = [word for word in words.data if word not in _SUPERBLOCK]
    if unknown:
        raise InvalidInput(f"mount {target}: unknown option {unknown[0]!r} for a bind")


def _bind(
    mount: oci.Mount, words: MountWords, maps: tuple[str, str], said: str, handed: Handle | None
) -> Step:
    source, target = mount.get("source", ""), mount["destination"]
    _check_bind(target, words)
    if words.copy_up:
        raise InvalidInput(f"mount {target}: tmpcopyup is for a tmpfs")
    handle = handed or Handle(
        "tree" if words.recursive else "branch", source, _idmap(mount, words, maps)
    )
    return Step(
        "bind", handle, target, words.set, words.clear, *words.below,
        words.propagation or MS_PRIVATE | MS_REC, text=f"bind {source} to {target}{said}",
    )  # fmt: skip


def _idmap(mount: oci.Mount, words: MountWords, maps: tuple[str, str]) -> tuple[str, ...]:
    """The maps that a bind's owners go through, and whether what is below it too."""
    own = mount.get("uidMappings"), mount.get("gidMappings")
    if own[0] and own[1]:
        maps = id_map(own[0]), id_map(own[1])
    elif own[0] or own[1]:
        raise InvalidInput(f"mount {mount['destination']}: uidMappings and gidMappings go together")
    elif words.idmap is None:
        return ()
    if not all(maps):
        raise InvalidInput(
            f"mount {mount['destination']}: idmap without mappings, neither of its own nor of a"
            " user namespace"
        )
    return (*maps, "recursive" if words.idmap else "")


def id_map(entries: Sequence[oci.IDMapping]) -> str:
    """Return the lines for uid_map or gid_map (user_namespaces(7))."""
    return "".join(
        f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in entries
    )


def keep_cgroup_options(spec: oci.Spec) -> None:
    """Have cgroup2 mounted with the options that it has, where the host's cgroup namespace is
    shared: there a mount sets them for the whole hierarchy (cgroup-v2.rst, "Mounting").
    """
    namespaces = spec.get("linux", {}).get("namespaces", [])
    if any(entry["type"] == "cgroup" for entry in namespaces):
        return
    for entry in spec.get("mounts", []):
        if entry.get("type") in ("cgroup", "cgroup2"):
            asked = entry.get("options", [])
            entry["options"] = [*asked, *(word for word in cgroup.options() if word not in asked)]


def devices(entries: Iterable[oci.Device], *, shown: bool) -> list[Step]:
    """Return the steps for the standard devices and links, and for those of the configuration.

    Args:
        entries: of ``linux.devices``.
        shown: mknod is refused in a user namespace: the host's nodes are shown instead.
    """
    steps = [_node(path, "c", major, minor, shown) for path, major, minor in _STANDARD_NODES]
    steps += [
        _node(
            device["path"], device["type"], device.get("major", 0), device.get("minor", 0),
            shown, device.get("fileMode", 0o666), device.get("uid", 0), device.get("gid", 0),
        )
        for device in entries
    ]  # fmt: skip
    steps += [
        Step("symlink", target, path, text=f"link {path} to {target}")
        for target, path in _STANDARD_LINKS
    ]
    return steps


def _node(
    path: str,
    kind: str,
    major: int,
    minor: int,
    shown: bool,
    mode: int = 0o666,
    uid: int = 0,
    gid: int = 0,
) -> Step:
    if shown and kind != "p":
        return Step("bind", Handle("branch", path), path, 0, 0, 0, 0, MS_PRIVATE,
                    text=f"show the host's {path}")  # fmt: skip
    bits = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[kind]
    return Step("node", path, bits | mode & 0o777, os.makedev(major, minor), uid, gid,
                text=f"make device {path} ({kind} {major}:{minor})")  # fmt: skip
