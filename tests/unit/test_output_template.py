"""Go templates as ``--format`` needs them; the expected texts are docker's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli.template import GoMap, GoStruct, Template, go_text, quoted
from pycontain.errors import InvalidInput

VALUE: dict[str, Any] = {
    "Name": "/web",
    "Text": "hello world",
    "Count": 3,
    "Yes": True,
    "No": False,
    "Nil": None,
    "Empty": "",
    "State": {"Pid": 7, "Status": "running", "Error": None},
    "List": ["x", "y"],
    "None": [],
    "Labels": GoMap({"b": "2", "a": "1"}),
    "Label": lambda name: {"a.b": "c"}.get(name, ""),
    "Struct": GoStruct({"There": 1}, "Absent"),
}


def render(source: str) -> str:
    return Template(source).render(VALUE)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{.Name}}", "/web"),
        ("{{ .State.Pid }}!", "7!"),
        ("{{.Yes}} {{.No}} {{.Nil}}", "true false <no value>"),
        ("{{.List}} {{.Labels}} {{.State}}",
         "[x y] map[a:1 b:2] map[Error:<nil> Pid:7 Status:running]"),
        ("{{.Labels.a}} {{.Labels.zz}}", "1 <no value>"),
        ("{{.Struct.There}} {{.Struct.Absent}}", "1 <no value>"),
        ("{{json .Struct}} {{json .Struct.Absent}}", '{"There":1} null'),
        ("{{if .Struct.Absent}}{{.Struct.Absent.Field}}{{else}}none{{end}}", "none"),
        ('{{index .Labels "a"}}{{index .Labels "zz"}}', "1"),
        ('{{.Label "a.b"}}', "c"),
        ("{{index .List 1}}", "y"),
        ("{{(index .List 0)}}", "x"),
        ("{{json .List}} {{json .Text}} {{json .Nil}}", '["x","y"] "hello world" null'),
        ("{{json .Labels}}", '{"a":"1","b":"2"}'),
        ("{{join .List \", \"}}", "x, y"),
        ("{{upper .Text}} {{lower \"ABC\"}} {{title .Text}}", "HELLO WORLD abc Hello World"),
        ("{{len .Text}} {{len .List}} {{len .Labels}}", "11 2 2"),
        ("{{.Text | upper | printf \"%q\"}}", '"HELLO WORLD"'),
        ('{{split .Text " "}}', "[hello world]"),
        ("{{slice .Text 0 5}} {{slice .Text 6}} {{truncate .Text 4}}", "hello world hell"),
        ('{{pad "x" 1 2}}|', " x  |"),
        ("{{println .Name .Count}}", "/web 3\n"),
        ("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3"),
        ('{{printf "%-6s|%4d|%v|%t|%%" .Name .Count .List .Yes}}', "/web  |   3|[x y]|true|%"),
        ('{{printf "%d" .Name}}', "%!d(string=/web)"),
        ('{{printf "%s %s" .Name}}', "/web %!s(MISSING)"),
        ('{{printf "%s" .Name .Count}}', "/web%!(EXTRA int=3)"),
        ("{{if .Yes}}a{{else}}b{{end}}{{if .Nil}}a{{else}}b{{end}}", "ab"),
        ("{{if .No}}a{{else if eq .Count 3}}b{{else}}c{{end}}", "b"),
        ("{{if .No}}a{{else if .No}}b{{else}}c{{end}}d", "cd"),
        ("{{if .Yes}}{{if .No}}a{{else}}b{{end}}c{{else}}d{{end}}", "bc"),
        ("{{if .No}}a{{else}}{{if .Yes}}b{{end}}c{{end}}", "bc"),
        ("{{with .State}}{{.Pid}}{{$.Name}}{{end}}", "7/web"),
        ("{{with .Nil}}a{{else}}{{.Count}}{{end}}", "3"),
        ("{{with $s := .State}}{{$s.Pid}}{{end}}", "7"),
        ("{{range .List}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range $i, $v := .List}}{{$i}}{{$v}}{{end}}", "0x1y"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range $v := .List}}{{$v}}{{end}}", "xy"),
        ("{{$x := 1}}{{if .Yes}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .Yes}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{eq .Count 3}} {{eq .Count 1 2 3}} {{ne .Name \"x\"}}", "true true true"),
        ("{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 1 2}}", "true true false false"),
        ("{{and .Yes .Name}} {{or .No .Name}} {{not .Nil}}", "/web /web true"),
        ("{{or .Yes (index .List 9)}}", "true"),
        ("a {{- .Count -}} b", "a3b"),
        ("a {{.Count -}}\n b", "a 3b"),
        ("a{{/* {{ */}}b {{- /* x */ -}} c", "abc"),
        ("{{`raw\\n`}}{{\"\\t\\\"\"}}", 'raw\\n\t"'),
        ("{{true}} {{-1}} {{1.5}}", "true -1 1.5"),
    ],
)  # fmt: skip
def test_template(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{.Name", "template: :1: unclosed action"),
        ("\n{{.Name", "template: :2: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{$x = 1}}", 'template: :1: undefined variable "$x"'),
        ("{{if .Yes}}{{$x := 1}}{{end}}{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{range .List}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{else}}", "template: :1: unexpected {{else}}"),
        ("{{if .Yes}}{{else}}{{else}}{{end}}", "template: :1: unexpected {{else}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{if}}{{end}}", "template: :1: missing value for command"),
        ("{{(.Name}}", "template: :1: unclosed left paren"),
        ('{{"a}}', "template: :1: unterminated quoted string"),
        ("{{/* }}", "template: :1: unclosed comment"),
        ('{{define "x"}}', "template: :1: define is not supported"),
        ("{{.Name }} {{;}}", "template: :1: unexpected ';' in command"),
    ],
)
def test_syntax_errors(source: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Template(source)
    assert caught.value.message == f"template parsing error: {message}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{.Nope}}", ':1:2: executing "" at <.Nope>: map has no entry for key "Nope"'),
        (
            "{{.State.Foo}}",
            ':1:8: executing "" at <.State.Foo>: map has no entry for key "Foo"',
        ),
        (
            "{{.Name.Foo}}",
            ':1:7: executing "" at <.Name.Foo>: can\'t evaluate field Foo in type string',
        ),
        (
            "{{.Nil.Foo}}",
            ':1:6: executing "" at <.Nil.Foo>: nil pointer evaluating interface {}.Foo',
        ),
        (
            "{{index .List 9}}",
            ':1:2: executing "" at <index>: error calling index: index out of range: 9',
        ),
        (
            "{{.Name .Count}}",
            ':1:2: executing "" at <.Name>: can\'t give argument to non-function .Name',
        ),
    ],
)
def test_fields_that_are_not_there(source: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        render(source)
    assert caught.value.message == f"template parsing error: template: {message}"


@pytest.mark.parametrize(
    "source",
    ['{{eq "a" 1}}', "{{len .Nil}}", "{{upper .Count}}", "{{range .Yes}}{{end}}", "{{eq}}"],
)
def test_functions_refuse_what_they_cannot_do(source: str) -> None:
    with pytest.raises(InvalidInput):
        render(source)


def test_a_listing_names_the_type_of_its_rows() -> None:
    with pytest.raises(InvalidInput, match=r"can't evaluate field X in type \*a\.B$"):
        Template("{{.X}}", "*a.B").render({})


def test_quotes_are_gos() -> None:
    assert quoted('a"\\\n\x01é\u200b') == '"a\\"\\\\\\n\\x01é\\u200b"'


def test_floats_are_gos() -> None:
    assert go_text(1e21) == "1e+21"


@given(st.text(alphabet='{}.-$|()"`ab 1\n/*=:,'))
def test_any_text_is_a_template_or_invalid_input(source: str) -> None:
    try:
        Template(source).render(VALUE)
    except InvalidInput as err:
        assert err.message.startswith("template parsing error: ")


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert Template(text).render({}) == text
