"""The words of docker's command line, accepted and refused."""

import contextlib
import csv
import io
import os
import posixpath
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.model.container import Device, Mount, Ulimit
from pycontain.model.parse.environment import (
    parse_env_file,
    parse_env_text,
    parse_label,
    resolve_env,
)
from pycontain.model.parse.hosts import (
    parse_add_host,
    parse_dns,
    parse_dns_option,
    parse_dns_search,
    parse_hostname,
)
from pycontain.model.parse.mounts import (
    merge_mounts,
    option_family,
    parse_mount,
    parse_tmpfs,
    parse_volume,
)
from pycontain.model.parse.names import (
    parse_detach_keys,
    parse_namespace,
    parse_sysctl,
    sysctl_namespace,
    validate_name,
)
from pycontain.model.parse.numbers import parse_size, parse_umask
from pycontain.model.parse.resources import parse_device, parse_ulimit
from pycontain.model.parse.signals import parse_signal
from pycontain.model.parse.times import parse_duration, parse_time
from pycontain.model.parse.words import normalise

CWD = "/work/here"
NOW = 1_700_000_000_000_000_000
PATHS = st.lists(
    st.text(st.characters(exclude_characters="/:,\0", exclude_categories=["Cs"]), min_size=1),
    min_size=1,
    max_size=4,
).map(lambda parts: "/" + "/".join(parts))


def bind(source: str, target: str, *options: str, make: bool = True) -> Mount:
    return Mount(type="bind", source=source, target=target, options=options, make_source=make)


def refused(function: Callable[..., object], *words: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        function(*words)
    message = caught.value.message
    assert message[0].islower() or message[0] == "-"
    assert not message.endswith(".")
    return message


# ---------------------------------------------------------------------------------------- mounts


@pytest.mark.parametrize(
    ("word", "mount"),
    [
        ("/home:/a", bind("/home", "/a")),
        ("/home:/a:rw", bind("/home", "/a")),
        ("/home:/a:ro", bind("/home", "/a", "rro")),
        ("/home:/a:ro,rslave", bind("/home", "/a", "rro", "rslave")),
        ("/home:/a:bind,private", bind("/home", "/a", "bind", "private")),
        ("/home:/a:nosuid,nodev,noexec", bind("/home", "/a", "nosuid", "nodev", "noexec")),
        ("/home:/a:z", bind("/home", "/a")),
        ("/home:/a:Z,ro", bind("/home", "/a", "rro")),
        ("/home:/a:cached", bind("/home", "/a")),
        ("//home//x/:/a/../b//c/", bind("/home/x", "/b/c")),
        (".:/a", bind("/work/here", "/a")),
        ("./x:/a", bind("/work/here/x", "/a")),
        ("../x:/a", bind("/work/x", "/a")),
        ("/home:/proc/uptime", bind("/home", "/proc/uptime")),
        ("/proc:/proc", bind("/proc", "/proc")),
        ("/home:/procedure", bind("/home", "/procedure")),
        ("/anon", Mount(type="volume", target="/anon")),
        ("/anon/", Mount(type="volume", target="/anon")),
    ],
)
def test_volume(word: str, mount: Mount) -> None:
    assert parse_volume(word, CWD) == mount


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("", "empty"),
        (":", "empty section between colons"),
        ("/home:", "empty section between colons"),
        (":/a", "empty section between colons"),
        ("/home:/a:", "empty section between colons"),
        ("/a:/b:ro:x", "too many colons"),
        ("a", "must be absolute"),
        ("/", "cannot be /"),
        ("/home:/", "cannot be /"),
        ("/home:/..", "cannot be /"),
        ("/home:a", "must be absolute"),
        ("/a:ro", "anonymous volume"),
        ("n:/a", "volume name is too short"),
        ("a/b:/a", "absolute path"),
        ("~/x:/a", "absolute path"),
        ("/home:/a:foo", "unknown option 'foo'"),
        ("/home:/a:RO", "unknown option"),
        ("/home:/a:ro,", "unknown option ''"),
        ("/home:/a:ro,rw", "contradicts"),
        ("/home:/a:ro,ro", "repeats"),
        ("/home:/a:rslave,rshared", "contradicts"),
        ("/home:/a:z,Z", "contradicts"),
        ("/home:/a:suid,nosuid", "contradicts"),
        ("/home:/a:nocopy", "not for a host path"),
        ("/home:/proc", "/proc"),
        ("/home:/proc/sys", "inside /proc"),
        ("/home:/x/../proc/self", "inside /proc"),
        ("/ho\0me:/a", "NUL"),
        ("/home:/a\0", "NUL"),
        ("/home\udcff:/a", "UTF-8"),
    ],
)
def test_volume_refused(word: str, reason: str) -> None:
    message = refused(parse_volume, word, CWD)
    assert reason in message
    assert message.startswith("--volume ")


