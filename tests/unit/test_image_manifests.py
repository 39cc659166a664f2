"""Lists of images in the store: documents that change, and keep their names."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.image import documents
from pycontain.image.blobs import Blobs
from pycontain.image.index import REF_NAME
from pycontain.image.manifests import CALLED, Details, Entry, Lists, detailed
from pycontain.store.layout import Layout
from tests.unit import imagefiles as made

if TYPE_CHECKING:
    from pathlib import Path


def entry(word: str, **more: Any) -> Entry:
    data = made.encode({"word": word})
    descriptor = made.descriptor(documents.MANIFEST, data, **more)
    return Entry(descriptor=descriptor, name=f"reg.io/app:{word}", blobs=(data,))


ONE = entry("one", platform={"architecture": "amd64", "os": "linux"})
TWO = entry("two", platform={"architecture": "arm64", "os": "linux"})


class Store:
    def __init__(self, folder: Path) -> None:
        self.layout = Layout(f"{folder}/root", f"{folder}/state")
        self.layout.prepare()
        self.lists = Lists(self.layout)

    def index(self) -> list[dict[str, Any]]:
        with open(f"{self.layout.images}/index.json") as file:
            found: list[dict[str, Any]] = json.load(file)["manifests"]
        return found

    def document(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lists.data(self.lists.get(name)))
        return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_list_is_an_index_of_the_layout(store: Store) -> None:
    listed = store.lists.create("app", [ONE, TWO])
    assert listed.names == ("app:latest",)
    assert [member.name for member in listed.members] == ["reg.io/app:one", "reg.io/app:two"]
    assert store.document("app") == {
        "schemaVersion": 2,
        "mediaType": documents.INDEX,
        "manifests": [ONE.descriptor, TWO.descriptor],
    }
    [item] = store.index()
    assert (item["mediaType"], item["digest"]) == (documents.INDEX, listed.digest)
    assert item["annotations"][REF_NAME] == "app:latest"
    blobs = Blobs(store.layout)
    assert {listed.digest, ONE.descriptor["digest"]} <= set(blobs.digests())


def test_a_name_is_given_once(store: Store) -> None:
    store.lists.create("app:1", [])
    with pytest.raises(Conflict, match="app:1: the name is taken"):
        store.lists.create("app:1", [])
    with pytest.raises(InvalidInput, match="by a tag, not by a digest"):
        store.lists.create(f"app@sha256:{'0' * 64}", [])


def test_a_change_keeps_names_but_not_those_by_digest(store: Store) -> None:
    listed = store.lists.create("app:1", [ONE])
    store.lists.name(listed, "again:2")
    store.lists.name(listed, f"reg.io/app@{listed.digest}")
    assert store.lists.get("app:1").digests == (f"reg.io/app@{listed.digest}",)
    changed = store.lists.add("again:2", [TWO])
    assert set(changed.names) == {"app:1", "again:2"}
    assert changed.digests == ()
    assert changed.digest != listed.digest
    assert store.lists.find(listed.digest) is None
    assert len(store.lists.all()) == 1


def test_members_are_put_in_once_and_taken_out(store: Store) -> None:
    store.lists.create("app:1", [ONE, TWO])
    again = entry("one", platform={"architecture": "arm", "os": "linux"})
    listed = store.lists.add("app:1", [again])
    assert [member.platform and member.platform.architecture for member in listed.members] == [
        "arm", "arm64",
    ]  # fmt: skip
    listed = store.lists.remove("app:1", ONE.descriptor["digest"])
    assert [member.name for member in listed.members] == ["reg.io/app:two"]
    assert [key for key in store.index()[0]["annotations"] if key.startswith(CALLED)] == [
        f"{CALLED}{TWO.descriptor['digest']}"
    ]
    with pytest.raises(NotFound, match="not in it"):
        store.lists.remove("app:1", ONE.descriptor["digest"])
    with pytest.raises(NotFound, match="no such list"):
        store.lists.add("nosuch", [ONE])


def test_what_is_not_known_stays(store: Store) -> None:
    store.lists.create("app:1", [])
    item = {**ONE.descriptor, "artifactType": "x", "data": "e30="}
    document = {
        "schemaVersion": 2, "manifests": [item],
        "annotations": {"a": "b"}, "subject": made.descriptor(documents.MANIFEST, b"s"), "new": [1],
    }  # fmt: skip
    data = made.encode(document)
    digest = Blobs(store.layout).add(data)
    path = f"{store.layout.images}/index.json"
    descriptor = {
        "mediaType": documents.INDEX, "digest": digest, "size": len(data), "data": "kept?",
        "annotations": {REF_NAME: "other:1", "x": "y"},
    }  # fmt: skip
    content = made.index([*store.index(), descriptor], added="stays")
    with open(path, "wb") as file:
        file.write(content)
    store.lists.annotate("other:1", ONE.descriptor["digest"], Details(variant="v2"))
    platform = {"architecture": "amd64", "os": "linux", "variant": "v2"}
    assert store.document("other:1") == {**document, "manifests": [{**item, "platform": platform}]}
    with open(path) as file:
        assert json.load(file)["added"] == "stays"
    assert store.index()[-1]["annotations"] == {REF_NAME: "other:1", "x": "y"}


def test_the_same_content_is_one_list(store: Store) -> None:
    store.lists.create("app:1", [ONE])
    store.lists.create("app:2", [])
    listed = store.lists.add("app:2", [ONE])
    assert set(listed.names) == {"app:1", "app:2"}
    assert len(store.lists.all()) == 1


def test_found_by_the_start_of_its_digest(store: Store) -> None:
    listed = store.lists.create("app:1", [ONE])
    for start in (listed.digest, listed.digest[7:], listed.digest[7:15]):
        assert store.lists.get(start).digest == listed.digest
    with pytest.raises(NotFound):
        store.lists.get("g")


@pytest.mark.parametrize(
    ("details", "platform"),
    [
        (Details(variant="v8"), {"architecture": "amd64", "os": "linux", "variant": "v8"}),
        (
            Details(os="windows", os_version="10", os_features=("a", "b")),
            {
                "architecture": "amd64", "os": "windows", "os.version": "10",
                "os.features": ["a", "b"],
            },
        ),
        (Details(architecture="arm"), {"architecture": "arm", "os": "linux"}),
        (Details(), {"architecture": "amd64", "os": "linux"}),
    ],
)  # fmt: skip
def test_details(details: Details, platform: dict[str, Any]) -> None:
    assert detailed(ONE.descriptor, details) == {**ONE.descriptor, "platform": platform}


def test_details_are_of_a_whole_platform() -> None:
    bare = entry("bare").descriptor
    with pytest.raises(InvalidInput, match="an architecture and a system"):
        detailed(bare, Details(variant="v7"))
    assert "platform" not in detailed(bare, Details(annotations={"a": "b"}))
    annotated = detailed(
        {**bare, "annotations": {"a": "1", "c": "d"}}, Details(annotations={"a": "b"})
    )
    assert annotated["annotations"] == {"a": "b", "c": "d"}


def test_changes_from_several_threads_are_all_there(store: Store) -> None:
    store.lists.create("app:1", [ONE, TWO])

    def change(member: Entry) -> None:
        for number in range(8):
            details = Details(annotations={str(number): "x"})
            Lists(store.layout).annotate("app:1", member.descriptor["digest"], details)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(change, member) for member in (ONE, TWO)]:
            done.result()
    members = store.lists.get("app:1").members
    assert [len(member.annotations or {}) for member in members] == [8, 8]
