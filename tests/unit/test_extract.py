"""Unpacking layers: every form of tar, and what its entries become. As an ordinary user, too."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.tarball import (
    GNU,
    POSIX,
    V7,
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
    tree,
    unpack,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPAQUE = "user.overlay.opaque"
SPARSE = b"A" * 1000 + b"B" * 24
SPARSE_TEXT = bytes(4096) + b"A" * 1000 + bytes(904) + b"B" * 24 + bytes(76)
SPARSE_MAP = [(4096, 1000), (6000, 24), (6100, 0)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def is_whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def old_sparse() -> bytes:
    """GNU's first form: fragments in the header, and in a block behind it."""
    pairs = [octal(offset, 12) + octal(size, 12) for offset, size in SPARSE_MAP]
    extra = {386: b"".join(pairs[:1]), 482: b"\1", 483: octal(6100, 12)}
    block = padded(b"".join(pairs[1:]))
    return header("f", b"S", size=len(SPARSE), magic=GNU, extra=extra) + block + padded(SPARSE)


def pax_sparse_0_0() -> bytes:
    pairs = b"".join(
        record("GNU.sparse.offset", offset) + record("GNU.sparse.numbytes", size)
        for offset, size in SPARSE_MAP
    )
    records = record("GNU.sparse.size", 6100) + record("GNU.sparse.numblocks", 3) + pairs
    return meta(b"x", records) + file("f", SPARSE)


def pax_sparse_0_1() -> bytes:
    text = ",".join(str(number) for pair in SPARSE_MAP for number in pair)
    return pax(
        GNU__sparse__size=6100, GNU__sparse__numblocks=3, GNU__sparse__map=text,
        GNU__sparse__name="f",
    ) + file("GNUSparseFile/f", SPARSE)  # fmt: skip


def pax_sparse_1_0() -> bytes:
    numbers = [3, *(number for pair in SPARSE_MAP for number in pair)]
    text = padded("".join(f"{number}\n" for number in numbers).encode())
    return pax(
        GNU__sparse__major=1, GNU__sparse__minor=0, GNU__sparse__name="f",
        GNU__sparse__realsize=6100,
    ) + file("GNUSparseFile/f", text + SPARSE)  # fmt: skip


@pytest.mark.parametrize("entry", [old_sparse, pax_sparse_0_0, pax_sparse_0_1, pax_sparse_1_0])
@pytest.mark.parametrize("piece", [1, 7, 512, 1 << 20])
def test_sparse_files(root: Path, entry: Callable[[], bytes], piece: int) -> None:
    done = unpack(root, archive(entry(), file("next", b"x")), piece=piece)
    assert (root / "f").read_bytes() == SPARSE_TEXT
    assert done.size == len(SPARSE) + 1
    assert sorted(os.listdir(root)) == ["f", "next"]


def test_a_file_that_is_one_hole(root: Path) -> None:
    unpack(root, archive(pax(GNU__sparse__size=1 << 30, GNU__sparse__numblocks=0), file("f")))
    info = (root / "f").stat()
    assert (info.st_size, info.st_blocks) == (1 << 30, 0)


@pytest.mark.parametrize("magic", [POSIX, GNU, V7])
@pytest.mark.parametrize("piece", [1, 100, 511, 513, 1 << 20])
def test_forms_and_pieces(root: Path, magic: bytes, piece: int) -> None:
    data = bytes(range(256)) * 5
    unpack(
        root,
        archive(
            folder("d/", magic=magic, mode=0o2751),
            file("d/f", data, magic=magic, mode=0o4710, mtime=12345),
            header("d/l", b"2", target="f", magic=magic, mtime=77),
            hard_link("d/h", "d/f", magic=magic),
        ),
        piece=piece,
    )
    assert (root / "d/f").stat().st_atime == 12345
    assert (root / "d/f").read_bytes() == data
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o4710
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2751
    assert (root / "d").stat().st_mtime == 1_000_000_000
    assert (root / "d/f").stat().st_mtime == 12345
    assert (root / "d/l").lstat().st_mtime == 77
    assert os.readlink(root / "d/l") == "f"
    assert (root / "d/f").samefile(root / "d/h")


