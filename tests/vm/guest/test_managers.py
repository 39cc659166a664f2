"""podman on our runtime, with limits: through both of its cgroup managers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import launcher
import pytest
from oci.bundle import make_rootfs

from .control_files import MIB, ROOT, Group, eat

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.vm

_SETTINGS = """\
[containers]
default_ulimits = []
[engine]
cgroup_manager = "{manager}"
events_logger = "file"
"""
_PATIENCE = 300
LIMITS = ["-m", "64m", "--memory-swap", "64m", "--pids-limit", "20", "--cpus", "0.5"]


class Podman:
    """podman with a store of its own, and one image, ``tools``.

    Args:
        folder: for all of it.
        manager: of cgroups, systemd or cgroupfs.
        rootfs: of the image.
    """

    def __init__(self, folder: str, manager: str, rootfs: str) -> None:
        self.runtime = launcher.path()
        self.argv = [
            *("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run"),
            *("--tmpdir", f"{folder}/tmp", "--runtime", self.runtime),
        ]
        config = f"{folder}/containers.conf"
        with open(config, "w") as file:
            file.write(_SETTINGS.format(manager=manager))
        self.environment = {**os.environ, "CONTAINERS_CONF": config}
        subprocess.run(["tar", "-C", rootfs, "-cf", f"{folder}/image.tar", "."], check=True)
        self("import", f"{folder}/image.tar", "tools")

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*self.argv, *words], capture_output=True, text=True, check=False,
            env=self.environment, timeout=_PATIENCE,
        )  # fmt: skip
        assert done.returncode == code, (words, done)
        return done.stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self("container", "inspect", name))[0]["State"]
        return state


@pytest.fixture
def folders(place: str, rootfs_source: str) -> Iterator[tuple[str, str]]:
    """A folder for podman, and a root file system."""
    # Beside it: the names in the rootfs are links to it.
    source = shutil.copytree(rootfs_source, f"{place}/source")
    yield place, make_rootfs(source, f"{place}/rootfs")
    subprocess.run(["umount", "-q", "-R", f"{place}/root/overlay"], check=False)


def look(podman: Podman) -> Group:
    """A container with limits: they are in its cgroup, which is returned, and they bite."""
    box = podman("run", "-d", "--network", "none", "--name", "box", *LIMITS, "tools",
                 "sleep", "1000")  # fmt: skip
    state = podman.inspect(box)
    with open(f"/proc/{state['Pid']}/cgroup") as file:
        group = Group(file.read().strip().removeprefix("0::"))
    assert group.number("memory.max") == 64 * MIB
    assert group.number("memory.swap.max") == 0
    assert group.number("pids.max") == 20
    assert group.text("cpu.max") == "50000 100000"
    script = "n=0; while [ $n -lt 30 ]; do sleep 100 & n=$((n+1)); done"
    podman("exec", "box", "sh", "-c", script, code=2)
    assert group.key("pids.events", "max") > 0
    assert group.number("pids.current") <= 20
    podman("exec", "box", *eat(100), code=137)
    assert group.key("memory.events", "oom_kill") == 1
    return group


def run_out_of_memory(podman: Podman, runtime: str) -> tuple[int, bool]:
    """What podman says of a container of that runtime which does: its code, and OOMKilled.

    The second is the matter of conmon, which not in every version knows it from cgroup v2.
    """
    name = f"eater-{os.path.basename(runtime)}"
    podman("--runtime", runtime, "run", "--network", "none", "--name", name, *LIMITS, "tools",
           *eat(100), code=137)  # fmt: skip
    state = podman.inspect(name)
    return state["ExitCode"], state["OOMKilled"]


def test_podman_with_cgroupfs(folders: tuple[str, str]) -> None:
    podman = Podman(folders[0], "cgroupfs", folders[1])
    try:
        group = look(podman)
        assert group.path.startswith("/libpod_parent/libpod-")
        theirs = run_out_of_memory(podman, "crun")
        assert run_out_of_memory(podman, podman.runtime) == theirs
    finally:
        podman("rm", "-a", "-f", "-t", "0")
    assert not os.path.exists(group.folder)


@pytest.mark.systemd
def test_podman_with_systemd(folders: tuple[str, str]) -> None:
    podman = Podman(folders[0], "systemd", folders[1])
    try:
        group = look(podman)
        unit = os.path.basename(group.path)
        assert group.path == f"/machine.slice/{unit}"
        assert unit.startswith("libpod-")
        words = ["systemctl", "show", "--property=MemoryMax,TasksMax", unit]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        theirs = run_out_of_memory(podman, "crun")
        assert run_out_of_memory(podman, podman.runtime) == theirs
        assert shown.split() == [f"MemoryMax={64 * MIB}", "TasksMax=20"]
    finally:
        podman("rm", "-a", "-f", "-t", "0")
    words = ["systemctl", "list-units", "--all", "--no-legend", "libpod-*"]
    left = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert not left
    assert not os.path.exists(f"{ROOT}/machine.slice/{unit}")
