"""The command line as a member of a pipeline, and with standard streams that are closed."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from pace import seconds

if TYPE_CHECKING:
    from harness import CommandLine, Store

pytestmark = pytest.mark.host


def into(reader: str, pycontain: CommandLine, *words: str) -> tuple[int, bytes]:
    """Exit code of ours, and what a reader at the end of the pipe printed."""
    with pycontain.start(*words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as ours:
        done = subprocess.run(
            ["sh", "-c", reader], stdin=ours.stdout, capture_output=True, check=False
        )
        assert ours.stdout
        ours.stdout.close()
        return ours.wait(seconds(30)), done.stdout


def test_a_reader_that_leaves_ends_the_container(pycontain: CommandLine, store: Store) -> None:
    code, out = into("head -n 1", pycontain, "run", "--name", "yes", "busybox", "yes")
    assert (code, out) == (128 + signal.SIGPIPE, b"y\n")
    assert store.state_of("yes") == "exited"


def test_a_reader_that_leaves_an_exec_leaves_the_container(
    pycontain: CommandLine, store: Store
) -> None:
    store.detach(name="held")
    code, out = into("head -n 1", pycontain, "exec", "held", "yes")
    assert (code, out) == (128 + signal.SIGPIPE, b"y\n")
    assert store.state_of("held") == "running"


def test_a_slow_reader_gets_everything(pycontain: CommandLine) -> None:
    script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done"
    code, out = into("sleep 1; wc -l", pycontain, "run", "--rm", "busybox", "sh", "-c", script)
    assert (code, out.strip()) == (0, b"30000")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_is_closed_from_the_start(pycontain: CommandLine, closed: int) -> None:
    with pycontain.start(
        "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo out; echo err >&2; exit 3",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: os.close(closed),
    ) as child:  # fmt: skip
        out, err = child.communicate(timeout=seconds(30))
    assert child.returncode == 3
    assert out == (b"" if closed == 1 else b"out\n")
    assert err == (b"" if closed == 2 else b"err\n")


def test_a_full_disk_behind_the_output_is_said(pycontain: CommandLine) -> None:
    with open("/dev/full", "wb") as full:
        done = pycontain.start("ps", stdout=full, stderr=subprocess.PIPE)
        _, err = done.communicate(timeout=seconds(30))
    assert done.returncode == 1
    assert b"no space left on device" in err


def test_an_interrupt_reaches_the_container(pycontain: CommandLine, store: Store) -> None:
    script = "trap 'exit 42' INT; echo ready; while :; do sleep 0.1; done"
    with pycontain.start(
        "run", "--name", "loop", "busybox", "sh", "-c", script, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(seconds(30)) == 42
    assert store.state_of("loop") == "exited"
