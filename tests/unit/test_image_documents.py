"""Documents of images: what they mean, and which are refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import DigestMismatch, ImageError, InvalidInput
from pycontain.image import documents
from pycontain.image.documents import Descriptor, Index, Manifest, Platform
from tests.unit import imagefiles as made

LAYERS = [made.layer("a"), made.layer("b")]
CONFIG = made.configuration(LAYERS)
MANIFEST = made.manifest(CONFIG, LAYERS)
INDEX = made.index([made.descriptor(documents.MANIFEST, MANIFEST)])


def manifest(data: bytes = MANIFEST) -> Manifest:
    found = documents.parse(data, documents.MANIFEST, "m")
    assert isinstance(found, Manifest)
    return found


def with_fields(data: bytes, **fields: Any) -> bytes:
    return made.encode({**json.loads(data), **fields})


def without(data: bytes, *fields: str) -> bytes:
    return made.encode({key: value for key, value in json.loads(data).items() if key not in fields})


# ---- manifests and indexes ----


def test_what_they_say() -> None:
    found = manifest()
    assert [layer.digest for layer in found.layers] == [made.digest(data) for data in LAYERS]
    assert found.config.size == len(CONFIG)
    index = documents.parse(INDEX, documents.INDEX, "i")
    assert isinstance(index, Index)
    assert index.manifests[0].digest == made.digest(MANIFEST)


@pytest.mark.parametrize("kind", [documents.MANIFEST, documents.DOCKER_MANIFEST])
def test_the_media_type_may_be_said_once(kind: str) -> None:
    """By the registry, or by the document (OCI image-spec, "mediaType" is not required)."""
    bare = without(MANIFEST, "mediaType")
    assert isinstance(documents.parse(bare, kind, "m"), Manifest)
    assert isinstance(documents.parse(with_fields(bare, mediaType=kind), "", "m"), Manifest)


@pytest.mark.parametrize(
    ("data", "media_type", "reason"),
    [
        # One document that could be read as two kinds: CVE-2021-41190.
        (with_fields(MANIFEST, manifests=[]), documents.MANIFEST, "as a manifest and as an index"),
        (with_fields(INDEX, layers=[]), documents.INDEX, "as a manifest and as an index"),
        (with_fields(INDEX, config={}), documents.INDEX, "as a manifest and as an index"),
        (with_fields(INDEX, config=None), documents.INDEX, "as a manifest and as an index"),
        (MANIFEST, documents.INDEX, "but says it is"),
        (INDEX, documents.MANIFEST, "but says it is"),
        (MANIFEST, documents.DOCKER_MANIFEST, "but says it is"),
        (without(MANIFEST, "mediaType"), documents.INDEX, "its content is not of its kind"),
        (without(INDEX, "mediaType"), documents.MANIFEST, "its content is not of its kind"),
        (b"{}", documents.MANIFEST, "its content is not of its kind"),
        (b"{}", "", "no media type: not an image"),
        (b"{}", "text/html", "text/html: not an image"),
        (MANIFEST, "text/html", "but says it is"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "", "a manifest of docker's schema 1"),
        (b'{"fsLayers":[]}', documents.MANIFEST, "a manifest of docker's schema 1"),
        (b"", documents.MANIFEST, "m: "),
        (b"[]", documents.MANIFEST, "expected `object`, got `array`"),
        (b'{"mediaType":7}', documents.MANIFEST, "mediaType"),
        (b'{"mediaType":"\xff"}', documents.MANIFEST, "m: "),
        (b'{"a":' * 50_000, documents.MANIFEST, "m: "),
        (MANIFEST + b"x", documents.MANIFEST, "m: "),
        (MANIFEST + b" " * documents.MANIFEST_LIMIT, documents.MANIFEST, "more than a manifest"),
        (with_fields(MANIFEST, layers=7), documents.MANIFEST, "layers"),
        (with_fields(MANIFEST, layers=[7]), documents.MANIFEST, "`$.layers[0]`"),
        (without(MANIFEST, "config"), documents.MANIFEST, "missing required field `config`"),
        (without(MANIFEST, "layers"), documents.MANIFEST, "missing required field `layers`"),
        (with_fields(MANIFEST, layers=[made.descriptor(documents.LAYER, b"x")] * 501),
         documents.MANIFEST, "501 layers are more than 500"),
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes, media_type: str, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        documents.parse(data, media_type, "m")
    assert reason in caught.value.message
    assert caught.value.message.startswith("m: ")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"size": -1}, "size -1"),
        ({"size": 1 << 63}, "size 9223372036854775808"),
        ({"size": 1.5}, "expected `int`"),
        ({"size": "1"}, "expected `int`"),
        ({"size": True}, "expected `int`"),
        ({"digest": "sha256:../../../../etc/passwd"}, "is no digest"),
        ({"digest": "sha256:" + "A" * 64}, "is no digest"),
        ({"digest": "md5:" + "a" * 32}, "is no digest"),
        ({"digest": ""}, "is no digest"),
        ({"digest": None}, "expected `str`"),
        ({"mediaType": None}, "expected `str`"),
    ],
)
def test_wrong_descriptors(fields: dict[str, Any], reason: str) -> None:
    wrong = {**made.descriptor(documents.LAYER, b"x"), **fields}
    for data in (with_fields(MANIFEST, layers=[wrong]), with_fields(MANIFEST, config=wrong)):
        with pytest.raises(ImageError) as caught:
            documents.parse(data, documents.MANIFEST, "m")
        assert reason in caught.value.message
    with pytest.raises(ImageError):
        documents.parse(made.index([wrong]), documents.INDEX, "i")


def test_a_configuration_that_would_be_too_large() -> None:
    large = {**made.descriptor(documents.CONFIG, b"x"), "size": documents.CONFIG_LIMIT + 1}
    with pytest.raises(ImageError, match="more than a configuration may have"):
        documents.parse(with_fields(MANIFEST, config=large), documents.MANIFEST, "m")


def test_verification() -> None:
    right = Descriptor(media_type="", digest=made.digest(b"abc"), size=3)
    documents.verify(b"abc", right)
    for data in (b"abd", b"ab", b"abcd"):
        with pytest.raises(DigestMismatch, match=right.digest):
            documents.verify(data, right)
    for digest in ("sha512:" + "0" * 128, "x"):
        with pytest.raises(ImageError, match="not a sha256 digest"):
            documents.verify(b"abc", Descriptor(media_type="", digest=digest, size=3))


# ---- configurations ----


def configuration(**more: Any) -> documents.Configuration:
    data = made.configuration(LAYERS, **more)
    return documents.parse_configuration(data, manifest(), "c")


def test_a_configuration_of_docker() -> None:
    """With the nulls that Go writes for what is empty."""
    found = configuration(
        created="2026-11-21T14:33:01.935771095Z",
        container_config={"Hostname": "x", "Cmd": ["a"]},
        config={
            "Hostname": "", "User": "", "AttachStdin": False, "Env": ["PATH=/bin"],
            "Cmd": None, "Image": "sha256:0", "Volumes": None, "WorkingDir": "",
            "Entrypoint": None, "OnBuild": None, "Labels": {"a": "b"},
            "ExposedPorts": {"80/tcp": {}},
        },
        history=[{"created": "2026-11-21T14:33:01Z", "created_by": "x", "empty_layer": True}],
    )  # fmt: skip
    assert found.config is not None
    assert found.config.env == ["PATH=/bin"]
    assert found.platform == Platform("amd64", "linux")
    assert documents.nanoseconds(found.created) == 1795271581_935771000
    assert found.history is not None
    assert found.history[0].empty_layer


def test_little_is_needed() -> None:
    assert configuration(config=None, history=None).config is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "0 diff ids, but its manifest has 2"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:x"] * 2}}, "not a sha256 digest"),
        ({"rootfs": {"type": "layers", "diff_ids": [f"sha256:{'0' * 63}/"] * 2}}, "not a sha256"),
        ({"rootfs": None}, "rootfs"),
        ({"os": 7}, "expected `str`"),
        ({"created": "yesterday"}, "created"),
        ({"config": {"Env": "PATH=/bin"}}, "Env"),
        ({"config": {"Cmd": ["a\0b"]}}, "holds a NUL"),
        ({"config": {"Entrypoint": ["a\0b"]}}, "holds a NUL"),
        ({"config": {"Env": ["A=\0"]}}, "holds a NUL"),
        ({"config": {"User": "root\0"}}, "holds a NUL"),
        ({"config": {"WorkingDir": "/\0"}}, "holds a NUL"),
        ({"config": {"Volumes": {"/a\0": {}}}}, "holds a NUL"),
        ({"config": []}, "config"),
    ],
)
def test_wrong_configurations(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        configuration(**fields)
    assert reason in caught.value.message


def test_what_is_not_to_run() -> None:
    """An artifact has a configuration of its own kind."""
    other = with_fields(
        MANIFEST, config=made.descriptor("application/vnd.oci.empty.v1+json", b"{}")
    )
    with pytest.raises(ImageError, match=r"application/vnd\.oci\.empty\.v1\+json: not an image"):
        documents.parse_configuration(b"{}", manifest(other), "c")


def test_chain_ids() -> None:
    """ChainID(A|B) = Digest(ChainID(A) + " " + DiffID(B)) (image-spec, config.md)."""
    diff_ids = tuple(made.digest(bytes([number])) for number in range(3))
    second = hashlib.sha256(f"{diff_ids[0]} {diff_ids[1]}".encode()).hexdigest()
    third = hashlib.sha256(f"sha256:{second} {diff_ids[2]}".encode()).hexdigest()
    assert documents.chain_ids(diff_ids) == (diff_ids[0], f"sha256:{second}", f"sha256:{third}")
    assert documents.chain_ids(()) == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00", 0),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("0001-01-01T00:00:00+14:00", -62135647200),
        ("9999-12-31T23:59:59-12:00", 253402343999),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    """Go's zero time is what an image without a time has."""
    assert documents.nanoseconds(configuration(created=text).created) == seconds * 10**9


