"""The table of what the OCI runtime specification demands and which test holds it.

``musts.txt`` lists the demands, the tests carry them as ``spec`` markers. The markers are read from
the source (ast), nothing is imported. Run it to see what does not fit together::

    python tests/host/oci/conformance.py            # what is wrong, exit code 1 if anything
    python tests/host/oci/conformance.py --write    # and write docs/oci-conformance.md
"""

from __future__ import annotations

import ast
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, *[os.pardir] * 3, "docs", "oci-conformance.md")
SOURCE = "https://github.com/opencontainers/runtime-spec/blob/v1.3.0"
VERSION = "1.3.0"

HEAD = f"""# Conformance with the OCI runtime specification

What runtime-spec {VERSION} demands of a runtime on Linux, in short words of our own, and the tests
that hold it, or the reason why there is none. Made by
`python tests/host/oci/conformance.py --write` from `tests/host/oci/musts.txt` and the markers of
the tests; a unit test keeps it up to date.

"""


class Must:
    """One demand.

    Attributes:
        document: of the specification, as ``config.md``.
        anchor: in it.
        words: what is demanded, ours.
        reason: why no test holds it; empty where one has to.
    """

    def __init__(self, document: str, anchor: str, words: str, reason: str) -> None:
        self.document = document
        self.anchor = anchor
        self.words = words
        self.reason = reason

    @property
    def key(self) -> str:
        """What a test's marker says."""
        return f"{self.document}#{self.anchor}: {self.words}"


def read_musts(path: str = os.path.join(HERE, "musts.txt")) -> list[Must]:
    """Return the demands in their order.

    Raises:
        ValueError: a demand stands before the first anchor.
    """
    found: list[Must] = []
    document = anchor = ""
    with open(path) as file:
        for line in map(str.strip, file):
            if line.startswith("== "):
                document, anchor = line[3:], ""
            elif line.startswith("-- "):
                anchor = line[3:]
            elif line and not line.startswith("#"):
                if not anchor:
                    raise ValueError(f"{path}: {line!r} has no anchor")
                words, _, reason = line.partition(" | ")
                found.append(Must(document, anchor, words, reason))
    return found


def read_markers(folder: str = HERE) -> dict[str, list[str]]:
    """Return for each key of a ``spec`` marker the tests that carry it, as ``file::test``."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        with open(os.path.join(folder, name)) as file:
            tree = ast.parse(file.read())
        strings, markers = _names(tree)
        for test in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            for key in (
                key for node in test.decorator_list for key in _keys(node, strings, markers)
            ):
                tests = found.setdefault(key, [])
                if f"{name}::{test.name}" not in tests:
                    tests.append(f"{name}::{test.name}")
    return found


def _names(tree: ast.Module) -> tuple[dict[str, str], dict[str, str]]:
    """The module's string constants, and its functions that make a ``spec`` of their words.

    Such a function returns ``spec(*(f"…{name}" for name in names))``: its fixed text is a prefix.
    """
    strings: dict[str, str] = {}
    markers: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    strings[target.id] = node.value.value
        elif isinstance(node, ast.FunctionDef) and len(node.body) == 1:
            prefix = _prefix(node.body[0])
            if prefix:
                markers[node.name] = prefix
    return strings, markers


def _prefix(node: ast.stmt) -> str:
    call = node.value if isinstance(node, ast.Return) else None
    if not (isinstance(call, ast.Call) and _called(call) == "spec"):
        return ""
    texts = [each for each in ast.walk(call) if isinstance(each, ast.JoinedStr)]
    first = texts[0].values[0] if texts else None
    return str(first.value) if isinstance(first, ast.Constant) else ""


def _called(call: ast.Call) -> str:
    """The name that is called: ``spec`` of ``spec(…)`` and of ``pytest.mark.spec(…)``."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _keys(node: ast.expr, strings: dict[str, str], markers: dict[str, str]) -> list[str]:
    if not isinstance(node, ast.Call):
        return []
    name = _called(node)
    prefix = "" if name == "spec" else markers.get(name)
    if prefix is None:
        return []
    return [prefix + _text(arg, strings) for arg in node.args]


def _text(node: ast.expr, strings: dict[str, str]) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and node.id in strings:
        return strings[node.id]
    raise ValueError(f"line {node.lineno}: a spec marker takes plain strings")


def problems(musts: list[Must], markers: dict[str, list[str]]) -> list[str]:
    """Return in words what does not fit together."""
    keys = {must.key for must in musts}
    found = [
        f"{tests[0]}: no such demand: {key}" for key, tests in markers.items() if key not in keys
    ]
    for must in musts:
        if not must.reason and must.key not in markers:
            found.append(f"neither a test nor a reason: {must.key}")
        if must.reason and must.key in markers:
            found.append(f"a reason although there is a test: {must.key}")
    seen: set[str] = set()
    for must in musts:
        if must.key in seen:
            found.append(f"given twice: {must.key}")
        seen.add(must.key)
    return found


def render(musts: list[Must], markers: dict[str, list[str]]) -> str:
    """Return the text of docs/oci-conformance.md."""
    parts = [HEAD + _summary(musts)]
    document = ""
    anchor = ""
    for must in musts:
        if must.document != document:
            document, anchor = must.document, ""
            parts.append(f"\n## {document}\n")
        if must.anchor != anchor:
            anchor = must.anchor
            parts.append(
                f"\n[{anchor}]({SOURCE}/{document}#{anchor})\n\n| demand | held by |\n|---|---|\n"
            )
        parts.append(f"| {_cell(must.words)} | {_held(must, markers)} |\n")
    return "".join(parts)


def _summary(musts: list[Must]) -> str:
    held = sum(not must.reason for must in musts)
    return f"{len(musts)} demands: {held} held by tests, {len(musts) - held} with a reason.\n"


def _held(must: Must, markers: dict[str, list[str]]) -> str:
    if must.reason:
        return f"none: {_cell(must.reason)}"
    return "<br>".join(f"`{test}`" for test in markers.get(must.key, []))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(words: list[str]) -> int:
    musts, markers = read_musts(), read_markers()
    found = problems(musts, markers)
    for line in found:
        print(line, file=sys.stderr)
    text = render(musts, markers)
    if "--write" in words:
        with open(DOCUMENT, "w") as file:
            file.write(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
