"""What was declared, and is kept: the documents of Kubernetes as the store has them."""

from __future__ import annotations

import msgspec


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Which object another one was made by, and goes with."""

    kind: str
    name: str
    uid: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a pod has failed as a whole, and is not run again.

    Attributes:
        reason: one word: ``Evicted``, ``DeadlineExceeded``.
    """

    reason: str
    message: str


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file of one declared object.

    Attributes:
        version: of this document's form.
        uid: of the object, new with each one of its name.
        created: nanoseconds since the epoch.
        generation: how many times its specification was declared.
        deleted: when its removal was asked for, nanoseconds since the epoch; 0: it is wanted.
        owner: None: a user declared it.
        failure: of a pod.
        object: the document, as JSON.
    """

    version: int = 1
    uid: str
    created: int
    generation: int = 1
    deleted: int = 0
    owner: Owner | None = None
    failure: Failure | None = None
    object: msgspec.Raw


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an object is not as declared: what the last step towards it met. It dies with the boot.

    Attributes:
        message: of the error.
        tries: how many steps in a row have failed.
        since: nanoseconds since the epoch, of the last.
        reason: of a Pod, one word for the step: ``ErrImagePull``; empty: there is none for it.
        container: which container of a Pod it is about; empty: the next that does not run, or the
            pod.
    """

    message: str
    tries: int
    since: int
    reason: str = ""
    container: str = ""
