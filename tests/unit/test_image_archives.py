"""What images come in: archives and folders of docker, podman, skopeo; and hostile ones."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import DigestMismatch, ImageError, KernelError, PycontainError
from pycontain.image import archives, documents
from pycontain.image.documents import Platform
from pycontain.image.index import REF_NAME
from tests.unit import imagefiles as made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.image.archives import Found

REAL = Path(__file__).parent / "archives"

ONE = "sha256:4fffaf77893b6b2442bd32be089e2eb92e42fcf36dafeea3f5bb06952e3dec69"
TWO = "sha256:08e55a257d0d0b02747771f1797f490c8c281310ff03e99180d22feaaca3ff2e"
TWO_OCI = "sha256:b831af251be17dc135db33bd906eb011b1f890eeb23c3553696a5b0801f738ac"


@contextlib.contextmanager
def opened(source: Any, folder: Path, limit: int = made.LIMIT) -> Iterator[archives.Archive]:
    with archives.opened(source, str(folder), limit=limit) as place:
        yield archives.Archive(place, limit=limit)


def images(source: Any, folder: Path, **options: Any) -> list[Found]:
    with opened(source, folder) as archive:
        return archive.images(**options)


def manifest_of(found: Found) -> documents.Manifest:
    manifest = documents.parse(found.manifest.data, found.manifest.media_type, "manifest")
    assert isinstance(manifest, documents.Manifest)
    return manifest


def content(archive: archives.Archive, descriptor: documents.Descriptor, start: int = 0) -> bytes:
    data = bytearray()
    with archive.layer(descriptor, start) as reader:
        while chunk := reader.read(1000):
            data += chunk
    return bytes(data)


def check_layers(archive: archives.Archive, found: Found) -> None:
    """Every layer is the one that its descriptor names, from any byte on."""
    for layer in manifest_of(found).layers:
        whole = content(archive, layer)
        assert (made.digest(whole), len(whole)) == (layer.digest, layer.size)
        assert content(archive, layer, 77) == whole[77:]
        assert content(archive, layer, len(whole)) == b""


# ---- what others write ----


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker-20.10", [(ONE, ("one:1",), 1), (TWO, ("two:1", "reg.example:5000/a/two:3"), 3)]),
        ("podman-4.3", [(ONE, ("localhost/one:1",), 1), (TWO, ("localhost/two:1",), 3)]),
        ("podman-4.3-oci", [(TWO_OCI, ("localhost/two:1",), 3)]),
        ("skopeo-1.9", [(TWO, ("two:1",), 3)]),
        ("skopeo-1.9-oci", [(TWO_OCI, ("two:1",), 3)]),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_archives_of_other_programs(
    tmp_path: Path, name: str, expected: list[tuple[str, tuple[str, ...], int]], packed: bool
) -> None:
    path = REAL / f"{name}.tar.xz"
    if not packed:
        path = tmp_path / name
        path.write_bytes(lzma.decompress((REAL / f"{name}.tar.xz").read_bytes()))
    with opened(str(path), tmp_path) as archive:
        found = archive.images()
        for image in found:
            check_layers(archive, image)
            assert documents.digest_of(image.configuration) == manifest_of(image).config.digest
    shown = [(manifest_of(i).config.digest, i.names, len(manifest_of(i).layers)) for i in found]
    assert shown == expected


def test_the_folder_of_skopeos_dir(tmp_path: Path) -> None:
    with tarfile.open(REAL / "skopeo-1.9-dir.tar.xz") as archive:
        (tmp_path / "dir").mkdir()
        for member in archive:
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                (tmp_path / member.name).write_bytes(file.read())
    with opened(str(tmp_path / "dir"), tmp_path) as folder:
        (image,) = folder.images()
        check_layers(folder, image)
    assert manifest_of(image).config.digest == TWO
    assert image.manifest.media_type == documents.DOCKER_MANIFEST


def test_an_equal_archive_gives_an_equal_manifest(tmp_path: Path) -> None:
    first = images(str(REAL / "docker-20.10.tar.xz"), tmp_path)[1]
    # skopeo read the same image, wrote it with other names of files, in another order.
    (second,) = images(str(REAL / "skopeo-1.9.tar.xz"), tmp_path)
    assert first.manifest == second.manifest


# ---- where it comes from ----


SOURCES: dict[str, Callable[[bytes, Path], Any]] = {
    "path": lambda data, path: str(path),
    "file": lambda data, path: path.open("rb"),
    "memory": lambda data, path: io.BytesIO(data),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_sources_and_compressions(
    tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(made.tar(made.oci_image().items()))
    path = tmp_path / "archive"
    path.write_bytes(data)
    with contextlib.ExitStack() as stack:
        source = SOURCES[kind](data, path)
        if not isinstance(source, str):
            stack.enter_context(source)
        archive = stack.enter_context(opened(source, tmp_path))
        (image,) = archive.images()
        check_layers(archive, image)
    assert image.names == ("busybox:1",)
    assert sorted(os.listdir(tmp_path)) == ["archive"]


def test_a_pipe(tmp_path: Path) -> None:
    data = made.tar(made.docker_image().items())
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    with open(reading, "rb") as file, opened(file, tmp_path) as archive:
        (image,) = archive.images()
        check_layers(archive, image)
    thread.join()


def test_a_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"x" * 1000 + made.tar(made.oci_image().items()))
    with path.open("rb") as file:
        file.read(1000)
        with opened(file, tmp_path) as archive:
            check_layers(archive, archive.images()[0])


def test_layers_are_read_side_by_side(tmp_path: Path) -> None:
    with opened(made.write(tmp_path / "a", made.oci_image()), tmp_path) as archive:
        layers = manifest_of(archive.images()[0]).layers
        with archive.layer(layers[0], 0) as first, archive.layer(layers[1], 0) as second:
            parts = [b"", b""]
            for _ in range(200):
                parts[0] += first.read(100)
                parts[1] += second.read(60)
    assert made.digest(parts[0]) == layers[0].digest
    assert layers[1].size > len(parts[1]) == 12000 or made.digest(parts[1]) == layers[1].digest


@pytest.mark.parametrize("write", [made.write, made.write_folder])
def test_a_folder_is_read_as_an_archive_is(
    tmp_path: Path, write: Callable[[Path, made.Files], str]
) -> None:
    for number, files in enumerate([made.oci_image(), made.docker_image()]):
        with opened(write(tmp_path / f"{number}", files), tmp_path) as archive:
            (image,) = archive.images()
            check_layers(archive, image)
        assert image.names == ("busybox:1",)


def test_what_is_packed_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(10 << 20)))
    with pytest.raises(ImageError, match="unpacked more than 1000000 bytes"):
        archives.opened(str(path), str(tmp_path), limit=1_000_000).__enter__()
    # What comes as it is costs its sender as much as the reader.
    with opened(io.BytesIO(made.tar(made.oci_image().items())), tmp_path, 100) as archive:
        assert archive.images()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_archive_that_breaks_off(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = pack(made.tar(made.oci_image().items()))
    with pytest.raises(ImageError, match=r"archive: .*ends in the middle"):
        images(io.BytesIO(data[: len(data) // 2]), tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "not a tar archive, or damaged at byte 0"),
        (b"hello" * 1000, "not a tar archive, or damaged at byte 0"),
        (b"", "has neither oci-layout and index.json nor manifest.json"),
        (bytes(1024), "has neither oci-layout and index.json nor manifest.json"),
        (made.tar([("etc/passwd", b"x")]), "has neither oci-layout and index.json nor manifest"),
    ],
)
def test_what_is_no_image(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        images(str(path), tmp_path)
    assert reason in caught.value.message
    assert str(path) in caught.value.message


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"open: .*nothing: no such file or directory"):
        images(str(tmp_path / "nothing"), tmp_path)


def test_an_archive_older_than_the_format(tmp_path: Path) -> None:
    path = made.write(tmp_path / "a", {"repositories": b"{}", "x/layer.tar": made.layer("a")})
    with pytest.raises(ImageError) as caught:
        images(path, tmp_path)
    assert "docker before 1.10" in (caught.value.hint or "")


# ---- tar archives ----


def test_members_in_any_order_and_with_dots(tmp_path: Path) -> None:
    files = [(f"./{name}", data) for name, data in made.docker_image().items()]
    for order in (files, files[::-1]):
        data = made.tar([*(made.link(n, "", tarfile.DIRTYPE) for n in ("./", "1/")), *order])
        assert images(io.BytesIO(data), tmp_path)[0].names == ("busybox:1",)


def test_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    files = made.docker_image()
    data = made.tar([("manifest.json", b"["), ("./c.json", b"{"), *files.items()])
    assert len(images(io.BytesIO(data), tmp_path)) == 1


@pytest.mark.parametrize(
    ("links", "works"),
    [
        ([("1/layer.tar", "../2/layer.tar", tarfile.SYMTYPE)], True),
        ([("1/layer.tar", ".././2//layer.tar", tarfile.SYMTYPE)], True),
        ([("1/layer.tar", "2/layer.tar", tarfile.LNKTYPE)], True),
        ([("1/layer.tar", "../x", tarfile.SYMTYPE),
          ("x", "2/layer.tar", tarfile.LNKTYPE)], True),
        ([("1/layer.tar", "../../2/layer.tar", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "/etc/passwd", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "/2/layer.tar", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "../1/layer.tar", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "../x", tarfile.SYMTYPE), ("x", "y", tarfile.SYMTYPE),
          ("y", "x", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "../nothing", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "..", tarfile.SYMTYPE)], False),
        ([("1/layer.tar", "", tarfile.FIFOTYPE)], False),
        ([("1/layer.tar", "", tarfile.CHRTYPE)], False),
        ([("1/layer.tar", "", tarfile.DIRTYPE)], False),
    ],
)  # fmt: skip
def test_links_between_members(
    tmp_path: Path, links: list[tuple[str, str, bytes]], works: bool
) -> None:
    layers = [made.layer("b")] * 2
    files = {**made.docker_image(), "c.json": made.configuration(layers)}
    del files["1/layer.tar"]
    data = made.tar([*(made.link(*words) for words in links), *files.items()])
    if not works:
        with pytest.raises(ImageError, match=r"archive: '(1/layer\.tar|x|nothing)'"):
            images(io.BytesIO(data), tmp_path)
        return
    with opened(io.BytesIO(data), tmp_path) as archive:
        check_layers(archive, archive.images()[0])


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a/.."])
def test_names_outside_the_archive(tmp_path: Path, name: str) -> None:
    data = made.tar([*made.docker_image().items(), (name, b"")])
    with pytest.raises(ImageError, match="is not a name below the archive's root"):
        images(io.BytesIO(data), tmp_path)


@pytest.mark.parametrize(
    "entry", [{"Config": "../c.json"}, {"Config": "/c.json"}, {"Layers": ["../a", "2/layer.tar"]}]
)
@pytest.mark.parametrize("write", [made.write, made.write_folder])
def test_documents_that_point_outside(
    tmp_path: Path, entry: dict[str, Any], write: Callable[[Path, made.Files], str]
) -> None:
    (tmp_path / "c.json").write_bytes(made.docker_image()["c.json"])
    path = write(tmp_path / "place", made.docker_image(**entry))
    with pytest.raises(ImageError, match="is not a name below the archive's root"):
        images(path, tmp_path)


def test_long_names_of_both_kinds(tmp_path: Path) -> None:
    name = "d/" * 200 + "layer.tar"
    files = made.docker_image(Layers=[name, "2/layer.tar"])
    files[name] = files.pop("1/layer.tar")
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with opened(io.BytesIO(made.tar(files.items(), form)), tmp_path) as archive:
            check_layers(archive, archive.images()[0])


def test_long_name_of_ustar(tmp_path: Path) -> None:
    name = "d" * 90 + "/" + "e" * 90
    files = made.docker_image(Layers=[name, "2/layer.tar"])
    files[name] = files.pop("1/layer.tar")
    data = made.tar(files.items(), tarfile.USTAR_FORMAT)
    with opened(io.BytesIO(data), tmp_path) as archive:
        check_layers(archive, archive.images()[0])


def header(data: bytes, **fields: bytes) -> bytes:
    """Return a header block with fields replaced, and its checksum right again."""
    places = {"name": 0, "size": 124, "flag": 156}
    block = bytearray(data[:512])
    for field, value in fields.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


PLAIN = made.tar([("x", b"abc")])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(PLAIN, size=b"77777777777\0"), "ends in the middle of 'x'"),
        (header(PLAIN, size=b"\x80" + b"\xff" * 11), "not a tar archive, or damaged at byte 0"),
        (header(PLAIN, size=b"\xff" * 12), "not a tar archive, or damaged at byte 0"),
        (header(PLAIN, size=b"-1\0"), "not a tar archive, or damaged at byte 0"),
        (header(PLAIN, flag=b"S"), "'x': a sparse member"),
        (header(PLAIN, flag=b"x"), "a pax header is damaged"),
        (header(PLAIN, flag=b"x", size=b"00001000000\0"), "a header of 262144 bytes"),
        (header(PLAIN, flag=b"L", size=b"77777777777\0"), "a header of 8589934591 bytes"),
        (PLAIN[:100], "not a tar archive"),
        (PLAIN[:1100], "ends in the middle of a header"),
        (PLAIN[:514], "ends in the middle of 'x'"),
        (PLAIN[:1600] + b"y" + PLAIN[1601:], "something follows the end of the archive"),
        (PLAIN + b"y", "something follows the end of the archive"),
        (PLAIN[:1024] + bytes(2 << 20), "something follows the end of the archive"),
        (PLAIN[:148] + b"0000000\0" + PLAIN[156:], "not a tar archive, or damaged at byte 0"),
    ],
)
def test_damaged_archives(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        images(io.BytesIO(data), tmp_path)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, "a sparse member"),
        ({"size": "-1"}, "size '-1'"),
        ({"size": "1" * 5000}, "size '1111"),
        ({"size": "x"}, "size 'x'"),
        ({"size": str(1 << 60)}, "ends in the middle"),
        ({"path": "../x"}, "is not a name below"),
        ({"path": "a\0b"}, "is not a name below"),
    ],
)
def test_pax_records(tmp_path: Path, records: dict[str, str], reason: str) -> None:
    entry = tarfile.TarInfo("x")
    entry.pax_headers = records
    with pytest.raises(ImageError) as caught:
        images(io.BytesIO(made.tar([entry])), tmp_path)
    assert reason in caught.value.message


def test_a_global_pax_header_says_nothing_of_places(tmp_path: Path) -> None:
    for records, works in (({"comment": "abc"}, True), ({"path": "c.json"}, False)):
        block = tarfile.TarInfo.create_pax_global_header(records)
        data = block + made.tar(made.docker_image().items())
        if works:
            assert images(io.BytesIO(data), tmp_path)
        else:
            with pytest.raises(ImageError, match="a global pax header"):
                images(io.BytesIO(data), tmp_path)


def test_very_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycontain.image.members.MAX_MEMBERS", 50)
    data = made.tar([(f"{number}", b"") for number in range(51)])
    with pytest.raises(ImageError, match="more than 50 members"):
        images(io.BytesIO(data), tmp_path)


@given(st.data())
def test_no_archive_is_met_with_another_error(data: st.DataObject) -> None:
    """Whatever bits are turned in an archive, it is read or refused."""
    whole = bytearray(made.tar(made.docker_image().items())[:6000])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PycontainError):
        images(io.BytesIO(bytes(whole)), Path("/tmp"))


# ---- docker's form ----


def test_the_manifest_that_we_make(tmp_path: Path) -> None:
    with opened(made.write(tmp_path / "a", made.docker_image()), tmp_path) as archive:
        (image,) = archive.images()
    manifest = manifest_of(image)
    layers = [made.layer("a"), made.layer("b")]
    assert [layer.digest for layer in manifest.layers] == [made.digest(data) for data in layers]
    assert [layer.media_type for layer in manifest.layers] == [documents.LAYER] * 2
    assert manifest.config.digest == made.digest(made.docker_image()["c.json"])
    assert image.manifest.media_type == documents.MANIFEST
    assert image.manifest.descriptor.digest == image.manifest.digest
    assert image.index is None


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(
    ("pack", "kind"),
    [(gzip.compress, "+gzip"), (zstd, "+zstd"), (lzma.compress, ""), (bz2.compress, "")],
)
def test_compressed_layers(tmp_path: Path, pack: Callable[[bytes], bytes], kind: str) -> None:
    """What a layer of an image can be stays as it is; xz and bzip2, which it cannot, are undone."""
    files = made.docker_image()
    plain = files["1/layer.tar"]
    files["1/layer.tar"] = pack(plain)
    with opened(made.write(tmp_path / "a", files), tmp_path) as archive:
        (image,) = archive.images()
        check_layers(archive, image)
        first = manifest_of(image).layers[0]
        assert first.media_type == documents.LAYER + kind
        assert content(archive, first) == (files["1/layer.tar"] if kind else plain)


def test_a_layer_that_grows_too_large(tmp_path: Path) -> None:
    files = {**made.docker_image(), "1/layer.tar": lzma.compress(bytes(2 << 20))}
    with (
        opened(made.write(tmp_path / "a", files), tmp_path, 1 << 20) as archive,
        pytest.raises(ImageError, match=r"1/layer\.tar: unpacked more than 1048576 bytes"),
    ):
        archive.images()


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"[", "manifest.json: input data was truncated"),
        (b"[{}]", "missing required field `Config`"),
        (b"[1]", "expected `object`, got `int`"),
        (b"7", "expected `array`, got `int`"),
        (b"[]", "no image in it"),
        (b"{}", "neither docker's list nor skopeo's"),
        (made.docker_image(Config="nothing.json"), "'nothing.json' is not in it"),
        (made.docker_image(Layers=["1/layer.tar"]), "c.json: 2 diff ids, but its manifest has 1"),
        (made.docker_image(Layers=None), "c.json: 2 diff ids, but its manifest has 0"),
        (made.docker_image(Layers=["1/layer.tar", "x"]), "'x' is not in it"),
        (made.docker_image(Layers=["1/layer.tar", 7]), "got `int`"),
        (made.docker_image(Config="1/layer.tar"), "1/layer.tar: "),
        (made.docker_image(["BusyBox"]), "must be lower case"),
        (made.docker_image(["a b"]), "image reference 'a b'"),
        (made.docker_image([""]), "image reference ''"),
    ],
)
def test_wrong_manifests(tmp_path: Path, manifest: bytes | made.Files, reason: str) -> None:
    files = made.docker_image()
    files.update({"manifest.json": manifest} if isinstance(manifest, bytes) else manifest)
    with pytest.raises(ImageError) as caught:
        images(made.write(tmp_path / "a.tar", files), tmp_path)
    assert reason in caught.value.message
    assert "a.tar" in caught.value.message


@pytest.mark.parametrize(
    ("tags", "names"),
    [(None, ()), ([], ()), (["a"], ("a:latest",)),
     (["docker.io/library/a:1", "reg.example:5000/b/c:2"], ("a:1", "reg.example:5000/b/c:2"))],
)  # fmt: skip
def test_names_of_docker(tmp_path: Path, tags: object, names: tuple[str, ...]) -> None:
    assert images(made.write(tmp_path / "a", made.docker_image(tags)), tmp_path)[0].names == names


def test_documents_are_bounded(tmp_path: Path) -> None:
    files = made.docker_image()
    files["c.json"] = b" " * (documents.CONFIG_LIMIT + 1)
    with pytest.raises(ImageError, match=r"'c\.json': 8388609 bytes are more than 8388608"):
        images(made.write(tmp_path / "a", files), tmp_path)


def test_documents_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.docker_image()
    files["manifest.json"] = made.encode(
        [{"Config": "c.json", "Layers": ["1/layer.tar", "2/layer.tar"]}] * 1001
    )
    with pytest.raises(ImageError, match="more than 1000 images"):
        images(made.write(tmp_path / "a", files), tmp_path)
    monkeypatch.setattr(archives, "MAX_IMAGES", 2000)
    monkeypatch.setattr(archives, "_DOCUMENTS_LIMIT", 200_000)
    with pytest.raises(ImageError, match="more than 200000 bytes together"):
        images(made.write(tmp_path / "b", files), tmp_path)


# ---- OCI ----


def named(document: bytes, name: str | None, **more: Any) -> dict[str, Any]:
    annotations = {REF_NAME: name} if name else {}
    return made.descriptor(documents.MANIFEST, document, annotations=annotations, **more)


def platform_images(*platforms: str) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Descriptors with platforms, and the blobs of their images."""
    layers = [made.layer("a")]
    entries, blobs = [], layers[:]
    for text in platforms:
        architecture, _, variant = text.partition("/")
        platform = {"os": "linux", "architecture": architecture}
        platform.update({"variant": variant} if variant else {})
        config = made.configuration(layers, **platform)
        document = made.manifest(config, layers)
        entries.append(made.descriptor(documents.MANIFEST, document, platform=platform))
        blobs += [config, document]
    return entries, blobs


