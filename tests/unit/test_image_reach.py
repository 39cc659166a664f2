"""What hangs together in a layout, whoever put it in: marked, passed over, and never in the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import ImageError
from pycontain.image import documents, reach
from pycontain.image.index import IndexFile
from pycontain.image.store import ImageStore
from pycontain.store.layout import Layout
from tests.unit import imagefiles as made

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


class Store:
    """A store whose index.json is written by hand, as skopeo does."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(f"{folder}/root", f"{folder}/state")
        self.layout.prepare()
        self.images = ImageStore(self.layout, in_use=tuple)
        self.blobs = self.images.blobs
        self.blobs.prepare()
        self.entries: list[dict[str, Any]] = []

    def put(self, *blobs: bytes) -> None:
        for blob in blobs:
            self.blobs.add(blob)

    def enter(self, media_type: str, data: bytes, name: str | None = None) -> None:
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        self.put(data)
        self.entries.append(made.descriptor(media_type, data, annotations=annotations))
        with open(f"{self.layout.images}/index.json", "wb") as file:
            file.write(made.index(self.entries))

    def image(self, name: str, enter: bool = True, **more: Any) -> bytes:
        """An image of one layer; its manifest."""
        layer = made.layer(name)
        config = made.configuration([layer])
        self.put(layer, config)
        manifest = made.manifest(config, [layer], **more)
        self.put(manifest)
        if enter:
            self.enter(documents.MANIFEST, manifest, f"{name}:1")
        return manifest

    def has(self, *blobs: bytes) -> bool:
        return {made.digest(blob) for blob in blobs} <= set(self.blobs.digests())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def artifact(config: str = EMPTY, kind: str | None = SIGNATURE, **more: Any) -> bytes:
    """A manifest that is no image's; its blobs are ``{}`` and ``sig``."""
    return made.encode(
        {
            "schemaVersion": 2,
            "mediaType": documents.MANIFEST,
            **({"artifactType": kind} if kind else {}),
            "config": made.descriptor(config, b"{}"),
            "layers": [made.descriptor("application/vnd.example.signature", b"sig")],
            **more,
        }
    )


def test_all_of_a_foreign_index_stays(store: Store) -> None:
    one, two = store.image("one", enter=False), store.image("two", enter=False)
    inner = made.index([made.descriptor(documents.MANIFEST, two)])
    outer = made.index(
        [
            made.descriptor(documents.MANIFEST, one),
            made.descriptor(documents.INDEX, inner),
            made.descriptor("application/vnd.example.thing", b"whatever"),
            made.descriptor(documents.MANIFEST, b"is not here"),
        ]
    )
    store.put(inner, b"whatever", b"nobody's")
    store.enter(documents.INDEX, outer, "all:1")
    before = len(store.blobs.digests())
    freed = store.images.collect()
    assert freed == len(b"nobody's")
    assert len(store.blobs.digests()) == before - 1
    assert store.has(one, two, inner, outer, b"whatever", made.layer("one"), made.layer("two"))
    assert store.images.list() == ()


def test_an_artifact_stays_with_what_it_is_about(store: Store) -> None:
    image = store.image("about", enter=False)
    signature = artifact(subject=made.descriptor(documents.MANIFEST, image))
    store.put(b"{}", b"sig")
    store.enter(documents.MANIFEST, signature, "signed:1")
    assert store.images.collect() == 0
    assert store.has(signature, b"{}", b"sig", image, made.layer("about"))


def test_a_subject_that_is_not_here_is_no_matter(store: Store) -> None:
    missing = made.descriptor(documents.MANIFEST, b"not here")
    manifest = store.image("app", subject=missing)
    assert store.images.collect() == 0
    assert store.images.resolve("app:1").digest == made.digest(manifest)


@pytest.mark.parametrize(
    "data",
    [
        artifact(),
        artifact(kind=None),
        artifact(config=documents.CONFIG),  # as old signatures are: an image by its configuration
        artifact(layers=[]),
        artifact(layers=[made.descriptor("application/x", b"sig")] * 600),
        artifact(config=documents.CONFIG, kind=None),
    ],
)
def test_lists_pass_over_what_is_no_image(data: bytes, store: Store) -> None:
    store.put(b"{}", b"sig")
    store.enter(documents.MANIFEST, data, "sig:1")
    store.enter("application/vnd.example.thing", b"whatever", "thing:1")
    store.image("app")
    [image] = store.images.list()
    assert image.names == ("app:1",)
    assert store.images.resolve(image.id[7:20]) == image
    for name, why in (("sig:1", "an artifact: "), ("thing:1", "application/vnd.example.thing")):
        with pytest.raises(ImageError, match=f"image .*not an image.*{why}"):
            store.images.resolve(name)
    assert store.images.collect() is not None
    assert store.has(data, b"{}")


