"""``tag``, ``rmi``, ``image exists``, ``image prune`` and ``history``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import Flag, Verb, boolean, filter_, switch
from pycontain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.images import Removal
    from pycontain.errors import PycontainError
    from pycontain.image.documents import History

_SHORT_ID = 12
_MISSING = "<missing>"


def _tag(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    app.engine.images.tag(*arguments)
    return 0


def _lines(removal: Removal) -> list[str]:
    lines = [f"Untagged: {name}" for name in removal.untagged]
    return lines + ([f"Deleted: {removal.deleted}"] if removal.deleted else [])


def _rmi(app: App, values: Values, arguments: list[str]) -> int:
    def act(name: str) -> None:
        try:
            removal = app.engine.images.remove(name, force=values["force"])
        except NotFound as err:
            if not values["force"]:
                raise
            app.report([err])  # told, and no failure: it is not there, as was wanted
            return
        streams.write("".join(f"{line}\n" for line in _lines(removal)))

    return app.each(arguments, act)


def _exists(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return 0 if app.engine.images.exists(arguments[0]) else 1


def _prune(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.cli import prune

    dangling = [value for name, value in values["filter"] if name == "dangling"]
    every = values["all"] or (bool(dangling) and not _is_true(dangling[-1]))
    what = (
        "all images without at least one container associated to them"
        if every
        else "all dangling images"
    )
    if not values["force"] and not prune.is_sure(f"WARNING! This will remove {what}."):
        return 0
    filters = [pair for pair in values["filter"] if pair[0] != "dangling"]
    problems: list[PycontainError] = []
    prune.total(prune.images(app, filters, problems, every=every))
    return app.report(problems)


def _is_true(value: str) -> bool:
    try:
        return boolean(value)
    except InvalidInput as err:
        raise InvalidInput(f"invalid filter 'dangling={value}'") from err


HISTORY_LISTING = output.Listing(
    kind="*formatter.historyContext",
    headings={
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    },
    table="{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet="{{.ID}}",
)


def _history_row(
    step: History, size: int, identity: str, values: Values, now: int
) -> dict[str, Any]:
    from pycontain.image.documents import nanoseconds

    created = nanoseconds(step.created)
    at = "N/A" if created is None else output.rfc3339(created)
    words = " ".join(step.created_by.split())
    full = values["no-trunc"]
    human = values["human"]
    return {
        "ID": identity,
        "CreatedSince": output.ago(created, now) if human and created is not None else at,
        "CreatedAt": at,
        "CreatedBy": words if full else output.ellipsis(words, 45),
        "Size": output.human_size(size) if human else str(size),
        "Comment": step.comment,
    }


def _history(app: App, values: Values, arguments: list[str]) -> int:
    image = app.engine.images.get(arguments[0])
    steps = app.engine.images.history(arguments[0])
    now = time.time_ns()
    own = image.id if values["no-trunc"] else image.id[7:][:_SHORT_ID]
    rows = [
        _history_row(step, size, _MISSING if number else own, values, now)
        for number, (step, size) in enumerate(steps)
    ]
    form = values["format"]
    if not (values["human"] or values["quiet"]) and form in (None, "table"):
        form = "table " + HISTORY_LISTING.table.replace("CreatedSince", "CreatedAt")
    streams.write(HISTORY_LISTING.render(rows, form, values["quiet"]))
    return 0


TAG = Verb(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Give an image one more name",
    _tag,
    least=2,
    most=2,
    examples=(("pycontain tag busybox localhost:5000/tools/busybox:1", "a name to push it by"),),
)

RMI = Verb(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove images, or names of images",
    _rmi,
    flags=(switch("force", "though it has several names, or stopped containers", short="f"),),
    least=1,
    examples=(
        ("pycontain rmi busybox", "the name; with the last name the image goes"),
        ("pycontain rmi $(pycontain images -q -f dangling=true)", "all that have no name"),
    ),
)

EXISTS = Verb(
    "exists",
    "IMAGE",
    "Tell by the exit code whether an image is in the store",
    _exists,
    least=1,
    most=1,
    examples=(("pycontain image exists busybox || echo no", "0: it is; 1: it is not"),),
)

PRUNE = Verb(
    "prune",
    "[OPTIONS]",
    "Remove images that nobody uses",
    _prune,
    flags=(
        switch("all", "also those that have a name", short="a"),
        Flag(
            "filter",
            "only what matches, as until=24h, label=a, label!=a or dangling=false",
            kind="list",
            metavar="name=value",
            convert=filter_,
        ),
        switch("force", "do not ask", short="f"),
    ),
    most=0,
    examples=(("pycontain image prune -a -f", "all that no container stands on, unasked"),),
)

HISTORY = Verb(
    "history",
    "[OPTIONS] IMAGE",
    "Show how an image was made",
    _history,
    flags=(
        Flag(
            "format",
            "format the output: 'json', a Go template, or 'table' and a template",
            metavar="format",
        ),
        switch("human", "sizes and dates as people read them", short="H", default=True),
        switch("no-trunc", "do not truncate"),
        switch("quiet", "print only ids", short="q"),
    ),
    least=1,
    most=1,
    examples=(("pycontain history --no-trunc busybox", "the newest step first"),),
)
