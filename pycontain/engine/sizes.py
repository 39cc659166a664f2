"""How much room a container's files take."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """Bytes of files, as stat(2) has them.

    Attributes:
        own: what the container wrote, without its volumes.
        image: its image's layers, which it shares with others; None where the image is gone.
    """

    own: int
    image: int | None

    @property
    def virtual(self) -> int | None:
        """All that the container sees."""
        return None if self.image is None else self.own + self.image
