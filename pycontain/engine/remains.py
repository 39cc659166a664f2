"""The names that containers hold, and what killed commands left of containers.

Owns the order in which a container is taken apart: killed at any moment, it is still there to be
removed, or its folder is one that anybody may finish removing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.engine import connections, names, records
from pycontain.errors import Conflict, KernelError, NotFound, PycontainError, StoreError
from pycontain.kernel import cgroup
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.store.layout import ContainerPaths, Layout

_LOCK = "container-"  # before the id, as Layout.container has it
_REMOVED = ".removed-"  # before the id: the folder of a container that is being removed


# ---- names ----


def claim(layout: Layout, wanted: str | None, identity: str, *, durable: bool) -> str:
    """Claim a name for a container, and return it.

    Args:
        layout: of the store.
        wanted: None is one that is made up.
        identity: of the container.
        durable: the claim is on disk when this returns.

    Raises:
        Conflict: another container or a pod has it.
        StoreError: the claim cannot be written, or another's is damaged.
    """
    attempt = 0
    while True:
        name = wanted if wanted is not None else names.generate(attempt)
        try:
            files.claim(layout.name(name), identity, durable=durable)
        except Conflict:
            other = holder(layout, name)
            if other is None:
                continue
            if other == identity:
                return name  # claimed by a `rename` that was killed
            if wanted is not None:
                raise _is_taken(name, other, is_pod=layout.has_pod(other)) from None
            attempt += 1
        else:
            return name


def _is_taken(name: str, other: str, *, is_pod: bool) -> Conflict:
    title = f'the container name "/{name}" is already in use by'
    if is_pod:
        return Conflict(f'{title} pod "{other}"', "remove that pod, or use another name")
    hint = "remove or rename that container, or use another name"
    return Conflict(f'{title} container "{other}"', hint)


def holder(layout: Layout, name: str) -> str | None:
    """Return the id of the container or pod that holds `name`; None where nobody does.

    A claim that a killed command has left is removed.

    Raises:
        StoreError: the claim is damaged.
    """
    path = layout.name(name)
    try:
        identity = files.read_word(path)
    except NotFound:
        return None
    if not records.is_id(identity):
        raise StoreError(f"container name {name}: {path}: damaged: not an id", "remove that file")
    if layout.has_pod(identity):
        from pycontain.engine import sandbox

        if sandbox.has_name(layout, identity, name):
            return identity
    paths = layout.container(identity)
    if records.exists(paths) and is_called(paths, name):
        return identity
    lock = files.Lock(paths.lock)
    if not lock.acquire(wait=False):
        return identity  # being made, or renamed
    there = records.exists(paths)
    try:
        if there and is_called(paths, name):
            return identity
        if not there:
            erase(layout, identity)
        if _claimed_by(path) == identity:  # nobody else's, who was faster
            files.remove(path)
    finally:
        lock.release() if there else drop_lock(lock)
    return None


def _claimed_by(path: str) -> str:
    """The id that a claim says; empty where there is none."""
    try:
        return files.read_word(path)
    except NotFound:
        return ""


def is_called(paths: ContainerPaths, name: str) -> bool:
    """Whether this is a container's present name; one that cannot be read may be called so.

    A claim alone does not say it: `rename` claims the new name before the document has it, and
    gives up the old one after that.
    """
    try:
        return records.load(paths).name == name
    except NotFound:
        return False
    except StoreError:
        return True


def _release(layout: Layout, name: str, identity: str) -> None:
    """Give a name up, unless another has it: a power cut may bring a removed container back."""
    path = layout.name(name)
    try:
        other = files.read_word(path)
    except NotFound:
        return
    if other == identity or not records.is_id(other):
        files.remove(path)


def _claims_of(layout: Layout, identity: str) -> set[str]:
    """The names that hold an id, where its document does not say it (any more)."""
    found = set()
    for name in os.listdir(layout.names):
        try:
            if files.read_word(layout.name(name)) == identity:
                found.add(name)
        except PycontainError:
            continue
    return found


# ---- remains ----


def sweep(layout: Layout, known: set[str], called: set[str]) -> None:
    """Finish what killed commands left half made or half removed.

    Those of `known` have documents, and they are `called` so.

    The lock file of a container is the first that is made of it and the last that is removed;
    after a reboot its folder tells, which is renamed before its content goes.
    """
    folders = os.listdir(layout.containers)
    half = {name.removeprefix(_REMOVED) for name in folders}
    locks = os.listdir(layout.locks)
    half |= {name.removeprefix(_LOCK) for name in locks if name.startswith(_LOCK)}
    for identity in half - known:
        if records.is_id(identity):
            _sweep_one(layout, identity)
    files.sweep(layout.names)
    for name in set(os.listdir(layout.names)) - called:
        if not files.is_temporary(name):
            _sweep_claim(layout, name)
    for folder in (layout.cache, layout.state, layout.networks, layout.state_networks):
        files.sweep(folder)


def _sweep_one(layout: Layout, identity: str) -> None:
    lock = files.Lock(layout.container(identity).lock)
    if not lock.acquire(wait=False):
        return  # it is being made or removed right now
    try:
        if not records.exists(layout.container(identity)):
            erase(layout, identity)
    finally:
        drop_lock(lock)


def _sweep_claim(layout: Layout, name: str) -> None:
    try:
        holder(layout, name)
    except StoreError:
        return  # damaged: whoever wants the name is told


def erase(layout: Layout, identity: str, *, volumes: bool = False) -> None:
    """Remove all traces of a container that does not run; the lock is held.

    With `volumes` also its anonymous ones; which, is written down before, for whoever finishes
    this.

    The cgroup first, the name last but the folder's content: killed in between, the container
    is still there to be removed, or its folder is one that anybody may finish removing.
    """
    paths = layout.container(identity)
    remove_cgroup(layout, identity)
    connections.leave(layout, identity)
    files.remove_tree(paths.state_folder)
    try:
        container = records.load(paths)
        claims = {container.name}
        if volumes:
            records.note_release(paths, container)
    except PycontainError:
        claims = _claims_of(layout, identity)
    removed = f"{layout.containers}/{_REMOVED}{identity}"
    files.set_aside(paths.folder, removed)
    for name in claims:
        _release(layout, name, identity)
    volumes_of_it = records.to_release(removed)
    if volumes_of_it:
        from pycontain.engine.volumes import Volumes

        Volumes(layout).release(volumes_of_it)
    files.remove_tree(removed)


def remove_cgroup(layout: Layout, identity: str) -> None:
    """Remove the cgroups of a container, and kill what is in them.

    Raises:
        KernelError: they cannot be removed.
    """
    try:
        root = cgroup.open_root()
    except KernelError:
        return  # no cgroup2 here, so none was made
    try:
        for path in _cgroups(layout, identity):
            cgroup.remove(root, path)
    finally:
        os.close(root)


def _cgroups(layout: Layout, identity: str) -> Iterator[str]:
    """The cgroups of a container, below the root; the one of ``--cgroup-parent`` first."""
    paths = layout.container(identity)
    try:
        parent = records.load(paths).options.cgroup_parent
    except NotFound:
        parent = None  # half made: it never ran
    except StoreError:
        parent = records.planned_parent(paths)
    if parent:
        yield f"{parent}/{identity}".removeprefix("/")
    yield f"pycontain/{identity}"


def drop_lock(lock: files.Lock) -> None:
    """Release a lock whose object is gone, and its file with it."""
    files.remove(lock.path)
    lock.release()
