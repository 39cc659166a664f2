"""Quantities: ``500m``, ``64Mi``, ``1e3``; and what may be asked for of them.

Source: "Quantity" of Kubernetes' API reference.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput
from pycontain.pod.checks import check, step_text, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.model import kube

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40}))"
    r"(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?\Z",
    re.ASCII,
)
_UNITS = {
    **{unit: Decimal(1000) ** (power - 3) for power, unit in enumerate(["n", "u", "m", ""])},
    **{unit: Decimal(1000) ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_LARGEST = (1 << 63) - 1


def quantity(value: kube.Quantity) -> Decimal:
    """Return a quantity as a number: ``100m`` is 0.1, ``64Mi`` 67108864, ``1G`` 1000000000.

    Raises:
        InvalidInput: it is none, negative, or larger than 2**63-1.
    """
    match = _QUANTITY.match(str(value)) if not isinstance(value, bool) else None
    if match is None:
        raise InvalidInput(f"{value!r} is no quantity", "quantities look like 500m, 0.5 or 64Mi")
    exponent = Decimal(10) ** int(match[3]) if match[3] else _UNITS[match[2] or ""]
    number = Decimal(match[1]) * exponent
    if not 0 <= number <= _LARGEST:
        raise InvalidInput(f"{value!r} is negative, or larger than 2**63-1")
    return number


def whole_bytes(value: kube.Quantity) -> Decimal:
    """Return a quantity of bytes. A fraction, as in ``0.1Gi``, is rounded where it is used.

    Raises:
        InvalidInput: it is none; or thousandths, which are a slip of the hand.
    """
    number = quantity(value)
    if number != int(number) and (number < 1 or str(value)[-1] in "num"):
        raise InvalidInput(
            f"{value!r} is no whole number of bytes", "m is a thousandth, M a million"
        )
    return number


RESOURCES: dict[str, Callable[[kube.Quantity], object]] = {"cpu": quantity, "memory": whole_bytes}
"""What containers have limits of, and how it is read."""


def check_quantity(
    path: str, read: Callable[[kube.Quantity], object], value: kube.Quantity
) -> None:
    """Refuse a quantity that `read` refuses; the error names the path."""
    with within(path):
        read(value)


def check_requests(
    path: str, resources: kube.ResourceRequirements | kube.VolumeResourceRequirements
) -> None:
    """Refuse what asks for more than its limit."""
    for key, value in resources.requests.items():
        limit = resources.limits.get(key)
        good = limit is None or quantity(value) <= quantity(limit)
        check(f"{path}.requests{step_text(key)}", good, f"{value} is more than the limit, {limit}")