def test_v7_says_folder_with_a_slash(root: Path) -> None:
    unpack(root, archive(header("d/", b"\0", magic=V7, mode=0o700), file("d/f", magic=V7)))
    assert (root / "d").is_dir()


@pytest.mark.parametrize("name", ["/a/b", "./a/b", "a//b", ".//./a/./b", "a/b/"])
def test_names_are_cleaned(root: Path, name: str) -> None:
    unpack(root, archive(folder(name)))
    assert (root / "a/b").is_dir()


def test_long_names(root: Path) -> None:
    long = "/".join(["x" * 200] * 3)
    unpack(
        root,
        archive(
            meta(b"L", f"{long}/gnu\0".encode()), file("truncated", b"1"),
            meta(b"K", f"{long}/gnu\0".encode()), hard_link("gnu", "truncated"),
            pax(path=f"{long}/pax"), file("short", b"2"),
            pax(linkpath=long), symlink("pax", "short"),
            file("ustar", b"3", prefix=b"p" * 150),
            header("star", prefix=b"q" * 131, extra={476: b"1" * 11, 508: b"tar\0"}),
        ),
    )  # fmt: skip
    assert (root / long / "gnu").read_bytes() == (root / "gnu").read_bytes() == b"1"
    assert (root / long / "pax").read_bytes() == b"2"
    assert os.readlink(root / "pax") == long
    assert (root / ("p" * 150) / "ustar").read_bytes() == b"3"
    assert (root / ("q" * 131) / "star").exists()


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1.5", 1_500_000_000), ("3", 3_000_000_000), ("0.0000000019", 1),
        ("-1.25", -1_250_000_000), ("1700000000.123456789", 1_700_000_000_123_456_789),
    ],
)  # fmt: skip
def test_times(root: Path, text: str, nanoseconds: int) -> None:
    unpack(root, archive(pax(mtime=text), file("f"), pax(mtime=text), folder("d"), file("d/f")))
    assert (root / "f").stat().st_mtime_ns == nanoseconds
    assert (root / "d").stat().st_mtime_ns == nanoseconds


def test_numbers_that_octal_cannot_say(root: Path) -> None:
    unpack(root, archive(header("f", mtime=base256(-5, 12), size=base256(0, 12))))
    assert (root / "f").stat().st_mtime == -5
    unpack(root, archive(file("g", mtime=b" 21 \0" + bytes(7))))
    assert (root / "g").stat().st_mtime == 17


def test_global_headers_count_until_the_next(root: Path) -> None:
    unpack(
        root,
        archive(
            pax(b"g", mtime=5, SCHILY__xattr__user__a="1"), file("a"),
            pax(mtime=6), file("b"),
            pax(b"g", mtime=7, comment="x"), file("c"),
        ),
    )  # fmt: skip
    assert [(root / name).stat().st_mtime for name in "abc"] == [5, 6, 7]
    assert os.getxattr(root / "c", "user.a") == b"1"


def test_attributes(root: Path) -> None:
    value = b"\0\n=\xff"
    records = b"".join(
        record(f"SCHILY.xattr.{name}", value)
        for name in (
            "user.one", "user.empty", "user.overlay.opaque", "trusted.overlay.opaque",
            "security.selinux", "com.apple.quarantine", "trusted.mine",
        )
    )  # fmt: skip
    records += record("SCHILY.xattr.user.empty", b"")
    done = unpack(
        root,
        archive(meta(b"x", records), file("f"), meta(b"x", records), folder("d"),
                meta(b"x", records), symlink("l", "f")),
    )  # fmt: skip
    for name in ("f", "d"):
        found = {key: os.getxattr(root / name, key) for key in os.listxattr(root / name)}
        assert found == {"user.one": value, "user.empty": b""}
    assert os.listxattr(root / "l", follow_symlinks=False) == []
    assert done.entries == 3


