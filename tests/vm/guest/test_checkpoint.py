"""Checkpoint and restore with criu, which the kernel of the host may be too new for."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from oci.bundle import (
    FOREVER,
    PATIENCE,
    Running,
    Terminal,
    bind,
    field,
    mount,
    namespace,
    reap,
    table,
    wait_until,
)

from .control_files import MIB, group_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.bundle import Bundle, Result

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(not shutil.which("criu"), reason="needs criu"),
]

COUNT = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"


SLOW_COUNT = """
import time
n = 0
while True:
    n += 1
    print(step(n) if "step" in globals() else n, flush=True)
    time.sleep(0.05)
"""


def up_python(bundle: Bundle, script: str) -> int:
    """Start a script of the host's Python."""
    for name in ("lib", "lib64"):
        os.symlink(f"usr/{name}", f"{bundle.rootfs}/{name}")
    bundle.mounts.append(bind("/usr", "/usr", "ro"))
    return bundle.up("/usr/bin/python3", "-ISc", script)


@pytest.fixture
def images(place: str) -> str:
    """A folder on the machine's disk for image files, not made yet."""
    return f"{place}/images"


def dump(bundle: Bundle, images: str, *flags: str, ok: bool = True) -> Result:
    return bundle.call("checkpoint", "--image-path", images, *flags, bundle.id, ok=ok)


def restore(bundle: Bundle, images: str, *flags: str, ok: bool = True, **how: Any) -> Result:
    bundle.write()
    words = ("--detach", "--bundle", bundle.folder, "--pid-file", f"{bundle.folder}/pid")
    return bundle.leave("restore", "--image-path", images, *words, *flags, bundle.id, ok=ok, **how)


def numbers(bundle: Bundle) -> list[int]:
    """What a counter has written, in one or several lives."""
    return [int(line) for line in bundle.output().split("\n")[:-1] if line.isdecimal()]


def counts_on(bundle: Bundle) -> None:
    """Wait for more numbers; none is missing, and none comes twice."""
    seen = len(numbers(bundle))
    wait_until(lambda: len(numbers(bundle)) > seen + 2)
    found = numbers(bundle)
    assert found == [*range(1, len(found) + 1)]


def ended(bundle: Bundle) -> None:
    """Our part after a dump: its processes were our children, or have become it."""
    reap(bundle.pid)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


# ---------------------------------------------------------------------------------------- its state


def test_a_counter_goes_on_where_it_was(bundle: Bundle, images: str) -> None:
    before = bundle.up_sh(COUNT)
    counts_on(bundle)
    for number in range(2):
        dump(bundle, f"{images}{number}")
        ended(bundle)
        assert not bundle.exists()
        assert not os.path.exists(f"/sys/fs/cgroup/pycontain-runtime/{bundle.id}")
        seen = numbers(bundle)
        restore(bundle, f"{images}{number}")
        counts_on(bundle)
        assert len(numbers(bundle)) > len(seen)
    state = bundle.state()
    assert state["status"] == "running"
    assert state["pid"] == bundle.pid != before
    group = group_of(bundle)
    assert group.path == f"/pycontain-runtime/{bundle.id}"
    assert group.words("cgroup.procs") >= {str(bundle.pid)}
    assert bundle.exec("cat", "/proc/1/comm").stdout == "sh\n"
    bundle.kill("KILL")
    assert bundle.ended() == -9
    wait_until(lambda: bundle.status == "stopped")
    bundle.delete()


def test_what_it_is_stays_the_same(bundle: Bundle, images: str) -> None:
    """Privileges, namespaces, mounts, limits of its processes."""
    bundle.config["root"]["readonly"] = True
    bundle.process["noNewPrivileges"] = True
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    bundle.process["oomScoreAdj"] = 100
    bundle.process["user"] = {"uid": 7, "gid": 8, "umask": 0o27, "additionalGids": [9]}
    bundle.linux["maskedPaths"] = ["/proc/kcore", "/sys/firmware"]
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    bundle.add_namespace("cgroup")
    bundle.mounts.append(mount("cgroup", "/sys/fs/cgroup", "cgroup", "ro", "nosuid"))
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11}],
    }
    bundle.up_sh("while :; do sleep 0.1; done")
    before = look(bundle)
    dump(bundle, images)
    ended(bundle)
    restore(bundle, images)
    after = look(bundle)
    changed = {*before.pop("mounts")} ^ {*after.pop("mounts")}
    assert changed == set()
    assert after == before


