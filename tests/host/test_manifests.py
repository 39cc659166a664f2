"""Lists of images, and what else layouts and registries hold: made, kept, handed on unchanged."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import test_images
from registry import Server, missing, served
from test_images import blob, layers_of, oci_files, ok, skopeo

from pycontain import Engine
from pycontain.config import Config
from pycontain.engine.manifests import Details
from pycontain.errors import Conflict, ImageError, InvalidInput, NotFound, RegistryError
from pycontain.image import documents
from pycontain.image.registry import Registry, Settings
from tests.unit import imagefiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]

HOST = documents.host_platform().architecture
OTHER = "s390x"
EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(f"{tmp_path}/registry") as server:
        yield server


def put(server: Server, repository: str, tag: str, manifest: bytes, *blobs: bytes) -> str:
    """Have a registry hold a document and blobs, whoever made them; returns the name."""
    with Registry(server.domain, Settings()) as registry:
        for data in blobs:
            digest, opened = imagefiles.digest(data), functools.partial(io.BytesIO, data)
            registry.upload_blob(repository, digest, len(data), opened)
        kind = json.loads(manifest)["mediaType"]
        registry.put_manifest(repository, tag, manifest, kind)
    return f"{server.domain}/{repository}:{tag}"


def image(word: str, architecture: str = HOST) -> tuple[bytes, bytes, bytes]:
    """Manifest, configuration and layer of a small image."""
    layer = imagefiles.layer(word)
    config = imagefiles.configuration([layer], architecture=architecture)
    return imagefiles.manifest(config, [layer]), config, layer


def remote(server: Server, word: str, architecture: str = HOST) -> str:
    manifest, *blobs = image(word, architecture)
    return put(server, f"team/{word}", "1", manifest, *blobs)


def document(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    )
    return found


def layout(store: Store) -> str:
    """The store as skopeo names it, which writes index.json in its place: not the cache's file."""
    path = f"{store.layout.images}/index.json"
    shutil.copy(path, f"{path}.own")
    os.rename(f"{path}.own", path)
    return f"oci:{store.layout.images}"


def blobs(store: Store) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(f"{store.layout.images}/blobs/sha256")}


# ---- lists ----


def test_a_list_is_made_sent_and_pulled_by_platform(
    store: Store, pycontain: CommandLine, server: Server, tmp_path: Path
) -> None:
    archive = imagefiles.write(tmp_path / "made.tar", oci_files(layers_of(store)))
    ok(pycontain("load", "-i", archive))
    other = remote(server, "other", OTHER)
    name = f"{server.domain}/team/app:1"
    created = ok(pycontain("manifest", "create", name, "made:1"))
    assert created == f"Created manifest list {name}\n"
    ok(pycontain("manifest", "add", "--variant", "v9", "--annotation", "a=b", name, other))
    here = store.engine.images.get("made:1")
    there = imagefiles.digest(image("other", OTHER)[0])
    listed = store.engine.manifests.get(name)
    assert [member.digest for member in listed.members] == [here.digest, there]
    # Of the registry's image nothing came but its documents.
    assert imagefiles.digest(image("other", OTHER)[2]) not in blobs(store)
    assert store.engine.images.list()[0].names != (other,)
    lines = ok(pycontain("manifest", "push", name)).splitlines()
    assert lines[-3:-1] == [
        f"Pushed ref {server.domain}/team/app@{digest} with digest: {digest}"
        for digest in (here.digest, there)
    ]
    assert lines[-1] == listed.digest
    assert sum("Mounted from team/other" in line for line in lines) == 1
    raw = document(server, name)
    assert raw["manifests"][1] == {
        "mediaType": documents.MANIFEST,
        "digest": there,
        "size": len(image("other", OTHER)[0]),
        "platform": {"architecture": OTHER, "os": "linux", "variant": "v9"},
        "annotations": {"a": "b"},
    }
    assert raw == json.loads(ok(pycontain("manifest", "inspect", name)))
    again = ok(pycontain("manifest", "push", name))
    assert again.count("Layer already exists") == len(here.layers) + 1
    ok(pycontain("manifest", "rm", name))
    ok(pycontain("rmi", "made:1"))
    ok(pycontain("pull", name))
    pulled = store.engine.images.get(name)
    assert (pulled.digest, pulled.id, pulled.index) == (here.digest, here.id, listed.digest)
    assert ok(pycontain("run", "--rm", "--network", "none", name)) == "0\n1\n2\n"
    found = store.engine.images.pull(name, platform=f"linux/{OTHER}/v9")
    assert found.image.digest == there


