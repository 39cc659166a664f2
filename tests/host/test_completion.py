"""The scripts of ``completion`` in the shells themselves."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

import pytest
from harness import python_env
from pace import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x07")
START = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
BEGIN = {
    "bash": "PS1='> '; bind 'set enable-bracketed-paste off'; source {script}\n",
    "zsh": "PS1='> '; unsetopt prompt_sp; unset zle_bracketed_paste; autoload -U compinit;"
    " compinit -u -D; source {script}\n",
}


@pytest.fixture
def folder(pycontain: CommandLine, store: Store, tmp_path: Path) -> Path:
    """A folder with ``pycontain`` for $PATH, over a store with containers, and the scripts."""
    store.create("true", name="web-one")
    store.create("true", name="web-two")
    store.create("true", name="other")
    place = tmp_path / "shell"
    place.mkdir()
    words = " ".join(f"'{word}'" for word in pycontain.argv)
    (place / "pycontain").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (place / "pycontain").chmod(0o755)
    for shell in ("bash", "zsh", "fish"):
        (place / f"script.{shell}").write_bytes(pycontain("completion", shell).stdout)
    (place / "a-file.txt").write_text("")
    return place


def on_screen(data: bytes) -> str:
    """What a terminal shows of `data`: cursor movements carried out, one line under the other."""
    lines: list[list[str]] = [[]]
    at = 0
    for char in _ESCAPES.sub(b"", data).decode():
        if char == "\n":
            lines.append([])
            at = 0
        elif char == "\r":
            at = 0
        elif char == "\b":
            at = max(0, at - 1)
        else:
            lines[-1][at : at + 1] = char
            at += 1
    return "\n".join("".join(line) for line in lines)


class Shell:
    """An interactive shell on a terminal."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.master, slave = pty.openpty()
        # wide enough for every line
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 50, 250, 0, 0))
        env = {**python_env(), "PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb"}
        env["HOME"] = str(folder)
        self.process = subprocess.Popen(
            START[kind], stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=env,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""
        self.type(BEGIN[kind].format(script=f"{folder}/script.{kind}"))
        self.type("echo re''ady\n")
        self.wait("ready")

    def type(self, text: str) -> None:
        self.seen = b""
        os.write(self.master, text.encode())

    def wait(self, wanted: str) -> str:
        """Wait until `wanted` is on the screen; return what is there since the last typing."""
        end = time.monotonic() + seconds(30)
        while wanted not in on_screen(self.seen):
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
            assert time.monotonic() < end, self.seen
        return on_screen(self.seen)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(params=sorted(START))
def shell(request: pytest.FixtureRequest, folder: Path) -> Iterator[Shell]:
    if not shutil.which(request.param):
        pytest.skip(f"needs {request.param}")
    opened = Shell(request.param, folder)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("pycontain sto", "pycontain stop "),
        ("pycontain container ren", "pycontain container rename "),
        ("pycontain stop we", "pycontain stop web-"),
        ("pycontain stop oth", "pycontain stop other "),
        ("pycontain stop --ti", "pycontain stop --time "),
        ("pycontain run --network=container:oth", "pycontain run --network=container:other "),
        ("pycontain run --network cont", "pycontain run --network container:"),
        ("pycontain run busybox:lat", "pycontain run busybox:latest "),
        ("pycontain cp oth", "pycontain cp other:"),
        ("pycontain run --env-file a-f", "pycontain run --env-file a-file.txt "),
        ("pycontain exec other cat a-f", "pycontain exec other cat a-file.txt "),
    ],
)
def test_a_press_of_the_key_completes(shell: Shell, typed: str, line: str) -> None:
    shell.type(f"{typed}\t")
    # what is typed then stands behind what was completed: with or without a blank
    shell.wait(line.rstrip())
    os.write(shell.master, b"END")
    assert f"{line}END" in shell.wait("END")


def test_two_presses_list_what_there_is(shell: Shell) -> None:
    shell.type("pycontain stop web-\t\t")
    shell.wait("web-two")
    assert "other" not in shell.wait("web-one")


def complete_in_fish(folder: Path, line: str) -> list[str]:
    env = {**python_env(), "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {folder}/script.fish; complete -C '{line}'"],
        capture_output=True, check=False, cwd=folder, env=env, timeout=seconds(60),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pycontain sto", ["stop"]),
        ("pycontain stop web", ["web-one", "web-two"]),
        ("pycontain stop --sig", ["--signal\tsignal to send"]),
        ("pycontain run --network=container:oth", ["--network=container:other"]),
        ("pycontain run --env-file a-f", ["a-file.txt"]),
        ("pycontain logs other ", []),
    ],
)
def test_fish_completes(folder: Path, line: str, found: list[str]) -> None:
    if not shutil.which("fish"):
        pytest.skip("needs fish")
    assert complete_in_fish(folder, line) == found
