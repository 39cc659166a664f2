"""``system unit``: systemd starts after a boot what is wanted, and ends it before the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.engine import records, supervision
from pycontain.kernel import process
from pycontain.store.files import write_word
from pycontain.store.layout import Layout

from .test_systemd import show, systemctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Play = Callable[..., str]

pytestmark = [pytest.mark.vm, pytest.mark.systemd]

UNIT = "pycontain-test.service"
PLACE = Path("/run/systemd/system") / UNIT
WILLING = "trap 'echo ended; exit 0' TERM; echo up; while :; do sleep 0.1; done"
PROGRAM = """\
#!{python}
import sys
sys.path[:0] = {path!r}
from pycontain.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """The command line as a program of its own; what it made is removed at the end."""
    program = tmp_path / "pycontain"
    program.write_text(PROGRAM.format(python=sys.executable, path=sys.path))
    program.chmod(0o755)
    words = [str(program), "--root", f"{tmp_path}/root", "--state", f"{tmp_path}/state"]

    def play(*more: str) -> str:
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done
        return done.stdout.strip()

    yield play
    systemctl("stop", UNIT, ok=False)
    PLACE.unlink(missing_ok=True)
    systemctl("daemon-reload")
    play("rm", "-f", "box")


def test_the_unit_starts_what_is_wanted_and_ends_it_in_order(tmp_path: Path, play: Play) -> None:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    made = ("--name", "box", "--network", "none", "--restart", "on-failure", "busybox")
    identity = play("run", "-d", *made, "sh", "-c", WILLING)
    _pretend_reboot(layout, identity)
    PLACE.parent.mkdir(exist_ok=True)
    PLACE.write_text(play("system", "unit"))
    systemctl("daemon-reload")
    systemctl("start", UNIT)
    assert show(UNIT, "ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    record = records.load_run(layout.container(identity))
    assert record is not None
    assert process.start_time(record.pid) == record.pid_start
    wait_until(lambda: supervision.lives(layout))
    wait_until(lambda: play("logs", "box").endswith("up"))
    # As a shutdown of the machine does.
    systemctl("stop", UNIT)
    assert process.start_time(record.pid) != record.pid_start
    assert play("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "box") == "exited 0"
    assert play("logs", "box").endswith("ended")
    wait_until(lambda: not supervision.lives(layout))
    systemctl("start", UNIT)
    assert play("inspect", "-f", "{{.State.Status}}", "box") == "running"
    wait_until(lambda: supervision.lives(layout))


def _pretend_reboot(layout: Layout, identity: str) -> None:
    """Let nothing run, and the last run be one of another boot."""
    paths = layout.container(identity)
    record, found = records.load_run(paths), supervision.recorded(layout)
    assert record is not None
    assert found is not None
    os.kill(found[0], signal.SIGKILL)
    wait_until(lambda: not supervision.lives(layout))
    os.kill(record.monitor, signal.SIGKILL)
    wait_until(lambda: process.start_time(record.monitor) != record.monitor_start)
    write_word(records.marker_path(paths), f"{record.run} {'0' * 36}")
