"""How far something is that takes its time, as typed events."""

from __future__ import annotations

import msgspec


class LayerProgress(msgspec.Struct, frozen=True):
    """One step of one layer of an image that is pulled, loaded or pushed.

    Attributes:
        layer: its digest, ``sha256:…``.
        step: ``waiting``, ``downloading``, ``extracting``, ``uploading``, ``mounted`` (from
            another repository of the registry), ``exists`` (nothing to do) or ``done``.
        done: bytes so far, of the blob as it is transferred.
        total: bytes of the blob.
        origin: the repository that it was ``mounted`` from.
    """

    layer: str
    step: str
    done: int
    total: int
    origin: str = ""
