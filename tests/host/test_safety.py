"""The defences of a container, one by one: each test fails when its defence is taken out."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import python_env, wait_until

from pycontain.errors import KernelError
from pycontain.kernel import capability
from pycontain.model.container import ExecOptions, Mount
from pycontain.runtime import masks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import Store

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86-64"),
]

DEFAULT_MASK = capability.mask(capability.DEFAULT)
UNSHARE, MOUNT, KEYCTL, ADD_KEY, BPF, PERF, IO_URING, SETNS, PTRACE, OPENAT, CLONE3, MKNOD = (
    *(272, 165, 250, 248, 321, 298, 425, 308, 101, 257, 435, 133),
)
NEWUSER, NEWUTS = 0x10000000, 0x04000000
AT_FDCWD, O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK = -100, 0, 1, 2, 0o4000


def sets(text: str) -> dict[str, int]:
    """The capability sets in /proc/PID/status."""
    lines = (line.split() for line in text.splitlines() if line.startswith("Cap"))
    return {name.removeprefix("Cap").rstrip(":"): int(value, 16) for name, value in lines}


def calls(
    store: Store, probe: str, *asked: tuple[object, ...], before: str = ":", **options: object
) -> list[str]:
    """What the kernel answers to system calls made in a container: ``ok`` or errno's name."""
    lines = "\n".join(" ".join(["/probe", *map(str, call)]) for call in asked)
    mounts = (Mount(type="bind", source=probe, target="/probe"),)
    return store.sh(f"{before}\n{lines}", mounts=mounts, **options).split()


# ------------------------------------------------------------------------------------- capabilities


def test_root_has_dockers_capabilities(store: Store) -> None:
    assert DEFAULT_MASK == 0xA80425FB  # as a docker container shows them
    assert sets(store.sh("cat /proc/self/status")) == {
        "Inh": 0, "Prm": DEFAULT_MASK, "Eff": DEFAULT_MASK, "Bnd": DEFAULT_MASK, "Amb": 0,
    }  # fmt: skip


def test_another_user_has_none(store: Store) -> None:
    found = sets(store.sh("cat /proc/self/status", user="1000"))
    assert found == {"Inh": 0, "Prm": 0, "Eff": 0, "Bnd": DEFAULT_MASK, "Amb": 0}


def test_capabilities_that_are_asked_for(store: Store) -> None:
    found = sets(store.sh("cat /proc/self/status", cap_drop=("ALL",), cap_add=("NET_ADMIN",)))
    only = capability.mask(["CAP_NET_ADMIN"])
    assert found == {"Inh": 0, "Prm": only, "Eff": only, "Bnd": only, "Amb": 0}
    assert store.code("chown 1 /tmp", cap_drop=("CHOWN",)) == 1


def test_privileged_has_all(store: Store) -> None:
    assert (
        sets(store.sh("cat /proc/self/status", privileged=True))["Eff"] == capability.bounding_set()
    )


def test_an_exec_has_the_containers_capabilities(store: Store) -> None:
    identity = store.detach(cap_drop=("CHOWN",))
    root = store.exec(identity, "cat", "/proc/self/status").stdout.decode()
    user = store.exec(identity, "cat", "/proc/self/status", user="1000").stdout.decode()
    wanted = DEFAULT_MASK & ~capability.mask(["CAP_CHOWN"])
    assert sets(root) == {"Inh": 0, "Prm": wanted, "Eff": wanted, "Bnd": wanted, "Amb": 0}
    assert sets(user) == {"Inh": 0, "Prm": 0, "Eff": 0, "Bnd": wanted, "Amb": 0}


def test_no_new_privileges(store: Store) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert store.sh(script).split() == ["NoNewPrivs:", "0"]
    for word in ("no-new-privileges", "no-new-privileges=true"):
        assert store.sh(script, security_opt=(word,)).split() == ["NoNewPrivs:", "1"]
        assert store.sh(script, security_opt=(word,), user="1000").split()[1] == "1"


