"""The table of conformance: up to date, and no demand without a test or a reason."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

PLACE = os.path.join(os.path.dirname(__file__), os.pardir, "host", "oci", "conformance.py")


@pytest.fixture(scope="module")
def conformance() -> ModuleType:
    """The generator, by its path: it is a program beside the tests, not a module of the package."""
    wanted = importlib.util.spec_from_file_location("oci_conformance", PLACE)
    assert wanted is not None
    assert wanted.loader is not None
    module = importlib.util.module_from_spec(wanted)
    wanted.loader.exec_module(module)
    return module


def test_every_demand_has_a_test_or_a_reason(conformance: ModuleType) -> None:
    assert not conformance.problems(conformance.read_musts(), conformance.read_markers())


def test_the_document_is_up_to_date(conformance: ModuleType) -> None:
    with open(conformance.DOCUMENT) as file:
        text = file.read()
    made = conformance.render(conformance.read_musts(), conformance.read_markers())
    assert text == made, "run: python tests/host/oci/conformance.py --write"


def test_what_does_not_fit_is_found(conformance: ModuleType, tmp_path: Path) -> None:
    musts = tmp_path / "musts.txt"
    musts.write_text("== a.md\n-- x\none\ntwo | why\nthree\nfour | why\none\n")
    (tmp_path / "test_a.py").write_text(
        "@spec('a.md#x: one', 'a.md#x: two')\n"
        "@pytest.mark.spec('a.md#x: five')\ndef test_b(): ...\n"
    )
    found = conformance.problems(
        conformance.read_musts(str(musts)), conformance.read_markers(str(tmp_path))
    )
    assert found == [
        "test_a.py::test_b: no such demand: a.md#x: five",
        "a reason although there is a test: a.md#x: two",
        "neither a test nor a reason: a.md#x: three",
        "given twice: a.md#x: one",
    ]


def test_markers_made_by_a_function_and_of_a_constant(
    conformance: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "test_a.py").write_text(
        "KEY = 'a.md#x: one'\n"
        "def option(*names):\n    return spec(*(f'a.md#o: option {name}' for name in names))\n"
        "@option('ro', 'rw')\n@spec(KEY)\ndef test_b(): ...\n"
    )
    assert conformance.read_markers(str(tmp_path)) == {
        "a.md#o: option ro": ["test_a.py::test_b"],
        "a.md#o: option rw": ["test_a.py::test_b"],
        "a.md#x: one": ["test_a.py::test_b"],
    }


def test_the_generator_says_what_is_wrong(conformance: ModuleType) -> None:
    assert conformance.main([]) == 0
    assert "oci_conformance" not in sys.modules
