"""Layers that are damaged, or made to harm: refused by name, with nothing touched beside them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.config import SETTINGS
from pycontain.errors import ImageError, PycontainError
from pycontain.image.extract import Budget, Extraction, Limits, shown
from tests.refused_layers import REFUSED, WHOLE, escapes, sparse
from tests.tarball import archive, file, folder, hard_link, header, pax, symlink, tree, unpack

if TYPE_CHECKING:
    from pathlib import Path


class Place:
    """A folder to unpack in, with things beside it that nobody may touch."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.beside = folder / "beside"
        self.beside.mkdir()
        (self.beside / "secret").write_text("secret")
        (self.beside / "folder").mkdir()
        (self.beside / "folder/kept").write_text("kept")
        (self.beside / "link").symlink_to("secret")
        os.mkfifo(self.beside / "fifo")
        self._before = tree(self.beside)
        self._above = set(os.listdir(folder))

    def check(self) -> None:
        assert tree(self.beside) == self._before
        assert set(os.listdir(self.beside.parent)) - {"root"} == self._above - {"root"}
        secret = (self.beside / "secret").stat()
        assert secret.st_nlink == 1
        for name, seen in tree(self.root).items():
            assert seen[-1] != b"secret", name


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("piece", [1 << 20, 333])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(place: Place, name: str, piece: int) -> None:
    parts, where, why = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        unpack(place.root, archive(parts), piece=piece)
    text = str(caught.value)
    assert text.startswith("layer: entry '" if where else "layer: ")
    assert (where or "") in text
    assert why in text
    assert "\n" not in text
    assert len(text) < 400
    place.check()


def outside(place: Place) -> list[bytes]:
    up = "../" * 20 + str(place.beside)[1:]
    return [entry for way in (str(place.beside), up, "../beside") for entry in escapes(way)]


def test_nothing_leads_outside(tmp_path: Path) -> None:
    first = tmp_path / "names"
    first.mkdir()
    for number in range(len(outside(Place(first)))):
        new = tmp_path / str(number)
        new.mkdir()
        place = Place(new)
        with contextlib.suppress(ImageError):
            unpack(place.root, archive(outside(place)[number]))
        place.check()


def test_a_deeper_tree_through_links_is_refused(place: Place) -> None:
    """Each path is short; where they lead is not."""
    parts = []
    way = ""
    for number in range(8):
        below = "/".join("d" for _ in range(90))
        parts += [pax(path=f"{way}{below}/x") + file("f")]
        parts += [pax(linkpath=f"{way}{below}"), symlink(f"l{number}", "x")]
        way = f"l{number}/"
    with pytest.raises(ImageError, match="folders deep"):
        unpack(place.root, archive(*parts))
    place.check()


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(entries=3), "more entries than are allowed: 3 entries"),
        (Limits(bytes=999), "larger than is allowed: 999 bytes"),
    ],
)
def test_limits(place: Place, limits: Limits, why: str) -> None:
    data = archive(folder("a"), file("b", b"x" * 500), header(".wh.c"), file("d", b"y" * 500))
    with pytest.raises(ImageError, match=f"entry 'd': the layer.*{why}") as caught:
        unpack(place.root, data, limits=limits)
    setting = "layer_max_entries" if limits.entries == 3 else "layer_max_size"
    assert setting in (caught.value.hint or "")
    assert setting in {known.name for known in SETTINGS}
    assert unpack(place.root, data, limits=Limits(entries=4, bytes=1000)).entries == 4


def test_layers_have_a_bound_together(place: Place) -> None:
    budget = Budget(Limits(image=1200))
    for name in ("one", "two"):
        (place.root / name).mkdir(parents=True)
    data = archive(file("a", b"x" * 600))
    fds = [os.open(place.root / name, os.O_RDONLY) for name in ("one", "two", ".")]
    try:
        for fd in fds[:2]:
            with Extraction(fd, rootless=True, limits=Limits(), budget=budget) as extraction:
                for at in range(0, len(data), 100):
                    extraction.feed(data[at : at + 100])
                assert extraction.finish().size == 600
        with (
            Extraction(fds[2], rootless=True, limits=Limits(), budget=budget) as extraction,
            pytest.raises(ImageError, match=r"image's files .*: 1200 bytes") as caught,
        ):
            extraction.feed(archive(file("a", b"x")))
    finally:
        for fd in fds:
            os.close(fd)
    assert "image_max_size" in (caught.value.hint or "")


