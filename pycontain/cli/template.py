"""Go templates (text/template), as far as ``--format`` needs them.

Source: the package documentation of Go's text/template, and docker's "Format command and log
output". There are fields, variables, pipelines, ``if``, ``range``, ``with``, trim markers, comments
and docker's functions; ``define``, ``template``, ``block``, ``break`` and ``continue`` are refused.

A template is compiled to a small tree once and rendered for each object. Objects are JSON-like: a
dict stands for a Go struct, so a key that it lacks is an error (a ``GoStruct`` knows of some that
are empty, and left out of JSON); a ``GoMap`` stands for a Go map, so a key that it lacks is
``<no value>``. A callable in a dict is a method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_KEYWORDS = frozenset(("if", "else", "end", "range", "with"))
_ABSENT = frozenset(("define", "template", "block", "break", "continue"))
_BLANK = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b"}


class GoMap(dict[str, Any]):
    """A dict whose keys are data: one that it lacks is no error. Sorted, as Go writes maps."""

    def __init__(self, *items: Any, **more: Any) -> None:
        super().__init__(sorted(dict(*items, **more).items()))


class GoStruct(dict[str, Any]):
    """A dict that lacks some fields because they are empty: nil in a template, absent in JSON."""

    def __init__(self, fields: dict[str, Any], *empty: str) -> None:
        super().__init__(fields)
        self.empty = empty


def _fail(reason: str, line: int = 1) -> NoReturn:
    raise InvalidInput(f"template parsing error: template: :{line}: {reason}")


# --- words ---------------------------------------------------------------------------------------


class _Token:
    __slots__ = ("at", "kind", "spaced", "text", "value")

    def __init__(self, kind: str, text: str, at: int, spaced: bool, value: Any = None) -> None:
        self.kind = kind
        self.text = text
        self.at = at
        self.spaced = spaced
        self.value = value


class _Scanner:
    """The words of one action, ``{{ … }}``; positions are offsets in the whole template."""

    def __init__(self, source: str, start: int) -> None:
        self.source = source
        self.at = start
        self.tokens: list[_Token] = []

    @property
    def line(self) -> int:
        return self.source.count("\n", 0, self.at) + 1

    def scan(self) -> tuple[int, bool]:
        """Read until the closing braces; return the offset behind them and whether to trim."""
        source = self.source
        while True:
            spaced = self._skip_blanks()
            if source.startswith("}}", self.at):
                return self.at + 2, False
            if spaced and source.startswith("-}}", self.at):
                return self.at + 3, True
            if self.at >= len(source):
                _fail("unclosed action", self.line)
            self._scan_token(spaced)

    def _skip_blanks(self) -> bool:
        start = self.at
        while self.at < len(self.source) and self.source[self.at] in _BLANK:
            self.at += 1
        return self.at > start

    def _add(self, kind: str, end: int, spaced: bool, value: Any = None) -> None:
        self.tokens.append(_Token(kind, self.source[self.at : end], self.at, spaced, value))
        self.at = end

    def _scan_token(self, spaced: bool) -> None:
        char = self.source[self.at]
        following = self.source[self.at + 1 : self.at + 2]
        if char == '"':
            self._scan_quoted(spaced)
        elif char == "`":
            end = self.source.find("`", self.at + 1)
            if end < 0:
                _fail("unterminated raw quoted string", self.line)
            self._add("literal", end + 1, spaced, self.source[self.at + 1 : end])
        elif char == ".":
            end = self._word_end(self.at + 1)
            if following.isdigit():
                _fail(f"bad number syntax: {self.source[self.at : end]!a}", self.line)
            self._add("field", end, spaced)
        elif char == "$":
            self._add("variable", self._word_end(self.at + 1), spaced)
        elif char in "0123456789" or (char in "+-" and following.isdigit()):
            self._scan_number(spaced)
        elif char == "_" or char.isalpha():
            self._add("word", self._word_end(self.at), spaced)
        elif char == ":" and following == "=":
            self._add(":=", self.at + 2, spaced)
        elif char in "()|,=":
            self._add(char, self.at + 1, spaced)
        else:
            _fail(f"unexpected {char!a} in command", self.line)

    def _word_end(self, end: int) -> int:
        while end < len(self.source) and (self.source[end] == "_" or self.source[end].isalnum()):
            end += 1
        return end

    def _scan_number(self, spaced: bool) -> None:
        end = self.at + 1
        while end < len(self.source) and (self.source[end].isalnum() or self.source[end] == "."):
            end += 1
        text = self.source[self.at : end]
        try:
            value: Any = int(text, 0)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                _fail(f'bad number syntax: "{text}"', self.line)
        self._add("literal", end, spaced, value)

    def _scan_quoted(self, spaced: bool) -> None:
        out = []
        at = self.at + 1
        while True:
            char = self.source[at : at + 1]
            if char in ("", "\n"):
                _fail("unterminated quoted string", self.line)
            if char == '"':
                break
            if char == "\\":
                at += 1
                escape = self.source[at : at + 1]
                if escape not in _ESCAPES:
                    _fail(f"unknown escape \\{escape} in quoted string", self.line)
                char = _ESCAPES[escape]
            out.append(char)
            at += 1
        self._add("literal", at + 1, spaced, "".join(out))


# --- the tree ------------------------------------------------------------------------------------


class _Scope:
    """Where a node is evaluated: the dot, the variables, the kind of the root for errors."""

    __slots__ = ("dot", "kind", "outer", "variables")

    def __init__(self, dot: Any, kind: str | None, outer: _Scope | None = None) -> None:
        self.dot = dot
        self.kind = kind
        self.outer = outer
        self.variables: dict[str, Any] = {}

    def inner(self, dot: Any) -> _Scope:
        return _Scope(dot, self.kind, self)

    def holder(self, name: str) -> dict[str, Any]:
        """Return the variables of the innermost scope that declares `name`; one does (parsed)."""
        scope: _Scope = self
        while name not in scope.variables and scope.outer is not None:
            scope = scope.outer
        return scope.variables


class _Node:
    def render(self, scope: _Scope, out: list[str]) -> None:
        raise NotImplementedError


class _Text(_Node):
    def __init__(self, text: str) -> None:
        self.text = text

    def render(self, scope: _Scope, out: list[str]) -> None:  # noqa: ARG002 - the base class names it
        out.append(self.text)


class _Operand:
    """What stands in a command: a literal, a chain of fields, a function, a parenthesis."""

    def __init__(self, token: _Token, place: str) -> None:
        self.text = token.text
        self.place = place

    def value(self, scope: _Scope, arguments: list[Any]) -> Any:
        raise NotImplementedError

    def fail(self, reason: str) -> NoReturn:
        raise InvalidInput(
            f'template parsing error: template: {self.place}: executing "" at <{self.text}>: '
            f"{reason}"
        )

    def no_arguments(self, arguments: list[Any]) -> None:
        if arguments:
            self.fail(f"can't give argument to non-function {self.text}")


class _Literal(_Operand):
    def __init__(self, token: _Token, place: str, value: Any) -> None:
        super().__init__(token, place)
        self.constant = value

    def value(self, scope: _Scope, arguments: list[Any]) -> Any:  # noqa: ARG002 - the base class names it
        self.no_arguments(arguments)
        return self.constant


class _Chain(_Operand):
    """A base (the dot, a variable, a parenthesis) and the fields taken from it."""

    def __init__(self, token: _Token, place: str, base: _Pipeline | str | None) -> None:
        super().__init__(token, place)
        self.base = base
        self.names: list[str] = []

    def value(self, scope: _Scope, arguments: list[Any]) -> Any:
        value = self._base_value(scope)
        for at, name in enumerate(self.names):
            root = at == 0 and self.base is None
            value = self._field(value, name, scope.kind if root else None)
            if callable(value):
                last = at == len(self.names) - 1
                value = self._call(value, arguments if last else [])
                arguments = [] if last else arguments
        self.no_arguments(arguments)
        return value

    def _base_value(self, scope: _Scope) -> Any:
        if self.base is None:
            return scope.dot
        if isinstance(self.base, str):
            return scope.holder(self.base)[self.base]
        return self.base.value(scope)

    def _field(self, value: Any, name: str, kind: str | None) -> Any:
        if isinstance(value, dict):
            if name in value:
                return value[name]
            if isinstance(value, GoMap) or (isinstance(value, GoStruct) and name in value.empty):
                return None
            if kind is not None:
                self.fail(f"can't evaluate field {name} in type {kind}")
            self.fail(f'map has no entry for key "{name}"')
        if value is None:
            self.fail(f"nil pointer evaluating interface {{}}.{name}")
        return self.fail(f"can't evaluate field {name} in type {_type_name(value)}")

    def _call(self, method: Callable[..., Any], arguments: list[Any]) -> Any:
        try:
            return method(*arguments)
        except TypeError:
            self.fail(f"wrong number of args for {self.names[-1]}: got {len(arguments)}")


class _Function(_Operand):
    def value(self, scope: _Scope, arguments: list[Any]) -> Any:  # noqa: ARG002 - the base class names it
        try:
            return FUNCTIONS[self.text](*arguments)
        except InvalidInput as err:
            self.fail(f"error calling {self.text}: {err.message}")
        except (TypeError, AttributeError):
            self.fail(f"wrong number or type of args for {self.text}: got {len(arguments)}")


class _Command:
    def __init__(self, operands: list[_Operand]) -> None:
        self.operands = operands

    def value(self, scope: _Scope, piped: list[Any]) -> Any:
        first, *rest = self.operands
        if isinstance(first, _Function) and first.text in ("and", "or"):
            return self._short_circuit(first.text, rest, scope, piped)
        return first.value(scope, [operand.value(scope, []) for operand in rest] + piped)

    @staticmethod
    def _short_circuit(name: str, rest: list[_Operand], scope: _Scope, piped: list[Any]) -> Any:
        value: Any = None
        for operand in rest:
            value = operand.value(scope, [])
            if bool(value) == (name == "or"):
                return value
        return piped[0] if piped else value


class _Pipeline:
    def __init__(self, commands: list[_Command]) -> None:
        self.commands = commands
        self.names: list[str] = []
        self.assigns = False

    def value(self, scope: _Scope) -> Any:
        piped: list[Any] = []
        for command in self.commands:
            piped = [command.value(scope, piped)]
        return piped[0]


class _Output(_Node):
    def __init__(self, pipeline: _Pipeline) -> None:
        self.pipeline = pipeline

    def render(self, scope: _Scope, out: list[str]) -> None:
        value = self.pipeline.value(scope)
        if self.pipeline.names:
            name = self.pipeline.names[0]
            variables = scope.holder(name) if self.pipeline.assigns else scope.variables
            variables[name] = value
        else:
            out.append("<no value>" if value is None else go_text(value))


class _Branch(_Node):
    """``if``, ``with`` and ``range``."""

    def __init__(self, word: str, pipeline: _Pipeline) -> None:
        self.word = word
        self.pipeline = pipeline
        self.body: list[_Node] = []
        self.otherwise: list[_Node] = []
        self.has_else = False

    def render(self, scope: _Scope, out: list[str]) -> None:
        value = self.pipeline.value(scope)
        if not value:
            _render(self.otherwise, scope.inner(scope.dot), out)
        elif self.word == "range":
            for key, item in _items(value):
                self._render_item(scope.inner(item), key, item, out)
        else:
            inner = scope.inner(value if self.word == "with" else scope.dot)
            if self.pipeline.names:
                inner.variables[self.pipeline.names[0]] = value
            _render(self.body, inner, out)

    def _render_item(self, scope: _Scope, key: Any, item: Any, out: list[str]) -> None:
        names = self.pipeline.names
        if names:
            scope.variables[names[-1]] = item
        if len(names) == 2:
            scope.variables[names[0]] = key
        _render(self.body, scope, out)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from sorted(value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from enumerate(range(value))
    else:
        raise InvalidInput(
            f"template parsing error: range can't iterate over {go_text(value)}",
        )


def _render(nodes: Sequence[_Node], scope: _Scope, out: list[str]) -> None:
    for node in nodes:
        node.render(scope, out)


# --- the parser ----------------------------------------------------------------------------------


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens: list[_Token] = []
        self.at = 0
        # names that are in scope, one set for each open block
        self.names: list[set[str]] = [{"$"}]

    def parse(self) -> list[_Node]:
        root: list[_Node] = []
        blocks: list[_Branch] = []
        # an "else if" nests a branch that is closed by the same end
        nested: list[int] = []
        target = root
        for text, tokens in _actions(self.source):
            if text:
                target.append(_Text(text))
            if tokens is None:
                continue
            self.tokens, self.at = tokens, 0
            word = tokens[0].text if tokens and tokens[0].kind == "word" else ""
            if word in _ABSENT:
                self._fail(f"{word} is not supported")
            if word not in _KEYWORDS:
                target.append(_Output(self._whole_pipeline()))
                continue
            self.at = 1
            if word == "end":
                target = self._close(root, blocks, nested)
            elif word == "else":
                target = self._otherwise(blocks, nested)
            else:
                target = self._open(word, target, blocks, nested, 1)
        if blocks:
            _fail("unexpected EOF", self.source.count("\n") + 1)
        return root

    def _open(
        self, word: str, target: list[_Node], blocks: list[_Branch], nested: list[int], depth: int
    ) -> list[_Node]:
        self.names.append(set())
        branch = _Branch(word, self._whole_pipeline(word == "range"))
        target.append(branch)
        blocks.append(branch)
        nested.append(depth)
        return branch.body

    def _otherwise(self, blocks: list[_Branch], nested: list[int]) -> list[_Node]:
        if not blocks or blocks[-1].has_else:
            self._fail("unexpected {{else}}")
        branch = blocks[-1]
        branch.has_else = True
        if self.at >= len(self.tokens):
            return branch.otherwise
        word = self.tokens[self.at].text
        if word not in ("if", "with") or branch.word == "range":
            self._fail(f"unexpected <{word}> in else")
        self.at += 1
        return self._open(word, branch.otherwise, blocks, nested, nested[-1] + 1)

    def _close(self, root: list[_Node], blocks: list[_Branch], nested: list[int]) -> list[_Node]:
        if not blocks:
            self._fail("unexpected {{end}}")
        if self.at < len(self.tokens):
            self._fail(f"unexpected <{self.tokens[self.at].text}> in end")
        depth = nested[-1]
        for _ in range(depth):
            blocks.pop()
            nested.pop()
            self.names.pop()
        if not blocks:
            return root
        outer = blocks[-1]
        return outer.otherwise if outer.has_else else outer.body

    def _fail(self, reason: str) -> NoReturn:
        at = self.tokens[0].at if self.tokens else 0
        _fail(reason, self.source.count("\n", 0, at) + 1)

    def _peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _whole_pipeline(self, ranges: bool = False) -> _Pipeline:
        names = self._declared(ranges)
        assigns = bool(names) and self.tokens[self.at - 1].kind == "="
        pipeline = self._pipeline()
        token = self._peek()
        if token is not None:
            self._fail(f"unexpected <{token.text}> in command")
        pipeline.names = names
        pipeline.assigns = assigns
        # a variable is in scope behind its own declaration only
        self.names[-1].update(names)
        return pipeline

    def _declared(self, ranges: bool) -> list[str]:
        kinds = [token.kind for token in self.tokens[self.at : self.at + 4]]
        if kinds[:2] in (["variable", ":="], ["variable", "="]):
            count, length = 1, 2
        elif ranges and kinds == ["variable", ",", "variable", ":="]:
            count, length = 2, 4
        else:
            return []
        names = [self.tokens[self.at + 2 * number].text for number in range(count)]
        if kinds[1] == "=" and not any(names[0] in known for known in self.names):
            self._fail(f'undefined variable "{names[0]}"')
        self.at += length
        return names

    def _pipeline(self) -> _Pipeline:
        commands = [self._command()]
        while (token := self._peek()) is not None and token.kind == "|":
            self.at += 1
            commands.append(self._command())
        return _Pipeline(commands)

    def _command(self) -> _Command:
        operands: list[_Operand] = []
        while (token := self._peek()) is not None and token.kind not in ("|", ")"):
            operands.append(self._operand(token))
        if not operands:
            self._fail("missing value for command")
        return _Command(operands)

    def _operand(self, token: _Token) -> _Operand:
        self.at += 1
        place = self._place(token)
        if token.kind == "literal":
            return _Literal(token, place, token.value)
        if token.kind == "word":
            return self._word(token, place)
        if token.kind == "field":
            return self._fields(_Chain(token, place, None), token)
        if token.kind == "variable":
            if not any(token.text in known for known in self.names):
                self._fail(f'undefined variable "{token.text}"')
            return self._fields(_Chain(token, place, token.text), token)
        if token.kind == "(":
            inner = self._pipeline()
            closing = self._peek()
            if closing is None or closing.kind != ")":
                self._fail("unclosed left paren")
            self.at += 1
            return self._fields(_Chain(token, place, inner), token)
        return self._fail(f"unexpected <{token.text}> in operand")

    def _word(self, token: _Token, place: str) -> _Operand:
        constants = {"true": True, "false": False, "nil": None}
        if token.text in constants:
            return _Literal(token, place, constants[token.text])
        if token.text not in FUNCTIONS:
            self._fail(f'function "{token.text}" not defined')
        return _Function(token, place)

    def _fields(self, chain: _Chain, first: _Token) -> _Chain:
        """Take the fields that follow without a blank: ``.State.Pid`` is one operand."""
        last = first
        if first.kind == "field" and len(first.text) > 1:
            chain.names.append(first.text[1:])
        bare_dot = first.text == "."
        while (token := self._peek()) is not None and token.kind == "field" and not token.spaced:
            if token.text == "." or bare_dot:
                self._fail("unexpected <.> in operand")
            chain.names.append(token.text[1:])
            last = token
            self.at += 1
        chain.text = self.source[first.at : last.at + len(last.text)]
        chain.place = self._place(last)
        return chain

    def _place(self, token: _Token) -> str:
        before = self.source[: token.at]
        line = before.count("\n") + 1
        return f":{line}:{len(before) - (before.rfind(chr(10)) + 1)}"


def _actions(source: str) -> Iterator[tuple[str, list[_Token] | None]]:
    """Cut the template into text and the action behind it; None is none (the end, a comment)."""
    at = 0
    trim = False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        if trim:
            text = text.lstrip(_BLANK)
        if start < 0:
            yield text, None
            return
        inside = start + 2
        if source.startswith("-", inside) and source[inside + 1 : inside + 2] in tuple(_BLANK):
            text = text.rstrip(_BLANK)
            inside += 2
        if source.startswith("/*", inside):
            at, trim = _comment_end(source, inside)
            yield text, None
            continue
        scanner = _Scanner(source, inside)
        at, trim = scanner.scan()
        if not scanner.tokens:
            _fail("missing value for command", scanner.line)
        yield text, scanner.tokens


def _comment_end(source: str, start: int) -> tuple[int, bool]:
    end = source.find("*/", start)
    if end < 0:
        _fail("unclosed comment", source.count("\n", 0, start) + 1)
    rest = source[end + 2 :]
    if rest.startswith("}}"):
        return end + 4, False
    if rest[:1] in tuple(_BLANK) and rest.lstrip(_BLANK).startswith("-}}"):
        return end + 2 + rest.index("-}}") + 3, True
    return _fail("comment ends before closing delimiter", source.count("\n", 0, start) + 1)


# --- values and functions ------------------------------------------------------------------------


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "int", float: "float64", list: "[]interface {}"}
    return names.get(type(value), "interface {}")


def go_text(value: Any) -> str:
    """Return `value` as Go's ``%v`` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_text(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(go_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def quoted(text: str) -> str:
    """Return `text` as Go's ``strconv.Quote`` writes it."""
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        else:
            out.append(_escaped(char))
    return "".join(out) + '"'


