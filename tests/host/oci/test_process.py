"""config.md, process: what the program is started as, with, and in."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import (
    CAPABILITIES,
    PATIENCE,
    Terminal,
    bind,
    command_line,
    differs,
    field,
    mount,
    older,
    spec,
    wait_until,
    wait_until_gone,
)

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]

BITS = {
    name: bit
    for bit, name in enumerate(
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
        "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
        "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
        "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
        "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
        "CHECKPOINT_RESTORE".split()
    )
}


def mask(*names: str) -> int:
    return sum(1 << BITS[name.removeprefix("CAP_")] for name in names)


def sets(text: str) -> dict[str, int]:
    """The capability sets of a text of /proc/PID/status."""
    lines = (line.split() for line in text.splitlines() if line.startswith("Cap"))
    return {name.removeprefix("Cap").rstrip(":"): int(value, 16) for name, value in lines}


# ----------------------------------------------------------------------------------- args, env, cwd


def test_args_come_as_they_are(bundle: Bundle) -> None:
    words = ["a b", "", "$HOME", "'\"\\", "é\u2028", "x" * 10000, "-n"]
    assert bundle.out("printf", "<%s>", *words) == "".join(f"<{word}>" for word in words)


def test_the_first_word_is_argv_0(bundle: Bundle) -> None:
    bundle.process["args"] = ["/bin/../bin/sh", "-c", "tr '\\0' '|' </proc/1/cmdline; true"]
    assert bundle.run().stdout.startswith("/bin/../bin/sh|-c|")


@spec("config.md#configProcess: args has an entry")
@pytest.mark.parametrize("args", [[], None])
def test_no_args_are_refused(bundle: Bundle, args: list[str] | None) -> None:
    bundle.process["args"] = args
    bundle.refused()


def test_a_program_is_looked_up_in_the_path_of_the_configuration(bundle: Bundle) -> None:
    bundle.make("rootfs/opt/tool", "#!/bin/sh\necho found in opt\n")
    os.chmod(f"{bundle.rootfs}/opt/tool", 0o755)
    bundle.process["env"] = ["PATH=/nowhere:/opt"]
    assert bundle.out("tool") == "found in opt\n"
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["args"] = ["tool"]
    assert "tool" in bundle.refused()


def test_a_relative_program_starts_in_the_working_folder(bundle: Bundle) -> None:
    bundle.make("rootfs/srv/tool", "#!/bin/sh\npwd\n")
    os.chmod(f"{bundle.rootfs}/srv/tool", 0o755)
    bundle.process["cwd"] = "/srv"
    assert bundle.out("./tool") == "/srv\n"


@pytest.mark.parametrize("case", ["missing", "folder", "mode", "format"])
def test_a_program_that_cannot_be_executed(bundle: Bundle, case: str) -> None:
    bundle.make("rootfs/opt/dir")
    bundle.make("rootfs/opt/plain", "text")
    bundle.make("rootfs/opt/bad", "\x7fELF")
    os.chmod(f"{bundle.rootfs}/opt/bad", 0o755)
    name = {"missing": "nothing", "folder": "dir", "mode": "plain", "format": "bad"}[case]
    bundle.process["args"] = [f"/opt/{name}"]
    said = bundle.refused("run")
    if case != "format":
        assert f"/opt/{name}" in said


@differs("start does not wait for the end", "runc", "crun")
def test_a_start_that_fails_returns_when_the_process_has_ended(bundle: Bundle) -> None:
    """A manager deletes the container then, and gives up where the process has not ended."""
    bundle.make("rootfs/opt/bad", "\x7fELF")
    os.chmod(f"{bundle.rootfs}/opt/bad", 0o755)
    bundle.process["args"] = ["/opt/bad"]
    bundle.create()
    # The first process of a pid namespace ends when the others have been waited for.
    words = ["nsenter", "--target", str(bundle.pid), "--pid", "sleep", "1000"]
    with subprocess.Popen(words) as other:
        try:
            children = Path(f"/proc/{other.pid}/task/{other.pid}/children")
            wait_until(children.read_text)
            sleeping = int(children.read_text())
            wait_until(lambda: command_line(sleeping).startswith("sleep"))
            other.send_signal(signal.SIGSTOP)
            start = subprocess.Popen(bundle.argv("start", bundle.id), stderr=subprocess.PIPE)
            wait_until_gone(sleeping)
            with pytest.raises(subprocess.TimeoutExpired):
                start.wait(1.0)
            other.send_signal(signal.SIGCONT)
            _, said = start.communicate(timeout=PATIENCE)
        finally:
            other.kill()
    assert start.returncode != 0
    assert "/opt/bad" in said.decode()
    assert bundle.status == "stopped"


@spec("runtime.md#runtimeErrors: an error leaves everything as it was")
def test_a_program_that_is_missing_is_found_out_by_create(bundle: Bundle) -> None:
    """Managers tell their user while the container is made; start would be too late."""
    bundle.process["args"] = ["/bin/nothing"]
    assert "/bin/nothing" in bundle.refused()


def test_the_environment_is_the_configurations_alone(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin", "A=1", "EMPTY=", "B=x=y", "C= z \n"]
    got = bundle.out("env").splitlines()
    assert {"PATH=/bin", "A=1", "EMPTY=", "B=x=y", "C= z "} <= set(got)
    names = {line.partition("=")[0] for line in got if "=" in line}
    assert names <= {"PATH", "A", "EMPTY", "B", "C", "HOME", "PWD", "SHLVL"}


@pytest.mark.parametrize(
    ("passwd", "uid", "home"),
    [
        ("me:x:7:8::/home/me:/bin/sh\n", 7, "/home/me"),
        ("me:x:7:8::/home/me:/bin/sh\n", 9, "/"),
        ("root:x:0:0::/root:/bin/sh\n", 0, "/root"),
    ],
)
def test_home_comes_from_passwd(bundle: Bundle, passwd: str, uid: int, home: str) -> None:
    """Programs count on HOME; who starts through runc finds it set."""
    bundle.make("rootfs/etc/passwd", passwd)
    bundle.process["user"] = {"uid": uid, "gid": 8}
    assert bundle.out("sh", "-c", "echo $HOME") == f"{home}\n"
    bundle.process["env"].append("HOME=/given")
    assert bundle.out("sh", "-c", "echo $HOME") == "/given\n"


def test_a_variable_given_twice_has_its_last_value(bundle: Bundle) -> None:
    bundle.process["env"] += ["A=1", "A=2"]
    assert bundle.out("sh", "-c", "echo $A") == "2\n"


@pytest.mark.parametrize("cwd", ["/", "/tmp", "/bin/../tmp", "/made/by/us", "/tmp/"])
def test_the_working_folder(bundle: Bundle, cwd: str) -> None:
    bundle.process["cwd"] = cwd
    assert os.path.normpath(bundle.out("pwd").strip()) == os.path.normpath(cwd)


@spec("config.md#configProcess: cwd is absolute")
@pytest.mark.parametrize("cwd", ["tmp", "", "./tmp", None])
def test_a_working_folder_that_is_not_absolute(bundle: Bundle, cwd: str | None) -> None:
    bundle.process["cwd"] = cwd
    bundle.refused()


def test_a_working_folder_below_a_file(bundle: Bundle) -> None:
    bundle.make("rootfs/etc/file", "")
    bundle.process["cwd"] = "/etc/file/x"
    bundle.refused("run")


def test_a_working_folder_that_only_its_user_may_enter(bundle: Bundle) -> None:
    bundle.make("rootfs/home/me")
    os.chown(f"{bundle.rootfs}/home/me", 7, 7)
    os.chmod(f"{bundle.rootfs}/home/me", 0o700)
    bundle.process["user"] = {"uid": 7, "gid": 7}
    bundle.process["cwd"] = "/home/me"
    assert bundle.out("pwd") == "/home/me\n"


def test_a_link_to_the_host_is_no_working_folder(bundle: Bundle) -> None:
    """An image's link is resolved in the container; /proc/self/fd leads to no host folder."""
    os.symlink("/proc/self/fd/7", f"{bundle.rootfs}/srv")
    bundle.process["cwd"] = "/srv"
    bundle.process["args"] = ["sh", "-c", "ls /../../../..; cat ../../../../etc/hostname"]
    done = bundle.run()
    if done.returncode == 0:
        with open("/etc/hostname") as file:
            assert file.read().strip() not in done.stdout


