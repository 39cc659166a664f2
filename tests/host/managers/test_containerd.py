"""containerd on our runtime, through the runc shim."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from .client import NO_REASON, runc_cannot, wait_until
from .containerd import CGROUPS, lingering

if TYPE_CHECKING:
    from pathlib import Path

    from .containerd import Containerd

pytestmark = [pytest.mark.host, pytest.mark.slow]

NAMESPACES = "cgroup ipc mnt net pid uts"
LOOK = f"cd /proc/self/ns; for kind in {NAMESPACES}; do readlink $kind; done"


def test_run(containerd: Containerd) -> None:
    done = containerd.script("echo out; echo err >&2; exit 3")
    assert done == (3, "out\n", "err\n")


def test_input(containerd: Containerd) -> None:
    data = b"line\n" * 50_000
    assert containerd.script("wc -c", stdin=data).out.split() == [str(len(data))]


def test_process(containerd: Containerd) -> None:
    script = "echo $FROM $MORE; pwd; grep -E 'NoNewPrivs|CapEff' /proc/self/status"
    lines = containerd.sh(script, "--env", "MORE=1", "--cwd", "/tmp").splitlines()
    assert lines[:2] == ["image 1", "/tmp"]
    assert lines[2].split() == ["CapEff:", "00000000a80425fb"]
    assert lines[3].split() == ["NoNewPrivs:", "1"]
    flags = ["--allow-new-privs", "--cap-drop", "CAP_CHOWN", "--cap-add", "CAP_NET_ADMIN"]
    lines = containerd.sh(script, *flags).splitlines()
    assert lines[2].split() == ["CapEff:", "00000000a80435fa"]
    assert lines[3].split() == ["NoNewPrivs:", "0"]


def test_seccomp(containerd: Containerd) -> None:
    script = "grep Seccomp: /proc/self/status; unshare -U true"
    assert containerd.sh(script).split() == ["Seccomp:", "0"]
    refused = containerd.script(script, "--seccomp")
    assert refused.out.split() == ["Seccomp:", "2"]
    assert "Operation not permitted" in refused.err


def test_read_only_root_and_mounts(containerd: Containerd, tmp_path: Path) -> None:
    mounts = [
        f"type=bind,src={tmp_path},dst=/shared,options=rbind:rw",
        "type=tmpfs,src=tmpfs,dst=/scratch,options=nosuid:size=1m",
    ]
    flags = ["--read-only", *(word for mount in mounts for word in ("--mount", mount))]
    script = "echo here >/shared/file; grep -o '/scratch tmpfs .*' /proc/mounts; touch /a"
    done = containerd.script(script, *flags)
    assert (tmp_path / "file").read_text() == "here\n"
    assert re.match(r"/scratch tmpfs rw,nosuid,.*size=1024k", done.out)
    assert "Read-only file system" in done.err
    assert done.code == 1


def test_device(containerd: Containerd) -> None:
    if not os.path.exists("/dev/kmsg"):
        pytest.skip("the host has no /dev/kmsg")
    write = "mknod /node c 1 11; : >>/node"
    assert containerd.script(write, "--device", "/dev/kmsg").code == 0
    refused = containerd.script(write)
    assert refused.code == 1
    assert "Operation not permitted" in refused.err


def test_namespaces(containerd: Containerd) -> None:
    own = containerd.sh(LOOK).split()
    machines = containerd.machine("sh", "-c", LOOK).stdout.decode().split()
    # ctr 1.6 asks for a cgroup namespace only in its cri plug-in
    assert len(own) == len(machines) == len(NAMESPACES.split())
    assert not set(own[1:]) & set(machines[1:])
    containerd.detach("first")
    pid = containerd.tasks()["first"][0]
    joined = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")]
    flags = [w for kind, file in joined for w in ("--with-ns", f"{kind}:/proc/{pid}/ns/{file}")]
    script = "cd /proc/%s/ns; for kind in net ipc uts; do readlink $kind; done"
    second = containerd.script(script % "self", *flags)
    assert second.out.count(":[") == 3
    assert containerd.exec_script("first", script % "1") == (0, second.out, "")


def test_user_namespace(containerd: Containerd) -> None:
    script = "id -u; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u /bin/busybox"
    flags = ["--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"]
    seen = containerd.sh(script, *flags).split()
    assert seen == ["0", "0", "200000", "65536", "0", "300000", "65536", "0"]


def test_host_network(containerd: Containerd) -> None:
    assert containerd.sh("ls /sys/class/net") == "lo"
    script = "readlink /proc/self/ns/net"
    machines = containerd.machine("sh", "-c", script).stdout.decode()
    assert containerd.sh(script, "--net-host") == machines.rstrip()


def test_cgroup(containerd: Containerd) -> None:
    containerd.detach("first", "exec sleep 1000", "--cgroup", "/mine/first")
    members = containerd.machine("cat", "/sys/fs/cgroup/mine/first/cgroup.procs").stdout
    assert members.split() == [b"%d" % containerd.tasks()["first"][0]]
    containerd.clear()
    os.rmdir(f"{containerd.machine.root}/sys/fs/cgroup/mine")  # where it is not empty, that fails


def test_no_pivot(containerd: Containerd) -> None:
    # containerd's own folder is on the machine and must not be seen
    script = "ls -d /bin; test ! -e /run/containerd-root"
    assert containerd.sh(script, "--no-pivot") == "/bin"


def test_configuration_of_the_user(containerd: Containerd, archive: str, tmp_path: Path) -> None:
    script = "hostname; cat /proc/self/oom_score_adj; umask"
    config = json.loads(containerd.ok("oci", "spec"))
    config["process"]["args"] = ["sh", "-c", lingering(script)]
    config["process"]["env"] = ["PATH=/bin"]
    config["process"]["oomScoreAdj"] = 77
    config["process"]["user"]["umask"] = 0o27
    config["hostname"] = "spelt"
    config["linux"]["resources"].pop("cpu", None)
    config["linux"]["cgroupsPath"] = "/default/spelt"
    shutil.copytree(f"{os.path.dirname(archive)}/rootfs", tmp_path / "rootfs", symlinks=True)
    config["root"] = {"path": str(tmp_path / "rootfs")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = ["--rm", "--runc-binary", containerd.runtime, "--config", f"{tmp_path}/config.json"]
    assert containerd.ok("run", *words, "spelt").split() == ["spelt", "77", "0027"]


# --- terminals ---


def test_terminal(containerd: Containerd) -> None:
    with containerd.terminal(containerd.image, "box", "sh", size=(31, 112)) as session:
        session.type(b"tty; until [ \"$(stty size)\" = '31 112' ]; do sleep 0.1; done\r")
        session.expect(b"/dev/pts/0")
        session.type(b"echo it is $(stty size)\r")
        session.expect(b"it is 31 112")
        session.type(b"exit 5\r")
        assert session.end() == 5


def test_exec_terminal(containerd: Containerd) -> None:
    containerd.detach("box")
    words = ["task", "exec", "-t", "--exec-id", "shell", "box", "sh"]
    with containerd.terminal(*words, size=(31, 112)) as session:
        session.type(b"tty\r")
        session.expect(b"/dev/pts/0")
        for size in ((31, 112), (25, 81)):
            session.resize(*size)
            session.type(b"until [ \"$(stty size)\" = '%d %d' ]; do sleep 0.1; done\r" % size)
            session.type(b"echo it is $(stty size)\r")
            session.expect(b"it is %d %d" % size)
        session.type(b"exit 6\r")
        assert session.end() == 6


# --- tasks ---


def test_exec(containerd: Containerd) -> None:
    containerd.detach("box")
    script = "echo out; echo err >&2; id -u; pwd; exit 4"
    done = containerd.exec_script("box", script, "--user", "1234", "--cwd", "/tmp")
    assert done == (4, "out\n1234\n/tmp\n", "err\n")
    # one process of the task after the other
    assert containerd.exec("box", "false").code == 1


def test_exec_fails(containerd: Containerd) -> None:
    containerd.detach("box")
    missing = containerd.exec("box", "no-such-command")
    assert missing.code == 1
    assert NO_REASON not in missing.err
    assert "no-such-command" in missing.err
    assert "executable file not found" in missing.err
    assert containerd.exec("box", "true").code == 0


def test_pause_and_resume(containerd: Containerd) -> None:
    containerd.detach("box", "n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.02; done")
    root = f"{containerd.machine.root}/proc/{containerd.tasks()['box'][0]}/root"
    wait_until(lambda: os.path.exists(f"{root}/count"), "its first count")
    containerd.ok("task", "pause", "box")
    assert containerd.tasks()["box"][1] == "PAUSED"

    def counted() -> str:
        with open(f"{root}/count") as file:
            return file.read()

    first = counted()
    time.sleep(0.2)
    assert counted() == first
    containerd.ok("task", "resume", "box")
    assert containerd.tasks()["box"][1] == "RUNNING"
    wait_until(lambda: counted() not in ("", first), "it goes on")


def test_kill(containerd: Containerd) -> None:
    trap = "trap 'echo $0 >>/got' USR1; echo $0 >>/up; while :; do sleep 0.05; done"
    containerd.detach("box", f'f="{trap}"; sh -c "$f" second & sh -c "$f" third & wait; wait; wait')

    def has(file: str, lines: int) -> bool:
        return len(containerd.exec("box", "cat", file).out.split()) == lines

    wait_until(lambda: has("/up", 2), "both are up")
    containerd.ok("task", "kill", "-s", "TERM", "box")  # process 1 has no handler: ignored
    assert containerd.tasks()["box"][1] == "RUNNING"
    containerd.ok("task", "kill", "--all", "-s", "USR1", "box")
    wait_until(lambda: has("/got", 2), "both got the signal")
    containerd.ok("task", "kill", "-s", "KILL", "box")
    containerd.wait_for_state("box", "STOPPED")
    assert "exit code 137" in containerd.remove("box").err


def test_kill_all_where_the_pid_namespace_is_the_hosts(containerd: Containerd) -> None:
    flags = ["--with-ns", "pid:/proc/1/ns/pid"]
    containerd.detach("box", "sleep 1001 & sleep 1002 & exec sleep 1003", *flags)

    def sleeping() -> int:
        return containerd.machine("ps", "-eo", "args").stdout.count(b"\nsleep 100")

    wait_until(lambda: sleeping() == 3, "all three")
    containerd.ok("task", "kill", "--all", "-s", "KILL", "box")
    wait_until(lambda: sleeping() == 0, "their end")
    containerd.wait_for_state("box", "STOPPED")


def test_processes(containerd: Containerd) -> None:
    containerd.detach("box", "sleep 1001 & exec sleep 1002")
    cgroup = f"{CGROUPS}/box/cgroup.procs"
    wait_until(lambda: len(containerd.machine("cat", cgroup).stdout.split()) == 2, "two")
    listed = [line.split()[0] for line in containerd.ok("task", "ps", "box").splitlines()[1:]]
    assert sorted(listed) == sorted(containerd.machine("cat", cgroup).stdout.decode().split())
    assert str(containerd.tasks()["box"][0]) in listed


def test_metrics(containerd: Containerd) -> None:
    containerd.detach("box")
    assert re.search(r"^cpu.usage_usec\s+\d+", containerd.ok("task", "metrics", "box"), re.M)


def test_deleting_a_running_task(containerd: Containerd) -> None:
    containerd.detach("box")
    assert containerd("task", "delete", "box").code != 0
    assert containerd.tasks()["box"][1] == "RUNNING"
    containerd.ok("task", "delete", "--force", "box")
    assert containerd.tasks() == {}


@pytest.mark.slow
def test_restart_of_containerd(containerd: Containerd) -> None:
    containerd.detach("stays")
    containerd.detach("ends", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 9")
    before = containerd.tasks()
    end = f"{containerd.machine.root}/proc/{before['ends'][0]}/root/tmp/end"
    containerd.stop()
    try:
        with open(end, "w"):
            pass
        wait_until(
            lambda: not os.path.exists(f"{containerd.machine.root}/proc/{before['ends'][0]}"),
            "its end while nobody is there",
        )
    finally:
        containerd.start()
    assert containerd.tasks()["stays"] == before["stays"]
    assert containerd.exec_script("stays", "echo here") == (0, "here\n", "")
    containerd.wait_for_state("ends", "STOPPED")
    assert "exit code 9" in containerd.remove("ends").err
    containerd.ok("task", "kill", "-s", "KILL", "stays")
    containerd.wait_for_state("stays", "STOPPED")
    assert "exit code 137" in containerd.remove("stays").err


# --- errors ---


def test_command_not_found(containerd: Containerd) -> None:
    missing = containerd.run("box", ["no-such-command"])
    assert missing.code == 1
    assert "OCI runtime create failed" in missing.err or "OCI runtime start failed" in missing.err
    assert "no-such-command" in missing.err
    assert "executable file not found" in missing.err
    refused = containerd.run("box", ["/bin/notes"])
    assert "/bin/notes" in refused.err
    assert "permission denied" in refused.err


def test_a_reason_reaches_the_user(containerd: Containerd) -> None:
    mount = "type=nonsense,src=none,dst=/there,options=rw"
    failed = containerd.run("box", ["true"], "--mount", mount)
    assert failed.code == 1
    assert "OCI runtime create failed" in failed.err
    assert NO_REASON not in failed.err
    assert "/there" in failed.err
    assert "no such device" in failed.err  # mount(2): the file system type is not known


def test_a_limit_without_its_controller_is_refused(containerd: Containerd) -> None:
    with open(f"{containerd.machine.root}/sys/fs/cgroup/cgroup.controllers") as file:
        if "cpu" in file.read().split():
            pytest.skip("this machine has a cpu controller")
    words = ["--rm", "--runc-binary", containerd.runtime, "--cpu-shares", "512"]
    refused = containerd("run", *words, containerd.image, "box", "true")
    assert refused.code == 1
    assert "cpu" in refused.err


@runc_cannot("it tries, and criu's reason is not in its answer")
def test_checkpoint_is_refused(containerd: Containerd) -> None:
    containerd.detach("box")
    refused = containerd("task", "checkpoint", "box")
    assert refused.code == 1
    # the first line of what the runtime wrote to its standard error
    assert re.search(r"exit status \d+: .*checkpoint", refused.err), refused
    assert containerd.exec_script("box", "echo alive") == (0, "alive\n", "")
