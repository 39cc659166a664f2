"""The unpacking of layers under mutated archives, with ASan and UBSan watching.

The corpus is what the unit tests unpack and what they have refused.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.refused_layers import REFUSED, WHOLE, escapes
from tests.tarball import (
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

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
SOURCES = ("layer.c", "tree.c", "tar.c", "pax.c", "acl.c")
SECONDS = 6
LARGEST = 1 << 16
SANITIZERS = "address,undefined"
CC = shutil.which("cc")
CLANG = shutil.which("clang")


def whiteouts() -> list[bytes]:
    """Before and after what they hide, of folders with something in them, and of all."""
    return [
        folder(".", mtime=6) + header("./.wh..wh..opq") + header(".wh.a"),
        header(".wh.d") + folder("d") + file("d/x") + header("d/.wh..wh..opq"),
        folder("d") + file("d/x") + header(".wh.d") + symlink("d", "x") + folder("d"),
        header("d/.wh.e") + file("d/e/x") + header("d/.wh.e") + header("d/.wh.e"),
        file("f") + header(".wh.f") + folder("f") + file("f/x") + file("f"),
        folder(".wh..wh.plnk") + file(".wh..wh.plnk/1", b"x") + hard_link("a", ".wh..wh.plnk/1"),
        hard_link("b/c", "below") + header(".wh.b") + folder("b/c") + header("b/.wh.c"),
    ]


def attributes() -> list[bytes]:
    """Those that are set, and those that are not."""
    names = ("user.a", "user.overlay.opaque", "trusted.overlay.redirect", "trusted.a",
             "security.selinux", "security.SMACK64EXEC", "security.evm", "security.other",
             "com.apple.a", "system.posix_acl_access")  # fmt: skip
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    acl = struct.pack("<I" + "HHI" * 5, 2, 1, 7, -1 % 2**32, 2, 5, 9, 4, 5, -1 % 2**32,
                      16, 5, -1 % 2**32, 32, 0, -1 % 2**32)  # fmt: skip
    many = meta(b"x", b"".join(record(f"SCHILY.xattr.{name}", "y") for name in names))
    return [
        many + file("f") + many + folder("d") + many + symlink("l", "f"),
        pax(SCHILY__xattr__security__capability=capability) + file("f", b"x", mode=0o4755),
        pax(SCHILY__xattr__system__posix_acl_access=acl) + file("f"),
        pax(SCHILY__xattr__system__posix_acl_default=acl) + folder("d") + header("d/p", b"6"),
        pax(SCHILY__acl__access="user::rwx,user:x:rw-:9,g::r,m::rwx,o::-#c\nother:--x") + file("f"),
        pax(SCHILY__acl__default="u::7,u:5:rwx,g::,m::r,o::x") + folder("d"),
    ]


def forms() -> list[bytes]:
    """Headers of several kinds of tar, and what is not a file."""
    more = header("g", b"S", size=1, extra={386: octal(0, 12) + octal(1, 12), 482: b"\1",
                                            483: octal(9, 12)})  # fmt: skip
    extension = (octal(5, 12) + octal(0, 12)).ljust(504, b"\0") + b"\0"
    return [
        more + padded(extension) + padded(b"x"),
        header("star", prefix=b"q" * 131, extra={476: b"1" * 11, 508: b"tar\0"}),
        file("ustar", b"3", prefix=b"p" * 150),
        header("c", b"3", device=(1, 3)) + header("b", b"4", device=(7, 0)) + header("p", b"6"),
        header("size", size=base256(3, 12)) + padded(b"abc"),
        meta(b"L", b"l" * 200 + b"\0") + meta(b"K", b"t" * 300 + b"\0") + symlink("l", "t"),
        pax(b"g", path="g", SCHILY__xattr__user__g="1", mtime="1.5") + file("f") + folder("d"),
        file("a/b/c/d", b"x" * 5000) + symlink("s", "a/b") + file("s/f") + hard_link("h", "s/f"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("corpus")
    entries = [*(parts for parts, _, _ in REFUSED.values()), *escapes("../beside")]
    sparse = header("f", b"S", size=3, extra={386: octal(5, 12) + octal(3, 12), 483: octal(9, 12)})
    entries += [
        sparse + padded(b"abc"),
        pax(uid=1, gid=2, mtime="-1.5", SCHILY__xattr__trusted__a="x") + file("f"),
        pax(GNU__sparse__name="f", GNU__sparse__size=9, GNU__sparse__offset=1,
            GNU__sparse__numbytes=3) + file("x", b"abc"),
        pax(b"g", uid=5, SCHILY__xattr__user__a="1") + symlink("l", ".") + file("l/l/f"),
    ]  # fmt: skip
    entries += [*whiteouts(), *attributes(), *forms()]
    seeds = [WHOLE, *map(archive, entries)]
    for number, data in enumerate(seeds):
        if len(data) <= LARGEST:
            (top / f"{number:03}").write_bytes(data)
    return top


def build(compiler: str | None, folder: Path, *flags: str, **replaced: Path) -> Path:
    """Build the fuzzer, with other sources for some by their stem; or skip and say why."""
    if compiler is None:
        pytest.skip("the compiler is not installed")
    program = folder / "layer_fuzz"
    sources = [replaced.get(Path(name).stem, NATIVE / name) for name in SOURCES]
    result = subprocess.run(
        [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror",
         "-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION", "-fno-sanitize-recover=all",
         f"-I{NATIVE}", *flags, "-o", program, HERE / "layer_fuzz.c", *sources],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode and ("cannot find" in result.stderr or "unable to find" in result.stderr):
        pytest.skip(f"{compiler} comes without its sanitizers: {result.stderr.splitlines()[0]}")
    assert result.returncode == 0, result.stderr
    return program


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    # Leaks are looked for by tracing the own process, which not every machine allows.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder  # many times faster
    with tempfile.TemporaryDirectory(dir=memory) as place:
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "TMPDIR": place}
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=300, env=environment,
            errors="backslashreplace",
        )  # fmt: skip


def mutator(folder: Path, **replaced: Path) -> Path:
    return build(CC, folder, f"-fsanitize={SANITIZERS}", "-DSTANDALONE", **replaced)


def test_mutated_layers(corpus: Path, tmp_path: Path) -> None:
    seed = str(random.randrange(1 << 32))
    result = run(tmp_path, mutator(tmp_path), str(SECONDS), seed, *sorted(corpus.iterdir()))
    assert result.returncode == 0, f"seed {seed}: {result.stderr}"
    assert int(result.stdout) > 100


def test_fuzzed_layers(corpus: Path, tmp_path: Path) -> None:
    """The same with libFuzzer, which looks for inputs that reach new code."""
    program = build(CLANG, tmp_path, f"-fsanitize=fuzzer,{SANITIZERS}")
    limits = (f"-max_total_time={SECONDS}", f"-max_len={LARGEST}", f"-artifact_prefix={tmp_path}/")
    # libFuzzer adds what it finds to its folder.
    found = shutil.copytree(corpus, tmp_path / "corpus")
    result = run(tmp_path, program, *limits, found)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "check", "wrong"),
    [
        ("tar", "if (sum != entry->stored)", "if (0 && sum)"),
        ("tree", "fd = open_below(tree->root, path, FOLDER, PLAIN);",
         "fd = openat(tree->root, *path ? path : \".\", FOLDER);"),
    ],
)  # fmt: skip
def test_a_fault_is_seen(corpus: Path, tmp_path: Path, name: str, check: str, wrong: str) -> None:
    """The test of the tests: without one of its checks it does not survive."""
    source = (NATIVE / f"{name}.c").read_text()
    assert check in source
    (tmp_path / f"{name}.c").write_text(source.replace(check, wrong))
    program = mutator(tmp_path, **{name: tmp_path / f"{name}.c"})
    result = run(tmp_path, program, "60", "1", *sorted(corpus.iterdir()))
    assert result.returncode != 0
    assert "Sanitizer" in result.stderr or "layer_fuzz" in result.stderr