# ------------------------------------------------------------------------------ the user, the umask


def test_uid_and_gid(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1234, "gid": 5678}
    assert bundle.out("id") == "uid=1234 gid=5678\n"


def test_additional_groups(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [100, 2147483647, 5]}
    assert sorted(map(int, bundle.out("id", "-G").split())) == [5, 8, 100, 2147483647]


def test_root_has_no_groups_but_those_given(bundle: Bundle) -> None:
    assert bundle.out("id", "-G") == "0\n"
    bundle.process["user"]["additionalGids"] = list(range(1000, 1300))
    assert len(bundle.out("id", "-G").split()) == 301


@pytest.mark.parametrize("umask", [0o022, 0, 0o077, 0o7, 0o777])
def test_umask(bundle: Bundle, umask: int) -> None:
    bundle.process["user"]["umask"] = umask
    assert int(bundle.sh("umask"), 8) == umask


def test_the_umask_where_none_is_given(bundle: Bundle) -> None:
    assert int(bundle.sh("umask"), 8) == 0o022


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "user",
    [
        {"uid": -1, "gid": 0},
        {"uid": 0, "gid": -1},
        {"uid": 4294967296, "gid": 0},
        {"uid": "0", "gid": 0},
        {"uid": 1.5, "gid": 0},
        {"uid": 0, "gid": 0, "additionalGids": [-1]},
        {"uid": 0, "gid": 0, "umask": -1},
        {"uid": 0, "gid": 0, "additionalGids": "5"},
    ],
)
def test_a_user_that_cannot_be(bundle: Bundle, user: dict[str, Any]) -> None:
    bundle.process["user"] = user
    bundle.refused()


