"""A wrong answer is seen, and what cannot be the same twice is not taken for one."""

from __future__ import annotations

import pytest

from . import judge
from .player import Answer, line_words, normalised
from .rows import Row, Said, scene

GOOD = Answer(0, "out\n", "")


def faults(row: Row, ours: Answer, docker: Answer, *, live: bool = True) -> list[str]:
    return judge.problems(scene("a scene", row), [ours], [docker], live=live)


def test_the_same_answers_are_no_problem() -> None:
    assert not faults(Row("ps"), GOOD, GOOD)


@pytest.mark.parametrize(
    "ours", [Answer(1, "out\n", ""), Answer(0, "out", ""), Answer(0, "out\n", "told")]
)
def test_each_part_of_an_answer_counts(ours: Answer) -> None:
    assert faults(Row("ps"), ours, GOOD)


def test_a_phrase_must_be_in_both() -> None:
    row = Row("ps", err="No such")
    assert not faults(row, Answer(1, "", "ours: no such"), Answer(1, "", "No such x"))
    assert faults(row, Answer(1, "", "other"), Answer(1, "", "No such x"))
    assert faults(row, Answer(1, "", "no such"), Answer(1, "", "other"))


@pytest.mark.parametrize(("ours", "docker"), [(GOOD, GOOD), (Answer(2, "", "bad"), GOOD)])
def test_a_difference_fails_when_either_side_changes(ours: Answer, docker: Answer) -> None:
    row = Row("ps", differs="a reason", ours=Said(2, err="bad"), dockers=Said(1))
    assert faults(row, ours, docker)


def test_a_difference_that_is_as_told_is_no_problem() -> None:
    row = Row("ps", differs="a reason", ours=Said(2, err="BAD"), dockers=Said(0, out=...))
    assert not faults(row, Answer(2, "", "bad"), GOOD)


def test_a_local_answer_is_not_compared_with_a_recorded_one() -> None:
    row = Row("info", local=True, ours=Said(0, out=...))
    other = Answer(0, "another machine\n", "")
    assert not faults(row, GOOD, other, live=False)
    assert faults(row, GOOD, other, live=True)
    assert faults(row, Answer(1, "", ""), other, live=False)


def test_a_difference_has_a_reason_and_both_answers() -> None:
    with pytest.raises(AssertionError):
        Row("ps", differs="a reason", ours=Said())
    with pytest.raises(AssertionError):
        Row("ps", dockers=Said())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a" * 63 + "1", "<id>"),
        ("sha256:" + "1" * 64, "sha256:<id>"),
        ("/scratch/file", "<dir>/file"),
        ("12ab34cd56ef", "<x:12>"),
        ("12ab34", "<x:6>"),
        ("2026-11-21T05:08:26.123Z", "<time>"),
        ("Up 2 seconds", "Up <ago>"),
        ("Less than a second ago", "<ago>"),
        ("decade 1234", "decade 1234"),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert normalised(text, "/scratch", {"x": "12ab34cd56ef" + "0" * 52}) == normal


def test_short_words_of_a_line() -> None:
    assert line_words("run BOX echo 'a BOX'") == [
        "run", "--network", "none", "busybox", "echo", "a BOX",
    ]  # fmt: skip
