"""Packing layers: what is packed and unpacked again is the same, whatever is in a tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import socket
import stat
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.engine.layers import Layers, changes, export, pack
from pycontain.errors import ImageError, InvalidInput
from pycontain.image import packing
from pycontain.kernel.paths import as_path
from tests.tarball import tree, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEWEST = 1_700_000_000_123_456_789


class Trees:
    """An upper folder over a lower one, and what is unpacked of the packed upper one."""

    def __init__(self, folder: Path) -> None:
        self.lower, self.upper, self.made = (folder / name for name in ("lower", "upper", "made"))
        self.clear()

    def clear(self) -> None:
        for path in (self.lower, self.upper, self.made):
            shutil.rmtree(path, ignore_errors=True)
        self.lower.mkdir()
        self.upper.mkdir()

    def layers(self, upper: Path) -> _Opened:
        return _Opened(upper, self.lower)

    def packed(self, *, sparse: bool = True) -> bytes:
        """The archive of the upper folder."""
        file = io.BytesIO()
        packer = packing.Packer(packing.Stream(file), packing.attributes_of, sparse=sparse)
        with self.layers(self.upper) as opened:
            pack(opened, packer)
        packer.finish()
        return file.getvalue()

    def unpacked(self) -> Path:
        """The folder that comes of the archive."""
        unpack(self.made, self.packed())
        return self.made

    def names(self) -> list[str]:
        with tarfile.open(fileobj=io.BytesIO(self.packed())) as tar:
            return tar.getnames()

    def seen(self, upper: Path) -> bytes:
        """All that is seen of an upper folder over the lower one, as an archive."""
        file = io.BytesIO()
        with self.layers(upper) as opened:
            export(opened, file)
        return file.getvalue()


class _Opened:
    def __init__(self, upper: Path, lower: Path) -> None:
        self._paths = (upper, lower)
        self._fds: list[int] = []

    def __enter__(self) -> Layers:
        self._fds = [os.open(path, os.O_PATH) for path in self._paths]
        return Layers(self._fds[0], self._fds[1], "user.overlay.")

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def marked(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, f"user.overlay.{name}", value)
    except OSError as err:
        pytest.skip(f"no user attributes here: {err}")


def whiteout(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, 0)
    except PermissionError:
        pytest.skip("may not make a whiteout")


# ---- the same tree again ----

NAMES = st.text(
    st.characters(min_codepoint=1, max_codepoint=0x2FFF, exclude_characters="/"),
    min_size=1, max_size=60,
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))  # fmt: skip
TIMES = st.integers(min_value=-(10**18), max_value=4 * 10**18)
DATA = st.one_of(
    st.binary(max_size=2000),
    st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=50)),
)
FILES = st.fixed_dictionaries(
    {"data": DATA, "mode": st.integers(0, 0o7777).map(lambda mode: mode | 0o600),
     "time": TIMES, "attributes": st.dictionaries(NAMES.filter(lambda name: len(name) < 20),
                                                  st.binary(max_size=40), max_size=2)}
)  # fmt: skip
CONTENTS = st.recursive(
    st.one_of(FILES, NAMES.map(lambda text: ("link", text)), st.just(("pipe", ""))),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4).map(lambda found: ("folder", found)),
    max_leaves=8,
)


def write(folder: Path, contents: dict[str, Any]) -> None:
    first: Path | None = None
    for name, what in contents.items():
        path = folder / name
        if len(os.fsencode(name)) > 240:
            continue
        if isinstance(what, dict):
            write_file(path, what)
            if first is None:
                first = path
            elif len(name) % 3 == 0:
                os.link(first, folder / f"{path.name}.linked")
        elif what[0] == "link":
            path.symlink_to(what[1])
        elif what[0] == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
            write(path, what[1])
            os.utime(path, ns=(0, len(name) * 12345678901))


def write_file(path: Path, what: dict[str, Any]) -> None:
    with path.open("wb") as file:
        if isinstance(what["data"], tuple):
            file.seek(what["data"][0])
            file.write(what["data"][1])
            file.truncate(what["data"][0] * 2)
        else:
            file.write(what["data"])
    for name, value in what["attributes"].items():
        try:
            os.setxattr(path, f"user.{name}", value)
        except OSError:
            continue  # too many, or none are possible here
    path.chmod(what["mode"])
    os.utime(path, ns=(0, what["time"]))


@given(contents=st.dictionaries(NAMES, CONTENTS, max_size=4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_packed_and_unpacked_a_tree_is_the_same(trees: Trees, contents: dict[str, Any]) -> None:
    trees.clear()
    write(trees.upper, contents)
    packed, made = tree(trees.upper), tree(trees.unpacked())
    for found in (packed, made):
        del found["."]
        for name, fields in found.items():
            # pax has no form for a name with this letter
            found[name] = (*fields[:6], {k: v for k, v in fields[6].items() if "=" not in k},
                           *fields[7:])  # fmt: skip
    assert made == packed


def test_what_is_hidden_renamed_and_replaced_looks_the_same(trees: Trees) -> None:
    for name in ("etc", "srv/old/deep", "gone", "moved/deep", "replaced/below", "file"):
        (trees.lower / name).mkdir(parents=True)
    for name in ("etc/passwd", "srv/old/deep/x", "gone/x", "moved/deep/y", "replaced/below/z"):
        (trees.lower / name).write_text(name)
    for name in ("etc", "srv/young", "there/deep", "replaced"):
        (trees.upper / name).mkdir(parents=True)
    (trees.upper / "file").write_text("in the place of a folder")
    whiteout(trees.upper / "etc/passwd")
    whiteout(trees.upper / "gone")
    whiteout(trees.upper / "moved")
    whiteout(trees.upper / "srv/old")
    marked(trees.upper / "srv/young", "redirect", b"old")
    marked(trees.upper / "there", "redirect", b"/moved")
    marked(trees.upper / "replaced", "opaque", b"y")
    whiteout(trees.upper / "there/deep/y")
    (trees.upper / "there/deep/new").write_text("new")
    made = trees.unpacked()
    assert trees.names() == [
        "etc", "etc/.wh.passwd", "file", ".wh.gone", ".wh.moved", "replaced",
        "replaced/.wh..wh..opq", "srv", "srv/.wh.old", "srv/young", "srv/young/deep",
        "srv/young/deep/x", "there", "there/deep", "there/deep/new",
    ]  # fmt: skip
    assert trees.seen(made) == trees.seen(trees.upper)
    with trees.layers(made) as one, trees.layers(trees.upper) as other:
        assert changes(one) == changes(other)


def test_a_renamed_folder_in_the_place_of_another_hides_it(trees: Trees) -> None:
    for name in ("old/x", "new/y"):
        (trees.lower / name).mkdir(parents=True)
    (trees.upper / "new").mkdir()
    marked(trees.upper / "new", "redirect", b"old")
    whiteout(trees.upper / "old")
    assert trees.names() == ["new", "new/.wh..wh..opq", "new/x", ".wh.old"]
    assert trees.seen(trees.unpacked()) == trees.seen(trees.upper)


def test_a_whiteout_may_be_an_attribute(trees: Trees) -> None:
    (trees.lower / "etc").mkdir()
    (trees.lower / "etc/a").write_text("a")
    (trees.upper / "etc").mkdir()
    for name in ("a", "b"):
        (trees.upper / "etc" / name).touch()
    marked(trees.upper / "etc/a", "whiteout", b"y")
    assert trees.names() == ["etc", "etc/a", "etc/b"]  # the folder does not say so
    marked(trees.upper / "etc", "opaque", b"x")
    assert trees.names() == ["etc", "etc/.wh.a", "etc/b"]
    with trees.layers(trees.upper) as opened:
        assert [str(one.kind) + one.path for one in changes(opened)] == [
            "C/etc", "D/etc/a", "A/etc/b",
        ]  # fmt: skip


def test_our_mount_points_are_in_no_layer(trees: Trees) -> None:
    (trees.lower / "etc").mkdir()
    for name in ("proc", "sys", "dev", "etc"):
        (trees.upper / name).mkdir()
        marked(trees.upper / name, "opaque", b"y") if name != "etc" else None
    for name in ("dev/init", "etc/hosts", "etc/resolv.conf", "etc/hostname"):
        (trees.upper / name).touch()
    assert trees.names() == []
    (trees.upper / "etc/more").touch()
    (trees.upper / "dev/mine").touch()
    assert trees.names() == ["dev", "dev/mine", "etc", "etc/more"]


def test_mount_points_in_a_tree_without_their_folder(trees: Trees) -> None:
    (trees.upper / "etc").mkdir()
    (trees.upper / "etc/hosts").touch()
    assert trees.names() == []
    with trees.layers(trees.upper) as opened:
        assert changes(opened) == []
    (trees.upper / "etc/more").touch()
    assert trees.names() == ["etc", "etc/more"]


def test_a_folder_above_mount_points_that_was_changed_is_in_the_layer(trees: Trees) -> None:
    for place in (trees.lower, trees.upper):
        (place / "etc").mkdir(mode=0o755)
    assert trees.names() == []
    (trees.upper / "etc").chmod(0o711)
    assert trees.names() == ["etc"]


def test_the_root_is_in_the_layer_where_it_was_changed(trees: Trees) -> None:
    assert trees.names() == []
    trees.upper.chmod(0o711)
    assert trees.names() == ["."]


def test_the_same_tree_gives_the_same_bytes(trees: Trees, tmp_path: Path) -> None:
    write(trees.upper, {"a": {"data": b"x" * 5000, "mode": 0o644, "time": 5, "attributes": {}}})
    found = []
    for number in range(2):
        with (tmp_path / str(number)).open("wb") as file:
            output = packing.Output(file, gzip=True)
            output.write(trees.packed())
            output.finish()
        data = (tmp_path / str(number)).read_bytes()
        assert output.size == len(data)
        assert output.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        plain = hashlib.sha256(gzip.decompress(data)).hexdigest()
        assert output.diff_id == f"sha256:{plain}"
        found.append(data)
    assert found[0] == found[1]


# ---- files that are not as they should be ----


class _Meddling(io.BytesIO):
    """An output that changes a file as soon as its header was written."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__()
        self._path = path
        self._size = size

    def write(self, data: Any, /) -> int:
        os.truncate(self._path, self._size)
        return super().write(data)

    def flush(self) -> None:
        """Nothing waits."""


