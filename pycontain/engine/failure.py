"""What no step foresaw: no descriptor, no memory, a full disk in the middle of a verb."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pycontain.errors import kernel_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


def told(step: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a verb: a bare ``OSError`` leaves it as a ``KernelError``.

    Args:
        step: what the verb does, for the message.
    """

    def decorate(verb: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(verb)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return verb(*args, **kwargs)
            except OSError as err:
                subject = err.filename if isinstance(err.filename, str) else ""
                raise kernel_error(step, subject, err.errno or 0) from err

        return guarded

    return decorate