FIELDS = (
    "Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
    "Seccomp", "Seccomp_filters", "NSpid",
)  # fmt: skip


def look(bundle: Bundle) -> dict[str, Any]:
    pid = bundle.pid
    found: dict[str, Any] = {name: field(pid, name) for name in FIELDS}
    found["NSpid"] = found["NSpid"].split()[1:]
    for name in ("limits", "oom_score_adj", "cgroup"):
        with open(f"/proc/{pid}/{name}") as file:
            found[name] = file.read()
    kinds = ("ipc", "mnt", "net", "pid", "uts", "cgroup", "user")
    found["own"] = [kind for kind in kinds if namespace(pid, kind) != namespace("self", kind)]
    with open(f"/proc/{pid}/mountinfo") as file:
        found["mounts"] = sorted(
            (entry["point"], entry["type"], entry["options"], entry["super"])
            for entry in table(file.read())
        )
    script = "hostname; cat /proc/self/cgroup; ls /dev /sys/fs/cgroup; ls -ln /proc/kcore"
    found["inside"] = bundle.exec("sh", "-c", script).stdout
    return found


def test_limits_are_those_of_the_configuration(bundle: Bundle, images: str) -> None:
    bundle.linux["resources"] = {
        "memory": {"limit": 64 * MIB}, "pids": {"limit": 30},
        "devices": [{"allow": False, "access": "rwm"}],
    }  # fmt: skip
    bundle.up_sh("dd if=/dev/zero of=/dev/shm/full bs=1M count=20 2>/dev/null;" + COUNT)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    bundle.linux["resources"]["pids"]["limit"] = 31
    restore(bundle, images)
    counts_on(bundle)
    group = group_of(bundle)
    assert group.number("memory.max") == 64 * MIB
    assert group.number("pids.max") == 31
    # What it had is charged to it again.
    assert group.number("memory.current") > 20 * MIB
    bundle.exec("mknod", "/dev/loop", "b", "7", "0")
    done = bundle.exec("dd", "if=/dev/loop", "count=1", ok=False)
    assert "Operation not permitted" in done.stderr


def test_cgroups_of_its_own(bundle: Bundle, images: str) -> None:
    """Those below the container's are made again with who was in them."""
    bundle.add_namespace("cgroup")
    bundle.mounts.append(mount("cgroup", "/sys/fs/cgroup", "cgroup", "nosuid"))
    bundle.up_sh(f"mkdir /sys/fs/cgroup/a; echo 1 >/sys/fs/cgroup/a/cgroup.procs; {COUNT}")
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    restore(bundle, images)
    counts_on(bundle)
    path = f"/pycontain-runtime/{bundle.id}/a"
    assert group_of(bundle).path == path
    assert bundle.exec("cat", "/proc/1/cgroup").stdout == "0::/a\n"


@pytest.mark.parametrize("mode", ["soft", "ignore", "full", "strict"])
def test_cgroup_modes(bundle: Bundle, images: str, mode: str) -> None:
    bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images, "--manage-cgroups-mode", mode)
    ended(bundle)
    done = restore(bundle, images, "--manage-cgroups-mode", mode, ok=mode != "strict")
    if mode == "strict":
        # It refuses cgroups that are there, and ours has to be, for its limits.
        assert done.returncode == 1
        assert "cg" in done.stderr
        return
    counts_on(bundle)
    assert group_of(bundle).path == f"/pycontain-runtime/{bundle.id}"


def test_another_name(bundle: Bundle, images: str) -> None:
    """Another id has another cgroup."""
    bundle.add_namespace("cgroup")
    bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    bundle.id += "-again"
    restore(bundle, images)
    counts_on(bundle)
    assert group_of(bundle).path == f"/pycontain-runtime/{bundle.id}"
    assert bundle.exec("cat", "/proc/self/cgroup").stdout == "0::/\n"


