"""dockerd with our runtime beside its own: restarts, and one user namespace for all containers."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from .client import wait_until
from .conftest import needs, unchanged
from .dockerd import PROGRAMS, Dockerd

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests import peers

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.fixture(scope="module")
def second(
    oci_runtime: str, archive: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dockerd]:
    """A dockerd that knows our runtime, and has another as its default."""
    needs(*PROGRAMS)
    with peers.machine("pycontain-dockerd") as machine:
        manager = Dockerd(machine, oci_runtime, tmp_path_factory.mktemp("dockerd"))
        manager.start()
        manager.ok("load", "-i", archive)
        manager.ok("run", "--rm", "--runtime", "pycontain", "tools", "true")
        yield manager


@pytest.fixture
def docker(second: Dockerd) -> Iterator[Dockerd]:
    """The daemon; each test leaves it, and the machine below it, as it was."""
    yield from unchanged(second)


def test_the_runtime_is_chosen_by_name(docker: Dockerd) -> None:
    box = docker.detach("--runtime", "pycontain")
    assert docker.inspect(box)["HostConfig"]["Runtime"] == "pycontain"
    usual = docker.ok("create", "tools")
    assert docker.inspect(usual)["HostConfig"]["Runtime"] != "pycontain"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_containers_outlive_the_daemon(docker: Dockerd, how: signal.Signals) -> None:
    ticking = "trap 'exit 33' TERM; n=0; while :; do echo $((n+=1)); sleep 0.1; done"
    ending = "while [ ! -e /end ]; do sleep 0.05; done; exit 44"
    stays, ends = (
        docker.ok("run", "-d", "--runtime", "pycontain", "tools", "sh", "-c", script)
        for script in (ticking, ending)
    )
    before = docker.inspect(stays)["State"]
    first = f"{docker.machine.root}/proc/{docker.inspect(ends)['State']['Pid']}"
    docker.stop(how)
    try:
        with open(f"{first}/root/end", "w"):
            pass
        wait_until(lambda: not os.path.exists(first), "its end while nobody is there")
    finally:
        docker.start()
    after = docker.inspect(stays)["State"]
    assert (after["Status"], after["Pid"]) == ("running", before["Pid"])
    assert after["StartedAt"] == before["StartedAt"]
    wait_until(lambda: docker.state(ends) == "exited", "its end is known")
    assert docker.inspect(ends)["State"]["ExitCode"] == 44
    assert docker.ok("exec", stays, "echo", "here") == "here"
    ticks = docker.ok("logs", stays).split()
    docker.wait_for_log(stays, f"\n{int(ticks[-1]) + 2}\n")
    docker.ok("stop", stays)
    assert docker.inspect(stays)["State"]["ExitCode"] == 33
    docker.ok("start", stays)
    docker.ok("rm", "-f", stays, ends)


def test_one_user_namespace_for_all(
    oci_runtime: str, archive: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs(*PROGRAMS, "useradd", "groupadd")
    folder = tmp_path_factory.mktemp("remapped")
    with peers.machine("pycontain-dockerd") as machine:
        docker = Dockerd(machine, oci_runtime, folder, "--userns-remap=default", default=True)
        docker.start()
        docker.ok("load", "-i", archive)
        script = "cat /proc/self/uid_map; stat -c %u /bin/busybox /etc/hosts; hostname; ip -o link"
        seen = docker.sh(script, "--hostname", "box")
        inside, outside, length, *owners = seen.split()[:5]
        assert (inside, length, owners) == ("0", "65536", ["0", "0"])
        assert int(outside) > 0
        assert "eth0" in seen
        box = docker.detach()
        status = f"{machine.root}/proc/{docker.inspect(box)['State']['Pid']}/status"
        with open(status) as file:
            assert f"Uid:\t{outside}\t" in file.read()
        assert docker.ok("exec", box, "sh", "-c", "id -u; head -c 3 /dev/zero | wc -c") == "0\n3"
        assert docker.run("tools", "mount", "-t", "tmpfs", "none", "/tmp").code != 0
        docker.ok("stop", "-t", "0", box)
        docker.clear()
