"""Tar archives of layers: what stands at a descriptor becomes an entry.

Owns what an entry says: kind, owner, mode, times in full, devices, hard links, extended attributes,
holes. Whoever walks a tree hands over descriptors (O_PATH, open(2)): no name is resolved here, so
whatever is done to the tree meanwhile, an entry and its content are of one inode. A file that
becomes shorter while it is read ends in zeros, one that grows is cut: the archive stays whole.

Source: OCI image-spec 1.1, layer.md; pax(1); GNU tar's manual, "Storing Sparse Files" (PAX 1.0).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from typing import TYPE_CHECKING, NamedTuple, cast

from pycontain.errors import ImageError, kernel_error
from pycontain.kernel.paths import as_path, reopen

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pycontain.errors import PycontainError

    Attributes = dict[str, str]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
XATTR = "SCHILY.xattr."

FOREIGN = (
    "security.selinux", "security.SMACK64", "security.evm", "security.ima", "trusted.overlay.",
    "user.overlay.",
)  # fmt: skip
"""Attributes that belong to the machine, or that speak to overlayfs."""

_BUFFER = 1 << 20
_SECOND = 1_000_000_000
_BLOCK = 512
_LEVEL = 2  # of isal's three: the next is half as fast and saves a hundredth
_LEAST_HOLE = 32 << 10  # bytes of holes below which a file is written as it is
_MOST_REGIONS = 4096  # of data between holes; behind them holes are written as zeros
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


class Region(NamedTuple):
    """Bytes of a file that are no hole."""

    start: int
    length: int


# ---- entries ----


def header(name: str, info: os.stat_result) -> tarfile.TarInfo | None:
    """Return the entry of a file: kind, owner, mode, device; None for a socket, which has no form.

    Args:
        name: in the archive.
        info: of the file. Its size is not taken over, and its time not either.
    """
    kind = stat.S_IFMT(info.st_mode)
    if kind not in _TYPES:
        return None
    entry = tarfile.TarInfo(name)
    entry.type = _TYPES[kind]
    entry.mode = stat.S_IMODE(info.st_mode)
    entry.uid, entry.gid = info.st_uid, info.st_gid
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry.devmajor, entry.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
    return entry


def attributes(path: str, *, follow: bool = True) -> Attributes:
    """Return a file's extended attributes as pax records, sorted.

    What belongs to this machine is left out, and a name with ``=``, which pax has no form for.

    Args:
        path: of the file; of a descriptor ``kernel.paths.as_path``.
        follow: a link at the end of the path.

    Raises:
        OSError: listxattr(2)'s.
    """
    try:
        names = sorted(os.listxattr(path, follow_symlinks=follow))
    except OSError as err:
        if err.errno == errno.EOPNOTSUPP:
            return {}
        raise
    found: Attributes = {}
    for name in names:
        if name.startswith(FOREIGN) or "=" in name:
            continue
        value = _attribute(path, name, follow)
        if value is not None:
            found[XATTR + name] = value.decode("utf-8", "surrogateescape")
    return found


def attributes_of(fd: int) -> Attributes:
    """Return the extended attributes of an O_PATH descriptor; see ``attributes``."""
    return attributes(as_path(fd))


def _attribute(path: str, name: str, follow: bool) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError as err:
        if err.errno == errno.ENODATA:  # removed since they were listed
            return None
        raise


def _set_time(entry: tarfile.TarInfo, moment: int) -> None:
    """Set an entry's time, in nanoseconds: the record has the digits that the header has not."""
    entry.mtime = moment // _SECOND
    fraction = abs(moment) % _SECOND
    if fraction:
        sign = "-" if moment < 0 else ""
        entry.pax_headers = {
            **entry.pax_headers,
            "mtime": f"{sign}{abs(moment) // _SECOND}.{fraction:09d}",
        }