def test_folder_times_are_kept_whatever_happens_in_them(root: Path) -> None:
    unpack(
        root,
        archive(
            folder("a", mtime=1), folder("a/b", mtime=2), file("a/b/f", b"x"),
            file("a/late", b"x"), folder("a/b/c", mtime=3), hard_link("a/b/c/h", "a/late"),
            symlink("s", "a/b", mtime=4), file("s/through", b"y"),
            folder("a/late", mtime=5), file("a/late/g"), file("a/b/made/here"),
            header("a/b/.wh.gone"), folder(".", mtime=6),
        ),
    )  # fmt: skip
    times = {name: (root / name).lstat().st_mtime for name in (".", "a", "a/b", "a/b/c", "a/late")}
    assert times == {".": 6, "a": 1, "a/b": 2, "a/b/c": 3, "a/late": 5}
    assert (root / "a/b/c/h").read_bytes() == b"x"
    assert (root / "a/b/through").read_bytes() == b"y"


# ---- replacing ----


def test_a_later_entry_counts(root: Path) -> None:
    unpack(
        root,
        archive(
            file("f", b"old", mode=0o600), file("f", b"new", mode=0o640),
            folder("d", mode=0o700), file("d/x", b"x"), folder("d", mode=0o711),
            folder("t/a/b"), file("t/a/b/f"), file("t", b"file"),
            file("u", b"u"), folder("u"), file("u/x"),
            symlink("l", "f"), file("l", b"was a link"),
            file("h", b"1"), hard_link("i", "h"), file("h", b"2"),
            file("v"), symlink("v", "nowhere"), header("v", b"6"),
        ),
    )  # fmt: skip
    assert (root / "f").read_bytes() == b"new"
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o711
    assert (root / "d/x").read_bytes() == b"x"
    assert (root / "t").read_bytes() == b"file"
    assert os.listdir(root / "u") == ["x"]
    assert (root / "l").read_bytes() == b"was a link"
    assert not (root / "l").is_symlink()
    assert ((root / "h").read_bytes(), (root / "i").read_bytes()) == (b"2", b"1")
    assert stat.S_ISFIFO((root / "v").lstat().st_mode)


def test_a_wide_and_deep_folder_is_replaced(root: Path) -> None:
    parts = [folder("d")]
    for number in range(300):
        parts.append(file(f"d/{number:04}{'n' * 80}"))
    deep = "d/" + "/".join("e" for _ in range(300))
    parts += [pax(path=f"{deep}/f"), file("f"), pax(path=f"{deep}/g"), file("g")]
    unpack(root, archive(*parts, file("d", b"flat")))
    assert (root / "d").read_bytes() == b"flat"
    assert os.listdir(root) == ["d"]


# ---- links on the way ----


def test_links_are_followed_within_the_layer(root: Path) -> None:
    unpack(
        root,
        archive(
            folder("real"), symlink("rel", "real"), symlink("abs", "/real"),
            symlink("real/up", "../../../real"), symlink("two", "rel/up"),
            file("rel/a", b"a"), file("abs/b", b"b"), file("two/c", b"c"),
            file("rel/up/new/d", b"d"), symlink("dangling", "not/yet"), file("dangling/e", b"e"),
            hard_link("h", "two/c"), folder("rel", mode=0o700), file("rel/f", b"f"),
        ),
    )  # fmt: skip
    assert sorted(os.listdir(root / "real")) == ["a", "b", "c", "new", "up"]
    assert (root / "real/new/d").read_bytes() == b"d"
    assert (root / "not/yet/e").read_bytes() == b"e"
    assert (root / "h").samefile(root / "real/c")
    assert not (root / "rel").is_symlink()  # a folder's entry replaces a link, as in docker
    assert (root / "rel/f").read_bytes() == b"f"


