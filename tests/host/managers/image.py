"""The one image of these tests, in an archive that all managers read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile

NAME = "docker.io/library/tools:latest"
_RECIPE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../images/busybox/build")
_CONFIG = {
    "Cmd": ["sh"],
    "Env": ["PATH=/bin:/usr/bin", "FROM=image"],
    "WorkingDir": "/",
}


def archive(folder: str) -> str:
    """Make ``image.tar`` in `folder`: busybox, as an OCI layout and as ``docker save`` writes it.

    Returns its path. Raises CalledProcessError when the recipe fails.
    """
    layer = _layer(folder)
    config = _json(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": _CONFIG,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
    )
    path = f"{folder}/image.tar"
    with tarfile.open(path, "w") as tar:
        for blob in (layer, config, manifest):
            _add(tar, _blob(blob), blob)
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json(_index(manifest)))
        _add(tar, "manifest.json", _json(_docker_manifest(config, layer)))
    return path


def _layer(folder: str) -> bytes:
    root = f"{folder}/rootfs"
    os.mkdir(root, mode=0o755)
    subprocess.run(["sh", _RECIPE, root], check=True, capture_output=True)
    with open(f"{root}/bin/notes", "w") as file:  # exists, and is no program
        file.write("notes\n")
    os.chmod(f"{root}/bin/notes", 0o644)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as writer:
        writer.add(root, ".")
    return tar.getvalue()


def _index(manifest: bytes) -> dict[str, object]:
    descriptor = _descriptor(manifest, "application/vnd.oci.image.manifest.v1+json")
    names = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "latest"}
    return {"schemaVersion": 2, "manifests": [{**descriptor, "annotations": names}]}


def _docker_manifest(config: bytes, layer: bytes) -> list[dict[str, object]]:
    return [{"Config": _blob(config), "RepoTags": ["tools:latest"], "Layers": [_blob(layer)]}]


def _descriptor(data: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