def test_a_list_has_names_as_an_image_has(
    store: Store, pycontain: CommandLine, server: Server
) -> None:
    manifests, images = store.engine.manifests, store.engine.images
    name = remote(server, "app")
    first = manifests.create("mine:1", [name])
    assert [known.names for known in manifests.list()] == [("mine:1",)]
    assert not images.exists(name)
    assert images.exists("mine:1")
    with pytest.raises(ImageError, match="mine:1: a list of images, of which that for this"):
        images.get("mine:1")
    done = pycontain("run", "--network", "none", "mine:1")
    assert (done.returncode, b"a list of images" in done.stderr) == (125, True)
    ok(pycontain("tag", "mine:1", "yours:2"))
    row = "{{.Repository}} {{.Tag}} {{.ID}}"
    listed = ok(pycontain("images", "--no-trunc", "--format", row)).splitlines()
    assert listed[-2:] == [f"mine 1 {first.digest}", f"yours 2 {first.digest}"]
    assert first.digest[7:19] in ok(pycontain("images", "-q")).split()
    done = pycontain("push", "mine:1")
    assert (done.returncode, b"pycontain manifest push mine:1" in done.stderr) == (1, True)
    assert ok(pycontain("rmi", "mine:1")) == "Untagged: mine:1\n"
    pulled = images.pull(name).image
    assert images.get("yours:2").digest == pulled.digest
    assert images.get("yours:2").index == first.digest
    assert ok(pycontain("rmi", first.digest[7:19])) == (
        f"Untagged: yours:2\nDeleted: {first.digest}\n"
    )
    assert images.exists(name)
    assert not manifests.exists("yours:2")
    with pytest.raises(NotFound):
        manifests.delete("yours:2")


def test_events(store: Store) -> None:
    """Docker and podman tell of a list's end, and nothing of what it was made of."""
    manifests = store.engine.manifests
    manifests.create("list:1", ["busybox"])
    manifests.annotate("list:1", "busybox", Details(variant="v9"))
    listed = manifests.remove("list:1", "busybox")
    manifests.add("list:1", "busybox")
    last = manifests.delete("list:1")
    with store.engine.events.read(follow=False, filters={"type": ["image"]}) as stream:
        told = [(event.action, event.id, event.attributes["name"]) for event in stream]
    assert listed.digest != last.digest
    assert [one for one in told if "busybox" not in one[2]] == [
        ("untag", last.digest, "list:1"), ("delete", last.digest, last.digest),
    ]  # fmt: skip


def test_prune_takes_lists_without_a_name(store: Store, pycontain: CommandLine) -> None:
    manifests = store.engine.manifests
    manifests.create("kept:1", ["busybox"])
    gone = manifests.create("gone:1", [])
    ok(pycontain("tag", "busybox", "gone:1"))  # takes the name over
    assert manifests.get(gone.digest).names == ()
    assert gone.digest[7:19] in ok(pycontain("images", "-q", "-f", "dangling=true"))
    ok(pycontain("image", "prune", "-f", "--filter", "until=1h"))
    assert manifests.exists(gone.digest)
    assert f"deleted: {gone.digest}\n" in ok(pycontain("image", "prune", "-f"))
    assert [listed.names for listed in manifests.list()] == [("kept:1",)]