def chosen(found: Found) -> Platform:
    configuration = documents.parse_configuration(found.configuration, manifest_of(found), "c")
    return configuration.platform


def test_an_index_in_the_layout(tmp_path: Path) -> None:
    entries, blobs = platform_images("s390x", "arm/v6", "arm/v7", "amd64")
    inner = made.index(entries)
    top = made.index([{**named(inner, "a:1"), "mediaType": documents.INDEX}])
    path = made.write(tmp_path / "a", made.oci(top, inner, *blobs))
    (image,) = images(path, tmp_path, platform=Platform("arm", "linux", "v7"))
    assert chosen(image) == Platform("arm", "linux", "v7")
    assert image.index is not None
    assert image.index.data == inner
    assert image.names == ("a:1",)
    with pytest.raises(ImageError) as caught:
        images(path, tmp_path, platform=Platform("riscv64", "linux"))
    assert "no image for linux/riscv64" in caught.value.message
    assert caught.value.hint == "there are linux/amd64, linux/arm/v6, linux/arm/v7, linux/s390x"


def test_an_index_of_which_only_a_part_is_there(tmp_path: Path) -> None:
    entries, _ = platform_images("amd64")
    other, blobs = platform_images("s390x")
    inner = made.index([*entries, *other])
    path = made.write(tmp_path / "a", made.oci(
        made.index([{**named(inner, "a:1"), "mediaType": documents.INDEX}]), inner, *blobs
    ))  # fmt: skip
    assert len(images(path, tmp_path, platform=Platform("s390x", "linux"))) == 1
    with pytest.raises(ImageError) as caught:
        images(path, tmp_path, platform=Platform("amd64", "linux"))
    assert caught.value.hint == "there are linux/s390x"


