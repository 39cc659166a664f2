"""Layers: many, hidden by upper ones, never written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import python_env, wait_until

from pycontain.errors import PycontainError
from pycontain.kernel import mount
from pycontain.kernel.release import release
from pycontain.store import files

if TYPE_CHECKING:
    from harness import Store

    from pycontain.model.container import Container

pytestmark = pytest.mark.host


def stacked(store: Store, folder: Path, count: int, *command: str) -> Container:
    """A container over busybox and `count` layers more, each with a file of its own and a common
    one; the last hides the first's file.
    """
    from msgspec.structs import replace

    container = store.create(*command)
    names = [f"{number:064x}" for number in range(1, count + 1)]
    for number, name in enumerate(names, 1):
        layer = store.layout.layer(name)
        os.makedirs(f"{layer}/d")
        for path, text in ((f"f{number}", str(number)), ("d/common", str(number))):
            with open(f"{layer}/{path}", "w") as file:
                file.write(text)
    os.mknod(f"{store.layout.layer(names[-1])}/f1", 0o20000, 0)  # a whiteout
    layers = (*container.layers, *(f"sha256:{name}" for name in names))
    container = replace(container, layers=layers)
    files.write_atomic(store.view(container.id).paths.document, files.dump(container))
    assert folder.exists()
    return container


SCRIPT = (
    "ls -d /f* | wc -l; cat /d/common; ls /f1 2>&1; cat /f2;"
    "for n in 1 2; do echo x > /f$((n+1)); done; rm -r /d; ls -d /d 2>&1"
)


WAYS = ["as this kernel has it", "as 6.1 has it"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the overlay is made: a newer kernel can be asked in the old way too."""
    if request.param != WAYS[0]:
        if release() < (6, 5):
            pytest.skip("this kernel has only that way")
        monkeypatch.setattr(mount, "release", lambda: (6, 1))


@pytest.mark.parametrize("count", [2, 10, 100, 127])
def test_a_stack_of_layers(store: Store, tmp_path: Path, way: None, count: int) -> None:
    container = stacked(store, tmp_path, count, "sh", "-c", SCRIPT)
    store.containers.start(container.id)
    store.containers.wait(container.id)
    lines = store.log(container.id).decode().splitlines()
    assert int(lines[0]) == count - 1
    assert lines[1].startswith(str(count))
    for number in range(2, count):  # the last layer's own whiteout aside
        with open(f"{store.layout.layer(f'{number:064x}')}/f{number}") as file:
            assert file.read() == str(number)
    assert os.path.exists(f"{store.layout.layer(f'{1:064x}')}/d/common")


def folders(place: Path, *names: str) -> list[str]:
    """Folders of these names, each with a file of its own."""
    made = []
    for number, name in enumerate(names):
        folder = place / name
        folder.mkdir()
        (folder / f"file{number}").write_text("x")
        made.append(str(folder))
    return made


ODD = ("a:b", "c,d", "e\\f", "g=h", "ü 漢", "l" * 250)


@pytest.mark.in_vm
def test_names_with_the_characters_that_options_use(tmp_path: Path, way: None) -> None:
    """Layers are given one by one, so that no folder's name can be taken for two."""
    root = mount.stack(folders(tmp_path, *ODD))
    try:
        assert sorted(os.listdir(f"/proc/self/fd/{root}")) == [f"file{n}" for n in range(len(ODD))]
    finally:
        os.close(root)


@pytest.mark.in_vm
def test_an_upper_layer_in_a_folder_of_any_name(tmp_path: Path, way: None) -> None:
    for name in ODD:
        (place := tmp_path / name).mkdir()
        lower, upper, work = folders(place, "lower", "upper", "work")
        root = mount.overlay([lower], upper, work)
        try:
            with open(f"/proc/self/fd/{root}/new", "w") as file:
                file.write("x")
        finally:
            os.close(root)
        assert sorted(os.listdir(upper)) == ["file1", "new"], name
        assert os.listdir(lower) == ["file0"], name


def test_a_layer_that_is_missing_is_named(tmp_path: Path, way: None) -> None:
    (there,) = folders(tmp_path, "there")
    with pytest.raises(PycontainError, match="missing"):
        mount.stack([there, str(tmp_path / "missing")])


def test_as_many_as_overlayfs_stacks_and_one_more(tmp_path: Path, way: None) -> None:
    layers = folders(tmp_path, *(str(number) for number in range(501)))
    root = mount.stack(layers[:500])
    try:
        assert len(os.listdir(f"/proc/self/fd/{root}")) == 500
    finally:
        os.close(root)
    with pytest.raises(PycontainError, match="mount"):
        mount.stack(layers)


def test_layers_that_are_one_in_the_other_are_refused(tmp_path: Path, way: None) -> None:
    (outer,) = folders(tmp_path, "outer")
    (inner,) = folders(tmp_path / "outer", "inner")
    with pytest.raises(PycontainError, match="mount"):
        mount.stack([outer, inner])


def test_what_the_caller_has_open_does_not_count(tmp_path: Path) -> None:
    """The process of its own has its own descriptors; the caller needs two at once."""
    layers = folders(tmp_path, *(str(number) for number in range(100)))
    script = (
        "import os, resource, sys; from pycontain.kernel import mount;"
        "mount.release = lambda: (6, 1);"
        "fds = [os.dup(0) for _ in range(90)];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (fds[-1] + 15, 200));"
        "print(len(os.listdir(f'/proc/self/fd/{mount.stack(sys.argv[1:])}')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *layers],
        capture_output=True, check=False, env=python_env(),
    )  # fmt: skip
    assert done.stdout == b"100\n", done.stderr


@pytest.mark.in_vm
def test_the_process_that_calls_is_left_as_it_was(tmp_path: Path, way: None) -> None:
    def look() -> tuple[object, ...]:
        namespace = os.readlink("/proc/self/ns/mnt")
        mounts = leaks.mount_table(tmp_path)
        children = leaks.text("/proc/thread-self/children")
        return leaks.descriptors(), mounts, namespace, os.getcwd(), children

    layers = folders(tmp_path, *"abc")
    before = look()
    os.close(mount.stack(layers))
    with pytest.raises(PycontainError):
        mount.stack([*layers, "/nonexistent"])
    assert look() == before


LOOP = """
import os, sys
from pycontain.kernel import mount
from pycontain.kernel.release import release
mount.release = lambda: (6, 1)
while True:
    os.close(mount.stack(sys.argv[1:]))
    os.write(1, b".")
"""


def test_kill_9_leaves_nothing(tmp_path: Path) -> None:
    layers = folders(tmp_path, *(str(number) for number in range(60)))
    before = leaks.mount_table(tmp_path)
    for attempt in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", LOOP, *layers], stdout=subprocess.PIPE, env=python_env()
        ) as worker:
            assert worker.stdout
            worker.stdout.read(1 + attempt)
            time.sleep(attempt * 0.0007)
            worker.kill()
        wait_until(lambda: not working(layers[0]))
    assert leaks.mount_table(tmp_path) == before


def working(word: str) -> list[str]:
    """Processes with this word in their command line, this one's children that ended aside."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(pid)
    return found
