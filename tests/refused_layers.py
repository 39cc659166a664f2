"""Archives that are to be refused, those that try to leave, and one of everything."""

from __future__ import annotations

from tests.tarball import (
    END,
    GNU,
    archive,
    base256,
    file,
    folder,
    hard_link,
    header,
    meta,
    octal,
    padded,
    pax,
    record,
    symlink,
)  # fmt: skip

DEEP = "/".join("d" for _ in range(501))
MINUS = base256(-1, 12)


def sparse(*pairs: int, size: int = 6000, data: bytes = b"x" * 1000) -> bytes:
    text = ",".join(str(number) for number in pairs)
    return pax(GNU__sparse__size=size, GNU__sparse__map=text) + file("f", data)


def sparse_1_0(text: bytes) -> bytes:
    words = pax(GNU__sparse__major=1, GNU__sparse__minor=0, GNU__sparse__realsize=6000)
    return words + file("f", text)


# Name: entries, the entry that the message names, what else it says.
REFUSED: dict[str, tuple[bytes, str | None, str]] = {
    # names
    "dots": (file("a/../../b"), "a/../../b", 'has ".."'),
    "dots at the end": (folder("a/.."), "a/..", 'has ".."'),
    "dots in pax": (pax(path="../x") + file("f"), "../x", 'has ".."'),
    "dots in a GNU name": (meta(b"L", b"../x\0") + file("f"), "../x", 'has ".."'),
    "dots in the prefix": (file("f", prefix=b".."), "../f", 'has ".."'),
    "no name": (file(""), None, "empty name"),
    "NUL in pax": (pax(path="a\0b") + file("f"), "f", "has a NUL"),
    "NUL in a link's target": (pax(linkpath="a\0b") + symlink("f", "x"), "f", "has a NUL"),
    "long name": (pax(path="x" * 256) + file("f"), "x" * 20, "file name too long"),
    "long folder": (pax(path="x" * 256 + "/f") + file("f"), "x" * 20, "too long"),
    "long path": (pax(path="xy/" * 1400 + "f") + file("f"), "xy/xy", "too long"),
    "very long path": (pax(path="x/" * 40000 + "f") + file("f"), "x/x", "too long"),
    "long GNU name": (meta(b"L", b"x" * 70000) + file("f"), "./meta", "too long"),
    "deep": (pax(path=DEEP + "/f") + file("f"), "d/d", "folders deep"),
    "deep folder": (pax(path=DEEP) + folder("f"), "d/d", "folders deep"),
    "ten thousand deep": (pax(path="d/" * 10000) + folder("f"), "d/d", "too long"),
    "the root is a file": (file("."), ".", "root is a folder"),
    "the root is a link": (symlink("/", "/etc"), "/", "root is a folder"),
    "the root is a hard link": (file("f") + hard_link("./", "f"), "./", "root is a folder"),
    "newline in a name": (file("a\nb/../c"), "a\\nb/../c", 'has ".."'),
    # what stands above
    "below a file": (file("a", b"x") + file("a/b"), "a/b", "no folder"),
    "below a fifo": (header("a", b"6") + folder("a/b/c"), "a/b/c", "no folder"),
    "below a loop": (symlink("a", "b") + symlink("b", "a") + file("a/f"), "a/f", "too many links"),
    "below a link to a file": (file("f") + symlink("l", "f") + file("l/x"), "l/x", "no folder"),
    # links
    "hard link with dots": (hard_link("a", "../secret"), "a", 'has ".."'),
    "hard link to itself": (file("a") + hard_link("a", "./a"), "a", "to itself"),
    "hard link to itself in another way": (
        folder("d") + symlink("l", "d") + file("d/f") + hard_link("d/f", "l/f"), "d/f", "to itself",
    ),
    "hard link to a folder": (folder("d") + hard_link("a", "d"), "a", "to a folder"),
    "hard link to the root": (hard_link("a", "/"), "a", "to a folder"),
    "hard link to nothing": (hard_link("a", ""), "a", "empty name"),
    "hard link to what it replaces": (
        folder("d") + file("d/f") + hard_link("d", "d/f"), "d", "to what it replaces",
    ),
    "symlink to nothing": (symlink("a", ""), "a", "link to nothing"),
    "symlink too long": (pax(linkpath="x" * 4096) + symlink("a", "b"), "a", "file name too long"),
    # whiteouts
    "whiteout of nothing": (file("d/.wh."), "d/.wh.", "no name"),
    "whiteout of itself": (file(".wh.."), ".wh..", "no name"),
    "whiteout of what is above": (file("d/.wh..."), "d/.wh...", "no name"),
    # kinds
    "unknown kind": (header("f", b"Q"), "f", "type"),
    "several volumes": (header("f", b"M"), "f", "type"),
    "socket": (header("f", b"s"), "f", "type"),
    # numbers
    "negative size": (header("f", size=MINUS), "f", "no size"),
    "endless size": (header("f", size=b"\x80" + b"\xff" * 11), "f", "no size"),
    "huge size": (header("f", size=base256(1 << 62, 12)), "f", "larger than is allowed"),
    "size of words": (header("f", size=b"many words  "), "f", "no size"),
    "size in pax": (pax(size="-1") + file("f"), "f", "no size"),
    "size in pax with a sign": (pax(size="+1") + file("f"), "f", "no size"),
    "overflow in pax": (pax(size=str(1 << 64)) + file("f"), "f", "no size"),
    "too large in pax": (pax(size=str(1 << 63)) + file("f"), "f", "no size"),
    "huge in pax": (pax(size=str((1 << 63) - 1)) + file("f"), "f", "larger than is allowed"),
    "negative owner": (header("f", uid=base256(-1, 8)), "f", "no user or group id"),
    "the owner that means no owner": (pax(uid=4294967295) + file("f"), "f", "user or group id"),
    "the group that means no group": (header("f", gid=base256(4294967295, 8)), "f", "group id"),
    "owner in words": (pax(gid="root") + file("f"), "f", "no user or group id"),
    "negative mode": (header("f", mode=base256(-1, 8)), "f", "no mode"),
    "time in words": (pax(mtime="now") + file("f"), "f", "no time"),
    "endless time": (pax(mtime="9" * 30) + file("f"), "f", "no time"),
    "half a time": (pax(mtime=".5") + file("f"), "f", "no time"),
    "device too large": (header("f", b"3", device=(4096, 0)), "f", "device number"),
    "device in words": (header("f", b"4", device=(b"abcdefg\0", b"0")), "f", "device number"),
    # extended headers
    "record too long": (meta(b"x", b"99 path=x\n") + file("f"), "f", "malformed"),
    "record too short": (meta(b"x", b"3 path=x\n") + file("f"), "f", "malformed"),
    "record without a length": (meta(b"x", b"path=x\n") + file("f"), "f", "malformed"),
    "record with a huge length": (meta(b"x", b"9" * 40 + b" a=b\n") + file("f"), "f", "malformed"),
    "record with a sign": (meta(b"x", b"-9 path=x\n") + file("f"), "f", "malformed"),
    "record without a value": (meta(b"x", b"8 path\n\n") + file("f"), "f", "malformed"),
    "record without a word": (meta(b"x", b"5 =x\n") + file("f"), "f", "malformed"),
    "record of zeros": (meta(b"x", bytes(20)) + file("f"), "f", "malformed"),
    "record without an end": (meta(b"x", b"10 path=xy") + file("f"), "f", "malformed"),
    "one about all files": (pax(b"g", path="x") + file("f"), "./meta", "one file"),
    "one about all sizes": (pax(b"g", size=1) + file("f"), "./meta", "one file"),
    "too long": (header("m", b"x", size=(1 << 20) + 1), "m", "too long"),
    "negative": (header("m", b"x", size=MINUS), "m", "no size"),
    "too many global ones": (pax(b"g", a="b") * 65, "./meta", "too many global"),
    "too long global ones": (
        meta(b"g", record("a", "x" * 600_000)) * 2 + file("f"), "./meta", "too long",
    ),
    "followed by nothing": (pax(path="x"), "./meta", "ends after its extended header"),
    "attribute without a name": (
        meta(b"x", record("SCHILY.xattr.", "x")) + file("f"), "f", "has no name",
    ),
    "too many attributes": (
        meta(b"x", b"".join(record(f"SCHILY.xattr.user.{n}", "") for n in range(1001)))
        + file("f"), "f", "too many extended attributes",
    ),
    "long attribute name": (
        meta(b"x", record("SCHILY.xattr.user." + "x" * 300, "")) + file("f"),
        "f", "extended attribute: numerical result out of range",
    ),
    "malformed ACL": (pax(SCHILY__acl__access="user::rwz") + file("f"), "f", "ACL is malformed"),
    "endless ACL": (
        pax(SCHILY__acl__access="user:1:r--," * 1000) + file("f"), "f", "ACL is malformed",
    ),
    # sparse files
    "map out of order": (sparse(2000, 500, 0, 500), "f", "out of order"),
    "map overlaps": (sparse(0, 500, 499, 500), "f", "out of order"),
    "map past the size": (sparse(5500, 1000), "f", "out of order"),
    "map overflows": (sparse((1 << 64) - 500, 1000), "f", "out of order"),
    "map with less data": (sparse(0, 900), "f", "does not fit its data"),
    "map with more data": (sparse(0, 1100), "f", "does not fit its data"),
    "map with half a pair": (sparse(0, 1000, 1200), "f", "malformed"),
    "map in words": (
        pax(GNU__sparse__size=1, GNU__sparse__map="a,b") + file("f"), "f", "malformed",
    ),
    "map without a size": (pax(GNU__sparse__map="0,0") + file("f"), "f", "has no size"),
    "size of a sparse file overflows": (sparse(0, 1000, size=1 << 63), "f", "larger than any"),
    "map with a wrong count": (
        pax(GNU__sparse__size=9, GNU__sparse__numblocks=2, GNU__sparse__map="0,0") + file("f"),
        "f", "malformed",
    ),
    "map of a folder": (
        pax(GNU__sparse__size=9, GNU__sparse__map="0,0") + folder("f"), "f", "no file",
    ),
    "map of an unknown form": (
        pax(GNU__sparse__major=2, GNU__sparse__minor=0, GNU__sparse__realsize=0) + file("f"),
        "f", "unknown form",
    ),
    "offset without size": (
        pax(GNU__sparse__size=9, GNU__sparse__offset=0) + file("f"), "f", "malformed",
    ),
    "size without offset": (
        pax(GNU__sparse__size=9, GNU__sparse__numbytes=0) + file("f"), "f", "malformed",
    ),
    "map 1.0 exceeds its data": (sparse_1_0(b"9\n"), "f", "exceeds its data"),
    "map 1.0 in words": (sparse_1_0(padded(b"1\nx\n")), "f", "malformed"),
    "map 1.0 with an empty line": (sparse_1_0(padded(b"1\n\n")), "f", "malformed"),
    "map 1.0 counts to no end": (sparse_1_0(padded(b"9" * 18 + b"\n")), "f", "too long"),
    "map 1.0 with endless digits": (sparse_1_0(padded(b"1\n" + b"0" * 30)), "f", "malformed"),
    "map 1.0 with more data": (sparse_1_0(padded(b"1\n0\n10\n") + b"x" * 9), "f", "does not fit"),
    "old map out of order": (
        header("f", b"S", size=2, magic=GNU, extra={
            386: b"".join(octal(n, 12) for n in (5, 1, 3, 1)), 483: octal(9, 12),
        }) + padded(b"xx"), "f", "out of order",
    ),
    "old map negative": (
        header("f", b"S", size=2, magic=GNU, extra={386: MINUS * 2, 483: octal(9, 12)}),
        "f", "malformed",
    ),
    "old map without end": (
        header("f", b"S", size=0, magic=GNU, extra={482: b"\1", 483: octal(0, 12)})
        + (b"00000000000\0" * 42 + b"\1" + bytes(7)) * 13000, "f", "too long",
    ),
    # the archive
    "checksum": (file("a") + header("f", checksum=b"000000\0 "), "a", "checksum"),
    "garbage": (file("a") + b"\xff" * 512, "a", "checksum"),
    "one zero block": (file("a") + bytes(512) + file("b"), "a", "not the end"),
    "garbage after the end": (file("a") + END + b"x", "a", "more after the end"),
    "an archive after the end": (file("a") + END + file("b"), "a", "more after the end"),
}  # fmt: skip


