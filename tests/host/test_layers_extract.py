"""Unpacking layers as root: the same tree as GNU tar makes, and as overlayfs shows it."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import python_env
from ordinary import accounts_locked, open_up

from pycontain.errors import ImageError, StoreError
from pycontain.image import parents
from pycontain.kernel import mount, process
from tests.tarball import (
    archive,
    file,
    folder,
    hard_link,
    header,
    meta,
    pax,
    record,
    symlink,
    tree,
    unpack,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.host

TAR = ("tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep
NAMESPACE = 100_000  # the first of the ids that the tests' user namespace has


@pytest.fixture(autouse=True)
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: owners, devices and attributes")


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
ACL = acl(
    (1, 6, NO_ID), (2, 4, 12345), (4, 4, NO_ID), (8, 7, 23456), (16, 6, NO_ID), (32, 0, NO_ID)
)


def make_sparse(path: Path) -> None:
    with open(path, "wb") as opened:
        for at in (100_000, 1_000_000, 5_000_000):
            opened.seek(at)
            opened.write(b"data" * 3000)
        opened.truncate(9_000_000)


def make_tree(top: Path, *, attributes: bool = True) -> None:
    """Something of each kind."""
    (top / "d/e").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "d/f").write_bytes(os.urandom(70_000))
    (top / "d/e/small").write_bytes(b"small")
    (top / "d/e/nothing").touch()
    os.link(top / "d/f", top / "d/e/hard")
    os.link(top / "d/f", top / "another")
    (top / "d/link").symlink_to("../d/e/small")
    (top / "absolute").symlink_to("/etc/passwd")
    os.link(top / "absolute", top / "absolute2", follow_symlinks=False)
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(8, 17))
    make_sparse(top / "sparse")
    with open(top / "hole", "wb") as opened:
        opened.truncate(1 << 20)
    (top / "setuid").write_bytes(b"#!")
    os.chown(top / "setuid", 0, 12345)
    (top / "setuid").chmod(0o6755)
    os.chown(top / "d/e", 12345, 23456)
    (top / "d/e").chmod(0o3770)
    os.chown(top / "d/link", 1, 2, follow_symlinks=False)
    os.chown(top / "fifo", 65534, 65533)
    os.chown(top / "d/e/small", 2_000_000, 2_000_001)  # more than seven octal digits
    if attributes:
        os.setxattr(top / "d/f", "user.text", b"value\n=\0x")
        os.setxattr(top / "d", "user.folder", b"")
        os.setxattr(top / "setuid", "security.capability", CAPABILITY)
        os.setxattr(top / "d/f", "trusted.mine", b"1")
        os.setxattr(top / "d/link", "trusted.link", b"2", follow_symlinks=False)
        os.setxattr(top / "fifo", "trusted.fifo", b"3")
        os.setxattr(top / "d/e/small", "system.posix_acl_access", ACL)
        os.setxattr(top / "empty", "system.posix_acl_access", ACL)
        os.setxattr(top / "empty", "system.posix_acl_default", ACL)


def long_names(top: Path) -> None:
    deep = top / ("n" * 90) / ("m" * 120)
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).write_text("long")
    (top / "to").symlink_to("t" * 300)
    os.link(deep / ("f" * 200), top / "hard")
    (top / "größe").write_text("x")
    (top / os.fsdecode(b"\xff\xfe")).write_text("x")


def set_times(top: Path, *, nanoseconds: bool, first: int = -(10**8)) -> None:
    chance = random.Random(1)
    for base, folders, names in os.walk(top, topdown=False):
        for name in (*names, *folders):
            time = chance.randrange(first, 2 * 10**9) * 10**9
            time += chance.randrange(10**9) if nanoseconds else 0
            os.utime(os.path.join(base, name), ns=(time, time), follow_symlinks=False)
    os.utime(top, (10**9, 10**9))


def gnu_unpack(path: Path, target: Path) -> dict[str, Any]:
    target.mkdir()
    subprocess.run([*TAR, "-xpf", path, "-C", target], check=True)
    return tree(target)


def both(tmp_path: Path, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    expected = gnu_unpack(path, tmp_path / "gnu")
    unpack(tmp_path / "ours", path.read_bytes(), rootless=False, piece=70_001)
    return tree(tmp_path / "ours"), expected


@pytest.mark.parametrize(
    "flags",
    [
        ["--format=gnu"], ["--format=oldgnu"], ["--format=gnu", "--sparse"],
        ["--format=posix"], ["--format=posix", "--sparse", "--sparse-version=0.0"],
        ["--format=posix", "--sparse", "--sparse-version=0.1"],
        ["--format=posix", "--sparse", "--sparse-version=1.0"],
        ["--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"],
        ["--format=posix", "--sort=name", "--pax-option=globexthdr.name=g,mtime=123.5"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_tree_is_gnu_tars(tmp_path: Path, flags: list[str]) -> None:
    source = tmp_path / "source"
    attributes = "--xattrs" in flags
    make_tree(source, attributes=attributes)
    long_names(source)
    set_times(source, nanoseconds=True)
    path = tmp_path / "layer.tar"
    subprocess.run(["tar", "-C", source, "-cf", path, *flags, "."], check=True)
    ours, expected = both(tmp_path, path)
    assert ours == expected
    if attributes:
        assert ours == tree(source)
        for name in ("sparse", "hole"):
            assert ours[name] == tree(source)[name]
    if "--sparse" in flags:
        for name in ("sparse", "hole"):
            assert (tmp_path / "ours" / name).stat().st_blocks <= (source / name).stat().st_blocks


@pytest.mark.parametrize("form", ["ustar", "v7"])
def test_old_forms(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    make_tree(source, attributes=False)
    os.chown(source / "d/e/small", 1, 1)
    if form == "v7":  # which has no devices
        for name in ("fifo", "null", "disk"):
            (source / name).unlink()
    for base, folders, names in os.walk(source):
        for name in (*folders, *names):
            os.utime(os.path.join(base, name), (10**9, 10**9), follow_symlinks=False)
    path = tmp_path / "layer.tar"
    subprocess.run(["tar", "-C", source, "-cf", path, f"--format={form}", "."], check=True)
    ours, expected = both(tmp_path, path)
    assert ours == expected


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_pythons_tarfile(tmp_path: Path, form: int) -> None:
    source = tmp_path / "source"
    make_tree(source, attributes=False)
    os.chown(source / "d/e/small", 1, 1)
    set_times(source, nanoseconds=form == tarfile.PAX_FORMAT)
    if form == tarfile.USTAR_FORMAT:  # which has no times before 1970
        for base, folders, names in os.walk(source):
            for name in (*folders, *names):
                os.utime(os.path.join(base, name), (10**9, 10**9), follow_symlinks=False)
    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w", format=form) as tar:
        tar.add(source, ".")
    ours, expected = both(tmp_path, path)
    assert ours == expected


@pytest.mark.parametrize("form", ["pax", "gnutar", "ustar"])
def test_archives_of_libarchive(tmp_path: Path, form: str) -> None:
    if not shutil.which("bsdtar"):
        pytest.skip("bsdtar is not installed")
    source = tmp_path / "source"
    make_tree(source, attributes=False)
    os.chown(source / "d/e/small", 1, 1)
    if form == "pax":
        os.setxattr(source / "d/f", "user.text", b"value\n=x")
    # Before 1970 it counts the fraction the other way than everybody else.
    set_times(source, nanoseconds=form == "pax", first=0)
    path = tmp_path / "layer.tar"
    words = ["bsdtar", "--format", form, "--numeric-owner", "-C", str(source), "-cf", str(path)]
    subprocess.run([*words, "."], check=True)
    unpack(tmp_path / "ours", path.read_bytes(), rootless=False)
    assert tree(tmp_path / "ours") == tree(source)


def copy_etc(top: Path) -> None:
    """A real tree that stays as it is: the machine's /etc, copied into `top`.

    Meanwhile other tests add users to the machine, and packages may be installed: tar(1) fails
    where a folder changes while it is read. What has gone before cp(1) comes to it is left out.
    """
    with accounts_locked():
        done = subprocess.run(["cp", "-a", "/etc", top], capture_output=True, check=False)
    assert {"fstab", "group", "passwd"} <= set(os.listdir(top / "etc")), done.stderr


def test_a_real_tree_in_any_order(tmp_path: Path) -> None:
    """A folder's time and mode do not depend on what comes before it."""
    copy_etc(tmp_path)
    path = tmp_path / "layer.tar"
    subprocess.run([*TAR, "-C", tmp_path, "--format=posix", "-cf", path, "etc"], check=True)
    ours, expected = both(tmp_path, path)
    del ours["."], expected["."]
    assert ours == expected
    shuffled = tmp_path / "shuffled.tar"
    with tarfile.open(path) as tar, tarfile.open(shuffled, "w", format=tarfile.PAX_FORMAT) as out:
        members = tar.getmembers()
        random.Random(3).shuffle(members)
        for member in members:
            out.addfile(member, tar.extractfile(member) if member.isreg() else None)
    done = unpack(tmp_path / "again", shuffled.read_bytes(), rootless=False)
    if not done.links:
        found = tree(tmp_path / "again")
        del found["."]
        assert found == expected