def test_the_standard_streams_belong_to_the_user(bundle: Bundle) -> None:
    """A program that reopens /dev/stdout must be allowed to, fchown(2) of what is no terminal."""
    bundle.process["user"] = {"uid": 7, "gid": 7}
    assert bundle.sh("echo through >/dev/stdout; echo x >/dev/null") == "through\n"


# ------------------------------------------------------------------------------------------ rlimits

KINDS = {
    "RLIMIT_AS": (9, "v"), "RLIMIT_CORE": (4, "c"), "RLIMIT_CPU": (0, "t"),
    "RLIMIT_DATA": (2, "d"), "RLIMIT_FSIZE": (1, "f"), "RLIMIT_LOCKS": (10, "x"),
    "RLIMIT_MEMLOCK": (8, "l"), "RLIMIT_MSGQUEUE": (12, ""), "RLIMIT_NICE": (13, "e"),
    "RLIMIT_NOFILE": (7, "n"), "RLIMIT_NPROC": (6, "p"), "RLIMIT_RSS": (5, "m"),
    "RLIMIT_RTPRIO": (14, "r"), "RLIMIT_RTTIME": (15, ""), "RLIMIT_SIGPENDING": (11, ""),
    "RLIMIT_STACK": (3, "s"),
}  # fmt: skip
ROWS = {
    "RLIMIT_AS": "Max address space", "RLIMIT_CORE": "Max core file size",
    "RLIMIT_CPU": "Max cpu time", "RLIMIT_DATA": "Max data size",
    "RLIMIT_FSIZE": "Max file size", "RLIMIT_LOCKS": "Max file locks",
    "RLIMIT_MEMLOCK": "Max locked memory", "RLIMIT_MSGQUEUE": "Max msgqueue size",
    "RLIMIT_NICE": "Max nice priority", "RLIMIT_NOFILE": "Max open files",
    "RLIMIT_NPROC": "Max processes", "RLIMIT_RSS": "Max resident set",
    "RLIMIT_RTPRIO": "Max realtime priority", "RLIMIT_RTTIME": "Max realtime timeout",
    "RLIMIT_SIGPENDING": "Max pending signals", "RLIMIT_STACK": "Max stack size",
}  # fmt: skip


