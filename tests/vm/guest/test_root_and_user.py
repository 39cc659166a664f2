"""The engine for root and for an ordinary user, on the kernel that the machine has.

Before Linux 6.5 overlayfs cannot be given layers one by one; see ``pycontain.kernel.mount``. User
namespaces have its marks in other attributes, and know no redirections.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import fill, image_cache
from harness import CommandLine, Store
from ordinary import User, ordinary_user

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["image_cache"]
pytestmark = pytest.mark.vm

COUNTS = [1, 15, 40, 100]

# What a container sees of the layers, then what it can do to them, then what it sees of that.
LOOK = (
    "ls -d /f* | wc -l; cat /common; ls /d | wc -l; ls -d /gone 2>/dev/null || echo none;"
    "ls /opaque | tr '\n' ' '; echo;"
)
CHANGE = (
    "echo new >>/f2; cat /f2 | tr '\n' ' '; echo; rm -r /d; mkdir /d; ls /d | wc -l;"
    "mv /opaque /moved && ls /moved | tr '\n' ' '; echo; mkdir /opaque; ls /opaque | wc -l;"
    "rm /common; ls /common 2>/dev/null || echo none;"
    "rm -r /deep/a/b; mkdir /deep/a/b; ls /deep/a/b"
)


class Faces:
    """The command line of root or of an ordinary user, and where its store is.

    Attributes:
        root: the store.
        kind: ``trusted`` or ``user``: where overlayfs has its marks.
        user: an ordinary user, None for root.
    """

    def __init__(self, root: str, user: User | None, line: CommandLine | None) -> None:
        self.root = root
        self.kind = "user" if user else "trusted"
        self.user = user
        self._line = line

    def __call__(self, *words: str) -> str:
        if self._line:
            done = self._line(*words)
        else:
            assert self.user
            done = self.user.run(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.decode()


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


@pytest.fixture(params=["root", "user"])
def pycontain(request: pytest.FixtureRequest, place: str) -> Faces:
    if request.param == "root":
        fill(request.getfixturevalue("image_cache"), f"{place}/root", link=False)
        return Faces(f"{place}/root", None, CommandLine(Store(place)))
    user = request.getfixturevalue("user")
    return Faces(f"{user.home}/.local/share/pycontain", user, None)


def lay(folder: Path, number: int, count: int, kind: str) -> None:
    """One layer of `count`: files of its own, one in the way of those below, and, in the top one,
    the marks that hide what is below.
    """
    for name in ("d", "opaque", "deep/a/b"):
        (folder / name).mkdir(parents=True)
    (folder / f"f{number}").write_text(f"{number}\n")
    (folder / f"d/f{number}").write_text("x")
    (folder / "common").write_text(f"{number}\n")
    (folder / f"opaque/in{number}").write_text("x")
    (folder / f"deep/a/b/f{number}").write_text("x")
    if number == 1:
        (folder / "gone").mkdir()
        (folder / "gone/file").write_text("x")
    if number == count > 1:
        os.mknod(folder / "gone", 0o20000, 0)  # a whiteout
        os.setxattr(folder / "opaque", f"{kind}.overlay.opaque", b"y")


def stack(faces: Faces, container: str, count: int) -> None:
    """Give a container so many layers over its image's."""
    document = Path(faces.root) / "containers" / container.strip() / "container.json"
    layers = [f"{number:064x}" for number in range(1, count + 1)]
    for number, name in enumerate(layers, 1):
        folder = Path(faces.root) / "layers" / name
        folder.mkdir()
        lay(folder, number, count, faces.kind)
        if faces.user:
            entry = faces.user.entry
            words = ["chown", "-hR", f"{entry.pw_uid}:{entry.pw_gid}", str(folder)]
            subprocess.run(words, check=True)
    text = json.loads(document.read_text())
    text["layers"] += [f"sha256:{name}" for name in layers]
    owner = document.stat()
    document.write_text(json.dumps(text))
    assert (document.stat().st_uid, document.stat().st_gid) == (owner.st_uid, owner.st_gid)


def discard(faces: Faces) -> None:
    """Remove the container and what ``stack`` has made."""
    faces("rm", "-f", "box")
    for folder in (Path(faces.root) / "layers").glob("0000*"):
        shutil.rmtree(folder)


def content(folder: Path) -> list[tuple[str, int, bytes]]:
    """Every path below, its mode and, for a file, what is in it."""
    return sorted(
        (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    )


@pytest.mark.parametrize("count", COUNTS)
def test_a_stack(pycontain: Faces, count: int) -> None:
    made = pycontain("create", "--name", "box", "busybox", "sh", "-c", LOOK + CHANGE)
    try:
        stack(pycontain, made, count)
        names = [f"{number:064x}" for number in range(1, count + 1)]
        folders = [Path(pycontain.root) / "layers" / name for name in names]
        before = [content(folder) for folder in folders]
        seen = pycontain("start", "-a", "box").splitlines()
        top = count > 1
        assert seen[:5] == [
            str(count), str(count), str(count), "none" if top else "/gone", f"in{count} ",
        ]  # fmt: skip
        assert seen[5:] == [
            "2 new " if top else "new ", "0", f"in{count} ", "0", "none",
        ]  # fmt: skip
        assert [content(folder) for folder in folders] == before
    finally:
        discard(pycontain)


def test_what_was_written_is_there_at_the_next_start(pycontain: Faces) -> None:
    script = "echo /kep* /bin/l[s]; rm -f /bin/ls; echo x >/kept"
    made = pycontain("create", "--name", "box", "busybox", "sh", "-c", script)
    try:
        stack(pycontain, made, 20)
        assert pycontain("start", "-a", "box") == "/kep* /bin/ls\n"
        assert pycontain("start", "-a", "box") == "/kept /bin/l[s]\n"
    finally:
        discard(pycontain)


def test_run_exec_logs_and_rm(pycontain: Faces) -> None:
    script = "echo out; echo err >&2; exec sleep 1000"
    pycontain("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    try:
        seen = pycontain(
            "exec", "box", "sh", "-c", "cat /proc/1/comm; id -u; echo x >/new; ls /new"
        )
        assert seen.split() == ["sleep", "0", "/new"]
        assert sorted(pycontain("logs", "box").splitlines()) == ["out"]
        assert "box" in pycontain("ps")
    finally:
        pycontain("rm", "-f", "box")
    assert "box" not in pycontain("ps", "-a")