# ------------------------------------------------------------------------------------------ seccomp


def test_a_filter_is_installed(store: Store) -> None:
    for more in ({}, {"user": "1000"}, {"security_opt": ("no-new-privileges",)}):
        assert store.sh("grep Seccomp: /proc/self/status", **more).split()[1] == "2"
    identity = store.detach()
    assert b"Seccomp:\t2\n" in store.exec(identity, "cat", "/proc/self/status").stdout


def test_refused_calls(store: Store, probe: str) -> None:
    asked = (
        (UNSHARE, NEWUSER),
        (KEYCTL, 0, -3, 0),
        (ADD_KEY, "=user", "=k", "=v", 1, -3),
        (BPF, -1, 0, 0),
        (PERF, 0, 0, 0, 0, 0),
        (IO_URING, 0, 0),
        (CLONE3, 0, 0),
        (39,),
    )
    refused = ["EPERM"] * 6 + ["ENOSYS", "ok"]
    assert calls(store, probe, *asked) == refused
    assert calls(store, probe, *asked, security_opt=("no-new-privileges",)) == refused
    # The filter it is that refuses, not something else.
    free = calls(store, probe, *asked, security_opt=("seccomp=unconfined",))
    assert free[6:] == ["EINVAL", "ok"]
    assert free[0] == "ok"
    assert free[2] == "ok"


def test_mounting_needs_the_capability_and_the_filter_follows_it(store: Store, probe: str) -> None:
    call = (MOUNT, "=none", "=/mnt", "=tmpfs", 0, 0)
    made = "mkdir -p /mnt"
    assert calls(store, probe, call, before=made) == ["EPERM"]
    assert calls(store, probe, call, before=made, cap_add=("SYS_ADMIN",)) == ["ok"]
    unconfined = ("seccomp=unconfined",)
    assert calls(store, probe, call, before=made, security_opt=unconfined) == ["EPERM"]


def test_an_exec_is_filtered_too(store: Store, probe: str) -> None:
    mounts = (Mount(type="bind", source=probe, target="/probe"),)
    identity = store.detach(mounts=mounts)
    for user in (None, "1000"):
        found = store.exec(identity, "/probe", str(UNSHARE), str(NEWUSER), user=user)
        assert found.stdout == b"EPERM\n"


# --------------------------------------------------------------------------- masks, read-only paths


def host_paths(paths: tuple[str, ...]) -> list[str]:
    return [path for path in paths if os.path.lexists(path)]


@pytest.mark.in_vm
def test_masked_paths_show_nothing(store: Store) -> None:
    wanted = host_paths(masks.masked_paths())
    assert "/proc/kcore" in wanted or "/proc/keys" in wanted
    script = "\n".join(
        f"if [ -d {path} ]; then ls -A {path}; else head -c 10 {path}; fi 2>&1 | sed s,^,{path}:,"
        for path in wanted
    )
    assert store.sh(script) == ""
    # Without the masks there is something to see.
    assert store.sh(script, security_opt=("systempaths=unconfined",)) != ""


def test_masked_folders_cannot_be_written(store: Store) -> None:
    folders = [path for path in host_paths(masks.masked_paths()) if os.path.isdir(path)]
    if not folders:
        pytest.skip("this kernel has none of them")
    for folder in folders:
        assert store.code(f"touch {folder}/x") != 0


def test_read_only_paths(store: Store, probe: str) -> None:
    wanted = host_paths(masks.READONLY_PATHS)
    files = [path for path in wanted if not os.path.isdir(path)]
    opened = [(OPENAT, AT_FDCWD, f"={path}", O_WRONLY) for path in files]
    opened.append((OPENAT, AT_FDCWD, "=/proc/sys/net/ipv4/ip_forward", O_WRONLY))
    assert set(calls(store, probe, *opened)) == {"EROFS"}
    free = calls(store, probe, *opened, security_opt=("systempaths=unconfined",))
    assert set(free) == {"ok"}
    mounted = store.sh("cat /proc/self/mountinfo")
    for path in wanted:
        lines = [line.split() for line in mounted.splitlines() if line.split()[4] == path]
        assert lines, path
        assert "ro" in lines[-1][5].split(","), path