def test_an_acl_as_text(tmp_path: Path) -> None:
    """As star writes it, with numbers; one with a name alone says nothing here."""
    text = "user::rw-,user:lisa:r--:12345,group::r--,group:23456:rwx,mask::rw-,other::---"
    path = tmp_path / "root"
    unpack(
        path,
        archive(
            pax(SCHILY__acl__access=text), file("f", mode=0o660),
            pax(SCHILY__acl__access=text, SCHILY__acl__default=text), folder("d", mode=0o760),
            file("d/inherits not", mode=0o644), folder("d/neither", mode=0o755),
            symlink("d/l", "x"), header("d/p", b"6", mode=0o640), file("d/made/f", mode=0o604),
            pax(SCHILY__acl__access="user::rw-,user:lisa:r--,group::r--,mask::r--,other::---"),
            file("named", mode=0o640),
        ),
        rootless=False,
    )  # fmt: skip
    assert os.getxattr(path / "f", "system.posix_acl_access") == ACL
    assert os.getxattr(path / "d", "system.posix_acl_default") == ACL
    found = {name: (seen[0], seen[6]) for name, seen in tree(path).items()}
    assert found["d/inherits not"] == ("-rw-r--r--", {})
    assert found["d/neither"] == ("drwxr-xr-x", {})
    assert found["d/made"] == ("drwxr-xr-x", {})
    assert found["d/made/f"] == ("-rw----r--", {})
    assert found["d/p"] == ("prw-r-----", {})
    assert found["named"] == ("-rw-r-----", {})