# --------------------------------------------------------------------------------------- its mounts


def test_binds(bundle: Bundle, images: str) -> None:
    folder = bundle.make("data")
    bundle.make("data/below")
    file = bundle.make("file", "first\n")
    bundle.mounts += [
        bind(folder, "/data"), bind(folder, "/mnt/a b", "ro", "nosuid"), bind(file, "/etc/file"),
        bind(folder, "/dev/data"),
    ]  # fmt: skip
    script = "n=0; while :; do n=$((n+1)); echo $n >>/data/count; echo $n; sleep 0.05; done"
    bundle.up_sh(script)
    counts_on(bundle)
    before = look(bundle)["mounts"]
    dump(bundle, images)
    ended(bundle)
    restore(bundle, images)
    counts_on(bundle)
    assert look(bundle)["mounts"] == before
    with open(f"{folder}/count") as lines:
        found = [int(line) for line in lines]
    assert found == [*range(1, len(found) + 1)]
    assert bundle.exec("cat", "/etc/file").stdout == "first\n"
    assert "Read-only" in bundle.exec("touch", "/mnt/a b/x", ok=False).stderr


def test_a_bind_with_mounts_below(bundle: Bundle, images: str) -> None:
    folder = bundle.make("data")
    below = bundle.make("data/below")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        bundle.make("data/below/file", "there\n")
        bundle.mounts.append(bind(folder, "/data", "rbind"))
        bundle.up_sh(COUNT)
        counts_on(bundle)
        dump(bundle, images)
        ended(bundle)
        restore(bundle, images)
        counts_on(bundle)
        assert bundle.exec("cat", "/data/below/file").stdout == "there\n"
        bundle.delete("--force")
    finally:
        subprocess.run(["umount", below], check=True)


def test_another_bundle(bundle: Bundle, images: str) -> None:
    """With another copy of the root file system, in which mount points are missing."""
    folder = bundle.make("data")
    bundle.mounts.append(bind(folder, "/new/place"))
    bundle.up_sh("echo kept >/dev/shm/file;" + COUNT)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    other = bundle.another()
    other.id, other.log, other.config = bundle.id, bundle.log, bundle.config
    bundle.id = "none"
    assert not os.path.exists(f"{other.rootfs}/new")
    restore(other, images)
    counts_on(other)
    assert other.state()["bundle"] == other.folder
    assert other.exec("cat", "/dev/shm/file").stdout == "kept\n"
    other.exec("touch", "/new/place/x")
    assert os.listdir(folder) == ["x"]
    other.delete("--force")


# -------------------------------------------------------------------------------- how it is written


def test_leave_running_and_again(bundle: Bundle, images: str) -> None:
    pid = bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images, "--leave-running")
    assert bundle.status == "running"
    counts_on(bundle)
    assert bundle.state()["pid"] == pid
    bundle.kill("KILL")
    reap(pid)
    bundle.delete()
    # It goes back to where it was: numbers come twice.
    seen = numbers(bundle)
    restore(bundle, images)
    wait_until(lambda: len(numbers(bundle)) > len(seen) + 2)
    found = numbers(bundle)
    assert found[len(seen)] != 1
    assert found[len(seen)] <= seen[-1]


def test_paused(bundle: Bundle, images: str) -> None:
    bundle.up_sh(COUNT)
    counts_on(bundle)
    bundle.call("pause", bundle.id)
    dump(bundle, images, "--leave-running")
    assert bundle.status == "paused"
    dump(bundle, f"{images}2")
    ended(bundle)
    restore(bundle, f"{images}2")
    assert bundle.status == "running"
    counts_on(bundle)


