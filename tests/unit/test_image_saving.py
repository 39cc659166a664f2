"""Images as they go out: what is written, byte by byte, and what other programs make of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import (
    Conflict,
    DigestMismatch,
    ImageError,
    InvalidInput,
    KernelError,
    NotFound,
    StoreError,
)
from pycontain.image import archives, documents, saving
from pycontain.image.blobs import Blobs
from pycontain.image.documents import Descriptor
from pycontain.image.index import REF_NAME
from pycontain.image.saving import DOCKER_ARCHIVE, FORMS, OCI_ARCHIVE, OCI_FOLDER, Saved
from pycontain.store.layout import Layout
from tests.unit import imagefiles as made

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LAYERS = [made.layer("a", 5000), made.layer("b"), made.layer("c")]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "state"))
    layout.prepare()
    blobs = Blobs(layout)
    blobs.prepare()
    return blobs


def image(blobs: Blobs, layers: Sequence[bytes], *names: str, **more: object) -> Saved:
    """Put an image into a store."""
    config = made.configuration(layers, **more)
    document = made.manifest(config, layers)
    for data in (config, document, *layers):
        blobs.add(data)
    descriptor = Descriptor(
        media_type=documents.MANIFEST, digest=made.digest(document), size=len(document)
    )
    return Saved(manifest=descriptor, names=names)


def write(blobs: Blobs, images: Sequence[Saved], path: Path, form: str) -> str:
    if form == OCI_FOLDER:
        saving.save_folder(blobs, images, str(path))
    else:
        with path.open("wb") as file:
            saving.save(blobs, images, file, form)
    return str(path)


def read(path: str, folder: Path) -> list[tuple[str, tuple[str, ...], list[str]]]:
    """What is in an archive: digests, names, and the digests of its layers' content."""
    shown = []
    with archives.opened(path, str(folder), limit=made.LIMIT) as place:
        archive = archives.Archive(place, limit=made.LIMIT)
        for found in archive.images():
            manifest = documents.parse(found.manifest.data, found.manifest.media_type, "m")
            assert isinstance(manifest, documents.Manifest)
            layers = []
            for layer in manifest.layers:
                with archive.layer(layer, 0) as reader:
                    layers.append(made.digest(reader.read(layer.size)))
            shown.append((found.manifest.digest, found.names, layers))
    return shown


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_out_comes_in(tmp_path: Path, blobs: Blobs, form: str) -> None:
    """Several images, with layers in common, several names or none: nothing is lost."""
    images = [
        image(blobs, LAYERS[:1], "one:1"),
        image(blobs, LAYERS[:2], "two:1", "reg.example:5000/a/two:3"),
        image(blobs, [LAYERS[0], LAYERS[2]]),
        image(blobs, [], "nothing:latest"),
        image(blobs, LAYERS[:1], author="with the layers of the first"),
    ]
    found = read(write(blobs, images, tmp_path / "out", form), tmp_path)
    assert [(digest, names) for digest, names, _ in found] == [
        (item.manifest.digest, item.names) for item in images
    ]
    assert found[1][2] == [made.digest(data) for data in LAYERS[:2]]


@pytest.mark.parametrize("form", [DOCKER_ARCHIVE, OCI_ARCHIVE])
def test_equal_images_give_equal_bytes(tmp_path: Path, blobs: Blobs, form: str) -> None:
    """To whatever they are written: memory, a file, one that is appended to, a pipe."""
    images = [image(blobs, LAYERS[:2], "a:1")]
    memory = io.BytesIO()
    saving.save(blobs, images, memory, form)
    expected = memory.getvalue()
    for mode in ("wb", "ab"):
        with (tmp_path / mode).open(mode) as file:
            file.write(b"before")
            saving.save(blobs, images, file, form)
        assert (tmp_path / mode).read_bytes() == b"before" + expected
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as target:
        got = bytearray()
        thread = threading.Thread(target=lambda: got.extend(source.read()))
        thread.start()
        saving.save(blobs, images, target, form)
        target.close()
        thread.join()
    assert bytes(got) == expected


def test_the_members(tmp_path: Path, blobs: Blobs) -> None:
    path = write(blobs, [image(blobs, LAYERS, "a:1")], tmp_path / "out", DOCKER_ARCHIVE)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names[:2] == ["blobs", "blobs/sha256"]
    assert names[-3:] == ["index.json", "manifest.json", "oci-layout"]
    assert names == sorted(names)
    assert len(names) == 2 + len(LAYERS) + 2 + 3
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
    assert {m.mode for m in members if m.isreg()} == {0o644}
    assert os.stat(path).st_size % 10240 == 0


def test_an_oci_archive_has_no_manifest_of_dockers(tmp_path: Path, blobs: Blobs) -> None:
    path = write(blobs, [image(blobs, LAYERS, "a:1")], tmp_path / "out", OCI_ARCHIVE)
    with tarfile.open(path) as archive:
        assert "manifest.json" not in archive.getnames()