# ---- platforms ----


def entry(number: int, architecture: str, variant: str = "", os: str = "linux") -> Descriptor:
    return Descriptor(
        media_type=documents.MANIFEST, digest=f"sha256:{number:064x}", size=1,
        platform=Platform(architecture, os, variant),
    )  # fmt: skip


UNKNOWN = entry(9, "unknown", os="unknown")
WINDOWS = entry(8, "amd64", os="windows")
NO_PLATFORM = Descriptor(media_type=documents.MANIFEST, digest="sha256:" + "f" * 64, size=1)


@pytest.mark.parametrize(
    ("wanted", "entries", "expected"),
    [
        ("amd64", [entry(1, "386"), entry(2, "amd64")], 2),
        ("amd64", [entry(1, "386"), entry(2, "arm64")], 1),
        ("amd64", [UNKNOWN, WINDOWS, NO_PLATFORM, entry(1, "amd64")], 1),
        ("amd64", [entry(1, "amd64", "v1")], 1),
        ("amd64", [entry(1, "amd64", "v3"), entry(2, "amd64")], 2),
        ("arm64", [entry(1, "arm64", "v8")], 1),
        ("linux/arm64/v8", [entry(1, "arm64")], 1),
        ("arm64", [entry(1, "arm", "v7")], 1),
        ("linux/arm/v7", [entry(1, "arm", "v6"), entry(2, "arm", "v7")], 2),
        ("linux/arm/v7", [entry(1, "arm", "v5"), entry(2, "arm", "v6")], 2),
        ("arm", [entry(1, "arm", "v6"), entry(2, "arm")], 2),
        ("linux/arm/v6", [entry(1, "arm", "v7")], None),
        ("386", [entry(1, "amd64")], None),
        ("amd64", [UNKNOWN, WINDOWS], None),
        ("amd64", [], None),
    ],
)
def test_the_choice(wanted: str, entries: list[Descriptor], expected: int | None) -> None:
    platform = documents.parse_platform(wanted)
    for order in (entries, entries[::-1]):
        if expected is None:
            with pytest.raises(ImageError, match=f"no image for {platform}"):
                documents.choose(Index(tuple(order)), platform, "i")
        else:
            chosen = documents.choose(Index(tuple(order)), platform, "i")
            assert int(chosen.digest[7:], 16) == expected


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("amd64", "linux")),
        ("amd64", Platform("amd64", "linux")),
        ("Linux/AMD64", Platform("amd64", "linux")),
        ("x86_64", Platform("amd64", "linux")),
        ("aarch64", Platform("arm64", "linux")),
        ("linux/arm/v7", Platform("arm", "linux", "v7")),
        ("armhf", Platform("arm", "linux", "v7")),
        ("linux", Platform(documents.host_platform().architecture, "linux")),
    ],
)
def test_platforms_as_they_are_typed(text: str, platform: Platform) -> None:
    assert documents.parse_platform(text) == platform


