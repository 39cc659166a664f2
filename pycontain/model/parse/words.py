"""What the readers of all flags share: the refusal of a word, and what characters it may have."""

from __future__ import annotations

import posixpath

from pycontain.errors import InvalidInput

INT64_MAX = 2**63 - 1
ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def bad(flag: str, word: str, reason: str, hint: str | None = None) -> InvalidInput:
    """Return the refusal of a word: it names the flag, the word and the reason."""
    return InvalidInput(f"{flag} {word!r}: {reason}", hint)


def is_text(word: str) -> bool:
    """Whether the kernel and a JSON document can both hold `word`.

    Bytes of the command line that are not UTF-8 arrive as lone surrogates (PEP 383).
    """
    return "\0" not in word and not any("\ud800" <= character <= "\udfff" for character in word)


def is_number(word: str) -> bool:
    """Whether `word` is made of the digits 0 to 9 alone, and of one at least."""
    return word.isascii() and word.isdigit()


def is_octal(word: str) -> bool:
    """Whether `word` is made of the digits 0 to 7 alone, and of one at least."""
    return word.isascii() and word.isdigit() and not set(word) & {"8", "9"}


def normalise(path: str) -> str:
    """Return an absolute path without ``.``, ``..``, doubled or trailing slashes.

    This is lexical, as docker does it: a symbolic link before ``..`` is not looked at. POSIX lets
    two leading slashes mean something of their own; Linux does not, so they become one.
    """
    return "/" + posixpath.normpath(path).lstrip("/")


def scaled(number: str, factor: int) -> int | None:
    """Return the decimal `number` times `factor`, fraction cut off, None if it is no number."""
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if not factor or not is_number(digits) or len(digits) > 64:
        return None
    scale: int = 10 ** len(fraction)
    return int(digits) * factor // scale
