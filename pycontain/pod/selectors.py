"""Selectors: which objects are meant, by their labels.

Source: "Labels and Selectors" of Kubernetes' documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.pod.checks import check, check_labels, check_qualified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.model import kube


def check_selector(path: str, selector: kube.LabelSelector) -> None:
    """Refuse a selector that is empty or contradicts itself."""
    check(path, selector.match_labels or selector.match_expressions, "is empty")
    check_labels(f"{path}.matchLabels", selector.match_labels)
    for number, one in enumerate(selector.match_expressions):
        here = f"{path}.matchExpressions[{number}]"
        check_qualified(f"{here}.key", one.key)
        wants = one.operator in ("In", "NotIn")
        check(f"{here}.values", bool(one.values) == wants, f"do not fit {one.operator}")


def selects(selector: kube.LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a selector means an object that has these labels."""
    exact = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return exact and all(_holds(one, labels) for one in selector.match_expressions)


def _holds(one: kube.LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    if one.operator == "In":
        return labels.get(one.key) in one.values
    if one.operator == "NotIn":
        return labels.get(one.key) not in one.values
    return (one.key in labels) == (one.operator == "Exists")