@pytest.mark.parametrize("text", ["", "/", "windows/amd64", "linux/", "a/b/c/d", "linux/a b"])
def test_platforms_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="platform"):
        documents.parse_platform(text)


@pytest.mark.parametrize(
    ("machine", "text"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64/v8"), ("armv7l", "linux/arm/v7"),
     ("loongarch64", "linux/loongarch64")],
)  # fmt: skip
def test_machines(machine: str, text: str) -> None:
    assert str(documents.host_platform(machine)) == text


# ---- whatever comes ----

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
    | st.sampled_from([documents.MANIFEST, documents.INDEX, "sha256:" + "0" * 64]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["mediaType", "digest", "size", "config", "layers", "manifests",
                         "schemaVersion", "rootfs", "diff_ids", "os", "architecture", "created",
                         "platform", "Env", "x"]),
        inner, max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(values, st.sampled_from(["", documents.MANIFEST, documents.INDEX, "x"]))
def test_any_value_is_read_or_refused(value: Any, kind: str) -> None:
    data = made.encode(value)
    with contextlib.suppress(ImageError):
        documents.parse(data, kind, "m")
    with contextlib.suppress(ImageError):
        found = documents.parse_configuration(data, manifest(), "c")
        documents.nanoseconds(found.created)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for start in (b"", b"{", b'{"config":', b'{"created":"'):
        with contextlib.suppress(ImageError):
            documents.parse(start + data, documents.MANIFEST, "m")
        with contextlib.suppress(ImageError):
            documents.parse_configuration(start + data, manifest(), "c")


@given(st.data())
def test_a_configuration_with_one_thing_changed(data: st.DataObject) -> None:
    whole = json.loads(made.configuration(LAYERS, created="2026-01-01T00:00:00Z", config={
        "Env": ["A=b"], "Cmd": ["x"], "Labels": {"a": "b"}, "Volumes": {"/v": {}}, "User": "1",
    }))  # fmt: skip
    place = data.draw(st.sampled_from([whole, whole["config"], whole["rootfs"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    with contextlib.suppress(ImageError):
        found = documents.parse_configuration(made.encode(whole), manifest(), "c")
        documents.nanoseconds(found.created)
