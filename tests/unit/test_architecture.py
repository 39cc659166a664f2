"""Import arrows point down the floors of docs/architecture.md, inside functions too."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[2] / "pycontain"

# From the top. Parts of one floor do not import each other.
FLOORS = (
    ("pycontain", "cli", "oci", "supervisor", "aio"),
    ("pod",),
    ("engine",),
    ("image", "network", "volume", "runtime"),
    ("kernel",),
    ("store",),
    ("model",),
    ("config", "trace"),
    ("errors",),
    ("_native",),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

# The public name of the package, its version included, is at the top beside the faces.
ALLOWED = {("cli", "pycontain"), ("oci", "pycontain"), ("pycontain", "aio")}


def part_of(module: str) -> str:
    """The part that a module belongs to; ``pycontain`` itself for the package's own names."""
    words = module.split(".")
    return words[1] if len(words) > 1 else "pycontain"


def imported(tree: ast.AST, part: str) -> Iterator[tuple[int, str]]:
    """Line and part of each import of ours, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "pycontain":
                    yield node.lineno, part_of(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, f"{'.' * node.level} (relative, from {part})"
            elif node.module == "pycontain":
                for alias in node.names:
                    yield node.lineno, alias.name if alias.name in FLOOR else "pycontain"
            elif (node.module or "").startswith("pycontain."):
                yield node.lineno, part_of(node.module or "")


def wrong_arrows(source: str, part: str) -> list[str]:
    """The imports of a module of `part` that do not point down."""
    return [
        f"line {line}: {part} imports {target}"
        for line, target in imported(ast.parse(source), part)
        if target != part
        and (part, target) not in ALLOWED
        and not (target in FLOOR and FLOOR[part] < FLOOR[target])
    ]


def part_of_file(path: Path) -> str:
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    return part_of(".".join(relative.parts).removesuffix(".__init__"))


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_native" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert wrong_arrows(path.read_text(), part_of_file(path)) == []


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("runtime", "from pycontain.image import store"),
        ("runtime", "import pycontain.engine.images"),
        ("image", "from pycontain import runtime"),
        ("model", "from pycontain.kernel.mount import overlay"),
        ("store", "from pycontain.kernel import mount"),
        ("engine", "from pycontain import Engine"),
        ("engine", "from pycontain.cli.output import table"),
        ("oci", "from pycontain.cli import flags"),
        ("kernel", "from . import mount"),
        ("cli", "from pycontain.unheard_of import anything"),
    ],
)
def test_an_arrow_up_or_sideways_is_found(part: str, line: str) -> None:
    assert len(wrong_arrows(line, part)) == 1
    assert len(wrong_arrows(f"def f():\n    {line}", part)) == 1


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("cli", "from pycontain import __version__"),
        ("pycontain", "from pycontain.engine import Engine"),
        ("engine", "from pycontain import trace"),
        ("engine", "from pycontain.engine import records"),
        ("kernel", "from pycontain._native._kernel import lib"),
        ("image", "from pycontainer import other"),
    ],
)
def test_an_arrow_down_is_fine(part: str, line: str) -> None:
    assert wrong_arrows(line, part) == []
