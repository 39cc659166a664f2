"""Which containers there are, and which processes are in one: list and ps."""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput, InvalidState, NotFound, NotSupported, StoreError
from pycontain.kernel import cgroup
from pycontain.oci import control, document, log, state
from pycontain.oci.flags import SWITCH, VALUE, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.oci.main import Command
    from pycontain.oci.state import Container

_FORMAT = Flag("format f", VALUE, "table or json", "table")
LIST_FLAGS = (_FORMAT, Flag("quiet q", SWITCH, "print nothing but ids"))
PS_FLAGS = (_FORMAT,)
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def _is_json(command: Command) -> bool:
    form = command.values.text("format")
    if form not in ("table", "json"):
        raise UsageError(f"--format {form!r}: table or json")
    return form == "json"


# --- list ---


def list_containers(command: Command) -> int:
    """``list``: the containers below the root."""
    command.words(0, 0)
    as_json = _is_json(command)
    if command.values.on("quiet"):
        for container in _containers(command.root):
            command.print(container.id)
        return 0
    rows = [_row(container) for container in _containers(command.root)]
    command.print(document.dump(rows) if as_json else _aligned(rows))
    return 0


def _containers(root: str) -> Iterator[Container]:
    """Yield those that can be read, open; one that cannot must not hide the others."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        try:
            container = state.find(root, name)
        except (NotFound, InvalidInput):
            continue  # removed meanwhile, or no container's name
        except StoreError as err:
            log.warn(f"list: left out: {err}")
            continue
        with container:
            if container.state.bundle:
                yield container
            elif container.status() != "creating":
                log.warn(f"list: left out: {container.path}: it has no state")


def _row(container: Container) -> dict[str, object]:
    row = container.report()
    row.setdefault("pid", 0)
    row["rootfs"] = container.state.rootfs
    row["created"] = container.state.created
    row["owner"] = control.owner(container)
    return row


def _aligned(rows: Sequence[dict[str, object]]) -> str:
    """The table: columns three spaces apart."""
    lines = [[name.upper() for name in _COLUMNS]]
    lines += [[str(row[name]) for name in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "   ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


# --- ps ---


def show_processes(command: Command) -> int:
    """``ps``: the pids in the container's cgroup, or what ps(1) tells of them."""
    as_json = _is_json(command)
    identity, *options = command.words(1)
    with state.find(command.root, identity) as container:
        pids = _pids(container)
    if as_json:
        command.print(document.dump(pids))
    else:
        command.print("\n".join(rows_of(_listed(options or ["-ef"]), pids)))
    return 0


def _pids(container: Container) -> list[int]:
    folder = container.open_cgroup()
    if folder is None:
        if container.status() == "stopped":
            return []
        raise InvalidState(f"container {container.id} has no cgroup to tell its processes")
    try:
        return cgroup.processes(folder)
    finally:
        os.close(folder)


def _listed(options: Sequence[str]) -> list[str]:
    """The lines of ps(1)."""
    import subprocess  # few commands need it

    try:
        done = subprocess.run(["ps", *options], capture_output=True, check=False)
    except OSError as err:
        hint = "install ps (of procps), or use --format json"
        raise NotSupported("list processes", "ps", err.errno or 0, hint) from err
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidInput(f"ps {' '.join(options)}: exit code {done.returncode}: {said}")
    return done.stdout.decode(errors="surrogateescape").splitlines()


def rows_of(lines: Sequence[str], pids: Sequence[int]) -> list[str]:
    """Return those of the lines of ps(1) that are about `pids`, below the header.

    Columns are told by words, so none with spaces in it may stand before PID.

    Raises:
        InvalidInput: there is no such column.
    """
    header = lines[0].split() if lines else []
    if "PID" not in header:
        raise InvalidInput("ps: with these options there is no column PID to tell processes by")
    at = header.index("PID")
    wanted = {str(pid) for pid in pids}
    rows, last = [lines[0]], False
    for line in lines[1:]:
        words = line.split()
        word = words[at] if len(words) > at else ""
        # With -m the rows of threads follow their process's and have a dash there.
        last = word in wanted or (last and word == "-")
        if last:
            rows.append(line)
    return rows
