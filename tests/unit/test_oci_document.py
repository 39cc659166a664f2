"""JSON without the json module: the same as with it, and its refusals are the user's."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.oci import document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(document.__file__)))


def load_without_c() -> ModuleType:
    """The module as it is where the interpreter has no ``_json``."""
    spec = importlib.util.spec_from_file_location("document_without_c", document.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "_json", None)
        spec.loader.exec_module(module)
    return module


FALLBACK = load_without_c()


@pytest.fixture(params=["c", "fallback"])
def reader(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield document if request.param == "c" else FALLBACK


def parse(module: Any, data: bytes | str) -> Any:
    return module.parse(data.encode() if isinstance(data, str) else data, "it")


def refusal(module: Any, data: bytes | str) -> str:
    with pytest.raises(InvalidInput) as info:
        parse(module, data)
    return info.value.message


def test_the_fallback_is_one() -> None:
    assert FALLBACK.make_scanner is None
    assert FALLBACK.make_encoder is None
    assert document.make_scanner is not None
    assert document.make_encoder is not None


# ------------------------------------------------------------------------------------- same as json

# Lone surrogates have an escape in JSON and none in UTF-8.
texts = st.text(max_size=10) | st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
forms = st.sampled_from(
    [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}, {"sort_keys": True}]
)
modules = st.sampled_from([document, FALLBACK])


def same(one: object, other: object) -> bool:
    """Equal, and of the same types all the way down."""
    return one == other and repr(one) == repr(other)


@given(modules, values, forms)
def test_what_json_writes_is_read(module: Any, value: object, form: dict[str, Any]) -> None:
    text = json.dumps(value, **form)
    assert same(parse(module, text), json.loads(text))


@given(modules, values)
def test_what_is_written_json_reads(module: Any, value: object) -> None:
    for indent in (False, True):
        text = module.dump(value, indent)
        assert text.isascii()
        # Two halves of a character come back as one.
        assert same(json.loads(text), json.loads(json.dumps(value)))
        assert ("\n" in text) <= indent


@given(values)
def test_what_is_written_is_as_short_as_can_be(value: object) -> None:
    assert document.dump(value) == json.dumps(value, separators=(",", ":"))


def expected(text: str) -> object:
    def refuse(name: str) -> object:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


pieces = st.lists(
    st.sampled_from(
        [
            *'{}[]:,"\\ \n\t-+.eE0123456789abu/',
            "true",
            "false",
            "null",
            "NaN",
            "Infinity",
            '"a"',
            "\\u",
            "d800",
            "\ufeff",
            "\0",
            "é",
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=400)
@given(modules, pieces)
def test_what_json_refuses_is_refused(module: Any, text: str) -> None:
    try:
        value = expected(text)
    except ValueError:
        assert refusal(module, text).startswith("it: not JSON: ")
    else:
        assert same(parse(module, text), value)


@given(modules, st.binary(max_size=20))
def test_any_bytes_are_read_or_refused(module: Any, data: bytes) -> None:
    try:
        value = expected(data.decode())
    except ValueError:
        assert refusal(module, data).startswith("it: not JSON: ")
    else:
        assert same(parse(module, data), value)


@pytest.mark.parametrize("space", ["", " ", "\n", "\r\n\t ", " " * 1000])
def test_space_around(reader: Any, space: str) -> None:
    assert parse(reader, f"{space}[1]{space}") == [1]


def test_the_last_of_two_keys_counts(reader: Any) -> None:
    assert parse(reader, '{"a": 1, "a": 2}') == {"a": 2}


def test_numbers_keep_their_kind(reader: Any) -> None:
    found = parse(reader, "[1, 1.0, 1e2, -0, -0.0, 18446744073709551616]")
    assert repr(found) == "[1, 1.0, 100.0, 0, -0.0, 18446744073709551616]"


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a": {}}}', " {} "])
def test_no_number_of_json(reader: Any, name: str, around: str) -> None:
    assert refusal(reader, around.format(name)) == f"it: not JSON: {name} is no number"


@pytest.mark.parametrize(
    "text", ["{} {}", "1 2", "{}x", "[]\0", "null,", '""""', "{}\n{}", "1.", "00", "truetrue"]
)
def test_something_behind_the_document(reader: Any, text: str) -> None:
    assert refusal(reader, text).startswith("it: not JSON: ")


def test_where_the_rest_begins() -> None:
    assert refusal(document, "{} x") == "it: not JSON: Extra data: line 1 column 4 (char 3)"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "[", '"', '{"a"', '{"a":', '{"a":}', "[1,]", '{"a":1,}', "{a:1}", "{1:1}",
        "'a'", '"\n"', '"\0"', '"\\x"', '"\\u12"', "+1", ".5", "01", "0x1", "tru", "True", "None",
        "// x\n1", "/**/1", "[1 2]", '{"a" 1}', "\u00a0[]", "\ufeff{}", "\v[]", "\f[]",
    ],
)  # fmt: skip
def test_what_is_no_document(reader: Any, text: str) -> None:
    assert refusal(reader, text).startswith("it: not JSON: ")


def test_where_there_is_no_value() -> None:
    assert refusal(document, '{"a":\n }').endswith("Expecting value: line 2 column 2 (char 7)")
    assert refusal(document, "").endswith("Expecting value: line 1 column 1 (char 0)")