@given(st.text(alphabet="/.:abro,zZ\0é"))
def test_any_volume_word_is_refused_or_normalised(word: str) -> None:
    try:
        mount = parse_volume(word, CWD)
    except InvalidInput:
        return
    assert mount.target == normalise(mount.target) != "/"
    assert (mount.type == "bind") == mount.source.startswith("/")


@given(PATHS, PATHS)
@example("/a", "/b")
def test_volume_keeps_paths(source: str, target: str) -> None:
    source, target = normalise(source), normalise("/t" + target)
    if target == "/":
        return
    try:
        mount = parse_volume(f"{source}:{target}", CWD)
    except InvalidInput as err:
        assert target.startswith("/proc")
        assert "/proc" in err.message
        return
    assert (mount.source, mount.target) == (source, target)


@given(st.text(alphabet="/.a").map("/".__add__))
def test_normalise_is_idempotent_and_absolute(path: str) -> None:
    once = normalise(path)
    assert normalise(once) == once
    assert once.startswith("/")
    assert not once.startswith("//")
    assert ".." not in once.split("/")
    assert posixpath.normpath(once) == once


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("/t", ()),
        ("/t:", ()),
        ("/t/:defaults", ()),
        ("/t:size=64m,mode=1777", ("size=64m", "mode=1777")),
        ("/t:size=50%,uid=5,gid=6", ("size=50%", "uid=5", "gid=6")),
        ("/t:exec,suid,dev,ro,noatime", ("exec", "suid", "dev", "ro", "noatime")),
        ("/t:nr_inodes=1k,nr_blocks=5", ("nr_inodes=1k", "nr_blocks=5")),
    ],
)
def test_tmpfs(word: str, options: tuple[str, ...]) -> None:
    assert parse_tmpfs(word) == Mount(type="tmpfs", target="/t", options=options)


@pytest.mark.parametrize(
    "word",
    [
        "", "t", "/", "/t:foo", "/t:foo=1", "/t:size=x", "/t:size=", "/t:size=-1", "/t:size=5%%",
        "/t:mode=9", "/t:mode=77777", "/t:mode=", "/t:uid=x", "/t:uid=4294967295", "/t:gid=-1",
        "/t:size", "/t:exec=1", "/t:ro,", "/proc/x", "/proc", "/t:nr_inodes=5%", "/t:mpol=",
        "/t:lowerdir=/", "/t:bind",
    ],
)  # fmt: skip
def test_tmpfs_refused(word: str) -> None:
    assert refused(parse_tmpfs, word).startswith("--tmpfs ")


