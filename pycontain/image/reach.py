"""What hangs together in an image layout: all blobs that a descriptor leads to.

A layout may hold anything: indexes of indexes, artifacts (signatures, charts) and what they are
about. So this goes by the fields that documents share and asks for nothing else; a blob whose media
type is not known leads nowhere.

Source: OCI image-spec 1.1, image-index.md (manifests), manifest.md (config, layers, subject).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pycontain.errors import ImageError, NotFound, StoreError
from pycontain.image import documents, reference
from pycontain.image.index import REF_NAME
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.errors import PycontainError
    from pycontain.image.blobs import Blobs
    from pycontain.image.documents import Descriptor

MAX_DEPTH = 16
"""Documents that lead to each other in a row."""
MAX_DOCUMENTS = 10_000

ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
"""Of a release candidate of OCI 1.1: some tools wrote it."""

_DOCUMENTS = documents.MANIFESTS | documents.INDEXES | {ARTIFACT}


class _Link(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    media_type: str = ""


class _Links(msgspec.Struct, frozen=True):
    """The fields by which a document leads to blobs."""

    manifests: tuple[_Link, ...] | None = None
    config: _Link | None = None
    layers: tuple[_Link, ...] | None = None
    blobs: tuple[_Link, ...] | None = None
    subject: _Link | None = None

    def documents(self) -> Iterable[_Link]:
        yield from self.manifests or ()
        if self.subject is not None:
            yield self.subject

    def leaves(self) -> Iterable[_Link]:
        yield from self.layers or ()
        yield from self.blobs or ()
        if self.config is not None:
            yield self.config


def reachable(blobs: Blobs, digest: str, media_type: str) -> set[str]:
    """Return the digests of a blob and of all that it leads to, whether they are there or not.

    An index may name manifests that nobody brought, an artifact a subject: they lead no further.

    Args:
        blobs: of a store.
        digest: where it begins.
        media_type: which that blob has.

    Raises:
        ImageError: a document is damaged, or leads too far: what is reachable is not known.
        StoreError: a document cannot be read.
    """
    found = {digest}
    read = 0
    rest = [(_Link(digest, media_type), 0)]
    while rest:
        link, depth = rest.pop()
        links = _links(blobs, link)
        if links is None:
            continue
        read += 1
        if read > MAX_DOCUMENTS:
            raise ImageError(f"{digest}: leads to more than {MAX_DOCUMENTS} documents")
        if depth == MAX_DEPTH:
            raise ImageError(f"{digest}: more than {MAX_DEPTH} documents below each other")
        found.update(leaf.digest for leaf in links.leaves())
        for below in links.documents():
            if below.digest not in found:
                found.add(below.digest)
                rest.append((below, depth + 1))
    return found


def obstacles(blobs: Blobs, entries: Iterable[Descriptor]) -> list[PycontainError]:
    """Return why blobs cannot be removed: an error for each of which is not known what it leads to.

    As long as one is there all blobs stay, also those that nothing leads to.

    Args:
        blobs: of a store.
        entries: of its index.
    """
    found: list[PycontainError] = []
    for item in entries:
        name = (item.annotations or {}).get(REF_NAME, item.digest)
        try:
            reachable(blobs, item.digest, item.media_type)
        except (ImageError, StoreError) as err:
            reason = err.message.removeprefix(f"{item.digest}: ")
            found.append(
                ImageError(
                    f"image {name}: {reason}: while it is there no blob is removed",
                    f"remove it: pycontain rmi {name}",
                )
            )
    return found


def _links(blobs: Blobs, link: _Link) -> _Links | None:
    """The links of a document; None where it is none, or is not here."""
    if link.media_type not in _DOCUMENTS or not reference.is_digest(link.digest):
        return None
    algorithm, _, digits = link.digest.partition(":")
    path = f"{os.path.dirname(blobs.folder)}/{algorithm}/{digits}"
    try:
        size = os.stat(path).st_size
        if size > documents.MANIFEST_LIMIT:
            raise ImageError(f"{path}: {size} bytes are more than a manifest may have")
        return documents.decode(files.read(path), _Links, path)
    except (FileNotFoundError, NotFound):
        return None
    except OSError as err:
        raise files.store_error("read", path, err) from err