def test_members_by_name_and_by_digest(store: Store, server: Server) -> None:
    manifests = store.engine.manifests
    one, two = remote(server, "one"), remote(server, "two", OTHER)
    manifests.create("list:1", [one, "busybox"])
    with pytest.raises(Conflict, match="list:1: there is one already"):
        manifests.create("list:1", [two])
    manifests.create("list:1", [two], amend=True)
    manifests.annotate("list:1", two, Details(os_features=("a",), annotations={"x": "y"}))
    digest = imagefiles.digest(image("two", OTHER)[0])
    member = manifests.get("list:1").members[2]
    assert (member.digest, member.name, member.annotations) == (digest, two, {"x": "y"})
    assert member.platform is not None
    assert member.platform.os_features == ("a",)
    assert manifests.inspect("list:1", two).data == image("two", OTHER)[0]
    assert [found.name for found in manifests.inspect_members("list:1")] == [
        one, "busybox:latest", two,
    ]  # fmt: skip
    left = manifests.remove("list:1", digest)
    assert [known.name for known in left.members] == [one, "busybox:latest"]
    left = manifests.remove("list:1", "busybox")
    for word in (two, digest, "nosuch:1"):
        with pytest.raises(NotFound, match="not in it"):
            manifests.remove("list:1", word)
    with pytest.raises(RegistryError):
        manifests.add("list:1", f"{server.domain}/nosuch:1")
    assert manifests.get("list:1") == left


def test_what_is_inspected_without_being_here(
    store: Store, pycontain: CommandLine, server: Server
) -> None:
    manifests = store.engine.manifests
    one, two = remote(server, "one"), remote(server, "two", OTHER)
    name = f"{server.domain}/team/list:1"
    manifests.create(name, [one, two])
    manifests.push(name, purge=True)
    assert not manifests.exists(name)
    before = blobs(store)
    assert len(json.loads(ok(pycontain("manifest", "inspect", name)))["manifests"]) == 2
    told = json.loads(ok(pycontain("manifest", "inspect", "-v", name)))
    assert [one["Descriptor"]["platform"]["architecture"] for one in told] == [HOST, OTHER]
    assert told[1]["OCIManifest"] == json.loads(image("two", OTHER)[0])
    assert json.loads(ok(pycontain("manifest", "inspect", "-v", two)))["Ref"] == two
    assert manifests.inspect("busybox").data == blob(
        store, store.engine.images.get("busybox").digest
    )
    assert blobs(store) == before
    done = pycontain("manifest", "inspect", f"{server.domain}/nosuch:1")
    assert (done.returncode, b"no such manifest" in done.stderr) == (1, True)
    # Of a list what is for this machine, or all.
    assert [m.digest for m in manifests.create("mine:1", [name]).members] == [
        imagefiles.digest(image("one")[0])
    ]
    assert len(manifests.create("all:1", [name], every=True).members) == 2
    assert len(manifests.create("again:1", ["all:1"], every=True).members) == 2
    assert len(manifests.create("here:1", ["all:1"]).members) == 1


def test_from_one_registry_to_another(store: Store, server: Server, tmp_path: Path) -> None:
    manifests = store.engine.manifests
    name = remote(server, "app")
    manifests.create("list:1", [name])
    layer = imagefiles.digest(image("app")[2])
    with served(f"{tmp_path}/other") as other:
        target = f"{other.domain}/team/app:1"
        server.stop()
        with pytest.raises(RegistryError, match=f"pull {server.domain}/team/app: blob {layer}"):
            manifests.push("list:1", target)
        server.start()
        assert layer not in blobs(store)
        sent = manifests.push("list:1", target)
        assert layer in blobs(store)
        assert (sent.name, sent.digest) == (target, manifests.get("list:1").digest)
        assert manifests.get("list:1").digests == (f"{other.domain}/team/app@{sent.digest}",)
        assert document(other, target)["manifests"][0]["digest"] == sent.members[0]
    with pytest.raises(InvalidInput, match="cannot push a digest reference"):
        manifests.push("list:1", f"{server.domain}/x@{sent.digest}")
    with pytest.raises(NotFound, match="no such list"):
        manifests.push("nosuch:1")
    # Put in by its id an image has no name to fetch it by.
    identity = store.engine.images.load(
        imagefiles.write(tmp_path / "bare.tar", imagefiles.oci_image(None, architecture=HOST))
    )[0][0]
    manifests.create("bare:1", [identity.id])
    os.unlink(f"{store.layout.images}/blobs/sha256/{identity.diff_ids[0][7:]}")
    with pytest.raises(NotFound, match="neither in the store nor in a repository of") as caught:
        manifests.push("bare:1", f"{server.domain}/team/bare:1")
    assert caught.value.hint == "pull or load its image first"
    store.engine.images.remove(identity.id)