@pytest.mark.parametrize(
    ("word", "mount"),
    [
        ("type=bind,src=/home,dst=/a", bind("/home", "/a", make=False)),
        ("TYPE=BIND,Source=/home,Target=/a", bind("/home", "/a", make=False)),
        ("type=bind,source=./x,destination=/a,ro", bind("/work/here/x", "/a", "rro", make=False)),
        ("type=bind,src=/h,dst=/a,readonly=true", bind("/h", "/a", "rro", make=False)),
        ("type=bind,src=/h,dst=/a,ro=false", bind("/h", "/a", make=False)),
        ("type=bind,src=/h,dst=/a,bind-propagation=rslave", bind("/h", "/a", "rslave", make=False)),
        ("type=bind,src=/h,dst=/a,bind-nonrecursive", bind("/h", "/a", "bind", make=False)),
        ("type=bind,src=/h,dst=/a,bind-recursive=disabled", bind("/h", "/a", "bind", make=False)),
        ("type=bind,src=/h,dst=/a,bind-recursive=enabled", bind("/h", "/a", make=False)),
        ("type=bind,src=/h,dst=/a,ro,bind-recursive=writable", bind("/h", "/a", "ro", make=False)),
        (
            "type=bind,src=/h,dst=/a,ro,bind-recursive=readonly,bind-propagation=rprivate",
            bind("/h", "/a", "rro", "rprivate", make=False),
        ),
        ("type=bind,src=/h,dst=/a,consistency=cached", bind("/h", "/a", make=False)),
        ("type=bind,src=/h,dst=/a,dst=/b", bind("/h", "/b", make=False)),
        ('"type=bind","src=/home,x",dst=/a', bind("/home,x", "/a", make=False)),
        ('type=bind,"src=/a""b",dst=/a', bind('/a"b', "/a", make=False)),
        ("type=tmpfs,dst=/a", Mount(type="tmpfs", target="/a")),
        (
            "type=tmpfs,dst=/a,tmpfs-size=1m,tmpfs-mode=1777,ro",
            Mount(type="tmpfs", target="/a", options=("ro", "mode=1777", "size=1048576")),
        ),
        ("type=volume,dst=/a", Mount(type="volume", target="/a")),
        ("dst=/a", Mount(type="volume", target="/a")),
    ],
)
def test_mount(word: str, mount: Mount) -> None:
    assert parse_mount(word, CWD) == mount


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("", "key=value"),
        ("type=bind,src=/home", "target is required"),
        ("type=bind,dst=/a", "needs a source"),
        ("type=bind,src=hv,dst=/a", "must be absolute"),
        ("type=bind,src=/home,dst=a", "must be absolute"),
        ("type=bind,src=/home,dst=/", "cannot be /"),
        ("type=bind,src=/home,dst=/proc/sys/kernel", "inside /proc"),
        ("type=bind,src=/h,dst=/a,readonly=x", "bad value for readonly"),
        ("type=bind,src=/h,dst=/a,bind-propagation=foo", "bad value for bind-propagation"),
        ("type=bind,src=/h,dst=/a,bind-recursive=foo", "bad value for bind-recursive"),
        ("type=bind,src=/h,dst=/a,bind-recursive=writable", "needs readonly"),
        ("type=bind,src=/h,dst=/a,bind-recursive=readonly", "needs readonly"),
        ("type=bind,src=/h,dst=/a,ro,bind-recursive=readonly", "needs bind-propagation=rprivate"),
        ("type=bind,src=/h,dst=/a,tmpfs-size=1", "does not belong"),
        ("type=tmpfs,dst=/a,bind-propagation=slave", "does not belong"),
        ("type=bind,src=/h,dst=/a,volume-nocopy", "does not belong"),
        ("type=bind,src=/h,dst=/a,consistency=x", "bad value for consistency"),
        ("type=tmpfs,dst=/a,src=/x", "no source"),
        ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid size"),
        ("type=tmpfs,dst=/a,tmpfs-size=-1", "invalid size"),
        ("type=tmpfs,dst=/a,tmpfs-mode=9", "bad value for tmpfs-mode"),
        ("type=tmpfs", "target is required"),
        ("type=foo,dst=/a", "unknown mount type"),
        ("src=/home,dst=/a", "invalid characters"),
        ("type=volume,dst=/a,ro", "read-only"),
        ("type=bind,src=/h,dst=/a,foo=1", "unexpected key 'foo'"),
        ("type=bind,src=/h,dst=/a,foo", "key=value"),
        ("type=bind,src=/h,dst=/a,", "key=value"),
        ("type=bind, src=/h,dst=/a", "unexpected key ' src'"),
        ('"type=bind', "not closed"),
        ('"type=bind"x,dst=/a', "after a closing quote"),
        ('ty"pe=bind,dst=/a', "quote inside"),
    ],
)
def test_mount_refused(word: str, reason: str) -> None:
    message = refused(parse_mount, word, CWD)
    assert reason in message
    assert message.startswith("--mount ")


