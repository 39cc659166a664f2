"""Limits of containers: refused where they cannot be kept, applied, changed."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from pycontain.errors import InvalidInput, InvalidState, NotFound, NotSupported
from pycontain.model.container import cgroup_path
from pycontain.runtime import cgroups
from pycontain.runtime import limits as rules
from pycontain.runtime import spec as specs

if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.model.container import Container, Limits, RunOptions


def device_numbers(path: str) -> tuple[int, int]:
    """Return major and minor number of the block device at `path`.

    Raises:
        NotFound: there is nothing.
        InvalidInput: it is no block device.
    """
    try:
        info = os.stat(path)
    except OSError as err:
        reason = os.strerror(err.errno or 0).lower()
        raise NotFound(f"limit of device {path}: {reason}") from err
    if not stat.S_ISBLK(info.st_mode):
        raise InvalidInput(f"limit of device {path}: not a block device")
    return os.major(info.st_rdev), os.minor(info.st_rdev)


def resources(limits: Limits, *, rootless: bool, update: bool = False) -> oci.Resources:
    """Return ``linux.resources`` for `limits`, empty where nothing is limited.

    Raises:
        InvalidInput: they cannot be.
        NotFound: a device.
        NotSupported: this caller, or this machine's cgroup v2, cannot keep them.
    """
    said = rules.said(limits)
    if not said:
        return {}
    rules.check(limits)
    found = rules.resources(limits, device_numbers, update=update)
    if rootless:
        raise NotSupported(
            "limit container", f"{min(said).replace('_', '-')} (an ordinary user has no cgroup)",
            errno.EOPNOTSUPP, "limits need root",
        )  # fmt: skip
    try:
        cgroups.require(found)
    except InvalidInput as err:
        # of what is not checked above: the lines that the user gave
        place, _, reason = err.message.partition(": ")
        file = place.removeprefix("linux.resources.unified").strip("[']")
        raise InvalidInput(f"--cgroup-conf {file}: {reason}", err.hint) from err
    return found


def checked(options: RunOptions, *, rootless: bool) -> RunOptions:
    """Refuse limits before anything is made for their container.

    Returns:
        The options with the path of ``cgroup_parent`` made absolute.

    Raises:
        PycontainError: as for ``resources``; a cgroup's path or an oom score that cannot be.
    """
    score = options.oom_score_adj
    if score is not None and not -1000 <= score <= 1000:
        raise InvalidInput(f"--oom-score-adj {score}: must be from -1000 to 1000")
    parent = specs.cgroup_parent(options.cgroup_parent or "")
    if rootless and parent:
        raise NotSupported("make cgroup", f"{parent} (an ordinary user has none)", errno.EOPNOTSUPP)
    resources(options, rootless=rootless)
    return msgspec.structs.replace(options, cgroup_parent=parent)


def changed(container: Container, changes: Limits) -> Container:
    """Return the container with other limits.

    Raises:
        InvalidInput: nothing is said, or the limits together cannot be.
    """
    merged = rules.merged(container.options, changes)
    if not merged:
        raise InvalidInput("no limit is given", "pycontain update --help lists them")
    options = msgspec.structs.replace(container.options, **merged)
    rules.check(options)
    return msgspec.structs.replace(container, options=options)


def apply(container: Container, changes: Limits, *, running: bool, rootless: bool) -> None:
    """Bring the cgroup to the limits of `container`, as far as `changes` concern it.

    Raises:
        Conflict: more memory is in use, and cannot be reclaimed.
        InvalidState: it has ended meanwhile.
        PycontainError: the limits cannot be kept; then they are as they were.
    """
    affected = rules.affected(container.options, changes)
    found = resources(affected, rootless=rootless, update=True)
    if not running:
        return
    path = cgroup_path(container.id, container.options.cgroup_parent)
    try:
        folder = cgroups.open_folder(path)
    except NotFound as err:
        raise InvalidState(f"container {container.name} is not running") from err
    try:
        cgroups.update(folder, found, reclaim=True)
    finally:
        os.close(folder)
