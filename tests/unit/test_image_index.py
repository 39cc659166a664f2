"""``index.json``: which images there are and what they are called, whoever wrote it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import NotFound, StoreError
from pycontain.image import documents
from pycontain.image.documents import Descriptor
from pycontain.image.index import REF_NAME, IndexFile

if TYPE_CHECKING:
    from pathlib import Path


def image(number: int, **more: Any) -> Descriptor:
    digest = f"sha256:{number:064x}"
    return Descriptor(media_type=documents.MANIFEST, digest=digest, size=7, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.json"


def names(path: Path) -> list[tuple[int, str | None]]:
    """Number and name of each descriptor."""
    return [
        (int(item.digest[7:], 16), (item.annotations or {}).get(REF_NAME))
        for item in IndexFile(str(path)).read()
    ]


def test_without_a_file(path: Path) -> None:
    assert IndexFile(str(path)).read() == ()
    IndexFile(str(path)).forget(image(1).digest)
    assert names(path) == []


def test_names_are_given_and_taken(path: Path) -> None:
    index = IndexFile(str(path))
    assert index.name(image(1), ["a:1", "b:1"]) == []
    assert index.name(image(2), ["a:1"]) == ["a:1"]
    assert sorted(names(path)) == [(1, "b:1"), (2, "a:1")]
    assert index.name(image(2), ["b:1"]) == ["b:1"]
    # An image that nobody names any more stays.
    assert sorted(names(path), key=str) == [(1, None), (2, "a:1"), (2, "b:1")]
    index.name(image(1), ["c:1"])
    assert (1, None) not in names(path)


def test_another_takes_the_place_of_one(path: Path) -> None:
    index = IndexFile(str(path))
    index.name(image(1), ["a:1", "a@sha256:" + "0" * 64, "b:1"])
    index.name(image(2), ["c:1"])
    index.replace(image(1).digest, image(3, annotations={"kept": "yes"}))
    assert sorted(names(path), key=str) == [(2, "c:1"), (3, "a:1"), (3, "b:1")]
    assert {(item.annotations or {}).get("kept") for item in index.read()} == {None, "yes"}
    index.replace(image(3).digest, image(2))
    assert sorted(names(path), key=str) == [(2, "a:1"), (2, "b:1"), (2, "c:1")]
    index.forget(image(2).digest, ["a:1", "b:1", "c:1"])
    index.replace(image(2).digest, image(4))
    assert names(path) == [(4, None)]
    with pytest.raises(NotFound, match="removed meanwhile"):
        index.replace(image(1).digest, image(5))


def test_an_image_without_names(path: Path) -> None:
    index = IndexFile(str(path))
    for _ in range(2):
        assert index.name(image(1), []) == []
        assert names(path) == [(1, None)]
    index.name(image(1), ["a:1"])
    index.name(image(1), [])
    assert names(path) == [(1, "a:1")]


def test_forgetting(path: Path) -> None:
    index = IndexFile(str(path))
    index.name(image(1), ["a:1", "b:1"])
    index.name(image(2), ["c:1"])
    index.forget(image(1).digest, ["a:1", "c:1"])
    assert sorted(names(path)) == [(1, "b:1"), (2, "c:1")]
    index.forget(image(1).digest)
    assert names(path) == [(2, "c:1")]


def test_what_others_wrote_is_kept(path: Path) -> None:
    chart = {"mediaType": "application/vnd.cncf.helm", "digest": "sha256:1", "size": 1, "x": [1]}
    theirs = {
        **json.loads(json.dumps({"mediaType": documents.MANIFEST, "digest": image(1).digest})),
        "size": 7,
        "annotations": {REF_NAME: "a:1", "theirs": "kept"},
        "urls": ["u"],
    }
    top = {"schemaVersion": 2, "manifests": [chart, theirs], "annotations": {"all": "x"}, "y": 1}
    path.write_text(json.dumps(top))
    IndexFile(str(path)).name(image(2), ["a:1"])
    after = json.loads(path.read_text())
    entries = {entry["digest"]: entry for entry in after.pop("manifests")}
    assert after == {key: value for key, value in top.items() if key != "manifests"}
    assert entries["sha256:1"] == chart
    assert entries[image(1).digest] == {**theirs, "annotations": {"theirs": "kept"}}
    assert {item.digest for item in IndexFile(str(path)).read()} == {
        image(1).digest, image(2).digest,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": 7}', '{"manifests": [7]}'])
def test_a_damaged_file(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        IndexFile(str(path)).read()


steps = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.sampled_from("abcd"), max_size=3, unique=True)),
    max_size=12,
)


@settings(max_examples=30)  # each writes files that are synced
@given(steps)
def test_any_order_of_namings(steps: list[tuple[int, list[str]]]) -> None:
    """A name belongs to one image; an image is there once for each name, or once without."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        index = IndexFile(f"{folder}/index.json")
        owner: dict[str, int] = {}
        there: set[int] = set()
        for number, given_names in steps:
            index.name(image(number), given_names)
            owner.update(dict.fromkeys(given_names, number))
            there.add(number)
        found = [
            (int(item.digest[7:], 16), (item.annotations or {}).get(REF_NAME))
            for item in index.read()
        ]
    expected: list[tuple[int, str | None]] = [(number, name) for name, number in owner.items()]
    expected += [(number, None) for number in there - set(owner.values())]
    assert sorted(found, key=str) == sorted(expected, key=str)
