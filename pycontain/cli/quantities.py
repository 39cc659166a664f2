"""Sizes as users type them."""

from __future__ import annotations

from pycontain.errors import InvalidInput

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def size(text: str) -> int:
    """Return bytes: ``64m``, ``1.5g``, ``64MiB``, ``4096b``; units are powers of 1024.

    Raises:
        InvalidInput: not a size, negative, or more than a file can have (2^63 - 1).
    """
    lower = text.lower().rstrip()
    number = lower.rstrip("kmgtpib").rstrip(" ")
    suffix = lower[len(number) :].strip()
    unit = suffix[:1] if suffix[:1] in _UNITS else ""
    digits = number.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()) or number.startswith("."):
        raise InvalidInput(f"invalid size: '{text}'")
    if suffix not in (unit, f"{unit}b", f"{unit}ib" if unit else "b"):
        raise InvalidInput(f"invalid suffix: '{suffix}'")
    whole, _, part = number.partition(".")
    scale = 1 << _UNITS[unit]
    total = int(whole) * scale + (int(part) * scale // 10 ** len(part) if part else 0)
    if total >= 1 << 63:
        raise InvalidInput(f"invalid size: '{text}'")
    return total
