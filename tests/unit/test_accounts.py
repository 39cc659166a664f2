"""USER and --group-add against the passwd and group files of an image."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import ImageError, InvalidInput, NotFound, PycontainError
from pycontain.runtime import accounts
from pycontain.runtime.accounts import Account

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
bob:x:1000:1000::/home/bob:/bin/sh
nohome:x:1001:1001:::/bin/sh
short:x:1002:1002
damaged
:x:1003:1003::/nameless:/bin/sh
noid:x:::/home/noid:/bin/sh
minus:x:-5:0::/:/bin/sh
huge:x:4294967295:0::/:/bin/sh
nogroup:x:1004:x::/:/bin/sh
1234:x:77:78::/h1234:/bin/sh
bob:x:2000:2000::/second:/bin/sh
+::::::
"""
GROUP = """\
root:x:0:
bob:x:1000:
audio:x:29:bob,x
video:x:44:x,bob
nolist:x:45
bad:x:abc:bob
short
1235:x:88:
"""


def open_below(root_fd: int, path: str, flags: int) -> int:
    """Open without the compiled part; the tests' folders hold no links that lead out."""
    return os.open(path, flags, dir_fd=root_fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_PATH | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def lookup(root_fd: int, user: str, *groups: str) -> Account:
    return accounts.lookup(root_fd, user, groups, opener=open_below)


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, (0,), "/root", "root")),
        (":", Account(0, 0, (0,), "/root", "root")),
        ("root", Account(0, 0, (0,), "/root", "root")),
        ("0", Account(0, 0, (0,), "/root", "root")),
        ("0:audio", Account(0, 29, (29,), "/root", "root")),
        (":5", Account(0, 5, (5,), "/root", "root")),
        ("bob", Account(1000, 1000, (1000, 29, 44), "/home/bob", "bob")),
        ("1000", Account(1000, 1000, (1000, 29, 44), "/home/bob", "bob")),
        ("1000:0", Account(1000, 0, (0,), "/home/bob", "bob")),
        ("bob:audio", Account(1000, 29, (29,), "/home/bob", "bob")),
        ("bob:5", Account(1000, 5, (5,), "/home/bob", "bob")),
        ("5000", Account(5000, 0, (0,), "/", "")),
        ("5000:audio", Account(5000, 29, (29,), "/", "")),
        ("007", Account(7, 0, (0,), "/", "")),
        ("4294967294", Account(2**32 - 2, 0, (0,), "/", "")),
        ("nohome", Account(1001, 1001, (1001,), "", "nohome")),
        ("short", Account(1002, 1002, (1002,), "", "short")),
        # a number is an id even where somebody has it for a name
        ("1234", Account(1234, 0, (0,), "/", "")),
        ("bob:1235", Account(1000, 1235, (1235,), "/home/bob", "bob")),
        ("bob:nolist", Account(1000, 45, (45,), "/home/bob", "bob")),
    ],
)
def test_user(root_fd: int, user: str, account: Account) -> None:
    assert lookup(root_fd, user) == account


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("bob:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("noid", "unable to find user noid: no matching entries in passwd file"),
        ("minus", "unable to find user minus: no matching entries in passwd file"),
        ("huge", "unable to find user huge: no matching entries in passwd file"),
        ("nogroup", "unable to find user nogroup: no matching entries in passwd file"),
        ("+", "unable to find user +: no matching entries in passwd file"),
        ("bob:bad", "unable to find group bad: no matching entries in group file"),
        ("٣", "unable to find user ٣: no matching entries in passwd file"),
    ],
)
def test_nobody_by_that_name(root_fd: int, user: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        lookup(root_fd, user)
    assert caught.value.message == message


@pytest.mark.parametrize("user", ["4294967295", "-1", "9" * 30, "bob:4294967295", "bob:-1"])
def test_an_id_out_of_range(root_fd: int, user: str) -> None:
    with pytest.raises(InvalidInput, match="must be in range 0-4294967294"):
        lookup(root_fd, user)


def test_two_colons(root_fd: int) -> None:
    with pytest.raises(InvalidInput, match="not in the form"):
        lookup(root_fd, "a:b:c")


def test_group_add(root_fd: int) -> None:
    account = lookup(root_fd, "bob", "88", "audio", "video", "88", "root")
    assert account.additional_gids == (1000, 29, 44, 88, 0)
    assert lookup(root_fd, "bob:0", "audio").additional_gids == (0, 29)
    with pytest.raises(NotFound, match="unable to find group nosuch"):
        lookup(root_fd, "bob", "nosuch")
    with pytest.raises(NotFound, match="unable to find group "):
        lookup(root_fd, "bob", "")
    with pytest.raises(InvalidInput, match="range"):
        lookup(root_fd, "bob", "-1")


def test_an_image_without_the_files(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/group").unlink()
    assert lookup(root_fd, "") == Account(0, 0, (0,), "/", "")
    assert lookup(root_fd, "5:6", "7") == Account(5, 6, (6, 7), "/", "")
    with pytest.raises(NotFound):
        lookup(root_fd, "root")
    (root / "etc").rmdir()
    assert lookup(root_fd, "1") == Account(1, 0, (0,), "/", "")


def test_no_link_leads_out_of_the_image(root: Path, root_fd: int) -> None:
    pytest.importorskip("pycontain._native._kernel")
    (root / "etc/passwd").rename(root / "real")
    (root / "etc/passwd").symlink_to("/real")
    assert accounts.lookup(root_fd, "bob").uid == 1000
    (root / "etc/passwd").unlink()
    outside = root.parent / "outside"
    outside.write_text(PASSWD)
    for link in (str(outside), "../../outside", "/proc/self/root" + str(outside)):
        (root / "etc/passwd").symlink_to(link)
        with pytest.raises(NotFound):
            accounts.lookup(root_fd, "bob")
        (root / "etc/passwd").unlink()


def test_a_fifo_is_refused_without_waiting(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    with pytest.raises(ImageError, match="/etc/passwd in the image: not a regular file"):
        lookup(root_fd, "bob")


def test_what_is_no_regular_file_is_never_opened(root: Path, root_fd: int) -> None:
    (root / "etc/group").unlink()
    (root / "etc/group").mkdir()
    flags: list[int] = []

    def spy(fd: int, path: str, how: int) -> int:
        flags.append(how)
        return open_below(fd, path, how)

    with pytest.raises(ImageError, match="not a regular file"):
        accounts.lookup(root_fd, "bob", opener=spy)
    assert all(how & os.O_PATH for how in flags)


def test_a_file_without_end_is_not_read(root: Path, root_fd: int) -> None:
    with open(root / "etc/passwd", "ab") as file:
        file.truncate(11 << 20)
    with pytest.raises(ImageError, match="larger than"):
        lookup(root_fd, "bob")


def test_a_line_without_end_names_nobody(root: Path, root_fd: int) -> None:
    text = "long:x:5:5::/" + "x" * (2 << 20) + "\nlast:x:6:6::/l:\n"
    (root / "etc/passwd").write_text(text)
    assert lookup(root_fd, "last").uid == 6
    with pytest.raises(NotFound):
        lookup(root_fd, "long")


def test_nul_bytes_and_foreign_encodings(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").write_bytes(b"nul:x:5:5::/a\0b:\n\xff:x:6:6::/\xff:\nok:x:7:7::/ok:\r\n")
    assert lookup(root_fd, "ok") == Account(7, 7, (7,), "/ok", "ok")
    assert lookup(root_fd, "5").home == "/"
    assert lookup(root_fd, "6").home == "/\ufffd"


def test_an_unreadable_root_is_an_error(root: Path) -> None:
    with pytest.raises(PycontainError, match="open in image: /etc/passwd: bad file descriptor"):
        lookup(10**6, "bob")


def test_no_descriptor_is_left(root: Path, root_fd: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    lookup(root_fd, "bob", "audio")
    with pytest.raises(NotFound):
        lookup(root_fd, "nosuch")
    assert set(os.listdir("/proc/self/fd")) <= before


@given(st.binary(), st.binary(), st.sampled_from(["", "bob", "5", "bob:bob", "0:5", ":bob"]))
def test_no_content_makes_it_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, passwd: bytes, group: bytes, user: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzz"
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_bytes(b"bob:x:" + passwd)
    (root / "etc/group").write_bytes(b"bob:x:" + group)
    fd = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        account = lookup(fd, user)
    except NotFound:
        return
    finally:
        os.close(fd)
    assert all(0 <= number <= 2**32 - 2 for number in (account.uid, *account.additional_gids))