def test_names_in_the_index(tmp_path: Path, blobs: Blobs) -> None:
    """Whole, where containerd looks for them and where skopeo and podman do."""
    images = [image(blobs, LAYERS[:1], "a:1", "reg.example/b:2"), image(blobs, LAYERS[1:])]
    path = write(blobs, images, tmp_path / "out", OCI_FOLDER)
    with open(f"{path}/index.json", "rb") as file:
        entries = json.load(file)["manifests"]
    whole = ["docker.io/library/a:1", "reg.example/b:2"]
    assert [entry.get("annotations") for entry in entries] == [
        *({archives.NAME: name, REF_NAME: name} for name in whole),
        None,
    ]


def test_an_image_that_is_named_twice(tmp_path: Path, blobs: Blobs) -> None:
    one = image(blobs, LAYERS, "a:1")
    again = Saved(manifest=one.manifest, names=("b:2", "a:1"))
    path = write(blobs, [one, again], tmp_path / "out", DOCKER_ARCHIVE)
    with tarfile.open(path) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None
        (entry,) = json.load(file)
    assert entry["RepoTags"] == ["a:1", "b:2"]
    assert list(entry) == ["Config", "RepoTags", "Layers"]


def test_other_annotations_do_not_go_along(tmp_path: Path, blobs: Blobs) -> None:
    """The store's own notes on an image are nobody else's."""
    plain = image(blobs, LAYERS, "a:1").manifest
    noted = Descriptor(
        media_type=plain.media_type, digest=plain.digest, size=plain.size,
        annotations={"org.pycontain.image.index": "sha256:0"},
    )  # fmt: skip
    path = write(blobs, [Saved(manifest=noted)], tmp_path / "out", OCI_FOLDER)
    with open(f"{path}/index.json", "rb") as file:
        assert "annotations" not in json.load(file)["manifests"][0]


# ---- what goes wrong ----


@pytest.mark.parametrize("form", FORMS)
def test_a_blob_that_is_gone_or_damaged(tmp_path: Path, blobs: Blobs, form: str) -> None:
    one = image(blobs, LAYERS, "a:1")
    layer = blobs.path(made.digest(LAYERS[1]))
    with open(layer, "ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match="bytes long instead of"):
        write(blobs, [one], tmp_path / "out", form)
    os.unlink(layer)
    with pytest.raises(StoreError, match=r"read: .*: no such file or directory"):
        write(blobs, [one], tmp_path / "out", form)
    os.truncate(blobs.path(one.manifest.digest), 10)
    with pytest.raises(DigestMismatch):
        write(blobs, [one], tmp_path / "out", form)
    os.unlink(blobs.path(one.manifest.digest))
    with pytest.raises(StoreError):
        write(blobs, [one], tmp_path / "out", form)
    if form == OCI_FOLDER:
        assert sorted(os.listdir(tmp_path)) == ["root", "state"]


def test_what_is_no_image(blobs: Blobs) -> None:
    document = made.index([])
    blobs.add(document)
    index = Descriptor(media_type=documents.INDEX, digest=made.digest(document), size=len(document))
    with pytest.raises(InvalidInput, match="is a list of images"):
        saving.save(blobs, [Saved(manifest=index)], io.BytesIO(), DOCKER_ARCHIVE)
    wrong = Descriptor(
        media_type=documents.MANIFEST, digest=made.digest(document), size=len(document)
    )
    with pytest.raises(ImageError):
        saving.save(blobs, [Saved(manifest=wrong)], io.BytesIO(), OCI_ARCHIVE)


def test_a_form_that_is_none(blobs: Blobs) -> None:
    with pytest.raises(InvalidInput, match="'docker-dir': no form of an archive"):
        saving.save(blobs, [], io.BytesIO(), "docker-dir")


def test_an_output_that_is_full(blobs: Blobs) -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(KernelError, match="write: the archive: no space left on device"),
    ):
        saving.save(blobs, [image(blobs, LAYERS)], full, DOCKER_ARCHIVE)


