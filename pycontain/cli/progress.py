"""How far layers are: bars on a terminal, docker's lines elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from pycontain.cli import streams

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pycontain.model.progress import LayerProgress

_SHORT = 12
_LINES = {
    "pull": {
        "downloading": "Pulling fs layer", "extracting": "Extracting", "done": "Pull complete",
        "exists": "Already exists",
    },
    "push": {
        "uploading": "Preparing", "done": "Pushed", "exists": "Layer already exists",
        "mounted": "Mounted",
    },
    "load": {},
}  # fmt: skip


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
        stream = sys.stderr if error else sys.stdout
        self._bars = not quiet and stream is not None and stream.isatty()
        self._lock = threading.Lock()
        self._said: set[tuple[str, str]] = set()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Shown:
        if self._bars:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TransferSpeedColumn,
            )

            streams.flush()
            self._progress = Progress(
                TextColumn("{task.fields[layer]}"), TextColumn("{task.description:<11}"),
                BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                console=Console(stderr=self._error),
            )  # fmt: skip
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def report(self, progress: LayerProgress) -> None:
        """Show one step of one layer; from any thread."""
        with self._lock:
            if self._progress is not None:
                self._move(self._progress, progress)
            else:
                self._say(progress)

    def _say(self, progress: LayerProgress) -> None:
        line = self._lines.get(progress.step)
        if line and (progress.layer, progress.step) not in self._said:
            self._said.add((progress.layer, progress.step))
            self._write(f"{_short(progress)}: {line}\n")

    def _move(self, bars: Progress, progress: LayerProgress) -> None:
        task = self._tasks.get(progress.layer)
        if task is None:
            task = bars.add_task(progress.step, total=progress.total, layer=_short(progress))
            self._tasks[progress.layer] = task
        bars.update(task, description=progress.step, completed=progress.done)


def _short(progress: LayerProgress) -> str:
    return progress.layer.partition(":")[2][:_SHORT]
