"""``system unit``: what systemd reads."""

from __future__ import annotations

import configparser
import os
import sys
from typing import TYPE_CHECKING

import pytest

from pycontain.cli import boot
from pycontain.cli.main import main
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "pycontain"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    return program


def unit(capsys: pytest.CaptureFixture[str], *flags: str) -> configparser.ConfigParser:
    assert main([*flags, "system", "unit"]) == 0
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(capsys.readouterr().out)
    return parser


def folders(tmp_path: Path) -> list[str]:
    return ["--root", f"{tmp_path}/root", "--state", f"{tmp_path}/state"]


def test_a_unit(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = unit(capsys, *folders(tmp_path))
    command = f"{program} {' '.join(folders(tmp_path))} system boot"
    assert found["Service"]["ExecStart"] == command
    ending = f"{program} {' '.join(folders(tmp_path))} system shutdown"
    assert found["Service"]["ExecStop"] == ending
    assert int(found["Service"]["TimeoutStopSec"]) > 90  # systemd's own, too little for many
    assert found["Service"]["KillMode"] == "process"
    if os.geteuid() == 0:
        assert found["Unit"]["RequiresMountsFor"] == f"{tmp_path}/root"
        assert found["Install"]["WantedBy"] == "multi-user.target"
    else:
        assert found["Install"]["WantedBy"] == "default.target"


def test_what_means_something_to_systemd_is_quoted(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f'{tmp_path}/a b%c"$d'
    found = unit(capsys, "--root", root, "--state", f"{tmp_path}/state")
    assert f'--root "{tmp_path}/a b%%c\\"$$d" --state' in found["Service"]["ExecStart"]
    if os.geteuid() == 0:
        assert found["Unit"]["RequiresMountsFor"] == f'"{tmp_path}/a b%%c\\"$d"'


def test_a_line_break_is_refused() -> None:
    with pytest.raises(InvalidInput, match="takes no such path"):
        boot._quoted("/a\nExecStart=b")