def test_a_link_that_is_swapped(root: Path) -> None:
    """What was entered through a link is looked for anew when the link is another."""
    unpack(
        root,
        archive(
            folder("a"), folder("b"), symlink("s", "a"), file("s/1"),
            symlink("s", "b"), file("s/2"), folder("s"), file("s/3"),
            symlink("s", "a"), file("s/4"),
        ),
    )  # fmt: skip
    assert sorted(os.listdir(root / "a")) == ["1", "4"]
    assert os.listdir(root / "b") == ["2"]


def test_a_folder_on_the_own_way_is_swapped(root: Path) -> None:
    """``s`` leads over ``d/k`` back to ``d``: the entry ``s/k`` changes where ``s`` leads."""
    unpack(
        root,
        archive(
            folder("d/k"), folder("q/r"), symlink("s", "d/k/.."), file("s/1"),
            symlink("s/k", "../q/r"), file("s/2"),
        ),
    )  # fmt: skip
    assert (root / "d/1").exists()
    assert (root / "q/2").exists()


# ---- whiteouts ----


def test_whiteouts(root: Path) -> None:
    done = unpack(
        root,
        archive(
            folder("d", mtime=9), header("d/.wh.gone"), header(".wh.a"), file(".wh.data", b"zzz"),
            folder("back"), header(".wh.back"), file("back/x"),
            header(".wh.again"), folder("again"), file("again/x"),
            header(".wh.kept"), file("kept", b"k"), file("own", b"o"), header(".wh.own"),
            header(".wh.twice"), header(".wh.twice"), header(".wh.deep"), file("deep/er/x"),
        ),
    )  # fmt: skip
    for name in ("d/gone", "a", "data", "twice"):
        assert is_whiteout(root / name), name
    for name in ("back", "again", "deep"):
        assert os.getxattr(root / name, OPAQUE) == b"y", name
        assert os.listdir(root / name) in (["x"], ["er"])
    assert (root / "kept").read_bytes() == b"k"
    assert (root / "own").read_bytes() == b"o"
    assert (root / "d").stat().st_mtime == 9
    assert done.implicit == [b".", b"deep/er"]


def test_a_folder_where_a_whiteout_was_is_opaque(root: Path) -> None:
    """Whatever else of that name the layer had meanwhile."""
    done = unpack(
        root,
        archive(
            file("a"), header(".wh.a"), folder("a"), file("a/x"),
            header(".wh.b"), file("b"), folder("b"), file("b/x"),
            folder("c"), header(".wh.c"), symlink("c", "x"), folder("c"), file("c/x"),
            symlink("d", "x"), header("./.wh.d"), header(".wh.d"), folder("d"), file("d/x"),
            file("e/a"), header("e/.wh.a"), folder("e/a"), file("e/a/x"),
            file("f", b"f"), header(".wh.f"),
            file("plain"), folder("plain"), file("plain/x"),
        ),
    )  # fmt: skip
    for name in ("a", "b", "c", "d", "e/a"):
        assert os.getxattr(root / name, OPAQUE) == b"y", name
    for name in ("e", "plain"):
        assert OPAQUE not in os.listxattr(root / name), name
    assert (root / "f").read_bytes() == b"f"
    assert done.implicit == [b".", b"e"]
    assert done.left_out == []


def test_opaque_folders(root: Path) -> None:
    done = unpack(
        root,
        archive(
            folder("d"), header("d/.wh..wh..opq"), file("d/x"),
            header("e/.wh..wh..opq"), folder("e", mode=0o700), header("f/g/.wh..wh..opq"),
        ),
    )  # fmt: skip
    for name in ("d", "e", "f/g"):
        assert os.getxattr(root / name, OPAQUE) == b"y"
    assert os.listdir(root / "d") == ["x"]
    assert not done.opaque_root
    assert done.implicit == [b".", b"f", b"f/g"]
    assert unpack(root, archive(header("./.wh..wh..opq"))).opaque_root


