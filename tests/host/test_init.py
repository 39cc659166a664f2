"""The init of ``--init``: first process, reaper, messenger."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, wait_until
from leaks import text

from pycontain.errors import CommandNotFound, NotExecutable
from pycontain.runtime.handover import NATIVE

if TYPE_CHECKING:
    from harness import Store

pytestmark = pytest.mark.host

INIT = f"{NATIVE}/init"


def test_it_is_static_and_small() -> None:
    assert os.stat(INIT).st_size < 1 << 20
    with open(INIT, "rb") as file:
        program = file.read()
    assert program[:4] == b"\x7fELF"
    assert b"/lib64/ld-linux" not in program
    assert b"/lib/ld-linux" not in program


def test_it_is_the_first_process_and_the_command_the_second(store: Store) -> None:
    out = store.sh("echo $$; tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/comm", init=True)
    lines = out.splitlines()
    assert lines[0] != "1"
    assert lines[-1].endswith("init")
    assert store.sh("echo $$") == "1\n"


def test_codes_and_signals_come_through(store: Store) -> None:
    assert store.code("exit 23", init=True) == 23
    assert store.code("kill -9 $$", init=True) == 137
    assert store.code("kill -15 $$; sleep 5", init=True) == 143


def test_a_command_that_does_not_exist(store: Store) -> None:
    try:
        assert store.run("nonsense", init=True).exit_code == 127
    except CommandNotFound:
        return


def test_a_command_that_is_no_program(store: Store) -> None:
    try:
        assert store.run("/etc/passwd", init=True).exit_code == 126
    except NotExecutable:
        return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH])
def test_signals_are_passed_on(store: Store, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; exit 4' {name}; echo up; while :; do sleep 0.05; done"
    identity = store.detach("sh", "-c", script, init=True)
    wait_until(lambda: store.log(identity) == b"up\n")
    store.containers.kill(identity, number)
    assert store.containers.wait(identity) == 4
    assert store.log(identity) == b"up\ngot\n"


def test_stop_works_on_a_command_that_does_not_catch(store: Store) -> None:
    """As pid 1 it would ignore SIGTERM; under an init it does not."""
    identity = store.detach("sh", "-c", "echo up; exec sleep 1000", init=True)
    wait_until(lambda: store.log(identity) == b"up\n")
    store.containers.stop(identity)
    assert store.containers.wait(identity) == 143


def test_orphans_are_reaped(store: Store) -> None:
    # One that has ended and was not waited for is listed for ever.
    script = """
        for i in 1 2 3 4 5; do (sleep 0.05 &); done
        left=100
        while ps -o comm | grep -q sleep; do
            left=$((left - 1))
            [ $left -gt 0 ] || exit 1
            sleep 0.1
        done
    """
    assert store.code(script, init=True) == 0


def test_its_end_is_everybodys(store: Store) -> None:
    assert store.sh("sleep 100 & echo $$ > /dev/null; echo bye", init=True) == "bye\n"


def test_a_program_that_handles_signals_gets_a_clean_mask(store: Store) -> None:
    out = store.sh("grep SigBlk /proc/self/status", init=True)
    assert out.split()[1] == "0" * 16


def test_without_a_command_it_only_reaps() -> None:
    """As the first process of a pod: it ends on SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        child = subprocess.Popen([INIT])
        try:
            wait_until(lambda: awaits_signals(child.pid))  # noqa: B023
            child.send_signal(number)
            assert child.wait(PATIENCE) == 0
        finally:
            child.kill()
            child.wait()


def awaits_signals(pid: int) -> bool:
    """Whether a process is in sigwait(3)."""
    return "sigtimedwait" in text(f"/proc/{pid}/wchan")


@pytest.mark.parametrize("argv", [["x"], ["--"], ["-v", "--", "true"]])
def test_wrong_words(argv: list[str]) -> None:
    done = subprocess.run([INIT, *argv], capture_output=True, check=False)
    assert done.returncode == 64
    assert b"usage" in done.stderr


def test_outside_of_a_pid_namespace_it_is_a_subreaper() -> None:
    script = "(sleep 1000 </dev/null & echo $!); read line; exit 0"
    with subprocess.Popen(
        [INIT, "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        orphan = int(child.stdout.readline())
        wait_until(lambda: parent(orphan) == child.pid)
        os.kill(orphan, signal.SIGKILL)
        child.stdin.close()
        assert child.wait(PATIENCE) == 0


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(") ")[2].split()[1])
