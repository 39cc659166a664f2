"""The grammar of the command line: pflag's rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli.flags import (
    Flag,
    HelpRequested,
    UsageError,
    boolean,
    filter_,
    integer,
    parse,
    switch,
    wait_seconds,
)
from pycontain.errors import InvalidInput

FLAGS = (
    switch("interactive", "", short="i"),
    switch("tty", "", short="t"),
    switch("proxy", "", default=True),
    Flag("env", "", short="e", kind="list"),
    Flag("name", ""),
    Flag("network net", ""),
    Flag("last", "", short="n", convert=integer, default=-1),
)


def read(*words: str, mixed: bool = True) -> tuple[dict[str, Any], list[str]]:
    values, arguments = parse(FLAGS, words, mixed=mixed)
    given_values = {f.name: values[f.name] for f in FLAGS if values.given(f.name)}
    return given_values, arguments


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        (["-it", "x"], {"interactive": True, "tty": True}, ["x"]),
        (["-ite", "A=1"], {"interactive": True, "tty": True, "env": ["A=1"]}, []),
        (["-eA=1", "-e", "B", "--env=C=2"], {"env": ["A=1", "B", "C=2"]}, []),
        (["-e=A=1"], {"env": ["A=1"]}, []),
        (["--tty=false", "--proxy=0"], {"tty": False, "proxy": False}, []),
        (["-t=false", "-i=true"], {"tty": False, "interactive": True}, []),
        (["--tty", "false"], {"tty": True}, ["false"]),
        (["--name", "a", "--name=b"], {"name": "b"}, []),
        (["--name="], {"name": ""}, []),
        (["--name", "--tty"], {"name": "--tty"}, []),
        (["--net=host"], {"network": "host"}, []),
        (["-n5"], {"last": 5}, []),
        (["-n", "-5"], {"last": -5}, []),
        (["a", "--tty", "b"], {"tty": True}, ["a", "b"]),
        (["a", "--", "--tty"], {}, ["a", "--tty"]),
        (["-", "--tty"], {"tty": True}, ["-"]),
    ],
)
def test_words_become_values(
    words: list[str], values: dict[str, Any], arguments: list[str]
) -> None:
    assert read(*words) == (values, arguments)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["-i", "img", "ls", "-t"], ["img", "ls", "-t"]),
        (["-i", "--", "img", "--tty"], ["img", "--tty"]),
        (["-i", "img", "--", "x"], ["img", "--", "x"]),
    ],
)
def test_flags_end_at_the_first_argument(words: list[str], arguments: list[str]) -> None:
    assert read(*words, mixed=False) == ({"interactive": True}, arguments)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--nam", "x"], "unknown flag: --nam", "did you mean --name?"),
        (["--zzzz"], "unknown flag: --zzzz", None),
        (["-ix"], "unknown shorthand flag: 'x' in -ix", None),
        (["-name"], 'invalid argument "ame" for "-n, --last" flag: ', None),
        (["-tty"], "unknown shorthand flag: 'y' in -tty", "did you mean --tty?"),
        (["--name"], "flag needs an argument: --name", None),
        (["-e"], "flag needs an argument: 'e' in -e", None),
        (["-ie"], "flag needs an argument: 'e' in -ie", None),
        (["--tty=maybe"], 'invalid argument "maybe" for "-t, --tty" flag: ', None),
        (["-n", "x"], 'invalid argument "x" for "-n, --last" flag: ', None),
    ],
)
def test_bad_flags_are_named(words: list[str], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert caught.value.message.startswith(message)
    assert caught.value.hint == hint
    assert caught.value.code == 125


def test_help_is_found_among_flags_and_not_behind_the_first_argument() -> None:
    with pytest.raises(HelpRequested):
        read("-i", "--help")
    assert read("img", "--help", mixed=False) == ({}, ["img", "--help"])


def test_defaults_are_kept_where_nothing_is_given() -> None:
    values, _ = parse(FLAGS, [], mixed=True)
    assert [values[f.name] for f in FLAGS] == [False, False, True, [], None, None, -1]
    assert values.get("absent", 7) == 7


@given(st.lists(st.text(min_size=1)), st.text(), st.booleans())
def test_what_is_written_is_read(env: list[str], name: str, tty: bool) -> None:
    words = [word for line in env for word in ("-e", line)]
    words += [f"--name={name}", f"--tty={str(tty).lower()}", "--", *env]
    values, arguments = parse(FLAGS, words, mixed=True)
    assert (values["env"], values["name"], values["tty"]) == (env, name, tty)
    assert arguments == env


@given(st.lists(st.text(max_size=6)))
def test_any_line_is_read_or_refused_as_usage(words: list[str]) -> None:
    try:
        values, arguments = parse(FLAGS, words, mixed=True)
    except (UsageError, HelpRequested):
        return
    assert len(arguments) <= len(words)
    assert isinstance(values["last"], int)


@pytest.mark.parametrize("text", ["", "1_0", " 1", "٣", "1.0", "0x10", str(1 << 63), "--1"])
def test_integer_refuses(text: str) -> None:
    with pytest.raises(InvalidInput):
        integer(text)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_integer_reads_what_fits_64_bits(number: int) -> None:
    assert integer(str(number)) == number


def test_wait_seconds_has_one_negative_number() -> None:
    assert [wait_seconds("-1"), wait_seconds("0")] == [-1, 0]
    with pytest.raises(InvalidInput):
        wait_seconds("-2")


def test_boolean_knows_gos_words_only() -> None:
    assert [boolean(word) for word in ("T", "true", "1", "F", "False", "0")] == [True] * 3 + [
        False
    ] * 3
    with pytest.raises(InvalidInput):
        boolean("yes")


def test_filter_needs_an_equals_sign_and_keeps_the_others() -> None:
    assert filter_("label=a=b") == ("label", "a=b")
    with pytest.raises(InvalidInput, match=r"expected name=value"):
        filter_("label")
