"""Which verb is legal when: the whole table."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, get_args

import pytest

from pycontain.errors import InvalidState
from pycontain.model import status
from pycontain.model.status import State, Status, check

if TYPE_CHECKING:
    from typing import Any

LEGAL = {
    ("start", "created"), ("start", "restarting"),
    ("start", "exited"),
    ("kill", "running"), ("kill", "paused"),
    ("attach", "running"), ("exec", "running"), ("join", "running"), ("join", "paused"),
    ("pause", "running"), ("unpause", "paused"), ("top", "running"), ("top", "paused"),
    ("remove", "created"), ("remove", "exited"),
}  # fmt: skip
STATES: tuple[Any, ...] = get_args(State)


@pytest.mark.parametrize(("verb", "state"), list(itertools.product(sorted(status._LEGAL), STATES)))
def test_the_table(verb: str, state: Any) -> None:
    if (verb, state) in LEGAL:
        check(verb, "box", Status(state=state))
        return
    with pytest.raises(InvalidState) as caught:
        check(verb, "box", Status(state=state))
    message = caught.value.message
    assert "{" not in message
    assert not message.endswith(".")
    assert message[0].islower()
    # docker's words name the container no more than these
    assert verb == "attach" or (verb, state) == ("start", "paused") or "box" in message


def test_every_verb_has_its_words() -> None:
    assert set(status._SAID) == set(status._LEGAL)
    assert set(status._HINTS) <= set(status._LEGAL)


def test_hints_name_the_container() -> None:
    with pytest.raises(InvalidState) as caught:
        check("exec", "box", Status(state="exited"))
    assert caught.value.hint == "start it first: pycontain start box"


def test_a_verb_that_there_is_not_is_a_bug() -> None:
    with pytest.raises(KeyError):
        check("nonsense", "box", Status(state="running"))
