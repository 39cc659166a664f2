"""Walking, copying and archiving folders; on real files of the test's own."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.engine import archive, copying
from pycontain.engine.folders import Folder, Space, reopen, walk
from pycontain.engine.layers import Layers, changes, export
from pycontain.errors import Conflict, InvalidInput, PycontainError
from pycontain.kernel.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = (os.geteuid(), os.getegid())
KEEP = copying.Rules(None, powers=True)
OWN = copying.Rules(HERE, powers=False)
TIME = 1_000_000_007_123_456_789


def folder(path: Path) -> Folder:
    return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


def copy(source: Path, target: Path, name: str = "copy", rules: copying.Rules = KEEP) -> int:
    fd = os.open(source, os.O_PATH | os.O_NOFOLLOW)
    try:
        with folder(target) as there:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                return copying.Copier(rules).copy(fd, None, there, name)
            with Folder.of(fd) as content:
                return copying.Copier(rules).copy(fd, content, there, name)
    finally:
        os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where copies go."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one of each kind."""
    root = tmp_path / "source"
    (root / "sub/empty").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    (root / "sub/other").write_bytes(b"")
    (root / "tool").write_bytes(b"#!")
    (root / "tool").chmod(0o4751)
    os.link(root / "file", root / "sub/again")
    (root / "link").symlink_to("sub/other")
    (root / "out").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo", 0o640)
    # A socket's path is short.
    with contextlib.chdir(root), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    return root


