"""``images``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import LISTING_FORMAT, Verb, boolean, listing_filter, switch
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.image.manifests import ManifestList
    from pycontain.image.store import Image

_NONE = "<none>"
_SHORT_ID = 12
_TABLE = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"

LISTING = output.Listing(
    kind="*formatter.imageContext",
    headings={
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
    },
    table=_TABLE,
    quiet="{{.ID}}",
)


def split_name(name: str) -> tuple[str, str]:
    """Return repository and tag of ``busybox:latest``; without a tag ``<none>``."""
    name = name.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    base, colon, tag = last.partition(":")
    return f"{folder}{slash}{base}", tag if colon else _NONE


def row(image: Image, name: str | None, now: int, full: bool) -> dict[str, Any]:
    """Return the fields of a listing for one name of an image, None where it has none."""
    repository, tag = (_NONE, _NONE) if name is None else split_name(name)
    digests = [known for known in image.digests if split_name(known)[0] == repository]
    known = image.created is not None
    return {
        "ID": image.id if full else image.id.partition(":")[2][:_SHORT_ID],
        "Repository": repository,
        "Tag": tag,
        "Digest": digests[-1].partition("@")[2] if digests else _NONE,
        "CreatedSince": output.ago(image.created or 0, now) if known else "N/A",
        "CreatedAt": output.local_time(image.created or 0) if known else "N/A",
        "Size": output.human_size(image.size),
    }


def _list_row(listed: ManifestList, name: str | None, full: bool) -> dict[str, Any]:
    """Return the fields of a listing for a list of images: it has no time, and its own size."""
    repository, tag = (_NONE, _NONE) if name is None else split_name(name)
    digests = [known for known in listed.digests if split_name(known)[0] == repository]
    return {
        "ID": listed.digest if full else listed.digest[7:][:_SHORT_ID],
        "Repository": repository,
        "Tag": tag,
        "Digest": digests[-1].partition("@")[2] if digests else _NONE,
        "CreatedSince": "N/A",
        "CreatedAt": "N/A",
        "Size": output.human_size(listed.size),
    }


def listed_names(image: Image | ManifestList) -> list[str | None]:
    """Return the names of an image that have a row each: a repository without a tag has one too."""
    tagged = {split_name(name)[0] for name in image.names}
    others = {split_name(name)[0]: name for name in image.digests}
    digests = (name for repository, name in others.items() if repository not in tagged)
    return [*image.names, *digests] or [None]


def _matches(name: str | None, pattern: str) -> bool:
    """Return whether a name has the form ``REPOSITORY[:TAG]``, with the wildcards of path.Match."""
    import fnmatch

    if name is None:
        return False
    repository, _ = split_name(name)
    return any(fnmatch.fnmatchcase(text, pattern) for text in (name, repository))


def _has_label(image: Image, text: str) -> bool:
    name, equals, value = text.partition("=")
    labels = image.config.labels or {}
    return name in labels and (not equals or labels[name] == value)


class _Filters:
    """The filters of one command line."""

    def __init__(self, app: App, filters: Sequence[tuple[str, str]]) -> None:
        self.references: list[str] = []
        self.labels: list[str] = []
        self.dangling: bool | None = None
        self.before: int | None = None
        self.since: int | None = None
        self.listed: frozenset[str] = frozenset()
        for name, value in filters:
            self._take(app, name, value)

    def _take(self, app: App, name: str, value: str) -> None:
        if name == "reference":
            self.references.append(value)
        elif name == "label":
            self.labels.append(value)
        elif name == "dangling":
            try:
                self.dangling = boolean(value)
            except InvalidInput as err:
                raise InvalidInput(f"Invalid filter 'dangling={value}'") from err
            lists = app.engine.manifests.list()
            self.listed = frozenset(m.digest for one in lists if one.names for m in one.members)
        elif name == "before":
            self.before = app.engine.images.get(value).created or 0
        elif name == "since":
            self.since = app.engine.images.get(value).created or 0
        else:
            names = "before, dangling, label, reference, since"
            raise InvalidInput(f"Invalid filter '{name}'", f"there are {names}")

    def pass_image(self, image: Image) -> bool:
        created = image.created or 0
        return (
            all(_has_label(image, label) for label in self.labels)
            and (self.dangling is None or self.dangling == self._dangles(image))
            and (self.before is None or created < self.before)
            and (self.since is None or created > self.since)
        )

    def _dangles(self, image: Image) -> bool:
        """Whether nobody calls it by a name, its own or that of a list."""
        return not image.names and image.digest not in self.listed

    def pass_list(self, listed: ManifestList) -> bool:
        """A list has no labels, and nobody knows its age."""
        timed = self.before is not None or self.since is not None
        dangling = not listed.names
        return not (self.labels or timed) and self.dangling in (None, dangling)

    def pass_name(self, name: str | None) -> bool:
        return not self.references or any(_matches(name, text) for text in self.references)


def _rows(app: App, values: Values, pattern: str | None) -> list[dict[str, Any]]:
    filters = _Filters(app, values["filter"])
    now = time.time_ns()

    def names(found: Image | ManifestList) -> Iterator[str | None]:
        for name in listed_names(found):
            if filters.pass_name(name) and (pattern is None or _matches(name, pattern)):
                yield name

    rows = [
        row(image, name, now, values["no-trunc"])
        for image in app.engine.images.list()
        if filters.pass_image(image)
        for name in names(image)
    ]
    return rows + [
        _list_row(listed, name, values["no-trunc"])
        for listed in app.engine.manifests.list()
        if filters.pass_list(listed)
        for name in names(listed)
    ]


def _unique(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each id: ``-q`` feeds other commands."""
    return list({row["ID"]: row for row in reversed(rows)}.values())[::-1]


def _images(app: App, values: Values, arguments: list[str]) -> int:
    rows = _rows(app, values, arguments[0] if arguments else None)
    if values["quiet"]:
        rows = _unique(rows)
    form = values["format"]
    if values["digests"] and form in (None, "table"):
        form = "table " + _TABLE.replace("{{.ID}}", "{{.Digest}}\t{{.ID}}")
    streams.write(LISTING.render(rows, form, values["quiet"]))
    return 0


IMAGES = Verb(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    _images,
    flags=(
        switch(
            "all", "show all images (none are hidden: there are no intermediate ones)", short="a"
        ),
        switch("digests", "show digests of the manifests"),
        listing_filter("reference=busybox or label=team=a"),
        LISTING_FORMAT,
        switch("no-trunc", "do not truncate"),
        switch("quiet", "print only ids", short="q"),
    ),
    most=1,
    examples=(
        ("pycontain images", "all images"),
        ("pycontain images --format '{{.Repository}}:{{.Tag}} {{.Size}}'", "names and sizes"),
    ),
)
