"""Images between stores, archives and registries, as their users meet them."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import CommandLine, Store, python_env, wait_until
from ordinary import User, ordinary_user
from pace import seconds
from registry import Server, missing, served
from relay import Relay

from pycontain.errors import ImageError, NotFound, PycontainError
from pycontain.image import documents
from tests import peers
from tests.unit import imagefiles

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]

LAYERS = 4


def blob(store: Store, digest: str) -> bytes:
    return Path(store.layout.images, "blobs", "sha256", digest[7:]).read_bytes()


def busybox_layer(store: Store) -> bytes:
    return blob(store, store.engine.images.get("busybox").diff_ids[0])


def layers_of(store: Store, noise: int = 100_000) -> list[bytes]:
    """The uncompressed layers of an image that runs, of which one is `noise` bytes and more."""
    data = random.Random(1).randbytes(noise)
    others = [imagefiles.tar([(f"layer/{number}", data[number:])]) for number in range(LAYERS - 1)]
    return [busybox_layer(store), *others]


def oci_files(layers: list[bytes], name: str = "made:1", **more: object) -> imagefiles.Files:
    """The files of an OCI layout, its layers compressed."""
    packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
    config = imagefiles.configuration(layers, config={"Cmd": ["ls", "/layer"]}, **more)
    entries = [
        imagefiles.descriptor(f"{documents.LAYER}+gzip", data, annotations={"a": "b"})
        for data in packed
    ]
    manifest = imagefiles.manifest(config, (), layers=entries)
    top = imagefiles.descriptor(
        documents.MANIFEST, manifest, annotations={"org.opencontainers.image.ref.name": name}
    )
    return imagefiles.oci(imagefiles.index([top]), manifest, config, *packed)


@pytest.fixture
def made(store: Store, tmp_path: Path) -> str:
    """An archive with an image of several layers: ``made:1``."""
    return imagefiles.write(tmp_path / "made.tar", oci_files(layers_of(store)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(f"{tmp_path}/registry") as server:
        yield server


def ok(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def sh(*words: str) -> str:
    return ok(subprocess.run(words, capture_output=True, check=False))


def skopeo(*words: str) -> str:
    if not shutil.which("skopeo"):
        pytest.skip("not installed: skopeo")
    return sh("skopeo", "--insecure-policy", *words)


def tree(folder: str) -> dict[str, int]:
    """The names below a folder and the files' sizes, but for locks."""
    return {
        str(path): path.stat().st_size if path.is_file() else -1
        for path in Path(folder).rglob("*")
        if not path.name.endswith(".lock")
    }


def gets(server: Server, what: str) -> list[str]:
    """What the registry answered to GETs of something: the words from the status on."""
    return [line.partition('HTTP/1.1" ')[2] for line in server.log().splitlines()
            if '"GET ' in line and what in line]  # fmt: skip


def only(store: Store, *names: str) -> None:
    """Check that the store has no more than these images and what they stand on."""
    images = [store.engine.images.get(name) for name in names]
    assert {image.id for image in store.engine.images.list()} == {image.id for image in images}
    kept = {image.digest for image in images} | {image.id for image in images}
    for image in images:
        manifest = json.loads(blob(store, image.digest))
        kept |= {layer["digest"] for layer in manifest["layers"]}
        kept |= {image.index} if image.index else set()
    assert {f"sha256:{name}" for name in os.listdir(f"{store.layout.images}/blobs/sha256")} == kept
    partial = f"{store.layout.images}/partial"
    assert not os.path.exists(partial) or os.listdir(partial) == []
    assert os.listdir(store.layout.work) == []
    layers = {layer[7:] for image in images for layer in image.layers}
    assert set(os.listdir(store.layout.layers)) == layers


# ---- there and back ----


def test_an_image_goes_to_a_registry_and_comes_back(
    store: Store, pycontain: CommandLine, server: Server, made: str
) -> None:
    name = f"{server.domain}/team/made:1"
    assert ok(pycontain("load", "-i", made)) == "Loaded image: made:1\n"
    ok(pycontain("tag", "made:1", name))
    before = store.engine.images.get(name)
    manifest = blob(store, before.digest)
    assert f"1: digest: {before.digest} size: {len(manifest)}\n" in ok(pycontain("push", name))
    ok(pycontain("rmi", "made:1", name))
    only(store, "busybox")
    out = ok(pycontain("pull", name))
    assert f"Digest: {before.digest}\nStatus: Downloaded newer image for {name}\n{name}\n" in out
    after = store.engine.images.get(name)
    assert (after.id, after.digest, after.layers) == (before.id, before.digest, before.layers)
    assert after.digests == (f"{server.domain}/team/made@{before.digest}",)
    assert blob(store, after.digest) == manifest
    assert ok(pycontain("run", "--rm", name)) == "0\n1\n2\n"
    only(store, "busybox", name)