@given(PATHS, PATHS, st.booleans())
def test_mount_reads_what_a_csv_writer_wrote(source: str, target: str, readonly: bool) -> None:
    source, target = normalise(source + '"x,y'), normalise("/top" + target)
    if target == "/":
        return
    out = io.StringIO()
    fields = ["type=bind", f"src={source}", f"dst={target}", *(["ro"] if readonly else [])]
    csv.writer(out, lineterminator="").writerow(fields)
    try:
        mount = parse_mount(out.getvalue(), CWD)
    except InvalidInput:
        assert target.startswith("/proc")
        return
    assert mount == bind(source, target, *(["rro"] if readonly else []), make=False)


@given(st.text(alphabet='typebindsrc=/,"a'))
def test_any_mount_word_is_refused_or_read(word: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert parse_mount(word, CWD).target.startswith("/")


VOLUME = Mount(type="volume", target="/a")
TMPFS = Mount(type="tmpfs", target="/a")


@pytest.mark.parametrize(
    ("mounts", "left"),
    [
        ([VOLUME, bind("/x", "/a")], [bind("/x", "/a")]),
        ([bind("/x", "/a"), VOLUME], [bind("/x", "/a")]),
        ([VOLUME, VOLUME], [VOLUME]),
        ([TMPFS, VOLUME, bind("/x", "/b")], [TMPFS, bind("/x", "/b")]),
    ],
)
def test_an_anonymous_volume_gives_way(mounts: list[Mount], left: list[Mount]) -> None:
    assert merge_mounts(mounts) == tuple(left)


@pytest.mark.parametrize(
    "mounts",
    [
        [bind("/x", "/a"), bind("/y", "/a")],
        [bind("/x", "/a"), TMPFS],
        [TMPFS, TMPFS],
        [VOLUME, TMPFS, bind("/x", "/a")],
    ],
)
def test_two_mounts_at_one_target_are_refused(mounts: list[Mount]) -> None:
    assert "duplicate mount point: /a" in refused(merge_mounts, mounts)


def test_a_mount_made_by_the_library_is_checked_too() -> None:
    assert "inside /proc" in refused(merge_mounts, [bind("/x", "/proc/sys")])
    assert "absolute" in refused(merge_mounts, [bind("/x", "a")])


@pytest.mark.parametrize(
    ("option", "family"),
    [("ro", "writing"), ("rro", "writing"), ("noexec", "exec"), ("size=5m", "size"),
     ("rslave", "propagation"), ("noatime", "atime"), ("bind", "depth"), ("other", "other")],
)  # fmt: skip
def test_option_family(option: str, family: str) -> None:
    assert option_family(option) == family


# --------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("64m", 64 << 20), ("64M", 64 << 20), ("64mb", 64 << 20), ("64MiB", 64 << 20),
        ("64 m", 64 << 20), ("1.5g", 3 << 29), (".5m", 1 << 19), ("1b", 1), ("5", 5), ("0", 0),
        ("1k", 1024), ("1kib", 1024), ("1t", 1 << 40), ("1p", 1 << 50), ("1.5", 1), ("1 ", 1),
        ("1.0001k", 1024), ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_size(word: str, size: int) -> None:
    assert parse_size(word) == size


@pytest.mark.parametrize(
    "word",
    ["", " ", "-1", "x", "1e", "64mm", "0x10", "1e3", "1_000", "inf", "nan", "1..5", "1.5.5", ".",
     "m", "1  m", "9223372036854775808", "8192p", "1bb", "1ib", "ib", "٣", "+5m"],
)  # fmt: skip
def test_size_refused(word: str) -> None:
    assert "invalid size" in refused(parse_size, word)
    assert refused(parse_size, word, "--memory").startswith("--memory ")


@given(st.integers(0, 2**40), st.integers(0, 10**9 - 1), st.sampled_from("kmg"))
def test_a_size_is_exact(whole: int, fraction: int, unit: str) -> None:
    factor = 1024 ** ("kmg".index(unit) + 1)
    exact = (Fraction(whole) + Fraction(fraction, 10**9)) * factor
    if exact < 2**63:
        assert parse_size(f"{whole}.{fraction:09}{unit}") == int(exact)


@pytest.mark.parametrize(
    ("word", "soft", "hard"),
    [("nofile=1:2", 1, 2), ("nofile=5", 5, 5), ("nofile=-1", -1, -1), ("nofile=5:-1", 5, -1),
     ("nofile=0", 0, 0), ("nofile=-1:-1", -1, -1), ("nofile=7:7", 7, 7)],
)  # fmt: skip
def test_ulimit(word: str, soft: int, hard: int) -> None:
    assert parse_ulimit(word) == Ulimit(name="nofile", soft=soft, hard=hard)


@pytest.mark.parametrize(
    "word",
    ["nofile", "nofile=", "nofile=x", "nofile=5:3", "nofile=-1:5", "nofile=1:2:3", "foo=1",
     "NOFILE=1", "nofile=-2", "nofile=1 ", "nofile=:5", "nofile=5:", "nofile=9223372036854775808",
     "as=1", "=1", "nofile=unlimited", ""],
)  # fmt: skip
def test_ulimit_refused(word: str) -> None:
    assert refused(parse_ulimit, word).startswith("--ulimit ")


@pytest.mark.parametrize(("word", "umask"), [("0022", 0o22), ("22", 0o22), ("0", 0), ("777", 511)])
def test_umask(word: str, umask: int) -> None:
    assert parse_umask(word) == umask


@pytest.mark.parametrize("word", ["", "8", "1000", "-1", "0o22", "x", "٢"])
def test_umask_refused(word: str) -> None:
    refused(parse_umask, word)


@pytest.mark.parametrize(
    ("word", "target", "access"),
    [("/dev/null", "/dev/null", "rwm"), ("/dev/null:/dev/x", "/dev/x", "rwm"),
     ("/dev/null:rw", "/dev/null", "rw"), ("/dev/null:/dev/x:m", "/dev/x", "m"),
     ("/dev//null:/dev/x:wr", "/dev/x", "wr")],
)  # fmt: skip
def test_device(word: str, target: str, access: str) -> None:
    assert parse_device(word) == Device(source="/dev/null", target=target, access=access)


@pytest.mark.parametrize(
    "word",
    ["", "null", "/dev/null:", ":/dev/x", "/dev/null:x", "/dev/null:/dev/x:", "/dev/null:/dev/x:x",
     "/dev/null:/dev/x:rr", "/dev/null:/dev/x:r:m", "/dev/null:rwmx", "vendor/class=x"],
)  # fmt: skip
def test_device_refused(word: str) -> None:
    assert refused(parse_device, word).startswith("--device ")


# ----------------------------------------------------------------------------- environment, labels


def test_env() -> None:
    words = ["A=b", "A=", "HOST", "ABSENT", " B=c=d", "E=x\ny"]
    assert resolve_env(words, {"HOST": "v"}) == (
        "A=b", "A=", "HOST=v", "ABSENT", " B=c=d", "E=x\ny",
    )  # fmt: skip


@pytest.mark.parametrize("word", ["", "=x", "A=\0", "A=\udcff"])
def test_env_refused(word: str) -> None:
    refused(resolve_env, [word], {})


def test_env_refuses_a_value_of_the_caller_that_is_no_text() -> None:
    refused(resolve_env, ["A"], {"A": os.fsdecode(b"\xff")})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", ()),
        (b"#c\nA=1\n\n  B=2 \n # x\nHOST\nABSENT\n", ("A=1", "B=2 ", "HOST=v")),
        (b"\xef\xbb\xbfA=1\r\nB=2", ("A=1", "B=2")),
        (b'A="q" #x\nA=2\n', ('A="q" #x', "A=2")),
        (b"\t\n\r\nA=a=b\n", ("A=a=b",)),
        (b"A=" + b"x" * 60000, ("A=" + "x" * 60000,)),
    ],
)
def test_env_text(text: bytes, lines: tuple[str, ...]) -> None:
    assert parse_env_text(text, "f", {"HOST": "v"}) == lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"A=1\n=1\n", "no variable name in line 2"),
        (b"A B=1", "white space"),
        (b"A\xc2\xa0B=1", "white space"),
        (b"HOST  \n", "white space"),
        (b"A=\xff", "line 1 is not UTF-8"),
        (b"A=\0", "NUL"),
        (b"A=" + b"x" * 70000, "longer than"),
    ],
)
def test_env_text_refused(text: bytes, reason: str) -> None:
    message = refused(parse_env_text, text, "file.env", {"HOST": "v"})
    assert reason in message
    assert "file.env" in message


