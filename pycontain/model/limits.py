"""Texts of users to values: what the flags of limits hold."""

from __future__ import annotations

from pycontain.errors import InvalidInput
from pycontain.model.container import DeviceRate, DeviceWeight
from pycontain.model.parse.numbers import parse_size

_NANO = 9  # digits behind the point that docker keeps of --cpus


def parse_bytes(word: str, *, unlimited: bool = False) -> int:
    """Read a size, ``64m``.

    Args:
        word: the text.
        unlimited: -1 is allowed and means no limit.

    Returns:
        Bytes, or -1.

    Raises:
        InvalidInput: no size.
    """
    if unlimited and word == "-1":
        return -1
    try:
        return parse_size(word)
    except InvalidInput as err:
        raise InvalidInput(f"invalid size {word!r}", err.hint) from err


def parse_cpus(word: str) -> float:
    """Read ``--cpus``, a decimal number of processors; 0 is no limit.

    Raises:
        InvalidInput: no such number, a negative one, or more than nine digits behind the point.
    """
    whole, _, fraction = word.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()) or len(whole) > 9:
        raise InvalidInput("must be a number of processors like 1.5")
    if len(fraction) > _NANO:
        raise InvalidInput("value is too precise: at most nine digits behind the point")
    return float(word)


def parse_weight_device(word: str) -> DeviceWeight:
    """Read ``PATH:WEIGHT``, the weight from 10 to 1000.

    Raises:
        InvalidInput: not in this form.
    """
    path, weight = _device(word, "PATH:WEIGHT")
    if not (weight.isascii() and weight.isdigit()) or not 10 <= int(weight[:5]) <= 1000:
        raise InvalidInput(f"weight {weight!r}: must be from 10 to 1000")
    return DeviceWeight(path=path, weight=int(weight))


def parse_byte_rate(word: str) -> DeviceRate:
    """Read ``PATH:BYTES``, bytes a second with a unit like 1mb; 0 is no limit.

    Raises:
        InvalidInput: not in this form.
    """
    path, rate = _device(word, "PATH:RATE")
    try:
        return DeviceRate(path=path, rate=parse_size(rate))
    except InvalidInput as err:
        raise InvalidInput(f"rate {rate!r}: must be bytes a second, like 1048576 or 1mb") from err


def parse_operation_rate(word: str) -> DeviceRate:
    """Read ``PATH:COUNT``, operations a second; 0 is no limit.

    Raises:
        InvalidInput: not in this form.
    """
    path, rate = _device(word, "PATH:RATE")
    if not (rate.isascii() and rate.isdigit()) or len(rate) > 18:
        raise InvalidInput(f"rate {rate!r}: must be operations a second")
    return DeviceRate(path=path, rate=int(rate))


def _device(word: str, form: str) -> tuple[str, str]:
    path, colon, value = word.rpartition(":")
    if not colon or not value:
        raise InvalidInput(f"must be {form}")
    if not path.startswith("/dev/"):
        raise InvalidInput(f"{path!r} is no path of a device: must be below /dev")
    return path, value


def parse_control_file(word: str) -> tuple[str, str]:
    """Read ``FILE=TEXT``, what a control file of cgroup v2 is to hold.

    Raises:
        InvalidInput: not in this form.
    """
    file, equals, text = word.partition("=")
    if not equals or not file:
        raise InvalidInput("must be FILE=TEXT, like memory.high=64M")
    return file, text
