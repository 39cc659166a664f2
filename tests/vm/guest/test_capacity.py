"""What a machine has for pods is less where the cgroups above the containers are bounded."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontain.pod.admission import capacity

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.vm

ROOT = Path("/sys/fs/cgroup")
BOUNDS = {"cpu.max": "max 100000", "memory.max": "max"}


@pytest.fixture
def above() -> Iterator[Path]:
    """The cgroup above all of root's containers, without bounds before and after."""
    (ROOT / "cgroup.subtree_control").write_text("+cpu +memory")
    folder = ROOT / "pycontain"
    folder.mkdir(exist_ok=True)
    yield folder
    for name, text in BOUNDS.items():
        (folder / name).write_text(text)


def test_bounds_above_the_containers_count(above: Path) -> None:
    whole = capacity()
    assert whole.cpu >= 1
    assert whole.memory > 1 << 28
    (above / "memory.max").write_text(str(1 << 28))
    assert capacity() == (whole.cpu, 1 << 28)
    (above / "cpu.max").write_text("50000 100000")
    assert capacity() == (Decimal("0.5"), 1 << 28)
    # A bound that is wider than the machine is none.
    (above / "memory.max").write_text(str(whole.memory * 2))
    (above / "cpu.max").write_text(f"{int(whole.cpu) * 200000} 100000")
    assert capacity() == whole
