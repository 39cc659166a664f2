"""podman on our runtime: conmon starts it, and is the parent of its containers."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from .client import wait_until
from .podman import needs_catatonit

if TYPE_CHECKING:
    from pathlib import Path

    from .podman import Podman

pytestmark = [pytest.mark.host, pytest.mark.slow]


def test_the_runtime_is_ours(podman: Podman) -> None:
    box = podman.detach()
    assert podman.inspect(box)["OCIRuntime"] == podman.runtime


def test_run(podman: Podman) -> None:
    done = podman.run("tools", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert done == (42, "out\n", "err\n")
    data = b"line\n" * 50_000
    assert podman.run("-i", "tools", "wc", "-c", stdin=data).out.split() == [str(len(data))]


def test_process(podman: Podman) -> None:
    flags = ["-u", "1234:37", "-w", "/tmp", "-e", "MORE=1", "--hostname", "box", "--umask", "027"]
    script = "echo $(id -u; id -g; pwd; echo $MORE; hostname; umask)"
    assert podman.sh(script, *flags) == "1234 37 /tmp 1 box 0027"


def test_privileges(podman: Podman) -> None:
    script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    flags = ["--cap-drop", "all", "--cap-add", "net_admin", "--security-opt", "no-new-privileges"]
    seen = podman.sh(script, *flags).split()
    assert seen == ["CapEff:", "0000000000001000", "NoNewPrivs:", "1", "Seccomp:", "2"]
    free = podman.sh(script, "--security-opt", "seccomp=unconfined").split()
    assert free[2:] == ["NoNewPrivs:", "0", "Seccomp:", "0"]


def test_files(podman: Podman, tmp_path: Path) -> None:
    script = "echo kept >/shared/file; grep -o '/scratch tmpfs .*' /proc/mounts; touch /root/a"
    flags = ["--read-only", "--tmpfs", "/scratch:size=1m", "-v", f"{tmp_path}:/shared"]
    done = podman.run(*flags, "tools", "sh", "-c", script)
    assert (tmp_path / "file").read_text() == "kept\n"
    assert re.match(r"/scratch tmpfs rw,.*size=1024k", done.out)
    assert done.code == 1
    assert "Read-only file system" in done.err


def test_user_namespace(podman: Podman) -> None:
    script = "id -u; cat /proc/self/uid_map; stat -c %u /bin/busybox"
    flags = ["--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"]
    assert podman.sh(script, *flags).split() == ["0", "0", "200000", "65536", "0"]


def test_network(podman: Podman) -> None:
    # podman makes the namespace and its links; the runtime joins it by its path
    seen = podman.ok("run", "--rm", "tools", "ip", "-o", "-4", "addr", "show", "eth0")
    assert re.search(r"inet 10\.88\.\d+\.\d+/16", seen)


@needs_catatonit
def test_init(podman: Podman) -> None:
    assert podman.sh("cat /proc/1/comm", "--init") in ("catatonit", "podman-init")


# --- terminals, exec ---


def test_terminal(podman: Podman) -> None:
    words = ["run", "--rm", "-it", "--network", "none", "tools", "sh"]
    with podman.terminal(*words, size=(31, 112)) as session:
        session.type(b"tty; until [ \"$(stty size)\" = '31 112' ]; do sleep 0.1; done\r")
        session.expect(b"/dev/pts/0")
        session.type(b"echo it is $(stty size); exit 5\r")
        session.expect(b"it is 31 112")
        assert session.end() == 5


def test_exec(podman: Podman) -> None:
    box = podman.detach("-e", "FROM=container")
    flags = ["-u", "1234", "-w", "/tmp", "-e", "MORE=1"]
    script = "echo $(id -u; pwd; echo $FROM $MORE); echo err >&2; exit 9"
    done = podman("exec", *flags, box, "sh", "-c", script)
    assert done == (9, "1234 /tmp container 1\n", "err\n")
    assert podman.ok("exec", "-i", box, "wc", "-c", stdin=b"x" * 100_000) == "100000"


def test_exec_terminal(podman: Podman) -> None:
    box = podman.detach()
    with podman.terminal("exec", "-it", box, "sh", size=(31, 112)) as session:
        session.type(b"tty; until [ \"$(stty size)\" = '31 112' ]; do sleep 0.1; done; exit 6\r")
        session.expect(b"/dev/pts/0")
        assert session.end() == 6


# --- verbs ---


def test_stop(podman: Podman) -> None:
    script = "trap 'echo asked; exit 21' TERM; echo up; while :; do sleep 0.1; done"
    box = podman.detach(script=script)
    podman.wait_for_log(box, "up")
    podman.ok("stop", box)
    assert podman.ok("logs", box) == "up\nasked"
    assert podman.inspect(box)["State"]["ExitCode"] == 21


def test_kill(podman: Podman) -> None:
    script = "trap 'echo usr1' USR1; echo up; while :; do sleep 0.1; done"
    box = podman.detach(script=script)
    podman.wait_for_log(box, "up")
    podman.ok("kill", "-s", "USR1", box)
    podman.wait_for_log(box, "usr1")
    podman.ok("kill", box)
    assert podman.ok("wait", box) == "137"
    assert podman.state(box) == "exited"


def test_pause(podman: Podman) -> None:
    box = podman.detach(script="n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.02; done")
    root = f"{podman.machine.root}/proc/{podman.inspect(box)['State']['Pid']}/root"

    def counted() -> str:
        with open(f"{root}/count") as file:
            return file.read()

    wait_until(lambda: os.path.exists(f"{root}/count"), "its first count")
    podman.ok("pause", box)
    assert podman.state(box) == "paused"
    first = counted()
    time.sleep(0.2)
    assert counted() == first
    podman.ok("unpause", box)
    wait_until(lambda: counted() not in ("", first), "it goes on")


def test_restart(podman: Podman) -> None:
    box = podman.detach(script="echo again; exec sleep 1000")
    podman.wait_for_log(box, "again")
    before = podman.inspect(box)["State"]["Pid"]
    podman.ok("restart", "-t", "0", box)
    podman.wait_for_log(box, "again\nagain")
    state = podman.inspect(box)["State"]
    assert state["Status"] == "running"
    assert state["Pid"] != before


def test_listings(podman: Podman) -> None:
    box = podman.detach("--name", "listed", script="sleep 1001 & exec sleep 1002")
    assert podman.ok("ps", "--format", "{{.Names}} {{.Status}}").startswith("listed Up ")
    wait_until(lambda: podman.ok("top", box, "args").count("sleep") == 2, "two processes")


def test_conmon_is_the_parent(podman: Podman) -> None:
    # the runtime that created it is gone: what is left belongs to the nearest subreaper
    pid = podman.inspect(podman.detach())["State"]["Pid"]
    parent = podman.machine("ps", "-o", "ppid=", "-p", str(pid)).stdout.decode().strip()
    assert podman.machine("ps", "-o", "comm=", "-p", parent).stdout == b"conmon\n"


@needs_catatonit
def test_pod_of_two(podman: Podman) -> None:
    # without --share-parent=false, podman 4.3 forbids all devices in the pod's cgroup
    podman.ok("pod", "create", "--name", "pod", "--share", "net,ipc,uts", "--share-parent=false")
    look = "for kind in net ipc uts mnt pid; do readlink /proc/self/ns/$kind; done"
    serve = ["-d", "--pod", "pod", "--name", "server", "tools"]
    podman.ok("run", *serve, "sh", "-c", "echo served >/index.html; exec httpd -f -p 80 -h /")
    both = podman.ok("run", "--rm", "--pod", "pod", "tools", "sh", "-c", look).split()
    servers = podman.ok("exec", "server", "sh", "-c", look).split()
    assert both[:3] == servers[:3]
    assert not set(both[3:]) & set(servers)
    fetch = ["run", "--rm", "--pod", "pod", "tools", "wget", "-q", "-O", "-", "http://127.0.0.1/"]
    wait_until(lambda: podman(*fetch).out == "served\n", "an answer over the pod's loopback")


# --- errors ---


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("no-such-command", 127, "executable file not found"),
        ("/no/such/command", 127, "no such file or directory"),
        ("/bin/notes", 126, "permission denied"),
    ],
)
def test_commands_that_cannot_run(podman: Podman, command: str, code: int, reason: str) -> None:
    failed = podman.run("tools", command)
    assert failed.code == code
    assert command in failed.err
    assert reason in failed.err.lower()
    box = podman.detach()
    failed = podman("exec", box, command)
    assert failed.code == code
    assert command in failed.err
    assert reason in failed.err.lower()


def test_a_reason_reaches_the_user(podman: Podman) -> None:
    failed = podman.run("--sysctl", "net.ipv4.no_such_setting=1", "tools", "true")
    assert failed.code in (126, 127)
    assert podman.runtime in failed.err
    assert "no_such_setting" in failed.err
