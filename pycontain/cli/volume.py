"""``volume``: data that outlives its containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import (
    FORMAT,
    LISTING_FORMAT,
    Flag,
    Verb,
    boolean,
    filter_,
    listing_filter,
    switch,
)
from pycontain.cli.template import GoMap
from pycontain.errors import InvalidInput, PycontainError
from pycontain.model.parse.environment import parse_label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.volumes import VolumeUse
    from pycontain.model.volume import Volume

LISTING = output.Listing(
    kind="*formatter.volumeContext",
    headings={
        "Name": "VOLUME NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Label": output.label_heading,
        "Links": "LINKS",
        "Size": "SIZE",
    },
    table="{{.Driver}}\t{{.Name}}",
    quiet="{{.Name}}",
)


def _option(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


# ---- create ----


def _create(app: App, values: Values, arguments: list[str]) -> int:
    if values["name"] and arguments:
        raise InvalidInput(
            "conflicting options: cannot specify a volume-name through both --name and as a"
            " positional arg"
        )
    name = arguments[0] if arguments else values["name"]
    volume = app.engine.volumes.create(
        name or None, labels=dict(values["label"]), options=dict(values["opt"]),
        driver=values["driver"],
    )  # fmt: skip
    streams.write(f"{volume.name}\n")
    return 0


CREATE = Verb(
    "create",
    "[OPTIONS] [VOLUME]",
    "Create a volume; one that is there already is kept",
    _create,
    flags=(
        Flag("driver", "local, the only one there is", short="d", metavar="driver",
             default="local"),
        Flag(
            "label", "set a label", kind="list", metavar="name[=value]", convert=parse_label
        ),
        Flag("name", "the older way to name it", metavar="name"),
        Flag(
            "opt",
            "what is mounted instead of a folder: type=, device= and o=, as mount(8) has them",
            short="o",
            kind="list",
            metavar="name=value",
            convert=_option,
        ),
    ),
    most=1,
    examples=(
        ("pycontain volume create data", "a folder for containers to share"),
        (
            "pycontain volume create -o type=tmpfs -o device=tmpfs -o o=size=64m fast",
            "in memory, while a container uses it",
        ),
        (
            "pycontain volume create -o type=none -o device=/srv/data -o o=bind data",
            "a folder of the host under a name",
        ),
    ),
)  # fmt: skip


# ---- ls ----


def _has_label(volume: Volume, text: str) -> bool:
    name, equals, value = text.partition("=")
    return name in volume.labels and (not equals or volume.labels[name] == value)


def _dangling(values: Sequence[str]) -> Callable[[VolumeUse], bool]:
    try:
        wanted = {boolean(value) for value in values}
    except InvalidInput as err:
        raise InvalidInput(f"invalid filter 'dangling={values[-1]}'") from err
    return lambda use: (not use.users) in wanted


def _by_name(values: Sequence[str]) -> Callable[[VolumeUse], bool]:
    import re

    try:
        patterns = [re.compile(value) for value in values]
    except re.error as err:
        raise InvalidInput(f"invalid filter: bad regular expression: {err}") from err
    return lambda use: any(pattern.search(use.volume.name) for pattern in patterns)


_FILTERS: dict[str, Callable[[Sequence[str]], Callable[[VolumeUse], bool]]] = {
    "dangling": _dangling,
    "driver": lambda values: lambda use: use.volume.driver in values,
    "label": lambda values: lambda use: all(_has_label(use.volume, value) for value in values),
    "name": _by_name,
}


def _filtered(uses: Sequence[VolumeUse], filters: Sequence[tuple[str, str]]) -> Sequence[VolumeUse]:
    grouped: dict[str, list[str]] = {}
    for name, value in filters:
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name}'", f"there are {', '.join(_FILTERS)}")
        grouped.setdefault(name, []).append(value)
    tests = [_FILTERS[name](values) for name, values in grouped.items()]
    return [use for use in uses if all(test(use) for test in tests)]


def row(app: App, use: VolumeUse) -> dict[str, Any]:
    """Return the fields of a listing for a volume."""
    volume = use.volume
    labels = volume.labels
    return {
        "Name": volume.name,
        "Driver": volume.driver,
        "Scope": "local",
        "Mountpoint": app.engine.layout.volume(volume.name).data,
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Label": lambda name: labels.get(name, ""),
        # nothing is measured where nobody asked: docker's words for that
        "Links": "N/A" if use.size is None else str(len(use.users)),
        "Size": "N/A" if use.size is None else output.human_size(use.size),
    }


def _list(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    problems: list[PycontainError] = []
    uses = _filtered(app.engine.volumes.usage(problems), values["filter"])
    rows = [row(app, use) for use in uses]
    streams.write(LISTING.render(rows, values["format"], values["quiet"]))
    return app.report(problems)


LIST = Verb(
    "ls",
    "[OPTIONS]",
    "List volumes",
    _list,
    flags=(
        listing_filter("dangling=true or label=team=a"),
        LISTING_FORMAT,
        switch("quiet", "print only names", short="q"),
    ),
    most=0,
    examples=(
        ("pycontain volume ls", "all volumes"),
        ("pycontain volume ls -q -f dangling=true", "those that no container uses"),
        ("pycontain volume list", "the same as ls"),
    ),
)


# ---- inspect ----


def document(app: App, name: str) -> dict[str, Any]:
    """Return docker's document of a volume."""
    volume = app.engine.volumes.get(name)
    return {
        "CreatedAt": output.rfc3339(volume.created // output.SECOND * output.SECOND),
        "Driver": volume.driver,
        "Labels": GoMap(volume.labels) if volume.labels else None,
        "Mountpoint": app.engine.layout.volume(volume.name).data,
        "Name": volume.name,
        "Options": GoMap(volume.options) if volume.options else None,
        "Scope": "local",
        "Anonymous": volume.anonymous,
    }


def _inspect(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.cli.inspect import show

    return show(app, values, arguments, document)


INSPECT = Verb(
    "inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Return low-level information on volumes",
    _inspect,
    flags=(FORMAT,),
    least=1,
    examples=(("pycontain volume inspect -f '{{.Mountpoint}}' data", "where its files are"),),
)


# ---- rm, prune, exists ----


def _remove(app: App, values: Values, arguments: list[str]) -> int:
    def act(name: str) -> None:
        app.engine.volumes.remove(name, force=values["force"])
        streams.write(f"{name}\n")

    return app.each(arguments, act)


RM = Verb(
    "rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes that no container uses",
    _remove,
    flags=(switch("force", "one that is not there is no error", short="f"),),
    least=1,
    examples=(("pycontain volume rm data", "the volume and what is in it"),),
)


def accepted(filters: Sequence[tuple[str, str]]) -> Callable[[Volume], bool]:
    """Return what says whether ``prune --filter`` means a volume.

    Raises:
        InvalidInput: an unknown filter.
    """
    for name, _ in filters:
        if name not in ("label", "label!"):
            raise InvalidInput(f"invalid filter '{name}'", "there are label and label!")
    return lambda volume: all(
        _has_label(volume, value) is (name == "label") for name, value in filters
    )


def prune(app: App, filters: Sequence[tuple[str, str]], *, every: bool) -> int:
    """Remove volumes that nobody uses, tell of them, and return their bytes."""
    removed, size = app.engine.volumes.prune(every=every, accept=accepted(filters))
    if removed:
        lines = ("Deleted Volumes:", *removed, "")
        streams.write("".join(f"{line}\n" for line in lines))
    return size


def _prune(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.cli.prune import is_sure, total

    filters = [pair for pair in values["filter"] if pair[0] != "all"]
    said = [pair[1] for pair in values["filter"] if pair[0] == "all"]
    every = values["all"] or any(boolean(text) for text in said)
    accepted(filters)
    kind = "all local volumes" if every else "anonymous local volumes"
    warning = f"WARNING! This will remove {kind} not used by at least one container."
    if not values["force"] and not is_sure(warning):
        return 0
    total(prune(app, filters, every=every))
    return 0


PRUNE = Verb(
    "prune",
    "[OPTIONS]",
    "Remove anonymous volumes that no container uses",
    _prune,
    flags=(
        switch("all", "also those that have names", short="a"),
        Flag(
            "filter",
            "only what matches, as label=a or label!=a",
            kind="list",
            metavar="name=value",
            convert=filter_,
        ),
        switch("force", "do not ask", short="f"),
    ),
    most=0,
    examples=(
        ("pycontain volume prune", "those that nobody named, after asking"),
        ("pycontain volume prune -af", "all that no container uses"),
    ),
)


def _exists(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return 0 if app.engine.volumes.exists(arguments[0]) else 1


EXISTS = Verb(
    "exists",
    "VOLUME",
    "Exit with 0 where there is such a volume, with 1 where there is none",
    _exists,
    least=1,
    most=1,
    examples=(("pycontain volume exists data || pycontain volume create data", "in a script"),),
)
