"""Fixtures of the tests in the machine; those of the host suite that they share."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "host"))

from conftest import session, whole_host
from oci.conftest import bundle, nothing_left_behind, rootfs_source

__all__ = ["bundle", "nothing_left_behind", "rootfs_source", "session", "whole_host"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Elsewhere they are shown as skipped: a limit may not bite there, and a reboot hurts."""
    if os.environ.get("PYCONTAIN_TEST_VM") == "1":
        return
    elsewhere = pytest.mark.skip(reason="runs in the virtual machine: sh tests/run vm")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(elsewhere)


@pytest.fixture
def place() -> Iterator[str]:
    """A folder on the machine's disk: ``tmp_path`` is in memory there."""
    folder = tempfile.mkdtemp(dir="/var/tmp")
    yield folder
    shutil.rmtree(folder)