@pytest.mark.parametrize("size", [0, 10, 999_999, 5_000_000])
def test_a_file_that_changes_its_size_does_not_break_the_archive(trees: Trees, size: int) -> None:
    path = trees.upper / "file"
    path.write_bytes(b"x" * 1_000_000)
    (trees.upper / "last").write_text("last")
    file = _Meddling(path, size)
    output: Any = file
    packer = packing.Packer(output, packing.attributes_of, sparse=True)
    with trees.layers(trees.upper) as opened:
        pack(opened, packer)
    packer.finish()
    made = trees.made
    unpack(made, file.getvalue())
    assert (made / "last").read_text() == "last"
    data = (made / "file").read_bytes()
    assert data == b"x" * min(size, 1_000_000) + bytes(max(0, 1_000_000 - size))


def test_holes_are_left_out(trees: Trees) -> None:
    with (trees.upper / "big").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"end")
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate((1 << 30) + 100_000)
    assert len(trees.packed()) < 100_000
    made = trees.unpacked() / "big"
    info = made.stat()
    assert info.st_size == (1 << 30) + 100_000
    assert info.st_blocks * 512 < 1 << 20
    with made.open("rb") as file:
        file.seek(1 << 20)
        assert file.read(6) == b"middle"
        file.seek(1 << 30)
        assert file.read(5) == b"end\0\0"


