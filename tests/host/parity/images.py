"""The images that both engines run: busybox, and one whose config says everything."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

from pycontain.image.store import Image, ImageStore

from .player import IMAGES

if TYPE_CHECKING:
    from pycontain.store.layout import Layout

_RECIPES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images")
NAMES = IMAGES


def prepare(layout: Layout) -> None:
    """Put both images into a store."""
    ImageStore(layout).ensure("busybox:latest")
    ImageStore(layout, _RECIPES).ensure("tooled:latest")


def archive(layout: Layout, path: str) -> None:
    """Write both images for ``docker load``: configs and layers as they are, so the same ids."""
    store = ImageStore(layout)
    images = [store.resolve(name) for name in NAMES]
    with tarfile.open(path, "w") as tar:
        for digest in {image.id for image in images}:
            tar.add(_blob(layout, digest), f"{_hex(digest)}.json")
        for digest in {digest for image in images for digest in image.diff_ids}:
            # the layers are not compressed: a blob's digest is its diff id
            tar.add(_blob(layout, digest), f"{_hex(digest)}/layer.tar")
        data = json.dumps([_entry(image) for image in images]).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def _entry(image: Image) -> dict[str, object]:
    return {
        "Config": f"{_hex(image.id)}.json",
        "RepoTags": list(image.names),
        "Layers": [f"{_hex(digest)}/layer.tar" for digest in image.diff_ids],
    }


def _hex(digest: str) -> str:
    return digest.partition(":")[2]


def _blob(layout: Layout, digest: str) -> str:
    return f"{layout.images}/blobs/sha256/{_hex(digest)}"
