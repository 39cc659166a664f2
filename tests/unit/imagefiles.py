"""Archives of images for tests, made member by member, so that each may be wrong in its own way."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from pycontain.image import documents

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LIMIT = 1 << 30

Files = dict[str, bytes]


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob_name(data: bytes) -> str:
    return f"blobs/sha256/{digest(data)[7:]}"


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def tar(members: Iterable[tuple[str, bytes] | tarfile.TarInfo], form: int = tarfile.PAX_FORMAT
        ) -> bytes:  # fmt: skip
    """A tar archive: files by name and content, anything else by its header."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                archive.addfile(entry, io.BytesIO(member[1]))
    return file.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def layer(name: str, size: int = 100) -> bytes:
    return tar([(name, name.encode() * size)])


def configuration(layers: Iterable[bytes], **more: Any) -> bytes:
    """The configuration of an image with these uncompressed layers."""
    rootfs = {"type": "layers", "diff_ids": [digest(data) for data in layers]}
    return encode({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **more})


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def manifest(config: bytes, blobs: Iterable[bytes], **more: Any) -> bytes:
    """An OCI manifest."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": documents.MANIFEST,
            "config": descriptor(documents.CONFIG, config),
            "layers": [descriptor(documents.LAYER, blob) for blob in blobs],
            **more,
        }
    )


def index(entries: Iterable[dict[str, Any]], **more: Any) -> bytes:
    return encode(
        {"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": list(entries), **more}
    )


def oci(top: bytes, *blobs: bytes) -> Files:
    """The files of an OCI layout."""
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": top,
        **{blob_name(blob): blob for blob in blobs},
    }


def oci_image(name: str | None = "busybox:1", **more: Any) -> Files:
    """The files of an OCI layout with one image of two layers."""
    layers = [layer("a"), layer("b")]
    config = configuration(layers, **more)
    document = manifest(config, layers)
    annotations = {"org.opencontainers.image.ref.name": name} if name else {}
    entry = descriptor(documents.MANIFEST, document, annotations=annotations)
    return oci(index([entry]), document, config, *layers)


def docker_image(tags: object = ("busybox:1",), **entry: Any) -> Files:
    """The files of what ``docker save`` writes, with one image of two layers."""
    layers = [layer("a"), layer("b")]
    saved = {"Config": "c.json", "RepoTags": tags, "Layers": ["1/layer.tar", "2/layer.tar"]}
    return {
        "c.json": configuration(layers),
        "1/layer.tar": layers[0],
        "2/layer.tar": layers[1],
        "manifest.json": encode([{**saved, **entry}]),
    }


def write(path: Path, files: Files) -> str:
    """Write an archive, and return its path."""
    path.write_bytes(tar(files.items()))
    return str(path)


def write_folder(path: Path, files: Files) -> str:
    """Write a folder, and return its path."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return str(path)
