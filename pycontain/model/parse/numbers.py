"""Words that are plain values: sizes, booleans, the umask."""

from __future__ import annotations

from pycontain.model.parse.words import INT64_MAX, bad, is_octal, scaled

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(word: str, flag: str = "--shm-size") -> int:
    """Read a size as docker does: ``64m``, ``1.5g``, ``64 MiB``, ``1024``; units are powers of two.

    Returns:
        Bytes, 0 to 2^63-1, a fraction of a byte cut off.

    Raises:
        InvalidInput: no number, a negative one, or an unknown unit. Exponents (``1e3``) and
            underscores, which Go's parser lets through, are not sizes here.
    """
    return size_in(flag, word, word)


def size_in(flag: str, word: str, text: str) -> int:
    """Read a size, as :func:`parse_size` does, that is only a part of the flag's `word`.

    Raises:
        InvalidInput: `text` is no size.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :].lower()
    value = scaled(number[:-1] if number.endswith(" ") else number, _unit(unit))
    if value is None or not 0 <= value <= INT64_MAX:
        raise bad(flag, word, f"invalid size {text!r}", "sizes look like 1024, 64m or 1.5g")
    return value


def _unit(word: str) -> int:
    """Return the factor of ``k``, ``kb`` or ``kib`` (in lower case), 0 for an unknown word."""
    if word in {"", "b"}:
        return 1
    return _UNITS.get(word[0], 0) if word[1:] in {"", "b", "ib"} else 0


def parse_boolean(word: str) -> bool | None:
    """Return what `word` means in the spellings that docker takes, None for any other word."""
    if word in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if word in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    return None


def parse_umask(word: str) -> int:
    """Read ``--umask``: octal, 0 to 0777 (umask(2)).

    Raises:
        InvalidInput: not an octal number, or above 0777.
    """
    if not is_octal(word) or int(word, 8) > 0o777:
        raise bad("--umask", word, "not an octal number from 0 to 0777")
    return int(word, 8)
