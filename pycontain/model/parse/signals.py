"""Names and numbers of signals, by signal(7) and kill(1)."""

from __future__ import annotations

from pycontain.model.parse.words import bad, is_number

# signal(7); the numbers are the same on x86-64 and arm64. Positions are numbers less one.
_SIGNAL_NAMES = """
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP
    TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
"""
_SIGNALS = tuple(_SIGNAL_NAMES.split())
_ALIASES = {"CLD": 17, "POLL": 29, "IOT": 6}
_RTMIN = 34  # 32 and 33 belong to the C library's threads
_RTMAX = 64


def parse_signal(word: str, flag: str = "--signal") -> int:
    """Read a signal: ``TERM``, ``SIGTERM``, ``sigterm``, ``15``, ``RTMIN+3``, ``RTMAX-1``.

    Returns:
        The number, 1 to 64 (signal(7)). Numbers above 64 and below 1, some of which docker takes
        at create and fails on at stop, are refused.

    Raises:
        InvalidInput: there is no such signal.
    """
    if is_number(word):
        number = int(word) if len(word) <= 4 else 0
    else:
        number = _signal_number(word.upper().removeprefix("SIG"))
    if not 1 <= number <= _RTMAX:
        raise bad(flag, word, "invalid signal")
    return number


def _signal_number(name: str) -> int:
    if name in _SIGNALS:
        return _SIGNALS.index(name) + 1
    if name in _ALIASES:
        return _ALIASES[name]
    base, sign, offset = name[:5], name[5:6], name[6:]
    if base not in {"RTMIN", "RTMAX"} or (sign and not is_number(offset)) or len(offset) > 2:
        return 0
    return _realtime(base, sign, int(offset) if sign else 0)


def _realtime(base: str, sign: str, offset: int) -> int:
    """Return the number of a real-time signal in kill(1)'s spelling, which has one name each."""
    if base == "RTMIN" and sign in {"", "+"} and offset <= 15:
        return _RTMIN + offset
    if base == "RTMAX" and sign in {"", "-"} and offset <= 14:
        return _RTMAX - offset
    return 0
