"""Several layers on each other look as they do in docker and in umoci."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest
from test_layers_extract import (
    CAPABILITY,
    Layers,
    copy_etc,
    long_names,
    make_tree,
    set_times,
)

from pycontain.kernel import mount
from tests import peers
from tests.tarball import (
    archive,
    file,
    folder,
    hard_link,
    header,
    meta,
    pax,
    record,
    symlink,
    tree,
)  # fmt: skip

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.host, pytest.mark.slow]

Seen = dict[str, tuple[Any, ...]]
SPARSE = pax(
    GNU__sparse__size=1 << 20, GNU__sparse__numblocks=1, GNU__sparse__map="4096,3"
) + file("sparse", b"abc")  # fmt: skip
XATTRS = meta(
    b"x",
    record("SCHILY.xattr.security.capability", CAPABILITY)
    + record("SCHILY.xattr.user.\u00fc", b"\0\n=") + record("mtime", "1234567890.987654321"),
)  # fmt: skip


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three layers with something of each kind.

    Each lists the folders that it touches: docker gives others a mode of its own. None has a name
    twice, which docker refuses; and a hard link says of its file what that has said, for docker
    takes its owner, mode and time, as umoci and tar do not.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root: owners, devices and attributes")
    top = tmp_path_factory.mktemp("made")
    source = top / "source"
    make_tree(source, attributes=False)
    long_names(source)
    set_times(source, nanoseconds=True, first=0)
    path = top / "first.tar"
    subprocess.run(["tar", "-C", source, "--format=posix", "-cf", path, "."], check=True)
    second = archive(
        folder("./", mtime=1), folder("d/", mode=0o1777, mtime=2), header("d/.wh.f"),
        header("d/.wh.never"), header(".wh.another"), header(".wh.empty"), folder("e", uid=7),
        header("e/.wh..wh..opq"), file("e/x", b"x", mode=0o4711, gid=8), header(".wh.absolute"),
        XATTRS, file("capable", b"c", mode=0o755), SPARSE, symlink("null", "d", uid=3, mtime=4),
        hard_link("sparse2", "sparse"), header("pipe", b"6", mode=0o622, gid=9),
        header("device", b"3", device=(4095, 1048575), mode=0o1), folder("p/q/r", mode=0o700),
    )  # fmt: skip
    third = archive(
        folder(".", mtime=5), folder("d", mtime=6), header("d/.wh..wh..opq"), file("d/only", b"o"),
        file("e", b"a file in the place of a folder"), folder("pipe", mode=0o710),
        file("pipe/in", b"i"), file("empty", b"again"),
        header("p/.wh.q"), folder("p", mtime=7), header(".wh.capable"), file("/absolute", b"a"),
        file(".//fifo", b"f", mode=0o777, uid=1, gid=1),
    )  # fmt: skip
    return [path.read_bytes(), second, third]


@pytest.fixture
def ours(stacked: list[bytes], tmp_path: Path) -> Seen:
    layers = Layers(tmp_path)
    for data in stacked:
        layers.unpack(data)
    return layers.seen()


def config(layers: list[bytes]) -> dict[str, Any]:
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    }


def test_docker(ours: Seen, stacked: list[bytes], tmp_path: Path) -> None:
    if not peers.available("docker", "dockerd", "containerd"):
        pytest.skip("docker is not installed")
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as tar:
        names = [f"{number}.tar" for number in range(len(stacked))]
        manifest = [{"Config": "c.json", "RepoTags": ["made:1"], "Layers": names}]
        texts = {"c.json": config(stacked), "manifest.json": manifest}
        members = {name: json.dumps(text).encode() for name, text in texts.items()}
        for name, data in {**members, **dict(zip(names, stacked, strict=True))}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with peers.docker(tmp_path / "docker") as docker:
        loaded = docker("load", "-i", str(path))
        assert loaded.returncode == 0, loaded.stderr
        theirs = of_docker(docker, "made:1")
        assert docker("rmi", "made:1").returncode == 0
    del ours["."], theirs["."]  # it gives each layer's own folder a mode of its own
    assert ours == theirs


def of_docker(docker: peers.Docker, image: str) -> Seen:
    """What an image looks like in docker."""
    driver = json.loads(docker("image", "inspect", image).stdout)[0]["GraphDriver"]
    if driver["Name"] != "overlay2":
        pytest.skip(f"docker uses {driver['Name']} here")
    lower = [path for path in reversed(driver["Data"].get("LowerDir", "").split(":")) if path]
    fd = mount.stack([*lower, driver["Data"]["UpperDir"]])
    try:
        return tree(f"/proc/self/fd/{fd}/.")
    finally:
        os.close(fd)


CHANGES = (
    """rm -r /etc/init.d; mkdir /etc/init.d; echo 1 >/etc/init.d/new; rm /etc/passwd
    ln /etc/group /etc/group2; chmod 2711 /etc/ssl; mv /etc/default /etc/moved; mkfifo /p
    chown -h 5:6 /etc/mtab; echo x >>/etc/hosts.allow; mknod /tmp/null c 1 3; touch -d @5 /etc""",
    """rm -r /etc/init.d; echo file >/etc/init.d; rm /etc/group; chmod 4755 /bin/busybox
    rmdir /a/b/c; rm -r /tmp; mkdir /tmp; ln /etc/fstab /tmp/fstab""",
    "mkdir -p /a/b/d /etc/passwd/d; ln -s ../../etc /a/b/etc; echo y >/a/b/etc/deep; rm /p",
)


def test_docker_saved(tmp_path: Path) -> None:
    """A tree with the machine's /etc, changed by commands in docker, and saved by it."""
    if not peers.available("docker", "dockerd", "containerd", "busybox"):
        pytest.skip("docker or busybox is not installed")
    if os.geteuid() != 0:
        pytest.skip("needs root: docker")
    base = tmp_path / "base"
    (base / "bin").mkdir(parents=True)
    (base / "a/b/c").mkdir(parents=True)
    (base / "tmp").mkdir()
    copy_etc(base)
    subprocess.run(["cp", which("busybox") or "", base / "bin/busybox"], check=True)
    (base / "bin/sh").symlink_to("busybox")
    subprocess.run(["tar", "-C", base, "-cf", tmp_path / "base.tar", "."], check=True)
    with peers.docker(tmp_path / "docker") as docker:
        assert docker("import", str(tmp_path / "base.tar"), "it:0").returncode == 0
        for number, script in enumerate(CHANGES):
            script = f"/bin/busybox --install -s /bin\n{script}"
            words = ["--name", "box", "--network", "none", f"it:{number}", "/bin/sh", "-c", script]
            done = docker("run", *words)
            assert not done.stderr, done.stderr
            assert docker("commit", "box", f"it:{number + 1}").returncode == 0
            docker("rm", "box")
        image = f"it:{len(CHANGES)}"
        theirs = of_docker(docker, image)
        docker("save", "-o", str(tmp_path / "saved.tar"), image)
    layers = Layers(tmp_path)
    with tarfile.open(tmp_path / "saved.tar") as saved:

        def read(name: str) -> bytes:
            member = saved.extractfile(name)
            assert member
            return member.read()

        for name in json.loads(read("manifest.json"))[0]["Layers"]:
            layers.unpack(read(name))
    ours = layers.seen()
    del ours["."], theirs["."]
    assert ours == theirs


def test_umoci(ours: Seen, stacked: list[bytes], tmp_path: Path) -> None:
    if not peers.available("umoci"):
        pytest.skip("umoci is not installed")
    image = tmp_path / "image"
    (image / "blobs/sha256").mkdir(parents=True)

    def blob(kind: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (image / "blobs/sha256" / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "config": blob("config.v1+json", json.dumps(config(stacked)).encode()),
        "layers": [blob("layer.v1.tar", data) for data in stacked],
    }
    named = blob("manifest.v1+json", json.dumps(manifest).encode())
    named["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (image / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    done = subprocess.run(
        ["umoci", "unpack", "--image", f"{image}:1", tmp_path / "bundle"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ours == tree(tmp_path / "bundle/rootfs")
