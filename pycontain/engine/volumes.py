"""Anonymous volumes: folders of a container, filled with what the image has at their place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.errors import kernel_error
from pycontain.kernel.copy import copy_up
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model.container import Mount


def prepare(
    folder: str, root: int, mounts: Iterable[Mount], *, durable: bool = True
) -> dict[str, str]:
    """Make and fill a folder below `folder` for each mount of type ``volume``.

    Args:
        folder: of the container's volumes.
        root: descriptor of the container's root, to copy from.
        mounts: all of the container's.
        durable: survive a power cut.

    Returns:
        Target → folder.

    Raises:
        KernelError, StoreError: a file cannot be copied.
    """
    targets = [mount.target for mount in mounts if mount.type == "volume"]
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
            _fill(root, target, temporary)
            if durable:
                # Before the name that says it is whole.
                files.sync_tree(temporary)
            os.rename(temporary, place)
        except OSError as err:
            files.remove_tree(temporary)
            raise kernel_error("fill volume", target, err.errno or 0) from err
    return found


def _fill(root: int, target: str, place: str) -> None:
    copy = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copy_up(root, target, copy)
    finally:
        os.close(copy)
