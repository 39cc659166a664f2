"""Folders as tar streams, both ways (tar(5), pax(1)).

Nothing is read into memory as a whole. What is written holds owners, modes, times in full, file
capabilities and hard links; sockets cannot be in an archive and are left out. What is read is an
attacker's: a member's name never leads out of the folder that it is extracted to, and the links on
its way are resolved in the container's root, as everything in a Tree.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import TYPE_CHECKING, BinaryIO, cast

from pycontain.engine import copying
from pycontain.engine.copying import CAPABILITY, DEPTH, Attributes
from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError, kernel_error
from pycontain.image.packing import XATTR, Packer, Stream

if TYPE_CHECKING:
    from pycontain.engine.folders import Folder, Source
    from pycontain.engine.tree import Tree

_BUFFER = 1 << 20
_SECOND = 1_000_000_000
_NODES = {
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
}


def _forget_members(tar: tarfile.TarFile) -> None:
    """Drop the list of all entries so far, which tarfile keeps for random access."""
    members: list[tarfile.TarInfo] = tar.__dict__["members"]
    members.clear()


class Writer:
    """Writes one archive.

    Args:
        file: blocking; stays open. Its errors leave as KernelError, BrokenPipeError as it is.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._output = Stream(file)
        self._packer = Packer(self._output, _capability, sparse=False)

    def add(self, fd: int, source: Source | None, name: str) -> None:
        """Write what is open at `fd`, a folder with all below it.

        Args:
            fd: an O_PATH descriptor of it.
            source: the same, where it is a folder.
            name: in the archive.

        Raises:
            InvalidInput: it is a socket.
            KernelError: something cannot be read, or the output not be written.
        """
        if not self._packer.add(fd, name):
            raise InvalidInput(f"copy {name}: a socket cannot be copied")
        if source is not None:
            self.add_content(source, "./" if name == "." else f"{name}/", 1)

    def add_content(self, source: Source, prefix: str, depth: int = 0) -> None:
        """Write what is in a folder; `prefix` comes before each name. Errors as in ``add``."""
        if depth > DEPTH:
            raise InvalidInput(f"archive {prefix[:60]}…: more than {DEPTH} folders deep")
        for name in source.entries():
            try:
                self._add(source, name, prefix + name, depth)
            except BrokenPipeError:
                raise
            except OSError as err:
                raise kernel_error("archive", prefix + name, err.errno or 0) from err

    def _add(self, source: Source, name: str, path: str, depth: int) -> None:
        try:
            fd = source.look(name)
        except FileNotFoundError:
            return  # removed since the folder was listed
        try:
            self._packer.add(fd, path)
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                return
        finally:
            os.close(fd)
        try:
            below = source.enter(name)
        except (FileNotFoundError, NotADirectoryError):
            return  # replaced since we looked
        with below:
            self.add_content(below, f"{path}/", depth + 1)

    def finish(self) -> int:
        """Write the end of the archive; without it a reader knows that it is not whole.

        Returns:
            How many bytes it has.
        """
        self._packer.finish()
        return self._output.tell()


def _capability(fd: int) -> dict[str, str]:
    """The one attribute that is kept, as a pax record."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return {}
    value = copying.capability_of(fd)
    return {} if value is None else {XATTR + CAPABILITY: value.decode("utf-8", "surrogateescape")}


class _Stream:
    """What an archive is read from; counts."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self.size += len(data)
        return data


def extract(stream: BinaryIO, tree: Tree, path: str) -> int:
    """Extract an archive, plain or compressed, into a folder of a container.

    Owners are the archive's. Missing folders are made. Nothing at all is an archive without
    members.

    Args:
        stream: has ``read``.
        tree: the container's files.
        path: of the folder.

    Returns:
        How many bytes of content.

    Raises:
        InvalidInput: it is no archive, or a member leads out of the folder.
        Conflict: a folder and something else want one name.
        KernelError: a file cannot be written.
    """
    source = _Stream(stream)
    try:
        tar = tarfile.open(  # noqa: SIM115 - entered below
            fileobj=cast("BinaryIO", source), mode="r|*", bufsize=_BUFFER
        )
    # AttributeError: tarfile's own, at a gzip header that is damaged in the right place.
    except (tarfile.TarError, EOFError, AttributeError) as err:
        if source.size == 0:
            return 0
        raise InvalidInput("read archive: not a tar archive, or cut off") from err
    with tar, _Extraction(tar, tree, path) as work:
        try:
            while (member := tar.next()) is not None:
                work.take(member)
                _forget_members(tar)
        except (tarfile.TarError, EOFError) as err:
            raise InvalidInput(f"read archive: {err}") from err
        work.finish()
        return work.size