def escapes(way: str) -> list[bytes]:
    """Entries that try to get to what is at `way`, by what they have put there before."""
    link = symlink("l", way)
    return [
        link + file("l/secret", b"mine"),
        link + file("l/folder/kept", b"mine"),
        link + folder("l/new", mode=0o777),
        link + symlink("l/secret", "/etc"),
        link + hard_link("h", "l/secret"),
        link + hard_link("l/h", "l/secret"),
        link + header("l/.wh.secret"),
        link + header("l/.wh..wh..opq"),
        link + header("l/folder/.wh..wh..opq"),
        link + header(".wh.l"),
        link + folder("l", mode=0o700) + file("l/x"),
        link + file("l", b"mine"),
        link + file("l/..x/y") + pax(mtime=3) + folder("l/folder"),
        folder("d") + symlink("d/l", f"../{way}" if way.startswith(".") else way)
        + file("d/l/secret", b"x") + file("d", b"x"),
        link + symlink("m", "l/folder") + file("m/kept", b"x"),
        link + pax(path="l/secret") + file("short", b"x"),
        link + pax(linkpath="l/secret") + hard_link("h", "short"),
        link + meta(b"K", b"l/secret\0") + hard_link("h", "short"),
        hard_link("h", f"{way}/secret"),
        symlink("a", "b") + symlink("b", way) + file("a/secret", b"x"),
        folder("f") + file("f/x") + symlink("f", way) + file("f/secret", b"x") + folder("f"),
        symlink("f", way) + folder("f") + symlink("f", way) + file("f/folder/kept", b"x"),
        link + pax(SCHILY__xattr__user__a="b", mtime=1) + folder("l"),
        link + header("l", b"6") + symlink("l", way) + header("l/fifo", b"6"),
    ]  # fmt: skip


ACL = "user::rw-,user:lisa:r--:5,group::r--,group:6:rwx,mask::rw-  #effective\nother:---"
WHOLE = archive(
    folder("d", mode=0o711),
    pax(path="d/long", SCHILY__xattr__user__a="1", mtime="1.5"), file("x", b"y" * 700),
    meta(b"L", b"d/gnu\0"), file("x", b"z" * 513),
    symlink("l", "d"), file("l/through", b"t"), hard_link("h", "d/long"),
    pax(GNU__sparse__size=6000, GNU__sparse__map="0,500,5000,500"), file("s", b"s" * 1000),
    header("d/.wh.w"), header("d/.wh..wh..opq"), header("p", b"6"),
    pax(SCHILY__acl__access=ACL, SCHILY__acl__default=ACL), folder("acl"), file("acl/f"),
    header("acl/p", b"6"), file("deep/er/f"), folder("deep/er"), file("acl"), file("z"),
)  # fmt: skip
