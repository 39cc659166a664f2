"""A real image of several layers, of Debian's packages: in the store as in docker and in umoci."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_images import ok
from test_layers_extract import CAPABILITY
from test_layers_peers import of_docker

from pycontain.image.documents import LAYER, MANIFEST
from pycontain.kernel import mount
from tests import peers
from tests.tarball import tree
from tests.unit import imagefiles

if TYPE_CHECKING:
    from harness import CommandLine, Store
    from test_layers_peers import Seen

pytestmark = [pytest.mark.host, pytest.mark.slow]

NAME = "debian-made:1"
# Owners and links of a base system; set-id programs and folders that sudo and passwd want with
# their modes; hard links (perl).
PACKAGES = (
    ("base-files", "base-passwd", "busybox-static"),
    ("coreutils", "passwd", "sudo", "iputils-ping"),
    ("perl-base",),
)
# What a Dockerfile's RUN leaves: things that are gone, replaced, and with another mode.
WHITEOUTS = ("usr/share/doc/.wh.coreutils", "usr/lib/x86_64-linux-gnu/.wh.perl-base", "bin/.wh.cat",
             "etc/sudoers.d/.wh..wh..opq")  # fmt: skip


def packed(folder: Path, number: int, names: tuple[str, ...]) -> bytes:
    """Return the layer of some packages, as their archives have them."""
    debs, files = folder / f"debs{number}", folder / f"tree{number}"
    debs.mkdir(mode=0o777)
    files.mkdir(mode=0o755)
    done = subprocess.run(
        ["apt-get", "-q", "download", *names], cwd=debs, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"apt-get download: {done.stderr.decode(errors='replace')[-200:]}")
    for deb in sorted(debs.iterdir()):
        subprocess.run(["dpkg-deb", "-x", deb, files], check=True)
    ping = files / "bin/ping"
    if ping.exists():  # what its postinst does
        os.setxattr(ping, "security.capability", CAPABILITY)
    path = folder / f"{number}.tar"
    subprocess.run(
        ["tar", "-C", files, "--sort=name", "--numeric-owner", "--format=posix", "--xattrs",
         "--xattrs-include=*", "-cf", path, "."], check=True,
    )  # fmt: skip
    return path.read_bytes()


def changes(folder: Path) -> bytes:
    """Return a layer that removes and replaces some of what those below it have."""
    path = folder / "changes.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        made = set()
        for name in WHITEOUTS:
            # The folders on the way are listed, as in docker's own layers.
            for above in [str(part) for part in Path(name).parents][-2::-1]:
                if above not in made:
                    made.add(above)
                    below = [folder / f"tree{number}" / above for number in range(len(PACKAGES))]
                    tar.addfile(
                        tar.gettarinfo([place for place in below if place.is_dir()][-1], above)
                    )
            tar.addfile(tarfile.TarInfo(name))
        gone = tarfile.TarInfo("etc/login.defs")
        gone.type, gone.mode, gone.mtime = tarfile.DIRTYPE, 0o2750, 5
        tar.addfile(gone)
        link = tarfile.TarInfo("etc/login.defs/link")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "../debian_version", 6
        tar.addfile(link)
    return path.read_bytes()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an OCI layout, which docker can read too."""
    if os.geteuid() != 0 or not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("needs root and Debian's apt-get and dpkg-deb")
    made = tmp_path_factory.mktemp("made")
    layers = [packed(made, number, names) for number, names in enumerate(PACKAGES)]
    layers.append(changes(made))
    config = imagefiles.configuration(layers, config={"Cmd": ["busybox"]})
    manifest = imagefiles.manifest(
        config, (), layers=[imagefiles.descriptor(LAYER, layer) for layer in layers]
    )
    annotations = {"org.opencontainers.image.ref.name": "1"}
    top = imagefiles.descriptor(MANIFEST, manifest, annotations=annotations)
    names = [imagefiles.blob_name(blob) for blob in (config, *layers)]
    listed = [{"Config": names[0], "RepoTags": [NAME], "Layers": names[1:]}]
    found = imagefiles.oci(imagefiles.index([top]), manifest, config, *layers)
    found["manifest.json"] = json.dumps(listed).encode()
    folder = tmp_path_factory.mktemp("image")
    imagefiles.write_folder(folder, found)
    return folder


def ours(store: Store, pycontain: CommandLine, image: Path) -> Seen:
    """What the image looks like in the store."""
    ok(pycontain("load", "-qi", str(image)))
    layers = store.engine.images.get(NAME).layers
    assert len(layers) == len(PACKAGES) + 1
    fd = mount.stack([store.layout.layer(layer) for layer in layers])
    try:
        return tree(f"/proc/self/fd/{fd}/.")
    finally:
        os.close(fd)


def check_content(seen: Seen) -> None:
    """There would be nothing to compare otherwise."""
    assert len(seen) > 500
    assert "bin/cat" not in seen
    assert "usr/lib/x86_64-linux-gnu/perl-base" not in seen
    assert "etc/login.defs/link" in seen


def test_umoci(store: Store, pycontain: CommandLine, image: Path, tmp_path: Path) -> None:
    if not peers.available("umoci"):
        pytest.skip("umoci is not installed")
    seen = ours(store, pycontain, image)
    check_content(seen)
    done = subprocess.run(
        ["umoci", "unpack", "--image", f"{image}:1", tmp_path / "bundle"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert seen == tree(tmp_path / "bundle/rootfs")


def test_docker(store: Store, pycontain: CommandLine, image: Path, tmp_path: Path) -> None:
    if not peers.available("docker", "dockerd", "containerd"):
        pytest.skip("docker is not installed")
    seen = ours(store, pycontain, image)
    check_content(seen)
    whole = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", image, "-cf", whole, "."], check=True)
    with peers.docker(tmp_path / "docker") as docker:
        loaded = docker("load", "-i", str(whole))
        assert loaded.returncode == 0, loaded.stderr
        theirs = of_docker(docker, NAME)
        assert docker("rmi", NAME).returncode == 0
    del seen["."], theirs["."]  # it gives each layer's own folder a mode of its own
    assert seen == theirs
