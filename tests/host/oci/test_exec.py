"""exec: another process in a running container, with runc's flags."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import (
    CAPABILITIES,
    Running,
    Terminal,
    children,
    command_line,
    default_config,
    differs,
    field,
    namespace,
    older,
    reap,
    through_three,
    wait_until,
)
from .test_process import mask, sets

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.fixture
def box(bundle: Bundle) -> Bundle:
    """A container that runs."""
    bundle.up()
    return bundle


# --------------------------------------------------------------------------- streams, codes, places


@pytest.mark.in_vm
def test_streams_and_code(box: Bundle) -> None:
    done = box.exec("sh", "-c", "cat; echo err >&2; exit 42", input="in\n", ok=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, "in\n", "err\n")


def test_code_of_a_signal(box: Bundle) -> None:
    assert box.exec("sh", "-c", "kill -TERM $$", ok=False).returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("program", ["/bin/nothing", "nothing", "/etc", "/plain"])
def test_a_program_that_cannot_be_executed(box: Bundle, program: str) -> None:
    box.make("rootfs/plain", "text")
    done = box.exec(program, ok=False)
    assert done.returncode in (1, 126, 127, 255)
    assert program in done.stderr
    assert box.status == "running"


def test_it_is_in_the_containers_namespaces_and_cgroup(box: Bundle) -> None:
    text = box.exec("sh", "-c", "ls -l /proc/self/ns; cat /proc/self/cgroup; hostname").stdout
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert namespace(box.pid, kind) in text
    with open(f"/proc/{box.pid}/cgroup") as file:
        assert file.read().strip() in text
    assert text.endswith("box\n")


def test_it_sees_the_containers_files_and_processes(box: Bundle) -> None:
    assert box.exec("sh", "-c", "ls / | tr '\\n' ' '").stdout.split() == sorted(
        os.listdir(box.rootfs)
    )
    assert "sleep 1000" in box.exec("ps", "-o", "args").stdout


def test_it_has_the_containers_privileges(box: Bundle) -> None:
    text = box.exec("cat", "/proc/self/status").stdout
    assert sets(text)["Eff"] == mask(*CAPABILITIES)
    assert sets(text)["Bnd"] == mask(*CAPABILITIES)
    assert "NoNewPrivs:\t1\n" in text


def test_it_has_the_containers_environment_and_folder(bundle: Bundle) -> None:
    bundle.process["env"].append("OF=the process")
    bundle.process["cwd"] = "/tmp"
    bundle.up()
    assert bundle.exec("sh", "-c", "echo $OF; pwd").stdout == "the process\n/tmp\n"


def test_it_has_the_containers_user_and_limits(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]
    bundle.up()
    said = bundle.exec("sh", "-c", "id -u; id -g; ulimit -n; ulimit -Hn").stdout.split()
    assert said == ["7", "8", "50", "60"]


@differs("it has the umask of the runtime", "runc")
def test_it_has_the_containers_umask(bundle: Bundle) -> None:
    bundle.process["user"]["umask"] = 0o027
    bundle.up()
    assert bundle.exec("sh", "-c", "umask").stdout == "0027\n"


def test_it_has_the_containers_oom_score(bundle: Bundle) -> None:
    bundle.process["oomScoreAdj"] = 300
    bundle.up()
    assert bundle.exec("cat", "/proc/self/oom_score_adj").stdout == "300\n"


def test_descriptors_of_the_caller_do_not_come_along(box: Bundle) -> None:
    with open("/etc/hostname") as file:
        done = box.exec("sh", "-c", "ls /proc/self/fd | wc -l", pass_fds=[file.fileno()])
    assert done.stdout == "4\n"  # the fourth is ls's own


def test_signals_are_forwarded(box: Bundle) -> None:
    script = "trap 'echo got; exit 7' TERM; echo up; while :; do sleep 0.02; done"
    argv = box.argv("exec", box.id, "sh", "-c", script)
    with Running(argv) as running:
        assert running.line() == "up"
        running.send(signal.SIGTERM)
        assert running.rest() == "got\n"
        assert running.wait() == 7


def test_many_at_once(box: Bundle) -> None:
    argv = box.argv("exec", box.id, "sh", "-c", "echo x; exit 3")
    with contextlib.ExitStack() as stack:
        for each in [stack.enter_context(Running(argv)) for _ in range(8)]:
            assert each.rest() == "x\n"
            assert each.wait() == 3


# -------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize("flag", ["-e", "--env"])
def test_environment(box: Bundle, flag: str) -> None:
    done = box.exec(flag, "A=1", flag, "B=x y=z", flag, "PATH=/bin:/x", "--", "env")
    assert {"A=1", "B=x y=z", "PATH=/bin:/x"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("folder", ["/tmp", "/bin/../tmp"])
def test_working_folder(box: Bundle, folder: str) -> None:
    assert box.exec("--cwd", folder, "--", "pwd").stdout == "/tmp\n"


def test_a_working_folder_that_is_not_there_or_not_absolute(box: Bundle) -> None:
    for folder in ("/etc/nothing/at/all", "tmp"):
        done = box.exec("--cwd", folder, "--", "true", ok=False)
        assert done.returncode != 0 or folder != "tmp"


@pytest.mark.parametrize(("user", "shown"), [("7", "7 0"), ("7:8", "7 8"), ("0:9", "0 9")])
@pytest.mark.parametrize("flag", ["-u", "--user"])
def test_user(box: Bundle, flag: str, user: str, shown: str) -> None:
    done = box.exec(flag, user, "--", "sh", "-c", "echo $(id -u) $(id -g)")
    assert done.stdout == f"{shown}\n"


@pytest.mark.parametrize(
    "user", [
        "me", "7:me", "-1", "1:2:3",
        pytest.param("4294967296", marks=differs("it is cut to 0", "runc")),
    ],
)  # fmt: skip
def test_a_user_that_cannot_be(box: Bundle, user: str) -> None:
    assert box.exec("-u", user, "--", "true", ok=False).returncode != 0


def test_additional_groups(box: Bundle) -> None:
    done = box.exec("-u", "7:8", "-g", "9", "-g", "10", "--", "id", "-G")
    assert sorted(done.stdout.split()) == sorted(["8", "9", "10"])


@pytest.mark.parametrize("flag", ["--cap", "-c"])
def test_capabilities_are_added(box: Bundle, flag: str) -> None:
    text = box.exec(flag, "CAP_NET_ADMIN", flag, "CAP_SYS_ADMIN", "--", "cat", "/proc/self/status")
    assert sets(text.stdout)["Eff"] == mask(*CAPABILITIES, "NET_ADMIN", "SYS_ADMIN")
    assert sets(text.stdout)["Bnd"] == mask(*CAPABILITIES, "NET_ADMIN", "SYS_ADMIN")


def test_no_new_privileges(bundle: Bundle) -> None:
    bundle.process["noNewPrivileges"] = False
    bundle.up()
    grep = ("grep", "NoNewPrivs", "/proc/self/status")
    assert bundle.exec(*grep).stdout.split()[1] == "0"
    assert bundle.exec("--no-new-privs", "--", *grep).stdout.split()[1] == "1"


def test_detached_with_a_pid_file(box: Bundle) -> None:
    place = f"{box.folder}/exec.pid"
    box.leave("exec", "-d", "--pid-file", place, box.id, "sh", "-c", "echo up; exec sleep 1001")
    box.until("up")
    with open(place) as file:
        pid = int(file.read())
    wait_until(lambda: "1001" in command_line(pid))
    assert pid in children()
    assert field(pid, "NSpid").split()[1] != "1"
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == -9


def test_pid_file_in_the_foreground(box: Bundle) -> None:
    place = f"{box.folder}/exec.pid"
    box.exec("--pid-file", place, "--", "true")
    with open(place) as file:
        text = file.read()
    assert text.isdecimal()


def test_preserve_fds(box: Bundle) -> None:
    argv = box.argv("exec", "--preserve-fds", "1", box.id, "sh", "-c", "echo through >&3")
    assert through_three(argv) == "through\n"


def test_a_process_file(box: Bundle) -> None:
    process = default_config()["process"] | {
        "args": ["sh", "-c", "echo $A; id -u; pwd; cat /proc/self/status"], "cwd": "/tmp",
        "env": ["PATH=/bin", "A=of the file"], "user": {"uid": 7, "gid": 8},
    }  # fmt: skip
    process["capabilities"] = {"bounding": ["CAP_KILL"], "ambient": [], "permitted": ["CAP_KILL"]}
    place = box.make("process.json", json.dumps(process))
    for flag in ("-p", "--process"):
        done = box.exec(flag, place, "--")
        assert done.stdout.startswith("of the file\n7\n/tmp\n")
        assert sets(done.stdout)["Bnd"] == mask("KILL")


@pytest.mark.parametrize(
    "change", [{"args": []}, {"cwd": "tmp"}, {"user": {"uid": -1, "gid": 0}}, {"args": "true"}]
)
def test_a_process_file_that_cannot_be(box: Bundle, change: dict[str, Any]) -> None:
    process = default_config()["process"] | {"args": ["true"]} | change
    place = box.make("process.json", json.dumps(process))
    done = box.exec("-p", place, "--", ok=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert box.exec("-p", f"{box.folder}/nothing.json", "--", ok=False).returncode != 0


def test_without_a_command(box: Bundle) -> None:
    assert box.call("exec", box.id, ok=False).returncode != 0


# ---------------------------------------------------------------------------------------- terminals


@pytest.mark.in_vm
def test_a_terminal_over_a_console_socket(box: Bundle) -> None:
    with Terminal(box) as terminal:
        place = f"{box.folder}/exec.pid"
        box.leave(
            "exec", "-t", "-d", "--console-socket", terminal.path, "--pid-file", place, box.id,
            "sh", "-c", "tty; read x; echo got $x",
        )  # fmt: skip
        terminal.accept()
        terminal.until("/dev/pts/")
        terminal.write("line\n")
        assert terminal.rest().endswith("got line\n")
        with open(place) as file:
            assert reap(int(file.read())) == 0


def test_a_detached_terminal_needs_a_console_socket(box: Bundle) -> None:
    done = box.call("exec", "-t", "-d", box.id, "true", ok=False)
    assert done.returncode != 0


def test_console_size_of_a_process_file(box: Bundle) -> None:
    process = default_config()["process"] | {
        "args": ["stty", "size"], "terminal": True, "consoleSize": {"height": 31, "width": 71},
    }  # fmt: skip
    place = box.make("process.json", json.dumps(process))
    with Terminal(box) as terminal:
        socket, pid = terminal.path, f"{box.folder}/exec.pid"
        box.leave("exec", "-d", "--console-socket", socket, "--pid-file", pid, "-p", place, box.id)
        terminal.accept()
        assert "31 71" in terminal.rest()
        with open(pid) as file:
            reap(int(file.read()))


# -------------------------------------------------------------------------------- states, hostility


@pytest.mark.parametrize("state", ["stopped", "none"])
def test_states_in_which_it_is_refused(bundle: Bundle, state: str) -> None:
    if state == "stopped":
        bundle.up()
        bundle.kill()
        bundle.ended()
    done = bundle.call("exec", bundle.id, "true", ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()


@differs("a created container takes an exec", "crun")
def test_an_exec_in_a_created_container(bundle: Bundle) -> None:
    """It exists before its program runs; managers use that."""
    bundle.create()
    done = bundle.exec("echo", "x", ok=False)
    assert done.returncode != 0 or done.stdout == "x\n"
    assert bundle.status == "created"


def test_a_paused_container(box: Bundle) -> None:
    box.call("pause", box.id)
    done = box.exec("true", ok=False)
    assert done.returncode != 0
    assert "paused" in done.stderr
    box.call("resume", box.id)
    assert box.exec("echo", "x").stdout == "x\n"


def test_a_container_may_not_reach_the_runtime(box: Bundle) -> None:
    """CVE-2019-5736: /proc/self/exe of what joins must not be a file of the host that opens."""
    os.symlink("/proc/self/exe", f"{box.rootfs}/bin/trap-exec")
    box.exec("trap-exec", "true", ok=False)
    box.exec("/proc/self/exe", "true", ok=False)
    assert box.status == "running"


def test_it_dies_with_the_container(box: Bundle) -> None:
    argv = box.argv("exec", box.id, "sleep", "1002")
    with Running(argv) as running:
        wait_until(lambda: "sleep 1002" in box.exec("ps", "-o", "args").stdout)
        box.kill()
        assert running.wait() in (137, 255, 1)
    box.ended()


def test_a_joined_user_namespace(bundle: Bundle) -> None:
    from .test_mounts import with_user_namespace

    with_user_namespace(bundle)
    bundle.up()
    assert bundle.exec("sh", "-c", "id -u; cut -c1-22 /proc/self/uid_map").stdout.split()[0] == "0"
    place = f"{bundle.folder}/exec.pid"
    bundle.leave("exec", "-d", "--pid-file", place, bundle.id, "sleep", "1001")
    with open(place) as file:
        pid = int(file.read())
    wait_until(lambda: field(pid, "Uid").split()[0] == "100000")


@older("it knows no such flag", crun="99")
def test_a_sub_cgroup(box: Bundle) -> None:
    """--cgroup names one below the container's; what is not there is an error."""
    assert box.exec("--cgroup", "nothing", "--", "true", ok=False).returncode != 0
    assert box.exec("--cgroup", "../..", "--", "true", ok=False).returncode != 0


@pytest.mark.parametrize("flag", ["--apparmor", "--process-label"])
def test_a_label_that_the_host_cannot_enforce(box: Bundle, flag: str) -> None:
    if os.path.exists("/sys/module/apparmor") or os.path.exists("/sys/fs/selinux"):
        pytest.skip("the host has a security module that knows labels")
    assert box.exec(flag, "some_label", "--", "true", ok=False).returncode != 0
