"""PersistentVolumeClaims: a claim is met by the volume of its name.

There is one machine, so every access mode is possible, and one kind of volume, a folder of the
store (docs/volumes.md). The volume says in its labels what was claimed. A claim for which a user
made the volume before is met by that one.

Source: the Kubernetes API reference, core/v1, PersistentVolumeClaimSpec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.model import kube
from pycontain.pod.quantities import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycontain.engine import Engine
    from pycontain.model.volume import Volume

CLAIM_LABEL = "io.kubernetes.pvc.name"
"""Label of a volume that was made for a claim: the claim's name."""
MODES_LABEL = "io.kubernetes.pvc.access-modes"
STORAGE_LABEL = "io.kubernetes.pvc.storage"
STORAGE_CLASSES = ("", "hostpath", "local", "local-path", "standard")
"""Names that clusters of one machine have for its folders: they are all the same here."""

_FIELDS = {MODES_LABEL: "accessModes", STORAGE_LABEL: "resources.requests.storage"}
_ONE_POD = "ReadWriteOncePod"
_MODE = 0o777  # whoever a pod's containers are: nobody else comes to it


# ---- by value ----


def check(claim: kube.PersistentVolumeClaim) -> None:
    """Refuse a claim that no volume of this machine can meet.

    Raises:
        InvalidInput: it asks for another storage class, a block device, or contradicts itself.
    """
    spec = claim.spec
    name = spec.storage_class_name
    if name is not None and name not in STORAGE_CLASSES:
        there = ", ".join(filter(None, STORAGE_CLASSES))
        raise InvalidInput(
            f"{_title(claim)}: spec.storageClassName: there is no storage class {name!r}",
            f"leave it out, or use one of {there}: all are volumes of this machine",
        )
    if spec.volume_mode == "Block":
        raise InvalidInput(
            f"{_title(claim)}: spec.volumeMode: Block: volumes of this machine are folders"
        )
    if _ONE_POD in spec.access_modes and len(spec.access_modes) > 1:
        raise InvalidInput(
            f"{_title(claim)}: spec.accessModes: {_ONE_POD} stands alone, or not at all"
        )


def check_users(
    pod: kube.Pod, claims: Mapping[str, kube.PersistentVolumeClaim], others: Iterable[kube.Pod]
) -> None:
    """Refuse a pod that names a claim which only one pod may have, where another has it.

    Args:
        pod: that is to run.
        claims: what is declared, by name.
        others: the declared pods that have not finished; the pod itself may be one.

    Raises:
        Conflict: another pod has a claim of ``ReadWriteOncePod``.
    """
    wanted = for_one_pod(pod, claims)
    for other in others:
        for name in sorted(wanted):
            if other.name != pod.name and name in names_of(other):
                raise Conflict(
                    f"pod {pod.name}: claim {name} is {_ONE_POD}: pod {other.name} has it"
                )


def for_one_pod(pod: kube.Pod, claims: Mapping[str, kube.PersistentVolumeClaim]) -> set[str]:
    """Return the names of the claims of a pod that no other pod may name.

    Args:
        pod: that names them.
        claims: what is declared, by name.
    """
    return {
        name
        for name in names_of(pod)
        if name in claims and _ONE_POD in claims[name].spec.access_modes
    }


def names_of(pod: kube.Pod) -> list[str]:
    """Return the names of the claims that a pod's volumes name, sorted."""
    sources = (volume.persistent_volume_claim for volume in pod.spec.volumes)
    return sorted({source.claim_name for source in sources if source is not None})


def unenforced(objects: Iterable[kube.Object]) -> tuple[str, ...]:
    """Return what claims ask for that is only noted, as paths of fields with their object."""
    every = [one for one in objects if isinstance(one, kube.PersistentVolumeClaim)]
    return tuple(
        f"{_title(one)}: spec.resources.requests.storage"
        for one in every
        if one.spec.resources.requests.get("storage")
    )


def labels_of(claim: kube.PersistentVolumeClaim) -> dict[str, str]:
    """Return the labels of the volume that is made for a claim: the claim's own, and what it says.

    Access modes are sorted, the size is in bytes.
    """
    spec = claim.spec
    storage = spec.resources.requests.get("storage")
    said = {
        MODES_LABEL: ",".join(sorted(set(spec.access_modes))),
        STORAGE_LABEL: "" if storage is None else str(int(quantity(storage))),
    }
    own = {CLAIM_LABEL: claim.name, **{name: value for name, value in said.items() if value}}
    return {**claim.metadata.labels, **own}


def _title(claim: kube.PersistentVolumeClaim) -> str:
    return f"PersistentVolumeClaim/{claim.name}"


def _differing(labels: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    """What of a claim is not as its volume was made, in words; storage classes are all the same."""
    for label, field in _FIELDS.items():
        before, now = labels.get(label, ""), wanted.get(label, "")
        if before != now:
            yield f"{field} was {before or 'not said'}, is {now or 'not said'}"


# ---- the volume ----


def ensure(engine: Engine, claim: kube.PersistentVolumeClaim) -> Volume:
    """Return the volume that meets a claim, made if there is none.

    A claim's specification is immutable, as a cluster has it: a volume that was made for a claim of
    this name has to be what is claimed now. One that was not is taken as it is.

    Args:
        engine: over the store.
        claim: as declared.

    Raises:
        InvalidInput: no volume of this machine can meet it, or none can have the name.
        Conflict: the volume was made for a claim that said something else.
        StoreError: it cannot be made.
    """
    check(claim)
    labels = labels_of(claim)
    volume = _made(engine, claim.name, labels)
    if CLAIM_LABEL in volume.labels:
        differing = "; ".join(_differing(volume.labels, labels))
        if differing:
            raise Conflict(
                f"{_title(claim)}: volume {claim.name} is there, made for another claim:"
                f" {differing}",
                f"pycontain volume rm {claim.name} removes it, with what is in it",
            )
    return volume


def provide(
    engine: Engine, pod: kube.Pod, claims: Mapping[str, kube.PersistentVolumeClaim]
) -> None:
    """Make the volumes that a pod's claims name where they are missing.

    Args:
        engine: over the store.
        pod: that names them; they need not be declared.
        claims: what is declared, by name.

    Raises:
        InvalidInput: no volume can have the name.
        StoreError: one cannot be made.
    """
    for name in names_of(pod):
        _made(engine, name, labels_of(claims[name]) if name in claims else {})


def _made(engine: Engine, name: str, labels: Mapping[str, str]) -> Volume:
    """The volume of a name, made as one of a claim where there is none."""
    return engine.volumes.create(name, labels=labels, mode=_MODE)


def release(engine: Engine, name: str, *, force: bool = False) -> bool:
    """Take a claim back: its volume stays, unless `force` is said.

    Args:
        engine: over the store.
        name: of the claim.
        force: remove the volume and what is in it, where it was made for a claim: one that a user
            made stays.

    Returns:
        Whether the volume was removed.

    Raises:
        Conflict: a container uses it.
    """
    if not force:
        return False
    volumes = engine.volumes
    try:
        if volumes.exists(name) and CLAIM_LABEL not in volumes.get(name).labels:
            return False
        volumes.remove(name)
    except NotFound:
        return False
    return True
