"""Fixtures of the tests on a real kernel: a store each, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import PATIENCE, CommandLine, Store, wait_until
from probe import compile as compile_probe

from pycontain import Engine
from pycontain.engine import settling, supervision
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> leaks.Session:
    return leaks.Session(str(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="session", autouse=True)
def whole_host(session: leaks.Session) -> Iterator[None]:
    """The whole host, once around the suite."""
    before = leaks.before_session(session)
    yield
    left = leaks.settled(before, lambda: leaks.before_session(session))
    assert not left, left


@pytest.fixture(autouse=True)
def nothing_left_behind(session: leaks.Session, whole_host: None) -> Iterator[None]:
    """Cgroups, mounts, links, namespaces, processes and descriptors of ours, around each test."""
    before = leaks.before_test(session)
    yield
    left = leaks.settled(before, lambda: leaks.before_test(session))
    assert not left, left


_caches: list[str] = []


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with busybox in it, built once, whoever else has this fixture under its name."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups of the host")
    if _caches:
        return _caches[0]
    folder = tmp_path_factory.mktemp("images")
    engine = Engine(f"{folder}/root", f"{folder}/state")
    engine.images.ensure("busybox")
    engine.run("busybox", ["true"])  # compiles the seccomp filter
    _caches.append(f"{folder}/root")
    return _caches[0]


def fill(cache: str, root: str, *, link: bool = True) -> None:
    """Give a new store the images of the cache; its files are linked, they are never written."""
    os.makedirs(root, mode=0o700)
    copied = [f"{cache}/{name}" for name in ("version", "images", "layers", "cache")]
    subprocess.run(["cp", "-al" if link else "-a", *copied, root], check=True)
    index = f"{root}/images/index.json"
    os.unlink(index)  # what changes it in its place changes no other store's
    shutil.copy(f"{cache}/images/index.json", index)


SERVERS = ("nginx:bookworm", "redis:bookworm", "postgres:bookworm")


@pytest.fixture(scope="session")
def server_cache(image_cache: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with busybox and the built-in recipes of servers in it, which are followed once."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    folder = tmp_path_factory.mktemp("servers")
    fill(image_cache, f"{folder}/root")
    engine = Engine(f"{folder}/root", f"{folder}/state")
    for name in SERVERS:
        engine.images.ensure(name)
    return f"{folder}/root"


@pytest.fixture
def store(image_cache: str, tmp_path: Path, nothing_left_behind: None) -> Iterator[Store]:
    yield from stocked(image_cache, tmp_path)


@pytest.fixture
def servers(server_cache: str, tmp_path: Path, nothing_left_behind: None) -> Iterator[Store]:
    """A store with the images of servers."""
    yield from stocked(server_cache, tmp_path)


def stocked(cache: str, tmp_path: Path) -> Iterator[Store]:
    """A test's own store, with the images of a cache; nothing is left in it."""
    fill(cache, f"{tmp_path}/root")
    store = Store(str(tmp_path))
    yield store
    store.clear()
    # What removes a container by itself, its monitor's clean-up, may be at the last of it.
    end = time.monotonic() + leaks.SETTLE
    while left := store.leftovers():
        assert time.monotonic() < end, left
        time.sleep(0.01)
    remove(store.root)


def remove(folder: str) -> None:
    """Remove a folder in which what is ending may still make or remove something."""
    end = time.monotonic() + leaks.SETTLE
    while os.path.lexists(folder):
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@pytest.fixture
def engine(store: Store) -> Engine:
    return store.engine


@pytest.fixture
def kube(store: Store) -> Iterator[Kube]:
    """What is declared in the test's store; all of it is taken back at its end."""
    found = Kube(store.engine)
    yield found
    declarations = Declarations(store.layout)
    found.down([one.object for one in declarations.list()])
    assert declarations.list() == []
    wait_until(lambda: not supervision.lives(store.layout))
    for folder in (store.layout.pods, store.layout.state_pods):
        assert not os.path.isdir(folder) or os.listdir(folder) == []
    assert [name for name in os.listdir(store.layout.locks) if name.startswith("kube-")] == []


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb waits for a monitor to tell the end, but not for ever: on a busy machine longer."""
    monkeypatch.setattr(settling, "LINGER", PATIENCE)


@pytest.fixture
def pycontain(store: Store) -> CommandLine:
    return CommandLine(store)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static program that makes one system call; see probe.c."""
    return compile_probe(f"{tmp_path_factory.mktemp('probe')}/probe")


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the program that kills another at a system call."""
    source = Path(__file__).with_name("killer.c")
    program = tmp_path_factory.mktemp("killer") / "killer"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return str(program)