NAMES = st.text(
    st.characters(exclude_characters="=#\0", exclude_categories=["Cs", "Z", "Cc"]), min_size=1
)
VALUES = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_env_text_returns_what_was_written(pairs: list[tuple[str, str]]) -> None:
    if pairs and pairs[0][0].startswith("\ufeff"):
        return
    lines = [f"{name}={value}" for name, value in pairs]
    assert parse_env_text("\n".join(lines).encode(), "f", {}) == tuple(lines)


@given(st.binary())
def test_any_env_text_is_refused_or_whole(data: bytes) -> None:
    try:
        lines = parse_env_text(data, "f", {})
    except InvalidInput:
        return
    assert all("=" in line[1:] and "\0" not in line and "\n" not in line for line in lines)


def test_env_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"A=1\nHOST\n")
    assert parse_env_file(str(path), {"HOST": "v"}) == ("A=1", "HOST=v")
    assert "no such file" in refused(parse_env_file, str(tmp_path / "none"), {})
    assert "is a directory" in refused(parse_env_file, str(tmp_path), {})
    assert "null" in refused(parse_env_file, "a\0b", {})


def test_env_file_is_bounded() -> None:
    assert "larger than" in refused(parse_env_file, "/dev/zero", {})


def test_labels() -> None:
    words = ("a=b", "c", "d=", "e=f=g")
    assert [parse_label(word) for word in words] == [
        ("a", "b"), ("c", ""), ("d", ""), ("e", "f=g"),
    ]  # fmt: skip
    for word in ("", "=b", "a=\udcff"):
        refused(parse_label, word)


