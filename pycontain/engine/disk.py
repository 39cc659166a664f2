"""What the store takes on disk, and giving back what nobody uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import InvalidInput, InvalidState, NotFound, PycontainError
from pycontain.model.parse.times import parse_time
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontain.engine import Engine
    from pycontain.engine.containers import View
    from pycontain.engine.images import Removal
    from pycontain.engine.volumes import VolumeUse
    from pycontain.image.store import Image
    from pycontain.store.layout import Layout

    Labels = dict[str, str]

_ACTIVE = ("running", "paused", "restarting")
_NEVER = 1 << 63  # nanoseconds; later than any time
_BLOCK = 512  # bytes; st_blocks of stat(2), whatever the file system's own
_REBASE = 2000  # characters of a path after which it is begun anew at a descriptor (PATH_MAX)
_DEEPEST = 100  # such descriptors that are open at a time: who makes the tree says how many


class Part(NamedTuple):
    """One kind of what is in the store.

    Attributes:
        total, active: how many there are, and are in use.
        size, reclaimable: bytes, of all and of those that are not in use.
    """

    total: int
    active: int
    size: int
    reclaimable: int


class ImageUse(NamedTuple):
    """What one image takes; bytes. `shared` is of layers that other images have too."""

    image: Image
    size: int
    shared: int
    containers: int


class ContainerUse(NamedTuple):
    """What one container takes; bytes.

    Attributes:
        writable: what it has written to its root.
        log: with the rotated ones.
        volumes: one for each volume that lies in its own folder, as an earlier version had it.
    """

    view: View
    writable: int
    log: int
    volumes: tuple[int, ...]


class Usage(NamedTuple):
    """What the store takes."""

    images: tuple[ImageUse, ...]
    containers: tuple[ContainerUse, ...]
    volumes: tuple[VolumeUse, ...]
    image_part: Part
    container_part: Part
    volume_part: Part
    cache_part: Part


def usage(engine: Engine, problems: list[PycontainError]) -> Usage:
    """Measure the store.

    Args:
        engine: over it, in this process.
        problems: gets an error for each container that cannot be read.
    """
    layout = engine.layout
    views = engine.containers.list(all=True, problems=problems)
    images = tuple(_image_uses(engine, views))
    containers = tuple(_container_use(view) for view in views)
    more: list[PycontainError] = []
    volumes = tuple(engine.volumes.usage(more, measure=True))
    told = set(map(str, problems))  # of a damaged container both tell
    problems += [problem for problem in more if str(problem) not in told]
    return Usage(
        images,
        containers,
        volumes,
        _image_part(images, folder_size(layout.images) + folder_size(layout.layers), views),
        _container_part(layout, containers),
        _volume_part(containers, volumes),
        Part(
            len(_entries(layout.cache)) + len(_entries(layout.work)),
            len(_entries(layout.work)),
            folder_size(layout.cache) + folder_size(layout.work),
            folder_size(layout.cache),
        ),
    )


def _image_uses(engine: Engine, views: Sequence[View]) -> Iterator[ImageUse]:
    images = engine.images.list()
    counts: dict[str, int] = {}
    for image in images:
        for layer in image.layers:
            counts[layer] = counts.get(layer, 0) + 1
    sizes = {layer: folder_size(engine.layout.layer(layer)) for layer in counts}
    for image in images:
        layers = set(image.layers)
        yield ImageUse(
            image,
            sum(sizes[layer] for layer in layers),
            sum(sizes[layer] for layer in layers if counts[layer] > 1),
            sum(view.container.image_id == image.id for view in views),
        )


def _image_part(images: Sequence[ImageUse], size: int, views: Sequence[View]) -> Part:
    used = {layer for view in views for layer in view.container.layers}
    active = [use for use in images if use.containers]
    # an image is there twice: its layers unpacked, and packed as they came
    kept = sum(use.size + use.image.size for use in active if used.issuperset(use.image.layers))
    return Part(len(images), len(active), size, max(0, size - kept) if active else size)


def _container_use(view: View) -> ContainerUse:
    paths = view.paths
    folder, name = os.path.split(paths.log)
    log = sum(
        _file_size(f"{folder}/{entry}") for entry in _entries(folder) if entry.startswith(name)
    )
    volumes = tuple(folder_size(f"{paths.volumes}/{at}") for at in _entries(paths.volumes))
    return ContainerUse(view, folder_size(paths.upper), log, volumes)


def _container_part(layout: Layout, containers: Sequence[ContainerUse]) -> Part:
    sizes = [(use.writable + use.log, _is_in_use(layout, use.view)) for use in containers]
    return Part(
        len(sizes),
        sum(active for _, active in sizes),
        sum(size for size, _ in sizes),
        sum(size for size, active in sizes if not active),
    )


def _volume_part(containers: Sequence[ContainerUse], volumes: Sequence[VolumeUse]) -> Part:
    sizes = [(size, True) for use in containers for size in use.volumes]
    sizes += [(use.size or 0, bool(use.users)) for use in volumes]
    return Part(
        len(sizes),
        sum(used for _, used in sizes),
        sum(size for size, _ in sizes),
        sum(size for size, used in sizes if not used),
    )


# ---- giving back ----


def selection(pairs: Sequence[tuple[str, str]], now: int) -> Callable[[int, Labels], bool]:
    """Return what says whether ``--filter`` means something made at a time, with its labels.

    Args:
        pairs: ``until`` a time; ``label`` and ``label!``, each a label or a label and its value.
        now: nanoseconds since the epoch, as the times are.

    Raises:
        InvalidInput: an unknown name, or a time that is none.
    """
    moments = []
    wanted: list[tuple[str, str, str]] = []
    hated: list[tuple[str, str, str]] = []
    for name, value in pairs:
        if name == "until":
            moments.append(parse_time(value, now, "--filter until"))
        elif name == "label":
            wanted.append(value.partition("="))
        elif name == "label!":
            hated.append(value.partition("="))
        else:
            raise InvalidInput(f"invalid filter '{name}'", "there are label, label! and until")
    if len(moments) > 1:
        raise InvalidInput("more than one until filter specified")

    def is_meant(created: int, labels: Labels) -> bool:
        return (
            all(created < moment for moment in moments)
            and all(_has(labels, label) for label in wanted)
            and not any(_has(labels, label) for label in hated)
        )

    return is_meant


def _has(labels: Labels, label: tuple[str, str, str]) -> bool:
    name, equals, value = label
    return name in labels and (not equals or labels[name] == value)


def _is_in_use(layout: Layout, view: View) -> bool:
    options = view.container.options
    return view.status.state in _ACTIVE or (options.is_kept and layout.has_pod(options.pod))


def prune_containers(
    engine: Engine, is_meant: Callable[[int, Labels], bool], problems: list[PycontainError]
) -> tuple[list[str], int]:
    """Remove the containers that do not run, nor belong to a pod that is declared, which would make
    them again, and run them. Their volumes stay, as with docker.

    Args:
        engine: over the store, in this process.
        is_meant: see ``selection``.
        problems: gets an error for each that cannot be read or removed.

    Returns:
        The ids of those removed, and the bytes that were theirs.
    """
    removed = []
    size = 0
    for view in engine.containers.list(all=True, problems=problems):
        container = view.container
        labels = {**(container.config.labels or {}), **container.options.labels}
        if _is_in_use(engine.layout, view) or not is_meant(container.created, labels):
            continue
        taken = folder_size(view.paths.folder)
        try:
            engine.containers.remove(container.id)
        except (NotFound, InvalidState):
            continue  # somebody else removed or started it meanwhile
        except PycontainError as err:
            problems.append(err)
            continue
        removed.append(container.id)
        size += taken
    return removed, size


def prune_images(
    engine: Engine, is_meant: Callable[[int, Labels], bool], *, every: bool
) -> tuple[list[Removal], int]:
    """Remove the images that no container stands on.

    Args:
        engine: over the store, in this process.
        is_meant: see ``selection``.
        every: also those that have a name.

    Returns:
        What was removed, and its bytes.

    Raises:
        PycontainError: an image cannot be removed.
    """
    from pycontain.image.manifests import ManifestList

    def accept(image: Image | ManifestList) -> bool:
        if isinstance(image, ManifestList):
            return is_meant(_NEVER, {})  # nobody knows when a list was made
        return is_meant(image.created or 0, image.config.labels or {})

    removed, size = engine.images.prune(every=every, accept=accept)
    return list(removed), size


def image_obstacles(layout: Layout) -> list[PycontainError]:
    """Return an error for each image on whose account nothing of any image can be freed.

    Raises:
        StoreError: the index is damaged.
    """
    from pycontain.image import reach
    from pycontain.image.blobs import Blobs
    from pycontain.image.index import IndexFile

    return reach.obstacles(Blobs(layout), IndexFile(f"{layout.images}/index.json").entries())


def prune_cache(engine: Engine) -> tuple[list[str], int]:
    """Remove what is kept to be faster, compiled seccomp filters; whoever needs one makes it anew.

    Returns:
        The names of the files, and their bytes.

    Raises:
        StoreError: one cannot be removed.
    """
    folder = engine.layout.cache
    removed = []
    size = 0
    for name in sorted(_entries(folder)):
        if files.is_temporary(name):
            continue
        taken = _file_size(f"{folder}/{name}")
        if files.remove(f"{folder}/{name}"):
            removed.append(name)
            size += taken
    return removed, size


# ---- measuring ----


class _Base:
    """A folder's descriptor, closed with the last path that begins at it.

    Attributes:
        depth: how many there are above it.
    """

    def __init__(self, fd: int, depth: int) -> None:
        self.fd = fd
        self.depth = depth

    def __del__(self) -> None:
        os.close(self.fd)


def folder_size(path: str) -> int:
    """Return the bytes of all files below `path`, those with several names once; 0 without it.

    Sizes are as stat(2) has them, holes counted. What vanishes meanwhile is not counted. A tree may
    be deeper than a path can be long; what is some 200,000 characters deep is not counted.

    Raises:
        StoreError: a folder cannot be read.
    """
    return sum(info.st_size for info, is_folder in _below(path) if not is_folder)


def folder_space(path: str, enough: int) -> int:
    """Return the bytes that all below `path` takes on disk, as du(1) counts them; 0 without it.

    Folders count too. What vanishes meanwhile may be counted or not. Where something is some
    200,000 characters deep there is more than `enough`: it is to hide from being counted.

    Args:
        path: a folder.
        enough: as soon as there is more than this, it is not counted on.

    Raises:
        StoreError: a folder cannot be read.
    """
    total = 0
    try:
        for info, _ in _below(path, whole=True):
            total += info.st_blocks * _BLOCK
            if total > enough:
                break
    except _TooDeep:
        return enough + 1
    return total


class _TooDeep(Exception):
    """A folder is too deep to be looked at."""


def _below(path: str, *, whole: bool = False) -> Iterator[tuple[os.stat_result, bool]]:
    """Yield all that is below a folder, what has several names once, and whether it is a folder.

    What is too deep is passed over; with `whole` it raises `_TooDeep`.
    """
    seen: set[tuple[int, int]] = set()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    rest: list[tuple[_Base | None, str]] = [(None, path)]
    while rest:
        base, place = rest.pop()
        try:
            fd = os.open(place, flags, dir_fd=None if base is None else base.fd)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as err:
            raise files.store_error("measure", path, err) from err
        folder = _Base(fd, 0 if base is None else base.depth + 1)
        if folder.depth > _DEEPEST:
            if whole:
                raise _TooDeep
            continue
        deep = len(place) > _REBASE
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                    below = entry.is_dir(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if below:
                    rest.append((folder, entry.name) if deep else (base, f"{place}/{entry.name}"))
                elif info.st_nlink > 1:
                    if (info.st_dev, info.st_ino) in seen:
                        continue
                    seen.add((info.st_dev, info.st_ino))
                yield info, below
        del folder


def _file_size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _entries(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []
