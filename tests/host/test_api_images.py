"""The Python API's images: what it returns, and the events that it tells while it works."""

from __future__ import annotations

import io
import os
import shutil
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_api_rootless
import test_images
from ordinary import User, ordinary_user
from registry import Server, missing, served

from pycontain.errors import ImageError, InvalidInput, NotFound, RegistryError
from tests.unit import imagefiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

    from pycontain import Engine
    from pycontain.model.progress import LayerProgress

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]

NOISE = 3 << 20


@pytest.fixture
def made(store: Store, tmp_path: Path) -> str:
    """An archive with an image of several layers of some megabytes: ``made:1``."""
    files = test_images.oci_files(test_images.layers_of(store, NOISE))
    return imagefiles.write(tmp_path / "made.tar", files)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(f"{tmp_path}/registry") as server:
        yield server


class Told:
    """What a transfer told of its layers."""

    def __init__(self) -> None:
        self.events: list[LayerProgress] = []

    def __call__(self, progress: LayerProgress) -> None:
        self.events.append(progress)

    def steps(self) -> dict[str, list[str]]:
        """The steps of each layer in order, each once."""
        found: dict[str, list[str]] = {}
        for event in self.events:
            steps = found.setdefault(event.layer, [])
            if steps[-1:] != [event.step]:
                steps.append(event.step)
        return found

    def check(self, last: str) -> None:
        """Check that each layer's bytes grow up to all of them, and how it ends."""
        for layer in {event.layer for event in self.events}:
            mine = [event for event in self.events if event.layer == layer]
            assert mine[-1].step == last
            assert mine[-1].done == mine[-1].total > 0
            assert {event.total for event in mine} == {mine[0].total}
            assert all(one.done <= other.done for one, other in pairwise(mine))


def layers(engine: Engine, name: str) -> list[str]:
    manifest, _ = engine.images._store.read(engine.images.get(name))
    return [layer.digest for layer in manifest.layers]


def test_load_tells_and_returns(engine: Engine, made: str) -> None:
    told = Told()
    [(image, names)] = engine.images.load(made, report=told)
    assert names == ("made:1",)
    assert image == engine.images.get("made:1")
    assert set(told.steps()) == set(layers(engine, "made:1"))
    told.check("done")
    # More than a beginning and an end: chunk by chunk.
    assert max(sum(event.layer == layer for event in told.events) for layer in told.steps()) > 3
    again = Told()
    engine.images.load(made, report=again)
    assert set(map(tuple, again.steps().values())) == {("exists",)}


def test_load_takes_any_file(engine: Engine, made: str) -> None:
    data = Path(made).read_bytes()
    [(image, _)] = engine.images.load(io.BytesIO(data))
    with open(made, "rb") as file:
        assert engine.images.load(file) == [(image, ("made:1",))]
    with open(made, "rb") as file:
        file.seek(512)
        with pytest.raises(ImageError):
            engine.images.load(file)


def test_push_and_pull_tell_and_return(engine: Engine, server: Server, made: str) -> None:
    name = f"{server.domain}/team/made:1"
    engine.images.load(made)
    engine.images.tag("made:1", name)
    wanted = layers(engine, name)
    told = Told()
    digest, size = engine.images.push(name, report=told)
    assert digest == engine.images.get(name).digest
    assert size > 100
    assert told.steps() == {layer: ["uploading", "done"] for layer in wanted}
    told.check("done")
    other = f"{server.domain}/else/made:1"
    engine.images.tag("made:1", other)
    mounted = Told()
    engine.images.push(other, report=mounted)
    assert {event.origin for event in mounted.events} == {"team/made"}
    mounted.check("mounted")
    for one in ("made:1", name, other):
        engine.images.remove(one)
    told = Told()
    pulled = engine.images.pull(name, report=told)
    assert (pulled.digest, pulled.new) == (digest, True)
    assert pulled.image == engine.images.get(name)
    assert told.steps() == {layer: ["downloading", "done"] for layer in wanted}
    told.check("done")
    assert not engine.images.pull(name).new
    assert [*engine.images.tags(name)] == ["1"]


def test_a_report_that_raises_ends_it(engine: Engine, store: Store, made: str) -> None:
    class Enough(Exception):
        pass

    def report(progress: LayerProgress) -> None:
        raise Enough

    before = os.listdir(store.layout.layers)
    with pytest.raises(Enough):
        engine.images.load(made, report=report)
    assert os.listdir(store.layout.layers) == before
    assert os.listdir(store.layout.work) == []
    engine.images.prune(every=False, accept=lambda _: True)
    test_images.only(store, "busybox")