def test_sysfs_and_cgroups_are_read_only(store: Store, probe: str) -> None:
    asked = (
        (OPENAT, AT_FDCWD, "=/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY),
        (OPENAT, AT_FDCWD, "=/sys/fs/cgroup/cgroup.procs", O_WRONLY),
    )
    found = calls(store, probe, *asked)
    assert set(found) <= {"EROFS", "ENOENT"}
    assert found[1] == "EROFS"


def test_a_mask_cannot_be_taken_off(store: Store) -> None:
    assert store.code("umount /proc/keys || umount /proc/kcore || umount /proc/sys") != 0


# ------------------------------------------------------------------------------------------ devices


def readable_disks() -> list[int]:
    """Numbers of block devices that the host lets root read (a rescue or a sandbox may not)."""
    with open("/proc/partitions") as file:
        names = [line.split()[3] for line in file.read().splitlines()[2:]]
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            os.close(os.open(f"/dev/{name}", os.O_RDONLY))
            found.append(os.stat(f"/dev/{name}").st_rdev)
    return found


@pytest.mark.in_vm
def test_made_devices_cannot_be_opened(store: Store, probe: str) -> None:
    kmsg = os.makedev(1, 11)
    made = [(MKNOD, "=/tmp/kmsg", 0o20666, kmsg)]
    opened = [(OPENAT, AT_FDCWD, "=/tmp/kmsg", O_RDONLY | O_NONBLOCK)]
    for number in readable_disks()[:1]:
        made.append((MKNOD, "=/tmp/disk", 0o60666, number))
        opened.append((OPENAT, AT_FDCWD, "=/tmp/disk", O_RDONLY))
    # Without SYSLOG kmsg would refuse by itself.
    found = calls(store, probe, *made, *opened, cap_add=("SYSLOG",))
    assert found == ["ok"] * len(made) + ["EPERM"] * len(opened)
    assert set(calls(store, probe, *made, *opened, privileged=True)) == {"ok"}


def test_an_exec_is_under_the_same_device_rules(store: Store) -> None:
    identity = store.detach(cap_add=("SYSLOG",))
    made = store.exec(identity, "mknod", "/tmp/kmsg", "c", "1", "11")
    assert made.code == 0
    found = store.exec(identity, "head", "-c", "1", "/tmp/kmsg")
    assert b"Operation not permitted" in found.stderr


# --------------------------------------------------------------------- nothing of the host leaks in


def test_no_descriptor_comes_along(store: Store) -> None:
    read, write = os.pipe()
    try:
        os.set_inheritable(read, True)
        os.set_inheritable(write, True)
        first = store.run("ls", "-l", "/proc/1/fd").stdout.decode()
        identity = store.detach("sleep", "1000")
        pid = store.run_record(identity).pid
        # What tells of the start is closed by exec, as one of several (close-on-exec).
        wait_until(lambda: leaks.text(f"/proc/{pid}/cmdline").startswith("sleep"))
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
        executed = store.exec(identity, "ls", "-l", "/proc/self/fd").stdout.decode()
    finally:
        os.close(read)
        os.close(write)
    for shown in (first, executed):
        names = {line.split()[8] for line in shown.splitlines() if "->" in line or " 3" in line}
        assert names <= {"0", "1", "2", "3"}  # 3: the folder that ls has open
        assert "/proc/" not in "".join(line.partition("->")[2] for line in shown.splitlines())


def test_standard_streams_are_pipes_or_null(store: Store) -> None:
    identity = store.detach()
    pid = store.run_record(identity).pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/1").startswith("pipe:")
    # The null of the container, not the host's.
    assert os.stat(f"/proc/{pid}/fd/0").st_rdev == os.makedev(1, 3)


def test_working_directory_and_root(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert store.sh("pwd; readlink /proc/self/cwd; readlink /proc/1/root") == "/\n/\n/\n"
    assert os.getcwd() == "/usr"


@pytest.mark.parametrize("path", ["/proc/self/fd", "/proc/self/fd/4", "/proc/self/fd/7/../.."])
def test_a_working_directory_on_the_host_is_refused(store: Store, path: str) -> None:
    """CVE-2024-21626: a descriptor of the runtime's as a working directory."""
    try:
        found = store.run("sh", "-c", "ls -a . ../../../..", workdir=path)
    except KernelError:
        return
    assert b"lost+found" not in found.stdout
    assert b"vmlinuz" not in found.stdout


def test_processes_of_the_host_are_not_seen(store: Store) -> None:
    numbers = store.sh("ls /proc | grep '^[0-9]'; echo $$").split()
    assert set(numbers) <= {"1", "2", "3"}
    assert store.sh("ps -o pid,comm | head -2").split()[:4] == ["PID", "COMMAND", "1", "sh"]


def test_signals_start_with_their_defaults(store: Store) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        out = store.run("cat", "/proc/self/status").stdout.decode()
        identity = store.detach()
        executed = store.exec(identity, "cat", "/proc/self/status").stdout.decode()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGUSR1, before)
    for text in (out, executed):
        fields = {line.split()[0]: line.split()[1] for line in text.splitlines() if "Sig" in line}
        assert int(fields["SigBlk:"], 16) == 0
        assert int(fields["SigIgn:"], 16) == 0


def test_the_oom_score_is_not_the_callers(store: Store) -> None:
    with open("/proc/self/oom_score_adj", "r+") as file:
        before = file.read().strip()
        try:
            file.seek(0)
            file.write("321")
            file.flush()
            assert store.sh("cat /proc/self/oom_score_adj") == "0\n"
        finally:
            file.seek(0)
            file.write(before)


def children() -> set[int]:
    """Those of this process that wait(2) could meet (a server of another test may be one)."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(map(int, file.read().split()))


def test_the_callers_process_is_left_as_it_was(store: Store) -> None:
    def look() -> tuple[object, ...]:
        mask = os.umask(0)
        os.umask(mask)
        return (
            os.getcwd(),
            mask,
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            [signal.getsignal(number) for number in range(1, 32)],
            [os.readlink(f"/proc/self/ns/{kind}") for kind in sorted(os.listdir("/proc/self/ns"))],
            open("/proc/self/cgroup").read(),
            os.environ.copy(),
            # What another test left behind may be waited for whenever a process is started: see
            # subprocess, which does that for a Popen that nobody has any more.
            children() - others,
        )

    others = children()
    own = os.posix_spawn("/bin/true", ["true"], {})
    before = look()
    identity = store.detach()
    store.exec(identity, "true")
    store.containers.remove(identity, force=True)
    store.run("true")
    assert look() == before
    assert os.waitpid(own, 0) == (own, 0)


def test_the_callers_session_keyring_stays_the_callers(store: Store, probe: str) -> None:
    """session-keyring(7): a child has its parent's, with the keys in it."""
    get = (KEYCTL, 0, -3, 1)  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, create
    joined = "import ctypes, os, sys; ctypes.CDLL(None).syscall(250, 1, None); " + RUN_HERE
    argv = [sys.executable, "-c", joined, store.root, store.state, probe, *map(str, get)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=python_env())
    ours, executed, first = done.stdout.split()
    assert ours.isdecimal()
    assert executed.isdecimal()
    assert first.isdecimal()
    assert ours not in (executed, first)


RUN_HERE = """
import subprocess
from pycontain import Engine
from pycontain.model.container import ExecOptions, Mount, RunOptions
root, state, probe, *call = sys.argv[1:]
print(ctypes.CDLL(None).syscall(*map(int, call)))
sys.stdout.flush()
engine = Engine(root, state)
options = RunOptions(
    image="busybox", command=("sh", "-c", "/probe " + " ".join(call) + "; sleep 100"),
    mounts=(Mount(type="bind", source=probe, target="/probe"),), env=("VALUE=1",),
    security_opt=("seccomp=unconfined",),
)
container, attachment = engine.containers.run(options)
from harness import collect
print(collect(
    engine.containers.exec(container.id, ExecOptions(command=("/probe", *call)))
).stdout.decode().strip())
print(collect(attachment, until=b"\\n").stdout.decode().strip())
engine.containers.remove(container.id, force=True)
"""


# -------------------------------------------------------------------------------------- the monitor


@pytest.fixture
def monitor(store: Store) -> Iterator[int]:
    identity = store.detach()
    yield store.run_record(identity).monitor
    store.containers.remove(identity, force=True)


def test_the_monitors_program_cannot_be_written(monitor: int) -> None:
    """CVE-2019-5736: what is reached through /proc/PID/exe must not be the host's writable file."""
    # With O_TRUNC the mount is asked before the file (ETXTBSY) is; nothing is changed either way.
    with pytest.raises(OSError, match="Read-only file system"):
        os.close(os.open(f"/proc/{monitor}/exe", os.O_WRONLY | os.O_TRUNC))


def test_a_container_that_is_the_runtimes_own_program(store: Store) -> None:
    """As the exploit has it: the entry point leads to whoever executes it."""
    with contextlib.suppress(KernelError):
        found = store.run("/proc/self/exe")
        assert found.exit_code != 0
    assert store.code("true") == 0


def test_the_monitor_is_not_dumpable(store: Store, tmp_path: Path) -> None:
    """Nobody without CAP_SYS_PTRACE looks into it, though it has the same user and capabilities."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv(1)")
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    argv = ["setpriv", "--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"]
    folders = [store.root, store.state]
    done = subprocess.run(
        [*argv, sys.executable, script, *folders],
        capture_output=True,
        text=True,
        check=False,
        env=python_env(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["child-ok", "monitor-EACCES"]


LOOK = """
import errno, os, subprocess, sys
from pycontain import Engine
from pycontain.engine import records
from pycontain.model.container import RunOptions

def look(name, pid):
    try:
        os.readlink(f"/proc/{pid}/exe")
        print(f"{name}-ok")
    except OSError as err:
        print(f"{name}-{errno.errorcode[err.errno]}")

child = subprocess.Popen(["sleep", "100"])
look("child", child.pid)
child.kill()
child.wait()
containers = Engine(sys.argv[1], sys.argv[2]).containers
options = RunOptions(image="busybox", command=("sleep", "100"))
container, _ = containers.run(options, attach=False)
look("monitor", records.load_run(containers.get(container.id).paths).monitor)
containers.remove(container.id, force=True)
"""


@pytest.mark.in_vm
@pytest.mark.parametrize("user", ["0", "1000"])
def test_the_container_dies_with_its_monitor(store: Store, user: str) -> None:
    """By the kernel's doing (PDEATHSIG): no command of ours comes by."""
    identity = store.detach(user=user)
    record = store.run_record(identity)
    os.kill(record.monitor, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{record.pid}"))
    assert store.view(identity).status.state == "exited"


@pytest.mark.parametrize("user", ["0", "1000"])
def test_an_exec_dies_with_its_monitor(store: Store, user: str) -> None:
    identity = store.detach()
    options = ExecOptions(command=("sleep", "54321"), user=user, detach=True)
    store.containers.exec(identity, options)
    found: list[int] = []

    def started() -> bool:
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline") as file:
                if file.read() == "sleep\00054321\0":
                    found.append(int(name))
        return bool(found)

    wait_until(started)
    with open(f"/proc/{found[0]}/stat") as file:
        monitor = int(file.read().rpartition(") ")[2].split()[1])
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{found[0]}"))
    assert store.state_of(identity) == "running"
