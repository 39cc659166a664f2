"""A container's time zone: its /etc/localtime, as the host's zoneinfo has it (localtime(5)).

It is a file in the container's own layer and no bind: in many images the name is a link to a zone's
file, which a bind would cover, for whoever asks for that zone.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput, NotFound, kernel_error
from pycontain.kernel.paths import open_in_root

if TYPE_CHECKING:
    from pycontain.model.container import RunOptions

ZONES = "/usr/share/zoneinfo"
LOCAL = "local"
_HOST = "/etc/localtime"
_LARGEST = 1 << 20
_MAGIC = b"TZif"  # tzfile(5)
_NEW = ".localtime.pycontain"


def check(options: RunOptions) -> None:
    """Check that a container can have the zone that its options name.

    Raises:
        NotFound: the host has no such zone.
        InvalidInput: it is no name, or a mount of the user's would hide the file.
    """
    if not options.tz:
        return
    for entry in options.mounts:
        if entry.target in ("/etc", "/etc/localtime"):
            raise InvalidInput(f"conflicting options: time zone and the mount on {entry.target}")
    read(options.tz)


def read(name: str) -> bytes | None:
    """Return a zone's file; None for a host without one of its own, whose time is UTC.

    Args:
        name: below the host's zoneinfo, or ``local`` for the zone that the host itself has.

    Raises:
        NotFound: there is no such zone.
        InvalidInput: it is no name.
    """
    if name == LOCAL:
        return _read(name, _HOST) if os.path.exists(_HOST) else None
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidInput(f"time zone {name!r}: not a name", "zones look like Europe/Berlin")
    return _read(name, f"{ZONES}/{name}")


def _read(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST)
    except OSError as err:
        reason = os.strerror(err.errno or 0).lower()
        hint = f"zones are the files below {ZONES} on the host (package tzdata)"
        raise NotFound(f"time zone {name}: {path}: {reason}", hint) from err
    if not data.startswith(_MAGIC):
        raise InvalidInput(f"time zone {name}: {path}: not a zone's file")
    return data


def write(root: int, name: str) -> None:
    """Give the root file system a zone's file.

    Args:
        root: descriptor of it; what is in it may be anything.
        name: see ``read``.

    Raises:
        NotFound: the zone is gone.
        KernelError: it cannot be written.
    """
    data = read(name)
    try:
        folder = _etc(root)
        try:
            _replace(folder, data)
        finally:
            os.close(folder)
    except OSError as err:
        raise kernel_error("set time zone", "/etc/localtime", err.errno or 0) from err


def _etc(root: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir("etc", 0o755, dir_fd=root)
    return open_in_root(root, "etc", os.O_RDONLY | os.O_DIRECTORY)


def _replace(folder: int, data: bytes | None) -> None:
    """No name is followed: the last component is the image's, and may be a link to anywhere."""
    for name in (_NEW, "localtime") if data is None else (_NEW,):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
    if data is None:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_NEW, flags, 0o600, dir_fd=folder)
    with open(fd, "wb") as file:
        file.write(data)
        os.fchmod(fd, 0o644)
    os.rename(_NEW, "localtime", src_dir_fd=folder, dst_dir_fd=folder)
