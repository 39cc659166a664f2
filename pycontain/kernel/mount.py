"""The mount API (fsopen(2), open_tree(2), mount_setattr(2)): detached mounts as descriptors.

A detached mount is in nobody's mount table: it lasts as long as its descriptor, so a process that
is killed leaves none behind.
"""

from __future__ import annotations

import errno
import os

from pycontain._native._kernel import ffi, lib
from pycontain.errors import KernelError, kernel_error
from pycontain.kernel.release import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Option = tuple[str, str | None]
    """A mount option: name and value; None is a flag."""

AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_ATIME = 0x70
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80
ATTR_NOSYMFOLLOW = 0x200000

_AT_FDCWD = -100
_FSCONFIG_VALUE = 255
_PAGE = 4096  # what mount(2) takes of its options on every architecture
_OVERLAY_LAYERS = 500
_PROBE = "user.pycontain.probe"
_APART_START = -1
_APART_MOUNT = -3

MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20


def clone_tree(path: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at `path`, with those below it where `recursive`.

    Raises:
        KernelError: the path does not exist or the caller may not.
    """
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    fd: int = lib.open_tree(_AT_FDCWD, os.fsencode(path), flags)
    if fd < 0:
        raise kernel_error("open tree", path, ffi.errno)
    return fd


def new_mount(kind: str, options: Iterable[Option], attributes: int = 0) -> int:
    """Make a file system of type `kind` and return it as a detached mount.

    Args:
        kind: as in mount(8)'s ``-t``.
        options: names and values, in order; None is a flag.
        attributes: ``ATTR_…`` bits.

    Raises:
        KernelError: with the option that was refused, or the kernel's own words for the whole.
    """
    fs: int = lib.fsopen(kind.encode())
    if fs < 0:
        raise kernel_error("mount", kind, ffi.errno)
    try:
        for name, value in options:
            if value is None:
                result = lib.fsconfig_flag(fs, name.encode())
            else:
                result = lib.fsconfig_string(fs, name.encode(), os.fsencode(value))
            if result < 0:
                number = ffi.errno
                word = name if value is None else f"{name}={value}"
                raise kernel_error("mount", f"{kind}: {word}{_log(fs)}", number)
        if lib.fsconfig_create(fs) < 0:
            number = ffi.errno
            raise kernel_error("mount", f"{kind}{_log(fs)}", number)
        fd: int = lib.fsmount(fs, attributes)
        if fd < 0:
            raise kernel_error("mount", kind, ffi.errno)
        return fd
    finally:
        os.close(fs)


def _log(fs: int) -> str:
    """What the kernel says about a refused file system (fsopen(2): read the descriptor).

    A message begins with a letter for its kind, error, warning or information, and a blank
    (Documentation/filesystems/mount_api.rst).
    """
    lines = []
    while True:
        try:
            line = os.read(fs, 1024)
        except OSError:
            break
        if not line:
            break
        text = line.decode(errors="replace").strip()
        lines.append(text[2:] if text[:2] in ("e ", "w ", "i ") else text)
    return f" ({'; '.join(lines)})" if lines else ""


def overlay(
    layers: Sequence[str],
    upper: str,
    work: str,
    *,
    attributes: int = 0,
    user_xattr: bool = False,
) -> int:
    """Return a detached overlay (Documentation/filesystems/overlayfs.rst).

    Args:
        layers: folders, bottom first, at least one.
        upper: the writable layer.
        work: overlayfs's own folder, on upper's file system.
        attributes: ``ATTR_…`` bits.
        user_xattr: keep overlay's marks in ``user.`` attributes, as user namespaces must.

    Raises:
        KernelError: a folder is missing, or this kernel has no overlay for the caller.
        NotSupported: the upper layer's file system has no ``user.`` attributes.
    """
    if user_xattr:
        _check_user_attributes(work)
    options: list[Option] = [("upperdir", quoted(upper)), ("workdir", quoted(work))]
    # Set explicitly: their defaults are the kernel builder's choice, and each changes what is on
    # disk in the upper layer.
    options += [("index", "off"), ("metacopy", "off")]
    options.append(("userxattr", None) if user_xattr else ("redirect_dir", "on"))
    return _overlay(layers, options, attributes)


def _check_user_attributes(folder: str) -> None:
    """Without them overlayfs mounts, and fails later: a folder in a removed one's place is EIO."""
    try:
        os.setxattr(folder, _PROBE, b"y")
        os.removexattr(folder, _PROBE)
    except OSError as err:
        hint = None
        if err.errno == errno.EOPNOTSUPP:
            hint = "no user attributes on its file system: tmpfs has them since Linux 6.6"
        raise kernel_error("mount overlay", folder, err.errno or 0, hint) from err


def stack(
    layers: Sequence[str], *, user_xattr: bool = False, base: str = "", attributes: int = 0
) -> int:
    """Return a read-only root of `layers`; without `base` it can be read but not attached.

    Args:
        layers: folders, bottom first, at least one.
        user_xattr: overlay's marks are in ``user.`` attributes, as in user namespaces.
        base: an empty folder, which is laid below them: so it is a mount however few there are.
        attributes: more ``ATTR_…`` bits of the mount.

    Raises:
        KernelError: a folder is missing, or this kernel has no overlay for the caller.
    """
    if base:
        layers = [base, *layers]
    if len(layers) == 1:  # an overlay without an upper layer needs two lower ones
        try:
            return os.open(layers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            raise kernel_error("open layer", layers[0], err.errno or 0) from err
    options: list[Option] = [("userxattr", None)] if user_xattr else []
    return _overlay(layers, options, attributes | ATTR_RDONLY)


def attach(fd: int, path: str) -> None:
    """Put a detached mount into this process's mount table (move_mount(2)).

    Raises:
        KernelError: there is no such folder, or the caller may not.
    """
    if lib.move_mount(fd, _AT_FDCWD, os.fsencode(path)) < 0:
        raise kernel_error("mount", path, ffi.errno)


def unmount(path: str) -> None:
    """Take the mount at `path` out of the mount table; who uses it still does (MNT_DETACH).

    Raises:
        KernelError: nothing is mounted there, or the caller may not.
    """
    if lib.unmount(os.fsencode(path)) < 0:
        raise kernel_error("unmount", path, ffi.errno)


def points_below(folder: str) -> set[str]:
    """Return the mount points below a folder, in this process's mount table.

    Args:
        folder: a path without links.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        # Blanks and the like are octal escapes (proc_pid_mountinfo(5)).
        found = {_unescaped(line.split(b" ")[4]) for line in file}
    return {path for path in map(os.fsdecode, found) if path.startswith(f"{folder}/")}


def _unescaped(word: bytes) -> bytes:
    begin, *rest = word.split(b"\\")
    return begin + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)


def _overlay(layers: Sequence[str], options: Sequence[Option], attributes: int) -> int:
    top_first = layers[::-1]
    if takes_one_by_one(top_first, options, release()):
        lower: list[Option] = [("lowerdir+", layer) for layer in top_first]
        return new_mount("overlay", [("source", "overlay"), *lower, *options], attributes)
    return _overlay_apart(top_first, options, attributes)


def takes_one_by_one(
    layers: Sequence[str], options: Sequence[Option], kernel: tuple[int, int]
) -> bool:
    """Whether overlayfs of a `kernel` can be given these layers one by one, by fsconfig(2).

    Since Linux 6.5 it has ``lowerdir+``. A value there has at most 255 bytes (FSCONFIG_SET_STRING).
    """
    values = [*layers, *(value for _, value in options if value is not None)]
    return kernel >= (6, 5) and all(len(os.fsencode(value)) <= _FSCONFIG_VALUE for value in values)


def page(layers: int, options: Sequence[Option]) -> bytes:
    """Return the options of an overlay as mount(2) takes them, layers being named by number.

    Args:
        layers: how many; the top one is ``1``, the next ``2``.
        options: names and values, in order, without a bare comma; None is a flag.

    Raises:
        KernelError: it is more than a page, of which the kernel would take the beginning.
    """
    numbers = ":".join(str(number) for number in range(1, layers + 1))
    words = [
        b"lowerdir=" + numbers.encode(),
        *(name.encode() + (b"" if value is None else b"=" + os.fsencode(value))
          for name, value in options),
    ]  # fmt: skip
    text = b",".join(words)
    if layers > _OVERLAY_LAYERS or len(text) >= _PAGE:
        hint = f"overlayfs stacks {_OVERLAY_LAYERS} layers, and its options have {_PAGE} bytes"
        raise kernel_error("mount overlay", f"{layers} layers", errno.E2BIG, hint)
    return text


def quoted(path: str) -> str:
    """Return the path of an upper or work folder as overlayfs reads it.

    It takes a backslash away and what follows as it is; a comma would end a mount(2) option.
    """
    for mark in ("\\", ",", ":"):
        path = path.replace(mark, f"\\{mark}")
    return path


def _overlay_apart(layers: Sequence[str], options: Sequence[Option], attributes: int) -> int:
    """Make the overlay with mount(2), in a process that has a mount namespace for it alone."""
    text = page(len(layers), options)
    words = [ffi.new("char[]", os.fsencode(layer)) for layer in layers]
    place = ffi.new("int *")
    fd: int = lib.mount_apart(b"overlay", text, ffi.new("char *[]", words), len(words), place)
    if fd < 0:
        raise _apart_failed(layers, place[0], ffi.errno)
    try:
        set_attributes(fd, attributes)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _apart_failed(layers: Sequence[str], place: int, number: int) -> KernelError:
    """The error for what ``mount_apart`` says; its places are in native/apart.h."""
    if place >= 0:
        return kernel_error("open layer", layers[place], number)
    if place == _APART_MOUNT:
        hint = "the kernel's log says why (dmesg)"
        return kernel_error("mount overlay", f"{len(layers)} layers", number, hint)
    step = "start its process" if place == _APART_START else "make a mount namespace"
    return kernel_error("mount overlay", step, number)


def clone_tree_within(namespace: int, path: str) -> int:
    """Return a detached copy of a folder in another mount namespace, with the mounts below it.

    A process that enters that namespace makes it: the kernel copies mounts of the caller's own
    namespace only (open_tree(2)).

    Args:
        namespace: descriptor of the mount namespace.
        path: there; no symbolic link is followed.

    Raises:
        KernelError: there is no such folder, or the caller may not enter.
    """
    place = ffi.new("int *")
    fd: int = lib.tree_apart(namespace, os.fsencode(path), place)
    if fd >= 0:
        return fd
    if place[0] == _APART_MOUNT:
        raise kernel_error("copy mount", path, ffi.errno)
    step = "start its process" if place[0] == _APART_START else "enter its mount namespace"
    raise kernel_error("copy mount", step, ffi.errno)


def set_attributes(fd: int, on: int, off: int = 0) -> None:
    """Change the attributes of a detached mount (mount_setattr(2)).

    Raises:
        KernelError: the kernel refuses.
    """
    if lib.mount_setattr(fd, 0, on, off, 0) < 0:
        raise kernel_error("change mount", f"attributes {on:#x}", ffi.errno)


def map_owners(fd: int, namespace: int, *, recursive: bool) -> None:
    """Show the owners of a detached mount's files as a user namespace maps them.

    Args:
        fd: the mount.
        namespace: descriptor of the user namespace.
        recursive: of the mounts below it too.

    Raises:
        KernelError: the file system does not offer it, or the caller may not.
    """
    if lib.mount_idmap(fd, AT_RECURSIVE if recursive else 0, namespace) < 0:
        number = ffi.errno
        # What else is invalid (mount_setattr(2)) cannot be here: the mount is detached and new.
        hint = "the file system there does not offer it: tmpfs since Linux 6.3, ext4 since 5.12"
        raise kernel_error("map owners", "", number, hint if number == errno.EINVAL else None)
