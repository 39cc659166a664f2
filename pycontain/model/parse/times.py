"""Durations and moments, in nanoseconds."""

from __future__ import annotations

import time

from pycontain.model.parse.words import INT64_MAX, bad, is_number, scaled

_SECOND = 1_000_000_000

_DURATIONS = {
    "h": 3600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000_000,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ns": 1,
}


def parse_duration(word: str, flag: str = "--since") -> int:
    """Read a duration in Go's form: ``10m``, ``1h30m``, ``1.5s``, ``-2h``, ``0``.

    Returns:
        Nanoseconds.

    Raises:
        InvalidInput: not a duration.
    """
    total = _duration(word)
    if total is None:
        raise bad(flag, word, "not a duration", "durations look like 10s, 5m or 1h30m")
    return total


def _duration(word: str) -> int | None:
    text = word[1:] if word[:1] in {"+", "-"} else word
    if text == "0":
        return 0
    total = 0
    while text or not total:
        number = _leading(text, "0123456789.")
        unit = _leading(text[len(number) :], "hmsnuµμ")
        part = scaled(number, _DURATIONS.get(unit, 0))
        if part is None:
            return None
        total += part
        text = text[len(number) + len(unit) :]
        if not text:
            break
    if total > INT64_MAX:
        return None
    return -total if word[0] == "-" else total


def _leading(text: str, characters: str) -> str:
    return text[: len(text) - len(text.lstrip(characters))]


def parse_time(word: str, now: int, flag: str = "--since") -> int:
    """Read a moment: a duration before `now`, RFC 3339 or part of it, or seconds since the epoch.

    Without a zone, dates are in the caller's (localtime(3)), as docker has it. Seconds of the day
    and the time of day may be missing.

    Args:
        word: ``10m``, ``2024-01-02T15:04:05.5Z``, ``2024-01-02``, ``1704207845.5``.
        now: nanoseconds since the epoch.
        flag: for messages.

    Returns:
        Nanoseconds since the epoch.

    Raises:
        InvalidInput: none of these forms.
    """
    moment = scaled(word, _SECOND) if word[:1] not in {"", "."} else None
    if moment is None:
        ago = _duration(word)
        moment = _calendar(word) if ago is None else now - ago
    if moment is None:
        raise bad(
            flag, word, "not a time", "times look like 10m, 2024-01-02T15:04:05Z or 1704207845"
        )
    return moment


def _calendar(word: str) -> int | None:
    """Return the nanoseconds of an RFC 3339 date and time, None where it is none."""
    date, zone = word[:10], word[10:]
    clock = ""
    if zone[:1] == "T":
        clock = _leading(zone[1:], "0123456789:.")
        zone = zone[1 + len(clock) :]
        if not clock:
            return None
    day, fields, offset = _date(date), _clock(clock), _zone(zone)
    if day is None or fields is None or offset is None:
        return None
    hour, minute, second, fraction = fields
    if zone:
        seconds = _days(*day) * 86400 + hour * 3600 + minute * 60 + second - offset
    else:
        seconds = int(time.mktime((*day, hour, minute, second, 0, 0, -1)))
    return seconds * _SECOND + fraction


def _date(text: str) -> tuple[int, int, int] | None:
    if len(text) != 10 or text[4] + text[7] != "--":
        return None
    fields = (text[:4], text[5:7], text[8:])
    if not all(is_number(field) for field in fields):
        return None
    year, month, day = (int(field) for field in fields)
    if not 1 <= month <= 12 or year < 1970:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = 28 + leap if month == 2 else 30 + (month in {1, 3, 5, 7, 8, 10, 12})
    return (year, month, day) if 1 <= day <= length else None


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 in the Gregorian calendar, counting years from March."""
    shifted = year - (month <= 2)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719468


def _clock(text: str) -> tuple[int, int, int, int] | None:
    """Return hour, minute, second and nanoseconds of ``HH:MM[:SS[.fraction]]``."""
    if not text:
        return (0, 0, 0, 0)
    whole, dot, fraction = text.partition(".")
    fields = whole.split(":")
    if len(fields) not in {2, 3} or (dot and len(fields) == 2):
        return None
    if not all(len(field) == 2 and is_number(field) for field in fields):
        return None
    if dot and not (is_number(fraction) and len(fraction) <= 64):
        return None
    hour, minute, second = (*(int(field) for field in fields), 0)[:3]
    if hour > 23 or minute > 59 or second > 59:
        return None
    return hour, minute, second, int((fraction + "0" * 9)[:9])


def _zone(text: str) -> int | None:
    """Return the seconds east of UTC of ``Z`` or ``+HH:MM``; 0 for no zone, None for a bad one."""
    if text in {"", "Z", "z"}:
        return 0
    hours, colon, minutes = text[1:].partition(":")
    if text[0] not in "+-" or not colon or len(hours) != 2 or len(minutes) != 2:
        return None
    if not is_number(hours + minutes) or int(hours) > 23 or int(minutes) > 59:
        return None
    offset = int(hours) * 3600 + int(minutes) * 60
    return -offset if text[0] == "-" else offset