def test_save_gives_the_same_bytes(engine: Engine, made: str, tmp_path: Path) -> None:
    engine.images.load(made)
    one, other = io.BytesIO(), io.BytesIO()
    engine.images.save(["made:1"], one, form="docker-archive")
    engine.images.save(["made:1"], other, form="docker-archive")
    assert one.getvalue() == other.getvalue()
    one.seek(0)
    engine.images.remove("made:1")
    [(image, names)] = engine.images.load(one)
    assert names == ("made:1",)
    engine.images.save([image.id], f"{tmp_path}/folder", form="oci-dir")
    engine.images.remove("made:1")
    assert engine.images.load(f"{tmp_path}/folder") == [(engine.images.get(image.id), ())]


def test_errors(engine: Engine, server: Server) -> None:
    images = engine.images
    with pytest.raises(RegistryError) as caught:
        images.pull(f"{server.domain}/nosuch:1")
    assert (caught.value.status, caught.value.code) == (404, "MANIFEST_UNKNOWN")
    with pytest.raises(NotFound, match="tag does not exist: busybox:2"):
        images.push("busybox:2")
    with pytest.raises(InvalidInput, match="digest"):
        images.push(f"busybox@sha256:{'0' * 64}")
    with pytest.raises(InvalidInput, match="lower case"):
        images.pull("Upper")
    with pytest.raises(InvalidInput, match="form"):
        images.save(["busybox"], io.BytesIO(), form="zip")
    with pytest.raises(NotFound):
        images.history("nosuch")
    assert not images.exists("nosuch")


def test_names(engine: Engine) -> None:
    images = engine.images
    images.tag("busybox", "reg.example/a:1")
    image = images.get("busybox")
    assert set(image.names) == {"busybox:latest", "reg.example/a:1"}
    assert images.remove("reg.example/a:1") == (("reg.example/a:1",), None)
    assert [step.created_by for step, _ in images.history("busybox")] == ["recipe busybox latest"]
    assert images.remove(image.id) == (("busybox:latest",), image.id)


# ---- an ordinary user's: through the worker ----


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


def test_an_ordinary_user(user: User, server: Server, made: str) -> None:
    shutil.copy(made, user.home / "made.tar")
    script = f"""
    import io
    from pycontain.model.progress import LayerProgress

    told = []
    images = engine.images
    [(image, names)] = images.load("made.tar", report=told.append)
    assert names == ("made:1",), names
    assert {{type(event) for event in told}} == {{LayerProgress}}
    assert {{event.layer for event in told if event.step == "done"}} == {{e.layer for e in told}}
    with open("made.tar", "rb") as file:
        assert images.load(file) == [(image, names)]
    name = "{server.domain}/made:1"
    images.tag("made:1", name)
    told.clear()
    digest, size = images.push(name, report=told.append)
    assert digest == image.digest and told[-1].step == "done", told
    images.remove("made:1")
    images.remove(name)
    assert not images.exists(name)
    told.clear()
    pulled = images.pull(name, report=told.append)
    assert pulled.new and pulled.digest == digest
    assert pulled.image.digests == (name[:-2] + "@" + digest,)
    assert {{event.step for event in told}} == {{"downloading", "done"}}, told
    assert engine.run(name).stdout == b"0\\n1\\n2\\n"
    listed = engine.manifests.create("list:1", [name])
    assert engine.manifests.push("list:1", name + "-all").members == (digest,)
    assert [found.names for found in engine.manifests.list()] == [("list:1",)]
    assert engine.manifests.delete("list:1").digest == listed.digest
    assert not engine.manifests.exists("list:1")
    # What an engine is given holds in its worker too.
    from pycontain.config import Config
    said = {{"search_registries": ("{server.domain}",), "layer_max_size": 9}}
    other = Engine(settings=Config(said))
    asked = []
    assert other.images.pull("made:1", asking=asked.append).name == name
    assert asked == [name]
    images.remove(name, force=True)
    try:
        other.images.load("made.tar")
    except ImageError as err:
        assert "allowed: 9 bytes" in err.message and "layer_max_size" in err.hint, err
    else:
        raise AssertionError("the bound does not hold")
    other.close()
    assert images.pull(name).image.digest == digest
    output = io.BytesIO()
    images.save([name], output, form="docker-archive")
    images.save([name], "folder", form="oci-dir")
    assert os.stat("folder/index.json").st_uid == os.getuid()
    output.seek(0)
    assert images.load(output)[0][1] == (name,)
    try:
        images.pull("{server.domain}/nosuch:1")
    except RegistryError as err:
        assert err.status == 404, err.status
        print(err.code)
    assert images.remove(name, force=True).deleted == image.id
    """
    assert test_api_rootless.play(user, textwrap.dedent(script)) == "MANIFEST_UNKNOWN\n"
