"""dockerd on our runtime: a container's life."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from .client import NO_REASON, is_everything, runc_cannot, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from .dockerd import Dockerd

pytestmark = [pytest.mark.host, pytest.mark.slow]


# --- exec ---


def test_exec(docker: Dockerd) -> None:
    box = docker.detach("-e", "FROM=container", "-w", "/var")
    done = docker("exec", box, "sh", "-c", "echo out $FROM; pwd; echo err >&2; exit 9")
    assert done == (9, "out container\n/var\n", "err\n")
    assert docker.ok("exec", "-i", box, "wc", "-c", stdin=b"x" * 300_000) == "300000"


def test_exec_options(docker: Dockerd) -> None:
    box = docker.detach()
    flags = ["-u", "1234:37", "-w", "/tmp", "-e", "MORE=1"]
    script = "id -u; id -g; pwd; echo $MORE; grep CapEff /proc/self/status"
    lines = docker.ok("exec", *flags, box, "sh", "-c", script).splitlines()
    assert lines[:4] == ["1234", "37", "/tmp", "1"]
    assert int(lines[4].split()[1], 16) == 0


def test_exec_is_in_the_container(docker: Dockerd) -> None:
    box = docker.detach("--cap-drop", "NET_RAW")
    kinds = "cgroup ipc mnt net pid uts"
    script = (
        f"cd /proc/$0; grep 0:: cgroup; for kind in {kinds}; do readlink ns/$kind; done;"
        " grep -E '^(Cap(Bnd|Eff|Prm)|NoNewPrivs|Seccomp):' status"
    )
    joined = docker.ok("exec", box, "sh", "-c", script, "self")
    assert joined == docker.ok("exec", box, "sh", "-c", script, "1")
    assert "Seccomp:\t2" in joined
    assert "0::/\n" in joined


@runc_cannot("it fails where the machine's bounding set lacks a capability")
def test_exec_privileged(docker: Dockerd) -> None:
    box = docker.detach("--cap-drop", "ALL")
    script = ["grep", "CapEff", "/proc/self/status"]
    assert is_everything(docker.ok("exec", "--privileged", box, *script).split()[1])
    assert int(docker.ok("exec", box, *script).split()[1], 16) == 0


def test_exec_fails(docker: Dockerd) -> None:
    box = docker.detach()
    missing = docker("exec", box, "no-such-command")
    assert missing.code in (126, 127)
    assert NO_REASON not in missing.out + missing.err
    assert "no-such-command" in missing.out + missing.err
    assert "executable file not found" in missing.out + missing.err
    refused = docker("exec", box, "/bin/notes")
    assert refused.code == 126
    assert "permission denied" in refused.out + refused.err
    docker.ok("stop", "-t", "0", box)
    assert "is not running" in docker("exec", box, "true").err


def test_exec_outlives_its_client(docker: Dockerd) -> None:
    box = docker.detach()
    docker.ok("exec", "-d", box, "sh", "-c", "sleep 0.3; echo done >/tmp/done; sleep 1000")
    wait_until(lambda: docker("exec", box, "cat", "/tmp/done").out == "done\n", "the exec's file")
    assert docker.ok("top", box, "-o", "pid,args").count("sleep 1000") == 2


def test_exec_ends_with_its_container(docker: Dockerd) -> None:
    box = docker.detach()
    with docker.terminal("exec", "-t", box, "sh", "-c", "echo up; exec sleep 1000") as session:
        session.expect(b"up")
        docker.ok("kill", box)
        assert session.end() == 137


# --- terminals ---


def test_terminal(docker: Dockerd) -> None:
    words = ["run", "--rm", "-it", "tools", "sh", "-c", "tty; read a; echo got $a; exit 3"]
    with docker.terminal(*words) as session:
        session.expect(b"/dev/pts/0")
        session.type(b"hello\r")
        session.expect(b"got hello")
        assert session.end() == 3


def test_terminal_size(docker: Dockerd) -> None:
    with docker.terminal("run", "--rm", "-it", "tools", "sh", size=(30, 111)) as session:
        # dockerd tells the size only after the start: until then it is not the terminal's
        for size in ((30, 111), (41, 99)):
            session.resize(*size)
            session.type(b"until [ \"$(stty size)\" = '%d %d' ]; do sleep 0.1; done\r" % size)
            session.type(b"echo it is $(stty size)\r")
            session.expect(b"it is %d %d\r\n" % size)
        session.type(b"exit 4\r")
        assert session.end() == 4


def test_terminal_is_the_containers_console(docker: Dockerd) -> None:
    look = "ls -l /dev/console | cut -c1; ps -o tty,args; test -t 0 && test -t 1 && test -t 2"
    assert docker.run("-t", "tools", "sh", "-c", f"{look}; echo $?").out.split()[0] == "c"


def test_interrupt(docker: Dockerd) -> None:
    words = [
        "run",
        "--rm",
        "-it",
        "tools",
        "sh",
        "-c",
        "trap 'exit 5' INT; echo up; while :; do sleep 0.1; done",
    ]
    with docker.terminal(*words) as session:
        session.expect(b"up")
        session.type(b"\x03")
        assert session.end() == 5


def test_detach_and_attach(docker: Dockerd) -> None:
    with docker.terminal("run", "-it", "--name", "shell", "tools", "sh") as session:
        session.type(b"echo ready$((1+1))\r")
        session.expect(b"ready2")
        session.type(b"\x10\x11")  # ctrl-p ctrl-q
        assert session.end() == 0
    assert docker.state("shell") == "running"
    with docker.terminal("attach", "shell") as session:
        session.type(b"exit 6\r")
        assert session.end() == 6


def test_exec_terminal(docker: Dockerd) -> None:
    box = docker.detach("-e", "FROM=container")
    with docker.terminal("exec", "-it", box, "sh", size=(33, 77)) as session:
        session.type(b"tty; echo $FROM$TERM\r")
        session.expect(b"/dev/pts/")
        session.expect(b"containerxterm")
        session.type(b"exit 8\r")
        assert session.end() == 8


# --- verbs ---


def test_stop_asks_first(docker: Dockerd) -> None:
    script = "trap 'echo asked; exit 21' TERM; echo up; while :; do sleep 0.1; done"
    box = docker.ok("run", "-d", "tools", "sh", "-c", script)
    docker.wait_for_log(box, "up")
    docker.ok("stop", box)
    assert docker.ok("logs", box) == "up\nasked"
    assert docker.inspect(box)["State"]["ExitCode"] == 21


def test_stop_kills_at_last(docker: Dockerd) -> None:
    script = "trap '' TERM; echo up; sleep 1000; sleep 1000"
    box = docker.ok("run", "-d", "--stop-timeout", "1000", "tools", "sh", "-c", script)
    docker.wait_for_log(box, "up")
    start = time.monotonic()
    docker.ok("stop", "-t", "1", box)
    assert time.monotonic() - start > 0.9
    state = docker.inspect(box)["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 137, False)


def test_kill(docker: Dockerd) -> None:
    script = "trap 'echo usr1' USR1; echo up; while :; do sleep 0.1; done"
    box = docker.ok("run", "-d", "tools", "sh", "-c", script)
    docker.wait_for_log(box, "up")
    docker.ok("kill", "-s", "USR1", box)
    docker.wait_for_log(box, "usr1")
    assert docker.state(box) == "running"
    docker.ok("kill", box)
    assert docker.ok("wait", box) == "137"


def test_wait(docker: Dockerd) -> None:
    box = docker.ok("run", "-d", "-i", "tools", "sh", "-c", "sleep 0.4; exit 17")
    assert docker.ok("wait", box) == "17"


def test_everything_in_it_is_killed(docker: Dockerd) -> None:
    box = docker.ok(
        "run", "-d", "tools", "sh", "-c", "setsid sleep 1001 & sleep 1002 & exec sleep 1003"
    )
    wait_until(lambda: docker.ok("top", box).count("sleep") == 3, "three processes")
    docker.ok("rm", "-f", box)
    assert b"sleep 100" not in docker.machine("ps", "-eo", "args").stdout.replace(
        b"sleep 1000", b""
    )


def test_restart(docker: Dockerd) -> None:
    box = docker.ok(
        "run", "-d", "tools", "sh", "-c", "echo $((`cat /n` + 1)) >/n; cat /n; exec sleep 1000"
    )
    docker.wait_for_log(box, "1\n")
    before = docker.inspect(box)["State"]
    docker.ok("restart", "-t", "0", box)
    docker.wait_for_log(box, "2\n")
    after = docker.inspect(box)["State"]
    assert after["Status"] == "running"
    assert after["Pid"] != before["Pid"]


def test_restart_policy(docker: Dockerd) -> None:
    box = docker.ok(
        "run", "-d", "--restart", "on-failure:2", "tools", "sh", "-c", "echo again; exit 1"
    )
    wait_until(lambda: docker.inspect(box)["RestartCount"] == 2, "two restarts")
    wait_until(lambda: docker.state(box) == "exited", "its end")
    assert docker.ok("logs", box) == "again\nagain\nagain"


def test_create_and_start(docker: Dockerd) -> None:
    box = docker.ok("create", "-i", "tools", "sh", "-c", "cat; exit 12")
    assert docker.state(box) == "created"
    started = docker("start", "-ai", box, stdin=b"typed\n")
    assert (started.code, started.out) == (12, "typed\n")


def test_pause(docker: Dockerd) -> None:
    count = "n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.02; done"
    box = docker.ok("run", "-d", "tools", "sh", "-c", count)
    root = f"{docker.machine.root}/proc/{docker.inspect(box)['State']['Pid']}/root"

    def counted() -> str:
        with open(f"{root}/count") as file:
            return file.read()

    wait_until(lambda: os.path.exists(f"{root}/count"), "its first count")
    docker.ok("pause", box)
    assert docker.state(box) == "paused"
    first = counted()
    time.sleep(0.2)
    assert counted() == first
    assert "is paused" in docker("exec", box, "true").err
    docker.ok("unpause", box)
    assert docker.state(box) == "running"
    wait_until(lambda: counted() not in ("", first), "it goes on")


def test_removing_a_paused_container(docker: Dockerd) -> None:
    box = docker.detach()
    docker.ok("pause", box)
    docker.ok("rm", "-f", box)


def test_top(docker: Dockerd) -> None:
    box = docker.ok("run", "-d", "tools", "sh", "-c", "sleep 1001 & exec sleep 1002")
    wait_until(lambda: docker.ok("top", box).count("sleep") == 2, "two processes")
    lines = docker.ok("top", box, "-o", "pid,args").splitlines()
    assert str(docker.inspect(box)["State"]["Pid"]) in lines[1].split()


def test_logs(docker: Dockerd) -> None:
    box = docker.ok(
        "run", "-d", "tools", "sh", "-c", "for i in 1 2 3; do echo $i; echo e$i >&2; done"
    )
    docker.ok("wait", box)
    logged = docker("logs", box)
    assert (logged.out, logged.err) == ("1\n2\n3\n", "e1\ne2\ne3\n")


def test_commit_freezes_and_goes_on(docker: Dockerd) -> None:
    box = docker.ok("run", "-d", "tools", "sh", "-c", "echo kept >/kept; echo up; exec sleep 1000")
    docker.wait_for_log(box, "up")
    docker.ok("commit", box, "committed")
    assert docker.state(box) == "running"
    assert docker.ok("run", "--rm", "committed", "cat", "/kept") == "kept"
    docker.ok("rmi", "committed")


def test_stats(docker: Dockerd) -> None:
    box = docker.detach()
    seen = docker.ok("stats", "--no-stream", "--format", "{{.ID}} {{.CPUPerc}}", box)
    assert re.fullmatch(rf"{box[:12]} \d+\.\d+%", seen)


def test_health_is_asked_by_exec(docker: Dockerd) -> None:
    flags = ["--health-cmd", "test -e /well", "--health-interval", "200ms", "--health-retries", "1"]
    box = docker.detach(*flags)
    status = ["inspect", "-f", "{{.State.Health.Status}}", box]
    wait_until(lambda: docker.ok(*status) == "unhealthy", "unhealthy")
    docker.ok("exec", box, "touch", "/well")
    wait_until(lambda: docker.ok(*status) == "healthy", "healthy")


def test_update(docker: Dockerd) -> None:
    box = docker.detach()
    docker.ok("update", "--restart", "no", box)
    limited = docker("update", "--memory", "32m", "--memory-swap", "64m", box)
    assert limited.code == 0, limited
    place = f"{docker.machine.root}/sys/fs/cgroup/docker/{box}/memory.max"
    if "memory limit capabilities" not in limited.out + limited.err:  # dockerd sees the controller
        with open(place) as file:
            assert int(file.read()) == 32 << 20
    assert docker.ok("exec", box, "echo", "alive") == "alive"


def test_build(docker: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM tools\nENV A=b\nRUN echo $A >/made && mkdir /folder\nWORKDIR /folder\n"
        "USER nobody\nRUN id -un >/tmp/who\nRUN exit 0\n"
    )
    docker.ok("build", "-t", "built", str(tmp_path))
    assert docker.ok("run", "--rm", "built", "cat", "/made", "/tmp/who") == "b\nnobody"
    (tmp_path / "Dockerfile").write_text("FROM tools\nRUN exit 23\n")
    failed = docker("build", str(tmp_path))
    assert failed.code != 0
    assert "returned a non-zero code: 23" in failed.err
    docker.ok("rmi", "built")


def test_many_at_once(docker: Dockerd) -> None:
    names = [f"many{number}" for number in range(8)]
    for name in names:
        docker.ok("create", "--name", name, "tools", "sh", "-c", "sleep 0.1; exit 3")
    docker.ok("start", *names)
    assert docker.ok("wait", *names).split() == ["3"] * len(names)