@pytest.mark.parametrize(
    "data",
    [
        b'"\xff"', b'"\xc0\x80"', b'"\xe2\x82"', b'"\xed\xa0\x80"', b"\xff\xfe[\0]\0",
        '["a"]'.encode("utf-16"), '["é"]'.encode("latin-1"), b"\xef\xbb\xbf{}", b"[\0]\0",
    ],
)  # fmt: skip
def test_other_encodings(reader: Any, data: bytes) -> None:
    """RFC 8259, section 8.1: UTF-8, without a byte order mark."""
    assert refusal(reader, data).startswith("it: not JSON: ")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, '[{"a":' * 50_000 + "1"],
    ids=["lists", "closed", "objects", "both"],
)
def test_nested_too_deeply(reader: Any, text: str) -> None:
    assert refusal(reader, text) == "it: nested too deeply"


def test_nested_as_deeply_as_anybody_needs(reader: Any) -> None:
    text = "[" * 200 + "]" * 200
    assert reader.dump(parse(reader, text)).replace(" ", "") == text


def test_a_number_that_is_too_long(reader: Any) -> None:
    assert refusal(reader, "1" * 100_000).startswith("it: not JSON: ")


def test_a_refusal_leaves_nothing_behind(reader: Any) -> None:
    """The scanner's memory of keys is shared by all documents."""
    for _ in range(3):
        refusal(reader, '{"a": 1, "b": [')
        assert parse(reader, '{"a": {"b": 1}, "b": 2}') == {"a": {"b": 1}, "b": 2}


# ------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), [{"a": 1j}]])
@pytest.mark.parametrize("indent", [False, True])
def test_what_has_no_json(reader: Any, value: object, indent: bool) -> None:
    with pytest.raises(TypeError):
        reader.dump(value, indent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
@pytest.mark.parametrize("indent", [False, True])
def test_no_number_is_written(reader: Any, value: object, indent: bool) -> None:
    with pytest.raises(ValueError, match="JSON"):
        reader.dump(value, indent)


def test_for_people_it_has_lines(reader: Any) -> None:
    assert reader.dump({"a": [1], "b": {}}, True) == ('{\n  "a": [\n    1\n  ],\n  "b": {}\n}')


# -------------------------------------------------------------------------------------------- files


def test_a_file(reader: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": "é"}\n', encoding="utf-8")
    assert reader.load(str(path)) == {"a": "é"}


def test_a_large_file(reader: Any, tmp_path: Path) -> None:
    """More than one read(2) brings."""
    path = tmp_path / "file"
    value = ["é" * 1000] * 200
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert reader.load(str(path)) == value


def test_what_is_wrong_with_a_file_names_it(reader: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with pytest.raises(InvalidInput) as info:
        reader.load(path)
    assert info.value.message == f"{path}: no such file or directory"
    with pytest.raises(InvalidInput) as info:
        reader.load(str(tmp_path))
    assert info.value.message == f"{tmp_path}: is a directory"
    (tmp_path / "file").write_bytes(b"{")
    with pytest.raises(InvalidInput) as info:
        reader.load(path)
    assert info.value.message.startswith(f"{path}: not JSON: ")
    with pytest.raises(InvalidInput) as info:
        reader.load(path, "config.json")
    assert info.value.message.startswith("config.json: not JSON: ")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{")
    before = set(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "file", tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidInput):
            document.load(str(path))
    assert set(os.listdir("/proc/self/fd")) <= before


def test_what_is_left_to_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1000)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        os.lseek(fd, 255_990, os.SEEK_SET)
        assert document.read_all(fd) == bytes(range(246, 256))
        assert document.read_all(fd) == b""
    finally:
        os.close(fd)


# ----------------------------------------------------------------------------------------- start-up


def run(text: str) -> str:
    environment = {"PYTHONPATH": ROOT, "PATH": os.environ["PATH"]}
    result = subprocess.run([sys.executable, "-S", "-c", text], capture_output=True, text=True,
                            check=False, env=environment)  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_reading_and_writing_import_neither_json_nor_re() -> None:
    said = run(
        "import sys\n"
        "from pycontain.oci import document\n"
        "value = document.parse(b'[1.5, {\"a\": null}]', 'it')\n"
        "assert document.dump(value) == '[1.5,{\"a\":null}]'\n"
        "print(*sorted({'json', 're', 'enum', 'typing'} & {*sys.modules}))"
    )
    assert said == "\n"


def test_an_interpreter_without_the_scanner() -> None:
    said = run(
        "import sys\n"
        "sys.modules['_json'] = None\n"
        "from pycontain.oci import document\n"
        "from pycontain.errors import InvalidInput\n"
        "value = document.parse(b' {\"a\": [1, null, \"x\"]} ', 'it')\n"
        "assert document.parse(document.dump(value).encode(), 'it') == value\n"
        "for bad in (b'{', b'[NaN]', b'[]x', b'\\xff', b'[' * 100000):\n"
        "    try:\n"
        "        document.parse(bad, 'it')\n"
        "    except InvalidInput as err:\n"
        "        print(err)\n"
    )
    assert len(said.splitlines()) == 5