def _files(path: str) -> dict[str, bytes]:
    """The files of an archive or a folder, by their names."""
    if os.path.isdir(path):
        found = [os.path.join(above, name) for above, _, names in os.walk(path) for name in names]
        return {os.path.relpath(name, path): _content(name) for name in found}
    with tarfile.open(path) as archive:
        members = [(one.name, archive.extractfile(one)) for one in archive if one.isreg()]
        return {name: file.read() for name, file in members if file is not None}


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("form", [OCI_ARCHIVE, OCI_FOLDER])
def test_a_list_goes_out_whole(form: str, blobs: Blobs, tmp_path: Path) -> None:
    one, two = image(blobs, LAYERS), image(blobs, LAYERS[:1])
    inner = made.index([made.descriptor(documents.MANIFEST, blobs.read(two.manifest))])
    outer = made.index(
        [
            made.descriptor(documents.INDEX, inner),
            made.descriptor(documents.MANIFEST, blobs.read(one.manifest), annotations={"a": "b"}),
        ],
        annotations={"kept": "yes"},
    )
    for document in (inner, outer):
        blobs.add(document)
    top = Descriptor(media_type=documents.INDEX, digest=made.digest(outer), size=len(outer))
    out = _files(write(blobs, [Saved(manifest=top, names=("list:1",))], tmp_path / "out", form))
    [item] = json.loads(out["index.json"])["manifests"]
    assert (item["mediaType"], item["digest"]) == (documents.INDEX, top.digest)
    assert item["annotations"][REF_NAME] == "docker.io/library/list:1"
    assert out[made.blob_name(outer)] == outer
    assert out[made.blob_name(inner)] == inner
    assert {f"blobs/sha256/{digest[7:]}" for digest in blobs.digests()} <= set(out)
    blobs.remove(two.manifest.digest)
    with pytest.raises(NotFound, match=f"blob {two.manifest.digest} is not in the store"):
        write(blobs, [Saved(manifest=top)], tmp_path / "again", form)


def test_a_reader_that_goes_away(blobs: Blobs) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (
        open(writing, "wb", buffering=0) as gone,
        pytest.raises(KernelError, match="write: the archive: broken pipe"),
    ):
        saving.save(blobs, [image(blobs, LAYERS)], gone, DOCKER_ARCHIVE)


def test_an_output_that_does_not_wait(blobs: Blobs) -> None:
    """It is an error, not a loop."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    big = [image(blobs, [made.layer("a", 300_000)])]
    with open(reading, "rb"), open(writing, "wb", buffering=0) as file:
        with pytest.raises(KernelError, match="resource temporarily unavailable"):
            saving.save(blobs, big, file, DOCKER_ARCHIVE)
        with pytest.raises(KernelError, match="resource temporarily unavailable"):
            saving.save(blobs, big, file, DOCKER_ARCHIVE)


def test_a_folder_that_is_there(tmp_path: Path, blobs: Blobs) -> None:
    images = [image(blobs, LAYERS, "a:1")]
    path = tmp_path / "out"
    path.mkdir()
    write(blobs, images, path, OCI_FOLDER)  # an empty one is filled
    with pytest.raises(Conflict, match=r"save: .*out: is there already"):
        write(blobs, images, path, OCI_FOLDER)
    assert len(read(str(path), tmp_path)) == 1
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Conflict):
        write(blobs, images, tmp_path / "file", OCI_FOLDER)
    with pytest.raises(KernelError):
        write(blobs, images, tmp_path / "file" / "below", OCI_FOLDER)
    assert sorted(os.listdir(tmp_path)) == ["file", "out", "root", "state"]


# ---- what others read ----


def skopeo(*words: str) -> bytes:
    argv = ["skopeo", "--insecure-policy", *words]
    return subprocess.run(argv, capture_output=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo")
def test_skopeo_reads_what_we_write(tmp_path: Path, blobs: Blobs) -> None:
    """And the digests are those of the store: of the manifests, where the form has them."""
    images = [image(blobs, LAYERS[:1], "one:1"), image(blobs, LAYERS, "two:1", "reg.io/two:2")]
    paths = {form: write(blobs, images, tmp_path / form, form) for form in FORMS}
    for place in (
        f"oci-archive:{paths[OCI_ARCHIVE]}",
        f"oci-archive:{paths[DOCKER_ARCHIVE]}",
        f"oci:{paths[OCI_FOLDER]}",
    ):
        for name, item in (("docker.io/library/one:1", images[0]), ("reg.io/two:2", images[1])):
            raw = skopeo("inspect", "--raw", f"{place}:{name}")
            assert made.digest(raw) == item.manifest.digest
    config = skopeo("inspect", "--config", "--raw",
                    f"docker-archive:{paths[DOCKER_ARCHIVE]}:two:1")  # fmt: skip
    assert config == made.configuration(LAYERS)


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci", "dir"])
def test_through_skopeo_and_back(tmp_path: Path, blobs: Blobs, kind: str) -> None:
    """It copies our archive into another form, and that holds the same layers for us."""
    form = DOCKER_ARCHIVE if kind == "docker-archive" else OCI_ARCHIVE
    path = write(blobs, [image(blobs, LAYERS, "a:1")], tmp_path / "out", form)
    name = "" if kind == "dir" else ":a:1"
    skopeo("copy", f"{form}:{path}", f"{kind}:{tmp_path}/copy{name}")
    ((_, names, layers),) = read(f"{tmp_path}/copy", tmp_path)
    assert names == (() if kind == "dir" else ("a:1",))
    if kind in ("docker-archive", "dir"):  # elsewhere it compresses them
        assert layers == [made.digest(data) for data in LAYERS]
    else:
        assert len(layers) == len(LAYERS)