def test_a_list_is_saved_whole(
    store: Store, pycontain: CommandLine, server: Server, tmp_path: Path
) -> None:
    manifests = store.engine.manifests
    one, two = remote(server, "one"), remote(server, "two", OTHER)
    listed = manifests.create("list:1", [one, two])
    done = pycontain("save", "--format", "oci-dir", "-o", str(tmp_path / "early"), "list:1")
    assert (done.returncode, b"is not in the store" in done.stderr) == (1, True)
    store.engine.images.pull(one)
    store.engine.images.pull(two, platform=f"linux/{OTHER}")
    done = pycontain("save", "-o", str(tmp_path / "docker.tar"), "list:1")
    assert (done.returncode, b"--format oci-archive takes it" in done.stderr) == (1, True)
    ok(pycontain("save", "--format", "oci-dir", "-o", str(tmp_path / "out"), "list:1"))
    place = f"oci:{tmp_path}/out"
    assert imagefiles.digest(skopeo("inspect", "--raw", place).encode()) == listed.digest
    target = f"docker://{server.domain}/team/copy:1"
    skopeo("copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", place, target)
    assert document(server, target[9:]) == json.loads(manifests.inspect("list:1").data)
    # Loaded into a store that has nothing, it is the same list, and has all that it needs.
    archive, both, again = (str(tmp_path / name) for name in ("list", "both", "again"))
    ok(pycontain("save", "--format", "oci-archive", "-o", archive, "list:1"))
    ok(pycontain("save", "--format", "oci-archive", "-o", both, "list:1", one))

    def forget(*names: str) -> None:
        ok(pycontain("rmi", *names))
        ok(pycontain("image", "prune", "-f"))
        assert not {listed.digest, *(member.digest for member in listed.members)} & blobs(store)

    forget("list:1", one, two)
    assert ok(pycontain("load", "-i", both)) == f"Loaded image: list:1\nLoaded image: {one}\n"
    assert store.engine.images.get(one).digest == listed.members[0].digest
    forget("list:1", one)
    assert ok(pycontain("load", "-i", archive)) == "Loaded image: list:1\n"
    loaded = manifests.get("list:1")
    assert (loaded.digest, loaded.names) == (listed.digest, ("list:1",))
    here = store.engine.images.get("list:1")
    assert (here.digest, here.index, here.names) == (listed.members[0].digest, listed.digest, ())
    # Nobody calls the image by a name of its own, but it is the list's.
    ok(pycontain("image", "prune", "-f"))
    assert ok(pycontain("images", "-q", "-f", "dangling=true")) == ""
    ok(pycontain("save", "--format", "oci-archive", "-o", again, "list:1"))
    assert Path(again).read_bytes() == Path(archive).read_bytes()
    manifests.push("list:1", f"{server.domain}/team/loaded:1")
    assert document(server, f"{server.domain}/team/loaded:1") == json.loads(
        manifests.inspect("list:1").data
    )
    # The image that came with the list goes with it.
    ok(pycontain("rmi", "-f", listed.digest))
    assert not {listed.digest, *(member.digest for member in listed.members)} & blobs(store)
    # Who asks for a platform gets that one image.
    ok(pycontain("load", "--platform", f"linux/{OTHER}", "-i", archive))
    assert store.engine.images.get("list:1").architecture == OTHER
    assert not manifests.exists("list:1")


# ---- what others put in ----


