"""A container's own layer over its image's, as overlayfs merges them, without mounting anything.

For what concerns the layers themselves: what a container has changed, also as the archive of a
layer, and its files without what is mounted over them. The upper layer of a running container is
only read here: unlike a second mount, that is allowed (Documentation/filesystems/overlayfs.rst,
"Changes to underlying filesystems").

What overlayfs writes: a deleted name is a character device 0/0 (a whiteout), or an empty file with
the attribute ``whiteout`` in a folder whose ``opaque`` is x; a folder that took the place of
another has ``opaque`` y; one that was renamed has ``redirect``, which says what its lower part is
called.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Literal, NamedTuple

from pycontain.engine import roots
from pycontain.engine.copying import DEPTH
from pycontain.engine.folders import Folder, as_path
from pycontain.errors import InvalidInput, kernel_error
from pycontain.kernel import mount
from pycontain.kernel.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from tarfile import TarInfo
    from types import TracebackType
    from typing import BinaryIO, Self

    from pycontain.engine.containers import View
    from pycontain.image.packing import Packer
    from pycontain.store.layout import Layout

Kind = Literal["A", "C", "D"]

# Mount points of ours, made at the first start: nobody changed them.
OURS = frozenset(
    ("/dev", "/dev/init", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys")
)
ROOT_MODE = 0o755
"""Of a new container's own layer."""

# Where those are made, whose time of change that is.
_ABOVE_OURS = frozenset(("/etc",))


class Change(NamedTuple):
    """One changed path: ``A`` added, ``C`` changed, ``D`` deleted."""

    kind: Kind
    path: str


class Layers:
    """The two roots that a container's files are merged of.

    Attributes:
        upper: descriptor of the container's own layer.
        lower: of the image's layers, stacked.
        prefix: of overlay's attributes.
    """

    def __init__(self, upper: int, lower: int, prefix: str) -> None:
        self.upper = upper
        self.lower = lower
        self.prefix = prefix

    def merged(self) -> Merged:
        """Return the root, merged."""
        upper = Folder.of(self.upper)
        try:
            return Merged(self, upper, Folder.of(self.lower))
        except BaseException:
            upper.close()
            raise