def test_marks_of_overlayfs_and_labels_are_not_taken_over(tmp_path: Path) -> None:
    names = ("trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy",
             "trusted.overlay.overlay.opaque", "user.overlay.whiteout", "security.selinux",
             "security.SMACK64", "security.evm")  # fmt: skip
    records = b"".join(record(f"SCHILY.xattr.{name}", b"y") for name in names)
    parts = [meta(b"x", records) + entry for entry in (file("f"), folder("d"), symlink("l", "f"))]
    parts.append(meta(b"x", records + record("SCHILY.xattr.trusted.mine", b"y")) + folder("."))
    unpack(tmp_path / "root", archive(*parts), rootless=False)
    seen = {name: seen[6] for name, seen in tree(tmp_path / "root").items()}
    assert seen == {".": {"trusted.mine": b"y"}, "d": {}, "f": {}, "l": {}}


def test_umask_and_setgid_folders_do_not_matter(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 0, 12345)
    root.chmod(0o2777)
    old = os.umask(0o077)
    try:
        unpack(
            root,
            archive(
                file("a/f", mode=0o666), folder("d", mode=0o777), header("p", b"6", mode=0o666)
            ),
        )
    finally:
        os.umask(old)
    seen = {name: seen[:3] for name, seen in tree(root).items()}
    assert seen["a"] == ("drwxr-xr-x", 0, 0)
    assert seen["a/f"] == ("-rw-rw-rw-", 0, 0)
    assert seen["d"] == ("drwxrwxrwx", 0, 0)
    assert seen["p"] == ("prw-rw-rw-", 0, 0)


# ---- on top of other layers ----