def test_skopeo_s_index_in_the_store(store: Store, pycontain: CommandLine, server: Server) -> None:
    one, two = remote(server, "one"), remote(server, "two", OTHER)
    store.engine.manifests.create(f"{server.domain}/team/list:1", [one, two])
    sent = store.engine.manifests.push(f"{server.domain}/team/list:1", purge=True)
    place = f"{layout(store)}:foreign:1"
    skopeo(
        "copy",
        "-q",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        f"docker://{sent.name}",
        place,
    )
    whole = blobs(store)
    assert {imagefiles.digest(data) for data in (*image("one"), *image("two", OTHER))} <= whole
    assert "foreign" in ok(pycontain("images"))
    ok(pycontain("tag", "busybox", "other:1"))
    ok(pycontain("rmi", "other:1"))
    ok(pycontain("image", "prune", "-f"))
    ok(pycontain("pull", one))
    ok(pycontain("rmi", one))
    assert blobs(store) == whole
    assert imagefiles.digest(skopeo("inspect", "--raw", place).encode()) == sent.digest
    assert ok(pycontain("rmi", "foreign:1")).endswith(f"Deleted: {sent.digest}\n")
    assert not {imagefiles.digest(image("two", OTHER)[2]), sent.digest} & blobs(store)


def test_artifacts_and_subjects_are_kept(
    store: Store, pycontain: CommandLine, server: Server, tmp_path: Path
) -> None:
    manifest, config, layer = image("app")
    about = put(server, "team/app", "1", manifest, config, layer)
    subject = imagefiles.descriptor(documents.MANIFEST, manifest)
    signature = imagefiles.encode(
        {
            "schemaVersion": 2, "mediaType": documents.MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": imagefiles.descriptor(EMPTY, b"{}"), "subject": subject,
            "layers": [imagefiles.descriptor("application/vnd.example.data", b"signed")],
        }
    )  # fmt: skip
    signed = put(server, "team/app", "sig", signature, b"{}", b"signed")
    done = pycontain("pull", signed)
    assert (done.returncode, b"not an image to run, but an artifact" in done.stderr) == (1, True)
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{signed}",
           f"{layout(store)}:sig:1")  # fmt: skip
    ok(pycontain("pull", about))
    assert "sig" not in ok(pycontain("images"))
    ok(pycontain("rmi", about))
    wanted = {imagefiles.digest(data) for data in (signature, b"{}", b"signed")}
    # The signature is still there, and so is what it is about.
    assert wanted | {imagefiles.digest(data) for data in (manifest, config, layer)} <= blobs(store)
    # In a list it goes to a registry with all that it has.
    listed = store.engine.manifests.create("both:1", [about])
    listed = store.engine.manifests.add("both:1", signed)
    sent = store.engine.manifests.push("both:1", f"{server.domain}/other/both:1")
    assert sent.members == tuple(member.digest for member in listed.members)
    assert document(server, f"{server.domain}/other/both@{sent.members[1]}") == json.loads(
        signature
    )


def test_an_image_s_own_fields_survive_every_way(
    store: Store, pycontain: CommandLine, server: Server, tmp_path: Path
) -> None:
    layer = imagefiles.layer("app")
    config = imagefiles.configuration([layer], architecture=HOST, strange={"kept": [1]})
    manifest = imagefiles.manifest(
        config, [layer], artifactType="application/vnd.example.app", annotations={"a": "b"},
        subject=imagefiles.descriptor(documents.MANIFEST, b"{}"), added={"by": "others"},
    )  # fmt: skip
    name = put(server, "team/app", "1", manifest, config, layer)
    digest = imagefiles.digest(manifest)
    ok(pycontain("pull", name))
    assert blob(store, store.engine.images.get(name).digest) == manifest
    for form in ("docker-archive", "oci-archive", "oci-dir"):
        path = str(tmp_path / form)
        ok(pycontain("save", "--format", form, "-o", path, name))
        ok(pycontain("rmi", name))
        ok(pycontain("load", "-i", path))
        assert store.engine.images.get(name).digest == digest
    other = f"{server.domain}/other/app:2"
    ok(pycontain("tag", name, other))
    assert f"digest: {digest} " in ok(pycontain("push", other))
    assert document(server, other) == json.loads(manifest)


