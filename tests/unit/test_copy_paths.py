"""The words of ``cp``: arguments, paths and what goes where, by value."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli.cp import Place, place
from pycontain.cli.flags import Refused
from pycontain.engine.archive import member_names
from pycontain.engine.roots import pseudo_devices
from pycontain.engine.transfer import Plan, Words, local_words, plan, words
from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError

if TYPE_CHECKING:
    from pathlib import Path

texts = st.text("ab./: -", max_size=12)
paths = st.lists(st.sampled_from(["a", "b", ".", "..", "", "..."]), max_size=7).map("/".join)

FOLDER, FILE, NOTHING = True, False, None


# ------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("argument", "container", "path"),
    [
        ("web:/etc", "web", "/etc"),
        ("web:etc/x:y", "web", "etc/x:y"),
        ("/a:b", None, "/a:b"),
        ("./a:b", None, "./a:b"),
        ("../a:b", None, "../a:b"),
        (".a:b", None, ".a:b"),
        ("a/b:c", "a/b", "c"),
        ("-", None, "-"),
        ("file", None, "file"),
    ],
)
def test_an_argument_is_a_containers_path_or_ones_own(
    argument: str, container: str | None, path: str
) -> None:
    assert place(argument) == Place(container, path)


@pytest.mark.parametrize("argument", [":/etc/passwd", ":", "web:"])
def test_half_of_an_argument_is_refused(argument: str) -> None:
    with pytest.raises(Refused, match="empty"):
        place(argument)


@given(texts)
def test_no_argument_is_read_as_something_that_is_not_in_it(argument: str) -> None:
    try:
        found = place(argument)
    except Refused:
        assert argument.startswith(":") or argument.find(":") == len(argument) - 1
        return
    if found.container is None:
        assert found.path == argument
        assert argument.startswith(("/", ".")) or ":" not in argument
    else:
        assert f"{found.container}:{found.path}" == argument
        assert found.container
        assert ":" not in found.container


# ----------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("text", "path", "base", "is_folder", "content"),
    [
        ("/", "/", "", True, False),
        ("//", "/", "", True, False),
        ("/.", "/", "", True, True),
        ("srv", "/srv", "srv", False, False),
        ("/srv/", "/srv", "srv", True, False),
        ("/srv/.", "/srv", "srv", True, True),
        ("/srv/./", "/srv", "srv", True, True),
        ("/srv/..", "/", "", False, False),
        ("/srv/../..", "/", "", False, False),
        ("/srv/...", "/srv/...", "...", False, False),
        ("a//b", "/a/b", "b", False, False),
    ],
)
def test_words_of_a_path(text: str, path: str, base: str, is_folder: bool, content: bool) -> None:
    assert words(text) == Words(path, base, is_folder, content)


@given(paths)
def test_a_path_never_leads_above_the_root(text: str) -> None:
    said = words(text)
    assert said.path.startswith("/")
    assert not said.path.startswith("//")
    assert ".." not in said.path.split("/")
    assert said.path == posixpath.normpath(said.path)
    assert said.base == posixpath.basename(said.path)
    assert said.is_folder or not said.content
    assert words(said.path).path == said.path


def test_a_relative_path_begins_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    assert local_words("a") == Words(f"{here}/a", "a", False, False)
    assert local_words(".") == Words(here, tmp_path.name, True, True)
    assert local_words("./") == Words(here, tmp_path.name, True, True)
    assert local_words("..").path == str(tmp_path.parent)
    assert local_words("/x/.") == Words("/x", "x", True, True)


# ------------------------------------------------------------------------------ what goes where


@pytest.mark.parametrize(
    ("source", "kind", "target", "there", "expected"),
    [
        ("/f", FILE, "/n", NOTHING, Plan(False, "n")),
        ("/f", FILE, "/n", FILE, Plan(False, "n")),
        ("/f", FILE, "/d", FOLDER, Plan(True, "f")),
        ("/f", FILE, "/d/", FOLDER, Plan(True, "f")),
        ("/f", FILE, "/d/.", FOLDER, Plan(True, "f")),
        ("/f", FILE, "/n/", NOTHING, NotFound),
        ("/f", FILE, "/n/.", NOTHING, NotFound),
        ("/f", FILE, "/n/", FILE, InvalidInput),
        ("/f/", FILE, "/n", NOTHING, InvalidInput),
        ("/f/.", FILE, "/n", NOTHING, InvalidInput),
        ("/s", FOLDER, "/n", NOTHING, Plan(False, "")),
        ("/s", FOLDER, "/n/", NOTHING, Plan(False, "")),
        ("/s/.", FOLDER, "/n", NOTHING, Plan(False, "")),
        ("/s", FOLDER, "/n", FILE, Conflict),
        ("/s/.", FOLDER, "/n", FILE, Conflict),
        ("/s", FOLDER, "/d", FOLDER, Plan(True, "s")),
        ("/s/", FOLDER, "/d", FOLDER, Plan(True, "s")),
        ("/s/.", FOLDER, "/d", FOLDER, Plan(True, "")),
        ("/", FOLDER, "/d", FOLDER, Plan(True, "")),
    ],
)
def test_dockers_table(
    source: str,
    kind: bool,
    target: str,
    there: bool | None,
    expected: Plan | type[PycontainError],
) -> None:
    if isinstance(expected, Plan):
        found = plan(words(source), kind, words(target), there)
        assert found.inside is expected.inside
        assert not found.inside or found.name == expected.name
    else:
        with pytest.raises(expected):
            plan(words(source), kind, words(target), there)


@given(paths, st.booleans(), paths, st.sampled_from([FOLDER, FILE, NOTHING]))
def test_a_copy_never_gets_a_name_that_leads_elsewhere(
    source: str, kind: bool, target: str, there: bool | None
) -> None:
    try:
        found = plan(words(source), kind, words(target), there)
    except PycontainError:
        return
    assert found.name not in (".", "..")
    assert "/" not in found.name


# ---------------------------------------------------------------------------- members of archives


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a/b", ("a", "b")),
        ("/etc/x", ("etc", "x")),
        ("./", ()),
        ("", ()),
        ("a/../b", ("b",)),
        ("a//./b/", ("a", "b")),
    ],
)
def test_names_of_a_member(name: str, names: tuple[str, ...]) -> None:
    assert member_names(name) == names


@pytest.mark.parametrize("name", ["..", "../a", "a/../../b", "/../a", "./.."])
def test_a_member_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="outside"):
        member_names(name)


@given(paths)
def test_no_member_leads_out(name: str) -> None:
    joined = posixpath.normpath(f"dest/{name.lstrip('/')}")
    try:
        found = member_names(name)
    except InvalidInput:
        return
    assert posixpath.join("dest", *found) == joined


# ------------------------------------------------------------------------------------ mountinfo


def test_devices_without_content() -> None:
    text = (
        "22 1 0:20 / /proc rw - proc proc rw\n"
        "23 1 0:33 / / rw,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/a - b\n"
        "24 1 0:21 / /sys\\040x ro - sysfs sysfs ro\n"
        "25 1 254:1 / /data rw - ext4 /dev/vda1 rw\n"
    )
    assert pseudo_devices(text) == {os.makedev(0, 20), os.makedev(0, 21)}