@contextlib.contextmanager
def opened(look: Callable[[], View], layout: Layout, *, rootless: bool) -> Iterator[Layers]:
    """Open the layers of a container, which is not removed meanwhile.

    Args:
        look: returns the container.
        layout: of the store.
        rootless: overlay's attributes are ``user.`` ones.

    Raises:
        NotFound: there is no such container.
        KernelError: a layer cannot be opened.
    """
    view = look()
    with contextlib.ExitStack() as stack:
        stack.callback(roots.hold(view, shared=True).release)
        if not os.path.exists(view.paths.document):
            view = look()  # which says that it is gone
        layers = [layout.layer(layer) for layer in view.container.layers]
        lower = mount.stack(layers, user_xattr=rootless)
        stack.callback(os.close, lower)
        try:
            upper = os.open(view.paths.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            raise kernel_error("open layer", view.paths.upper, err.errno or 0) from err
        stack.callback(os.close, upper)
        yield Layers(upper, lower, "user.overlay." if rootless else "trusted.overlay.")


class Merged:
    """A folder of the merged tree; a ``folders.Source``.

    Attributes:
        upper: its part in the upper layer, if it has one.
        lower: its part in the lower one, if that is seen.
        plain: the lower part is the one of the same path.
    """

    def __init__(
        self, layers: Layers, upper: Folder | None, lower: Folder | None, *, plain: bool = True
    ) -> None:
        self._layers = layers
        self.upper = upper
        self.lower = lower
        self.plain = plain

    def close(self) -> None:
        """Close its descriptors."""
        for folder in (self.upper, self.lower):
            if folder is not None:
                folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def own(self) -> dict[str, bool]:
        """Return what the upper layer says of this folder: name → whether it is there at all."""
        found: dict[str, bool] = {}
        for name in [] if self.upper is None else self.upper.entries():
            fd = _look(self.upper, name)
            if fd is not None:
                found[name] = not self._is_whiteout(fd)
                os.close(fd)
        return found

    def _is_whiteout(self, fd: int) -> bool:
        info = os.fstat(fd)
        if stat.S_ISREG(info.st_mode) and not info.st_size and self.upper is not None:
            prefix = self._layers.prefix
            return (
                _attribute(fd, f"{prefix}whiteout") is not None
                and _attribute(self.upper.fd, f"{prefix}opaque") == b"x"
            )
        return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0

    def entries(self) -> list[str]:
        """Return the names in it, sorted."""
        own = self.own()
        below = [] if self.lower is None else self.lower.entries()
        return sorted({name for name in (*own, *below) if own.get(name, True)})

    def look(self, name: str) -> int:
        """Return an O_PATH descriptor of what stands at a name, a link itself."""
        fd = _look(self.upper, name)
        if fd is None:
            if self.lower is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            return self.lower.look(name)
        if self._is_whiteout(fd):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return fd

    def enter(self, name: str) -> Merged:
        """Return the folder at a name.

        Raises:
            OSError: ENOTDIR where there is something else.
        """
        fd = _look(self.upper, name)
        if fd is None:
            if self.lower is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            return Merged(self._layers, None, self.lower.enter(name), plain=self.plain)
        try:
            upper = Folder.of(fd)
            try:
                lower, plain = self._lower_part(fd, name)
            except BaseException:
                upper.close()
                raise
            return Merged(self._layers, upper, lower, plain=plain)
        finally:
            os.close(fd)

    def _lower_part(self, fd: int, name: str) -> tuple[Folder | None, bool]:
        """What of the lower layer is seen below the upper folder at `name`."""
        if _attribute(fd, f"{self._layers.prefix}opaque") == b"y":
            return None, False
        redirect = _attribute(fd, f"{self._layers.prefix}redirect")
        if redirect is None:
            return _enter(self.lower, name), self.plain
        target = os.fsdecode(redirect)
        if not target.startswith("/"):
            return _enter(self.lower, target), False
        try:
            return Folder(
                open_in_root(self._layers.lower, target, os.O_RDONLY | os.O_DIRECTORY)
            ), False
        except (FileNotFoundError, NotADirectoryError):
            return None, False


def _look(folder: Folder | None, name: str) -> int | None:
    if folder is None:
        return None
    try:
        return folder.look(name)
    except FileNotFoundError:
        return None


def _enter(folder: Folder | None, name: str) -> Folder | None:
    if folder is None:
        return None
    try:
        return folder.enter(name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _attribute(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(as_path(fd), name)
    except OSError as err:
        if err.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


# ---- diff ----


def changes(layers: Layers, ours: frozenset[str] = OURS) -> list[Change]:
    """Return what is different from the image, sorted by path.

    A folder is changed where its owner, mode or time is, or something in it. Of a deleted folder
    the content is not told, of an added one it is.

    Args:
        layers: to be compared.
        ours: paths that nobody changed as long as there is nothing in them.
    """
    with layers.merged() as merged, Folder.of(layers.lower) as base:
        return sorted(_Comparison(ours).below(merged, base, ""), key=lambda change: change.path)


class _Comparison:
    def __init__(self, ours: frozenset[str]) -> None:
        self._ours = ours

    def below(self, merged: Merged, base: Folder | None, path: str) -> Iterator[Change]:
        """The changes in a folder; `base` is the folder of the same path in the image, if any."""
        if path.count("/") > DEPTH:
            raise InvalidInput(f"compare {path[:60]}…: more than {DEPTH} folders deep")
        own = merged.own()
        if merged.plain:
            shown = [name for name, there in own.items() if there]
            gone = [name for name, there in own.items() if not there and _has(base, name)]
        else:
            shown = merged.entries()
            gone = [] if base is None else [n for n in base.entries() if n not in set(shown)]
        for name in gone:
            yield Change("D", f"{path}/{name}")
        for name in shown:
            yield from self._entry(merged, base, name, f"{path}/{name}")

    def _entry(self, merged: Merged, base: Folder | None, name: str, path: str) -> Iterator[Change]:
        try:
            fd = merged.look(name)
        except FileNotFoundError:
            return  # removed since the folder was listed
        try:
            info = os.fstat(fd)
        finally:
            os.close(fd)
        old = _stat(base, name)
        if not stat.S_ISDIR(info.st_mode):
            if path not in self._ours or info.st_size or old is not None:
                yield Change("A" if old is None else "C", path)
            return
        inside = self._inside(merged, base, name, path)
        if old is None:
            if inside or not self._is_ours(path):
                yield Change("A", path)
        elif inside or not self._same(info, old, path):
            yield Change("C", path)
        yield from inside

    def _same(self, info: os.stat_result, old: os.stat_result, path: str) -> bool:
        """Whether a folder is as it was, but for what is in it."""
        if (info.st_mode, info.st_uid, info.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
            return False
        if info.st_mtime_ns == old.st_mtime_ns:
            return True
        return self._is_ours(path)

    def _is_ours(self, path: str) -> bool:
        return path in self._ours or (bool(self._ours) and path in _ABOVE_OURS)

    def _inside(self, merged: Merged, base: Folder | None, name: str, path: str) -> list[Change]:
        try:
            entered = merged.enter(name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        with entered, contextlib.ExitStack() as stack:
            under = _enter(base, name)
            if under is not None:
                stack.callback(under.close)
            return list(self.below(entered, under, path))


def _has(folder: Folder | None, name: str) -> bool:
    return _stat(folder, name) is not None


def _stat(folder: Folder | None, name: str) -> os.stat_result | None:
    fd = _look(folder, name)
    if fd is None:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


# ---- export ----


def export(layers: Layers, file: BinaryIO) -> int:
    """Write the merged tree as a tar archive; what is mounted over it is not in it.

    Args:
        layers: of the container.
        file: a blocking stream.

    Returns:
        How many bytes it has.

    Raises:
        BrokenPipeError: whoever reads it has gone.
        KernelError: a file cannot be read, or the archive not be written.
    """
    from pycontain.engine.archive import Writer

    writer = Writer(file)
    with layers.merged() as merged:
        writer.add_content(merged, "")
    return writer.finish()


# ---- a layer of its own ----


def pack(layers: Layers, packer: Packer) -> None:
    """Write what a container has changed as a layer's archive (OCI image-spec, layer.md).

    A folder that was renamed has all its content, since a layer cannot say where it comes from.
    Sockets are left out.

    Args:
        layers: of the container.
        packer: of the archive, which is not finished here.

    Raises:
        ImageError: a file is called like a mark of a layer.
        InvalidInput: more folders within folders than there may be.
        KernelError: a file cannot be read.
    """
    with layers.merged() as merged, Folder.of(layers.lower) as base:
        _Packing(packer).root(merged, base)


class _Packing:
    """One layer on its way out. Folders that may be there for mount points alone wait."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._waiting: list[TarInfo] = []

    def root(self, merged: Merged, base: Folder) -> None:
        assert merged.upper is not None
        with _telling("/"):
            own = self._packer.entry(merged.upper.fd, "./")
            # The engine makes it so, whatever the image's is.
            if own is not None and _dress(own) != (ROOT_MODE, os.geteuid(), os.getegid(), {}):
                self._packer.put(own)
        self.below(merged, base, "")

    def below(self, merged: Merged, base: Folder | None, path: str) -> None:
        """Write what is in a folder; `base` is the folder of the same path in the image, if any."""
        if path.count("/") > DEPTH:
            raise InvalidInput(f"pack {path[:60]}…: more than {DEPTH} folders deep")
        own = merged.own() if merged.plain else dict.fromkeys(merged.entries(), True)
        for name, there in sorted(own.items()):
            self._packer.check_name(name, f"{path}/{name}")
            with _telling(f"{path}/{name}"):
                if there:
                    self._add(merged, base, name, f"{path}/{name}")
                else:
                    self._release()
                    self._packer.hide(f"{path}/"[1:], name)

    def _add(self, merged: Merged, base: Folder | None, name: str, path: str) -> None:
        try:
            fd = merged.look(name)
        except FileNotFoundError:
            return  # removed since the folder was listed
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                self._folder(merged, base, name, path, fd)
            elif path not in OURS or info.st_size or _has(base, name):
                self._release()
                self._packer.add(fd, path[1:])
        finally:
            os.close(fd)

    def _folder(self, merged: Merged, base: Folder | None, name: str, path: str, fd: int) -> None:
        try:
            entered = merged.enter(name)
        except (FileNotFoundError, NotADirectoryError):
            return  # replaced since we looked
        with entered, contextlib.ExitStack() as stack:
            under = _enter(base, name)
            if under is not None:
                stack.callback(under.close)
            entry = self._packer.entry(fd, path[1:])
            assert entry is not None
            self._waiting.append(entry)
            if not self._is_ours(entry, under, path):
                self._release()
                # Inside of a folder of which it is said already it is not said again.
                if merged.plain and not entered.plain and _has(base, name):
                    self._packer.hide_content(f"{path}/"[1:])
            self.below(entered, under, path)
            if self._waiting:
                self._waiting.pop()

    def _is_ours(self, entry: TarInfo, under: Folder | None, path: str) -> bool:
        """Whether a folder may be in the upper layer because of mount points alone."""
        if under is None:
            return path in OURS or path in _ABOVE_OURS
        if path not in _ABOVE_OURS:
            return False
        old = self._packer.entry(under.fd, entry.name)
        return old is not None and _dress(entry) == _dress(old)

    def _release(self) -> None:
        """Write the folders that wait: there is something in them."""
        for entry in self._waiting:
            self._packer.put(entry)
        self._waiting.clear()


def _dress(entry: TarInfo) -> tuple[object, ...]:
    """What of a folder's entry anybody can have changed but by making files in it."""
    records = {name: value for name, value in entry.pax_headers.items() if name != "mtime"}
    return entry.mode, entry.uid, entry.gid, records


@contextlib.contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise kernel_error("pack", path, err.errno or 0) from err
