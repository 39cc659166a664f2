"""podman of an ordinary user on our runtime, which it calls as root of its own user namespace."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from ordinary import User, first_subuid, ordinary_user

from tests import peers

from .conftest import needs, unchanged
from .podman import PROGRAMS, Podman, needs_catatonit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .client import Answer, Terminal

pytestmark = [pytest.mark.host, pytest.mark.slow]

SIZE = 65536


class Rootless(Podman):
    """podman as the user calls it; what it keeps lies in the machine's own /run and /dev/shm.

    Attributes:
        user: who calls it.
        before: words before it, for root.
        states: where the runtime keeps its containers.
    """

    def __init__(self, machine: peers.Machine, user: User, runtime: str) -> None:
        super().__init__(machine, runtime)
        self.user = user
        self.folder = f"/run/user/{user.entry.pw_uid}"
        self.states = f"{machine.root}{self.folder}/pycontain-runtime"
        os.makedirs(f"{machine.root}{self.folder}", mode=0o700)
        os.chown(f"{machine.root}{self.folder}", user.entry.pw_uid, user.entry.pw_gid)
        environment = user.environment(
            {**self._environment, "XDG_RUNTIME_DIR": self.folder, "LANG": "C.UTF-8"}
        )
        self.before: list[str] = []
        self._command = [
            *user.become(), "env", "-i", "-C", str(user.home),
            *(f"{name}={value}" for name, value in environment.items()),
            "podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run",
            "--tmpdir", f"{self.folder}/tmp", "--storage-driver", "vfs", "--runtime", runtime,
        ]  # fmt: skip

    def __call__(self, *words: str, stdin: bytes = b"") -> Answer:
        """Run it."""
        self._argv = [*self.before, *self._command]
        return super().__call__(*words, stdin=stdin)

    def terminal(self, *words: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        """Run it on a terminal."""
        self._argv = [*self.before, *self._command]
        return super().terminal(*words, size=size)

    def hand_down(self, folder: str) -> None:
        """Give the user a cgroup, in which its commands are started from now on."""
        give = (
            f"mkdir -p {folder}/start; for each in {folder} {folder}/start; do"
            f" chown {self.user.entry.pw_uid} $each $each/cgroup.procs $each/cgroup.threads"
            " $each/cgroup.subtree_control; done"
        )
        assert self.machine("sh", "-ec", give).returncode == 0
        self.before = ["sh", "-c", f'echo 0 >{folder}/start/cgroup.procs; exec "$@"', "sh"]

    def take_back(self, folder: str) -> None:
        """Remove the user's cgroup, which must be empty."""
        self.before = []
        done = self.machine("find", folder, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")
        assert (done.returncode, done.stderr) == (0, b"")

    def outside(self, inside: int) -> int:
        """The host's id of one of a container's."""
        return int(first_subuid()) + inside - 1 if inside else self.user.entry.pw_uid

    def owner(self, pid: int) -> int:
        """The host's uid of a process of the machine."""
        return os.stat(f"{self.machine.root}/proc/{pid}").st_uid

    def pid(self, box: str) -> int:
        """The machine's pid of a container's first process."""
        pid: int = self.inspect(box)["State"]["Pid"]
        return pid


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    needs(*PROGRAMS)
    with ordinary_user() as user:
        yield user


@pytest.fixture(scope="module")
def rootless(user: User, archive: str) -> Iterator[Rootless]:
    """A store with the image, and with one container behind it."""
    runtime = os.environ.get("PYCONTAIN_TEST_OCI_RUNTIME") or user.runtime
    place = user.home / "image.tar"
    shutil.copy(archive, place)
    place.chmod(0o644)
    # After the user: the machine sees /etc and /var as they are now.
    with peers.machine("pycontain-rootless") as machine:
        manager = Rootless(machine, user, runtime)
        # The root of the machine's cgroups is a folder that only root may look into.
        assert machine("chmod", "755", "/sys/fs/cgroup").returncode == 0
        # What an ordinary user may open on most machines: the link of slirp4netns.
        tun = "mknod -m 666 /run/tun c 10 200 && mount --bind /run/tun /dev/net/tun"
        if os.path.exists("/dev/net/tun"):
            assert machine("sh", "-c", tun).returncode == 0
        manager.ok("load", "-i", str(place))
        assert manager.run("tools", "true").code == 0
        yield manager


@pytest.fixture
def podman(rootless: Rootless) -> Iterator[Rootless]:
    """podman; each test leaves its store, and the machine, as they were."""
    yield from unchanged(rootless)
    if os.path.isdir(rootless.states):  # another runtime has another folder
        left = [name for name in os.listdir(rootless.states) if not name.startswith("@")]
        assert not left, left


def test_the_runtime_is_ours(podman: Rootless) -> None:
    box = podman.detach()
    assert podman.inspect(box)["OCIRuntime"] == podman.runtime
    assert podman.ok("info", "-f", "{{.Host.Security.Rootless}}") == "true"


def test_run(podman: Rootless) -> None:
    done = podman.run("tools", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert done == (42, "out\n", "err\n")
    assert podman.run("-i", "tools", "wc", "-c", stdin=b"x" * 100_000).out.split() == ["100000"]


def test_users(podman: Rootless) -> None:
    script = "id -u; cat /proc/self/uid_map"
    maps = ["0", str(podman.outside(0)), "1", "1", first_subuid(), str(SIZE)]
    assert podman.sh(script).split() == ["0", *maps]
    assert podman.owner(podman.pid(podman.detach())) == podman.outside(0)
    assert podman.owner(podman.pid(podman.detach("-u", "1234"))) == podman.outside(1234)


def test_another_user_namespace(podman: Rootless) -> None:
    script = "id -u; cat /proc/self/uid_map; stat -c %u /bin/busybox"
    uid = podman.user.entry.pw_uid
    kept = podman.sh(script, "--userns", "keep-id").split()
    assert kept[0] == str(uid)
    assert [str(uid), "0", "1"] in [kept[at : at + 3] for at in range(1, len(kept) - 1, 3)]
    mapped = podman.sh(script, "--uidmap", "0:1:500", "--gidmap", "0:1:500").split()
    assert mapped == ["0", "0", "1", "500", "0"]


def test_privileges(podman: Rootless) -> None:
    script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    flags = ["--cap-drop", "all", "--cap-add", "net_admin", "--security-opt", "no-new-privileges"]
    seen = podman.sh(script, *flags).split()
    assert seen == ["CapEff:", "0000000000001000", "NoNewPrivs:", "1", "Seccomp:", "2"]


def test_privileged(podman: Rootless) -> None:
    script = "mount -t tmpfs x /tmp && echo mounted; mknod /x c 1 3 2>/dev/null || echo no mknod"
    assert podman.sh(script, "--privileged").splitlines() == ["mounted", "no mknod"]


def test_files(podman: Rootless) -> None:
    place = f"{podman.folder}/shared"
    shared = f"{podman.machine.root}{place}"
    os.mkdir(shared)
    os.chown(shared, podman.user.entry.pw_uid, podman.user.entry.pw_gid)
    try:
        script = "touch /shared/a; chown 1000 /shared/a; grep -o '/scratch tmpfs .*' /proc/mounts"
        flags = ["--read-only", "--tmpfs", "/scratch:size=1m", "-v", f"{place}:/shared"]
        done = podman.run(*flags, "tools", "sh", "-c", f"{script}; touch /root/a")
        assert os.stat(f"{shared}/a").st_uid == podman.outside(1000)
        assert re.match(r"/scratch tmpfs rw,.*size=1024k", done.out)
        assert done.code == 1
        assert "Read-only file system" in done.err
    finally:
        shutil.rmtree(shared)


def test_network(podman: Rootless) -> None:
    """slirp4netns gives the link, and its api socket goes to nobody: the runtime only joins."""
    if not shutil.which("slirp4netns") or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs slirp4netns and /dev/net/tun")
    seen = podman.ok("run", "--rm", "--network", "slirp4netns", "tools", "ip", "-o", "-4", "addr")
    assert re.search(r"tap0 +inet 10\.0\.2\.100/24", seen)
    host = podman.ok("run", "--rm", "--network", "host", "tools", "readlink", "/proc/self/ns/net")
    assert host == os.readlink(f"{podman.machine.root}/proc/1/ns/net")


# --- terminals, exec ---


def test_terminal(podman: Rootless) -> None:
    words = ["run", "--rm", "-it", "--network", "none", "tools", "sh"]
    with podman.terminal(*words, size=(31, 112)) as session:
        session.type(b"tty; until [ \"$(stty size)\" = '31 112' ]; do sleep 0.1; done\r")
        session.expect(b"/dev/pts/0")
        session.type(b"echo it is $(stty size); exit 5\r")
        session.expect(b"it is 31 112")
        assert session.end() == 5


def test_exec(podman: Rootless) -> None:
    box = podman.detach("-e", "FROM=container")
    flags = ["-u", "1234", "-w", "/tmp", "-e", "MORE=1"]
    script = "echo $(id -u; pwd; echo $FROM $MORE); echo err >&2; exit 9"
    done = podman("exec", *flags, box, "sh", "-c", script)
    assert done == (9, "1234 /tmp container 1\n", "err\n")
    look = "for kind in user pid mnt net ipc uts; do readlink /proc/self/ns/$kind; done"
    first = f"{podman.machine.root}/proc/{podman.pid(box)}/ns"
    theirs = [
        os.readlink(f"{first}/{kind}") for kind in ("user", "pid", "mnt", "net", "ipc", "uts")
    ]
    assert podman.ok("exec", box, "sh", "-c", look).split() == theirs
    with podman.terminal("exec", "-it", box, "sh") as session:
        session.type(b"tty; exit 6\r")
        session.expect(b"/dev/pts/0")
        assert session.end() == 6


def test_exec_in_another_user_namespace(podman: Rootless) -> None:
    box = podman.detach("--uidmap", "0:1:500", "--gidmap", "0:1:500")
    seen = podman.ok("exec", box, "sh", "-c", "id -u; cat /proc/self/uid_map").split()
    assert seen == ["0", "0", "1", "500"]
    assert podman.owner(podman.pid(box)) == podman.outside(1)


# --- verbs ---


def test_stop(podman: Rootless) -> None:
    script = "trap 'echo asked; exit 21' TERM; echo up; while :; do sleep 0.1; done"
    box = podman.detach(script=script)
    podman.wait_for_log(box, "up")
    podman.ok("stop", box)
    assert podman.ok("logs", box) == "up\nasked"
    assert podman.inspect(box)["State"]["ExitCode"] == 21


def test_kill(podman: Rootless) -> None:
    script = "trap 'echo usr1' USR1; echo up; while :; do sleep 0.1; done"
    box = podman.detach("-u", "1234", script=script)
    podman.wait_for_log(box, "up")
    podman.ok("kill", "-s", "USR1", box)
    podman.wait_for_log(box, "usr1")
    podman.ok("kill", box)
    assert podman.ok("wait", box) == "137"
    assert podman.state(box) == "exited"


@needs_catatonit
def test_pod_of_two(podman: Rootless) -> None:
    podman.ok("pod", "create", "--name", "pod", "--network", "none", "--share", "net,ipc,uts")
    look = "for kind in net ipc uts mnt pid; do readlink /proc/self/ns/$kind; done"
    podman.ok("run", "-d", "--pod", "pod", "--name", "server", "tools", "sleep", "1000")
    both = podman.ok("run", "--rm", "--pod", "pod", "tools", "sh", "-c", look).split()
    servers = podman.ok("exec", "server", "sh", "-c", look).split()
    assert both[:3] == servers[:3]
    assert not set(both[3:]) & set(servers)


# --- limits, errors ---


def test_what_needs_a_cgroup(podman: Rootless) -> None:
    failed = podman.run("--pids-limit", "100", "tools", "true")
    assert failed.code in (126, 127)
    assert "cgroup" in failed.err
    box = podman.detach()
    failed = podman("pause", box)
    assert failed.code != 0
    assert "cgroup" in failed.err
    assert podman.state(box) == "running"


def test_a_cgroup_that_was_handed_down(podman: Rootless) -> None:
    folder = "/sys/fs/cgroup/theirs"
    podman.hand_down(folder)
    try:
        box = podman.detach("--cgroup-parent", "/theirs/boxes")
        pid = podman.pid(box)
        with open(f"{podman.machine.root}/proc/{pid}/cgroup") as file:
            assert f"/theirs/boxes/libpod-{box}" in file.read()
        podman.ok("pause", box)
        assert podman.state(box) == "paused"
        podman.ok("unpause", box)
        assert podman.ok("exec", box, "cat", "/proc/self/cgroup")
        podman.ok("rm", "-f", "-t", "0", box)
        assert not os.path.exists(f"{podman.machine.root}{folder}/boxes/libpod-{box}")
    finally:
        podman.clear()
        podman.take_back(folder)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("no-such-command", 127, "executable file not found"),
        ("/bin/notes", 126, "permission denied"),
    ],
)
def test_commands_that_cannot_run(podman: Rootless, command: str, code: int, reason: str) -> None:
    failed = podman.run("tools", command)
    assert failed.code == code
    assert command in failed.err
    assert reason in failed.err.lower()
