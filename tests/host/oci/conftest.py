"""Fixtures of the OCI suite: a bundle each, and the test process as the containers' parent."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import leaks
import pytest

from .bundle import RUNTIME, Bundle, make_source, subreaper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_left_behind(session: leaks.Session, whole_host: None) -> Iterator[None]:
    """What a test must leave as it was; processes, state and cgroups are the bundle's matter."""

    def look() -> leaks.Things:
        return {
            "mount": leaks.mounts(session),
            "link": leaks.links(),
            "descriptor": leaks.descriptors(),
        }

    before = look()
    yield
    left = leaks.settled(before, look)
    assert not left, left


@pytest.fixture(scope="session")
def rootfs_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups of the host")
    if not shutil.which("busybox"):
        pytest.skip("needs busybox")
    assert shutil.which(RUNTIME[0]), f"there is no OCI runtime at {RUNTIME[0]}"
    return make_source(str(tmp_path_factory.mktemp("rootfs")))


@pytest.fixture
def bundle(rootfs_source: str, tmp_path: Path, nothing_left_behind: None) -> Iterator[Bundle]:
    with subreaper():
        bundle = Bundle(f"{tmp_path}/b", rootfs_source)
        try:
            yield bundle
        finally:
            problems = bundle.close()
        assert not problems, problems