def test_a_list_that_is_whole_is_told_apart(tmp_path: Path) -> None:
    host = documents.host_platform().architecture
    entries, blobs = platform_images(host, "s390x")
    inner = made.index(entries)
    nested = made.index(
        [{**made.descriptor(documents.INDEX, inner), "platform": entries[0]["platform"]}]
    )
    config, layer = b"{}", b"x"
    said = made.manifest(config, [layer])
    unknown = {"os": "unknown", "architecture": "unknown"}
    built = made.index([entries[0], made.descriptor(documents.MANIFEST, said, platform=unknown)])
    every = {*map(made.digest, blobs)}
    cases = {
        "whole": (inner, blobs, every | {made.digest(inner)}),
        "below another": (
            nested,
            [*blobs, inner],
            every | {made.digest(inner), made.digest(nested)},
        ),
        "without the other's configuration": (inner, [b for b in blobs if b != blobs[3]], set()),
        "one image, and what its builder says": (built, [*blobs, said, config, layer], set()),
    }
    for name, (document, present, found) in cases.items():
        top = made.index([{**named(document, "a:1"), "mediaType": documents.INDEX}])
        path = made.write(tmp_path / "a", made.oci(top, document, *present))
        (image,) = images(path, tmp_path)
        assert {item.digest for item in image.whole} == found, name
        assert (image.names, chosen(image).architecture) == (("a:1",), host)
        (image,) = images(path, tmp_path, platform=Platform(host, "linux"))
        assert image.whole == ()