def test_holes_are_not_counted(place: Place) -> None:
    entry = sparse(0, 500, size=1 << 40, data=b"x" * 500)
    assert unpack(place.root, archive(entry), limits=Limits(bytes=500)).size == 500


def test_cut_off_anywhere(place: Place) -> None:
    """Whatever is missing up to the first of the two blocks at the end is an error."""
    last = len(WHOLE) - 512
    borders = list(range(0, last, 512))
    for size in (*borders, *(border + 100 for border in borders)):
        with pytest.raises(ImageError) as caught:
            unpack(place.root, WHOLE[:size])
        assert "cut off" in str(caught.value) or "no end" in str(caught.value)
        assert "entry '" in str(caught.value) or size < 512
    unpack(place.root, WHOLE[:last])
    place.check()


def test_every_damaged_byte(place: Place) -> None:
    """Either it is refused, or it changes what is unpacked; nothing else happens."""
    for at in range(0, len(WHOLE), 37):
        data = bytearray(WHOLE)
        data[at] ^= 0x41
        with contextlib.suppress(ImageError):
            unpack(place.root, bytes(data))
    place.check()


NAMES = st.sampled_from(
    ["a", "b", "a/b", "b/a", "a/a/a", ".", "a/.wh.b", ".wh.a", "a/.wh..wh..opq", ".wh..wh..opq",
     "./a//b/", "/b", ".wh..wh.plnk/a", "b/..", "a/b/.wh.a"]
)  # fmt: skip
TARGETS = st.sampled_from(
    ["a", "b", "a/b", "..", "../..", "/", "/a", "../beside", "../../beside", ".", "b/../a",
     "nothing", "../beside/secret", "../beside/folder"]
)  # fmt: skip
ENTRIES = st.one_of(
    st.builds(lambda name, data: file(name, data), NAMES, st.binary(max_size=600)),
    st.builds(folder, NAMES, mode=st.sampled_from([0o755, 0o2700])),
    st.builds(symlink, NAMES, TARGETS),
    st.builds(hard_link, NAMES, TARGETS),
    st.builds(lambda name: header(name, b"6"), NAMES),
    st.builds(lambda name: header(name, b"3"), NAMES),
    st.builds(lambda name, path: pax(path=path) + file(name, b"p"), NAMES, NAMES),
    st.builds(
        lambda name: pax(SCHILY__xattr__user__overlay__opaque="y", mtime="2.5") + folder(name),
        NAMES,
    ),
)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(st.lists(ENTRIES, max_size=25), st.integers(1, 2000))
def test_any_entries_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, entries: list[bytes], piece: int
) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    before = set(os.listdir("/proc/self/fd"))
    with contextlib.suppress(ImageError):
        done = unpack(place.root, archive(*entries), piece=piece)
        for path in done.implicit:
            assert (place.root / os.fsdecode(path)).is_dir()
    assert set(os.listdir("/proc/self/fd")) <= before
    place.check()


def test_what_the_store_lacks_is_not_the_images_fault(place: Place) -> None:
    place.root.mkdir()
    fd = os.open(place.root, os.O_RDONLY)
    try:
        os.rmdir(place.root)
        with (
            Extraction(fd, rootless=True, limits=Limits()) as extraction,
            pytest.raises(PycontainError, match="entry 'f': make the file: no such file") as caught,
        ):
            extraction.feed(archive(file("f")))
        assert not isinstance(caught.value, ImageError)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"usr/bin/x", "usr/bin/x"),
        ("größe".encode(), "größe"),
        (b"a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        (b"\xff", "\\xff"),
        ("‮".encode(), "\\u202e"),
        (b"x" * 5000, "x" * 200 + "…"),
    ],
)
def test_names_in_messages(name: bytes, text: str) -> None:
    assert shown(name) == text
