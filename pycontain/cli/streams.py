"""Our own standard streams: open from the start, and written to without losing an error."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from pycontain.errors import kernel_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


def prepare() -> None:
    """Open what is closed, and let no name or label that the locale lacks break a listing."""
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def open_standard_streams() -> None:
    """Open /dev/null on each of descriptors 0 to 2 that is closed.

    open(2) takes the lowest free number: without this the next socket or log would become the
    standard output of everything that we start.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number)
    # the interpreter leaves None where it found a closed descriptor
    if sys.stdout is None:
        sys.stdout = _writer(1)
    if sys.stderr is None:
        sys.stderr = _writer(2)


def _writer(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _open_null(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    else:
        # as standard streams are; os.open made it close-on-exec
        os.set_inheritable(number, True)


_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}


def harmless(text: str) -> str:
    """Return text, of which a container may have written a part, as a terminal only shows it:
    control characters but tabs and line ends are escaped.
    """
    return text.translate(_CONTROLS)


def write(text: str) -> None:
    """Write to standard output, possibly later (``flush``).

    Raises:
        BrokenPipeError: whoever reads it has gone.
        KernelError: write(2) failed.
    """
    with _named():
        sys.stdout.write(text)


def flush() -> None:
    """Bring out what was written; errors as in ``write``."""
    with _named():
        sys.stdout.flush()


def copy(stream: str, data: bytes) -> None:
    """Write bytes to ``stdout`` or ``stderr`` and bring them out; errors as in ``write``."""
    target = sys.stdout if stream == "stdout" else sys.stderr
    with _named("standard output" if stream == "stdout" else "standard error"):
        target.buffer.write(data)
        target.buffer.flush()


@contextlib.contextmanager
def _named(what: str = "standard output") -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise kernel_error("write", what, err.errno or 0) from err


def complain(text: str) -> None:
    """Write to standard error, behind what was written to standard output."""
    # standard output's own error comes when it is flushed for its own sake; where standard error
    # cannot be written, there is nobody left to tell
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def silence() -> None:
    """Send what is still buffered nowhere, or the interpreter would complain about it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