def test_memory_first(bundle: Bundle, images: str) -> None:
    """Two dumps of memory while it runs, then the rest."""
    bundle.up_sh("x=$(head -c 3000000 /dev/zero | tr '\\0' x);" + COUNT)
    counts_on(bundle)
    os.mkdir(images)
    dump(bundle, f"{images}/1", "--pre-dump")
    assert bundle.status == "running"
    dump(bundle, f"{images}/2", "--pre-dump", "--parent-path", "../1")
    counts_on(bundle)
    dump(bundle, f"{images}/3", "--parent-path", "../2", "--auto-dedup")
    ended(bundle)

    def pages(name: str) -> int:
        folder = f"{images}/{name}"
        files = [f"{folder}/{file}" for file in os.listdir(folder) if file.startswith("pages-")]
        return sum(os.path.getsize(file) for file in files)

    assert pages("1") > 3_000_000
    assert pages("3") < 1_000_000
    restore(bundle, f"{images}/3")
    counts_on(bundle)


def test_pipes_and_the_log_elsewhere(bundle: Bundle, images: str, place: str) -> None:
    """The ends of pipes are those that the restore has."""
    with Running(["sh", "-c", "exec cat"], stdin=subprocess.PIPE) as first:
        assert first.process.stdin
        bundle.up_sh(COUNT, stdout=first.process.stdin)
        first.process.stdin.close()
        assert [first.line(), first.line()] == ["1", "2"]
        dump(bundle, images, "--work-path", f"{place}/work")
        ended(bundle)
        rest = first.rest().split()
    assert "dump.log" not in os.listdir(images)
    assert os.listdir(f"{place}/work") != []
    with Running(["sh", "-c", "exec cat"], stdin=subprocess.PIPE) as second:
        assert second.process.stdin
        restore(bundle, images, "--work-path", f"{place}/work", stdout=second.process.stdin)
        second.process.stdin.close()
        assert int(second.line()) == int(rest[-1] if rest else 2) + 1
    assert "restore.log" in os.listdir(f"{place}/work")


def test_in_the_foreground(bundle: Bundle, images: str) -> None:
    bundle.up("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")
    bundle.until("up")
    dump(bundle, images)
    ended(bundle)
    argv = bundle.argv("restore", "--image-path", images, "--bundle", bundle.folder, bundle.id)
    # A file again, as at its creation: it goes on behind what it has written.
    with open(bundle.log, "ab") as file, Running(argv, stdout=file) as going:
        wait_until(lambda: bundle.exists() and bundle.status == "running")
        going.send(15)
        assert going.wait() == 7
    assert not bundle.exists()


def test_hooks(bundle: Bundle, images: str) -> None:
    """Those of the runtime's namespaces run at the restore, and poststop at each end."""
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    told = bundle.make("told", "")
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} $(cat) >>{told}"]}]
        for kind in kinds
        if kind != "createContainer"
    }
    bundle.up_sh(COUNT)
    dump(bundle, images)
    ended(bundle)
    restore(bundle, images)
    counts_on(bundle)
    with open(told) as lines:
        found = [line.split(" ", 1) for line in lines]
    names = [name for name, _ in found]
    assert names == ["prestart", "createRuntime", "poststart", "poststop",
                     "prestart", "createRuntime", "poststart"]  # fmt: skip
    states = [json.loads(text) for _, text in found[4:]]
    assert [state["status"] for state in states] == ["creating", "creating", "running"]
    assert {state["pid"] for state in states} == {bundle.pid}


def test_a_hook_fails(bundle: Bundle, images: str) -> None:
    bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    said = restore(bundle, images, ok=False)
    assert said.returncode == 1
    assert "hook /bin/false" in said.stderr
    assert not bundle.exists()
    del bundle.config["hooks"]
    restore(bundle, images)
    counts_on(bundle)


# ------------------------------------------------------------------------- namespaces and terminals


@pytest.fixture
def network() -> Iterator[str]:
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as other:
        wait_until(lambda: namespace(other.pid, "net") != namespace("self", "net"))
        yield f"/proc/{other.pid}/ns/net"
        other.kill()


def test_a_network_that_is_somebody_elses(bundle: Bundle, images: str, network: str) -> None:
    bundle.namespaces("pid", "ipc", "uts", "mount", network=network)
    bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    restore(bundle, images)
    counts_on(bundle)
    assert os.stat(f"/proc/{bundle.pid}/ns/net").st_ino == os.stat(network).st_ino


