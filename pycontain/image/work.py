"""Folders in which layers are made before they get their names."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.store.layout import Layout


@contextlib.contextmanager
def folder(layout: Layout) -> Iterator[tuple[str, files.Lock]]:
    """Make a folder whose owner is known to live as long as its lock is held.

    Yields:
        The folder, and the lock.

    Raises:
        StoreError: it cannot be made.
    """
    work = f"{layout.work}/image-{os.getpid()}-{os.urandom(4).hex()}"
    files.make_folder(work)
    lock = files.Lock(f"{work}/lock")
    lock.acquire()
    try:
        yield work, lock
    finally:
        files.remove_tree(work)
        lock.release()


def install(source: str, target: str) -> None:
    """Rename `source` to `target`, unless that is there: its name says what is in it.

    Raises:
        StoreError: it cannot be renamed.
    """
    if os.path.lexists(target):
        return
    try:
        os.rename(source, target)
        files.sync_folder(os.path.dirname(target))
    except OSError as err:
        raise files.store_error("commit", target, err) from err
