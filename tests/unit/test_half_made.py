"""What killed commands and damaged claims leave: found, finished, and never taken for more."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, cast

import pytest

from pycontain.engine.containers import Containers
from pycontain.errors import Conflict, NotFound, StoreError
from pycontain.image.store import Image
from pycontain.model.container import ImageConfig, RunOptions
from pycontain.store import files
from pycontain.store.files import Lock
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.engine.images import Images

ID = "ab" * 32
DEAD = 1 << 22  # one above the highest pid that a kernel gives


class OneImage:
    """Whatever the image is called, it is this one."""

    def using(self, image: Image) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def ensure(self, name: str, progress: object = None) -> Image:
        return Image(
            id="sha256:0", names=(name,), digest="sha256:1", config=ImageConfig(cmd=["true"]),
            diff_ids=(), layers=(), created=None, size=0, architecture="amd64", os="linux",
        )  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    return layout


@pytest.fixture
def containers(layout: Layout) -> Containers:
    return Containers(layout, cast("Images", OneImage()), rootless=False)


def write(path: str, text: str = "") -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def create(containers: Containers, name: str) -> str:
    return containers.create(RunOptions(image="any", name=name)).id


def left(layout: Layout) -> list[str]:
    folders = (layout.containers, layout.names, layout.locks, layout.cache)
    return [name for folder in folders for name in os.listdir(folder)]


def test_a_folder_without_a_document_goes(containers: Containers, layout: Layout) -> None:
    os.mkdir(f"{layout.containers}/{ID}")
    write(layout.name("box"), ID)
    assert containers.list(all=True) == []
    assert left(layout) == []


@pytest.mark.parametrize("content", [None, "", "\0\0"])
def test_what_was_to_end_with_another_boot_goes(
    containers: Containers, layout: Layout, content: str | None
) -> None:
    """Nothing of it was synced: after a power cut its documents may be empty."""
    options = RunOptions(image="any", name="box", remove=True)
    identity = containers.create(options, volatile=True).id
    assert containers.get("box").status.state == "created"
    paths = layout.container(identity)
    files.write_word(f"{paths.folder}/boot", "that of yesterday")
    if content is not None:
        write(paths.document, content)
    with pytest.raises(NotFound):
        containers.get("box")
    assert containers.list(all=True) == []
    assert left(layout) == []
    create(containers, "box")


def test_a_name_of_another_boot_is_free_at_once(containers: Containers, layout: Layout) -> None:
    identity = containers.create(RunOptions(image="any", name="box"), volatile=True).id
    files.write_word(f"{layout.container(identity).folder}/boot", "that of yesterday")
    create(containers, "box")


def test_one_that_stays_and_is_removed_at_its_end_outlives_the_boot(
    containers: Containers, layout: Layout
) -> None:
    """It has not ended, since nobody has started it."""
    identity = containers.create(RunOptions(image="any", name="box", remove=True)).id
    assert not os.path.lexists(f"{layout.container(identity).folder}/boot")
    assert [view.container.id for view in containers.list(all=True)] == [identity]


def test_a_name_that_another_has_got_since_stays(containers: Containers, layout: Layout) -> None:
    """A power cut may undo a removal, but not the claim that came after it."""
    back = create(containers, "box")
    os.unlink(layout.name("box"))
    new = create(containers, "box")
    containers.remove(back)
    assert containers.find("box") == new


def test_a_lock_alone_goes(containers: Containers, layout: Layout) -> None:
    write(layout.container(ID).lock)
    containers.list()
    assert left(layout) == []


def test_a_removal_is_finished_with_its_claim(containers: Containers, layout: Layout) -> None:
    identity = create(containers, "box")
    os.rename(f"{layout.containers}/{identity}", f"{layout.containers}/.removed-{identity}")
    containers.list()
    assert left(layout) == []


def test_an_unfinished_claim_goes(containers: Containers, layout: Layout) -> None:
    write(layout.name(f".tmp-{DEAD}-ab"), ID)
    write(f"{layout.cache}/.tmp-{DEAD}-ab")
    containers.list()
    assert left(layout) == []


def test_both_names_of_an_unfinished_claim_go(containers: Containers, layout: Layout) -> None:
    """link(2) was made, the temporary name not removed: the claim must not outlive it."""
    os.mkdir(f"{layout.containers}/{ID}")
    for name in (f".tmp-{DEAD}-ab", "box", f".tmp-{DEAD}-cd"):
        write(layout.name(name), ID)
    containers.list()
    assert left(layout) == []


def test_what_is_being_made_is_left_alone(containers: Containers, layout: Layout) -> None:
    os.mkdir(f"{layout.containers}/{ID}")
    with Lock(layout.container(ID).lock):
        containers.list()
        assert os.path.isdir(f"{layout.containers}/{ID}")


def test_what_is_being_removed_is_left_alone(containers: Containers, layout: Layout) -> None:
    os.mkdir(f"{layout.containers}/.removed-{ID}")
    with Lock(layout.container(ID).lock):
        containers.list()
        assert os.path.isdir(f"{layout.containers}/.removed-{ID}")


def test_a_foreign_folder_stays(containers: Containers, layout: Layout) -> None:
    os.mkdir(f"{layout.containers}/lost+found")
    assert containers.list(all=True) == []
    assert os.listdir(layout.containers) == ["lost+found"]


def test_a_failed_create_leaves_nothing(containers: Containers, layout: Layout) -> None:
    create(containers, "box")
    before = sorted(left(layout))
    with pytest.raises(Conflict):
        create(containers, "box")
    assert sorted(left(layout)) == before


@pytest.mark.parametrize("claim", ["", "/", "..", "../names", "ab" * 31, "AB" * 32])
def test_a_damaged_claim_is_an_error_and_touches_nobody(
    containers: Containers, layout: Layout, claim: str
) -> None:
    """It says where a container is to be removed: an empty one would mean all of them."""
    create(containers, "other")
    write(layout.name("box"), claim)
    before = sorted(left(layout))
    with pytest.raises(StoreError, match="damaged: not an id"):
        create(containers, "box")
    assert sorted(left(layout)) == before
    assert [view.container.name for view in containers.list(all=True)] == ["other"]
