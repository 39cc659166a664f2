"""Starts the engines that pycontain is compared with, each in folders of its own.

What they need of the machine (a unified view of cgroup v2) they get in a private mount namespace,
so that nothing of the host changes.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
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
    # Short: the path of a socket has 107 bytes at most (unix(7)).
    sockets = tempfile.mkdtemp(prefix="docker")
    there = {place for place in _PLACES if os.path.isdir(place)}
    command = (
        f"dockerd -H {client.host} --data-root {folder}/data --exec-root {sockets}"
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
        shutil.rmtree(sockets, ignore_errors=True)
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


# Process 1 of a machine of its own: it reaps, and ends when its input does. So everything in the
# machine dies with whoever made it, however that one ends.
_INIT = """\
import os, signal
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
reap()
print("ready", flush=True)
while os.read(0, 100):
    pass
"""
# /etc and /var can be written and nothing of it is kept; engines keep their sockets and lock files
# in /run and /dev/shm. Processes live in a cgroup below the root: one that has members cannot give
# its controllers to those below it, cgroups(7).
_MACHINE = """\
set -e
umount -R -l /sys
mount -t sysfs none /sys
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/host
echo 0 >/sys/fs/cgroup/host/cgroup.procs
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=1777 none /dev/shm
mkdir /run/lock
for folder in etc var; do
    mkdir -p /run/overlay/$folder/upper /run/overlay/$folder/work
    mount -t overlay -o lowerdir=/$folder,upperdir=/run/overlay/$folder/upper,workdir=/run/overlay/$folder/work \
        none /$folder
done
ip link set lo up
exec "$0" -I -c "$1"
"""  # noqa: E501
_INTO_CGROUP = 'echo 0 >/sys/fs/cgroup/host/cgroup.procs; exec "$@"'
# What the runtimes themselves keep for a container: a folder of its name in one of these.
_STATES = (
    "/run/runc",
    "/run/crun",
    "/run/pycontain-runtime",
    "/run/containerd/runc/*",
    "/run/docker/runtime-*/*",
)


class Machine:
    """Namespaces of its own for mounts, processes, links and cgroups, in a unified cgroup v2.

    Attributes:
        root: where another process finds the machine's files.
    """

    def __init__(self, init: int) -> None:
        self._init = init
        self.root = f"/proc/{init}/root"

    def argv(self, *words: str) -> list[str]:
        """Return a command that runs these words there."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-n", "-p", "-C"]
        return [*enter, "sh", "-c", _INTO_CGROUP, "sh", *words]

    def __call__(
        self,
        *words: str,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float = _PATIENCE,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command there to its end; output is captured, `timeout` is in seconds."""
        return subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            check=False,
            env={**_ENVIRONMENT, **(environment or {})},
            timeout=timeout,
        )

    def start(self, log: Path, *words: str) -> Daemon:
        """Start a daemon there; what it says is appended to `log`."""
        with log.open("ab") as output:
            entering = subprocess.Popen(
                self.argv(*words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        return Daemon(entering, log)

    def look(self, *without: str) -> dict[str, Counter[str]]:
        """What there is: processes, cgroups, mounts, links, and what runtimes keep.

        Processes whose program is in `without` are not counted.
        """
        return {
            "process": Counter(
                process for process in self._processes() if process.partition(" ")[2] not in without
            ),
            "cgroup": Counter(
                folder.removeprefix(self.root)
                for folder, _, _ in os.walk(f"{self.root}/sys/fs/cgroup")
            ),
            "mount": Counter(self._mounts()),
            "link": Counter(os.listdir(f"{self.root}/sys/class/net")),
            "state": Counter(
                path.removeprefix(self.root)
                for place in _STATES
                for path in glob.glob(f"{self.root}{place}/*")
                if not os.path.basename(path).startswith("@")  # a cache; no container's name
            ),
        }

    def _processes(self) -> Iterator[str]:
        for name in os.listdir(f"{self.root}/proc"):
            if not name.isdecimal():
                continue
            try:
                with open(f"{self.root}/proc/{name}/stat") as file:
                    yield f"{name} {file.read().partition('(')[2].rpartition(')')[0]}"
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue

    def _mounts(self) -> Iterator[str]:
        with open(f"/proc/{self._init}/mountinfo") as file:
            for line in file:
                yield f"{line.rpartition(' - ')[2].split()[0]} on {line.split()[4]}"


class Daemon:
    """A program that runs in a machine."""

    def __init__(self, entering: subprocess.Popen[bytes], log: Path) -> None:
        self._entering = entering
        self._log = log

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Poll until `ready`. Raises RuntimeError with the end of its log where it ends before."""
        end = time.monotonic() + _PATIENCE
        while not ready():
            if self._entering.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"it does not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Signal it, and wait for its end. Raises RuntimeError where it does not end."""
        for pid in _children(self._entering.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        try:
            self._entering.wait(30)
        except subprocess.TimeoutExpired:
            for pid in _children(self._entering.pid):
                os.kill(pid, signal.SIGKILL)
            self._entering.wait(10)
            raise RuntimeError(f"it does not stop:\n{self._log.read_text()[-3000:]}") from None


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _cgroup2() -> str:
    """Where cgroup v2 is mounted."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            if line.rpartition(" - ")[2].startswith("cgroup2 "):
                return line.split()[4]
    raise RuntimeError("cgroup v2 is not mounted")


@contextlib.contextmanager
def machine(name: str) -> Iterator[Machine]:
    """A machine of its own; at the end everything in it is gone. Raises RuntimeError."""
    group = tempfile.mkdtemp(prefix=f"{name}-", dir=_cgroup2())
    try:
        with subprocess.Popen(
            [
                *("sh", "-c", 'echo 0 >"$0/cgroup.procs"; exec "$@"', group),
                *("unshare", "--mount", "--net", "--pid", "--cgroup", "--fork", "--mount-proc"),
                *("sh", "-c", _MACHINE, sys.executable, _INIT),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
        ) as entering:
            assert entering.stdin is not None
            assert entering.stdout is not None
            assert entering.stderr is not None
            if entering.stdout.readline() != b"ready\n":
                raise RuntimeError(f"no machine of its own: {entering.stderr.read().decode()}")
            # the root's other member; it could not name itself from within
            with open(f"{group}/host/cgroup.procs", "w") as file:
                file.write(str(entering.pid))
            (init,) = _children(entering.pid)
            try:
                yield Machine(init)
            finally:
                entering.stdin.close()
    finally:
        _prune(group)
