"""How far layers are: bars on a terminal, docker's lines elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from pycontain.cli import streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.progress import Progress, TaskID

    from pycontain.model.progress import LayerProgress

_SHORT = 12
_LINES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "pull": {
        "downloading": ("Pulling fs layer",), "extracting": ("Pulling fs layer",),
        "received": ("Download complete",), "done": ("Pull complete",),
        "exists": ("Already exists",),
    },
    "push": {
        "uploading": ("Preparing",), "done": ("Pushed",),
        "exists": ("Preparing", "Layer already exists"),
        "mounted": ("Preparing", "Mounted from {origin}"),
    },
    "load": {},
}  # fmt: skip
"""docker's words for each step. ``received`` is the end of a download."""


class Shown:
    """What a user sees of a transfer while it lasts.

    Args:
        verb: ``pull``, ``push`` or ``load``.
        quiet: nothing.
        error: on standard error.
    """

    def __init__(self, verb: str, *, quiet: bool, error: bool = False) -> None:
        self._lines = {} if quiet else _LINES[verb]
        self._write = streams.complain if error else streams.write
        self._error = error
        self._quiet = quiet
        self._heading = ""
        stream = sys.stderr if error else sys.stdout
        self._bars = not quiet and stream is not None and stream.isatty()
        self._begun = False
        self._lock = threading.Lock()
        self._said: set[tuple[str, str]] = set()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._progress is not None:
            self._progress.stop()
        elif kind is None and not self._begun:
            self._write(self._heading)

    def head(self, heading: str) -> None:
        """Have lines come first, as soon as there is something to tell or all went well.

        What cannot even begin is told by its error alone.
        """
        with self._lock:
            self._heading = "" if self._quiet else heading
            if self._begun:
                self._write(self._heading)

    def _begin(self) -> None:
        self._begun = True
        self._write(self._heading)
        if self._bars:
            self._progress = self._new_bars()
            self._progress.start()

    def _new_bars(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TransferSpeedColumn,
        )

        streams.flush()
        return Progress(
            TextColumn("{task.fields[layer]}"), TextColumn("{task.description:<11}"),
            BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            console=Console(stderr=self._error),
        )  # fmt: skip

    def report(self, progress: LayerProgress) -> None:
        """Show one step of one layer; from any thread."""
        with self._lock:
            if not self._begun:
                self._begin()
            if self._progress is not None:
                self._move(self._progress, progress)
            else:
                self._say(progress)

    def _say(self, progress: LayerProgress) -> None:
        steps = [progress.step]
        if progress.step == "downloading" and progress.done == progress.total:
            steps.append("received")
        for step in steps:
            for line in self._lines.get(step, ()):
                if (progress.layer, line) not in self._said:
                    self._said.add((progress.layer, line))
                    told = line.format(origin=progress.origin)
                    self._write(f"{_short(progress)}: {told}\n")
                    self._flush()

    def _flush(self) -> None:
        # Who reads it through a pipe sees it while it happens.
        if not self._error:
            streams.flush()

    def _move(self, bars: Progress, progress: LayerProgress) -> None:
        task = self._tasks.get(progress.layer)
        if task is None:
            task = bars.add_task(progress.step, total=progress.total, layer=_short(progress))
            self._tasks[progress.layer] = task
        bars.update(task, description=progress.step, completed=progress.done)


def _short(progress: LayerProgress) -> str:
    return progress.layer.partition(":")[2][:_SHORT]