def told(root: Path) -> dict[str, tuple[object, ...]]:
    """What can be seen of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content: object = None
        if stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(root))] = (info.st_mode, info.st_mtime_ns, content)
    return found


# ----------------------------------------------------------------------------------------- walking


Tree = dict[str, Any]
entries: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(
        st.just({"file": ""}),
        st.lists(st.sampled_from(["a", "b", "c", "..", "", "."]), min_size=1, max_size=4).map(
            lambda words: {"link": "/".join(words) or "/"}
        ),
    ),
    lambda inner: st.fixed_dictionaries(
        {"folder": st.dictionaries(st.sampled_from("abc"), inner, max_size=3)}
    ),
    max_leaves=8,
)
asked = st.lists(st.sampled_from(["a", "b", "c", "..", "", "."]), max_size=7).map("/".join)


def grow(path: str, tree: Tree) -> None:
    if "file" in tree:
        Path(path).write_bytes(b"")
    elif "link" in tree:
        os.symlink(tree["link"], path)
    else:
        os.mkdir(path)
        for name, inner in tree["folder"].items():
            grow(f"{path}/{name}", inner)


def outcome(act: Callable[[], int]) -> object:
    try:
        fd = act()
    except OSError as err:
        return err.errno
    info = os.fstat(fd)
    os.close(fd)
    return info.st_ino


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("abc"), entries, min_size=1, max_size=3), asked,
       st.booleans())  # fmt: skip
def test_a_walk_ends_where_the_kernels_does(
    tmp_path: Path, top: Tree, path: str, follow: bool
) -> None:
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    grow(str(root), {"folder": top})
    fd = os.open(root, os.O_PATH)
    flags = os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW
    try:
        kernels = outcome(lambda: open_in_root(fd, path or "/", flags))
        assert outcome(lambda: walk(fd, Space(), path, follow=follow)[0]) == kernels
    finally:
        os.close(fd)


def test_a_walk_meets_what_is_mounted_by_name(tmp_path: Path) -> None:
    for name in ("root/a/point", "root/other", "volume/inner"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/a/point/covered").touch()
    (tmp_path / "root/link").symlink_to("/a/point")
    (tmp_path / "volume/inner/file").touch()
    (tmp_path / "volume/back").symlink_to("/other")
    root, volume = (os.open(tmp_path / name, os.O_PATH) for name in ("root", "volume"))
    space = Space({("a", "point"): volume})
    try:

        def inode(path: str) -> object:
            return outcome(lambda: walk(root, space, path, follow=True)[0])

        assert inode("/link/inner/file") == (tmp_path / "volume/inner/file").stat().st_ino
        assert inode("/a/point/back") == (tmp_path / "root/other").stat().st_ino
        assert inode("/a/point/..") == (tmp_path / "root/a").stat().st_ino
        assert inode("/a/point/covered") == 2
        with Folder(os.open(tmp_path / "root/a", os.O_RDONLY), space, ("a",)) as above:
            assert above.mounted("point")
            with above.enter("point") as point:
                assert point.entries() == ["back", "inner"]
    finally:
        os.close(root)
        os.close(volume)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # whose open would wait for the other end
    fd = os.open(tmp_path / "fifo", os.O_PATH)
    try:
        with pytest.raises(OSError, match="not a regular file"):
            reopen(fd, os.O_RDONLY)
    finally:
        os.close(fd)


# ----------------------------------------------------------------------------------------- copying


def test_a_copy_is_like_its_source(source: Path, place: Path) -> None:
    size = copy(source, place)
    expected = told(source)
    del expected["socket"]  # nobody would answer
    assert told(place / "copy") == expected
    assert (place / "copy/file").stat().st_nlink == 2
    assert size == len(b"content") + len(b"#!")
    assert (place / "copy").stat().st_mtime_ns == TIME
    assert [name for name in os.listdir(place) if name != "copy"] == []


def test_a_copy_of_a_copy_replaces_it(source: Path, place: Path) -> None:
    copy(source, place)
    (source / "file").write_bytes(b"new")
    copy(source, place)
    assert (place / "copy/file").read_bytes() == b"new"
    assert (place / "copy/sub/again").samefile(place / "copy/file")
    assert sorted(os.listdir(place / "copy")) == ["fifo", "file", "link", "out", "sub", "tool"]


def test_powers_of_another_tree_are_dropped(source: Path, place: Path) -> None:
    copy(source, place, rules=OWN)
    assert stat.S_IMODE((place / "copy/tool").stat().st_mode) == 0o751


def test_a_new_owner_gets_no_set_id_bit() -> None:
    info = os.stat_result((stat.S_IFREG | 0o6755, 0, 0, 1, 1000, 1000, 0, 0, 0, 0))
    assert copying.attributes(info, b"cap", copying.Rules((0, 0), powers=True)).mode == 0o755
    assert copying.attributes(info, b"cap", copying.Rules((0, 0), powers=True)).capability is None
    same = copying.attributes(info, b"cap", copying.Rules((1000, 1000), powers=True))
    assert (same.mode, same.capability) == (0o6755, b"cap")


def test_a_device_is_its_owners_alone() -> None:
    info = os.stat_result((stat.S_IFBLK | 0o666, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    assert copying.attributes(info, None, copying.Rules((0, 0), powers=False)).mode == 0o600
    assert copying.attributes(info, None, KEEP).mode == 0o666


def test_a_folder_and_a_file_do_not_replace_each_other(source: Path, place: Path) -> None:
    (place / "copy/file").mkdir(parents=True)
    with pytest.raises(Conflict, match='directory "copy/file" with non-directory'):
        copy(source, place)
    shutil.rmtree(place / "copy")
    (place / "copy").mkdir()
    (place / "elsewhere").mkdir()
    (place / "copy/sub").symlink_to("../elsewhere")
    with pytest.raises(Conflict, match='non-directory "copy/sub" with directory'):
        copy(source, place)
    assert os.listdir(place / "elsewhere") == []


def test_a_socket_alone_is_refused(source: Path, place: Path) -> None:
    with pytest.raises(InvalidInput, match="socket"):
        copy(source / "socket", place)


def test_holes_stay_holes(tmp_path: Path, place: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as out:
        out.seek(8 << 20)
        out.write(b"middle")
        out.truncate(32 << 20)
    if file.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("a file system without holes")
    copy(file, place)
    made = place / "copy"
    assert made.stat().st_size == 32 << 20
    assert made.stat().st_blocks * 512 < 1 << 20
    assert made.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4096, 70000])
def test_data_without_ranges(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As between file systems that do not know each other: sendfile(2) does it."""

    def refuse(*_: object) -> int:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(size)
    (tmp_path / "from").write_bytes(data)
    with (tmp_path / "from").open("rb") as reader, (tmp_path / "to").open("wb") as writer:
        assert copying.copy_data(reader.fileno(), writer.fileno(), size) == size
    assert (tmp_path / "to").read_bytes() == data


def test_a_file_that_grows_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"0123456789")
    with (tmp_path / "from").open("rb") as reader, (tmp_path / "to").open("wb") as writer:
        assert copying.copy_data(reader.fileno(), writer.fileno(), 4) == 4
    assert (tmp_path / "to").read_bytes() == b"0123"


def test_a_file_that_was_cut_is_short(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"01")
    with (tmp_path / "from").open("rb") as reader, (tmp_path / "to").open("wb") as writer:
        assert copying.copy_data(reader.fileno(), writer.fileno(), 4096) == 2
    assert (tmp_path / "to").read_bytes() == b"01"


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path, place: Path) -> None:
    (place / "copy").write_bytes(b"old")

    def fill(fd: int) -> int:
        os.write(fd, b"half of it")
        raise OSError(28, "no space left on device")

    with folder(place) as there, pytest.raises(OSError, match="no space"):
        copying.write_file(there, "copy", fill, copying.Attributes(0o600, *HERE))
    assert os.listdir(place) == ["copy"]
    assert (place / "copy").read_bytes() == b"old"


