"""ConfigMaps and Secrets as variables and as files of a container, and ``$(NAME)`` in texts.

Source: the Kubernetes API reference, core/v1 (EnvVar, EnvFromSource, ConfigMapVolumeSource,
SecretVolumeSource); "Define Dependent Environment Variables" and "Downward API" of its
documentation.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import InvalidInput, NotFound
from pycontain.model import kube

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Configs(NamedTuple):
    """What the pods of a manifest may refer to, by name."""

    config_maps: Mapping[str, kube.ConfigMap]
    secrets: Mapping[str, kube.Secret]


class File(NamedTuple):
    """A file of a volume.

    Attributes:
        path: below the volume, relative, without ``..``.
        mode: permission bits.
    """

    path: str
    mode: int
    content: bytes


def collect(objects: Iterable[kube.Object]) -> Configs:
    """Return the ConfigMaps and Secrets among `objects`."""
    listed = tuple(objects)
    return Configs(
        {one.name: one for one in listed if isinstance(one, kube.ConfigMap)},
        {one.name: one for one in listed if isinstance(one, kube.Secret)},
    )


def contents(one: kube.ConfigMap | kube.Secret) -> dict[str, bytes]:
    """Return the bytes of each key.

    Raises:
        InvalidInput: what has to be base64 is none.
    """
    if isinstance(one, kube.ConfigMap):
        texts, coded, name = one.data, one.binary_data, "binaryData"
    else:
        texts, coded, name = one.string_data, one.data, "data"
    decoded = {key: _decoded(f"{name}[{key!r}]", text) for key, text in coded.items()}
    return decoded | {key: text.encode() for key, text in texts.items()}


def _decoded(path: str, text: str) -> bytes:
    try:
        # A long text is often written in lines.
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError) as err:
        raise InvalidInput(f"{path}: no base64: {str(err).lower()}") from err


# ---- what is referred to ----


def _config_map(
    configs: Configs, name: str, path: str, *, optional: bool
) -> dict[str, bytes] | None:
    one = configs.config_maps.get(name)
    return _there(one, f"ConfigMap/{name}", path, optional=optional)


def _secret(configs: Configs, name: str, path: str, *, optional: bool) -> dict[str, bytes] | None:
    one = configs.secrets.get(name)
    return _there(one, f"Secret/{name}", path, optional=optional)


def _there(
    one: kube.ConfigMap | kube.Secret | None, name: str, path: str, *, optional: bool
) -> dict[str, bytes] | None:
    if one is not None:
        return contents(one)
    if optional:
        return None
    raise NotFound(f"{path}: there is no {name} in the manifest")


# ---- variables ----

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Put the values of variables in the place of ``$(NAME)``; ``$$`` is a dollar sign.

    A name that is none of `variables` is left as it stands.
    """

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else variables.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def environment(pod: kube.Pod, container: kube.Container, configs: Configs) -> dict[str, str]:
    """Return a container's variables: those of ``envFrom``, then ``env``, the later ones win.

    Raises:
        NotFound: a ConfigMap, a Secret or a key of them is missing and not optional.
        InvalidInput: a value is no text.
    """
    variables: dict[str, str] = {}
    for number, source in enumerate(container.env_from):
        path = f"Pod/{pod.name}: container {container.name}: envFrom[{number}]"
        for key, content in (_whole(source, configs, path) or {}).items():
            variables[source.prefix + key] = _value(content, f"{path}: key {key}")
    for one in container.env:
        path = f"Pod/{pod.name}: container {container.name}: env {one.name}"
        if one.value_from is None:
            variables[one.name] = expand(one.value or "", variables)
            continue
        value = _referred(one.value_from, pod, configs, path)
        if value is not None:
            variables[one.name] = value
    return variables


def _whole(source: kube.EnvFromSource, configs: Configs, path: str) -> dict[str, bytes] | None:
    if source.config_map_ref is not None:
        ref = source.config_map_ref
        return _config_map(configs, ref.name, path, optional=ref.optional)
    assert source.secret_ref is not None
    return _secret(configs, source.secret_ref.name, path, optional=source.secret_ref.optional)


