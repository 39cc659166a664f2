"""What a row of the table is.

A row's line is a command line without the program's name. In it

- ``BOX`` stands for ``--network none busybox`` and ``TOOL`` for ``--network none tooled`` (docker's
  default network is a bridge, which this machine may not have, pycontain's is none);
- ``@dir`` is a scratch folder, ``@NAME`` an id that an earlier row saved, ``@NAME:6`` its start,
  ``@pid_ns`` (``ipc_ns``, ``uts_ns``, ``net_ns``, ``cgroup_ns``) the host's namespace;
- ``@registry`` is a registry, ``@repo`` the engine's own part of it (``@repo/app:1``), ``@locked``
  and ``@locked_repo`` likewise of one that knows the user ``me`` with the password ``secret``;
- ``@port_a``, ``@port_b``, ``@port_c`` are ports of the host in a row that the engine may publish,
  ``@net`` the start of a subnet that it may have (``@net.0/24``);
- ``!`` in front makes it a shell command of the host, in the scratch folder: what the rows before
  left there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import EllipsisType


@dataclass(frozen=True)
class Said:
    """What one side is expected to answer where the two differ.

    Attributes:
        code: exit code; ``...`` is any.
        out: standard output, normalised; ``...`` is anything.
        err: a phrase of standard error, in any case; empty is no output at all, ``...`` anything.
    """

    code: int | EllipsisType = 0
    out: str | EllipsisType = ""
    err: str | EllipsisType = ""


@dataclass(frozen=True)
class Row:
    """One command line, and how its answers are compared.

    The exit code is compared always, and whether there was anything on standard error.

    Attributes:
        line: the command line.
        docker: docker's, where it is spelt differently.
        err: a phrase that both must have on standard error, in any case.
        same_err: standard error is compared as a whole.
        any_out, any_err: standard output or error is not compared.
        any_order: the lines of standard output are compared in any order.
        local: the answer depends on the machine: compared with a docker beside it only.
        powers: docker needs every capability for it: compared only where the bounding set is whole.
        limits: compared only where the machine's cgroup v2 has the controllers of limits; False:
            only where it has none of them, so that docker discards what it cannot keep.
        slow: docker takes long over it, so that its recorded answer always stands in.
        stdin: text for standard input, which is /dev/null otherwise.
        tty: run on a terminal of 30 lines and 100 columns, whose text is standard output.
        after: text of the output that `keys` and `signal` wait for.
        keys: what is typed on the terminal.
        signal: sent to the client, as ``TERM``.
        save: keep standard output as the id ``@save``.
        until: run again until this is in the output, or while there is any where it is empty.
        differs: the reason of an intended difference; `ours` and `dockers` are what is expected.
        ours: without a difference: what we answer even where there is nothing to compare with.
    """

    line: str
    docker: str | None = None
    err: str | None = None
    same_err: bool = False
    any_out: bool = False
    any_err: bool = False
    any_order: bool = False
    local: bool = False
    powers: bool = False
    limits: bool | None = None
    slow: bool = False
    stdin: str | None = None
    tty: bool = False
    after: str | None = None
    keys: str = ""
    signal: str = ""
    save: str = ""
    until: str | None = None
    differs: str | None = None
    ours: Said | None = None
    dockers: Said | None = None

    def __post_init__(self) -> None:
        told = self.dockers is not None
        assert told is (self.differs is not None), f"{self.line}: a difference is told whole"
        assert self.ours is not None or not told, f"{self.line}: a difference is told whole"

    @property
    def on_host(self) -> bool:
        """Whether it is a command of the host."""
        return self.line.startswith("!")

    def spelt(self, for_docker: bool) -> str:
        """Return the line for one side."""
        return self.docker if for_docker and self.docker is not None else self.line


@dataclass(frozen=True)
class Scene:
    """Rows that one store sees in this order; what they leave is removed at the end."""

    name: str
    rows: tuple[Row, ...]

    @property
    def needs_registries(self) -> bool:
        """Whether a row speaks of one."""
        words = ("@registry", "@repo", "@locked")
        return any(word in row.line for row in self.rows for word in words)


def scene(name: str, *rows: Row | str) -> Scene:
    """Return a scene; a text is a row whose answers are compared whole."""
    return Scene(name, tuple(Row(row) if isinstance(row, str) else row for row in rows))