def member_names(name: str) -> tuple[str, ...]:
    """Return the names of a member's path, empty for the folder itself.

    Raises:
        InvalidInput: it leads out of the folder.
    """
    names: list[str] = []
    for word in name.split("/"):
        if word == "..":
            if not names:
                raise InvalidInput(f'read archive: "{name}" is outside of the destination')
            names.pop()
        elif word not in ("", "."):
            names.append(word)
    return tuple(names)


class _Extraction:
    """The state of one extraction: the folder of the last member stays open for the next."""

    def __init__(self, tar: tarfile.TarFile, tree: Tree, path: str) -> None:
        self.size = 0
        self._tar = tar
        self._tree = tree
        self._path = path.rstrip("/")
        self._open: tuple[tuple[str, ...], Folder] | None = None
        self._times: list[tuple[tuple[str, ...], int]] = []

    def __enter__(self) -> _Extraction:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _folder(self, names: tuple[str, ...]) -> Folder:
        if self._open is None or self._open[0] != names:
            self._let_go()
            path = "/".join((self._path, *names)) or "/"
            self._open = names, self._tree.make_folders(path)
            self._tree.check_content(self._open[1], path)
        return self._open[1]

    def take(self, member: tarfile.TarInfo) -> None:
        names = member_names(member.name)
        if not names:
            return  # the folder itself, which stays as it is
        try:
            self._take(member, names)
        except OSError as err:
            raise kernel_error("extract", "/".join(names), err.errno or 0) from err
        except (ValueError, OverflowError) as err:  # of a name or a number that no file can have
            raise InvalidInput(f"read archive: {member.name!a}: {err}") from err
        except Conflict as err:
            err.message = err.message.replace(f'"{names[-1]}"', f'"{"/".join(names)}"')
            raise

    def _take(self, member: tarfile.TarInfo, names: tuple[str, ...]) -> None:
        target, name = self._folder(names[:-1]), names[-1]
        wanted = _attributes(member)
        if member.isdir():
            with copying.make_folder(target, name) as made:
                copying.settle(made.fd, wanted._replace(modified=None))
            self._times.append((names, cast("int", wanted.modified)))
        elif member.isreg():
            self._take_file(member, target, name, wanted)
        elif member.issym():
            copying.make_link(target, name, member.linkname, wanted)
        elif member.islnk():
            self._take_link(member, target, name)
        elif member.type in _NODES:
            device = os.makedev(member.devmajor, member.devminor)
            copying.make_node(target, name, _NODES[member.type], device, wanted)
        else:
            raise InvalidInput(f"read archive: {member.name}: unknown type {member.type!r}")

    def _take_file(
        self, member: tarfile.TarInfo, target: Folder, name: str, wanted: Attributes
    ) -> None:
        content = self._tar.extractfile(member)
        assert content is not None  # it is a file

        def fill(fd: int) -> int:
            while data := content.read(_BUFFER):
                _write(fd, data)
            return member.size

        size, _ = copying.write_file(target, name, fill, wanted)
        self.size += size

    def _take_link(self, member: tarfile.TarInfo, target: Folder, name: str) -> None:
        first = "/".join((self._path, *member_names(member.linkname)))
        try:
            fd = self._tree.look(first, follow=False)
        except NotFound as err:
            raise InvalidInput(
                f'read archive: {member.name}: hard link to "{member.linkname}", which is not there'
            ) from err
        try:
            copying.make_hard_link(target, name, fd)
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Set the times of folders, which every file made in them changed."""
        self._let_go()
        for names, modified in self._times:
            try:
                folder = self._tree.folder("/".join((self._path, *names)))
            except PycontainError:
                continue  # gone, or replaced by a later member
            with folder:
                os.utime(folder.fd, ns=(modified, modified))


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _attributes(member: tarfile.TarInfo) -> Attributes:
    text = member.pax_headers.get(XATTR + CAPABILITY)
    capability = None if text is None else text.encode("utf-8", "surrogateescape")
    return Attributes(
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        modified=_nanoseconds(member),
        capability=capability if member.isreg() else None,
    )


def _nanoseconds(member: tarfile.TarInfo) -> int:
    """The time of a member; as text it has digits that a float has not."""
    text = member.pax_headers.get("mtime", "")
    whole, _, fraction = text.partition(".")
    if whole.isdigit() and (not fraction or fraction.isdigit()):
        return int(whole) * _SECOND + int((fraction + "0" * 9)[:9])
    return int(member.mtime * _SECOND)
