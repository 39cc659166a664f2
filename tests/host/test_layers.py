"""Layers: many, hidden by upper ones, never written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import PycontainError
from pycontain.kernel import mount
from pycontain.store import files

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("count", [2, 10, 100, 127])
def test_a_stack_of_layers(store: Store, tmp_path: Path, count: int) -> None:
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


def test_names_with_the_characters_that_options_use(tmp_path: Path) -> None:
    """Layers are given one by one, so that no folder's name can be taken for two."""
    layers: list[str] = []
    for name in ("a:b", "c,d", "e\\f", "g=h", "ü 漢"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"file{len(layers)}").write_text("x")
        layers.append(str(folder))
    root = mount.stack(layers)
    try:
        assert sorted(os.listdir(f"/proc/self/fd/{root}")) == [f"file{n}" for n in range(5)]
    finally:
        os.close(root)


def test_a_layer_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(PycontainError, match="missing"):
        mount.stack([str(tmp_path / "there"), str(tmp_path / "missing")])
