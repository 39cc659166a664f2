"""dockerd on our runtime: what a container is, flag by flag."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from .client import NO_REASON, is_everything, runc_cannot

if TYPE_CHECKING:
    from pathlib import Path

    from .dockerd import Dockerd

pytestmark = [pytest.mark.host, pytest.mark.slow]

# What docker grants: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE
# NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP, capabilities(7).
DEFAULT_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
NET_ADMIN = 1 << 12


def field(status: str, name: str) -> str:
    """One field of /proc/PID/status."""
    found = re.search(rf"^{name}:\s*(.*)$", status, re.MULTILINE)
    assert found, (name, status)
    return found[1]


# --- the process ---


def test_the_default_runtime_is_ours(docker: Dockerd) -> None:
    box = docker.detach()
    assert docker.inspect(box)["HostConfig"]["Runtime"] == "pycontain"
    assert docker.ok("info", "-f", "{{.DefaultRuntime}}") == "pycontain"


@pytest.mark.parametrize("code", [0, 42, 255])
def test_exit_code(docker: Dockerd, code: int) -> None:
    assert docker.run("tools", "sh", "-c", f"exit {code}") == (code, "", "")


def test_a_signal_is_128_and_its_number(docker: Dockerd) -> None:
    # process 1 of a namespace is not killed from within it: pid_namespaces(7)
    assert docker.run("tools", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").code == 137


def test_streams_are_kept_apart(docker: Dockerd) -> None:
    done = docker.run("tools", "sh", "-c", "echo to out; echo to err >&2")
    assert done == (0, "to out\n", "to err\n")


def test_input(docker: Dockerd) -> None:
    data = bytes(range(256)) * 4096
    assert docker.sh("wc -c; wc -c", "-i", stdin=data).split() == [str(len(data)), "0"]


def test_no_input_without_i(docker: Dockerd) -> None:
    assert docker.sh("cat", stdin=b"not for it") == ""


def test_environment(docker: Dockerd) -> None:
    lines = docker.sh("env", "-e", "FROM=user", "-e", "LINES=a\nb", "--hostname", "box")
    assert "FROM=user\n" in lines
    assert "LINES=a\nb\n" in f"{lines}\n"
    assert "HOSTNAME=box\n" in lines
    assert "PATH=/bin:/usr/bin" in lines.splitlines()


@pytest.mark.parametrize(
    ("flags", "groups", "expected"),
    [
        (["-u", "1234:1235"], [], "1234 1235 1235"),
        (["-u", "nobody"], [], "65534 65534 65534"),
        (
            ["-u", "1234:1235"],
            ["--group-add", "37", "--group-add", "staff"],
            "1234 1235 1235 37 50",
        ),
    ],
)
def test_user(docker: Dockerd, flags: list[str], groups: list[str], expected: str) -> None:
    assert docker.sh("echo $(id -u; id -g; id -G)", *flags, *groups) == expected


def test_a_user_has_no_capabilities(docker: Dockerd) -> None:
    status = docker.sh("cat /proc/self/status", "-u", "1234")
    assert int(field(status, "CapEff"), 16) == 0
    assert int(field(status, "CapBnd"), 16) == DEFAULT_CAPABILITIES


def test_working_directory(docker: Dockerd) -> None:
    assert docker.sh("pwd; ls -A", "-w", "/made/for/it") == "/made/for/it"


def test_nothing_but_the_streams_is_open(docker: Dockerd) -> None:
    # 3 is ls's own, for the folder
    assert docker.run("tools", "ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]


def test_limits(docker: Dockerd) -> None:
    limits = ["--ulimit", "nofile=100:200", "--ulimit", "core=0"]
    asked = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc"
    assert docker.sh(asked, *limits).split() == ["100", "200", "0", "0"]


def test_oom_score(docker: Dockerd) -> None:
    assert docker.sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "321") == "321"


def test_init_is_process_one(docker: Dockerd) -> None:
    assert docker.sh("cat /proc/1/comm; echo $$ >&2; exit 0", "--init") == "docker-init"
    assert docker.run("--init", "tools", "sh", "-c", "exit 7").code == 7


# --- privileges ---


def test_capabilities(docker: Dockerd) -> None:
    status = docker.sh("cat /proc/self/status")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(field(status, name), 16) == DEFAULT_CAPABILITIES, name
    assert field(status, "NoNewPrivs") == "0"


def test_capabilities_dropped_and_added(docker: Dockerd) -> None:
    none = docker.sh("cat /proc/self/status", "--cap-drop", "ALL")
    assert int(field(none, "CapBnd"), 16) == int(field(none, "CapEff"), 16) == 0
    flags = ["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]
    one = docker.sh("cat /proc/self/status; ip link add name two type bridge; ip -o link", *flags)
    assert int(field(one, "CapEff"), 16) == NET_ADMIN
    assert " two:" in one


def test_no_new_privileges(docker: Dockerd) -> None:
    status = docker.sh("cat /proc/self/status", "--security-opt", "no-new-privileges")
    assert field(status, "NoNewPrivs") == "1"


def test_seccomp_is_dockers_profile(docker: Dockerd) -> None:
    assert field(docker.sh("cat /proc/self/status"), "Seccomp") == "2"
    # unshare(CLONE_NEWUSER) needs no capability, only the profile forbids it
    refused = docker.run("tools", "unshare", "-U", "true")
    assert refused.code == 1
    assert "Operation not permitted" in refused.err


def test_seccomp_of_the_user(docker: Dockerd, tmp_path: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile = tmp_path / "no-mkdir.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    option = ["--security-opt", f"seccomp={profile}"]
    refused = docker.run(*option, "tools", "mkdir", "/new")
    assert refused.code == 1
    assert "Operation not supported" in refused.err  # errno 95
    assert docker.run(*option, "tools", "rmdir", "/var/www").code == 0
    free = docker.sh("cat /proc/self/status; unshare -U true", "--security-opt=seccomp=unconfined")
    assert field(free, "Seccomp") == "0"


@runc_cannot("it fails where the machine's bounding set lacks a capability")
def test_privileged(docker: Dockerd) -> None:
    script = (
        "cat /proc/self/status; mount -t tmpfs none /tmp; echo 1 >/proc/sys/net/ipv4/ip_forward"
    )
    status = docker.sh(script, "--privileged")
    assert field(status, "Seccomp") == "0"
    assert is_everything(field(status, "CapEff"))
    devices = docker.run("--privileged", "tools", "ls", "/dev").out.split()
    assert "loop-control" in devices or "kmsg" in devices


def test_kernel_files_are_masked(docker: Dockerd) -> None:
    masked = docker.inspect(docker.ok("create", "tools"))["HostConfig"]["MaskedPaths"]
    there = [path for path in masked if os.path.exists(path)]
    assert there
    script = 'for path; do if [ -d "$path" ]; then ls -A "$path"; else cat "$path"; fi; done'
    assert docker.run("tools", "sh", "-c", script, "sh", *there) == (0, "", "")


def test_kernel_settings_are_read_only(docker: Dockerd) -> None:
    script = "mkdir /sys/kernel/a; echo 1 >/proc/sys/vm/swappiness"
    assert docker.run("tools", "sh", "-c", script).err.count("ead-only file system") == 2


def test_paths_unmasked(docker: Dockerd) -> None:
    free = docker.sh("grep ' /proc' /proc/mounts", "--security-opt", "systempaths=unconfined")
    assert len(free.splitlines()) == 1


# --- devices ---


def test_devices_are_the_specifications(docker: Dockerd) -> None:
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    found = docker.run("tools", "ls", "/dev").out.split()
    # console comes with a terminal; core is no requirement
    assert set(found) - {"console", "core"} == set(names.split())
    kinds = docker.sh("stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/urandom /dev/tty")
    numbers = ["null 1:3", "zero 1:5", "full 1:7", "urandom 1:9", "tty 5:0"]
    assert kinds.splitlines() == [f"/dev/{each} 666" for each in numbers]


def test_device_rules(docker: Dockerd) -> None:
    if not os.path.exists("/dev/kmsg"):
        pytest.skip("the host has no /dev/kmsg")
    write = ["tools", "sh", "-c", ": >>/dev/other"]
    assert docker.run("--device", "/dev/kmsg:/dev/other:w", *write).code == 0
    refused = docker.run("--device", "/dev/kmsg:/dev/other:r", *write)
    assert refused.code == 1
    assert "Operation not permitted" in refused.err


def test_an_unlisted_device_cannot_be_opened(docker: Dockerd) -> None:
    made = docker.run("tools", "sh", "-c", "mknod /kmsg c 1 11 && echo made && : </kmsg")
    assert made.out == "made\n"
    assert made.code == 1
    assert "Operation not permitted" in made.err


# --- files ---


def test_read_only_root(docker: Dockerd) -> None:
    script = "echo a >/scratch/a && cat /scratch/a; touch /b"
    done = docker.run("--read-only", "--tmpfs", "/scratch", "tools", "sh", "-c", script)
    assert (done.code, done.out) == (1, "a\n")
    assert "Read-only file system" in done.err


def test_tmpfs(docker: Dockerd) -> None:
    script = "grep ' /scratch ' /proc/mounts; stat -c %a /scratch"
    line, mode = docker.sh(script, "--tmpfs", "/scratch:size=1m,mode=710,noexec").splitlines()
    options = line.split()[3].split(",")
    assert line.split()[2] == "tmpfs"
    assert {"rw", "nosuid", "nodev", "noexec", "size=1024k"} <= set(options)
    assert mode == "710"


def test_bind_mount(docker: Dockerd, tmp_path: Path) -> None:
    script = "cat /shared/from-host; echo from container >/shared/from-container"
    (tmp_path / "from-host").write_text("from host\n")
    assert docker.sh(script, "-v", f"{tmp_path}:/shared") == "from host"
    assert (tmp_path / "from-container").read_text() == "from container\n"
    refused = docker.run("-v", f"{tmp_path}:/shared:ro", "tools", "touch", "/shared/a")
    assert refused.code == 1
    assert "Read-only file system" in refused.err


def test_bind_mount_of_one_file(docker: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one file\n")
    assert docker.sh("cat /new/place", "-v", f"{tmp_path}/file:/new/place:ro") == "one file"


def test_volume_outlives_its_container(docker: Dockerd) -> None:
    docker.sh("echo kept >/data/file", "-v", "shelf:/data")
    assert docker.sh("cat /data/file", "-v", "shelf:/data:ro") == "kept"
    docker.ok("volume", "rm", "shelf")


def test_shm_size(docker: Dockerd) -> None:
    assert "size=2048k" in docker.sh("grep ' /dev/shm ' /proc/mounts", "--shm-size", "2m")


# --- namespaces, names, kernel settings ---


def test_hostname(docker: Dockerd) -> None:
    script = "hostname; cat /etc/hostname; grep -c box.example /etc/hosts"
    lines = docker.sh(script, "--hostname", "box.example").splitlines()
    assert lines == ["box.example", "box.example", "1"]


def test_namespaces_of_its_own(docker: Dockerd) -> None:
    kinds = "cgroup ipc mnt net pid uts"
    script = f"cd /proc/self/ns; for kind in {kinds}; do readlink $kind; done"
    own = set(docker.sh(script).split())
    assert len(own) == len(kinds.split())
    machines = docker.machine("sh", "-c", script).stdout.decode().split()
    assert own.isdisjoint(machines)


def test_namespaces_of_the_host(docker: Dockerd) -> None:
    kinds = "cgroup ipc net pid uts"
    script = f"cd /proc/self/ns; for kind in {kinds}; do readlink $kind; done"
    flags = ["--pid=host", "--uts=host", "--ipc=host", "--network=host", "--cgroupns=host"]
    machines = docker.machine("sh", "-c", script).stdout.decode().split()
    assert docker.sh(script, *flags).split() == machines


def test_namespaces_of_another_container(docker: Dockerd) -> None:
    other = docker.detach("--ipc=shareable")
    kinds = "ipc net pid"
    script = f"cd /proc/self/ns; for kind in {kinds}; do readlink $kind; done"
    others = docker.ok("exec", other, "sh", "-c", script)
    flags = [f"--{kind}=container:{other}" for kind in ("pid", "ipc", "network")]
    assert docker.sh(script, *flags) == others
    assert "sleep 1000" in docker.sh("ps -o args", f"--pid=container:{other}")


def test_cgroup_namespace(docker: Dockerd) -> None:
    assert docker.sh("grep 0:: /proc/self/cgroup") == "0::/"
    seen = docker.sh("grep 0:: /proc/self/cgroup; hostname", "--cgroupns=host").split()
    assert re.fullmatch(rf"0::/docker/{seen[1]}[0-9a-f]{{52}}", seen[0])


def test_cgroup_parent(docker: Dockerd) -> None:
    box = docker.detach("--cgroup-parent", "/elsewhere")
    parent = f"{docker.machine.root}/sys/fs/cgroup/elsewhere"
    members = docker.machine("cat", f"/sys/fs/cgroup/elsewhere/{box}/cgroup.procs").stdout
    assert members.split() == [b"%d" % docker.inspect(box)["State"]["Pid"]]
    docker.ok("rm", "-f", box)
    os.rmdir(parent)  # dockerd leaves it; it is empty, so the runtime removed the container's


def test_sysctl(docker: Dockerd) -> None:
    flags = ["--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "--sysctl", "kernel.msgmax=4000"]
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"
    assert docker.sh(script, *flags).split() == ["80", "4000"]


def test_default_network(docker: Dockerd) -> None:
    # its link is put there by a prestart hook of dockerd's, while the container is created
    gateway = docker.ok("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}")
    gateway = gateway or "172.17.0.1"
    script = f"ls /sys/class/net; ip -o -4 addr show eth0; ip route; ping -c 1 -w 5 {gateway}"
    seen = docker.sh(script)
    assert seen.split()[:2] == ["eth0", "lo"]
    assert re.search(r"inet 172\.17\.\d+\.\d+/16", seen)
    assert f"default via {gateway} dev eth0" in seen
    assert "1 packets received" in seen


def test_no_network(docker: Dockerd) -> None:
    assert docker.run("--network", "none", "tools", "ls", "/sys/class/net").out == "lo\n"


# --- errors, in dockerd's words and codes ---


def test_command_not_found(docker: Dockerd) -> None:
    missing = docker.run("tools", "no-such-command", "word")
    assert missing.code == 127
    assert NO_REASON not in missing.err
    assert "no-such-command" in missing.err
    assert "executable file not found" in missing.err
    absolute = docker.run("tools", "/no/such/command")
    assert absolute.code == 127
    assert "/no/such/command" in absolute.err
    assert "no such file or directory" in absolute.err


@pytest.mark.parametrize("path", ["/bin/notes", "/etc"])
def test_command_not_executable(docker: Dockerd, path: str) -> None:
    refused = docker.run("tools", path)
    assert refused.code == 126
    assert path in refused.err
    assert re.search(r"permission denied|is a directory", refused.err)


def test_exec_format(docker: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("no interpreter line\n")
    (tmp_path / "script").chmod(0o755)
    refused = docker.run("-v", f"{tmp_path}/script:/script", "tools", "/script")
    assert refused.code != 0
    assert "exec format error" in refused.err


def test_reasons_reach_the_user(docker: Dockerd) -> None:
    sysctl = docker.run("--sysctl", "net.ipv4.no_such_setting=1", "tools", "true")
    assert sysctl.code in (125, 126, 127)
    assert NO_REASON not in sysctl.err
    assert "no_such_setting" in sysctl.err
    folder = docker.run("-v", "/etc:/bin/busybox", "tools", "true")
    assert folder.code in (125, 126, 127)
    assert "not a directory" in folder.err
    assert "/bin/busybox" in folder.err
    where = docker.run("-w", "/etc/passwd", "tools", "true")
    assert where.code in (125, 126, 127)
    assert "not a directory" in where.err.lower()


def test_a_failed_start_leaves_a_created_container(docker: Dockerd) -> None:
    failed = docker("run", "--name", "broken", "tools", "no-such-command")
    assert failed.code == 127
    assert docker.state("broken") == "created"
    assert docker.inspect("broken")["State"]["ExitCode"] == 127
    assert docker("start", "broken").code == 1
