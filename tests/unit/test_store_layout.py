"""Where the store is, and that it refuses what it must not use."""

import os
from pathlib import Path

import pytest

from pycontain.errors import InvalidInput, StoreError
from pycontain.store.layout import VERSION, Layout


def made(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "state"))
    layout.prepare()
    return layout


@pytest.mark.parametrize(
    ("environ", "uid", "root", "state"),
    [
        ({}, 0, "/var/lib/pycontain", "/run/pycontain"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/root"}, 0, "/var/lib/pycontain", "/run/pycontain"),
        ({"PYCONTAIN_ROOT": "/r", "PYCONTAIN_STATE": "/s"}, 0, "/r", "/s"),
        (
            {"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/run/user/7"},
            7,
            "/d/pycontain",
            "/run/user/7/pycontain",
        ),
        ({"HOME": "/home/u"}, 7, "/home/u/.local/share/pycontain", "/tmp/pycontain-7"),
        (
            {"HOME": "/home/u", "XDG_DATA_HOME": "d", "XDG_RUNTIME_DIR": "r"},
            7,
            "/home/u/.local/share/pycontain",
            "/tmp/pycontain-7",
        ),
    ],
)
def test_default_places(environ: dict[str, str], uid: int, root: str, state: str) -> None:
    layout = Layout.default(environ, uid)
    assert (layout.root, layout.state) == (root, state)


def test_a_user_without_home_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no home"):
        Layout.default({}, 3_999_999_999)


def test_an_empty_folder_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Layout("", "/s")


def test_relative_folders_are_fixed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout("r", "s/")
    monkeypatch.chdir("/")
    assert layout.root == f"{tmp_path}/r"
    assert layout.container("ab").attach == f"{tmp_path}/s/containers/ab/attach"


def test_every_path_of_a_container_is_its_own() -> None:
    layout = Layout("/r", "/s")
    one, two = vars(layout.container("one")), vars(layout.container("two"))
    assert len(set(one.values())) == len(one)
    assert not set(one.values()) & set(two.values())


def test_layer_takes_a_digest_or_its_hex() -> None:
    layout = Layout("/r", "/s")
    assert layout.layer("sha256:ab") == layout.layer("ab") == "/r/layers/ab"


def test_prepare_makes_private_folders_and_may_be_repeated(tmp_path: Path) -> None:
    layout = made(tmp_path)
    layout.prepare()
    for folder, _, _ in os.walk(tmp_path / "root"):
        assert os.stat(folder).st_mode & 0o077 == 0, folder
    assert os.stat(layout.locks).st_mode & 0o077 == 0
    assert Path(layout.version).read_text() == f"{VERSION}\n"


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    layout = made(tmp_path)
    Path(layout.version).write_text(f"{VERSION + 1}\n")
    with pytest.raises(StoreError, match=f"has form {VERSION + 1}") as caught:
        layout.prepare()
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "one\n", "-1", "\xff"])
def test_a_damaged_version_stamp_is_named(text: str, tmp_path: Path) -> None:
    layout = made(tmp_path)
    Path(layout.version).write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"version: damaged"):
        layout.prepare()


def test_a_symbolic_link_as_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to("elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        made(tmp_path)


def test_a_state_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(StoreError, match="mode 0777"):
        made(tmp_path)


def test_in_a_shared_folder_the_state_must_be_wholly_private(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    made(tmp_path)
    with pytest.raises(StoreError, match="mode 0755"):
        Layout(str(tmp_path / "root"), str(tmp_path / "state"), shared=True).prepare()


def test_a_state_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StoreError, match="belongs to uid"):
        made(tmp_path)


def test_the_fallback_state_folder_is_strict() -> None:
    assert Layout.default({"HOME": "/h"}, 7)._shared
    assert not Layout.default({"HOME": "/h", "XDG_RUNTIME_DIR": "/x"}, 7)._shared
