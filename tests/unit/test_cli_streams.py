"""Standard streams that are closed, full or read by nobody, as a shell gives them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = f"exec {sys.executable} -m pycontain.cli"


def shell(script: str) -> subprocess.CompletedProcess[str]:
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {**os.environ, "PYTHONPATH": folder}
    return subprocess.run(
        ["bash", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_quiet(unbuffered: str) -> None:
    gone = f"{sys.executable} -c 'import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
    done = shell(
        f"export PYTHONUNBUFFERED={unbuffered};"
        f' ({gone} os.execl("/bin/sh", "sh", "-c", "{PROGRAM} version")\'); exit $?'
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_told(unbuffered: str) -> None:
    done = shell(f"export PYTHONUNBUFFERED={unbuffered}; {PROGRAM} version >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "pycontain: write: standard output: no space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    done = shell(f"{PROGRAM} version {closed}")
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_descriptor_takes_the_place_of_a_closed_stream(closed: str) -> None:
    code = (
        "import os; from pycontain.cli import streams; streams.prepare();"
        " fd = os.open('/', os.O_RDONLY);"
        " os._exit(0 if fd > 2 and all(map(os.get_inheritable, range(3))) else 1)"
    )
    assert shell(f'{sys.executable} -c "{code}" {closed}').returncode == 0


def test_an_unwritable_standard_error_does_not_change_the_code() -> None:
    assert shell(f"{PROGRAM} nope 2>/dev/full").returncode == 1


def test_click_is_loaded_for_help_only() -> None:
    code = (
        "import sys; from pycontain.cli.main import VERBS, load_verb;"
        " [load_verb(name) for name in VERBS];"
        " sys.exit(str([m for m in ('click', 'rich', 'psutil', 'logging') if m in sys.modules]"
        " or ''))"
    )
    done = shell(f'{sys.executable} -c "{code}"')
    assert done.stderr == "\n"