# --------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("word", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("sigterm", 15), ("15", 15), ("015", 15), ("1", 1), ("64", 64),
     ("CLD", 17), ("POLL", 29), ("IOT", 6), ("RTMIN", 34), ("RTMIN+3", 37), ("sigrtmin+15", 49),
     ("RTMAX", 64), ("RTMAX-14", 50), ("RTMIN+0", 34)],
)  # fmt: skip
def test_signal(word: str, number: int) -> None:
    assert parse_signal(word) == number


@pytest.mark.parametrize(
    "word",
    ["", "0", "-1", "65", "SIG", "FOO", "RTMIN+16", "RTMIN+40", "RTMIN-1", "RTMAX+1", "RTMAX-15",
     "RTMIN+", "RTMIN3", "9.0", "15 ", "+9", "99999999999", "RTMIN+٣", "SIGSIGTERM"],
)  # fmt: skip
def test_signal_refused(word: str) -> None:
    assert "invalid signal" in refused(parse_signal, word)


def test_signals_are_this_machines() -> None:
    for number in signal.Signals:
        assert parse_signal(number.name) == number


# ------------------------------------------------------------------------------------------ time


@pytest.mark.parametrize(
    ("word", "nanoseconds"),
    [("10m", 600 * 10**9), ("1h30m", 5400 * 10**9), ("1.5s", 1_500_000_000), ("-2h", -7200 * 10**9),
     ("0", 0), ("0s", 0), ("100ms", 10**8), ("5us", 5000), ("5µs", 5000),
     ("7ns", 7), (".5s", 5 * 10**8)],
)  # fmt: skip
def test_duration(word: str, nanoseconds: int) -> None:
    assert parse_duration(word) == nanoseconds