def test_the_hosts_network_and_processes(bundle: Bundle, images: str) -> None:
    bundle.namespaces("mount", "uts", "ipc")
    bundle.mounts = [entry for entry in bundle.mounts if entry["destination"] != "/sys"]
    pid = bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)
    restore(bundle, images)
    counts_on(bundle)
    assert bundle.pid == pid


def test_a_user_namespace_is_refused(bundle: Bundle, images: str) -> None:
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = ids
    bundle.add_namespace("user")
    bundle.up_sh(COUNT)
    done = dump(bundle, images, ok=False)
    assert done.returncode == 1
    assert "checkpoint: user namespace: criu" in done.stderr
    assert not os.path.exists(images)
    counts_on(bundle)


def test_a_terminal(bundle: Bundle, images: str) -> None:
    bundle.process["terminal"] = True
    script = "read a; echo 1:$a; read b; echo $a+$b; sleep 1000"
    with Terminal(bundle) as terminal:
        bundle.process["args"] = ["sh", "-c", script]
        bundle.create("--console-socket", terminal.path)
        terminal.accept()
        bundle.start()
        terminal.write("first\n")
        terminal.until("1:first")
        dump(bundle, images)
        ended(bundle)
    with Terminal(bundle) as terminal:
        restore(bundle, images, "--console-socket", terminal.path)
        terminal.accept()
        terminal.write("second\n")
        terminal.until("first+second")


# ------------------------------------------------------------------------------------------ sockets

_PAIR = """
import socket
server = socket.create_server(("127.0.0.1", 80))
client = socket.create_connection(("127.0.0.1", 80))
"""


def test_connections(bundle: Bundle, images: str) -> None:
    accept = "peer, _ = server.accept()\ndef step(n):\n"
    echo = " client.send(b'%d ' % n); return int(peer.recv(10))\n"
    up_python(bundle, _PAIR + accept + echo + SLOW_COUNT)
    counts_on(bundle)
    done = dump(bundle, images, ok=False)
    assert done.returncode == 1
    assert "tcp-established" in done.stderr
    counts_on(bundle)
    dump(bundle, images, "--tcp-established")
    ended(bundle)
    restore(bundle, images, "--tcp-established")
    counts_on(bundle)


def test_connections_that_nobody_has_accepted(bundle: Bundle, images: str) -> None:
    up_python(bundle, _PAIR + "client.close()\n" + SLOW_COUNT)
    counts_on(bundle)
    done = dump(bundle, images, "--tcp-established", ok=False)
    assert done.returncode == 1
    assert "In-flight connection" in done.stderr
    dump(bundle, images, "--tcp-established", "--tcp-skip-in-flight")
    ended(bundle)
    restore(bundle, images, "--tcp-established")
    counts_on(bundle)


def test_a_socket_of_the_hosts(bundle: Bundle, images: str) -> None:
    # criu sees the other end in the same network namespace only, and looks for it by its name.
    bundle.namespaces("pid", "ipc", "uts", "mount")
    folder = bundle.make("sockets")
    bundle.mounts.append(bind(folder, folder))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(f"{folder}/s")
        ours.settimeout(PATIENCE)
        script = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        # Our queue is short, and we do not read all the time.
        script += f"s.connect('{folder}/s'); s.setblocking(False)\ndef step(n):\n"
        script += " try: s.send(b'%d' % n)\n except BlockingIOError: pass\n return n\n"
        up_python(bundle, script + SLOW_COUNT)
        counts_on(bundle)
        assert ours.recv(10) == b"1"
        assert "unix" in dump(bundle, images, ok=False).stderr
        counts_on(bundle)
        dump(bundle, images, "--ext-unix-sk")
        ended(bundle)
        last = numbers(bundle)[-1]
        restore(bundle, images, "--ext-unix-sk")
        wait_until(lambda: int(ours.recv(10)) > last)
        counts_on(bundle)


