"""Times the unpacking of a layer beside GNU tar, interleaved, on one file system.

Usage, as root::

    python tests/bench/layers.py [ARCHIVE] [--rounds N] [--folder FOLDER]

Without an uncompressed ARCHIVE it makes one of 600 MB at most out of the machine's own /usr.
Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pycontain.image.extract import Extraction, Limits
from tests.bench.timing import measure, quiet, show

if TYPE_CHECKING:
    from tests.bench.timing import Calls

CHUNK = 1 << 20
LARGEST = 600 << 20
PARTS = ("share/perl", "lib/python3", "share/doc", "share/zoneinfo", "share/man", "bin", "lib")


def make_archive(path: Path) -> None:
    """Write what fits of /usr."""
    names: list[str] = []
    known: set[str] = set()
    size = 0
    for part in PARTS:
        for base, folders, files in os.walk(f"/usr/{part}"):
            folders.sort()
            for name in sorted(files):
                whole = os.path.join(base, name)
                if whole not in known and size < LARGEST:
                    size += os.lstat(whole).st_size
                    known.add(whole)
                    names.append(whole)
    text = "\0".join(name.removeprefix("/") for name in names).encode()
    words = ["tar", "-C", "/", "--format=posix", "--xattrs", "-cf", str(path), "--null", "-T", "-"]
    subprocess.run(words, input=text, check=True)


def ours(path: Path, target: Path) -> None:
    """Unpack as the image store does, without what it does besides."""
    target.mkdir()
    buffer = memoryview(bytearray(CHUNK))
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with (
            open(path, "rb", buffering=0) as archive,
            Extraction(fd, rootless=False, limits=Limits()) as extraction,
        ):
            while count := archive.readinto(buffer):
                extraction.feed(buffer[:count])
            extraction.finish()
    finally:
        os.close(fd)


def gnu(path: Path, target: Path, *flags: str) -> None:
    """Unpack with tar."""
    target.mkdir()
    quiet(["tar", "-xpf", str(path), "-C", str(target), "--numeric-owner", *flags])()


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("archive", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to unpack")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = options.archive or folder / "usr.tar"
        if not options.archive:
            make_archive(path)
        target = folder / "tree"

        def clean() -> None:
            shutil.rmtree(target)
            os.sync()

        calls: Calls = {
            "pycontain": lambda: ours(path, target),
            "tar -xp": lambda: gnu(path, target),
            "tar -xp --xattrs --acls": lambda: gnu(
                path, target, "--xattrs", "--xattrs-include=*", "--acls"
            ),
        }
        times = measure(options.rounds, calls, between=clean)
        show(f"unpacking {path.stat().st_size / 1e6:.0f} MB", times)


if __name__ == "__main__":
    main()
