"""Objects of Kubernetes to YAML text: what :mod:`pycontain.pod.documents` reads, the other way.

The order of the fields is Kubernetes' own: ``apiVersion``, ``kind``, ``metadata``, ``spec``. A text
that some reader of YAML takes for something else (``on``, ``1e3``, ``0o17``, a date) is quoted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pycontain.model import kube

_FIRST = ("apiVersion", "kind", "metadata")
_DOUBTFUL = "+-.0123456789~=<"
"""What numbers, dates and YAML's own words begin with."""
_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null"))


class _Dumper(yaml.CSafeDumper):
    """A dumper that quotes what another reader may take for a number, a date or a word."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _represent(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text:
        style = "|"
    elif text[:1] in _DOUBTFUL or text.lower() in _WORDS:
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent)


def document(one: kube.Object) -> dict[str, Any]:
    """Return an object as plain data, its fields in Kubernetes' order."""
    return ordered(msgspec.to_builtins(one))


def ordered(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the fields first that say what it is."""
    first = {key: document[key] for key in _FIRST if key in document}
    return {**first, **document}


def text(documents: Iterable[Mapping[str, Any]], comments: Iterable[str] = ()) -> str:
    """Return documents as YAML.

    Args:
        documents: plain data.
        comments: lines for the top.
    """
    head = "".join(f"# {_line(comment)}\n" for comment in comments)
    return head + "---\n".join(map(_dumped, documents))


def _line(comment: str) -> str:
    """A comment ends with its line, whatever is named in it."""
    return "".join(char if char.isprintable() else "?" for char in comment)


def _dumped(value: Mapping[str, Any]) -> str:
    dumped: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20
    )
    return dumped
