"""Lists of images on their way to a registry: what is sent, and how often."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest

from pycontain.errors import ImageError
from pycontain.image import documents, push, reference
from pycontain.image.blobs import Blobs
from pycontain.image.documents import Descriptor
from pycontain.store.layout import Layout
from tests.unit import imagefiles as made

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.image.registry import Registry

REF = reference.parse("reg.io/app:1")


class Counting:
    """A registry that takes everything, and counts."""

    def __init__(self) -> None:
        self.manifests: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def has_blob(self, _path: str, digest: str) -> bool:
        self.asked[digest] += 1
        return True

    def put_manifest(self, _path: str, name: str, data: bytes, _media_type: str) -> str:
        self.manifests[name] += 1
        return made.digest(data)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    found = Blobs(layout)
    found.prepare()
    return found


def image(blobs: Blobs, name: str) -> dict[str, Any]:
    layer = made.layer(name)
    config = made.configuration([layer])
    manifest = made.manifest(config, [layer])
    for data in (layer, config, manifest):
        blobs.add(data)
    return made.descriptor(documents.MANIFEST, manifest)


def index(blobs: Blobs, members: list[dict[str, Any]]) -> dict[str, Any]:
    data = made.index(members)
    blobs.add(data)
    return made.descriptor(documents.INDEX, data)


def send(blobs: Blobs, listed: dict[str, Any]) -> Counting:
    registry = Counting()
    descriptor = documents.decode(json.dumps(listed).encode(), Descriptor, "it")
    push.push_list(blobs, cast("Registry", registry), descriptor, REF, origins={})
    return registry


def test_what_lists_name_again_is_sent_once(blobs: Blobs) -> None:
    one, two = image(blobs, "one"), image(blobs, "two")
    listed = index(blobs, [one, two])
    lists = [listed]
    for number in range(2):
        # Each with three ways to the list below: nine to the lowest.
        other = index(blobs, [listed, {**one, "annotations": {"n": str(number)}}])
        listed = index(blobs, [listed, other, listed])
        lists += [other, listed]
    registry = send(blobs, listed)
    expected = {item["digest"]: 1 for item in (one, two, *lists[:-1])}
    assert dict(registry.manifests) == {**expected, "1": 1}
    assert set(registry.asked.values()) == {1}


def test_lists_below_each_other_have_an_end(blobs: Blobs) -> None:
    listed = index(blobs, [image(blobs, "one")])
    for _ in range(5):
        listed = index(blobs, [listed])
    with pytest.raises(ImageError, match="more than 4 lists below each other"):
        send(blobs, listed)