def test_very_deep_folders_are_refused(tmp_path: Path, place: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(copying.DEPTH + 3):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    with pytest.raises(InvalidInput, match="folders deep"):
        copy(tmp_path / "d", place)


# ---------------------------------------------------------------------------------------- archives


class Plain:
    """A tree of the test's own, in the place of a container's."""

    name = "plain"

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_folders(self, path: str) -> Folder:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return self.folder(path)

    def folder(self, path: str) -> Folder:
        return folder(self.root / path.lstrip("/"))

    def look(self, path: str, *, follow: bool = True) -> int:
        return os.open(self.root / path.lstrip("/"), os.O_PATH | os.O_NOFOLLOW)

    def check_content(self, found: Folder, path: str) -> None:
        pass


def packed(root: Path) -> bytes:
    out = io.BytesIO()
    writer = archive.Writer(out)
    with folder(root) as content:
        writer.add_content(content, "")
    assert writer.finish() == len(out.getvalue())
    return out.getvalue()


def unpack(data: bytes, place: Path, path: str = "/") -> int:
    return archive.extract(io.BytesIO(data), Plain(place), path)  # type: ignore[arg-type]


def test_an_archive_and_back(source: Path, place: Path) -> None:
    size = unpack(packed(source), place)
    expected = told(source)
    del expected["socket"]
    assert told(place) == expected
    assert size == len(b"content") + len(b"#!")


def test_others_read_our_archives(source: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(source))) as tar:
        names = tar.getnames()
        assert tar.getmember("sub/again").linkname == "file"
        assert tar.getmember("tool").mode == 0o4751
        assert (tar.getmember("file").uid, tar.getmember("file").gid) == HERE
    assert names == sorted(names)
    assert "socket" not in names


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_compressed_archives_are_read(mode: Any, place: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        entry = tarfile.TarInfo("deep/er/file")
        entry.size, entry.uid, entry.gid = 3, *HERE
        tar.addfile(entry, io.BytesIO(b"abc"))
    assert unpack(out.getvalue(), place) == 3
    assert (place / "deep/er/file").read_bytes() == b"abc"


def one(**fields: Any) -> bytes:
    out = io.BytesIO()
    content = fields.pop("content", b"")
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo(fields.pop("name", "x"))
        entry.uid, entry.gid = HERE
        entry.size = len(content)
        for name, value in fields.items():
            setattr(entry, name, value)
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (one(name="../x"), "outside"),
        (one(type=tarfile.LNKTYPE, linkname="../secret"), "outside"),
        (one(type=b"Z"), "unknown type"),
        (one(pax_headers={"mtime": "inf"}), "read archive"),
        (one(pax_headers={"mtime": "99999999999999999999"}), "read archive"),
        (one(uid=2**40), "read archive"),
        (one(content=b"abc")[:514], "read archive"),
        (one(content=b"a" * 5000)[:3000], "read archive"),
        (b"\n", "not a tar archive"),
        (b"\x1f\x8b\x08 not gzip", "read archive"),
        (b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\0" + b"\xff" * 300, "not a tar archive"),
    ],
)
def test_what_is_no_archive_for_us(data: bytes, message: str, place: Path) -> None:
    (place.parent / "secret").write_bytes(b"s")
    with pytest.raises(InvalidInput, match=message):
        unpack(data, place)
    assert os.listdir(place) == []


def test_nothing_is_an_archive_without_members(place: Path) -> None:
    assert unpack(b"", place) == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1535), st.binary(min_size=1, max_size=8))
def test_a_damaged_archive_is_told_or_extracted_below(
    tmp_path: Path, at: int, noise: bytes
) -> None:
    place = tmp_path / "inner/place"
    shutil.rmtree(tmp_path / "inner", ignore_errors=True)
    place.mkdir(parents=True)
    data = bytearray(one(name="a/b", content=b"abc", pax_headers={"mtime": "1.5"}))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(PycontainError):
        unpack(bytes(data), place)
    assert os.listdir(tmp_path / "inner") == ["place"]