def test_several_of_one_name_in_the_layout(tmp_path: Path) -> None:
    entries, blobs = platform_images("s390x", "amd64")
    for entry in entries:
        entry["annotations"] = {REF_NAME: "a:1"}
    path = made.write(tmp_path / "a", made.oci(made.index(entries), *blobs))
    (image,) = images(path, tmp_path, platform=Platform("amd64", "linux"))
    assert chosen(image).architecture == "amd64"


def test_an_image_for_another_machine(tmp_path: Path) -> None:
    """It is taken as it is, unless a platform was asked for."""
    path = made.write(tmp_path / "a", made.oci_image(architecture="s390x"))
    assert len(images(path, tmp_path)) == 1
    with pytest.raises(ImageError, match="no image for linux/arm64"):
        images(path, tmp_path, platform=Platform("arm64", "linux"))


def test_indexes_below_each_other(tmp_path: Path) -> None:
    for depth in (1, 4, 5):
        entries, blobs = platform_images("amd64")
        for _ in range(depth):
            inner = made.index(entries)
            blobs.append(inner)
            entries = [made.descriptor(documents.INDEX, inner, platform=entries[0]["platform"])]
        path = made.write(tmp_path / f"{depth}", made.oci(made.index(entries), *blobs))
        if depth < 5:
            (image,) = images(path, tmp_path, platform=Platform("amd64", "linux"))
            assert image.index is not None
            assert image.index.data == inner  # the outermost: what a name stands for
        else:
            with pytest.raises(ImageError, match="more than 4 indexes below each other"):
                images(path, tmp_path, platform=Platform("amd64", "linux"))


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({REF_NAME: "latest"}, ()),
        ({REF_NAME: "1.36"}, ()),
        ({REF_NAME: "busybox:1"}, ("busybox:1",)),
        ({REF_NAME: "docker.io/library/busybox:1"}, ("busybox:1",)),
        ({REF_NAME: "example.com/a"}, ("example.com/a:latest",)),
        ({REF_NAME: "example.com/a@sha256:" + "0" * 64}, ()),
        ({REF_NAME: "Not/A/Reference:1"}, ()),
        ({archives.NAME: "docker.io/library/b:2", REF_NAME: "2"}, ("b:2",)),
        ({archives.NAME: "docker.io/library/b:2", REF_NAME: "c:3"}, ("b:2",)),
        ({}, ()),
    ],
)
def test_names_of_the_layout(
    tmp_path: Path, annotations: dict[str, str], names: tuple[str, ...]
) -> None:
    files = made.oci_image()
    top = json.loads(files["index.json"])
    top["manifests"][0]["annotations"] = annotations
    files["index.json"] = made.encode(top)
    assert images(made.write(tmp_path / "a", files), tmp_path)[0].names == names


