"""Images as users name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.engine.events import Events
from pycontain.image.store import Image, ImageStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.store.layout import Layout


class Images:
    """The images of one store."""

    def __init__(self, layout: Layout) -> None:
        self._store = ImageStore(layout)
        self._events = Events(layout)

    def list(self) -> list[Image]:
        """Return all images, newest first."""
        return sorted(self._store.list(), key=lambda image: image.created or 0, reverse=True)

    def get(self, name: str) -> Image:
        """Return the image `name` (reference or id) of the store.

        Raises:
            NotFound: it is not in the store.
        """
        return self._store.resolve(name)

    def ensure(self, name: str, progress: Callable[[str], None] | None = None) -> Image:
        """Return the image `name`, built from a recipe when it is not in the store.

        Raises:
            NotFound: neither an image nor a recipe.
            ImageError: the recipe failed.
        """

        def made(image: Image) -> None:
            self._events.tell_image("build", image.id, image.names[0] if image.names else name)

        return self._store.ensure(name, progress, made)
