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


def install(*pairs: tuple[str, str]) -> None:
    """Rename things to their names, unless those are there: a name says what is in it.

    Args:
        pairs: each from where, and the name; its folder is synced.

    Raises:
        StoreError: one cannot be renamed.
    """
    folders: set[str] = set()
    for source, target in pairs:
        if os.path.lexists(target):
            continue
        try:
            os.rename(source, target)
        except OSError as err:
            raise files.store_error("commit", target, err) from err
        folders.add(os.path.dirname(target))
    for folder in folders:
        try:
            files.sync_folder(folder)
        except OSError as err:
            raise files.store_error("commit", folder, err) from err