def _escaped(char: str) -> str:
    short = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
    if char in short:
        return "\\" + short[char]
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_json(value: Any) -> str:
    """Return `value` as compact JSON."""
    import json

    if isinstance(value, dict):  # the methods of a listing's row are no data
        value = {key: item for key, item in value.items() if not callable(item)}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _printf(form: str, *arguments: Any) -> str:
    out: list[str] = []
    rest = list(arguments)
    at = 0
    while (percent := form.find("%", at)) >= 0:
        out.append(form[at:percent])
        end = percent + 1
        while end < len(form) and form[end] in "+-# 0123456789.":
            end += 1
        verb = form[end : end + 1]
        at = end + 1
        if verb == "%":
            out.append("%")
        elif not verb:
            out.append("%!(NOVERB)")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_formatted(form[percent + 1 : end], verb, rest.pop(0)))
    out.append(form[at:])
    if rest:
        extra = ", ".join(f"{_type_name(value)}={go_text(value)}" for value in rest)
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _formatted(flags: str, verb: str, value: Any) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb in "sv" and not (verb == "s" and (whole or isinstance(value, bool))):
        return _padded(flags, go_text(value))
    if verb == "q" and isinstance(value, str):
        return _padded(flags, quoted(value))
    if verb == "t" and isinstance(value, bool):
        return _padded(flags, go_text(value))
    if verb in "dxXob" and whole:
        return f"%{flags}{verb}" % value if verb != "b" else _padded(flags, f"{value:b}")
    if verb in "feg" and isinstance(value, float):
        return f"%{flags}{verb}" % value
    if verb == "x" and isinstance(value, str):
        return _padded(flags, value.encode().hex())
    return f"%!{verb}({_type_name(value)}={go_text(value)})"