def test_an_empty_network(bundle: Bundle, images: str) -> None:
    """Its interfaces are somebody else's to make: here nobody brings the loopback up."""
    bundle.up_sh(COUNT)
    counts_on(bundle)
    for number, flags in enumerate([[], ["--empty-ns", "network"]]):
        dump(bundle, f"{images}{number}", *flags)
        ended(bundle)
        restore(bundle, f"{images}{number}", *flags)
        counts_on(bundle)
        up = "UP" in bundle.exec("ip", "link", "show", "dev", "lo").stdout
        assert up == (not flags)


# ----------------------------------------------------------------------------------- what cannot be


def test_a_failed_dump_leaves_it_running(bundle: Bundle, images: str) -> None:
    """A lock on a file is not written without --file-locks."""
    script = "import fcntl; f = open('/tmp/lock', 'w'); fcntl.flock(f, 2)\n" + SLOW_COUNT
    pid = up_python(bundle, script)
    counts_on(bundle)
    done = dump(bundle, images, ok=False)
    assert done.returncode == 1
    assert f"checkpoint container {bundle.id}: criu:" in done.stderr
    assert "--file-locks" in done.stderr
    assert f"criu's log is {images}/dump.log" in done.stderr
    assert os.listdir(images) == ["dump.log"]
    assert bundle.status == "running"
    assert bundle.state()["pid"] == pid
    counts_on(bundle)
    dump(bundle, images, "--file-locks")
    ended(bundle)
    restore(bundle, images, "--file-locks")
    counts_on(bundle)


def test_a_process_that_came_by_exec(bundle: Bundle, images: str) -> None:
    """It has another parent: criu would not find it."""
    bundle.up_sh(COUNT)
    bundle.leave("exec", "--detach", "--pid-file", f"{bundle.folder}/other", bundle.id, *FOREVER)
    with open(f"{bundle.folder}/other") as file:
        other = int(file.read())
    done = dump(bundle, images, ok=False)
    assert done.returncode == 1
    assert f"process {other}: it does not descend" in done.stderr
    os.kill(other, 9)
    reap(other)
    counts_on(bundle)
    dump(bundle, images)
    ended(bundle)


@pytest.mark.systemd
def test_in_a_scope(bundle: Bundle, images: str) -> None:
    """The cgroup is a new scope of systemd's, which has the limits."""
    bundle.linux["cgroupsPath"] = f"system.slice:test:{bundle.id}"
    bundle.linux["resources"] = {"pids": {"limit": 30}}
    bundle.process["args"] = ["sh", "-c", COUNT]
    bundle.create(before=["--systemd-cgroup"])
    bundle.start()
    counts_on(bundle)
    unit = f"test-{bundle.id}.scope"
    for _ in range(2):
        group = group_of(bundle)
        assert group.path == f"/system.slice/{unit}"
        assert group.number("pids.max") == 30
        words = ["systemctl", "show", "--property=TasksMax,ActiveState", unit]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        assert sorted(shown) == ["ActiveState=active", "TasksMax=30"]
        dump(bundle, images)
        ended(bundle)
        assert not os.path.exists(group.folder)
        restore(bundle, images, before=["--systemd-cgroup"])
        counts_on(bundle)


def test_there_are_no_images(bundle: Bundle, images: str) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    done = restore(bundle, images, ok=False)
    assert done.returncode == 1
    assert f"{images}/pycontain.json: no such file or directory" in done.stderr
    assert not os.path.exists(images)
    os.mkdir(images)
    with open(f"{images}/pycontain.json", "w") as file:
        file.write(
            '{"version":1,"mounts":[],"streams":["","",""],"namespaces":[],"noNewPrivileges":false}'
        )
    done = restore(bundle, images, ok=False)
    assert done.returncode == 1
    assert f"restore container {bundle.id}: criu:" in done.stderr
    assert not bundle.exists()
    assert not os.path.exists(f"/sys/fs/cgroup/pycontain-runtime/{bundle.id}")


def test_the_name_is_taken(bundle: Bundle, images: str) -> None:
    pid = bundle.up_sh(COUNT)
    counts_on(bundle)
    dump(bundle, images, "--leave-running")
    assert "already exists" in restore(bundle, images, ok=False).stderr
    assert bundle.state()["pid"] == pid
    counts_on(bundle)
