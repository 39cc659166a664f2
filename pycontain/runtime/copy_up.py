"""A tmpfs that begins with what it covers (the mount option ``tmpcopyup``)."""

from __future__ import annotations

import os

from pycontain.errors import kernel_error
from pycontain.kernel import mount
from pycontain.kernel.copy import copy_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def tmpfs(root: int, target: str, options: Iterable[str]) -> int:
    """Return a detached tmpfs with a copy of the folder `target` below `root`.

    Args:
        root: descriptor of the container's root.
        target: where the tmpfs will be.
        options: its own, as ``size=1m``.

    Raises:
        KernelError: it cannot be made, or is too small for what it is to hold.
    """
    pairs = [option.partition("=") for option in options]
    fd = mount.new_mount("tmpfs", [(name, value if sign else None) for name, sign, value in pairs])
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            info = os.fstat(folder)
            copy_up(root, target, folder)
            if any(name == "mode" for name, _, _ in pairs):
                os.fchmod(folder, info.st_mode & 0o7777)
        finally:
            os.close(folder)
    except OSError as err:
        os.close(fd)
        raise kernel_error("copy into the tmpfs", target, err.errno or 0) from err
    return fd