def test_an_entry_for_each_name(tmp_path: Path) -> None:
    files = made.oci_image()
    entry = json.loads(files["index.json"])["manifests"][0]
    other = {**entry, "annotations": {REF_NAME: "other:2"}}
    files["index.json"] = made.index([entry, other, entry])
    (image,) = images(made.write(tmp_path / "a", files), tmp_path)
    assert image.names == ("busybox:1", "other:2")


def test_dockers_names_beside_the_layout(tmp_path: Path) -> None:
    """As docker writes since 25: what ``manifest.json`` names has the same configuration."""
    layers = [made.layer("a"), made.layer("b")]
    config = made.configuration(layers)
    for own, names in (("latest", ("a:1", "b:2")), ("c:3", ("c:3",))):
        files = made.oci_image(own)
        files["manifest.json"] = made.encode(
            [
                {
                    "Config": made.blob_name(config),
                    "RepoTags": ["a:1", "b:2"],
                    "Layers": [made.blob_name(data) for data in layers],
                }
            ]
        )
        (image,) = images(made.write(tmp_path / own, files), tmp_path)
        assert image.names == names


def test_what_is_not_an_image_is_passed_over(tmp_path: Path) -> None:
    """Signatures, charts and documents of unknown kinds lie in layouts too."""
    files = made.oci_image()
    entry = json.loads(files["index.json"])["manifests"][0]
    chart = made.manifest(b"{}", [])
    chart = chart.replace(documents.CONFIG.encode(), b"application/vnd.cncf.helm.config.v1+json")
    signature = made.manifest(b"{}", [b"x"])
    signature = signature.replace(documents.LAYER.encode(), b"application/vnd.dev.cosign.json")
    others = [
        made.descriptor(documents.MANIFEST, chart),
        made.descriptor(documents.MANIFEST, signature),
        made.descriptor("text/plain", b"hello"),
    ]
    files[made.blob_name(chart)], files[made.blob_name(signature)] = chart, signature
    both = {**files, "index.json": made.index([*others, entry])}
    assert len(images(made.write(tmp_path / "both", both), tmp_path)) == 1
    alone = {**files, "index.json": made.index(others)}
    with pytest.raises(ImageError, match="no image in it, but application/vnd"):
        images(made.write(tmp_path / "alone", alone), tmp_path)