def limits(text: str, kind: str) -> tuple[str, str]:
    """Soft and hard limit in a text of /proc/PID/limits."""
    row = next(line for line in text.splitlines() if line.startswith(ROWS[kind]))
    soft, hard = row[26:].split()[:2]
    return soft, hard


def ceiling(kind: str) -> int:
    """The hard limit of this process: no higher one may be set without CAP_SYS_RESOURCE."""
    with open("/proc/self/limits") as file:
        _, hard = limits(file.read(), kind)
    return 1 << 20 if hard == "unlimited" else int(hard)


@spec(
    "config.md#configPOSIXProcess: an rlimit's kind can be asked for",
    "config.md#configPOSIXProcess: the soft limit is what was asked for",
    "config.md#configPOSIXProcess: the hard limit is what was asked for",
)
def test_every_rlimit(bundle: Bundle) -> None:
    asked = {}
    for kind in KINDS:
        hard = ceiling(kind)
        enough = 1 << 28 if kind in ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK") else hard
        asked[kind] = (max(hard, enough) // 2 if hard else 0, max(hard, enough) if hard else 0)
    bundle.process["rlimits"] = [
        {"type": kind, "soft": soft, "hard": hard} for kind, (soft, hard) in asked.items()
    ]
    text = bundle.out("cat", "/proc/self/limits")
    assert {kind: limits(text, kind) for kind in asked} == {
        kind: (str(soft), str(hard)) for kind, (soft, hard) in asked.items()
    }


def test_an_rlimit_without_end(bundle: Bundle) -> None:
    with open("/proc/self/limits") as file:
        if limits(file.read(), "RLIMIT_CORE")[1] != "unlimited":
            pytest.skip("the hard limit of this process is lower")
    end = 2**64 - 1
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": end, "hard": end}]
    text = bundle.out("cat", "/proc/self/limits")
    assert limits(text, "RLIMIT_CORE") == ("unlimited", "unlimited")


def test_rlimits_that_are_not_given_are_inherited(bundle: Bundle) -> None:
    text = bundle.out("cat", "/proc/self/limits")
    with open("/proc/self/limits") as file:
        own = file.read()
    for kind in ("RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_AS"):
        assert limits(text, kind) == limits(own, kind)


@spec("config.md#configPOSIXProcess: an rlimit of no such kind is an error")
@pytest.mark.parametrize("kind", ["RLIMIT_NOTHING", "NOFILE", "rlimit_nofile", "", None])
def test_an_rlimit_of_no_such_kind(bundle: Bundle, kind: str | None) -> None:
    bundle.process["rlimits"] = [{"type": kind, "soft": 10, "hard": 10}]
    bundle.refused()


@spec("config.md#configPOSIXProcess: an rlimit given twice is an error")
@differs("the last one wins", "runc", "crun")
def test_an_rlimit_given_twice(bundle: Bundle) -> None:
    entry = {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}
    bundle.process["rlimits"] = [entry, {**entry, "soft": 50}]
    bundle.refused()


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    ("soft", "hard"), [(20, 10), (-1, 10), (2**64, 2**64), ("10", 10), (1.5, 2)]
)
def test_an_rlimit_that_cannot_be(bundle: Bundle, soft: object, hard: object) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]
    bundle.refused()


# ------------------------------------------------------------------------------------- capabilities


