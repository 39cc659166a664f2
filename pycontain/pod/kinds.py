"""What a ConfigMap, a Secret, a PersistentVolumeClaim and a Deployment have to be."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.model import kube
from pycontain.pod import configs, podspec, selectors
from pycontain.pod.checks import check, check_metadata, check_unique, step_text
from pycontain.pod.quantities import check_quantity, check_requests, quantity, whole_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA_LIMIT = 1 << 20
"""Bytes of a ConfigMap or a Secret."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")


# ---- ConfigMap and Secret ----


def checked_data(one: kube.ConfigMap | kube.Secret) -> kube.Object:
    """Return a ConfigMap or a Secret that is in order, its texts among its data.

    Raises:
        InvalidInput: a key or a value is none, or they are too large together.
    """
    texts, name = (one.data, "data") if isinstance(one, kube.ConfigMap) else (one.string_data, "")
    for key in (*one.data, *texts, *(one.binary_data if isinstance(one, kube.ConfigMap) else ())):
        hint = "letters, digits, -, _ and ., not .. at its beginning"
        good = _KEY.match(key) and key != "." and not key.startswith("..")
        check(f"data[{key!r}]", good, "is no key", hint)
    if name and isinstance(one, kube.ConfigMap):
        check_unique("binaryData", (*one.data, *one.binary_data))
    found = configs.contents(one)
    if isinstance(one, kube.Secret):
        _check_secret(one.type, found)
    size = sum(map(len, found.values()))
    check("data", size <= DATA_LIMIT, f"more than {DATA_LIMIT >> 20} MiB")
    return _merged(one) if isinstance(one, kube.Secret) and one.string_data else one


def _merged(one: kube.Secret) -> kube.Secret:
    """Make its texts data like the others: ``stringData`` is for writing only."""
    texts = {key: base64.b64encode(text.encode()).decode() for key, text in one.string_data.items()}
    return replace(one, data={**one.data, **texts}, string_data={})


_NEEDED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""What Secrets of these types have to have: "Secrets" of Kubernetes' documentation."""


def _check_secret(type_: str, data: Mapping[str, bytes]) -> None:
    for key in _NEEDED_KEYS.get(type_, ()):
        check(f"data[{key!r}]", key in data, f"is missing, of type {type_}")
    good = type_ != "kubernetes.io/basic-auth" or not {"username", "password"}.isdisjoint(data)
    check("data", good, f"neither username nor password, of type {type_}")


# ---- PersistentVolumeClaim ----


def check_claim(spec: kube.PersistentVolumeClaimSpec) -> None:
    """Refuse a claim that asks for nothing, or for what no claim has.

    Raises:
        InvalidInput: it does.
    """
    check("spec.accessModes", spec.access_modes, "is empty")
    check_unique("spec.accessModes", spec.access_modes)
    given = {"limits": spec.resources.limits, "requests": spec.resources.requests}
    for name, resources in given.items():
        for key, value in resources.items():
            here = f"spec.resources.{name}{step_text(key)}"
            check(here, key == "storage", "a claim has storage only")
            check_quantity(here, whole_bytes, value)
    asked = spec.resources.requests.get("storage")
    check("spec.resources.requests.storage", asked and quantity(asked), "is missing, or 0")
    check_requests("spec.resources", spec.resources)


# ---- Deployment ----


_MOST_REPLICAS = 1000
"""What is declared is written down one by one: a slip of the hand is not to fill the disk."""


def checked_deployment(one: kube.Deployment) -> kube.Deployment:
    """Return a Deployment that is in order, its pods' defaults filled in.

    Raises:
        InvalidInput: its template is none, or not one of pods that it selects and that run on.
    """
    template, path = one.spec.template, "spec.template"
    few = one.spec.replicas <= _MOST_REPLICAS
    check("spec.replicas", few, f"is more than {_MOST_REPLICAS}, which is for a cluster")
    check_metadata(f"{path}.metadata", template.metadata)
    selectors.check_selector("spec.selector", one.spec.selector)
    good = selectors.selects(one.spec.selector, template.metadata.labels)
    check("spec.selector", good, f"does not select the labels of {path}")
    spec = podspec.checked(f"{path}.spec", template.spec)
    check(f"{path}.spec.restartPolicy", spec.restart_policy == "Always", "is not Always")
    deadline = spec.active_deadline_seconds
    check(f"{path}.spec.activeDeadlineSeconds", deadline is None, "not for what is to run on")
    return replace(one, spec=replace(one.spec, template=replace(template, spec=spec)))
