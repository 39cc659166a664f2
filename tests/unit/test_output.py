"""Tables, durations, sizes and times in docker's forms."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli import output
from pycontain.errors import InvalidInput

HOUR = 3600
DAY = 24 * HOUR

LISTING = output.Listing(
    kind="*formatter.ThingContext",
    headings={"ID": "THING ID", "Name": "NAME", "Label": output.label_heading},
    table="{{.ID}}\t{{.Name}}",
    quiet="{{.ID}}",
)
ROWS = [
    {"ID": "a1", "Name": "first", "Label": lambda name: name.upper()},
    {"ID": "b2", "Name": "a longer name", "Label": lambda name: name.upper()},
]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (0.99, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60 + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 1799, "About an hour"),
        (HOUR + 1800, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_human_duration(seconds: float, words: str) -> None:
    assert output.human_duration(seconds) == words


def test_a_clock_that_went_back_is_no_negative_duration() -> None:
    assert output.ago(2_000_000_000, 1_000_000_000) == "Less than a second ago"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1_982_256, "1.98MB"),
        (12_345_678, "12.3MB"),
        (506_000_000, "506MB"),
        (1_000_000_000, "1GB"),
    ],
)
def test_human_size(count: int, words: str) -> None:
    assert output.human_size(count) == words


@pytest.mark.parametrize(
    ("moment", "digits", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, 0, "1970-01-01T00:00:01.5Z"),
        (1_500_000_000, 9, "1970-01-01T00:00:01.500000000Z"),
        (None, 0, "0001-01-01T00:00:00Z"),
    ],
)
def test_rfc3339(moment: int | None, digits: int, text: str) -> None:
    assert output.rfc3339(moment, digits) == text


def test_local_time_has_offset_and_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    try:
        assert output.local_time(0) == "1969-12-31 19:00:00 -0500 EST"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("e\u0301tude", 5, "e\u0301tude"),
    ],
)
def test_ellipsis_counts_columns(text: str, limit: int, cut: str) -> None:
    assert output.ellipsis(text, limit) == cut


def test_columns_are_three_apart_and_ten_wide_and_the_last_is_free() -> None:
    assert output.align(["A\tB\tC", "a much longer cell\tb\tc", "日本\tb\tx"]) == (
        "A                    B         C\n"
        "a much longer cell   b         c\n"
        "日本                 b         x\n"
    )


def test_a_column_ends_at_a_line_without_it() -> None:
    assert output.align(["longer than ten\tx", "none", "a\tb"]) == (
        "longer than ten   x\nnone\na         b\n"
    )


@given(st.lists(st.lists(st.text(alphabet="abc", max_size=12), min_size=3, max_size=3)))
def test_cells_of_a_column_begin_below_each_other(rows: list[list[str]]) -> None:
    lines = output.align("\t".join(row) for row in rows).splitlines()
    first = max([10, *(len(row[0]) + 3 for row in rows)])
    second = max([10, *(len(row[1]) + 3 for row in rows)])
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line[:first].rstrip() == row[0]
        assert line[first : first + second].rstrip() == row[1]
        assert line[first + second :] == row[2]


def test_the_default_is_a_table() -> None:
    expected = "THING ID   NAME\na1         first\nb2         a longer name\n"
    assert LISTING.render(ROWS, None, quiet=False) == expected
    assert LISTING.render(ROWS, "table", quiet=False) == expected


def test_a_table_without_rows_has_its_head() -> None:
    assert LISTING.render([], None, quiet=False) == "THING ID   NAME\n"


def test_quiet_is_ids_unless_a_template_is_given() -> None:
    assert LISTING.render(ROWS, None, quiet=True) == "a1\nb2\n"
    assert LISTING.render(ROWS, "{{.Name}}", quiet=True) == "first\na longer name\n"


def test_a_template_of_a_table_has_headings_and_typed_escapes() -> None:
    form = 'table {{.Name}}\\t{{.Label "a.b-c"}}'
    assert LISTING.render(ROWS, form, quiet=False) == (
        "NAME            b c\nfirst           A.B-C\na longer name   A.B-C\n"
    )


def test_json_is_one_sorted_object_a_line_without_methods() -> None:
    expected = '{"ID":"a1","Name":"first"}\n{"ID":"b2","Name":"a longer name"}\n'
    assert LISTING.render(ROWS, "json", quiet=False) == expected
    assert LISTING.render(ROWS[:1], "{{json .}}", quiet=False) == '{"ID":"a1","Name":"first"}\n'


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{{.ID", "failed to parse template: template: :1: unclosed action"),
        (
            "{{.Nope}}",
            (
                'failed to execute template: template: :1:2: executing "" at <.Nope>: '
                "can't evaluate field Nope in type *formatter.ThingContext"
            ),
        ),
    ],
)
def test_errors_of_a_listing_are_dockers(form: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        LISTING.render(ROWS, form, quiet=False)
    assert caught.value.message == message
