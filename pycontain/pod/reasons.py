"""Why a Pod is not further, in one word: the step that failed, as Kubernetes calls it.

Source: kubelet's reasons of waiting containers (kubernetes, pkg/kubelet/container/sync_result.go
and pkg/kubelet/images/types.go); ``Unschedulable`` of core/v1, PodReasonUnschedulable.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSCHEDULABLE = "Unschedulable"
"""The machine has not what the pod asks for, or another pod has it."""
INVALID_IMAGE_NAME = "InvalidImageName"
NEVER_PULL = "ErrImageNeverPull"
PULL = "ErrImagePull"
PULL_BACK_OFF = "ImagePullBackOff"
"""A pull that has failed more than once: the next try waits."""
CONFIG = "CreateContainerConfigError"
"""What the container is to be made of cannot be had: a ConfigMap, a Secret, a key, a user."""
CREATE = "CreateContainerError"
RUN = "RunContainerError"
OF_MAKING = (
    INVALID_IMAGE_NAME, NEVER_PULL, PULL, PULL_BACK_OFF, CONFIG, CREATE,
)  # fmt: skip
"""Why a container is not made, and those after it neither."""


def titled(title: str, message: str) -> str:
    """Return a message that begins with what it is about, once."""
    return message if message.startswith(f"{title}: ") else f"{title}: {message}"


class Blocked(Exception):
    """A step failed; raised to who takes the steps, who raises `error`.

    Attributes:
        error: what was in the way.
        reason: the word for it.
        container: which one cannot go on, by its name in the manifest; empty: the pod.
    """

    def __init__(self, error: PycontainError, reason: str, container: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.reason = reason
        self.container = container


@contextlib.contextmanager
def step(reason: str, container: str = "") -> Iterator[None]:
    """Say of what fails within which step it was; the innermost one counts.

    Args:
        reason: the word for it.
        container: as in ``Blocked``.

    Raises:
        Blocked: a ``PycontainError`` was raised.
    """
    try:
        yield
    except PycontainError as err:
        raise Blocked(err, reason, container) from err