def test_more_holes_than_are_told_are_zeros(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_MOST_REGIONS", 3)
    with (trees.upper / "holes").open("wb") as file:
        for number in range(10):
            file.seek(number << 16)
            file.write(b"%d" % number)
    before = (trees.upper / "holes").read_bytes()
    assert (trees.unpacked() / "holes").read_bytes() == before


def test_a_socket_is_left_out(trees: Trees) -> None:
    before = os.getcwd()
    os.chdir(trees.upper)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(before)
    (trees.upper / "file").touch()
    assert trees.names() == ["file"]


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq", ".wh."])
def test_a_name_that_is_a_mark_is_refused(trees: Trees, name: str) -> None:
    (trees.upper / "folder").mkdir()
    (trees.upper / "folder" / name).touch()
    with pytest.raises(ImageError, match=r"/folder/\.wh\."):
        trees.packed()


def test_too_many_folders_are_refused(trees: Trees) -> None:
    path = trees.upper
    for _ in range(260):
        path = path / "d"
        path.mkdir()
    with pytest.raises(InvalidInput, match="folders deep"):
        trees.packed()


def test_links_are_not_followed(trees: Trees, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("secret")
    (trees.lower / "etc").mkdir()
    (trees.lower / "etc/file").write_text("")
    for name, target in (("etc", "secret"), ("file", "secret/file"), ("up", "..")):
        (trees.upper / name).symlink_to(tmp_path / target)
    assert b"secret\0" not in trees.packed().replace(os.fsencode(tmp_path / "secret"), b"")
    assert trees.names() == ["etc", "file", "up"]


def test_attributes_of_the_machine_are_left_out(trees: Trees) -> None:
    path = trees.upper / "file"
    path.touch()
    marked(path, "origin", b"x")
    os.setxattr(path, "user.mine", b"\xff\0")
    fd = os.open(path, os.O_PATH)
    try:
        assert packing.attributes(as_path(fd)) == {"SCHILY.xattr.user.mine": "\udcff\0"}
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def few_descriptors() -> Iterator[None]:
    """Nothing stays open."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before