class Layers:
    """Layers below each other, each unpacked and completed."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.folders: list[str] = []

    def add(self, *parts: bytes) -> None:
        self.unpack(archive(*parts))

    def unpack(self, data: bytes) -> None:
        path = self.top / f"layer{len(self.folders)}"
        done = unpack(path, data, rootless=False)
        fd = os.open(path, os.O_RDONLY)
        try:
            parents.settle(fd, done, self.folders, rootless=False)
        finally:
            os.close(fd)
        self.folders.append(str(path))

    def seen(self) -> dict[str, tuple[Any, ...]]:
        """What they look like together."""
        fd = mount.stack(self.folders)
        try:
            return tree(f"/proc/self/fd/{fd}/.")
        finally:
            os.close(fd)


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    yield Layers(tmp_path)


BASE = (
    folder(".", mode=0o751, mtime=1), folder("etc", uid=5, gid=6, mode=0o2750, mtime=2),
    file("etc/passwd", b"root", mtime=3), folder("etc/d", mtime=4), file("etc/d/x", b"x", mtime=5),
    pax(SCHILY__xattr__user__mark="1", mtime="6.5"), folder("var", mode=0o700),
    folder("var/lib", mode=0o711, mtime=7),
    file("var/lib/data", b"data" * 100, mode=0o4711, mtime=8),
    symlink("lib", "usr/lib", mtime=9), folder("usr"), folder("usr/lib"), file("usr/lib/so", b"so"),
    header("null", b"3", device=(1, 3), mtime=10), file("gone", b"gone"),
)  # fmt: skip


def test_unlisted_folders_are_what_they_are_below(layers: Layers) -> None:
    layers.add(*BASE)
    before = layers.seen()
    layers.add(file("etc/d/new", b"n"), file("var/lib/new", b"n"), file("elsewhere/new", b"n"))
    after = layers.seen()
    for name in (".", "etc", "etc/d", "var", "var/lib"):
        assert after[name][:8] == before[name][:8], name
    assert after["elsewhere"][:3] == ("drwxr-xr-x", 0, 0)
    assert after["var"][6] == {"user.mark": b"1"}
    layers.add(file("var/lib/third", b"3"), folder("etc", mode=0o700, mtime=20))
    assert layers.seen()["var/lib"][:8] == before["var/lib"][:8]
    assert layers.seen()["etc"][:4] == ("drwx------", 0, 0, 20 * 10**9)


def test_a_folder_in_the_place_of_a_link_or_of_what_was_removed(layers: Layers) -> None:
    layers.add(*BASE)
    layers.add(file("lib/new", b"n"), header(".wh.var"), file("var/lib/new", b"n"))
    seen = layers.seen()
    assert seen["lib"][:3] == ("drwxr-xr-x", 0, 0)  # as docker has it: not through the link below
    assert seen["var"][:3] == seen["var/lib"][:3] == ("drwxr-xr-x", 0, 0)
    assert seen["var"][6] == {}
    assert "var/lib/data" not in seen


def test_whiteouts_hide(layers: Layers) -> None:
    layers.add(*BASE)
    layers.add(
        header(".wh.gone"), header("etc/.wh.passwd"), header("var/.wh..wh..opq"),
        header(".wh.usr"), folder("usr"), file("usr/only", b"o"), header(".wh.never"),
    )  # fmt: skip
    seen = layers.seen()
    assert not {"gone", "etc/passwd", "var/lib", "usr/lib", "never"} & set(seen)
    assert {"etc/d/x", "var", "usr/only", "null"} <= set(seen)
    assert seen["var"][6] == {"user.mark": b"1"}
    layers.add(file("etc/passwd", b"back"), file("var/lib/data", b"back"), file("gone/x"))
    seen = layers.seen()
    assert {"etc/passwd", "var/lib/data", "gone/x", "usr/only"} <= set(seen)
    assert seen["var/lib"][0] == "drwxr-xr-x"  # nothing of the first layer's


def test_all_below_is_hidden(layers: Layers) -> None:
    layers.add(*BASE)
    layers.add(header(".wh..wh..opq"), file("etc/own", b"o"), folder("usr"), file("null", b"f"))
    seen = layers.seen()
    assert set(seen) == {".", "etc", "etc/own", "usr", "null"}
    assert seen["."][:4] == ("drwxr-x--x", 0, 0, 10**9)
    assert seen["etc"][:3] == ("drwxr-xr-x", 0, 0)
    assert seen["null"][0] == "-rw-r--r--"


def test_hard_links_to_a_lower_layer(layers: Layers) -> None:
    layers.add(*BASE)
    layers.add(folder("new", mtime=30))
    layers.add(
        hard_link("new/a", "var/lib/data"), hard_link("new/b", "/var/lib/data"),
        hard_link("new/link", "lib"), hard_link("new/dev", "null"),
        hard_link("so", "lib/so"), hard_link("new/c", "so"),
        header(".wh.gone"), hard_link("kept", "gone"),
        hard_link("late", "soon"), file("soon", b"s"),
    )  # fmt: skip
    seen = layers.seen()
    assert seen["new/a"][7] == seen["new/b"][7] == seen["var/lib/data"][7] == "new/a"
    assert seen["new/a"][:5] == ("-rws--x--x", 0, 0, 8 * 10**9, 400)
    assert seen["new/link"][0] == "lrwxrwxrwx"
    assert seen["new/dev"][:6] == seen["null"][:6]
    assert seen["so"][8] == seen["usr/lib/so"][8]
    assert seen["so"][7] == seen["new/c"][7]
    assert seen["late"][7] == seen["soon"][7]
    assert "gone" not in seen
    assert seen["kept"][4] == 4
    assert seen["new"][3] == 30 * 10**9
    assert (seen["var/lib"][3], seen["var"][6]) == (7 * 10**9, {"user.mark": b"1"})


def test_a_copied_file_keeps_holes_attributes_and_capabilities(layers: Layers) -> None:
    big = meta(
        b"x",
        record("SCHILY.xattr.security.capability", CAPABILITY) + record("SCHILY.xattr.user.a", "b")
        + record("GNU.sparse.size", 1 << 26) + record("GNU.sparse.map", "1048576,3"),
    )  # fmt: skip
    layers.add(folder("."), big, file("big", b"abc"))
    layers.add(hard_link("copy", "big"))
    seen = layers.seen()
    assert seen["copy"][6] == {"security.capability": CAPABILITY, "user.a": b"b"}
    assert seen["copy"][4] == 1 << 26
    assert os.stat(f"{layers.folders[1]}/copy").st_blocks <= 64


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([hard_link("a", "never")], "entry 'a': a hard link to 'never', which neither"),
        ([hard_link("a", "etc/never/x")], "which neither this layer nor one below has"),
        ([hard_link("a", "etc")], "which is a folder"),
        ([hard_link("a", "lib/../x")], "has"),
        ([hard_link("a", "soon"), folder("soon")], "which is a folder"),
    ],
)
def test_hard_links_that_lead_nowhere(layers: Layers, parts: Sequence[bytes], why: str) -> None:
    layers.add(*BASE)
    with pytest.raises(ImageError, match=why):
        layers.add(*parts)
    with pytest.raises(ImageError, match="neither this layer nor one below"):
        Layers(layers.top / "layer0").add(hard_link("a", "never"))


def test_a_link_that_a_later_entry_replaced(layers: Layers) -> None:
    layers.add(*BASE)
    layers.add(
        folder("d"), hard_link("d/a", "gone"), file("d/a", b"later"),
        hard_link("d/e/f", "gone"), symlink("d/e", "/usr"), hard_link("w", "gone"), header(".wh.w"),
    )  # fmt: skip
    seen = layers.seen()
    assert seen["d/a"][4] == 5
    assert seen["d/e"][0] == "lrwxrwxrwx"
    assert seen["w"][4] == 4
    assert "usr/f" not in seen


def test_lower_layers_are_never_written(layers: Layers) -> None:
    layers.add(*BASE)
    before = tree(layers.folders[0])
    layers.add(
        header(".wh..wh..opq"), hard_link("a", "var/lib/data"), hard_link("b", "lib/so"),
        file("etc/d/new"), symlink("var", "/etc"),
    )  # fmt: skip
    assert tree(layers.folders[0]) == before


# ---- in a user namespace ----

ROOTLESS = """
import ctypes, json, os, sys
from pathlib import Path
from pycontain.image import parents
from pycontain.kernel import mount
from tests.tarball import tree, unpack
libc = ctypes.CDLL(None, use_errno=True)
# Entered once all is imported: the checkout may lie where nobody but root may look.
if libc.setns(int(sys.argv[1]), 0x10000000):  # CLONE_NEWUSER
    raise OSError(ctypes.get_errno(), "setns")
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
if libc.unshare(0x00020000):  # CLONE_NEWNS
    raise OSError(ctypes.get_errno(), "unshare")
