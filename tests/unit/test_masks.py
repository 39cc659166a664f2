"""Masked and read-only paths."""

import os
from pathlib import Path

import pytest

from pycontain.runtime import masks


def test_paths_are_absolute_and_named_once() -> None:
    paths = masks.MASKED_PATHS + masks.READONLY_PATHS
    assert len(set(paths)) == len(paths)
    assert all(path == os.path.normpath(path) and path.startswith("/") for path in paths)


def test_the_gravest_are_there() -> None:
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(masks.MASKED_PATHS)
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(masks.READONLY_PATHS)


def test_thermal_counters_of_each_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cpu0/thermal_throttle", "cpu1/topology", "cpu12/thermal_throttle", "cpufreq"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(masks, "_CPUS", str(tmp_path))
    found = masks.masked_paths()
    assert found[: len(masks.MASKED_PATHS)] == masks.MASKED_PATHS
    assert found[len(masks.MASKED_PATHS) :] == (
        f"{tmp_path}/cpu0/thermal_throttle",
        f"{tmp_path}/cpu12/thermal_throttle",
    )


def test_a_machine_without_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_CPUS", str(tmp_path / "none"))
    assert masks.masked_paths() == masks.MASKED_PATHS
