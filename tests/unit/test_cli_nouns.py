"""Verbs by their nouns, ``container ls``: the same verbs, from one table."""

from __future__ import annotations

import pytest

from pycontain.cli.main import NOUNS, VERBS, load_verb, main

FORMS = [f"{noun} {verb}" for noun in NOUNS for verb in NOUNS[noun][1]]


def play(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", FORMS)
def test_every_form_has_help_with_its_own_name_and_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = play(capsys, *name.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: pycontain {name} ")
    verb = load_verb(name)
    assert verb.name == name
    assert verb.examples
    assert any(f"pycontain {name}" in command for command, _ in verb.examples)
    for flag in verb.flags:
        assert f"--{flag.name}" in out


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_a_verb_is_that_verb(name: str) -> None:
    noun, _, last = name.partition(" ")
    place = NOUNS[noun][1][last]
    if place in VERBS:
        verb, form = load_verb(place), load_verb(name)
        assert (form.run, form.flags, form.least, form.most) == (
            verb.run, verb.flags, verb.least, verb.most,
        )  # fmt: skip
        assert (form.mixed, form.failure, form.command) == (
            verb.mixed, verb.failure, verb.command,
        )  # fmt: skip


def test_containers_have_every_verb_of_theirs() -> None:
    others = set("completion events images info login logout rmi search version".split())
    assert set(VERBS) - others <= set(NOUNS["container"][1]) | set(NOUNS["image"][1])


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_a_noun_alone_is_help(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = play(capsys, noun)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: pycontain {noun} ")
    for verb in NOUNS[noun][1]:
        assert f"\n  {verb} " in out
    assert play(capsys, noun, "--help") == (0, out, "")


def test_the_program_names_the_nouns(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = play(capsys)
    for noun, (summary, _) in NOUNS.items():
        assert f"  {noun} " in out
        assert summary in out


@pytest.mark.parametrize(
    ("words", "wrong", "meant"),
    [
        (["contaner", "ls"], "contaner", "container"),
        (["container", "lss"], "container lss", "container ls"),
        (["container", "renme", "x"], "container renme", "container rename"),
        (["image", "inspct"], "image inspct", "image inspect"),
        (["system", "prun"], "system prun", "system prune"),
    ],
)
def test_what_is_mistyped_is_suggested(
    words: list[str], wrong: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = play(capsys, *words)
    assert (code, out) == (1, "")
    assert err.startswith(
        f"pycontain: unknown command: pycontain {wrong}\nhint: did you mean pycontain {meant}?\n"
    )


def test_a_wrong_number_of_arguments_names_the_form(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = play(capsys, "container", "stop")
    assert code == 1
    assert err.startswith("pycontain: 'pycontain container stop' requires at least 1 argument\n")
    assert "Usage:  pycontain container stop " in err


def test_a_bad_flag_names_the_form_and_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = play(capsys, "container", "ls", "--al")
    assert code == 125
    assert err.startswith("pycontain: unknown flag: --al\nhint: did you mean --all?\n")
    assert "Usage:  pycontain container ls " in err


def test_a_noun_has_no_flags(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = play(capsys, "container", "--all", "ls")
    assert code == 125
    assert "unknown flag: --all" in err
    assert "Run 'pycontain container --help'" in err
