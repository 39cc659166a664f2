"""Where errors and warnings go: to ``--log`` in the form that managers read, and to stderr."""

from __future__ import annotations

import os
import time

from pycontain.errors import InvalidInput
from pycontain.oci import document

_LONGEST = 4000  # characters: a value of megabytes says no more than its beginning

_path = ""
_json = False
_debug = False


def set_up(path: str, form: str, debug: bool) -> None:
    """Say where and how to log.

    Args:
        path: of the file, empty for none.
        form: ``text`` or ``json``.
        debug: what is of interest only then is logged too.

    Raises:
        InvalidInput: the form is neither, or the file cannot be written.
    """
    global _path, _json, _debug
    if form not in ("text", "json"):
        raise InvalidInput(f"--log-format {form!r}: text or json")
    _path, _json, _debug = path, form == "json", debug
    if path:
        os.close(_open())


def _open() -> int:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(_path, flags, 0o644)
    except OSError as err:
        raise InvalidInput(f"--log {_path}: {os.strerror(err.errno or 0).lower()}") from None


def now() -> str:
    """Return the time as RFC 3339 has it, in UTC."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def error(message: str, hint: str | None = None) -> None:
    """Report why a command failed."""
    message = _short(message)
    _log("error", message)
    _say(f"pycontain-runtime: {message}\n" + (f"hint: {hint}\n" if hint else ""))


def warn(message: str) -> None:
    """Report what went otherwise than asked for, and did no harm."""
    _log("warning", message)
    if not _path:
        _say(f"pycontain-runtime: warning: {message}\n")


def debug(message: str) -> None:
    """Report a detail."""
    if not _debug:
        return
    _log("debug", message)
    if not _path:
        _say(f"pycontain-runtime: {message}\n")


def debugging() -> bool:
    """Whether details are asked for."""
    return _debug


def _say(text: str) -> None:
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        return  # nobody listens on stderr: the log and the exit code remain


def _short(message: str) -> str:
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"


def _log(level: str, message: str) -> None:
    if not _path:
        return
    if _json:
        line = document.dump({"level": level, "msg": message, "time": now()})
    else:
        line = f"time={document.dump(now())} level={level} msg={document.dump(message)}"
    fd = _open()
    try:
        os.write(fd, line.encode(errors="replace") + b"\n")
    finally:
        os.close(fd)
