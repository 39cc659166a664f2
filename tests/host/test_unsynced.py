"""Layers that were not on the disk when the power went: what the next boot makes of them.

What another boot left is made here by renaming the marks, and by damaging what has them: that is
what an unsynced file may look like. The machine that really loses its power is in tests/vm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ordinary import first_subuid, ordinary_user
from test_images import busybox_layer, oci_files, ok, unpacked

from pycontain.image.store import ImageStore
from pycontain.kernel.process import boot_id
from tests.unit import imagefiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

OTHER = "5b0a3b0e-6f0c-4f0e-9d0c-2b1f8d6b7a10"
FILES = 500


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> str:
    """An archive with the image ``made:1`` of three layers: busybox, many files, one more."""
    many = imagefiles.tar([(f"many/{number % 20}/{number}", b"x") for number in range(FILES)])
    layers = [busybox_layer(store), many, imagefiles.tar([("many/0/last", b"last")])]
    return imagefiles.write(tmp_path / "made.tar", oci_files(layers))


def marks(store: Store, boot: str | None = None) -> set[str]:
    """The layers that are marked."""
    try:
        names = os.listdir(f"{store.layout.unsynced}/{boot or boot_id()}")
    except FileNotFoundError:
        return set()
    return {name.partition("-")[0] for name in names}


def layers_of(store: Store) -> list[str]:
    return [store.layout.layer(layer) for layer in store.engine.images.get("made:1").layers]


def entries(folder: str) -> Iterator[tuple[object, ...]]:
    """What is below a folder: kind and mode, owner, time of files, content."""
    for path in [Path(folder), *sorted(Path(folder).rglob("*"))]:
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = path.readlink() if path.is_symlink() else None
        where = str(path.relative_to(folder))
        # Of folders that no entry lists it is when they were made.
        time = 0 if path.is_dir() else info.st_mtime_ns
        yield where, info.st_mode, info.st_uid, info.st_gid, time, content, target


def the_power_goes(store: Store, *, damage: bool = True) -> None:
    """As if it had gone before anything of the marked layers was written."""
    marked = [store.layout.layer(name) for name in marks(store)]
    os.rename(f"{store.layout.unsynced}/{boot_id()}", f"{store.layout.unsynced}/{OTHER}")
    for number, folder in enumerate(marked if damage else ()):
        found = [path for path in Path(folder).rglob("*") if path.is_file()]
        if number % 2:
            os.truncate(found[0], 0)
            found[-1].unlink()
            Path(folder, "not-of-the-layer").write_bytes(b"\0" * 100)
        else:
            shutil.rmtree(folder)


def test_a_layer_is_made_anew(store: Store, pycontain: CommandLine, archive: str) -> None:
    ok(pycontain("load", "-qi", archive))
    layers = layers_of(store)
    before = [[*entries(layer)] for layer in layers]
    marked = marks(store)
    assert marked == {os.path.basename(layer) for layer in layers[1:]}
    the_power_goes(store)
    ok(pycontain("ps"))
    assert [[*entries(layer)] for layer in layers] == before
    assert os.listdir(store.layout.unsynced) == [boot_id()]
    assert marks(store) == marked
    ok(pycontain("image", "prune", "-f"))
    assert os.listdir(store.layout.work) == []
    assert ok(pycontain("run", "--rm", "made:1", "cat", "/many/0/last")) == "last"


def test_by_several_commands_at_once(store: Store, pycontain: CommandLine, archive: str) -> None:
    ok(pycontain("load", "-qi", archive))
    the_power_goes(store)
    script = "find /many -type f | wc -l"
    running = [
        pycontain.start("run", "--rm", "made:1", "sh", "-c", script, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in running] == [b"%d\n" % (FILES + 1)] * 4


def test_killed_in_the_middle(store: Store, pycontain: CommandLine, archive: str) -> None:
    ok(pycontain("load", "-qi", archive))
    layers = layers_of(store)
    before = [[*entries(layer)] for layer in layers]
    for _ in range(20):  # it may be over before anybody gets to look
        the_power_goes(store)
        with pycontain.start("ps", stdout=subprocess.PIPE) as process:
            while process.poll() is None and not unpacked(store):
                pass
            process.send_signal(signal.SIGKILL)
        if process.returncode == -signal.SIGKILL:
            break
    assert process.returncode == -signal.SIGKILL
    ok(pycontain("images"))
    assert [[*entries(layer)] for layer in layers] == before
    ok(pycontain("image", "prune", "-f"))
    assert os.listdir(store.layout.work) == []


def test_a_damaged_blob_can_be_loaded_again(
    store: Store, pycontain: CommandLine, archive: str
) -> None:
    ok(pycontain("load", "-qi", archive))
    image = store.engine.images.get("made:1")
    manifest = json.loads(Path(store.layout.images, "blobs/sha256", image.digest[7:]).read_bytes())
    blob = Path(store.layout.images, "blobs/sha256", manifest["layers"][1]["digest"][7:])
    blob.write_bytes(b"\0" * blob.stat().st_size)
    the_power_goes(store)
    ok(pycontain("ps"))  # is not the one to complain
    refused = pycontain("run", "--rm", "made:1", "true")
    assert refused.returncode == 125
    assert b"not unpacked" in refused.stderr
    assert b"load or pull it again" in refused.stderr
    ok(pycontain("load", "-qi", archive))
    assert ok(pycontain("run", "--rm", "made:1", "cat", "/many/0/last")) == "last"


def test_what_only_a_container_stands_on_is_synced(
    store: Store, pycontain: CommandLine, archive: str
) -> None:
    """There is no blob to make it from."""
    ok(pycontain("load", "-qi", archive))
    layers = layers_of(store)
    ok(pycontain("create", "--name", "user", "made:1", "cat", "/many/0/last"))
    assert marks(store)
    ok(pycontain("rmi", "-f", "made:1"))
    assert not marks(store)
    the_power_goes(store, damage=False)
    assert ok(pycontain("start", "-a", "user")) == "last"
    assert all(os.path.isdir(layer) for layer in layers)


def test_the_power_goes_in_the_middle_of_a_removal(
    store: Store, pycontain: CommandLine, archive: str
) -> None:
    """The image has lost its name; its layers are not synced yet, its blobs are still there."""
    ok(pycontain("load", "-qi", archive))
    image, layers = store.engine.images.get("made:1"), layers_of(store)
    before = [[*entries(layer)] for layer in layers]
    ok(pycontain("create", "--name", "user", "made:1", "cat", "/many/0/last"))
    ImageStore(store.layout).forget(image)
    assert marks(store)
    the_power_goes(store)
    assert ok(pycontain("start", "-a", "user")) == "last"
    assert [[*entries(layer)] for layer in layers] == before
    # What removes the blobs at last has the layers on the disk before.
    ok(pycontain("image", "prune", "-f"))
    assert not marks(store)
    the_power_goes(store, damage=False)
    assert ok(pycontain("start", "-a", "user")) == "last"


def test_marks_go_with_time_and_with_their_layers(
    store: Store, pycontain: CommandLine, archive: str, tmp_path: Path
) -> None:
    ok(pycontain("load", "-qi", archive))
    first = marks(store)
    for mark in Path(store.layout.unsynced, boot_id()).iterdir():
        os.utime(mark, (1, 1))
    other = oci_files([busybox_layer(store), imagefiles.tar([("other", b"")])], "other:1")
    ok(pycontain("load", "-qi", imagefiles.write(tmp_path / "other.tar", other)))
    second = marks(store)
    assert len(second) == 1
    assert not second & first
    ok(pycontain("rmi", "other:1"))
    assert not marks(store)


def test_a_broken_download_that_lost_its_bytes(
    store: Store, pycontain: CommandLine, archive: str
) -> None:
    """What a later try goes on with may be zeros: then it begins anew, without a word."""
    ok(pycontain("load", "-qi", archive))
    image = store.engine.images.get("made:1")
    manifest = json.loads(Path(store.layout.images, "blobs/sha256", image.digest[7:]).read_bytes())
    ok(pycontain("rmi", "made:1"))
    for layer, size in zip(manifest["layers"][1:], (100, 5), strict=True):
        Path(store.layout.images, "partial", layer["digest"][7:]).write_bytes(b"\0" * size)
    ok(pycontain("load", "-qi", archive))
    assert ok(pycontain("run", "--rm", "made:1", "cat", "/many/0/last")) == "last"
    assert os.listdir(f"{store.layout.images}/partial") == []


def test_of_an_ordinary_user(whole_host: None) -> None:
    """In the user's namespaces, with owners and attributes as they are there."""
    with ordinary_user() as user:
        assert user.run("run", "--rm", "busybox", "true").returncode == 0
        root = user.home / ".local/share/pycontain"
        [base] = (root / "layers").iterdir()
        owned = tarfile.TarInfo("many/owned")
        owned.uid = owned.gid = 7
        gone = tarfile.TarInfo("many/.wh..wh..opq")
        layers = [
            imagefiles.tar([(f"many/{number}", b"x") for number in range(50)]),
            imagefiles.tar([gone, owned, ("many/last", b"last")]),
        ]
        archive = Path(imagefiles.write(user.home / "made.tar", oci_files(layers)))
        archive.chmod(0o644)
        assert user.run("load", "-qi", str(archive)).returncode == 0
        made = [path for path in (root / "layers").iterdir() if path != base]
        assert len(made) == 2
        before = {path: [*entries(str(path))] for path in made}
        opaque = [os.getxattr(path / "many", "user.overlay.opaque")
                  for path in made if (path / "many/last").exists()]  # fmt: skip
        assert opaque == [b"y"]
        unsynced = root / "unsynced"
        marked = {name.partition("-")[0] for name in os.listdir(unsynced / boot_id())}
        assert marked == {path.name for path in made}
        (unsynced / boot_id()).rename(unsynced / OTHER)
        for path in made:
            shutil.rmtree(path / "many")
        done = user.run("ps")
        assert (done.returncode, done.stderr) == (0, b"")
        assert {path: [*entries(str(path))] for path in made} == before
        assert os.listdir(unsynced) == [boot_id()]
        [owner] = {path / "many/owned" for path in made if (path / "many/owned").exists()}
        assert owner.stat().st_uid == int(first_subuid()) + 6
        assert os.getxattr(owner.parent, "user.overlay.opaque") == b"y"
