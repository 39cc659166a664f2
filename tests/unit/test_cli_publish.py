"""Ports that an ordinary user publishes where networks lead nowhere: why is told."""

from __future__ import annotations

import os

import pytest

from pycontain.cli.flags import Verb, parse
from pycontain.cli.pod import CREATE as POD_CREATE
from pycontain.cli.run import RUN
from pycontain.cli.run_options import network_fields
from pycontain.config import BUILT_IN
from pycontain.errors import NotSupported
from pycontain.network import outside

REASON = "connect to the outside: nothing is installed"


@pytest.fixture(autouse=True)
def _no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> str:
        raise NotSupported("connect to the outside", "nothing is installed", 2, "install pasta")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(outside, "check", check)


def fields(verb: Verb, *words: str) -> object:
    values, _ = parse(verb.flags, words, mixed=verb.mixed)
    return network_fields(values, BUILT_IN)["network"]


@pytest.mark.parametrize(
    ("verb", "words"), [(RUN, ("-p", "80")), (RUN, ("-P",)), (POD_CREATE, ("-p", "80"))]
)
def test_what_is_missing_is_named(verb: Verb, words: tuple[str, ...]) -> None:
    with pytest.raises(NotSupported, match=REASON) as caught:
        fields(verb, *words)
    assert caught.value.hint == "install pasta"


def test_who_publishes_nothing_or_names_a_network_is_not_asked() -> None:
    assert fields(RUN) == "none"
    assert fields(RUN, "-p", "80", "--network", "none") == "none"
    assert fields(RUN, "-p", "80", "--network", "mine") == "bridge"
    assert fields(RUN, "-p", "80", "--pod", "web") == "none"