# ---- bounds, and what stays for a while ----


@pytest.mark.parametrize(
    ("setting", "value"),
    [("layer_max_size", 90_000), ("layer_max_entries", 1), ("image_max_size", 150_000)],
)
def test_a_bomb_is_told_of_with_the_bound(
    setting: str, value: int, store: Store, tmp_path: Path
) -> None:
    layers = [imagefiles.tar([(f"{at}/{n}", bytes(100_000 // at))]) for at in (1,) for n in "ab"]
    layers.append(imagefiles.tar([("x", b"x"), ("y", b"y")]))
    files = oci_files(layers)
    path = imagefiles.write(tmp_path / "bomb.tar", files)
    engine = Engine(store.root, store.state, settings=Config({setting: value}))
    before = test_images.tree(store.layout.images)
    with pytest.raises(ImageError, match=f"allowed: {value}") as caught:
        engine.images.load(path)
    assert setting in (caught.value.hint or "")
    assert test_images.tree(store.layout.images) == before
    assert os.listdir(store.layout.work) == []
    store.engine.images.load(path)


def test_the_bounds_are_configured(
    store: Store, pycontain: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = imagefiles.write(tmp_path / "made.tar", oci_files(layers_of(store)))
    file = tmp_path / "config.toml"
    file.write_text('layer_max_size = "10k"\n')
    monkeypatch.setenv("PYCONTAIN_CONFIG", str(file))
    done = pycontain("load", "-i", path)
    shown = ok(pycontain("system", "info"))
    assert (done.returncode, b"layer_max_size" in done.stderr) == (1, True)
    [line] = [line for line in shown.splitlines() if "layer_max_size" in line]
    assert "10240" in line
    assert str(file) in line


def test_an_interrupted_download_outlives_a_removal(store: Store, pycontain: CommandLine) -> None:
    partial = Path(store.layout.images, "partial", "a" * 64)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"half of it")
    ok(pycontain("tag", "busybox", "other:1"))
    ok(pycontain("rmi", "other:1"))
    store.engine.manifests.create("list:1", [])
    ok(pycontain("manifest", "rm", "list:1"))  # gives back what nothing stands on
    assert partial.read_bytes() == b"half of it"
    ok(pycontain("image", "prune", "-f"))
    assert not partial.exists()


def test_ps_tells_of_an_image_that_has_no_name(store: Store, pycontain: CommandLine) -> None:
    def shown() -> list[str]:
        return sorted(ok(pycontain("ps", "-a", "--format", "{{.Names}} {{.Image}}")).splitlines())

    identity = store.engine.images.get("busybox").id[7:19]
    ok(pycontain("tag", "busybox", "box:1"))
    ok(pycontain("create", "--name", "one", "--network", "none", "box:1"))
    ok(pycontain("create", "--name", "two", "--network", "none", identity))
    assert shown() == ["one box:1", f"two {identity}"]
    store.engine.manifests.create("mine:1", [])
    ok(pycontain("rmi", "box:1"))
    assert shown() == [f"one {identity}", f"two {identity}"]
    ok(pycontain("tag", "busybox", "box:1"))
    assert shown()[0] == "one box:1"
    ok(pycontain("rmi", "-f", "box:1", "busybox"))
    assert shown() == [f"one {identity}", f"two {identity}"]


def test_the_heading_of_a_short_name(
    pycontain: CommandLine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote(server, "app")
    monkeypatch.setenv("PYCONTAIN_SEARCH_REGISTRIES", f"127.0.0.1:1,{server.domain}")
    lines = ok(pycontain("pull", "team/app:1")).splitlines()
    assert lines[0] == "1: Pulling from team/app"
    assert lines[-1] == f"{server.domain}/team/app:1"
    put(server, "lone", "latest", *image("lone"))
    monkeypatch.setenv("PYCONTAIN_SEARCH_REGISTRIES", server.domain)
    lines = ok(pycontain("pull", "lone")).splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from lone"]
