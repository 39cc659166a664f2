"""What people and scripts read: tables, durations, sizes, times, ``--format``.

Pure: values in, text out. The forms are docker's, so that scripts which cut columns still work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pycontain.cli.flags import Refused
from pycontain.cli.template import GoMap, Template, to_json
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND = 1_000_000_000
"""Nanoseconds."""

_PADDING = 3
_LEAST_WIDTH = 10
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_HOUR = 3600
_DAY = 24 * _HOUR


def width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def ellipsis(text: str, limit: int) -> str:
    """Return `text` in at most `limit` columns, the last one ``…`` when it was cut."""
    if width(text) <= limit:
        return text
    out = ""
    for char in text:
        if width(out + char) > limit - 1:
            break
        out += char
    return out + "…"


def align(lines: Iterable[str], *, least: int = _LEAST_WIDTH) -> str:
    """Return lines with tab-terminated cells as columns.

    As Go's text/tabwriter with docker's settings: three blanks between columns, none narrower than
    `least`, what follows the last tab of a line is no column; a column ends at a line without it.
    """
    rows = [line.split("\t") for line in lines]
    widths = [[0] * (len(row) - 1) for row in rows]
    for column in range(max((len(row) - 1 for row in rows), default=0)):
        _fit_column(rows, widths, column, least)
    return "".join(
        "".join(cell + " " * (size - width(cell)) for cell, size in zip(row, sizes, strict=False))
        + row[-1]
        + "\n"
        for row, sizes in zip(rows, widths, strict=True)
    )


def _fit_column(rows: list[list[str]], widths: list[list[int]], column: int, least: int) -> None:
    block: list[int] = []
    for number in range(len(rows) + 1):
        if number < len(rows) and column < len(rows[number]) - 1:
            block.append(number)
            continue
        size = max((width(rows[at][column]) + _PADDING for at in block), default=0)
        for at in block:
            widths[at][column] = max(size, least)
        block = []


def human_duration(seconds: float) -> str:
    """Return a duration in the words of docker's listings, ``About an hour``."""
    whole = int(seconds)
    minutes = whole // 60
    hours = int(seconds / _HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    return _long_duration(hours)


def _long_duration(hours: int) -> str:
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def ago(moment: int, now: int) -> str:
    """Return how long ago `moment` was, both in nanoseconds since the epoch."""
    return f"{human_duration(max(0, now - moment) / SECOND)} ago"


def human_size(count: int) -> str:
    """Return a number of bytes with three digits and a decimal unit, ``1.98MB``."""
    size = float(count)
    unit = 0
    while size >= 1000 and unit < len(_SIZES) - 1:
        size /= 1000
        unit += 1
    return f"{size:.3g}{_SIZES[unit]}"


def local_time(moment: int) -> str:
    """Return nanoseconds since the epoch as ``2026-11-21 04:31:50 +0000 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment // SECOND))


def rfc3339(moment: int | None, digits: int = 0) -> str:
    """Return nanoseconds since the epoch in UTC (RFC 3339); None is the year 1, as Go has it.

    Args:
        moment: nanoseconds.
        digits: of the fraction; 0 drops its trailing noughts, as RFC3339Nano does.
    """
    if moment is None:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(moment, SECOND)
    fraction = f"{rest:09d}"
    fraction = fraction[:digits] if digits else fraction.rstrip("0")
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def pretty_json(value: Any) -> str:
    """Return `value` as JSON with docker's indent of four."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=4) + "\n"


def label_heading(name: str) -> str:
    """Return the heading of ``{{.Label "a.b-c"}}``: ``b c``."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def document_template(form: str) -> Template:
    """Return the template of ``--format`` for one document.

    Raises:
        Refused: a bad template; with docker's code, EX_USAGE of sysexits.h.
    """
    try:
        return Template(form)
    except InvalidInput as err:
        raise Refused(err.message, err.hint, 64) from err


class Listing:
    """A listing in the form that ``--format`` asks for.

    Args:
        kind: the Go type that errors name for an unknown field.
        headings: field to heading; a callable where the field is a method.
        table: the template of the default table.
        quiet: the template of ``-q``.
    """

    def __init__(self, kind: str, headings: dict[str, Any], table: str, quiet: str) -> None:
        self.kind = kind
        self.headings = headings
        self.table = table
        self.quiet = quiet

    def render(self, rows: Sequence[dict[str, Any]], form: str | None, quiet: bool) -> str:
        """Return the text for `rows`.

        Args:
            rows: field to value; methods are callables and absent from ``json``.
            form: ``table``, ``table TEMPLATE``, ``json``, a template, or None.
            quiet: only ids, unless the format is a template.

        Raises:
            InvalidInput: a bad template, an unknown field.
        """
        form = (form or "table").strip() or "table"
        if quiet and form == "table":
            return self._lines(rows, self.quiet)
        if form == "json":
            return "".join(f"{to_json(_plain(row))}\n" for row in rows)
        if form.startswith("table"):
            return self._table(rows, form[len("table") :].strip() or self.table)
        return self._lines(rows, form)

    def _compile(self, source: str) -> Template:
        try:
            # on the command line a tab is typed as two characters
            return Template(source.replace("\\t", "\t").replace("\\n", "\n"), self.kind)
        except InvalidInput as err:
            raise _in_listing(err, "failed to parse template") from err

    def _fill(self, template: Template, row: dict[str, Any]) -> str:
        try:
            return template.render(row)
        except InvalidInput as err:
            raise _in_listing(err, "failed to execute template") from err

    def _lines(self, rows: Sequence[dict[str, Any]], source: str) -> str:
        template = self._compile(source)
        return "".join(f"{self._fill(template, row)}\n" for row in rows)

    def _table(self, rows: Sequence[dict[str, Any]], source: str) -> str:
        template = self._compile(source)
        # a heading has no bad fields: the rows complain of them
        head = template.render(GoMap(self.headings))
        return align([head, *(self._fill(template, row) for row in rows)])


def _in_listing(error: InvalidInput, what: str) -> InvalidInput:
    return InvalidInput(error.message.replace("template parsing error", what, 1), error.hint)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in sorted(row) if not callable(row[name])}
