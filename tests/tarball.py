"""Tar archives byte by byte, as no program writes them, and what came of one on disk."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

from pycontain.image.extract import Extracted, Extraction, Limits

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 512
END = bytes(2 * BLOCK)
POSIX = b"ustar\x0000"
GNU = b"ustar  \x00"
V7 = bytes(8)


def octal(number: int, size: int) -> bytes:
    return f"{number:0{size - 1}o}\0".encode()


def base256(number: int, size: int) -> bytes:
    """GNU's form of numbers that octal digits cannot say."""
    data = bytearray(number.to_bytes(size, "big", signed=True))
    data[0] |= 0x80
    return bytes(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def header(
    name: bytes | str,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes | None = None,
    gid: int | bytes | None = None,
    mtime: int | bytes = 1_000_000_000,
    target: bytes | str = b"",
    magic: bytes = POSIX,
    device: tuple[int, int] | tuple[bytes, bytes] = (0, 0),
    prefix: bytes = b"",
    checksum: bytes | None = None,
    extra: dict[int, bytes] | None = None,
) -> bytes:
    """One header; numbers may be the field's own bytes. It is the caller's own by default."""

    def field(value: int | bytes, length: int) -> bytes:
        return value if isinstance(value, bytes) else octal(value, length)

    fields = [
        (0, os.fsencode(name)[:100]),
        (100, field(mode, 8)),
        (108, field(os.geteuid() if uid is None else uid, 8)),
        (116, field(os.getegid() if gid is None else gid, 8)),
        (124, field(size, 12)),
        (136, field(mtime, 12)),
        (148, b" " * 8),
        (156, kind),
        (157, os.fsencode(target)[:100]),
        (257, magic),
        (345, prefix[:155]),
        *(extra or {}).items(),
    ]
    if magic != V7:
        fields += [(329, field(device[0], 8)), (337, field(device[1], 8))]
    block = bytearray(BLOCK)
    for at, data in fields:
        block[at : at + len(data)] = data
    block[148:156] = checksum or f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def file(name: bytes | str, data: bytes = b"", **more: Any) -> bytes:
    return header(name, size=len(data), **more) + padded(data)


def folder(name: bytes | str, **more: Any) -> bytes:
    return header(name, b"5", **{"mode": 0o755, **more})


def symlink(name: bytes | str, target: bytes | str, **more: Any) -> bytes:
    return header(name, b"2", target=target, **{"mode": 0o777, **more})


def hard_link(name: bytes | str, target: bytes | str, **more: Any) -> bytes:
    return header(name, b"1", target=target, **more)


def meta(kind: bytes, data: bytes) -> bytes:
    """An extended header or a GNU long name."""
    return header("./meta", kind, size=len(data)) + padded(data)


def record(key: bytes | str, value: bytes | str | int) -> bytes:
    text = str(value) if isinstance(value, int) else value
    rest = b" " + os.fsencode(key) + b"=" + os.fsencode(text) + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def pax(kind: bytes = b"x", **records: bytes | str | int) -> bytes:
    """Records; a double underscore in a key is a dot."""
    return meta(kind, b"".join(record(k.replace("__", "."), v) for k, v in records.items()))


def archive(*parts: bytes) -> bytes:
    return b"".join(parts) + END


def unpack(
    root: Path,
    data: bytes,
    *,
    piece: int = 1 << 20,
    rootless: bool = True,
    limits: Limits | None = None,
) -> Extracted:
    """Unpack an archive into a new or empty folder, in pieces."""
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Extraction(fd, rootless=rootless, limits=limits or Limits()) as extraction:
            for at in range(0, len(data), piece):
                extraction.feed(data[at : at + piece])
            return extraction.finish()
    finally:
        os.close(fd)


def tree(root: Path | str, *, times: bool = True) -> dict[str, tuple[Any, ...]]:
    """All that can be seen of a tree: kind, mode, owner, time, attributes, links, content."""
    found: dict[str, tuple[Any, ...]] = {}
    inodes: dict[tuple[int, int], str] = {}
    top = os.fsencode(root)
    paths = [top]
    for base, folders, names in os.walk(top):
        paths += [os.path.join(base, name) for name in (*folders, *names)]
    for path in sorted(paths):
        info = os.lstat(path)
        name = os.path.relpath(path, top).decode("utf-8", "backslashreplace")
        first = inodes.setdefault((info.st_dev, info.st_ino), name)
        found[name] = (
            stat.filemode(info.st_mode),
            info.st_uid,
            info.st_gid,
            info.st_mtime_ns if times else 0,
            info.st_size if not stat.S_ISDIR(info.st_mode) else 0,
            info.st_rdev,
            _attributes(path),
            first,
            _content(path, info),
        )
    return found


def _attributes(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _content(path: bytes, info: os.stat_result) -> bytes | str:
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(info.st_mode):
        return b""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