def test_what_is_there_is_neither_sent_nor_fetched(
    store: Store, pycontain: CommandLine, server: Server, made: str
) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    assert ok(pycontain("push", name)).count(": Pushed\n") == LAYERS
    assert ok(pycontain("push", name)).count(": Layer already exists\n") == LAYERS
    other = f"{server.domain}/other/made:1"
    ok(pycontain("tag", "made:1", other))
    assert ok(pycontain("push", other)).count(": Mounted from made\n") == LAYERS
    assert sum('"PUT ' in line and "/blobs/" in line for line in server.log().splitlines()) == (
        LAYERS + 1  # and the configuration
    )
    ok(pycontain("pull", name))
    ok(pycontain("pull", other))
    assert gets(server, "/blobs/") == []


def test_lines_while_it_lasts(pycontain: CommandLine, server: Server, made: str) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    ok(pycontain("push", "-q", name))
    ok(pycontain("rmi", "made:1", name))
    first, *lines = ok(pycontain("pull", name)).splitlines()
    assert first == "1: Pulling from made"
    for word in ("Pulling fs layer", "Download complete", "Pull complete"):
        assert sum(line.endswith(f": {word}") for line in lines) == LAYERS
    ok(pycontain("rmi", name))
    shown = ok(pycontain("pull", name, tty=True))
    assert shown.count("1: Pulling from made") == 1
    assert "done" in shown
    ok(pycontain("rmi", name))
    assert ok(pycontain("pull", "-q", name, tty=True)).strip() == name


def test_a_pipe_that_nobody_reads(pycontain: CommandLine, server: Server, made: str) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    with pycontain.start("push", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


# ---- others' archives ----


FORMS = ("docker-archive:{}", "oci-archive:{}", "oci:{}", "dir:{}")


@pytest.mark.parametrize("form", FORMS)
def test_skopeo_s_archives(
    store: Store, pycontain: CommandLine, server: Server, made: str, tmp_path: Path, form: str
) -> None:
    place = f"{tmp_path}/copied"
    skopeo("copy", "-q", f"oci-archive:{made}", f"docker://{server.domain}/made:1",
           "--dest-tls-verify=false")  # fmt: skip
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{server.domain}/made:1",
           form.format(place))  # fmt: skip
    line = ok(pycontain("load", "-i", place))
    identity = imagefiles.digest(config_of(made))
    image = store.engine.images.get(identity)
    assert line == f"Loaded image ID: {identity}\n" or image.names
    assert ok(pycontain("run", "--rm", identity)) == "0\n1\n2\n"


