"""The processes of a container, as the host sees them.

They are those of its cgroup, with what was executed in it; where it has none (an ordinary user's)
those of its pid namespace, or where that is the host's, its first process and its descendants.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import psutil

from pycontain.engine import freezer
from pycontain.errors import CommandNotFound, InvalidInput
from pycontain.kernel import cgroup, process

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontain.model.container import Container, RunRecord

TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
"""The columns of ``ps -ef``."""

_DAY = 86400
_PTS_MAJORS = range(136, 144)  # Unix98 slaves: Linux's admin-guide/devices.txt


class Processes(NamedTuple):
    """A table of processes.

    Attributes:
        titles: of the columns.
        rows: a text for each column.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def look(
    container: Container, record: RunRecord, options: Sequence[str], *, rootless: bool
) -> Processes:
    """Return a running container's processes.

    Args:
        container: whose.
        record: who runs it.
        options: for the host's ps(1), which is run with them; none are the columns of ``ps -ef``.
        rootless: it has no cgroup.

    Raises:
        CommandNotFound: `options` are given and the host has no ps.
        InvalidInput: ps refuses them, or shows no PID.
    """
    if options:
        return _by_ps(options, container, record, rootless)
    now = time.time()
    found = (_row(pid, now) for pid in _pids(container, record, rootless))
    return Processes(TITLES, tuple(row for row in found if row is not None))


def _pids(container: Container, record: RunRecord, rootless: bool) -> list[int]:
    if process.start_time(record.pid) != record.pid_start:
        return []
    if rootless:
        return _of_namespace(record.pid)
    folder = freezer.open_cgroup(container, rootless=False)
    try:
        return cgroup.processes(folder)
    finally:
        os.close(folder)


def _of_namespace(first: int) -> list[int]:
    theirs = _namespace(first)
    if theirs is None or theirs == _namespace(os.getpid()):
        return [first, *_descendants(first)]
    return sorted(pid for pid in psutil.pids() if _namespace(pid) == theirs)


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None  # gone, or another user's


def _row(pid: int, now: float) -> tuple[str, ...] | None:
    """One process, None where it has ended."""
    try:
        one = psutil.Process(pid)
        with one.oneshot():
            began = one.create_time()
            times = one.cpu_times()
            used = times.user + times.system
            return (
                one.username(), str(pid), str(one.ppid()), _share(used, now - began),
                _began(began, now), _terminal(pid), _clock(int(used)), _command(one),
            )  # fmt: skip
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def _share(used: float, lived: float) -> str:
    """Percent of one processor over its whole life, in two digits."""
    return str(min(99, int(used * 100 / lived))) if lived > 0 else "0"


def _began(moment: float, now: float) -> str:
    then = time.localtime(moment)
    if now - moment < _DAY:
        return time.strftime("%H:%M", then)
    return time.strftime("%b%d" if then.tm_year == time.localtime(now).tm_year else "%Y", then)


def _terminal(pid: int) -> str:
    """The controlling terminal, field 7 of proc_pid_stat(5); a container has a devpts of its own,
    so a path on the host would be another's.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        text = file.read()
    device = int(text[text.rindex(b")") + 2 :].split()[4])
    major, minor = os.major(device), os.minor(device)
    if not device:
        return "?"
    if major in _PTS_MAJORS:
        return f"pts/{(major - _PTS_MAJORS[0]) * 256 + minor}"
    return f"tty{minor}" if major == 4 else f"{major}:{minor}"


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, _DAY)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def _command(one: psutil.Process) -> str:
    try:
        words = one.cmdline()
    except psutil.ZombieProcess:
        return printable(f"[{one.name()}] <defunct>")
    return printable(" ".join(words).rstrip() if words else f"[{one.name()}]")


def printable(text: str) -> str:
    """Return `text` without what would act on a terminal: processes name themselves."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _by_ps(
    options: Sequence[str], container: Container, record: RunRecord, rootless: bool
) -> Processes:
    try:
        done = subprocess.run(
            ["ps", *options], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as err:
        raise CommandNotFound(
            "top: ps: not found on this host", "without options top needs no ps"
        ) from err
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        raise InvalidInput(f"top: ps: {printable(said.partition(chr(10))[0]) or 'failed'}")
    lines = done.stdout.decode(errors="replace").splitlines()
    # Asked after ps: a process that it does not know yet is not missed, one that ended is no harm.
    return _selected(lines, {str(pid) for pid in _pids(container, record, rootless)})


def _selected(lines: Iterable[str], pids: set[str]) -> Processes:
    """Those lines of ps whose column PID is one of `pids`."""
    heading, *rest = lines or [""]
    titles = tuple(heading.split())
    if "PID" not in titles:
        raise InvalidInput("top: couldn't find PID field in ps output", "add pid to its columns")
    place = titles.index("PID")
    rows = []
    for line in rest:
        row = tuple(map(printable, line.split(None, len(titles) - 1)))
        if len(row) > place and row[place] in pids:
            rows.append(row)
    return Processes(titles, tuple(rows))
