"""Compares the answers of the two sides."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.kernel import cgroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .player import Answer
    from .rows import Row, Said, Scene


def problems(
    scene: Scene, ours: Sequence[Answer], dockers: Sequence[Answer], *, live: bool
) -> list[str]:
    """Return what is not as it must be, in words.

    Args:
        scene: the rows.
        ours: an answer each.
        dockers: likewise.
        live: docker answered on this machine now.
    """
    found: list[str] = []
    for row, our, docker in zip(scene.rows, ours, dockers, strict=True):
        if row.limits is not None and row.limits is not _controllers():
            continue
        faults = _faults(row, our, docker) if comparable(row, live=live) else _alone(row, our)
        if faults:
            found.append(_told(scene, row, our, docker, faults))
    return found


def comparable(row: Row, *, live: bool) -> bool:
    """Whether docker's answer, live or recorded, says anything about ours here."""
    if row.powers and not _all_capabilities():
        return False
    return live or not (row.local or row.powers or row.limits)


def _all_capabilities() -> bool:
    """Whether the bounding set has all that this kernel knows, capabilities(7)."""
    with open("/proc/sys/kernel/cap_last_cap") as last, open("/proc/self/status") as status:
        every = (2 << int(last.read())) - 1
        lines = dict(line.split(":", 1) for line in status)
        return int(lines["CapBnd"], 16) == every


def _controllers() -> bool:
    """Whether cgroup v2 has the controllers of limits here."""
    root = cgroup.open_root()
    try:
        return "memory" in (cgroup.read(root, "cgroup.controllers") or "").split()
    finally:
        os.close(root)


def _alone(row: Row, ours: Answer) -> list[str]:
    return [] if row.ours is None else unexpected(row.ours, ours)


def _faults(row: Row, ours: Answer, docker: Answer) -> list[str]:
    if row.dockers is None:
        return unlike(row, ours, docker) + _alone(row, ours)
    assert row.ours is not None
    return [
        *(f"ours: {fault}" for fault in unexpected(row.ours, ours)),
        *(f"docker's: {fault}" for fault in unexpected(row.dockers, docker)),
    ]


def unlike(row: Row, ours: Answer, docker: Answer) -> list[str]:
    """Return in what two answers that should be the same differ."""
    found = []
    if ours.code != docker.code:
        found.append("exit code")
    if not row.any_out and _output(row, ours) != _output(row, docker):
        found.append("standard output")
    if row.same_err and ours.err != docker.err:
        found.append("standard error")
    if not row.any_err and bool(ours.err) != bool(docker.err):
        found.append("one has something on standard error")
    if row.err is not None:
        for name, answer in (("our", ours), ("docker's", docker)):
            if row.err.lower() not in answer.err.lower():
                found.append(f"{row.err!r} is not in {name} standard error")
    return found


def _output(row: Row, answer: Answer) -> str | list[str]:
    return sorted(answer.out.splitlines()) if row.any_order else answer.out


def unexpected(said: Said, answer: Answer) -> list[str]:
    """Return in what an answer is not what a difference row says."""
    found = []
    if isinstance(said.code, int) and answer.code != said.code:
        found.append(f"exit code is not {said.code}")
    if isinstance(said.out, str) and answer.out != said.out:
        found.append(f"standard output is not {said.out!r}")
    if isinstance(said.err, str):
        if not said.err and answer.err:
            found.append("standard error is not empty")
        elif said.err.lower() not in answer.err.lower():
            found.append(f"{said.err!r} is not in standard error")
    return found


def _told(scene: Scene, row: Row, ours: Answer, docker: Answer, faults: list[str]) -> str:
    return (
        f"{scene.name}: {row.line}\n    {'; '.join(faults)}\n"
        f"    ours:   {ours.code} {ours.out!r} {ours.err!r}\n"
        f"    docker: {docker.code} {docker.out!r} {docker.err!r}\n"
    )
