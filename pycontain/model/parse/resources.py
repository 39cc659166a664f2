"""The words of ``--ulimit``, ``--device`` and ``--device-cgroup-rule`` become values."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pycontain.model.container import Device, DeviceRule, Ulimit
from pycontain.model.parse.words import INT64_MAX, bad, is_number, is_text, normalise

if TYPE_CHECKING:
    from typing import Literal

_ULIMIT_NAMES = """
    core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
"""
ULIMITS = frozenset(_ULIMIT_NAMES.split())


def parse_ulimit(word: str) -> Ulimit:
    """Read ``--ulimit NAME=SOFT[:HARD]``; -1 is unlimited (getrlimit(2)).

    Raises:
        InvalidInput: an unknown name, no number, or a soft limit above the hard one.
    """
    name, equals, limits = word.partition("=")
    if not equals:
        raise bad("--ulimit", word, "not in the form NAME=SOFT[:HARD]")
    if name not in ULIMITS:
        raise bad("--ulimit", word, f"unknown limit {name!r}")
    numbers = [_limit(word, number) for number in limits.split(":")]
    if len(numbers) > 2:
        raise bad("--ulimit", word, "more than two values")
    soft, hard = numbers[0], numbers[-1]
    if hard != -1 and not 0 <= soft <= hard:
        raise bad("--ulimit", word, "the soft limit is above the hard limit")
    return Ulimit(name=name, soft=soft, hard=hard)


def _limit(word: str, number: str) -> int:
    if number == "-1":
        return -1
    if not is_number(number) or len(number) > 19 or int(number) > INT64_MAX:
        raise bad("--ulimit", word, f"{number!r} is not a limit", "-1 is unlimited")
    return int(number)


def parse_device(word: str) -> Device:
    """Read ``--device SOURCE[:TARGET][:ACCESS]``; ACCESS is made of ``r``, ``w`` and ``m``.

    Raises:
        InvalidInput: a path is not absolute, or the access is not one.
    """
    fields = word.split(":")
    if not fields[0] or len(fields) > 3:
        raise bad("--device", word, "not in the form SOURCE[:TARGET][:ACCESS]")
    access = "rwm"
    if len(fields) == 3 or (len(fields) == 2 and _is_access(fields[1])):
        access = fields.pop()
    if not _is_access(access):
        raise bad("--device", word, f"bad access {access!r}", "access is made of r, w and m")
    for path in fields:
        if not path.startswith("/") or not is_text(path):
            raise bad("--device", word, f"{path!r} is not an absolute path")
    return Device(source=normalise(fields[0]), target=normalise(fields[-1]), access=access)


def _is_access(word: str) -> bool:
    return word != "" and set(word) <= set("rwm") and len(set(word)) == len(word)


def parse_device_rule(word: str) -> DeviceRule:
    """Read ``--device-cgroup-rule 'TYPE MAJOR:MINOR ACCESS'``, as ``c 1:* rwm``.

    Raises:
        InvalidInput: not in that form, or ``a`` with a number: it means all devices.
    """
    flag = "--device-cgroup-rule"
    kind, _, rest = word.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    if kind not in {"a", "b", "c"} or not colon or not _is_access(access):
        raise bad(flag, word, "invalid device cgroup format", "such as 'c 1:3 rwm' or 'b 8:* r'")
    if kind == "a" and (major, minor) != ("*", "*"):
        raise bad(flag, word, "'a' is every device: write 'a *:*'")
    return DeviceRule(
        type=cast("Literal['a', 'b', 'c']", kind), major=_device_number(flag, word, major),
        minor=_device_number(flag, word, minor), access=access,
    )  # fmt: skip


def _device_number(flag: str, word: str, text: str) -> int:
    if text == "*":
        return -1
    if not is_number(text) or len(text) > 10 or int(text) >= 2**32:
        raise bad(flag, word, f"invalid device cgroup format: {text!r} is no number of a device")
    return int(text)
