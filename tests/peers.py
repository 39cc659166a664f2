"""Starts the engines that pycontain is compared with, each in folders of its own.

What they need of the machine (a unified view of cgroup v2) they get in a private mount namespace,
so that nothing of the host changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNIFIED = "mount -t cgroup2 none /sys/fs/cgroup; exec "
_PATIENCE = 60.0
# What a daemon leaves of itself on the host when it stops.
_PLACES = (
    "/sys/fs/cgroup/unified/docker",
    "/sys/fs/cgroup/docker",
    "/run/docker",
    "/run/containerd",
)
# Not ours: what a test session marks its own processes with stays out of it.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root", "LANG": "C.UTF-8"}


def unified(command: str) -> list[str]:
    """Return a command that runs `command` where /sys/fs/cgroup is cgroup v2 alone."""
    return ["unshare", "-m", "sh", "-c", UNIFIED + command]


class Docker:
    """A docker daemon of our own, and its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.argv = [shutil.which("docker") or "docker", "-H", self.host]

    def __call__(self, *words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        """Run the client; output is captured."""
        return subprocess.run([*self.argv, *words], capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def available(*programs: str) -> bool:
    """Whether all of these programs are installed."""
    return all(shutil.which(program) for program in programs)


@contextlib.contextmanager
def docker(folder: Path) -> Iterator[Docker]:
    """A running docker daemon, stopped at the end. Raises RuntimeError when it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    client = Docker(folder)
    there = {place for place in _PLACES if os.path.isdir(place)}
    command = (
        f"dockerd -H {client.host} --data-root {folder}/data --exec-root {folder}/exec"
        f" --pidfile {folder}/pid --bridge=none --iptables=false --ip6tables=false"
    )
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            unified(command),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while client("version").returncode:
            if daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError(
                    f"dockerd does not start:\n{(folder / 'log').read_text()[-3000:]}"
                )
            time.sleep(0.2)
        yield client
    finally:
        _stop(daemon)
        for place in _PLACES:
            if place not in there:
                _prune(place)


def _prune(folder: str) -> None:
    """Remove a folder of cgroups or of sockets, where nobody uses it."""
    for inner, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # it has members or files
            os.rmdir(inner)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(30)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)


# crun 1.8 raises RLIMIT_MEMLOCK for device rules, which not every machine allows.
_CRUN = """\
#!/bin/sh
for word; do
    case $last in
    --bundle | -b) sed -i 's/"devices":\\[{"allow[^]]*\\],//' "$word/config.json" ;;
    esac
    last=$word
done
exec crun "$@"
"""


def podman_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which podman works without raising rlimits."""
    folder.mkdir(parents=True, exist_ok=True)
    runtime = folder / "crun-without-device-rules"
    runtime.write_text(_CRUN)
    runtime.chmod(0o755)
    config = folder / "containers.conf"
    config.write_text(
        '[containers]\ndefault_ulimits = []\npids_limit = 0\n[engine]\nruntime = "plain"\n'
        'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'[engine.runtimes]\nplain = ["{runtime}"]\n'
    )
    return {**os.environ, "CONTAINERS_CONF": str(config)}


def podman_argv(folder: Path) -> list[str]:
    """Return podman with a store of its own."""
    return [
        "podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run",
        "--tmpdir", f"{folder}/tmp",
    ]  # fmt: skip


def crun_bundle(folder: Path, rootfs: Path, args: list[str]) -> Path:
    """Make a bundle for crun or runc from a copy of `rootfs`."""
    bundle = folder / "bundle"
    bundle.mkdir(parents=True)
    shutil.copytree(rootfs, bundle / "rootfs", symlinks=True)
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = args
    # crun 1.8 raises RLIMIT_MEMLOCK for device rules, which not every machine allows.
    config["linux"]["resources"].pop("devices", None)
    path.write_text(json.dumps(config))
    return bundle
