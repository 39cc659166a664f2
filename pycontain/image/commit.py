"""How the image of a recipe comes into the store: built, packed and committed.

Reproducible: entries sorted, no names of users, no time above SOURCE_DATE_EPOCH.

Source: OCI image-spec 1.1 (manifest.md, config.md, layer.md); pax(1) for extended attributes
(``SCHILY.xattr.``).
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from pycontain.errors import ImageError
from pycontain.image import documents, recipes, work
from pycontain.image.documents import Descriptor
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.image.store import Image, ImageStore
    from pycontain.store.layout import Layout

    Progress = Callable[[str], None]

# Labels of the builder's policy and marks of an overlay that the builder runs in.
_FOREIGN_XATTRS = ("security.selinux", "trusted.overlay.", "user.overlay.")


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
    work.install(f"{place}/tree", layout.layer(layer.digest))
    work.install(f"{place}/layer.tar", store.blobs.path(layer.digest))
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


class _HashingFile:
    """What tarfile writes to: hashes while writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


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
            output = _HashingFile(file)
            target = cast("BinaryIO", output)
            with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
                links: dict[tuple[int, int], str] = {}
                for name in _walk(tree):
                    _pack_entry(tar, tree, name, epoch, links)
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
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(info.st_mode)
    entry.uid = 0 if info.st_uid == os.geteuid() else info.st_uid
    entry.gid = 0 if info.st_gid == os.getegid() else info.st_gid
    inode = (info.st_dev, info.st_ino)
    if info.st_nlink > 1 and inode in links:
        entry.type, entry.linkname = tarfile.LNKTYPE, links[inode]
        return entry
    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        links[inode] = name
    _set_kind(entry, path, info)
    entry.pax_headers = _xattrs(path)
    return entry


def _set_kind(entry: tarfile.TarInfo, path: str, info: os.stat_result) -> None:
    mode = info.st_mode
    if stat.S_ISREG(mode):
        entry.type, entry.size = tarfile.REGTYPE, info.st_size
    elif stat.S_ISDIR(mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISFIFO(mode):
        entry.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        entry.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
        entry.devmajor, entry.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
    else:
        raise ImageError(f"pack: {path}: a socket cannot be in a layer")


def _xattrs(path: str) -> dict[str, str]:
    """Return the extended attributes as pax records; tarfile writes bytes through surrogates."""
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return {
        f"SCHILY.xattr.{name}": os.getxattr(path, name, follow_symlinks=False).decode(
            "utf-8", "surrogateescape"
        )
        for name in names
        if not name.startswith(_FOREIGN_XATTRS)
    }


def _tell(progress: Progress | None, line: str) -> None:
    if progress:
        progress(line)
