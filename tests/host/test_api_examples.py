"""The examples of docs/python.md work as written."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pycontain

if TYPE_CHECKING:
    from pycontain import Engine

pytestmark = pytest.mark.host

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_docs_python(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Engine()`` there is the test's own."""
    monkeypatch.setattr(pycontain, "Engine", lambda: engine, raising=False)
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 20
    assert failed == 0