def without(files: made.Files, media_type: str) -> made.Files:
    """An OCI layout of which one blob is gone: the manifest, or the configuration."""
    name = next(
        name
        for name, data in files.items()
        if name.startswith("blobs/")
        and (b'"diff_ids"' in data if media_type == documents.CONFIG else b'"layers": [{' in data)
    )
    return {key: data for key, data in files.items() if key != name}


def tampered(files: made.Files, old: bytes, new: bytes) -> made.Files:
    """The same, where every document has something replaced, and no digest was."""
    return {
        name: data.replace(old, new) if name.startswith("blobs/") else data
        for name, data in files.items()
    }


@pytest.mark.parametrize(
    ("files", "kind", "reason"),
    [
        (without(made.oci_image(), documents.MANIFEST), ImageError, "is not in it"),
        (without(made.oci_image(), documents.CONFIG), ImageError, "is not in it"),
        (tampered(made.oci_image(), b"amd64", b"arm64"), DigestMismatch, "has digest"),
        (tampered(made.oci_image(), b"amd64", b"arm"), DigestMismatch, "bytes long instead of"),
        (tampered(made.oci_image(), b"schemaVersion", b"schemaversion"), DigestMismatch, "digest"),
        ({**made.oci_image(), "oci-layout": b"{}"}, ImageError, "oci-layout: object missing"),
        ({**made.oci_image(), "oci-layout": b'{"imageLayoutVersion":"2.0.0"}'}, ImageError,
         "oci-layout: version '2.0.0' is not 1.0.0"),
        ({**made.oci_image(), "index.json": b"null"}, ImageError, "index.json: expected `object`"),
        ({**made.oci_image(), "index.json": b"{}"}, ImageError, "index.json: "),
        ({**made.oci_image(), "index.json": b'{"manifests":[],"layers":[]}'}, ImageError,
         "could be read as a manifest and as an index"),
        ({**made.oci_image(), "index.json": made.index([])}, ImageError, "no image in it"),
        ({**made.oci_image(), "index.json": b"[" * 100_000}, ImageError, "index.json: "),
        (made.oci(made.index([{"mediaType": documents.MANIFEST, "digest": "sha256:../../etc",
                               "size": 1}])), ImageError, "is no digest"),
        (made.oci(made.index([{"mediaType": documents.MANIFEST, "size": 1,
                               "digest": "sha512:" + "0" * 128}])),
         ImageError, "not a sha256 digest"),
        (made.oci(made.index([{"mediaType": documents.MANIFEST, "digest": "sha256:" + "0" * 64,
                               "size": -1}])), ImageError, "size -1"),
        (made.oci(made.index([{"mediaType": documents.MANIFEST, "digest": "sha256:" + "0" * 64,
                               "size": 1 << 70}])), ImageError, "index.json: "),
        (made.oci(made.index([made.descriptor(documents.INDEX, made.manifest(b"{}", []))]),
                  made.manifest(b"{}", [])), ImageError, "but says it is"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("write", [made.write, made.write_folder])
def test_wrong_layouts(
    tmp_path: Path, files: made.Files, kind: type[ImageError], reason: str,
    write: Callable[[Path, made.Files], str],
) -> None:  # fmt: skip
    with pytest.raises(ImageError) as caught:
        images(write(tmp_path / "place", files), tmp_path)
    assert type(caught.value) is kind
    assert reason in caught.value.message
    assert "place" in caught.value.message


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    """Known when it is read: the store may have it."""
    files = made.oci_image()
    del files[made.blob_name(made.layer("b"))]
    with opened(made.write(tmp_path / "a", files), tmp_path) as archive:
        layers = manifest_of(archive.images()[0]).layers
        assert content(archive, layers[0]) == made.layer("a")
        with pytest.raises(ImageError, match="is not in it"), archive.layer(layers[1], 0):
            pass


# ---- folders ----


@pytest.mark.parametrize("kind", ["symlink", "outside", "fifo", "folder", "parent"])
def test_hostile_folders(tmp_path: Path, kind: str) -> None:
    """Nothing outside is read, and nothing is waited for."""
    files = made.oci_image()
    path = tmp_path / "place"
    made.write_folder(path, files)
    outside = tmp_path / "outside"
    (outside / "sha256").mkdir(parents=True)
    index = path / "index.json"
    (outside / "index.json").write_bytes(files["index.json"])
    if kind == "parent":
        for name in os.listdir(path / "blobs/sha256"):
            os.rename(path / "blobs/sha256" / name, outside / "sha256" / name)
        (path / "blobs/sha256").rmdir()
        (path / "blobs/sha256").symlink_to(outside / "sha256")
    else:
        index.unlink()
    if kind == "symlink":
        index.symlink_to("oci-layout")
    elif kind == "outside":
        index.symlink_to(outside / "index.json")
    elif kind == "fifo":
        os.mkfifo(index)
    elif kind == "folder":
        index.mkdir()
    with pytest.raises(ImageError, match=r"place: "):
        images(str(path), tmp_path)


# ---- documents ----


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def changed(value: Any, data: st.DataObject) -> Any:
    """A document with something in it replaced by something else."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 9)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], changed(value[place], data), *value[place + 1 :]]
    return data.draw(json_values)


@given(st.data())
def test_any_document_is_read_or_refused(data: st.DataObject) -> None:
    files = data.draw(st.sampled_from([made.oci_image(), made.docker_image()]))
    name = data.draw(st.sampled_from(sorted(n for n in files if n.endswith((".json", "layout")))))
    document = changed(json.loads(files[name]), data)
    files = {**files, name: made.encode(document)}
    with (
        contextlib.suppress(PycontainError),
        opened(io.BytesIO(made.tar(files.items())), Path("/tmp")) as archive,
    ):
        for image in archive.images():
            assert hashlib.sha256(image.configuration).hexdigest()
            for layer in manifest_of(image).layers:
                with contextlib.suppress(PycontainError):
                    content(archive, layer)