@pytest.mark.in_vm
def test_each_capability_set(bundle: Bundle) -> None:
    bundle.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_FOWNER"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_KILL"],
    }
    bundle.process["user"] = {"uid": 7, "gid": 7}
    # Without root's special rules what is left after exec is what is ambient, capabilities(7).
    assert sets(bundle.out("cat", "/proc/self/status")) == {
        "Bnd": mask("CHOWN", "KILL", "NET_RAW", "FOWNER"),
        "Prm": mask("KILL"),
        "Eff": mask("KILL"),
        "Inh": mask("KILL", "NET_RAW"),
        "Amb": mask("KILL"),
    }


def test_root_has_after_exec_what_is_bounding(bundle: Bundle) -> None:
    assert sets(bundle.out("cat", "/proc/self/status")) == {
        "Bnd": mask(*CAPABILITIES),
        "Prm": mask(*CAPABILITIES),
        "Eff": mask(*CAPABILITIES),
        "Inh": 0,
        "Amb": 0,
    }


@pytest.mark.parametrize("given", [{}, None])
def test_no_capabilities(bundle: Bundle, given: object) -> None:
    if given is None:
        del bundle.process["capabilities"]
    else:
        bundle.process["capabilities"] = given
    found = sets(bundle.out("cat", "/proc/self/status"))
    if given is not None:
        assert set(found.values()) == {0}
    else:
        assert found["Eff"] in (0, found["Bnd"])


@spec(
    "config.md#configLinuxProcess: a capability that cannot be granted is a warning",
    "runtime.md#runtimeWarnings: a warning does not change what happens",
)
@pytest.mark.parametrize("name", ["CAP_NOTHING", "CAP_99", "chown"])
@differs("an unknown capability is an error", "crun")
def test_a_capability_that_cannot_be_granted(bundle: Bundle, name: str) -> None:
    for kind in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][kind] = ["CAP_KILL", name]
    bundle.process["args"] = ["cat", "/proc/self/status"]
    bundle.write()
    log = f"{bundle.folder}/log.json"
    before = ["--log", log, "--log-format", "json"]
    done = bundle.call("run", "--bundle", bundle.folder, bundle.id, before=before)
    assert sets(done.stdout)["Eff"] == mask("KILL")
    with open(log) as file:
        said = file.read()
    assert name in said
    assert "warn" in said


@differs("it fails", "runc")
def test_a_capability_outside_the_bounding_set_of_this_machine(bundle: Bundle) -> None:
    here = int(field(os.getpid(), "CapBnd"), 16)
    name = next((name for name, bit in BITS.items() if not here >> bit & 1), None)
    if name is None:
        pytest.skip("this process has every capability")
    for kind in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][kind] = ["CAP_KILL", f"CAP_{name}"]
    assert sets(bundle.out("cat", "/proc/self/status"))["Eff"] == mask("KILL")


@differs("it drops them without a word", "runc")
def test_ambient_needs_inheritable(bundle: Bundle) -> None:
    """capabilities(7): what is ambient is permitted and inheritable; else there is a word of it."""
    bundle.process["capabilities"]["ambient"] = ["CAP_KILL"]
    bundle.process["user"] = {"uid": 7, "gid": 7}
    bundle.process["args"] = ["cat", "/proc/self/status"]
    done = bundle.run()
    if done.returncode == 0:
        assert sets(done.stdout)["Amb"] == 0
        assert "KILL" in done.stderr.upper() or "ambient" in done.stderr


@pytest.mark.parametrize("flag", [True, False])
def test_no_new_privileges(bundle: Bundle, flag: bool) -> None:
    bundle.process["noNewPrivileges"] = flag
    assert f"NoNewPrivs:\t{int(flag)}\n" in bundle.out("cat", "/proc/self/status")


# ---------------------------------------------------------------------- scores, schedules, affinity


@spec("config.md#configLinuxProcess: oomScoreAdj is set")
@pytest.mark.parametrize("score", [1000, 500, 1])
def test_oom_score(bundle: Bundle, score: int) -> None:
    bundle.process["oomScoreAdj"] = score
    assert bundle.out("cat", "/proc/self/oom_score_adj") == f"{score}\n"


