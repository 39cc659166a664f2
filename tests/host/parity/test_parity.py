"""pycontain answers as docker does, and where it does not, a row says why."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pycontain.cli.flags import HelpRequested, UsageError, parse
from pycontain.cli.main import GLOBAL_FLAGS, NOUNS, VERBS, load_verb

from . import judge, live
from .player import Player, Servers, line_words
from .table import SCENES

if TYPE_CHECKING:
    from harness import CommandLine

    from .rows import Scene


def ids(scene: Scene) -> str:
    return scene.name.replace(" ", "-")


@pytest.mark.host
@pytest.mark.parametrize("scene", SCENES, ids=ids)
def test_answers_are_dockers(
    scene: Scene,
    pycontain: CommandLine,
    live_docker: Player | None,
    servers: Servers | None,
    tmp_path: str,
) -> None:
    if scene.needs_registries and servers is None:
        pytest.skip("not installed: docker-registry, apache2-utils or openssl")
    word = "PYCONTAIN_TEST_SESSION"
    ours = Player(
        pycontain.argv,
        f"{tmp_path}/scratch",
        docker=False,
        extra={word: os.environ[word]},
        servers=servers,
    )
    recorded = live.recorded().answers(scene)
    assert recorded is not None, "python -m tests.host.parity.record"
    with contextlib.ExitStack() as stack:
        if live_docker:
            # Whatever fails: the next scene finds a docker without containers.
            stack.callback(live_docker.clear)
        beside = stack.enter_context(ThreadPoolExecutor(1))
        dockers = beside.submit(live_docker.play, scene, recorded) if live_docker else None
        answers = ours.play(scene)
    found = judge.problems(scene, answers, recorded, live=False)
    if dockers:
        now = judge.problems(scene, answers, dockers.result(), live=True)
        found += [f"(live) {problem}" for problem in now if problem not in found]
    assert not found, "\n" + "\n".join(found)


def test_every_row_has_a_recorded_answer() -> None:
    recording = live.recorded()
    assert list(recording.scenes) == [scene.name for scene in SCENES]
    stale = [scene.name for scene in SCENES if recording.answers(scene) is None]
    assert not stale, "python -m tests.host.parity.record " + " ".join(map(repr, stale))


OWN = [
    f"{noun} {verb}"
    for noun, (_, verbs) in NOUNS.items()
    for verb, place in verbs.items()
    if place not in VERBS
]
"""The verbs that there are by their noun alone."""


def verb_of(words: list[str]) -> tuple[str | None, list[str]]:
    """The name of the verb that a line begins with, None where there is none, and the rest."""
    if len(words) > 1 and words[1] in NOUNS.get(words[0], ("", {}))[1]:
        place = NOUNS[words[0]][1][words[1]]
        return place if place in VERBS else f"{words[0]} {words[1]}", words[2:]
    return (words[0], words[1:]) if words and words[0] in VERBS else (None, [])


def shown() -> set[tuple[str, str]]:
    """The flags that rows use, by verb; the verb of a global flag is empty."""
    found: set[tuple[str, str]] = set()
    for row in (row for scene in SCENES for row in scene.rows if not row.on_host):
        name: str | None = None
        try:
            values, rest = parse(
                GLOBAL_FLAGS, line_words(row.line.replace("@dir", "/dir")), mixed=False
            )
            found |= {("", flag.name) for flag in GLOBAL_FLAGS if values.given(flag.name)}
            name, rest = verb_of(rest)
            if name is None:
                continue
            verb = load_verb(name)
            values, _ = parse(verb.flags, rest, mixed=verb.mixed)
        except UsageError:
            continue  # such a row shows that a line is refused, not what a flag does
        except HelpRequested:
            found.add((name or "", "help"))
            continue
        found |= {
            (verb.name, ""),
            *((verb.name, f.name) for f in verb.flags if values.given(f.name)),
        }
    return found


@pytest.mark.parametrize("name", ["", *VERBS, *OWN])
def test_every_flag_has_a_row(name: str) -> None:
    flags = load_verb(name).flags if name else GLOBAL_FLAGS
    wanted = {flag.name for flag in flags} | {"" if name else "help"}
    missing = wanted - {flag for verb, flag in shown() if verb == name}
    assert not missing, f"no row for {name} {sorted(missing)}"


def test_scenes_have_names_of_their_own() -> None:
    names = [scene.name for scene in SCENES]
    assert len(set(names)) == len(names)
