"""The documents of networks: one file for each, whose name is the claim.

``bridge`` is made when it is first used. ``host`` and ``none`` have no documents: they are modes of
a container, and listed as docker lists them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.model.network import Network
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.store.layout import Layout

DEFAULT = "bridge"
MODES = ("host", "none")
_SUFFIX = ".json"
_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_OTHERS = _FIRST + "_.-"
_LONGEST = 128


def check_name(name: str) -> None:
    """See that a network can be called so.

    Raises:
        InvalidInput: it cannot.
    """
    good = name and name[0] in _FIRST and not name.strip(_OTHERS) and len(name) <= _LONGEST
    if not good or not all(letter in _OTHERS for letter in name):
        raise InvalidInput(
            f"invalid network name: {name!r}",
            f"letters, digits, '_', '.' and '-', at most {_LONGEST}, beginning with a letter or"
            " digit",
        )


def path(layout: Layout, name: str) -> str:
    """Return the document of the network `name`."""
    return f"{layout.networks}/{name}{_SUFFIX}"


def state_folder(layout: Layout, identity: str) -> str:
    """Return the folder of what of a network dies with the boot."""
    return f"{layout.state_networks}/{identity}"


def add(layout: Layout, network: Network) -> None:
    """Write a new network's document.

    Raises:
        Conflict: the name is taken.
        StoreError: it cannot be written.
    """
    files.make_folder(layout.networks)
    try:
        files.write_new(path(layout, network.name), files.dump(network))
    except Conflict as err:
        raise Conflict(f"network with name {network.name} already exists") from err


def remove(layout: Layout, network: Network) -> None:
    """Remove a network's document; one that is not there is no error."""
    files.remove(path(layout, network.name))
    files.remove_tree(state_folder(layout, network.id))


def load(layout: Layout, name: str) -> Network:
    """Return the network with a name.

    Raises:
        NotFound: there is none.
        StoreError: its document is damaged.
    """
    try:
        check_name(name)
        return files.load(path(layout, name), Network)
    except (NotFound, InvalidInput):
        raise NotFound(f"network {name} not found") from None


def names(layout: Layout) -> list[str]:
    """Return the names of all networks that have documents, sorted."""
    try:
        found = os.listdir(layout.networks)
    except FileNotFoundError:
        return []
    return sorted(
        name.removesuffix(_SUFFIX)
        for name in found
        if name.endswith(_SUFFIX) and not files.is_temporary(name)
    )


def every(layout: Layout) -> list[Network]:
    """Return all networks that have documents, by name; one that is removed meanwhile is left out.

    Raises:
        StoreError: a document is damaged.
    """
    found = []
    for name in names(layout):
        try:
            found.append(load(layout, name))
        except NotFound:
            continue
    return found


def find(layout: Layout, ref: str) -> Network:
    """Return a network by name, id, or unique start of its id.

    Raises:
        NotFound: there is none.
        InvalidInput: the start of more than one.
        StoreError: a document is damaged.
    """
    try:
        return load(layout, ref)
    except NotFound:
        found = [network for network in every(layout) if ref and network.id.startswith(ref)]
    if not found:
        raise NotFound(f"network {ref} not found", "pycontain network ls lists them")
    if len(found) > 1:
        raise InvalidInput(f"network {ref} is ambiguous ({len(found)} matches found based on ID)")
    return found[0]
