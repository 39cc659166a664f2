"""What a registry says when it refuses: error documents, and how long to wait.

Source: OCI distribution specification, "Error Codes"; RFC 9110, section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any

import msgspec

from pycontain.errors import RegistryError

if TYPE_CHECKING:
    from pycontain.image.http import Answer

MAX_ERROR_BODY = 64 * 1024
_MAX_TEXT = 300
_MAX_ERRORS = 5

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Refused(RegistryError):
    """A registry answered, with a status that is not what was asked for.

    Attributes:
        wait: for how many seconds it asks to be left alone, None where it does not say.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        status: int = 0,
        code: str = "",
        wait: float | None = None,
    ) -> None:
        super().__init__(message, hint, status=status, code=code)
        self.wait = wait

    @property
    def passing(self) -> bool:
        """Whether asking again later may help."""
        return self.status in _PASSING


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    message: Any = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: list[_Error]


def refusal(answer: Answer) -> Refused:
    """Return the error that an answer stands for, and close the answer."""
    try:
        body = answer.read(MAX_ERROR_BODY)
    except RegistryError:
        body = b""  # too long or broken: the status remains
    errors = _errors(body)
    text = "; ".join(_words(error) for error in errors) or _status(answer)
    return Refused(
        text,
        status=answer.status,
        code=errors[0].code if errors else "",
        wait=parse_wait(answer.header("Retry-After")),
    )


def _errors(body: bytes) -> list[_Error]:
    try:
        found = msgspec.json.decode(body, type=_Errors).errors[:_MAX_ERRORS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []  # the page of a proxy, or of a server that is no registry
    return [error for error in found if _words(error)]


def _words(error: _Error) -> str:
    code = clean(error.code).replace("_", " ").lower()
    message = clean(error.message) if isinstance(error.message, str) else ""
    message = message[:1].lower() + message[1:]
    if not code or not message:
        return code or message
    return message if message.lower().startswith(code) else f"{code}: {message}"


def _status(answer: Answer) -> str:
    try:
        name = http.HTTPStatus(answer.status).phrase
    except ValueError:
        name = clean(answer.reason)
    return f"status {answer.status} {name.lower()}".rstrip()


def clean(text: str) -> str:
    """Return a server's words as one line of bounded length, fit for a terminal."""
    shown = "".join(char if char.isprintable() else " " for char in text[: 2 * _MAX_TEXT])
    return " ".join(shown.split())[:_MAX_TEXT].rstrip(".")


def parse_wait(text: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, None where it has no meaning."""
    import email.utils
    import time

    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())