@spec("config.md#configLinuxProcess: oomScoreAdj is left alone where it is not given")
def test_the_oom_score_where_none_is_given(bundle: Bundle) -> None:
    with open("/proc/self/oom_score_adj") as file:
        assert bundle.out("cat", "/proc/self/oom_score_adj") == file.read()


def test_an_oom_score_of_zero_is_one(bundle: Bundle) -> None:
    with open("/proc/self/oom_score_adj") as file:
        if int(file.read()) > 0:
            pytest.skip("lowering it needs CAP_SYS_RESOURCE")
    bundle.process["oomScoreAdj"] = 0
    assert bundle.out("cat", "/proc/self/oom_score_adj") == "0\n"


@pytest.mark.parametrize("score", [1001, -1001, "5", 1.5])
def test_an_oom_score_that_cannot_be(bundle: Bundle, score: object) -> None:
    bundle.process["oomScoreAdj"] = score
    bundle.refused()


@older("it knows no scheduler", runc="1.2", crun="1.9")
@spec(
    "config.md#configLinuxProcess: an unset nice, priority, runtime, deadline or period counts as 0"
)
@pytest.mark.parametrize(
    ("scheduler", "policy", "nice"),
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, 0, 7),
        ({"policy": "SCHED_BATCH", "nice": 3}, 3, 3),
        ({"policy": "SCHED_BATCH"}, 3, 0),
        ({"policy": "SCHED_IDLE"}, 5, 0),
    ],
)
def test_scheduler(bundle: Bundle, scheduler: dict[str, Any], policy: int, nice: int) -> None:
    bundle.process["scheduler"] = scheduler
    bundle.process["args"] = ["sleep", "1000"]
    pid = bundle.up()
    assert os.sched_getscheduler(pid) == policy
    assert os.getpriority(os.PRIO_PROCESS, pid) == nice


@older("it knows no scheduler", runc="1.2", crun="1.9")
@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR"])
def test_real_time_scheduler(bundle: Bundle, policy: str) -> None:
    flags = ["SCHED_FLAG_RESET_ON_FORK"]
    bundle.process["scheduler"] = {"policy": policy, "priority": 5, "flags": flags}
    pid = bundle.up()
    assert os.sched_getscheduler(pid) == getattr(os, policy) | os.SCHED_RESET_ON_FORK
    assert os.sched_getparam(pid).sched_priority == 5


@older("it knows no scheduler", runc="1.2", crun="1.9")
def test_deadline_scheduler(bundle: Bundle) -> None:
    bundle.process["scheduler"] = {
        "policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 10000000, "period": 20000000,
    }  # fmt: skip
    pid = bundle.up()
    assert os.sched_getscheduler(pid) == 6


@older("it knows no scheduler", runc="1.2", crun="1.9")
@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "scheduler",
    [
        {},
        {"policy": "SCHED_NONE"},
        {"policy": "SCHED_FIFO", "priority": 1000},
        {"policy": "SCHED_FIFO"},
        {"policy": "SCHED_OTHER", "nice": 20},
        {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE"]},
        {"policy": "SCHED_OTHER", "priority": 1},
        {"policy": "SCHED_DEADLINE", "runtime": 10, "deadline": 5, "period": 1},
    ],
)
def test_a_scheduler_that_cannot_be(bundle: Bundle, scheduler: dict[str, Any]) -> None:
    bundle.process["scheduler"] = scheduler
    bundle.refused("run")


@older("it knows no ioPriority", runc="1.2", crun="1.9")
@pytest.mark.parametrize(
    ("kind", "priority", "value"),
    [
        ("IOPRIO_CLASS_BE", 7, 2 << 13 | 7),
        ("IOPRIO_CLASS_IDLE", 0, 3 << 13),
        ("IOPRIO_CLASS_RT", 4, 1 << 13 | 4),
    ],
)
def test_io_priority(bundle: Bundle, kind: str, priority: int, value: int) -> None:
    bundle.process["ioPriority"] = {"class": kind, "priority": priority}
    bundle.process["env"].append("VALUE=1")
    assert int(bundle.out("probe", "252", "1", "0")) == value  # ioprio_get(2)