class Packer:
    """Writes one archive, entry by entry.

    Args:
        output: what the bytes go to.
        attributes: returns the extended attributes of a descriptor, as pax records.
        sparse: holes of files are left out. Not every reader knows that form, those of layers do.
    """

    def __init__(
        self, output: Output | Stream, attributes: Callable[[int], Attributes], *, sparse: bool
    ) -> None:
        self._output = output
        self._attributes = attributes
        self._sparse = sparse
        self._linked: dict[tuple[int, int], str] = {}
        self.entries = 0
        self._tar = tarfile.TarFile(
            fileobj=cast("BinaryIO", output), mode="w", format=tarfile.PAX_FORMAT,
            copybufsize=_BUFFER,
        )  # fmt: skip

    def entry(self, fd: int, name: str) -> tarfile.TarInfo | None:
        """Return the entry of an O_PATH descriptor without its content; None for a socket.

        Raises:
            OSError: it cannot be read.
        """
        return self._entry(fd, os.fstat(fd), name)

    def _entry(self, fd: int, info: os.stat_result, name: str) -> tarfile.TarInfo | None:
        entry = header(name, info)
        if entry is None:
            return None
        entry.pax_headers = self._attributes(fd)
        _set_time(entry, info.st_mtime_ns)
        if entry.issym():
            entry.linkname = os.readlink("", dir_fd=fd)
        return entry

    def add(self, fd: int, name: str) -> bool:
        """Write what is open at an O_PATH descriptor, of a folder the entry alone.

        Returns:
            False for a socket, of which nothing is written.

        Raises:
            OSError: it cannot be read.
        """
        info = os.fstat(fd)
        entry = self._entry(fd, info, name)
        if entry is None:
            return False
        if self._add_link(entry, info):
            return True
        if entry.isreg():
            self._add_file(entry, fd, info)
        else:
            self.put(entry)
        return True

    def _add_link(self, entry: tarfile.TarInfo, info: os.stat_result) -> bool:
        if info.st_nlink < 2 or entry.isdir():
            return False
        first = self._linked.setdefault((info.st_dev, info.st_ino), entry.name)
        if first == entry.name:
            return False
        entry.type, entry.linkname = tarfile.LNKTYPE, first
        self.put(entry)
        return True

    def _add_file(self, entry: tarfile.TarInfo, fd: int, info: os.stat_result) -> None:
        reader = reopen(fd, os.O_RDONLY)
        try:
            entry.size = info.st_size
            regions = [Region(0, info.st_size)]
            head = b""
            if self._sparse and info.st_blocks * _BLOCK + _LEAST_HOLE <= info.st_size:
                regions = data_regions(reader, info.st_size)
                if info.st_size - sum(region.length for region in regions) >= _LEAST_HOLE:
                    head = _describe_holes(entry, regions)
            self.put(entry, cast("BinaryIO", _Content(reader, regions, head)))
        finally:
            os.close(reader)

    def hide(self, folder: str, name: str) -> None:
        """Write that what the layers below have at a name is gone.

        Args:
            folder: in the archive, with a slash behind it; empty for the root.
            name: of what is gone.
        """
        self._mark(f"{folder}{WHITEOUT}{name}")

    def hide_content(self, folder: str) -> None:
        """Write that nothing is seen of what the layers below have in a folder; see ``hide``."""
        self._mark(f"{folder}{OPAQUE}")

    def _mark(self, name: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.mode = 0o600
        self.put(entry)

    def check_name(self, name: str, path: str) -> None:
        """Check that a file may be called `name` in a layer.

        Raises:
            ImageError: it would be read as a mark (layer.md, "Whiteouts").
        """
        if name.startswith(WHITEOUT):
            raise ImageError(
                f"pack layer: {path}: names that begin with {WHITEOUT} are marks of a layer",
                "rename or remove it",
            )

    def put(self, entry: tarfile.TarInfo, content: BinaryIO | None = None) -> None:
        """Write an entry that was made before."""
        self._tar.addfile(entry, content)
        # tarfile keeps all entries for random access.
        members: list[tarfile.TarInfo] = self._tar.__dict__["members"]
        members.clear()
        self.entries += 1

    def finish(self) -> None:
        """Write the end of the archive; without it a reader knows that it is not whole."""
        self._tar.close()
        self._output.flush()


# ---- holes ----


def data_regions(fd: int, size: int) -> list[Region]:
    """Return where in the first `size` bytes of a file there is data (lseek(2), SEEK_DATA)."""
    found: list[Region] = []
    at = 0
    while at < size and len(found) < _MOST_REGIONS:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as err:
            if err.errno != errno.ENXIO:
                raise
            return found  # a hole to the end
        if start >= size:
            return found
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        found.append(Region(start, at - start))
    if at < size:
        found.append(Region(at, size - at))
    return found


def _describe_holes(entry: tarfile.TarInfo, regions: list[Region]) -> bytes:
    """Make an entry that of a sparse file; return the map that its content begins with."""
    entry.pax_headers = {
        **entry.pax_headers, "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
        "GNU.sparse.name": entry.name, "GNU.sparse.realsize": str(entry.size),
    }  # fmt: skip
    told = regions
    if not regions or regions[-1].start + regions[-1].length < entry.size:
        told = [*regions, Region(entry.size, 0)]  # where the last hole ends
    numbers = [len(told), *(number for region in told for number in region)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    text += bytes(-len(text) % _BLOCK)
    entry.size = len(text) + sum(region.length for region in regions)
    return text


class _Content:
    """What an entry's content is read from: always as many bytes as the entry says."""

    def __init__(self, fd: int, regions: list[Region], head: bytes) -> None:
        self._fd = fd
        self._rest = regions[::-1]
        self._head = head

    def read(self, count: int) -> bytes:
        data, self._head = self._head[:count], self._head[count:]
        while len(data) < count and self._rest:
            start, length = self._rest.pop()
            taken = min(length, count - len(data))
            if taken < length:
                self._rest.append(Region(start + taken, length - taken))
            data += self._exactly(start, taken)
        return data

    def _exactly(self, start: int, count: int) -> bytes:
        data = os.pread(self._fd, count, start)
        while len(data) < count:
            more = os.pread(self._fd, count - len(data), start + len(data))
            if not more:
                return data + bytes(count - len(data))
            data += more
        return data


# ---- where the bytes go ----


class Stream:
    """Somebody's file: headers and small files are collected to larger writes.

    Not io.BufferedWriter, which would write the rest of a broken archive when it is thrown away.

    Args:
        file: blocking; stays open. Its errors leave as KernelError, BrokenPipeError as it is.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting = bytearray()
        self._done = 0

    def write(self, data: bytes) -> int:
        """Take bytes of the archive."""
        self._waiting += data
        if len(self._waiting) >= _BUFFER:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Hand on what was taken."""
        data, self._waiting = self._waiting, bytearray()
        self._done += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as err:
            raise self._failed(err) from err

    def _failed(self, err: OSError) -> PycontainError:
        name = getattr(self._file, "name", "")
        subject = name if isinstance(name, str) and name[:1] != "<" else "the archive"
        return kernel_error("write", subject, err.errno or 0)

    def tell(self) -> int:
        """Return how many bytes were taken."""
        return self._done + len(self._waiting)


class _OfStore(Stream):
    def _failed(self, err: OSError) -> PycontainError:
        from pycontain.store import files

        return files.store_error("write", str(self._file.name), err)


class Output:
    """A layer's file of the store: hashed as it is unpacked, and as it is stored.

    The same bytes give the same file: the gzip header has neither time nor name (RFC 1952).

    Its errors leave as StoreError.

    Args:
        file: where the layer is written.
        gzip: compressed.
    """

    def __init__(self, file: BinaryIO, *, gzip: bool) -> None:
        self._stream = _OfStore(file)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256() if gzip else self._plain
        self._compressor = None
        self._waiting = bytearray()
        self._taken = 0
        if gzip:
            from isal import isal_zlib

            self._compressor = isal_zlib.compressobj(level=_LEVEL, wbits=31)

    def write(self, data: bytes) -> int:
        """Take bytes of the archive."""
        self._waiting += data
        self._taken += len(data)
        if len(self._waiting) >= _BUFFER:
            self._hand_on()
        return len(data)

    def _hand_on(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        self._plain.update(data)
        if self._compressor is None:
            self._stream.write(data)
        else:
            self._keep(self._compressor.compress(data))

    def _keep(self, data: bytes) -> None:
        self._packed.update(data)
        self._stream.write(data)

    def flush(self) -> None:
        """Hand on what was taken."""
        self._hand_on()
        self._stream.flush()

    def finish(self) -> None:
        """Write the end; then digest and size are those of the whole file."""
        self._hand_on()
        if self._compressor is not None:
            self._keep(self._compressor.flush())
        self._stream.flush()

    def tell(self) -> int:
        """Return how many bytes were taken."""
        return self._taken

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._stream.tell()

    @property
    def digest(self) -> str:
        """Of the file, ``sha256:…``."""
        return f"sha256:{self._packed.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """Of what it is unpacked, ``sha256:…``."""
        return f"sha256:{self._plain.hexdigest()}"
