"""What the recipe of postgres starts, with programs in the place of the server's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

START = Path(__file__).parents[2] / "images" / "postgres" / "start"
_PROGRAMS = {
    "initdb": 'cat >/dev/null; touch "$PGDATA/PG_VERSION" "$PGDATA/pg_hba.conf"',
    "pg_ctl": ":",
    "createdb": ":",
    "postgres": 'echo serves "$PGDATA" "$@"',
}


def started(folder: Path, data: Path) -> subprocess.CompletedProcess[str]:
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in _PROGRAMS.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\nset -e\n{text}\n")
        path.chmod(0o755)
    script = START.read_text().replace("/usr/lib/postgresql/*/bin", str(programs))
    return subprocess.run(
        ["/bin/sh", "-c", script, "start-postgres", "-c", "fsync=off"],
        env={"PATH": os.environ["PATH"], "PGDATA": str(data), "POSTGRES_PASSWORD": "x"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("place", ["data", "data/pgdata"])
def test_a_database_is_made_where_none_is(tmp_path: Path, place: str) -> None:
    (tmp_path / "data").mkdir()
    data = tmp_path / place
    done = started(tmp_path, data)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"serves {data} -c listen_addresses=* -c fsync=off\n"
    assert (data / "made").exists()
    (data / "rows").touch()
    assert started(tmp_path, data).returncode == 0
    assert (data / "rows").exists()


def test_what_a_killed_start_left_goes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "half").touch()
    assert started(tmp_path, data).returncode == 0
    assert not (data / "half").exists()