def test_what_is_damaged_keeps_all_blobs_and_fails_nothing(store: Store) -> None:
    store.put(b"nobody's")
    store.enter(documents.INDEX, b'{"manifests": [{"digest": 7}]}', "bad:1")
    store.image("app")
    assert store.images.collect() == 0
    assert store.has(b"nobody's")
    assert [image.names for image in store.images.list()] == [("app:1",)]


def test_what_leads_too_far_keeps_all_blobs_and_is_named(store: Store) -> None:
    listed = made.index([made.descriptor(documents.MANIFEST, store.image("app"))])
    for _ in range(reach.MAX_DEPTH):
        store.put(listed)
        listed = made.index([made.descriptor(documents.INDEX, listed)])
    store.put(b"nobody's")
    store.enter(documents.INDEX, listed, "deep:1")
    assert store.images.collect() == 0
    assert store.has(b"nobody's")
    [err] = reach.obstacles(store.blobs, IndexFile(f"{store.layout.images}/index.json").entries())
    assert str(err) == (
        "image deep:1: more than 16 documents below each other:"
        " while it is there no blob is removed"
    )
    assert err.hint == "remove it: pycontain rmi deep:1"


def test_the_image_of_an_index_for_this_machine(store: Store) -> None:
    host = documents.host_platform()
    platform = {"architecture": host.architecture, "os": host.os}
    image = store.image("app")
    listed = made.index([made.descriptor(documents.MANIFEST, image, platform=platform)])
    store.enter(documents.INDEX, listed, "list:1")
    found = store.images.resolve("list:1")
    assert (found.names, found.index) == (("app:1",), made.digest(listed))
    other = made.index([made.descriptor(documents.MANIFEST, b"elsewhere", platform=platform)])
    store.enter(documents.INDEX, other, "other:1")
    with pytest.raises(ImageError, match="image other:1: a list of images, of which that for this"):
        store.images.resolve("other:1")


def _chain(store: Store, length: int) -> bytes:
    data = made.index([])
    for _ in range(length):
        store.put(data)
        data = made.index([made.descriptor(documents.INDEX, data)])
    return data


def test_depth_has_a_bound(store: Store) -> None:
    for length, refused in ((reach.MAX_DEPTH - 1, False), (reach.MAX_DEPTH, True)):
        data = _chain(store, length)
        store.put(data)
        if refused:
            with pytest.raises(ImageError, match="documents below each other"):
                reach.reachable(store.blobs, made.digest(data), documents.INDEX)
        else:
            assert len(reach.reachable(store.blobs, made.digest(data), documents.INDEX)) == 16


def test_count_has_a_bound_and_a_diamond_is_walked_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "MAX_DOCUMENTS", 20)
    # Two of each below two of each: 2 ** 12 ways, 13 documents.
    data = made.index([])
    for _ in range(12):
        store.put(data)
        data = made.index([made.descriptor(documents.INDEX, data)] * 2)
    store.put(data)
    assert len(reach.reachable(store.blobs, made.digest(data), documents.INDEX)) == 13
    many = [json.dumps({"manifests": [], "number": number}).encode() for number in range(20)]
    store.put(*many)
    top = made.index([made.descriptor(documents.INDEX, one) for one in many])
    store.put(top)
    with pytest.raises(ImageError, match="leads to more than 20 documents"):
        reach.reachable(store.blobs, made.digest(top), documents.INDEX)


@pytest.mark.parametrize("digest", ["sha256:../../x", "md5:1", "", "sha512:" + "a" * 128])
def test_a_digest_never_names_a_path(digest: str, store: Store) -> None:
    data = made.encode({"manifests": [{"mediaType": documents.INDEX, "digest": digest}]})
    store.put(data)
    found = reach.reachable(store.blobs, made.digest(data), documents.INDEX)
    assert found == {made.digest(data), digest}
