"""The words of ``--restart``."""

from __future__ import annotations

from pycontain.errors import InvalidInput
from pycontain.model.container import RestartPolicy

NAMES = ("no", "on-failure", "always", "unless-stopped")


def parse_restart(word: str) -> RestartPolicy | None:
    """Read a restart policy: ``no``, ``on-failure[:MOST]``, ``always``, ``unless-stopped``.

    Returns:
        The policy; None for ``no``, and for nothing, as docker.

    Raises:
        InvalidInput: there is no such policy, or the count cannot be one.
    """
    name, most = split_restart(word)
    if not word:
        return None
    if name not in NAMES:
        raise InvalidInput(
            f"--restart {word!r}: invalid restart policy {name!r}", f"one of {', '.join(NAMES)}"
        )
    if most and name != "on-failure":
        raise InvalidInput(
            f"--restart {word!r}: maximum retry count cannot be used with restart policy {name!r}"
        )
    if most < 0:
        raise InvalidInput(f"--restart {word!r}: maximum retry count cannot be negative")
    if name == "no":
        return None
    return RestartPolicy(name=name, most=most)  # type: ignore[arg-type]


def split_restart(word: str) -> tuple[str, int]:
    """Return the name and the count of a restart policy, 0 where none is said.

    Raises:
        InvalidInput: the count is none.
    """
    name, _, count = word.partition(":")
    if count and not _is_integer(count):
        raise InvalidInput(
            f"--restart {word!r}: invalid restart policy format: maximum retry count must be an"
            " integer"
        )
    return name, int(count or 0)


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) <= 9