@pytest.mark.parametrize(
    "word", ["", "-", "+", "5", "m", "1d", "1.m.", "5 m", "h5", "--5m", "1e3s", "9999999h", ".s"]
)
def test_duration_refused(word: str) -> None:
    assert "not a duration" in refused(parse_duration, word)


@pytest.mark.parametrize(
    ("word", "moment"),
    [
        ("10m", NOW - 600 * 10**9),
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.000000001", 1_700_000_000 * 10**9 + 1),
        ("0", 0),
        ("1970-01-02T00:00:00Z", 86400 * 10**9),
        ("2024-02-29T12:34:56.789Z", 1709210096_789000000),
        ("2024-02-29T12:34:56+02:00", 1709202896 * 10**9),
        ("2024-02-29T12:34Z", 1709210040 * 10**9),
        ("2024-02-29Z", 1709164800 * 10**9),
    ],
)
def test_time(word: str, moment: int) -> None:
    assert parse_time(word, NOW) == moment


@pytest.mark.parametrize(
    "word",
    ["", "x", "2024-02-30", "2023-02-29Z", "2024-13-01", "2024-1-1", "2024-02-29T",
     "2024-02-29T25:00",
     "2024-02-29T12", "2024-02-29T12:60", "2024-02-29T12:34.5", "2024-02-29T12:34:56+2", "1.2.3",
     "2024-02-29 12:34", "2024-02-29T12:34:56X", "2024/02/29", "-5", "1e9", ".",
     "2024-02-29T12:34:56.",
     "2024-02-29+25:00", "1969-01-01Z"],
)  # fmt: skip
def test_time_refused(word: str) -> None:
    assert "not a time" in refused(parse_time, word, NOW)


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2400, 1, 1)),
    st.integers(-23 * 60, 23 * 60),
)
def test_time_agrees_with_the_calendar(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    exact = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_time(aware.isoformat(), NOW) == exact


def test_time_without_a_zone_is_local() -> None:
    local = datetime(2024, 7, 1, 12, 30, 5)
    assert parse_time("2024-07-01T12:30:05", NOW) == int(local.timestamp()) * 10**9
    midnight = int(datetime(2024, 7, 1).timestamp()) * 10**9
    assert parse_time("2024-07-01", NOW) == midnight


# ----------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(("word", "name"), [("ab", "ab"), ("/ab", "ab"), ("1a_.-", "1a_.-")])
def test_name(word: str, name: str) -> None:
    assert validate_name(word) == name


@pytest.mark.parametrize(
    "word", ["", "a", "/", "//ab", "_a", "-a", ".a", "a/b", "a b", "é1", "a\n", "ab\n", "x" * 256]
)
def test_name_refused(word: str) -> None:
    refused(validate_name, word)


def test_hostname() -> None:
    assert parse_hostname("foo.bar_1") == "foo.bar_1"
    for word in ("", "a b", "a\nb", "x" * 65, "é" * 33, "a\0"):
        refused(parse_hostname, word)


@pytest.mark.parametrize(
    ("word", "entry"),
    [("a:1.2.3.4", "a:1.2.3.4"), ("a=1.2.3.4", "a:1.2.3.4"), ("a:::1", "a:::1"), ("a=::1", "a:::1"),
     ("a=[::1]", "a:::1"), ("a:[::1]", "a:::1"), ("a:0:0::1", "a:::1")],
)  # fmt: skip
def test_add_host(word: str, entry: str) -> None:
    assert parse_add_host(word) == entry


@pytest.mark.parametrize(
    "word",
    ["", "a", "a:", ":1.2.3.4", "a:x", "a=b:c", "a:1.2.3.4:5", "a:1.2.3", "a b:1.2.3.4",
     "a\nb:1.2.3.4", "a:host-gate", "a:fe80::1%e\nth0"],
)  # fmt: skip
def test_add_host_refused(word: str) -> None:
    assert refused(parse_add_host, word).startswith("--add-host ")


def test_dns_words() -> None:
    assert parse_dns("1.2.3.4") == "1.2.3.4"
    assert parse_dns_search(".") == "."
    assert parse_dns_search("a-b.example.") == "a-b.example."
    assert parse_dns_option("ndots:2") == "ndots:2"
    for function, words in (
        (parse_dns, ["", "x", "1.2.3.4.5"]),
        (parse_dns_search, ["", "-bad", "a..b", "a b", "bad-", "x" * 64, "a\n"]),
        (parse_dns_option, ["", "a b", "a\nnameserver"]),
    ):
        for word in words:
            refused(function, word)


@pytest.mark.parametrize(
    ("key", "owner"),
    [("net.core.somaxconn", "network"), ("kernel.shmmax", "ipc"), ("kernel.shm_rmid_forced", "ipc"),
     ("kernel.sem", "ipc"), ("kernel.msgmax", "ipc"), ("fs.mqueue.msg_max", "ipc"),
     ("kernel.semx", None), ("kernel.core_pattern", None), ("fs.file-max", None), ("net", None),
     ("net.", None), ("net..x", None), ("net.//.kernel", None), ("net/core/x", None),
     ("kernel.domainname", None), ("fs.mqueue.a.b", None), ("", None), ("vm.x", None)],
)  # fmt: skip
def test_a_sysctl_belongs_to_one_namespace_or_is_refused(key: str, owner: str | None) -> None:
    assert sysctl_namespace(key) == owner
    if owner is None:
        refused(parse_sysctl, f"{key}=1")
    else:
        assert parse_sysctl(f"{key}=1 2=3") == (key, "1 2=3")


def test_sysctl_refused() -> None:
    for word in ("", "net.core.somaxconn", "=1", "net.core.x=\0"):
        refused(parse_sysctl, word)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pid", ["host", "private", "container:x"]),
        ("ipc", ["host", "private", "none", "container:x"]),
        ("uts", ["host", "private"]),
        ("cgroupns", ["host", "private"]),
        ("network", ["none", "host", "container:x"]),
    ],
)
def test_namespace_words(kind: str, words: list[str]) -> None:
    for word in words:
        assert parse_namespace(kind, word) == word
    if kind != "network":
        assert parse_namespace(kind, "") == "private"
    for word in ("foo", "container:", "host:x", "HOST", "container"):
        assert f"invalid {kind} mode" in refused(parse_namespace, kind, word)


@pytest.mark.parametrize(
    ("word", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("", b"\x10\x11"), ("a", b"a"), ("ctrl-@,x", b"\0x"),
     ("ctrl-\\,ctrl-],ctrl-^,ctrl-_,ctrl-[", b"\x1c\x1d\x1e\x1f\x1b"), ("DEL", b"\x7f")],
)  # fmt: skip
def test_detach_keys(word: str, keys: bytes) -> None:
    assert parse_detach_keys(word) == keys


@pytest.mark.parametrize("word", [",", "a,", "ctrl-", "ctrl-P", "ctrl-1", "ab", "é", "ctrl-pq"])
def test_detach_keys_refused(word: str) -> None:
    assert "unknown key" in refused(parse_detach_keys, word)
