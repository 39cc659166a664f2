"""The built-in recipes with real packages, and what other tools say about the result."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import leaks
import pytest

from pycontain.image import recipes
from pycontain.image.store import Image, ImageStore
from pycontain.store.layout import Layout

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot, and mmdebstrap as root"),
]
needs_mmdebstrap = pytest.mark.skipif(
    not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"
)
needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")

NOBODY = 65534


class Built:
    """A store of its own and the images that were built in it."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(str(folder / "root"), str(folder / "state"))
        self.layout.prepare()
        self.images = ImageStore(self.layout)

    def ensure(self, name: str) -> Image:
        return self.images.ensure(name, print)

    def tree(self, image: Image) -> Path:
        return Path(self.layout.layer(image.diff_ids[0]))

    def run(self, image: Image, *argv: str) -> str:
        command = ["chroot", str(self.tree(image)), *argv]
        env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("images")
    mounts = leaks.mount_table(folder)
    yield Built(folder)
    assert leaks.mount_table(folder) == mounts
    shutil.rmtree(folder)


def _inspect(built: Built, name: str, *flags: str) -> dict[str, object]:
    command = ["skopeo", "inspect", *flags, f"oci:{built.layout.images}:{name}"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(answer.stdout)
    assert isinstance(found, dict)
    return found


def test_busybox_runs_its_applets(built: Built) -> None:
    image = built.ensure("busybox")
    tree = built.tree(image)
    assert built.run(image, "sh", "-c", "id -un; ls -d /tmp | cat; env true").split() == [
        "root",
        "/tmp",
    ]
    assert (tree / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tree / "root").stat().st_mode & 0o7777 == 0o700
    assert (tree / "bin" / "ls").samefile(tree / "bin" / "busybox")
    assert os.listdir(tree / "dev") == []
    assert image.config.cmd == ["sh"]


@needs_skopeo
def test_skopeo_reads_the_store(built: Built) -> None:
    image = built.ensure("busybox")
    found = _inspect(built, "busybox:latest")
    assert found["Digest"] == image.digest
    assert found["Layers"] == list(image.diff_ids)
    assert found["Architecture"] == image.architecture
    config = _inspect(built, "busybox:latest", "--config")
    assert config["rootfs"] == {"type": "layers", "diff_ids": list(image.diff_ids)}


@needs_skopeo
def test_skopeo_copies_the_image_and_checks_every_digest(built: Built, tmp_path: Path) -> None:
    built.ensure("busybox")
    source = f"oci:{built.layout.images}:busybox:latest"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", source, f"dir:{tmp_path}/copy"], check=True
    )


def test_the_unpacked_layer_is_what_tar_unpacks(built: Built, tmp_path: Path) -> None:
    image = built.ensure("busybox")
    blob = f"{built.layout.images}/blobs/sha256/{image.diff_ids[0][7:]}"
    subprocess.run(["tar", "-xpf", blob, "-C", str(tmp_path), "--same-owner"], check=True)
    assert _listing(tmp_path) == _listing(built.tree(image))


def _listing(tree: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(tree):
        for name in folders + names:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
            links = 0 if stat.S_ISDIR(info.st_mode) else info.st_nlink
            found[os.path.relpath(path, tree)] = (
                *(info.st_mode, info.st_uid, info.st_gid, size, links, info.st_mtime_ns),
            )
    return found


def test_an_ordinary_users_busybox_has_roots_digest(built: Built, folder_of_nobody: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            Built(folder_of_nobody).ensure("busybox")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    layout = Layout(f"{folder_of_nobody}/root", f"{folder_of_nobody}/state")
    assert os.stat(layout.images).st_uid == NOBODY
    assert ImageStore(layout).resolve("busybox").digest == built.ensure("busybox").digest


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder that an ordinary user reaches: pytest's own are closed to others."""
    script = Path(recipes.recipes_folder()) / "busybox" / "build"
    if not all(part.stat().st_mode & 0o001 for part in script.parents):
        pytest.skip(f"an ordinary user cannot reach {script}")
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@needs_mmdebstrap
def test_debian_is_a_clean_minimal_system(built: Built) -> None:
    image = built.ensure("debian")
    tree = built.tree(image)
    assert image.names == ("debian:latest", "debian:trixie", "debian:13")
    assert built.run(image, "bash", "-c", "echo $BASH").strip() == "/usr/bin/bash"
    assert "VERSION_CODENAME=trixie" in built.run(image, "cat", "/etc/os-release")
    assert "base-files" in built.run(image, "dpkg-query", "-W")
    for folder in ("dev", "tmp", "var/tmp", "var/lib/apt/lists/partial"):
        assert not (tree / folder).exists() or os.listdir(tree / folder) == [], folder
    assert not [path for path in (tree / "var" / "log").rglob("*") if path.is_file()]
    for name in ("hostname", "hosts", "resolv.conf", "machine-id"):
        assert (tree / "etc" / name).read_bytes() == b"", name


@pytest.mark.slow
@needs_mmdebstrap
def test_debian_built_again_has_the_same_digest(built: Built, tmp_path: Path) -> None:
    assert Built(tmp_path).ensure("debian:trixie").digest == built.ensure("debian").digest


@pytest.mark.slow
@needs_mmdebstrap
def test_python_runs(built: Built) -> None:
    image = built.ensure("python")
    assert image.config.cmd == ["python3"]
    for name in ("python3", "python"):
        assert built.run(image, name, "-c", "import ssl, json; print(6 * 7)") == "42\n"


@pytest.mark.slow
@needs_mmdebstrap
def test_a_killed_debian_build_leaves_no_mount_and_no_process(tmp_path: Path) -> None:
    store = Built(tmp_path)
    pid = os.fork()
    if pid == 0:
        try:
            store.ensure("debian")
        finally:
            os._exit(1)
    _wait_until(lambda: bool(_mounted(tmp_path)))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    _wait_until(lambda: not _mounted(tmp_path))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    store.ensure("busybox")
    assert os.listdir(store.layout.work) == []


def _mounted(folder: Path) -> list[str]:
    """Return the processes, of whatever namespace, that have something mounted below `folder`."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:  # gone meanwhile, or a zombie
            continue
        if str(folder) in text:
            found.append(pid)
    return found


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
