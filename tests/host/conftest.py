"""Fixtures of the tests on a real kernel: a store each, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import CommandLine, Store
from probe import compile as compile_probe

from pycontain import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    for name in ("version", "images", "layers", "cache"):
        how = ["cp", "-al" if link else "-a"]
        subprocess.run([*how, f"{cache}/{name}", root], check=True)
    index = f"{root}/images/index.json"
    os.unlink(index)  # what changes it in its place changes no other store's
    shutil.copy(f"{cache}/images/index.json", index)


@pytest.fixture
def store(image_cache: str, tmp_path: Path, nothing_left_behind: None) -> Iterator[Store]:
    fill(image_cache, f"{tmp_path}/root")
    store = Store(str(tmp_path))
    yield store
    store.clear()
    left = store.leftovers()
    assert not left, left
    shutil.rmtree(store.root)


@pytest.fixture
def engine(store: Store) -> Engine:
    return store.engine


@pytest.fixture
def pycontain(store: Store) -> CommandLine:
    return CommandLine(store)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static program that makes one system call; see probe.c."""
    return compile_probe(f"{tmp_path_factory.mktemp('probe')}/probe")