@older("it knows no ioPriority", runc="1.2", crun="1.9")
@pytest.mark.parametrize(
    "given",
    [
        {"class": "IOPRIO_CLASS_NONE", "priority": 0},
        {"class": "IOPRIO_CLASS_BE", "priority": 8},
        {"class": "IOPRIO_CLASS_BE", "priority": -1},
        {"priority": 1},
    ],
)
def test_an_io_priority_that_cannot_be(bundle: Bundle, given: dict[str, Any]) -> None:
    bundle.process["ioPriority"] = given
    bundle.refused()


@older("it knows no execCPUAffinity", runc="1.3", crun="1.21")
def test_cpu_affinity_is_for_exec_only(bundle: Bundle) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    bundle.process["execCPUAffinity"] = {"initial": str(cpus[0]), "final": str(cpus[-1])}
    bundle.up()
    assert os.sched_getaffinity(bundle.pid) == set(cpus)
    said = bundle.exec("grep", "Cpus_allowed_list", "/proc/self/status").stdout
    assert said.split()[1] == str(cpus[-1])


@older("it knows no execCPUAffinity", runc="1.3", crun="1.21")
@pytest.mark.parametrize("given", ["x", "0-", "3-1", "-1", "0,,1", "99999999"])
def test_a_cpu_affinity_that_cannot_be(bundle: Bundle, given: str) -> None:
    bundle.process["execCPUAffinity"] = {"final": given}
    done = bundle.create(ok=False)
    if done.returncode == 0:
        bundle.start()
        assert bundle.exec("true", ok=False).returncode != 0


@pytest.mark.parametrize("key", ["apparmorProfile", "selinuxLabel"])
def test_a_label_that_the_host_cannot_enforce_is_refused(bundle: Bundle, key: str) -> None:
    name = "apparmor" if key == "apparmorProfile" else "selinux"
    with open("/proc/filesystems") as file:
        known = "selinuxfs" in file.read()
    if os.path.exists("/sys/module/apparmor") or known:
        pytest.skip("the host has a security module that knows labels")
    bundle.process[key] = "system_u:system_r:svirt_lxc_net_t:s0:c1,c2"
    said = bundle.refused("run")
    assert name in said.lower()


# ----------------------------------------------------------------------------------------- terminal


def window(fd: int) -> tuple[int, int]:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def on_terminal(bundle: Bundle, terminal: Terminal, script: str) -> None:
    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh", "-c", script]
    bundle.create("--console-socket", terminal.path)
    terminal.accept()


def test_a_terminal_comes_over_the_console_socket(bundle: Bundle) -> None:
    with Terminal(bundle) as terminal:
        on_terminal(
            bundle, terminal, "tty; read x; echo got $x; test -t 0 -a -t 1 -a -t 2 && echo t"
        )
        bundle.start()
        terminal.until("/dev/pts/0")
        terminal.write("line\n")
        assert terminal.rest().endswith("got line\nt\n")
        assert bundle.ended() == 0


def test_the_terminal_is_the_containers_console(bundle: Bundle) -> None:
    with Terminal(bundle) as terminal:
        script = (
            "echo to console >/dev/console; echo to tty >/dev/tty; ls -l /dev/console; ps -o tty"
        )
        on_terminal(bundle, terminal, script)
        bundle.start()
        text = terminal.rest()
        assert "to console\n" in text
        assert "to tty\n" in text
        assert "136," in text


def test_the_terminal_is_the_controlling_one(bundle: Bundle) -> None:
    with Terminal(bundle) as terminal:
        on_terminal(
            bundle,
            terminal,
            "trap 'echo interrupted; exit 3' INT; echo up; while :; do sleep 0.02; done",
        )
        bundle.start()
        terminal.until("up")
        terminal.write("\x03")
        assert "interrupted" in terminal.rest()
        assert bundle.ended() == 3


