"""Environment variables, labels and annotations, and the files that hold them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.model.parse.words import bad, is_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ENV_FILE_LIMIT = 16 << 20
_ENV_LINE_LIMIT = 64 << 10


def resolve_env(words: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Read ``-e NAME=value`` and ``-e NAME``, whose value comes from the caller.

    Args:
        words: the flag's values, in order.
        environ: the caller's environment.

    Returns:
        ``NAME=value`` lines. A name that the caller does not have stays a bare ``NAME``, which
        removes the image's variable of that name, as docker does.

    Raises:
        InvalidInput: no name, a NUL byte, which no environment can hold (environ(7)), or not UTF-8.
    """
    return tuple(_resolve("--env", word, environ) for word in words)


def _resolve(flag: str, word: str, environ: Mapping[str, str]) -> str:
    name, equals, _ = word.partition("=")
    if not name:
        raise bad(flag, word, "no variable name")
    line = word if equals or name not in environ else f"{name}={environ[name]}"
    if not is_text(line):
        raise bad(flag, word, "a value with a NUL byte, or not UTF-8")
    return line


def parse_env_file(path: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Read the file of ``--env-file``; see :func:`parse_env_text` for its form.

    Raises:
        InvalidInput: the file cannot be read, is larger than 16 MiB, or a line is malformed.
    """
    return parse_env_text(_read_lines("--env-file", path), path, environ)


def parse_label_file(path: str) -> tuple[tuple[str, str], ...]:
    """Read the file of ``--label-file`` into keys and values.

    Its form is that of an env file, but that a bare key is a label with an empty value.

    Raises:
        InvalidInput: as for :func:`parse_env_file`.
    """
    flag = "--label-file"
    lines = _lines(flag, _read_lines(flag, path), path, None)
    return tuple(_label(flag, line) for line in lines)


def _read_lines(flag: str, path: str) -> bytes:
    try:
        # Not only regular files: a shell's <(command) is a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_ENV_FILE_LIMIT + 1)
    except (OSError, ValueError) as err:
        reason = (err.strerror or "unreadable").lower() if isinstance(err, OSError) else str(err)
        raise bad(flag, path, reason) from err
    if len(data) > _ENV_FILE_LIMIT:
        raise bad(flag, path, f"larger than {_ENV_FILE_LIMIT} bytes")
    return data


def parse_env_text(data: bytes, path: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Read the lines of an env file as docker does.

    Blanks at the front of a line are skipped, empty lines and lines with ``#`` in front too; what
    follows the first ``=`` is the value, unchanged: no quotes, no escapes, no comments in it. A
    bare name takes the caller's value and is left out where the caller has none.

    Args:
        data: the file's bytes; UTF-8, a byte order mark is skipped.
        path: its name, for messages.
        environ: the caller's environment.

    Returns:
        ``NAME=value`` lines in the file's order.

    Raises:
        InvalidInput: not UTF-8, a line over 64 KiB, no name, or white space in a name.
    """
    return _lines("--env-file", data, path, environ)


def _lines(flag: str, data: bytes, path: str, environ: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return the lines that say something; without an `environ` bare names stay as they are."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        text = _line(flag, path, number, line)
        if text and "=" not in text and environ is not None:
            text = f"{text}={environ[text]}" if text in environ else ""
        if not is_text(text):
            raise bad(flag, path, f"line {number}: a NUL byte, or not UTF-8")
        if text:
            found.append(text)
    return tuple(found)


def _line(flag: str, path: str, number: int, line: bytes) -> str:
    """Return what a line says, an empty text for nothing."""
    if len(line) > _ENV_LINE_LIMIT:
        raise bad(flag, path, f"line {number} is longer than {_ENV_LINE_LIMIT} bytes")
    try:
        text = line.removesuffix(b"\r").decode().lstrip(" \t")
    except UnicodeDecodeError as err:
        raise bad(flag, path, f"line {number} is not UTF-8") from err
    if not text or text.startswith("#"):
        return ""
    name = text.partition("=")[0]
    if not name:
        raise bad(flag, path, f"no variable name in line {number}")
    if any(character.isspace() for character in name):
        raise bad(flag, path, f"line {number}: variable {name!r} contains white space")
    return text


def parse_label(word: str) -> tuple[str, str]:
    """Read ``--label KEY[=VALUE]`` into key and value.

    Raises:
        InvalidInput: the key is empty, or the text not UTF-8.
    """
    return _label("--label", word)


def parse_annotation(word: str) -> tuple[str, str]:
    """Read ``--annotation KEY[=VALUE]`` into key and value.

    Raises:
        InvalidInput: the key is empty (runtime-spec, config.md, "Annotations"), or no UTF-8.
    """
    return _label("--annotation", word)


def _label(flag: str, word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    if not key or not is_text(word):
        raise bad(flag, word, "not UTF-8" if key else "empty name")
    return key, value
