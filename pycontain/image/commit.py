"""How an image comes into the store: built, packed and committed, or undone.

Order of a commit: unpacked layer folder, blobs, ``index.json`` last and atomically. So whatever the
index names is there as a whole, after every kill and power cut. All happens under one lock, in a
folder of its own under ``work/``; a list of what is about to appear outside of it is written
there first, so that the next holder of the lock can undo what a killed one left half done.

Reproducible: entries sorted, no names of users, no time above SOURCE_DATE_EPOCH.

Source: OCI image-spec 1.1 (image-layout.md, manifest.md, config.md, layer.md); pax(1) for extended
attributes (``SCHILY.xattr.``).
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

from pycontain.errors import ImageError, NotFound
from pycontain.image import recipes
from pycontain.image.store import CONFIG_TYPE, INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE, REF_NAME
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.store.layout import Layout

    Progress = Callable[[str], None]

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_PENDING = "pending.json"
# Labels of the builder's policy and marks of an overlay that the builder runs in.
_FOREIGN_XATTRS = ("security.selinux", "trusted.overlay.", "user.overlay.")


class Blob(msgspec.Struct, frozen=True):
    """A blob's media type, digest (``sha256:…``) and size in bytes: an OCI descriptor."""

    mediaType: str  # noqa: N815 - the wire name
    digest: str
    size: int


@contextmanager
def locked(layout: Layout, progress: Progress | None) -> Iterator[files.Lock]:
    """Hold the lock of the image store's writers; tells `progress` when it has to wait.

    Raises:
        StoreError: the lock file cannot be made or locked.
    """
    lock = files.Lock(layout.images_lock)
    if not lock.acquire(wait=False):
        _tell(progress, "waiting for another build")
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def build(
    layout: Layout,
    reachable: Callable[[], set[str]],
    recipe: recipes.Recipe,
    tag: str,
    lock: files.Lock,
    progress: Progress | None,
) -> None:
    """Build `tag` of `recipe` and commit it under all names of its variant.

    Args:
        layout: of a prepared store.
        reachable: returns the digests that the index leads to, to know what may be undone.
        recipe: of the image.
        tag: a declared tag.
        lock: the held lock of ``locked``.
        progress: is given one line of text at a time.

    Raises:
        ImageError: the recipe failed.
        StoreError: a file cannot be written.
    """
    epoch = recipes.source_date_epoch()
    recover(layout, reachable)
    work = f"{layout.work}/image-{os.getpid()}-{os.urandom(4).hex()}"
    files.make_folder(work)
    try:
        _tell(progress, f"building {recipe.name}:{tag}")
        tree = f"{work}/tree"
        files.make_folder(tree, 0o755)
        recipes.build(recipe, tag, tree, epoch=epoch, lock=lock.fileno(), progress=progress)
        _tell(progress, "packing the layer")
        layer = pack(tree, f"{work}/layer.tar", epoch)
        digest = _commit(layout, work, layer, recipe, tag, epoch)
        _tell(progress, f"stored {recipe.name}:{tag} as {digest}")
    finally:
        _undo(layout, work, reachable)


def recover(layout: Layout, reachable: Callable[[], set[str]]) -> None:
    """Undo what killed builds left. The lock must be held.

    Raises:
        StoreError: a file cannot be read or removed.
    """
    for name in os.listdir(layout.work):
        _undo(layout, f"{layout.work}/{name}", reachable)
    files.sweep(layout.images)
    files.sweep(f"{layout.images}/blobs/sha256")


def _undo(layout: Layout, work: str, reachable: Callable[[], set[str]]) -> None:
    try:
        pending = files.load(f"{work}/{_PENDING}", list[str])
    except NotFound:
        pending = []
    kept = reachable() if pending else set()
    for path in pending:
        if f"sha256:{os.path.basename(path)}" not in kept:
            files.remove_tree(f"{layout.root}/{path}")
    files.remove_tree(work)


def _commit(
    layout: Layout, work: str, layer: Blob, recipe: recipes.Recipe, tag: str, epoch: int
) -> str:
    config = _configuration(recipe, tag, layer, epoch)
    config_blob = _blob(CONFIG_TYPE, config)
    manifest = _manifest(config_blob, layer)
    manifest_blob = _blob(MANIFEST_TYPE, manifest)

    blobs = f"{layout.images}/blobs/sha256"
    files.make_folder(f"{layout.images}/blobs")
    files.make_folder(blobs)
    files.write_atomic(f"{layout.images}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')
    folder = layout.layer(layer.digest)
    tar = f"{blobs}/{_hex(layer)}"
    paths = [folder, tar, f"{blobs}/{_hex(config_blob)}", f"{blobs}/{_hex(manifest_blob)}"]
    pending = [os.path.relpath(path, layout.root) for path in paths if not os.path.lexists(path)]
    files.write_atomic(f"{work}/{_PENDING}", files.dump(pending))
    # The tree has thousands of files: one sync(2) costs less than an fsync(2) for each.
    os.sync()
    _install(f"{work}/tree", folder)
    _install(f"{work}/layer.tar", tar)
    files.write_atomic(f"{blobs}/{_hex(config_blob)}", config)
    files.write_atomic(f"{blobs}/{_hex(manifest_blob)}", manifest)
    _add_to_index(f"{layout.images}/index.json", manifest_blob, recipe.aliases(tag))
    return config_blob.digest


def _install(source: str, target: str) -> None:
    """Rename `source` to `target`, unless that is there: its name is the digest of its content."""
    if os.path.lexists(target):
        return
    try:
        os.rename(source, target)
        files.sync_folder(os.path.dirname(target))
    except OSError as err:
        raise files.store_error("commit", target, err) from err


def _configuration(recipe: recipes.Recipe, tag: str, layer: Blob, epoch: int) -> bytes:
    machine = os.uname().machine
    created = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "created": created,
        "architecture": _MACHINES.get(machine, machine),
        "os": "linux",
        "config": recipe.config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created": created, "created_by": f"recipe {recipe.name} {recipe.tags[tag]}"}],
    }
    return msgspec.json.encode(document)


def _manifest(config: Blob, layer: Blob) -> bytes:
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
    return msgspec.json.encode(document)


def _blob(media_type: str, data: bytes) -> Blob:
    return Blob(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def _hex(blob: Blob) -> str:
    return blob.digest.removeprefix("sha256:")


def _add_to_index(path: str, blob: Blob, names: list[str]) -> None:
    try:
        index = files.load(path, dict[str, Any])
    except NotFound:
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    index["manifests"] = renamed(index["manifests"], blob, names)
    files.write_atomic(path, files.dump(index))


def renamed(manifests: list[dict[str, Any]], blob: Blob, names: list[str]) -> list[dict[str, Any]]:
    """Return the descriptors of an index after `names` were given to `blob`.

    An image that loses its last name stays, without one. Fields that are not known are kept.
    """
    kept: list[dict[str, Any]] = []
    nameless: list[dict[str, Any]] = []
    for item in manifests:
        annotations = item.get("annotations") or {}
        if annotations.get(REF_NAME) in names:
            rest = {key: text for key, text in annotations.items() if key != REF_NAME}
            nameless.append({**item, "annotations": rest})
        else:
            kept.append(item)
    known = {item["digest"] for item in kept} | {blob.digest}
    kept += [item for item in nameless if item["digest"] not in known]
    new = cast("dict[str, Any]", msgspec.to_builtins(blob))
    return kept + [{**new, "annotations": {REF_NAME: name}} for name in names]


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


def pack(tree: str, path: str, epoch: int) -> Blob:
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
    return Blob(LAYER_TYPE, output.digest, output.size)


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