def test_console_size(bundle: Bundle) -> None:
    bundle.process["consoleSize"] = {"height": 33, "width": 77}
    with Terminal(bundle) as terminal:
        on_terminal(bundle, terminal, "stty size")
        assert window(terminal.fd) == (33, 77)
        bundle.start()
        assert "33 77" in terminal.rest()


@spec("config.md#configProcess: consoleSize without a terminal is ignored")
def test_console_size_without_a_terminal_is_ignored(bundle: Bundle) -> None:
    bundle.process["consoleSize"] = {"height": 33, "width": 77}
    assert bundle.sh("test -t 0; echo $?") == "1\n"


def test_the_terminal_belongs_to_the_user(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 7, "gid": 8}
    with Terminal(bundle) as terminal:
        on_terminal(bundle, terminal, "stat -c %u /dev/pts/0; echo again >$(tty)")
        bundle.start()
        assert terminal.rest() == "7\nagain\n"


def test_a_terminal_without_a_console_socket_is_refused_by_create(bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    bundle.refused()


def test_a_console_socket_without_a_terminal_is_refused(bundle: Bundle) -> None:
    with Terminal(bundle) as terminal:
        bundle.refused("create", "--console-socket", terminal.path)


def test_a_console_socket_that_nobody_hears(bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    with Terminal(bundle) as terminal:
        path = terminal.path
    bundle.refused("create", "--console-socket", path)
    bundle.refused("create", "--console-socket", "/nonexistent/socket")


def test_a_terminal_in_a_foreground_run(bundle: Bundle) -> None:
    """Without -d, run relays between the caller's terminal and the container's."""
    import pty
    import subprocess

    from .bundle import environment

    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh", "-c", "stty size; read x; echo got $x; exit 5"]
    bundle.write()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 21, 43, 0, 0))
    terminal = Terminal(bundle)
    terminal.fd = master
    with terminal:
        running = subprocess.Popen(
            bundle.argv("run", "--bundle", bundle.folder, bundle.id),
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment(),
        )  # fmt: skip
        os.close(slave)
        try:
            terminal.until("21 43")
            terminal.write("line\n")
            assert "got line" in terminal.until("got line")
            assert running.wait(80) == 5
        finally:
            running.kill()
            running.wait(80)


# ------------------------------------------------------------------------- standard streams, groups


def test_the_process_leads_its_own_session(bundle: Bundle) -> None:
    bundle.namespaces("mount", "uts", "network")
    bundle.up()
    assert os.getsid(bundle.pid) == bundle.pid
    assert os.getpgid(bundle.pid) == bundle.pid


def test_closed_streams_stay_what_they_are(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "cat; echo end"]
    with open("/dev/zero") as zero:
        assert bundle.run(input="").stdout == "end\n"
        assert zero.readable()


def test_a_program_that_ends_at_once(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    bundle.create()
    bundle.start()
    assert bundle.ended() == 0
    wait_until(lambda: bundle.status == "stopped")


def test_the_program_may_be_a_bound_file(bundle: Bundle) -> None:
    bundle.mounts.append(bind(f"{bundle.source}/busybox", "/srv/echo", "ro"))
    assert bundle.out("/srv/echo", "x") == "x\n"


def test_dumpable_and_secure_bits(bundle: Bundle) -> None:
    """After exec the process is an ordinary one: no secure bits, no parent-death signal."""
    bundle.process["env"].append("VALUE=1")
    assert int(bundle.out("probe", "157", "27")) == 0  # PR_GET_SECUREBITS
    assert int(bundle.out("probe", "157", "3")) == 1  # PR_GET_DUMPABLE


def test_init_survives_the_runtime_and_its_terminal(bundle: Bundle) -> None:
    bundle.mounts.append(mount("tmpfs", "/run", "tmpfs"))
    pid = bundle.up_sh("echo up; sleep 0.05; echo still")
    bundle.until("still")
    assert bundle.ended() == 0
    assert pid == bundle.pid