def _value(content: bytes, path: str) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as err:
        raise InvalidInput(f"{path}: no UTF-8, so no variable") from err
    if "\0" in text:
        raise InvalidInput(f"{path}: has a NUL byte, so no variable")
    return text


def _referred(source: kube.EnvVarSource, pod: kube.Pod, configs: Configs, path: str) -> str | None:
    if source.field_ref is not None:
        return _field(pod, source.field_ref.field_path, path)
    if source.config_map_key_ref is not None:
        ref = source.config_map_key_ref
        data = _config_map(configs, ref.name, path, optional=ref.optional)
        name = f"ConfigMap/{ref.name}"
    else:
        assert source.secret_key_ref is not None
        ref = source.secret_key_ref
        data = _secret(configs, ref.name, path, optional=ref.optional)
        name = f"Secret/{ref.name}"
    if data is not None and ref.key in data:
        return _value(data[ref.key], path)
    if not ref.optional:
        raise NotFound(f"{path}: there is no key {ref.key!r} in {name}")
    return None


_FIELD = re.compile(r"metadata\.(?:(name|namespace)|(labels|annotations)\['([^']+)'\])\Z")


def field_key(field_path: str, path: str) -> tuple[str, str]:
    """Return what the downward API asks for: ``name`` or ``namespace`` and "", or map and key.

    Args:
        field_path: such as ``metadata.labels['app']``.
        path: of the field that says so, for the error.

    Raises:
        InvalidInput: another field; most are not known before a pod runs.
    """
    match = _FIELD.match(field_path)
    if match is None:
        raise InvalidInput(
            f"{path}: {field_path!r} is not supported",
            "metadata.name, metadata.namespace, metadata.labels['KEY'] and "
            "metadata.annotations['KEY'] are",
        )
    return match[1] or match[2], match[3] or ""


def _field(pod: kube.Pod, field_path: str, path: str) -> str:
    what, key = field_key(field_path, path)
    if what == "name":
        return pod.name
    if what == "namespace":
        return pod.metadata.namespace or "default"
    values = pod.metadata.labels if what == "labels" else pod.metadata.annotations
    return values.get(key, "")


# ---- files ----


def files(pod: kube.Pod, volume: kube.Volume, configs: Configs) -> tuple[File, ...]:
    """Return the files of a volume that is a ConfigMap or a Secret, sorted by path.

    Raises:
        NotFound: it, or a key that `items` names, is missing and not optional.
        InvalidInput: one file is to be another one's folder.
    """
    path = f"Pod/{pod.name}: volume {volume.name}"
    if volume.config_map is not None:
        source: kube.ConfigMapVolume | kube.SecretVolume = volume.config_map
        data = _config_map(configs, volume.config_map.name, path, optional=source.optional)
    else:
        assert volume.secret is not None
        source = volume.secret
        data = _secret(configs, volume.secret.secret_name, path, optional=source.optional)
    found = tuple(sorted(_files(source, data or {}, path, missing=data is None)))
    taken = {one.path for one in found}
    for one in found:
        parts = one.path.split("/")
        if any("/".join(parts[:depth]) in taken for depth in range(1, len(parts))):
            raise InvalidInput(f"{path}: {one.path} is below another file")
    return found


def _files(
    source: kube.ConfigMapVolume | kube.SecretVolume,
    data: Mapping[str, bytes],
    path: str,
    *,
    missing: bool,
) -> Iterator[File]:
    if source.items is None:
        yield from (File(key, source.default_mode, content) for key, content in data.items())
        return
    for item in source.items:
        if item.key in data:
            mode = source.default_mode if item.mode is None else item.mode
            yield File(item.path, mode, data[item.key])
        elif not source.optional and not missing:
            raise NotFound(f"{path}: there is no key {item.key!r}")
