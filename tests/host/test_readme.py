"""The session at the end of README.md works as typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pace import seconds

if TYPE_CHECKING:
    from harness import CommandLine

pytestmark = pytest.mark.host

README = Path(__file__).parents[2] / "README.md"


def transcript(text: str) -> list[tuple[str, str]]:
    """Commands and their outputs, from the ``console`` block of a Markdown text."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, "README.md has one session"
    steps: list[tuple[str, str]] = []
    for line in blocks[0].splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append((line[2:].strip(), ""))
        else:
            command, output = steps[-1]
            steps[-1] = (command, output + line)
    return steps


def matches(expected: str, output: str) -> bool:
    """Whether `output` is as `expected`, in which ``...`` stands for anything within a line."""
    pattern = r"[^\n]+".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, output) is not None


def shell_with(pycontain: CommandLine, folder: Path) -> dict[str, str]:
    """An environment in which ``pycontain`` is found and uses the test's own store."""
    program = folder / "bin" / "pycontain"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(pycontain.argv)} "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_the_session_works_as_typed(pycontain: CommandLine, tmp_path: Path) -> None:
    environment = shell_with(pycontain, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    for command, expected in transcript(README.read_text()):
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=work, env=environment, text=True,
            timeout=seconds(60), check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert matches(expected, done.stdout), f"$ {command}\n{done.stdout}"


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("hello\n", "hello\n", True),
        ("hello\n", "hello\nworld\n", False),
        ("hello\n", "", False),
        ("", "", True),
        ("...\n", "0123abcd\n", True),
        ("...\n", "one\ntwo\n", False),
        ("a ... b\n", "a 12 b\n", True),
        ("a ... b\n", "a b\n", False),
        ("(.*)\n", "anything\n", False),
    ],
)
def test_what_counts_as_the_same_output(expected: str, output: str, same: bool) -> None:
    assert matches(expected, output) is same