def _padded(flags: str, text: str) -> str:
    """Apply width and precision; ``%s`` of Python has the same rules as Go's."""
    return f"%{flags.replace('#', '').replace('+', '').lstrip('0')}s" % text


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise InvalidInput("index of untyped nil")
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, list | tuple | str):
            if isinstance(key, bool) or not isinstance(key, int):
                raise InvalidInput(f"cannot index slice/array with type {_type_name(key)}")
            if not 0 <= key < len(value):
                raise InvalidInput(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise InvalidInput(f"can't index item of type {_type_name(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    low, high = (*bounds, None, None)[:2]
    for bound in (low, high):
        if bound is not None and not 0 <= bound <= len(value):
            raise InvalidInput(f"index out of range: {bound}")
    return value[low:high]


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict | list | tuple):
        return len(value)
    if value is None:
        raise InvalidInput("len of nil pointer")
    raise InvalidInput(f"len of type {_type_name(value)}")


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise InvalidInput("missing argument for comparison")
    for other in others:
        if None not in (first, other) and isinstance(first, str) != isinstance(other, str):
            raise InvalidInput("incompatible types for comparison")
    return any(first == other for other in others)


def _join(items: Any, separator: str) -> str:
    return separator.join(map(go_text, items or ()))


def _title(text: str) -> str:
    return "".join(
        char.upper() if at == 0 or text[at - 1].isspace() else char for at, char in enumerate(text)
    )


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _print(*values: Any) -> str:
    """Blanks go between operands when neither is a string (Go's fmt.Sprint)."""
    out = []
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out.append(" ")
        out.append(go_text(value))
    return "".join(out)


def _println(*values: Any) -> str:
    return " ".join(map(go_text, values)) + "\n"


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: values[-1],
    "or": lambda *values: values[-1],
    "not": lambda value: not value,
    "eq": _equal,
    "ne": lambda a, b: not _equal(a, b),
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "index": _index,
    "slice": _slice,
    "len": _len,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "json": to_json,
    "join": _join,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "title": _title,
    "truncate": _truncate,
    "pad": _pad,
}
"""Go's own and docker's; ``and`` and ``or`` are evaluated by the command, which stops early."""


class Template:
    """A compiled template.

    Args:
        source: its text.
        kind: the Go type that errors name for an unknown field of the root; None names the key.

    Raises:
        InvalidInput: a syntax error, an unknown function or variable.
    """

    def __init__(self, source: str, kind: str | None = None) -> None:
        self._nodes = _Parser(source).parse()
        self._kind = kind

    def render(self, value: Any) -> str:
        """Return the text for one object.

        Raises:
            InvalidInput: an unknown field, a function that fails.
        """
        out: list[str] = []
        scope = _Scope(value, self._kind)
        scope.variables["$"] = value
        _render(self._nodes, scope, out)
        return "".join(out)
