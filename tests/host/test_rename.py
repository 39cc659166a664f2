"""A container has one name at any time, and a name one container."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from harness import Store

from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError

if TYPE_CHECKING:
    from harness import CommandLine

pytestmark = pytest.mark.host


def test_the_new_name_is_its_and_the_old_one_free(store: Store) -> None:
    identity = store.create("true", name="old").id
    store.containers.rename("old", "/new")
    assert store.view("new").container.id == identity
    with pytest.raises(NotFound):
        store.view("old")
    assert os.listdir(store.layout.names) == ["new"]
    assert store.create("true", name="old").id != identity
    store.containers.rename(identity[:10], "newer")
    assert store.view("newer").container.id == identity


def test_one_that_runs_goes_on(store: Store) -> None:
    identity = store.detach(name="old")
    before = store.exec(identity, "hostname").stdout
    pid = store.view("old").status.pid
    store.containers.rename("old", "new")
    view = store.view("new")
    assert (view.status.state, view.status.pid) == ("running", pid)
    assert store.exec("new", "hostname").stdout == before
    store.containers.stop("new", timeout=0)
    store.containers.start("new")
    store.containers.remove("new", force=True)
    assert os.listdir(store.layout.names) == []


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("taken", Conflict), ("mine", InvalidInput), ("/mine", InvalidInput), ("", InvalidInput),
        ("/", InvalidInput), ("a b", InvalidInput), ("../x", InvalidInput), ("-x", InvalidInput),
    ],
)  # fmt: skip
def test_what_no_name_can_be(store: Store, name: str, error: type[PycontainError]) -> None:
    store.create("true", name="taken")
    store.create("true", name="mine")
    with pytest.raises(error):
        store.containers.rename("mine", name)
    assert sorted(os.listdir(store.layout.names)) == ["mine", "taken"]
    assert {view.container.name for view in store.containers.list(all=True)} == {"mine", "taken"}


def test_of_many_that_want_a_name_one_gets_it(store: Store) -> None:
    names = [f"one-{number}" for number in range(8)]
    for name in names:
        store.create("true", name=name)
    won: list[str] = []

    def want(name: str) -> None:
        try:
            Store(os.path.dirname(store.root)).containers.rename(name, "wanted")
        except Conflict:
            return
        won.append(name)

    threads = [threading.Thread(target=want, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    left = {*names, "wanted"} - set(won)
    assert set(os.listdir(store.layout.names)) == left
    assert {view.container.name for view in store.containers.list(all=True)} == left


def test_a_claim_without_a_document_behind_it_is_void(store: Store) -> None:
    """What a killed rename leaves: before the document changed the new name, after it the old."""
    identity = store.create("true", name="mine").id
    for claim in ("claimed", "stale"):
        os.symlink(identity, store.layout.name(claim))
        with pytest.raises(NotFound):
            store.view(claim)
    store.containers.rename("mine", "claimed")
    other = store.create("true", name="stale").id
    assert store.view("claimed").container.id == identity
    assert store.view("stale").container.id == other
    os.symlink(identity, store.layout.name("swept"))
    store.containers.list(all=True)
    assert sorted(os.listdir(store.layout.names)) == ["claimed", "stale"]


def test_the_command_line(store: Store, pycontain: CommandLine) -> None:
    store.create("true", name="old")
    done = pycontain("rename", "old", "new")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert pycontain("ps", "-a", "--format", "{{.Names}}").stdout == b"new\n"
    assert pycontain("rename", "old", "x").returncode == 1
    assert pycontain("rename", "new").returncode == 1
