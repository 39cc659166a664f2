"""Fixtures of the parity table: a store with its images, and a docker beside it."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from pycontain import Engine

from . import images, live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .player import Player, Servers
    from .rows import Scene

LIVE = 3
"""One scene in so many is played with a live docker too; all with PYCONTAIN_TEST_ALL_LIVE=1."""


@pytest.fixture(scope="session")
def image_cache(image_cache: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The suite's store, and the table's own image."""
    folder = tmp_path_factory.mktemp("parity-images")
    os.makedirs(f"{folder}/root", mode=0o700)
    for name in ("version", "images", "layers", "cache"):
        subprocess.run(["cp", "-al", f"{image_cache}/{name}", f"{folder}/root"], check=True)
    layout = Engine(f"{folder}/root", f"{folder}/state").layout
    layout.prepare()
    images.prepare(layout)
    return f"{folder}/root"


@pytest.fixture(scope="session")
def servers(whole_host: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers | None]:
    """The registries, None where they are not installed."""
    with live.servers(f"{tmp_path_factory.mktemp('registries')}/all") as servers:
        yield servers


@pytest.fixture(scope="session")
def docker(
    image_cache: str, servers: Servers | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Player | None]:
    """A docker daemon for the session, None where it is not installed."""
    if not live.installed():
        yield None
        return
    folder = tmp_path_factory.mktemp("docker")
    layout = Engine(image_cache, f"{folder}/state").layout
    with live.docker(f"{folder}/docker", layout, servers) as player:
        yield player


@pytest.fixture
def live_docker(scene: Scene, docker: Player | None, pytestconfig: pytest.Config) -> Player | None:
    """The docker that plays a scene too: what was recorded is looked after, but not all at once.

    Which scenes is said by the run's seed, ``--randomly-seed=N``.
    """
    drawn = random.Random(f"{pytestconfig.getoption('randomly_seed', None)} {scene.name}")
    if os.environ.get("PYCONTAIN_TEST_ALL_LIVE") == "1" or drawn.randrange(LIVE) == 0:
        return docker
    return None
