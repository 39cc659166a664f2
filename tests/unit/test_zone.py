"""Time zones: which there are, and how an image's /etc/localtime is replaced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontain.engine import zone
from pycontain.errors import InvalidInput, KernelError, NotFound
from pycontain.model.container import Mount, RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKYO = b"TZif2 tokyo"


@pytest.fixture(autouse=True)
def zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "zones"
    (folder / "Asia").mkdir(parents=True)
    (folder / "Asia/Tokyo").write_bytes(TOKYO)
    (folder / "zone.tab").write_text("# a table")
    monkeypatch.setattr(zone, "ZONES", str(folder))
    monkeypatch.setattr(zone, "_HOST", str(tmp_path / "localtime"))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_PATH)
    yield fd
    os.close(fd)


def options(name: str | None, *targets: str) -> RunOptions:
    mounts = tuple(Mount(type="tmpfs", target=target) for target in targets)
    return RunOptions(image="x", tz=name, mounts=mounts)


@pytest.mark.parametrize("name", ["../zone", "/etc/passwd", "Asia/../x", "Asia//Tokyo", "", "a\0"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(InvalidInput, match="not a name"):
        zone.read(name)


def test_zones_that_there_are_not() -> None:
    with pytest.raises(NotFound, match="Asia/Nowhere"):
        zone.read("Asia/Nowhere")
    with pytest.raises(NotFound, match="is a directory"):
        zone.read("Asia")
    with pytest.raises(InvalidInput, match="not a zone's file"):
        zone.read("zone.tab")


def test_the_hosts_own(tmp_path: Path) -> None:
    assert zone.read("local") is None
    (tmp_path / "localtime").symlink_to("zones/Asia/Tokyo")
    assert zone.read("local") == TOKYO


def test_what_would_hide_it_is_refused() -> None:
    zone.check(options("Asia/Tokyo", "/etc/ssl"))
    zone.check(options(None, "/etc"))
    for target in ("/etc", "/etc/localtime"):
        with pytest.raises(InvalidInput, match=f"time zone and the mount on {target}"):
            zone.check(options("Asia/Tokyo", target))
    with pytest.raises(NotFound):
        zone.check(options("Asia/Nowhere"))


def test_a_link_is_replaced_and_not_followed(root: int, tmp_path: Path) -> None:
    etc = tmp_path / "root/etc"
    etc.mkdir()
    (tmp_path / "victim").write_text("untouched")
    (etc / "localtime").symlink_to(tmp_path / "victim")
    for _ in range(2):  # as at each start
        zone.write(root, "Asia/Tokyo")
        assert os.listdir(etc) == ["localtime"]
        assert not (etc / "localtime").is_symlink()
        assert (etc / "localtime").read_bytes() == TOKYO
        assert (etc / "localtime").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "victim").read_text() == "untouched"
    zone.write(root, "local")  # the host has none: its time is UTC
    assert os.listdir(etc) == []


def test_the_folder_is_made_and_stays_in_the_root(root: int, tmp_path: Path) -> None:
    zone.write(root, "Asia/Tokyo")
    assert (tmp_path / "root/etc/localtime").read_bytes() == TOKYO
    (tmp_path / "root/etc/localtime").unlink()
    (tmp_path / "root/etc").rmdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/etc").symlink_to(tmp_path / "outside")
    with pytest.raises(KernelError, match="set time zone"):
        zone.write(root, "Asia/Tokyo")
    assert os.listdir(tmp_path / "outside") == []
