"""The command line of the OCI face: the grammar of Go's flag package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.oci.flags import LIST, NUMBER, SWITCH, VALUE, Flag, UsageError, Values, read

FLAGS = (
    Flag("detach d", SWITCH, "do not wait"),
    Flag("bundle b", VALUE, "folder"),
    Flag("log-format", VALUE, "text or json", "text"),
    Flag("env e", LIST, "a variable"),
    Flag("preserve-fds", NUMBER, "how many"),
    Flag("ratio", NUMBER, "how much", 7),
)


def told(*words: str) -> Values:
    return read(FLAGS, words)


# --------------------------------------------------------------------------------- what is not told


def test_nothing_said() -> None:
    found = told()
    assert (found.words, found.given) == ([], set())
    assert found.on("detach") is False
    assert found.text("bundle") == ""
    assert found.text("log-format") == "text"
    assert found.many("env") == []
    assert found.number("preserve-fds") == 0
    assert found.number("ratio") == 7


def test_two_command_lines_share_nothing() -> None:
    told("-e", "A=1")
    assert told().many("env") == []


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "words",
    [
        ["--bundle", "/b"], ["-bundle", "/b"], ["--bundle=/b"], ["-bundle=/b"],
        ["-b", "/b"], ["--b", "/b"], ["-b=/b"], ["--b=/b"],
    ],
)  # fmt: skip
def test_one_dash_or_two_and_the_value_after_a_space_or_an_equals_sign(words: list[str]) -> None:
    found = told(*words, "ID")
    assert found.text("bundle") == "/b"
    assert found.words == ["ID"]
    assert found.given == {"bundle"}


@pytest.mark.parametrize(
    ("word", "value"), [("-b=", ""), ("-b=a=b", "a=b"), ("--bundle==", "="), ("-b=-d", "-d")]
)
def test_what_follows_the_first_equals_sign_is_the_value(word: str, value: str) -> None:
    found = told(word, "--detach")
    assert found.text("bundle") == value
    assert found.given == {"bundle", "detach"}


@pytest.mark.parametrize("value", ["", "-d", "--", "--detach", "-", "--bundle=x"])
def test_the_next_word_is_the_value_whatever_it_looks_like(value: str) -> None:
    found = told("--bundle", value, "ID")
    assert found.text("bundle") == value
    assert found.words == ["ID"]
    assert not found.on("detach")


def test_the_last_value_counts() -> None:
    assert told("--bundle=a", "-b", "b").text("bundle") == "b"
    assert not told("-d", "--detach=false").on("detach")


def test_a_list_keeps_all_in_their_order() -> None:
    found = told("-e", "A=1", "--env=B=2", "-e", "", "-e=A=1", "x")
    assert found.many("env") == ["A=1", "B=2", "", "A=1"]
    assert found.words == ["x"]


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("3", 3), ("-1", -1), ("007", 7)])
def test_numbers(text: str, number: int) -> None:
    assert told("--preserve-fds", text).number("preserve-fds") == number
    assert told(f"--preserve-fds={text}").number("preserve-fds") == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "--1", "-", "1 ", "+", "1e3"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match=r"--preserve-fds: .* is not a number"):
        told("--preserve-fds", text)


# ----------------------------------------------------------------------------------------- switches


@pytest.mark.parametrize("words", [["-d"], ["--d"], ["-detach"], ["--detach"]])
def test_a_switch(words: list[str]) -> None:
    found = told(*words, "true")
    assert found.on("detach")
    assert found.words == ["true"]  # a switch takes no word


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_a_switch_that_is_on(text: str) -> None:
    """Go's strconv.ParseBool."""
    assert told(f"--detach={text}").on("detach")


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_a_switch_that_is_off(text: str) -> None:
    found = told(f"-d={text}")
    assert not found.on("detach")
    assert found.given == {"detach"}


@pytest.mark.parametrize("text", ["", "yes", "no", "on", "tRUE", "2", "true "])
def test_a_switch_that_is_neither(text: str) -> None:
    with pytest.raises(UsageError, match=r"--detach: .* is neither true nor false"):
        told(f"-d={text}")


# ----------------------------------------------------------------------------------- where they end


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["ID", "-d"], ["ID", "-d"]),
        (["", "-d"], ["", "-d"]),
        (["-", "-d"], ["-", "-d"]),
        (["--", "-d"], ["-d"]),
        (["--", "--", "-d"], ["--", "-d"]),
        (["ID", "--", "-d"], ["ID", "--", "-d"]),
        (["-b", "--", "-d"], []),
    ],
)
def test_the_first_word_that_is_none_ends_the_flags(words: list[str], rest: list[str]) -> None:
    found = told(*words)
    assert found.words == rest
    assert found.on("detach") is (words[0] == "-b")


def test_flags_after_a_command_are_the_commands() -> None:
    found = told("-d", "ID", "sh", "-c", "--nonsense")
    assert found.words == ["ID", "sh", "-c", "--nonsense"]


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--nonsense", "--nonsense"),
        ("-x", "-x"),
        ("--nonsense=5", "--nonsense"),
        ("-db", "-db"),  # they cannot be joined
        ("--DETACH", "--DETACH"),
        ("---detach", "---detach"),
        ("--=x", "--"),
        ("-=x", "-"),
        ("---", "---"),
    ],
)
def test_a_flag_that_there_is_not(word: str, said: str) -> None:
    with pytest.raises(UsageError) as info:
        told(word, "ID")
    assert info.value.message == f"flag provided but not defined: {said}"


@pytest.mark.parametrize("word", ["--bundle", "-b", "-env", "--preserve-fds"])
def test_a_missing_value(word: str) -> None:
    with pytest.raises(UsageError) as info:
        told("-d", word)
    assert info.value.message == f"flag needs an argument: {word}"


def test_a_wrong_command_line_is_the_users_fault() -> None:
    assert issubclass(UsageError, InvalidInput)


def test_values_of_another_kind_are_not_given_away() -> None:
    found = told("--bundle", "x", "-d", "--ratio", "1")
    assert not found.on("bundle")
    assert found.text("detach") == ""
    assert found.many("bundle") == []
    assert found.number("bundle") == 0


def test_a_name_that_no_flag_has_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        told().text("nonsense")


words = st.sampled_from(
    ["--detach", "-b", "--env=x", "-e", "--", "-", "ID", "", "--preserve-fds=1"]
)


@given(st.lists(words | st.text("-=db", max_size=4), max_size=6))
def test_every_command_line_is_taken_or_refused(line: list[str]) -> None:
    try:
        found = told(*line)
    except UsageError as err:
        assert err.message
        return
    assert found.words == line[len(line) - len(found.words) :]
    head = line[: len(line) - len(found.words)]
    assert bool(head) == bool(found.given or head == ["--"])