def test_aufs_files_are_not_unpacked(root: Path) -> None:
    done = unpack(
        root,
        archive(
            file(".wh..wh.aufs"), folder(".wh..wh.orph"), file(".wh..wh.orph/x", b"y"),
            folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", b"linked"),
            hard_link("a", ".wh..wh.plnk/1.2"), hard_link("b", ".wh..wh.plnk/1.2"),
            file("d/.wh..wh.other"), folder("."),
        ),
    )  # fmt: skip
    assert sorted(os.listdir(root)) == ["a", "b"]
    assert (root / "a").samefile(root / "b")
    assert (root / "a").read_bytes() == b"linked"
    assert done.implicit == []


# ---- what the layers below have to help with ----


def test_implicit_folders(root: Path) -> None:
    old = os.umask(0o077)
    try:
        done = unpack(
            root,
            archive(
                file("b/c/f"), file("a/f"), folder("a"), file("x/y/z/f"), folder("x/y"),
                symlink("l", "b"), file("l/m/f"), file("gone/f"), file("gone"),
            ),
        )  # fmt: skip
    finally:
        os.umask(old)
    assert done.implicit == [b".", b"b", b"b/c", b"b/m", b"x", b"x/y/z"]
    assert stat.S_IMODE((root / "b/c").stat().st_mode) == 0o755


def test_hard_links_to_what_is_not_here(root: Path) -> None:
    done = unpack(
        root,
        archive(
            folder("."), folder("d"), hard_link("d/a", "/lower/file"), hard_link("b", "./other"),
            header(".wh.removed"), hard_link("c", "removed"), file("d/a", b"later"),
        ),
    )  # fmt: skip
    assert done.links == [(b"d/a", b"lower/file"), (b"b", b"other"), (b"c", b"removed")]
    assert (root / "d/a").read_bytes() == b"later"
    assert done.implicit == []


def test_devices_are_left_out_in_a_user_namespace(root: Path) -> None:
    done = unpack(
        root,
        archive(
            header("null", b"3", device=(1, 3)), header("sda", b"4", device=(8, 0)),
            file("was", b"x"), header("was", b"3", device=(1, 5)),
            header("fifo", b"6", mode=0o620), header("white", b"3", device=(0, 0)),
        ),
    )  # fmt: skip
    assert done.left_out == [b"null", b"sda", b"was"]
    assert sorted(os.listdir(root)) == ["fifo", "white"]
    assert stat.filemode((root / "fifo").lstat().st_mode) == "prw--w----"
    assert is_whiteout(root / "white")


# ---- the face ----


def test_counts(root: Path) -> None:
    done = unpack(
        root, archive(folder("."), file("a", b"123"), file("b", b"4567"), symlink("c", "a"))
    )
    assert (done.entries, done.size) == (4, 7)
    assert not (done.implicit or done.links or done.left_out)


def test_what_feeds_may_be_any_buffer(tmp_path: Path) -> None:
    from pycontain.image.extract import Extraction, Limits

    data = archive(file("f", b"content"))
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    try:
        with Extraction(fd, rootless=True, limits=Limits()) as extraction:
            extraction.feed(b"")
            extraction.feed(memoryview(data)[:600])
            extraction.feed(bytearray(data[600:]))
            extraction.finish()
        with pytest.raises(ValueError, match="closed"):
            extraction.feed(b"")
    finally:
        os.close(fd)
    assert (tmp_path / "root/f").read_bytes() == b"content"


def test_descriptors_are_given_back(root: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    unpack(root, archive(folder("d"), file("d/f", b"x" * 5000)))
    with pytest.raises(Exception, match="cut off"):
        unpack(root, archive(folder("e"), file("e/f", b"x" * 5000))[:2000])
    assert set(os.listdir("/proc/self/fd")) <= before


def test_one_zero_block_is_an_end(root: Path) -> None:
    unpack(root, file("f") + bytes(512))
    assert list(tree(root)) == [".", "f"]
    unpack(root, archive(file("g")) + bytes(10240 - 512 + 3))