def config_of(archive: str) -> bytes:
    """The configuration of the one image in an OCI archive."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        top = json.loads(read("index.json"))["manifests"][0]["digest"]
        config = json.loads(read(f"blobs/sha256/{top[7:]}"))["config"]["digest"]
        return read(f"blobs/sha256/{config[7:]}")


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_skopeo_reads_ours(
    store: Store, pycontain: CommandLine, made: str, tmp_path: Path, form: str
) -> None:
    ok(pycontain("load", "-i", made))
    place = f"{tmp_path}/saved"
    ok(pycontain("save", "--format", form, "-o", place, "made:1"))
    transport = {"oci-dir": "oci"}.get(form, form)
    found = json.loads(skopeo("inspect", "--raw", f"{transport}:{place}"))
    image = store.engine.images.get("made:1")
    if form != "docker-archive":  # of that skopeo makes a manifest of its own
        assert imagefiles.digest(skopeo_raw(f"{transport}:{place}")) == image.digest
    assert found["config"]["digest"] == image.id


def skopeo_raw(place: str) -> bytes:
    return subprocess.run(
        ["skopeo", "inspect", "--raw", place], capture_output=True, check=True
    ).stdout


@pytest.mark.slow
def test_docker_and_podman_both_ways(
    store: Store, pycontain: CommandLine, made: str, tmp_path: Path
) -> None:
    if not peers.available("docker", "dockerd", "podman"):
        pytest.skip("not installed: docker or podman")
    ok(pycontain("load", "-i", made))
    ok(pycontain("save", "-o", f"{tmp_path}/ours.tar", "made:1", "busybox"))
    image = store.engine.images.get("made:1")
    with peers.docker(tmp_path / "docker") as docker:
        assert ok(docker("load", "-i", f"{tmp_path}/ours.tar")).count("Loaded image: ") == 2
        assert ok(docker("image", "inspect", "-f", "{{.Id}}", "made:1")).strip() == image.id
        ok(docker("save", "-o", f"{tmp_path}/docker.tar", "made:1"))
    short = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))  # it wants short paths
    podman = peers.podman_argv(short)
    environment = peers.podman_environment(tmp_path / "environment")

    def podmans(*words: str) -> str:
        return ok(
            subprocess.run([*podman, *words], capture_output=True, check=False, env=environment)
        )

    try:
        podmans("load", "-i", f"{tmp_path}/ours.tar")
        assert podmans("image", "inspect", "-f", "{{.Id}}", "made:1").strip() == image.id[7:]
        for form in ("docker-archive", "oci-archive"):
            podmans("save", "--format", form, "-o", f"{tmp_path}/podman-{form}.tar", "made:1")
    finally:
        podmans("system", "reset", "-f")
        shutil.rmtree(short, ignore_errors=True)
    ok(pycontain("rmi", "made:1"))
    for name in ("docker", "podman-docker-archive", "podman-oci-archive"):
        [(found, _)] = store.engine.images.load(f"{tmp_path}/{name}.tar")
        # In the OCI form podman writes a configuration of its own.
        assert found.id == image.id or name == "podman-oci-archive"
        assert found.diff_ids == image.diff_ids
        assert ok(pycontain("run", "--rm", found.id)) == "0\n1\n2\n"
        ok(pycontain("rmi", "-f", found.id))
    only(store, "busybox")


@pytest.mark.parametrize("program", ["", "gzip", "xz", "bzip2", "zstd"])
def test_compressed_from_standard_input(pycontain: CommandLine, made: str, program: str) -> None:
    data = Path(made).read_bytes()
    if program:
        if not shutil.which(program):
            pytest.skip(f"not installed: {program}")
        data = subprocess.run([program, "-c"], input=data, capture_output=True, check=True).stdout
    for words in (["load"], ["load", "-i", "-"]):
        assert ok(pycontain(*words, input=data)) == "Loaded image: made:1\n"
    assert ok(pycontain("run", "--rm", "made:1")) == "0\n1\n2\n"


def test_save_is_whole_or_absent(pycontain: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "saved.tar"
    place.write_text("before")
    assert pycontain("save", "-o", str(place), "busybox", "nosuch").returncode == 1
    assert place.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if "saved" in path.name] == ["saved.tar"]
    ok(pycontain("save", "-o", str(place), "busybox"))
    assert tarfile.is_tarfile(place)
    assert ok(pycontain("save", "-o", "/dev/null", "busybox")) == ""
    full = pycontain("save", "-o", "/dev/full", "busybox")
    assert (full.returncode, b"no space left on device" in full.stderr) == (1, True)
    assert Path("/dev/full").is_char_device()


# ---- platforms ----


def push_index(server: Server, store: Store, tmp_path: Path) -> str:
    """Bring an index of images for two platforms to a registry, and return its digest."""
    layer = busybox_layer(store)
    files: imagefiles.Files = {}
    entries = []
    for architecture in ("arm64", documents.host_platform().architecture):
        config = imagefiles.configuration(
            [layer], architecture=architecture, config={"Cmd": ["echo", architecture]}
        )
        manifest = imagefiles.manifest(config, [layer])
        files |= imagefiles.oci(b"", manifest, config, layer)
        platform = {"architecture": architecture, "os": "linux"}
        entries.append(imagefiles.descriptor(documents.MANIFEST, manifest, platform=platform))
    inner = imagefiles.index(entries)
    files[imagefiles.blob_name(inner)] = inner
    files["index.json"] = imagefiles.index([imagefiles.descriptor(documents.INDEX, inner)])
    folder = imagefiles.write_folder(tmp_path / "index", files)
    skopeo("copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{folder}",
           f"docker://{server.domain}/both:1")  # fmt: skip
    return imagefiles.digest(inner)


def test_an_index_gives_this_machine_s_image(
    store: Store, pycontain: CommandLine, server: Server, tmp_path: Path
) -> None:
    digest = push_index(server, store, tmp_path)
    name = f"{server.domain}/both:1"
    here = documents.host_platform().architecture
    assert f"Digest: {digest}\n" in ok(pycontain("pull", name))
    assert store.engine.images.get(name).architecture == here
    assert f"Status: Image is up to date for {name}\n" in ok(pycontain("pull", name))
    whole = f"{server.domain}/both@{digest}"
    assert ok(pycontain("image", "inspect", "-f", "{{index .RepoDigests 0}}", name)) == f"{whole}\n"
    assert ok(pycontain("run", "--rm", whole)) == f"{here}\n"
    assert "Downloaded newer image" in ok(pycontain("pull", "--platform", "linux/arm64", name))
    assert store.engine.images.get(name).architecture == "arm64"
    refused = pycontain("pull", "--platform", "linux/s390x", name)
    assert refused.returncode == 1
    assert b"s390x" in refused.stderr
    ok(pycontain("pull", name))
    assert store.engine.images.get(name).architecture == here


def test_by_digest_and_no_other(
    store: Store, pycontain: CommandLine, server: Server, made: str
) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    ok(pycontain("push", "-q", name))
    digest = store.engine.images.get(name).digest
    ok(pycontain("tag", "busybox", name))
    ok(pycontain("push", "-q", name))
    ok(pycontain("rmi", "made:1", f"{server.domain}/made@{digest}"))
    whole = f"{server.domain}/made@{digest}"
    with pytest.raises(NotFound):
        store.engine.images.get(whole)
    ok(pycontain("pull", "-q", whole))
    assert store.engine.images.get(whole).digest == digest
    assert store.engine.images.get(name).digest == store.engine.images.get("busybox").digest
    assert ok(pycontain("run", "--rm", whole)) == "0\n1\n2\n"
    ok(pycontain("rmi", whole))
    only(store, "busybox")


# ---- several at once, and kills ----


def test_two_pulls_at_once_fetch_once(
    store: Store, pycontain: CommandLine, server: Server, made: str
) -> None:
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", f"{server.domain}/made:1"))
    ok(pycontain("push", "-q", f"{server.domain}/made:1"))
    ok(pycontain("rmi", "made:1", f"{server.domain}/made:1"))
    digests = [layer["digest"] for layer in json.loads(manifest_of(made))["layers"]]
    with Relay(server.port, limit=20_000) as relay:
        name = f"{relay.domain}/made:1"
        pulls = [pycontain.start("pull", "-q", name, stdout=subprocess.PIPE) for _ in range(2)]
        wait_until(lambda: relay.passed >= 20_000)
        relay.release()
        answers = [(pull.communicate(timeout=seconds(60))[0], pull.returncode) for pull in pulls]
    assert answers == [(f"{name}\n".encode(), 0)] * 2
    for digest in digests:
        # The registry notes what it has sent, and who was sent it may be there before.
        wait_until(lambda: gets(server, f"/blobs/{digest}"))  # noqa: B023 - called at once
        assert len(gets(server, f"/blobs/{digest}")) == 1
    only(store, "busybox", name)
    assert ok(pycontain("run", "--rm", name)) == "0\n1\n2\n"


def manifest_of(archive: str) -> bytes:
    with tarfile.open(archive) as tar:
        top = tar.extractfile("index.json")
        assert top is not None
        digest = json.loads(top.read())["manifests"][0]["digest"]
        file = tar.extractfile(f"blobs/sha256/{digest[7:]}")
        assert file is not None
        return file.read()


BIG = 24 << 20


@pytest.fixture
def pushed(store: Store, pycontain: CommandLine, server: Server, tmp_path: Path) -> str:
    """The digest of a layer of 24 MB that does not compress; the image is ``big:1``."""
    files = oci_files([busybox_layer(store), imagefiles.tar([("big", os.urandom(BIG))])], "big:1")
    archive = imagefiles.write(tmp_path / "big.tar", files)
    skopeo("copy", "-q", f"oci-archive:{archive}", f"docker://{server.domain}/big:1",
           "--dest-tls-verify=false")  # fmt: skip
    digest: str = json.loads(manifest_of(archive))["layers"][1]["digest"]
    return digest


def interrupted(store: Store, pycontain: CommandLine, relay: Relay, digest: str) -> int:
    """Kill a pull in the middle of a layer, and return how many bytes of it there are."""
    partial = f"{store.layout.images}/partial/{digest[7:]}"
    with pycontain.start(
        "pull", f"{relay.domain}/big:1", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: os.path.exists(partial) and os.stat(partial).st_size > BIG // 4)
        process.send_signal(signal.SIGKILL)
    return os.stat(partial).st_size


def test_a_killed_pull_is_taken_up_where_it_was(
    store: Store, pycontain: CommandLine, server: Server, pushed: str
) -> None:
    with Relay(server.port, limit=BIG // 2) as relay:
        there = interrupted(store, pycontain, relay, pushed)
        assert [image.names for image in store.engine.images.list()] == [("busybox:latest",)]
        relay.release()
        before = relay.passed
        ok(pycontain("pull", f"{relay.domain}/big:1"))
        assert relay.passed - before < BIG + 100_000 - there + (8 << 20)  # and what was on its way
        name = f"{relay.domain}/big:1"

    def rests() -> list[str]:
        return [line for line in gets(server, f"/blobs/{pushed}") if line.startswith("206 ")]

    wait_until(rests)  # it is noted after it was sent
    answers = rests()
    assert len(answers) == 1
    assert int(answers[0].split()[1]) < BIG - there + 100_000
    assert ok(pycontain("run", "--rm", name, "wc", "-c", "/big")) == f"{BIG} /big\n"
    only(store, "busybox", name)


def test_what_a_killed_pull_left_can_be_given_back(
    store: Store, pycontain: CommandLine, server: Server, pushed: str
) -> None:
    with Relay(server.port, limit=BIG // 2) as relay:
        there = interrupted(store, pycontain, relay, pushed)
    assert os.listdir(store.layout.work) != []
    used = sum(size for size in tree(store.root).values() if size > 0)
    ok(pycontain("image", "prune", "-f"))
    only(store, "busybox")
    assert used - sum(size for size in tree(store.root).values() if size > 0) >= there


def test_a_killed_load_leaves_nothing_that_counts(
    store: Store, pycontain: CommandLine, tmp_path: Path
) -> None:
    many = imagefiles.tar([(f"{number % 100}/{number}", b"x") for number in range(20_000)])
    layers = [busybox_layer(store), many, imagefiles.tar([("last", b"")])]
    archive = imagefiles.write(tmp_path / "many.tar", oci_files(layers, "many:1"))
    before = {item.name for item in Path(store.layout.layers).iterdir()}
    for entries in (10, 80):
        for _ in range(10):  # it may be loaded before anybody gets to look
            with pycontain.start("load", "-i", archive, stdout=subprocess.PIPE) as process:
                wait_until(lambda n=entries: process.poll() is not None or unpacked(store) > n)  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
            if process.returncode == -signal.SIGKILL:
                break
            ok(pycontain("rmi", "many:1"))
        assert process.returncode == -signal.SIGKILL
        assert {item.name for item in Path(store.layout.layers).iterdir()} == before
        assert not store.engine.images.exists("many:1")
        assert ok(pycontain("run", "--rm", "busybox", "echo", "on")) == "on\n"
    ok(pycontain("load", "-i", archive))
    only(store, "busybox", "many:1")
    assert ok(pycontain("run", "--rm", "many:1", "sh", "-c", "ls /99 | wc -l")) == "200\n"


def unpacked(store: Store) -> int:
    """How many folders at most a layer that is being unpacked has at its top."""
    found = [0]
    for path in Path(store.layout.work).glob("image-*/*"):
        try:
            found.append(len(os.listdir(path)))
        except OSError:  # the lock, or gone
            continue
    return max(found)


def test_loads_pulls_and_removals_at_once(
    store: Store, pycontain: CommandLine, server: Server, made: str
) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    ok(pycontain("push", "-q", name))
    verbs = [("load", "-qi", made), ("pull", "-q", name), ("rmi", "-f", "made:1", name),
             ("image", "prune", "-af"), ("run", "--rm", name, "true")]  # fmt: skip
    words = [verb for _ in range(3) for verb in verbs]
    random.shuffle(words)
    null = subprocess.DEVNULL
    processes = [(verb, pycontain.start(*verb, stdout=null, stderr=subprocess.PIPE))
                 for verb in words]  # fmt: skip
    for verb, process in processes:
        error = process.communicate(timeout=seconds(120))[1].decode()
        # What is run or removed may just be gone.
        assert process.returncode == 0 or verb[0] in ("run", "rmi"), (verb, error)
        assert "internal error" not in error
    ok(pycontain("pull", "-q", name))
    assert ok(pycontain("run", "--rm", name)) == "0\n1\n2\n"


# ---- removal ----


def test_prune_gives_the_space_back(store: Store, pycontain: CommandLine, made: str) -> None:
    before = tree(store.layout.images) | tree(store.layout.layers)
    ok(pycontain("load", "-i", made))
    freed = ok(pycontain("image", "prune", "-af", "--filter", "label!=x"))
    assert "untagged: made:1\n" in freed
    assert "Total reclaimed space: 0B" not in freed
    ok(pycontain("load", "-qi", made))
    ok(pycontain("rmi", "made:1"))
    assert not store.engine.images.exists("made:1")
    after = tree(store.layout.images) | tree(store.layout.layers)
    index = f"{store.layout.images}/index.json"
    if store.engine.images.list():
        assert {**after, index: 0} == {**before, index: 0}


def test_a_container_keeps_its_layers(store: Store, pycontain: CommandLine, made: str) -> None:
    ok(pycontain("load", "-i", made))
    ok(pycontain("create", "--name", "user", "made:1"))
    image = store.engine.images.get("made:1")
    assert b"must force" in pycontain("rmi", "made:1").stderr
    ok(pycontain("rmi", "-f", "made:1"))
    assert not store.engine.images.exists("made:1")
    assert {layer[7:] for layer in image.layers} <= set(os.listdir(store.layout.layers))
    assert ok(pycontain("start", "-a", "user")) == "0\n1\n2\n"
    ok(pycontain("rm", "user"))
    ok(pycontain("image", "prune", "-f"))
    only(store, "busybox")


def test_events(store: Store, pycontain: CommandLine, server: Server, made: str) -> None:
    name = f"{server.domain}/made:1"
    for words in (["load", "-i", made], ["tag", "made:1", name], ["push", name],
                  ["rmi", "made:1"], ["rmi", name], ["pull", name],
                  ["save", "-o", "/dev/null", name]):  # fmt: skip
        ok(pycontain(*words))
    told = ok(pycontain("events", "--since", "0", "--until", "0s", "--filter", "type=image",
                        "--format", "{{.Action}}")).split()  # fmt: skip
    wanted = ["load", "tag", "push", "untag", "untag", "untag", "delete", "pull", "save"]
    assert [action for action in told if action != "build"] == wanted


# ---- what is wrong ----


def test_a_layer_that_is_not_the_one_it_should_be(
    store: Store, pycontain: CommandLine, server: Server, made: str
) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    ok(pycontain("push", "-q", name))
    ok(pycontain("rmi", "made:1", name))
    digest = json.loads(manifest_of(made))["layers"][2]["digest"]
    [file] = Path(server.folder).glob(f"data/**/{digest[7:]}/data")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    before = tree(store.root)
    done = pycontain("pull", name)
    assert done.returncode == 1
    assert digest in done.stderr.decode()
    assert not store.engine.images.exists(name)
    assert os.listdir(store.layout.work) == []
    ok(pycontain("image", "prune", "-f"))
    after = tree(store.root)
    assert {name for name in after if "/images/" in name or "/layers/" in name} == {
        name for name in before if "/images/" in name or "/layers/" in name
    }


def test_a_hostile_archive_changes_nothing(store: Store, tmp_path: Path) -> None:
    layers = [imagefiles.tar([("../../outside", b"x")])]
    archive = imagefiles.write(tmp_path / "bad.tar", oci_files(layers, "bad:1"))
    before = tree(store.root)
    with pytest.raises(ImageError, match="outside"):
        store.engine.images.load(archive)
    after = tree(store.root)
    assert {name: size for name, size in after.items() if name not in before} == {}
    assert not (tmp_path / "outside").exists()


def test_an_archive_that_ends_too_soon(store: Store, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(imagefiles.tar(oci_files(layers_of(store)).items())[:-200_000])
    before = tree(store.root)
    with pytest.raises(PycontainError):
        store.engine.images.load(str(cut))
    assert set(tree(store.root)) == set(before)


def test_without_a_network(pycontain: CommandLine) -> None:
    """Names that cannot be looked up are told at once."""
    done = subprocess.run(
        ["unshare", "-n", *pycontain.argv, "pull", "registry.invalid/app:1"],
        capture_output=True, check=False, timeout=seconds(60), env=python_env(),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"registry.invalid" in done.stderr


def test_what_is_missing_is_pulled_by_run(
    pycontain: CommandLine, server: Server, made: str
) -> None:
    name = f"{server.domain}/made:1"
    ok(pycontain("load", "-i", made))
    ok(pycontain("tag", "made:1", name))
    ok(pycontain("push", "-q", name))
    ok(pycontain("rmi", "made:1", name))
    assert pycontain("run", "--rm", "--pull", "never", name).returncode == 125
    done = pycontain("run", "--rm", name)
    assert ok(done) == "0\n1\n2\n"
    assert b"Unable to find image" in done.stderr
    asked = len(gets(server, "/manifests/"))
    assert ok(pycontain("run", "--rm", name)) == "0\n1\n2\n"
    assert len(gets(server, "/manifests/")) == asked
    log = server.log()
    ok(pycontain("run", "--rm", "--pull", "always", name))
    assert "/manifests/1 " in server.log()[len(log) :]


def test_a_name_without_a_registry(
    store: Store, pycontain: CommandLine, server: Server, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = f"{server.domain}/made"
    ok(pycontain("load", "-i", made))
    for tag in ("1", "2"):
        ok(pycontain("tag", "made:1", f"{full}:{tag}"))
        ok(pycontain("push", "-q", f"{full}:{tag}"))
    ok(pycontain("rmi", "made:1", f"{full}:1", f"{full}:2"))
    # The first does not answer, the second has it.
    monkeypatch.setenv("PYCONTAIN_SEARCH_REGISTRIES", f"127.0.0.1:1,{server.domain}")
    assert ok(pycontain("pull", "-q", "made:1")) == f"{full}:1\n"
    assert store.engine.images.get(f"{full}:1").names == (f"{full}:1",)
    assert ok(pycontain("pull", "-q", "-a", "made")) == f"{full}\n"
    assert ok(pycontain("run", "--rm", "made:2")) == "0\n1\n2\n"
    refused = pycontain("pull", "nosuch:1")
    assert (refused.returncode, server.domain in refused.stderr.decode()) == (1, True)
    monkeypatch.setenv("PYCONTAIN_SEARCH_REGISTRIES", "127.0.0.1:1")
    assert b"127.0.0.1:1: connection refused" in pycontain("run", "made:3").stderr


# ---- an ordinary user ----


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        # Makes the user's namespace, whose holder stays: before the leak fixture looks.
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


def test_an_ordinary_user(user: User, store: Store, server: Server, made: str) -> None:
    archive = user.home / "made.tar"
    shutil.copy(made, archive)
    archive.chmod(0o644)
    name = f"{server.domain}/made:1"
    assert ok(user.run("load", "-i", "made.tar")) == "Loaded image: made:1\n"
    assert ok(user.run("run", "--rm", "made:1")) == "0\n1\n2\n"
    ok(user.run("tag", "made:1", name))
    ok(user.run("push", name))
    ok(user.run("rmi", "made:1", name))
    assert ok(user.run("pull", name)).count(": Pull complete\n") == LAYERS
    assert ok(user.run("run", "--rm", name, "stat", "-c", "%u", "/layer/0")) == "0\n"
    ok(user.run("save", "-o", "saved.tar", name))
    saved = user.home / "saved.tar"
    assert saved.stat().st_uid == user.entry.pw_uid
    found = store.engine.images.load(str(saved))
    assert [names for _, names in found] == [(name,)]
    assert user.run("save", name).stdout == saved.read_bytes()
    ok(user.run("image", "prune", "-af"))


def test_a_damaged_container_keeps_every_layer(
    store: Store, pycontain: CommandLine, made: str
) -> None:
    """What it stands on is not known; nothing else fails for that."""
    ok(pycontain("load", "-i", made))
    layers = store.engine.images.get("made:1").layers[1:]  # the first is busybox's too
    assert layers
    identity = store.create("true").id
    document = Path(store.layout.container(identity).document)
    whole = document.read_bytes()
    document.write_text("{")
    assert "Deleted: " in ok(pycontain("rmi", "-f", "made:1"))
    assert all(os.path.isdir(store.layout.layer(layer)) for layer in layers)
    document.write_bytes(whole)
    ok(pycontain("image", "prune", "-f"))
    assert not any(os.path.exists(store.layout.layer(layer)) for layer in layers)
