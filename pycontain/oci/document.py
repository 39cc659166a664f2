"""JSON documents without the json module, whose regular expressions and their enums cost more than
all that a short command does.

CPython's own scanner and encoder, which that module is a face of, do the work; where an interpreter
lacks them, the module itself.
"""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    make_scanner: Any
    make_encoder: Any
    encode_basestring_ascii: Any
try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:  # another interpreter
    make_scanner = make_encoder = None

_SPACE = " \t\n\r"


class _Settings:
    """What the scanner asks of its context: the json module's defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own, emptied by it

    @staticmethod
    def parse_constant(name: str) -> object:
        """Refuse NaN and Infinity, which are not JSON (RFC 8259, section 6)."""
        raise ValueError(f"{name} is no number")


def parse(data: bytes, name: str) -> object:
    """Return the document in `data`.

    Args:
        data: UTF-8.
        name: what it is, for errors.

    Raises:
        InvalidInput: it is no JSON document.
    """
    try:
        text = data.decode()
        return _scan(text)
    except RecursionError:
        raise InvalidInput(f"{name}: nested too deeply") from None
    except ValueError as err:
        raise InvalidInput(f"{name}: not JSON: {err}") from None


def _scan(text: str) -> object:
    if make_scanner is not None:
        start = len(text) - len(text.lstrip(_SPACE))
        try:
            value, end = make_scanner(_Settings)(text, start)
        except (StopIteration, SystemError):
            pass  # what is wrong, and where, only the module can say: it is its exception
        else:
            if not text[end:].strip(_SPACE):
                return value
    import json

    result: object = json.loads(text, parse_constant=_Settings.parse_constant)
    return result


def dump(value: object, indent: bool = False) -> str:
    """Return `value` as JSON, on one line or, for people, on several."""
    if make_encoder is None or indent:
        import json

        return json.dumps(value, indent=2 if indent else None, allow_nan=False)
    encoder = make_encoder(
        None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False
    )
    return "".join(encoder(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"{value!r} is no JSON value")


def load(path: str, name: str | None = None) -> object:
    """Return the document in a file.

    Raises:
        InvalidInput: it cannot be read, or is no JSON document.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = read_all(fd)
        finally:
            os.close(fd)
    except OSError as err:
        raise InvalidInput(f"{path}: {os.strerror(err.errno or 0).lower()}") from None
    return parse(data, name or path)


def read_all(fd: int) -> bytes:
    """Return what is left to read of a descriptor."""
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)