top = Path(sys.argv[2])
folders = []
for number, path in enumerate(sys.argv[3:]):
    done = unpack(top / str(number), Path(path).read_bytes(), rootless=True)
    fd = os.open(top / str(number), os.O_RDONLY)
    parents.settle(fd, done, folders, rootless=True)
    folders.append(str(top / str(number)))
fd = mount.stack(folders, user_xattr=True)
seen = tree(f"/proc/self/fd/{fd}/.")
lists = [os.fsdecode(path) for path in done.left_out]
print(json.dumps([{name: repr(value) for name, value in seen.items()}, lists]))
"""


def in_namespace(top: Path, *archives: bytes) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    """Unpack layers as root of a user namespace, and look at them there."""
    top.mkdir()
    paths = []
    for number, data in enumerate(archives):
        paths.append(top / f"{number}.tar")
        paths[-1].write_bytes(data)
    os.chown(top, NAMESPACE, NAMESPACE)
    open_up(top.parent)
    ids = f"0 {NAMESPACE} 65536"
    fd = process.user_namespace(ids, ids)
    try:
        done = subprocess.run(
            [sys.executable, "-c", ROOTLESS, str(fd), top, *paths],
            capture_output=True, text=True, check=False, env=python_env(), pass_fds=(fd,),
        )  # fmt: skip
    finally:
        os.close(fd)
    if done.returncode:
        raise AssertionError(done.stderr)
    seen, left_out = json.loads(done.stdout)
    return {name: eval(value) for name, value in seen.items()}, left_out


def test_rootless(tmp_path: Path) -> None:
    capability = meta(b"x", record("SCHILY.xattr.security.capability", CAPABILITY)
                      + record("SCHILY.xattr.trusted.mine", "x")
                      + record("SCHILY.xattr.user.text", "y"))  # fmt: skip
    base = archive(
        folder(".", uid=0, gid=0), folder("d", uid=33, gid=44, mode=0o2751),
        file("d/x", uid=0, gid=0),
        capability, file("tool", b"t", uid=0, gid=7, mode=0o4755), file("gone", uid=0, gid=0),
        folder("opaque", uid=0, gid=0), file("opaque/old", uid=0, gid=0),
        header("null", b"3", device=(1, 3), uid=0, gid=0), header("fifo", b"6", uid=0, gid=65535),
        pax(SCHILY__acl__access="user::rw-,user:33:r--,group::r--,mask::r--,other::---"),
        file("acl", uid=0, gid=0, mode=0o640),
    )  # fmt: skip
    upper = archive(
        header(".wh.gone", uid=0, gid=0), header("opaque/.wh..wh..opq", uid=0, gid=0),
        file("d/new", uid=1, gid=1), hard_link("same", "tool"),
        header("sda", b"4", device=(8, 0), uid=0, gid=0),
    )  # fmt: skip
    seen, left_out = in_namespace(tmp_path / "store", base, upper)
    assert set(seen) == {".", "d", "d/x", "d/new", "tool", "opaque", "fifo", "acl", "same"}
    assert seen["d"][:3] == ("drwxr-s--x", 33, 44)
    assert seen["tool"][0] == "-rwsr-xr-x"
    assert seen["tool"][7] == seen["same"][7] == "same"
    assert seen["tool"][6]["security.capability"] == CAPABILITY
    assert set(seen["tool"][6]) == {"security.capability", "user.text"}
    assert seen["acl"][6]["system.posix_acl_access"] == acl(
        (1, 6, NO_ID), (2, 4, 33), (4, 4, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID)
    )
    assert left_out == ["sda"]
    assert (tmp_path / "store/0/d").stat().st_uid == NAMESPACE + 33


def test_an_id_that_the_namespace_lacks(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="entry 'f': set the owner: invalid argument"):
        in_namespace(tmp_path / "store", archive(file("f", uid=70_000, gid=0)))


# ---- the store ----


def test_a_full_disk_is_the_stores_trouble(tmp_path: Path) -> None:
    fd = mount.new_mount("tmpfs", [("size", "1m")])
    try:
        with pytest.raises(StoreError, match="entry 'f': write the file: no space left"):
            unpack(Path(f"/proc/self/fd/{fd}/root"), archive(file("f", bytes(2 << 20))))
    finally:
        os.close(fd)


def test_tarfile_reads_what_the_tests_write() -> None:
    """The helper's archives are what the standard library takes for archives."""
    data = archive(
        folder("d"), pax(path="d/long", mtime="1.5"), file("x", b"abc"), symlink("l", "d")
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["d", "d/long", "l"]