# ------------------------------------------------------------------------------------------ layers


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    for name in ("lower/etc", "lower/srv/old", "lower/gone", "upper", "lower/moved/deep"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("lower/etc/passwd", "lower/srv/old/file", "lower/gone/x", "lower/moved/deep/y"):
        (tmp_path / name).write_bytes(name.encode())
    for path in [*(tmp_path / "lower").rglob("*")]:
        os.utime(path, ns=(TIME, TIME))
    upper, lower = (os.open(tmp_path / name, os.O_PATH) for name in ("upper", "lower"))
    yield Layers(upper, lower, "user.overlay.")
    os.close(upper)
    os.close(lower)


def copied_up(tmp_path: Path, name: str) -> Path:
    """A folder of the lower layer in the upper one, unchanged."""
    path = tmp_path / "upper" / name
    path.mkdir(parents=True)
    return path


def settled(path: Path) -> None:
    os.utime(path, ns=(TIME, TIME))


def whiteout(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, 0)
    except PermissionError:
        pytest.skip("may not make a whiteout")


def marked(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, f"user.overlay.{name}", value)
    except OSError as err:
        pytest.skip(f"no user attributes here: {err}")


def lines(layers: Layers) -> list[str]:
    return [f"{change.kind} {change.path}" for change in changes(layers)]


def names_of(layers: Layers) -> list[str]:
    out = io.BytesIO()
    export(layers, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return sorted(tar.getnames())


def test_nothing_changed(layers: Layers, tmp_path: Path) -> None:
    settled(copied_up(tmp_path, "srv"))
    assert lines(layers) == []
    assert names_of(layers) == [
        "etc", "etc/passwd", "gone", "gone/x", "moved", "moved/deep", "moved/deep/y",
        "srv", "srv/old", "srv/old/file",
    ]  # fmt: skip


def test_added_changed_and_deleted(layers: Layers, tmp_path: Path) -> None:
    etc = copied_up(tmp_path, "etc")
    (etc / "passwd").write_bytes(b"changed")
    (etc / "new").write_bytes(b"")
    settled(etc)
    whiteout(tmp_path / "upper/gone")
    whiteout(etc / "never")  # of a name that the image does not have
    assert lines(layers) == ["C /etc", "A /etc/new", "C /etc/passwd", "D /gone"]
    assert [name for name in names_of(layers) if name.startswith(("etc", "gone"))] == [
        "etc", "etc/new", "etc/passwd",
    ]  # fmt: skip


def test_a_folder_whose_mode_changed(layers: Layers, tmp_path: Path) -> None:
    srv = copied_up(tmp_path, "srv")
    srv.chmod(0o700)
    settled(srv)
    assert lines(layers) == ["C /srv"]


def test_a_replaced_folder(layers: Layers, tmp_path: Path) -> None:
    srv = copied_up(tmp_path, "srv")
    marked(srv, "opaque", b"y")
    (srv / "new").write_bytes(b"")
    assert lines(layers) == ["C /srv", "A /srv/new", "D /srv/old"]
    assert [name for name in names_of(layers) if name.startswith("srv")] == ["srv", "srv/new"]


def test_a_renamed_folder_has_its_content(layers: Layers, tmp_path: Path) -> None:
    target = copied_up(tmp_path, "there")
    marked(target, "redirect", b"/moved")
    whiteout(tmp_path / "upper/moved")
    (target / "more").write_bytes(b"")
    assert lines(layers) == [
        "D /moved", "A /there", "A /there/deep", "A /there/deep/y", "A /there/more",
    ]  # fmt: skip
    assert [name for name in names_of(layers) if name.startswith(("there", "moved"))] == [
        "there", "there/deep", "there/deep/y", "there/more",
    ]  # fmt: skip


def test_a_folder_renamed_beside_itself(layers: Layers, tmp_path: Path) -> None:
    srv = copied_up(tmp_path, "srv")
    (srv / "young").mkdir()
    marked(srv / "young", "redirect", b"old")
    whiteout(srv / "old")
    assert lines(layers) == ["C /srv", "D /srv/old", "A /srv/young", "A /srv/young/file"]


def test_a_folder_became_a_file_and_a_file_a_folder(layers: Layers, tmp_path: Path) -> None:
    (tmp_path / "upper/gone").write_bytes(b"")
    (copied_up(tmp_path, "etc") / "passwd").mkdir()
    (tmp_path / "upper/etc/passwd/inner").write_bytes(b"")
    assert lines(layers) == ["C /etc", "C /etc/passwd", "A /etc/passwd/inner", "C /gone"]


def test_our_own_mount_points_are_no_change(layers: Layers, tmp_path: Path) -> None:
    for name in ("proc", "sys", "dev"):
        (tmp_path / "upper" / name).mkdir()
    etc = copied_up(tmp_path, "etc")
    (etc / "hosts").touch()
    assert lines(layers) == []
    (etc / "hosts").write_bytes(b"x")
    assert lines(layers) == ["C /etc", "A /etc/hosts"]
