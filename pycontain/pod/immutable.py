"""What of a declared object cannot be declared otherwise.

Source: "Immutable Secrets", "Immutable ConfigMaps" and "Label selector updates" of Kubernetes'
documentation; the Kubernetes API reference, core/v1 (Secret.type).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.errors import Conflict
from pycontain.model import kube
from pycontain.pod import configs

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(before: kube.Object, wanted: kube.Object) -> None:
    """Refuse a change of what stays as it is until the object is taken back.

    Args:
        before: as it is declared.
        wanted: of the same kind and name.

    Raises:
        Conflict: of a Deployment's selector, a Secret's type, or what a ConfigMap or Secret with
            ``immutable: true`` holds.
    """
    for path in _changed(before, wanted):
        raise Conflict(
            f"{wanted.kind}/{wanted.name}: {path}: field is immutable",
            f"kube delete {wanted.kind.lower()} {wanted.name} takes the old one back,"
            " kube play --replace does both",
        )


def _changed(before: kube.Object, wanted: kube.Object) -> Iterator[str]:
    """Paths of fields that differ and may not."""
    if isinstance(before, kube.Deployment) and isinstance(wanted, kube.Deployment):
        if before.spec.selector != wanted.spec.selector:
            yield "spec.selector"
    elif isinstance(before, kube.Secret) and isinstance(wanted, kube.Secret):
        if before.type != wanted.type:
            yield "type"
        yield from _changed_data(before, wanted)
    elif isinstance(before, kube.ConfigMap) and isinstance(wanted, kube.ConfigMap):
        yield from _changed_data(before, wanted)


def _changed_data(
    before: kube.ConfigMap | kube.Secret, wanted: kube.ConfigMap | kube.Secret
) -> Iterator[str]:
    if not before.immutable:
        return
    if not wanted.immutable:
        yield "immutable"
    if configs.contents(before) != configs.contents(wanted):
        yield "data"
