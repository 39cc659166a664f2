"""Fixtures: the runtime, the image, and each manager in a machine of its own."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Protocol, TypeVar

import launcher
import leaks
import pytest
from pace import seconds

from . import image
from .containerd import PROGRAMS as CONTAINERDS
from .containerd import Containerd
from .dockerd import PROGRAMS as DOCKERS
from .dockerd import Dockerd
from .podman import PROGRAMS as PODMANS
from .podman import Podman

sys.path.insert(0, os.path.abspath(f"{os.path.dirname(__file__)}/../../.."))

from tests import peers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def oci_runtime() -> str:
    """Path of the runtime that the managers are given."""
    if os.geteuid() != 0:
        pytest.skip("needs root: managers, namespaces and cgroups")
    return os.environ.get("PYCONTAIN_TEST_OCI_RUNTIME") or launcher.path()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the image's archive."""
    return image.archive(str(tmp_path_factory.mktemp("image")))


def needs(*programs: str) -> None:
    """Skip where one of the programs is not installed."""
    missing = [
        program for program in (*programs, "nsenter", "unshare") if not shutil.which(program)
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


class Manager(Protocol):
    """What a test uses and leaves as it was."""

    machine: peers.Machine

    def clear(self) -> None: ...


M = TypeVar("M", bound=Manager)


def unchanged(manager: M) -> Iterator[M]:
    """Clear up after a test, and fail where it left anything in the manager's machine."""
    before = look(manager)
    yield manager
    manager.clear()
    left = leaks.settled(before, lambda: look(manager), seconds(5))
    assert not left, left


def look(manager: Manager) -> leaks.Things:
    """What is in a manager's machine; a daemon that a test started again counts as the same."""
    found = manager.machine.look("dockerd", "containerd")
    # podman's storage makes its folder a mount point, and undoes that at times of its own
    del found["mount"]["tmpfs on /run/podman/root/overlay"]
    return found


@pytest.fixture(scope="module")
def dockerd(
    oci_runtime: str, archive: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dockerd]:
    """A dockerd whose default runtime is ours, with the image, and with one container behind it."""
    needs(*DOCKERS)
    with peers.machine("pycontain-dockerd") as machine:
        manager = Dockerd(machine, oci_runtime, tmp_path_factory.mktemp("dockerd"), default=True)
        manager.start()
        manager.ok("load", "-i", archive)
        # what is made once and stays: the cgroup above the containers', a file of the namespace
        manager.ok("run", "--rm", "--network", "host", "tools", "true")
        yield manager


@pytest.fixture
def docker(dockerd: Dockerd) -> Iterator[Dockerd]:
    """The daemon; each test leaves it, and the machine below it, as it was."""
    yield from unchanged(dockerd)


@pytest.fixture(scope="module")
def containerd_alone(
    oci_runtime: str, archive: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containerd]:
    """A containerd with the image, and with one container behind it."""
    needs(*CONTAINERDS)
    with peers.machine("pycontain-containerd") as machine:
        manager = Containerd(machine, oci_runtime, tmp_path_factory.mktemp("containerd"))
        manager.start()
        manager.ok("image", "import", archive)
        done = manager.run("first", ["true"])
        assert done.code == 0, done
        yield manager


@pytest.fixture
def containerd(containerd_alone: Containerd) -> Iterator[Containerd]:
    """The daemon; each test leaves it, and the machine below it, as it was."""
    yield from unchanged(containerd_alone)


@pytest.fixture(scope="module")
def podman_alone(oci_runtime: str, archive: str) -> Iterator[Podman]:
    """A store with the image, and with one container behind it."""
    needs(*PODMANS)
    with peers.machine("pycontain-podman") as machine:
        manager = Podman(machine, oci_runtime)
        manager.ok("load", "-i", archive)
        manager.ok("run", "--rm", "tools", "true")
        yield manager


@pytest.fixture
def podman(podman_alone: Podman) -> Iterator[Podman]:
    """podman; each test leaves its store, and the machine, as they were."""
    yield from unchanged(podman_alone)
