"""Names that nobody chose."""

from __future__ import annotations

from pycontain.engine import names
from pycontain.model.parse.names import validate_name


def test_every_name_that_can_come_out_is_a_name() -> None:
    for first in names._FIRST:
        for second in names._SECOND:
            validate_name(f"{first}_{second}")


def test_no_word_is_there_twice() -> None:
    assert len(set(names._FIRST)) == len(names._FIRST)
    assert len(set(names._SECOND)) == len(names._SECOND)


def test_there_are_thousands() -> None:
    assert len(names._FIRST) * len(names._SECOND) > 4000
    assert len({names.generate(0) for _ in range(200)}) > 150


def test_later_attempts_find_one_that_is_free() -> None:
    for attempt in (3, 4, 5):
        name = names.generate(attempt)
        validate_name(name)
        assert name.rstrip("0123456789") != name
    assert names.generate(2).isascii()
    late = {names.generate(9) for _ in range(100)}
    assert len(late) == 100
