"""``container prune`` and ``system prune``: removing what nobody uses."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pycontain.cli import output, streams
from pycontain.cli.flags import Flag, Verb, filter_, switch
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.errors import PycontainError

_FLAGS = (
    Flag(
        "filter",
        "only what matches, as until=24h, label=a or label!=a",
        kind="list",
        metavar="name=value",
        convert=filter_,
    ),
    switch("force", "do not ask", short="f"),
)
_WARNING = "WARNING! This will remove "


def is_sure(warning: str) -> bool:
    """Ask; what is not yes is no, and so is the end of the input."""
    streams.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    streams.flush()
    return sys.stdin is not None and sys.stdin.readline().strip().lower() == "y"


def _tell(heading: str, names: Sequence[str]) -> None:
    if names:
        streams.write("".join(f"{line}\n" for line in (heading, *names, "")))


def total(size: int) -> None:
    """Tell how many bytes that gave."""
    streams.write(f"Total reclaimed space: {output.human_size(size)}\n")


def _containers(app: App, values: Values, problems: list[PycontainError]) -> int:
    from pycontain.engine import disk

    is_meant = disk.selection(values["filter"], time.time_ns())
    removed, size = disk.prune_containers(app.engine, is_meant, problems)
    _tell("Deleted Containers:", removed)
    return size


def images(
    app: App, filters: Sequence[tuple[str, str]], problems: list[PycontainError], *, every: bool
) -> int:
    """Remove images that nobody uses, tell of them, and return their bytes.

    `problems` gets an error for each image that is in the way.
    """
    from pycontain.engine import disk

    is_meant = disk.selection(filters, time.time_ns())
    removed, size = disk.prune_images(app.engine, is_meant, every=every)
    lines = []
    for removal in removed:
        lines += [f"untagged: {name}" for name in removal.untagged]
        lines += [f"deleted: {removal.deleted}"] if removal.deleted else []
    _tell("Deleted Images:", lines)
    problems += disk.image_obstacles(app.engine.layout)
    return size


def networks(app: App, filters: Sequence[tuple[str, str]]) -> None:
    """Remove networks that no container asks for, and tell of them."""
    from pycontain.engine import disk

    is_meant = disk.selection(filters, time.time_ns())
    removed = app.engine.networks.prune(lambda one: is_meant(one.created, one.labels))
    _tell("Deleted Networks:", removed)


def _container_prune(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    if not values["force"] and not is_sure(f"{_WARNING}all stopped containers."):
        return 0
    problems: list[PycontainError] = []
    total(_containers(app, values, problems))
    return app.report(problems)


def _system_prune(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.engine import disk

    # what is in the cache has neither labels nor an age that matters
    cache = not values["filter"]
    lines = [
        "all stopped containers",
        *(["all networks not used by at least one container"] * (not app.engine.rootless)),
        "all images without at least one container associated to them"
        if values["all"]
        else "all dangling images",
        *(["all anonymous volumes not used by at least one container"] * values["volumes"]),
        *(["the cache of compiled filters"] if cache else []),
    ]
    warning = "".join(f"  - {line}\n" for line in lines)
    if values["volumes"]:
        from pycontain.cli import volume

        if any(name == "until" for name, _ in values["filter"]):
            raise InvalidInput('the "until" filter is not supported with "--volumes"')
        volume.accepted(values["filter"])
    if not values["force"] and not is_sure(f"{_WARNING.rstrip()}:\n{warning}"):
        return 0
    problems: list[PycontainError] = []
    size = _containers(app, values, problems)
    if not app.engine.rootless:
        networks(app, values["filter"])
    size += images(app, values["filter"], problems, every=values["all"])
    if values["volumes"]:
        from pycontain.cli import volume

        size += volume.prune(app, values["filter"], every=False)
    if cache:
        removed, more = disk.prune_cache(app.engine)
        _tell("Deleted cache:", removed)
        size += more
    total(size)
    return app.report(problems)


CONTAINER_PRUNE = Verb(
    "prune",
    "[OPTIONS]",
    "Remove all stopped containers",
    _container_prune,
    flags=_FLAGS,
    most=0,
    examples=(
        ("pycontain prune", "those that do not run, after asking"),
        ("pycontain prune -f --filter until=24h", "those made more than a day ago"),
    ),
)

SYSTEM_PRUNE = Verb(
    "prune",
    "[OPTIONS]",
    "Remove stopped containers, networks and images that nobody uses, and the cache",
    _system_prune,
    flags=(
        switch("all", "also images that have a name", short="a"),
        *_FLAGS,
        switch("volumes", "also anonymous volumes that no container uses"),
    ),
    most=0,
    examples=(
        ("pycontain prune -a", "images that have a name too"),
        ("pycontain prune", "all that nobody uses, after asking"),
        ("pycontain prune -f --filter label=job", "what has that label alone"),
    ),
)
