"""Where the members of a tar archive lie, for archives that images come in.

Owns the headers of the outer archive alone: what it holds is read where it lies, by offset, so that
several layers are read at once. Layers are unpacked by ``extract``. Headers are others' work: every
length is bounded, every step goes forward, and what could be read in two ways is refused.

Source: POSIX pax (ustar interchange format, pax header blocks); GNU tar's manual, "Basic Tar
Format" (long names, base-256 numbers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Pread = Callable[[int, int], bytes]

MAX_MEMBERS = 100_000
_BLOCK = 512
# Each member may have a pax header and two of GNU's before it.
_MAX_HEADERS = 4 * MAX_MEMBERS
_MAX_NAMES = 64 << 10
# GNU tar fills up its last record, of 10 KB unless told, with zeros.
_MAX_PADDING = 1 << 20
_MAX_LINKS = 16

FILE = "file"
FOLDER = "folder"
LINK = "link"
SYMLINK = "symlink"
OTHER = "other"

_KINDS = {
    b"0": FILE, b"\0": FILE, b"7": FILE, b"1": LINK, b"2": SYMLINK, b"5": FOLDER,
}  # fmt: skip
# Links, devices, folders and fifos: their size field counts nothing that follows.
_BARE = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_LONG = {b"L": "path", b"K": "linkpath"}
_TOLD = frozenset(("path", "linkpath", "size"))


class Member:
    """One member.

    Attributes:
        kind: ``file``, ``folder``, ``link``, ``symlink`` or ``other``.
        offset, size: of its content, bytes.
        target: of a link, as it is written.
    """

    __slots__ = ("kind", "offset", "size", "target")

    def __init__(self, kind: str, offset: int, size: int, target: str) -> None:
        self.kind = kind
        self.offset = offset
        self.size = size
        self.target = target


class _Header:
    """What one header block says."""

    __slots__ = ("flag", "name", "size", "target")

    def __init__(self, block: bytes) -> None:
        self.flag = block[156:157]
        self.name = _text(block[:100])
        # GNU tar has times where POSIX has the front of a long name.
        if block[257:263] == b"ustar\0" and block[345]:
            self.name = f"{_text(block[345:500])}/{self.name}"
        self.size = _number(block[124:136])
        self.target = _text(block[157:257])


def index(pread: Pread, size: int, what: str) -> dict[str, Member]:
    """Return the members of an archive by their normalised names; of equal names the last counts.

    Args:
        pread: returns bytes of the archive: how many, from which offset.
        size: of the archive, bytes.
        what: its name in errors.

    Raises:
        ImageError: it is damaged, ends in the middle, has too many members, sparse ones, or ones
            with ``..``, a leading slash or a NUL in their names.
    """
    found: dict[str, Member] = {}
    for name, member in _members(pread, size, what):
        if len(found) == MAX_MEMBERS:
            raise ImageError(f"{what}: more than {MAX_MEMBERS} members")
        if member.offset + member.size > size:
            raise ImageError(f"{what}: ends in the middle of {name!r}")
        plain = normalised(name, what)
        if plain:
            found[plain] = member
    return found


def normalised(name: str, what: str) -> str:
    """Return a member's name without ``.`` and doubled slashes.

    Raises:
        ImageError: it is absolute, or has ``..`` or a NUL in it.
    """
    words = [word for word in name.split("/") if word not in ("", ".")]
    if name.startswith("/") or ".." in words or "\0" in name:
        raise ImageError(f"{what}: {name!r} is not a name below the archive's root")
    return "/".join(words)


def resolve(found: dict[str, Member], name: str, what: str) -> Member | None:
    """Return the member that `name` leads to, through links between members; None: there is none.

    Raises:
        ImageError: a link leads out of the archive, or there are too many.
    """
    place = normalised(name, what)
    for _ in range(_MAX_LINKS):
        member = found.get(place)
        if member is None or member.kind not in (LINK, SYMLINK):
            return member
        above = place.rpartition("/")[0] if member.kind == SYMLINK else ""
        target = _joined(above, member.target)
        if target is None:
            raise ImageError(f"{what}: {place!r}: links to {member.target!r}, outside the archive")
        place = target
    raise ImageError(f"{what}: {name!r}: too many links")


def _joined(folder: str, target: str) -> str | None:
    """Where a link leads by its words alone; None: out of the archive."""
    if target.startswith("/") or "\0" in target:
        return None
    words = folder.split("/") if folder else []
    for word in target.split("/"):
        if word == "..":
            if not words:
                return None
            words.pop()
        elif word not in ("", "."):
            words.append(word)
    return "/".join(words)


def _members(pread: Pread, size: int, what: str) -> Iterator[tuple[str, Member]]:
    """Yield names as they are written, and members."""
    position = 0
    told: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        block = pread(_BLOCK, position)
        if not block and not told:
            return  # an archive without an end mark, as some programs write it
        header = _header(block, position, what)
        if header is None:
            _check_end(pread, position, size, what)
            return
        position += _BLOCK
        if header.flag in b"xXgLK":
            told.update(_told(pread, position, header, what))
            position += _padded(header.size)
            continue
        name, member = _member(header, told, position, what)
        told = {}
        yield name, member
        position += _padded(member.size)
    raise ImageError(f"{what}: more than {_MAX_HEADERS} headers")


def _header(block: bytes, position: int, what: str) -> _Header | None:
    """Return what a header says, None for a block of zeros: the end."""
    if len(block) < _BLOCK and position:
        raise ImageError(f"{what}: ends in the middle of a header")
    try:
        if len(block) == _BLOCK and not any(block):
            return None
        if len(block) < _BLOCK or not _sum_is_right(block):
            raise ValueError
        return _Header(block)
    except ValueError:
        raise ImageError(f"{what}: not a tar archive, or damaged at byte {position}") from None


def _sum_is_right(block: bytes) -> bool:
    stated = _number(block[148:156])
    summed = block[:148] + b" " * 8 + block[156:]
    # Some programs of old summed signed bytes.
    return stated in (sum(summed), sum(summed) - 256 * sum(byte > 127 for byte in summed))


def _told(pread: Pread, position: int, header: _Header, what: str) -> dict[str, str]:
    """What a pax header, or one of GNU's, says of the member that follows."""
    if header.size > _MAX_NAMES:
        raise ImageError(f"{what}: a header of {header.size} bytes")
    data = pread(header.size, position)
    if len(data) < header.size:
        raise ImageError(f"{what}: ends in the middle of a header")
    if header.flag in _LONG:
        return {_LONG[header.flag]: _text(data)}
    try:
        records = dict(_records(data))
    except ValueError:
        raise ImageError(f"{what}: a pax header is damaged at byte {position}") from None
    if any(key.startswith("GNU.sparse.") for key in records):
        raise ImageError(f"{what}: a sparse member in an archive of images")
    told = {key: value for key, value in records.items() if key in _TOLD}
    if header.flag == b"g" and told:
        raise ImageError(f"{what}: a global pax header says where members are")
    return told


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield key and value of the records ``LENGTH KEY=VALUE``, each ended by a newline."""
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 8)
        digits = data[position : max(blank, position)]
        if not digits.isdigit():
            raise ValueError
        end = position + int(digits)
        key, equals, value = data[blank + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise ValueError
        yield key.decode(errors="surrogateescape"), value[:-1].decode(errors="surrogateescape")
        position = end


def _member(header: _Header, told: dict[str, str], position: int, what: str) -> tuple[str, Member]:
    name = told.get("path", header.name)
    if header.flag == b"S":
        raise ImageError(f"{what}: {name!r}: a sparse member in an archive of images")
    size = header.size
    if "size" in told:
        if not (told["size"].isascii() and told["size"].isdigit() and len(told["size"]) < 20):
            raise ImageError(f"{what}: {name!r}: size {told['size'][:40]!r}")
        size = int(told["size"])
    kind = _KINDS.get(header.flag, OTHER)
    if kind == FILE and name.endswith("/"):
        kind = FOLDER
    if header.flag in _BARE:
        size = 0
    return name, Member(kind, position, size, told.get("linkpath", header.target))


def _check_end(pread: Pread, position: int, size: int, what: str) -> None:
    """Two blocks of zeros are the end, and nothing but zeros may follow."""
    if size - position > _MAX_PADDING or any(pread(size - position, position)):
        raise ImageError(f"{what}: something follows the end of the archive")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _number(field: bytes) -> int:
    """Return the number of a field: octal, or base-256 where its first bit is set.

    Raises:
        ValueError: it is none, or negative.
    """
    if field[0] & 0x80:
        # All bits set: negative; others: more than any file has.
        if field[0] != 0x80:
            raise ValueError
        number = int.from_bytes(field[1:])
        if number >> 62:
            raise ValueError
        return number
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise ValueError
    return int(digits, 8) if digits else 0
