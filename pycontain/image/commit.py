"""How the image of a recipe comes into the store: built, packed and committed.

Reproducible: entries sorted, no names of users, no time above SOURCE_DATE_EPOCH.

Source: OCI image-spec 1.1 (manifest.md, config.md, layer.md); pax(1) for extended attributes
(``SCHILY.xattr.``).
"""

from __future__ import annotations

import datetime
import os
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from pycontain.errors import ImageError
from pycontain.image import documents, packing, recipes, work
from pycontain.image.documents import Descriptor
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.image.store import Image, ImageStore
    from pycontain.store.layout import Layout

    Progress = Callable[[str], None]


@contextmanager
def locked(layout: Layout, progress: Progress | None) -> Iterator[files.Lock]:
    """Hold the lock of those who build images; tells `progress` when it has to wait.

    Raises:
        StoreError: the lock file cannot be made or locked.
    """
    lock = files.Lock(layout.build_lock)
    if not lock.acquire(wait=False):
        _tell(progress, "waiting for another build")
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def build(
    layout: Layout,
    store: ImageStore,
    recipe: recipes.Recipe,
    tag: str,
    lock: files.Lock,
    progress: Progress | None,
) -> Image:
    """Build `tag` of `recipe`, commit it under all names of its variant, and return it.

    Args:
        layout: of a prepared store.
        store: of that layout; the caller is in its ``using``.
        recipe: of the image.
        tag: a declared tag.
        lock: the held lock of ``locked``.
        progress: is given one line of text at a time.

    Raises:
        ImageError: the recipe failed.
        StoreError: a file cannot be written.
    """
    epoch = recipes.source_date_epoch()
    with work.folder(layout) as (place, mine):
        _tell(progress, f"building {recipe.name}:{tag}")
        tree = f"{place}/tree"
        files.make_folder(tree, 0o755)
        # Both locks are the script's too: they stay held until the last of its processes has gone.
        held = (lock.fileno(), mine.fileno())
        recipes.build(recipe, tag, tree, epoch=epoch, locks=held, progress=progress)
        _tell(progress, "packing the layer")
        layer = pack(tree, f"{place}/layer.tar", epoch)
        image = _commit(layout, store, place, layer, recipe, tag, epoch)
        _tell(progress, f"stored {recipe.name}:{tag} as {image.id}")
        return image


def _commit(
    layout: Layout,
    store: ImageStore,
    place: str,
    layer: Descriptor,
    recipe: recipes.Recipe,
    tag: str,
    epoch: int,
) -> Image:
    store.blobs.prepare()
    # The tree has thousands of files: one sync(2) costs less than an fsync(2) for each.
    os.sync()
    work.install((f"{place}/tree", layout.layer(layer.digest)))
    work.install((f"{place}/layer.tar", store.blobs.path(layer.digest)))
    config = _configuration(recipe, tag, layer, epoch)
    manifest = _manifest(config, layer)
    return store.add(manifest, documents.MANIFEST, config, recipe.aliases(tag))


def _configuration(recipe: recipes.Recipe, tag: str, layer: Descriptor, epoch: int) -> bytes:
    created = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "created": created,
        "architecture": documents.host_platform().architecture,
        "os": "linux",
        "config": recipe.config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created": created, "created_by": f"recipe {recipe.name} {recipe.tags[tag]}"}],
    }
    return msgspec.json.encode(document)


def _manifest(config: bytes, layer: Descriptor) -> bytes:
    described = Descriptor(
        media_type=documents.CONFIG, digest=documents.digest_of(config), size=len(config)
    )
    return documents.manifest_of(described, [layer])


def pack(tree: str, path: str, epoch: int) -> Descriptor:
    """Write the folder `tree` as a layer to the new file `path`, and set the times in `tree`.

    Times become whole seconds, at most `epoch`; the caller's own uid and gid become 0, so that an
    ordinary user's build has the digest that root's has. The folder itself has no entry.

    Raises:
        ImageError: a file is of a kind that a layer cannot hold.
        StoreError: `tree` cannot be read or `path` cannot be written.
    """
    try:
        with open(path, "xb") as file:
            output = packing.Output(file, gzip=False)
            target = cast("BinaryIO", output)
            with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
                links: dict[tuple[int, int], str] = {}
                for name in _walk(tree):
                    _pack_entry(tar, tree, name, epoch, links)
            output.finish()
        _clamp(tree, os.lstat(tree), epoch)
    except OSError as err:
        subject = err.filename if isinstance(err.filename, str) else path
        raise files.store_error("pack", subject, err) from err
    return Descriptor(media_type=documents.LAYER, digest=output.digest, size=output.size)


def _walk(tree: str, below: str = "") -> Iterator[str]:
    """Yield the names in `tree` relative to it, each folder before what is in it, sorted."""
    with os.scandir(os.path.join(tree, below)) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        relative = f"{below}/{name}" if below else name
        yield relative
        if is_folder:
            yield from _walk(tree, relative)


def _pack_entry(
    tar: tarfile.TarFile, tree: str, name: str, epoch: int, links: dict[tuple[int, int], str]
) -> None:
    path = os.path.join(tree, name)
    info = os.lstat(path)
    entry = _entry(path, name, info, links)
    entry.mtime = _clamp(path, info, epoch)
    if not entry.isreg():
        tar.addfile(entry)
        return
    with open(path, "rb", opener=_no_follow) as file:
        tar.addfile(entry, file)


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _clamp(path: str, info: os.stat_result, epoch: int) -> int:
    seconds = max(0, min(int(info.st_mtime), epoch))
    os.utime(path, (seconds, seconds), follow_symlinks=False)
    return seconds


def _entry(
    path: str, name: str, info: os.stat_result, links: dict[tuple[int, int], str]
) -> tarfile.TarInfo:
    entry = packing.header(name, info)
    if entry is None:
        raise ImageError(f"pack: {path}: a socket cannot be in a layer")
    entry.uid = 0 if info.st_uid == os.geteuid() else info.st_uid
    entry.gid = 0 if info.st_gid == os.getegid() else info.st_gid
    inode = (info.st_dev, info.st_ino)
    if info.st_nlink > 1 and inode in links:
        entry.type, entry.linkname = tarfile.LNKTYPE, links[inode]
        return entry
    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        links[inode] = name
    if entry.isreg():
        entry.size = info.st_size
    elif entry.issym():
        entry.linkname = os.readlink(path)
    entry.pax_headers = packing.attributes(path, follow=False)
    return entry


def _tell(progress: Progress | None, line: str) -> None:
    if progress:
        progress(line)
