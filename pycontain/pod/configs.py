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
from pycontain.pod import downward

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycontain.pod.plan import Facts

    _Keys = (
        kube.ConfigMapVolume | kube.SecretVolume | kube.ConfigMapProjection | kube.SecretProjection
    )


class Configs(NamedTuple):
    """What pods may refer to, by name."""

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


def _texts(configs: Configs, name: str, path: str, *, optional: bool) -> dict[str, bytes] | None:
    """What of a ConfigMap variables can be: ``binaryData`` is for files."""
    found = _config_map(configs, name, path, optional=optional)
    if found is None:
        return None
    return {key: found[key] for key in configs.config_maps[name].data}


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
    raise NotFound(f"{path}: there is no {name}")


# ---- variables ----

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Put the values of variables in the place of ``$(NAME)``; ``$$`` is a dollar sign.

    A name that is none of `variables` is left as it stands.
    """

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else variables.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def has_reference(text: str, variables: Mapping[str, str]) -> bool:
    """Whether ``$(NAME)`` is in a text of which there is no such variable."""
    return any(
        match[1] is not None and match[1] not in variables for match in _REFERENCE.finditer(text)
    )


def environment(
    pod: kube.Pod, container: kube.Container, configs: Configs, facts: Facts
) -> dict[str, str]:
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
        asked = one.value_from
        if asked.field_ref is not None:
            value: str | None = downward.field(pod, asked.field_ref.field_path, facts)
        elif asked.resource_field_ref is not None:
            value = _resource(pod, asked.resource_field_ref, facts, container)
        else:
            value = _referred(asked, configs, path)
        if value is not None:
            variables[one.name] = value
    return variables


def at_fault(pod: kube.Pod, objects: Iterable[kube.Object], facts: Facts) -> str:
    """Return the name of the first container whose variables cannot be had; empty: there is none.

    Args:
        pod: whose containers they are.
        objects: among which its ConfigMaps and Secrets are.
        facts: as for ``environment``.
    """
    known = collect(objects)
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        try:
            environment(pod, container, known, facts)
        except (InvalidInput, NotFound):
            return container.name
    return ""


def _whole(source: kube.EnvFromSource, configs: Configs, path: str) -> dict[str, bytes] | None:
    if source.config_map_ref is not None:
        ref = source.config_map_ref
        return _texts(configs, ref.name, path, optional=ref.optional)
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


def _resource(
    pod: kube.Pod,
    ref: kube.ResourceFieldSelector,
    facts: Facts,
    own: kube.Container | None = None,
) -> str:
    every = {one.name: one for one in (*pod.spec.init_containers, *pod.spec.containers)}
    container = every[ref.container_name] if ref.container_name else own
    assert container is not None
    return downward.resource(container, ref, facts)


def _referred(source: kube.EnvVarSource, configs: Configs, path: str) -> str | None:
    if source.config_map_key_ref is not None:
        ref = source.config_map_key_ref
        data = _texts(configs, ref.name, path, optional=ref.optional)
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


# ---- files ----


def named_by(volume: kube.Volume) -> set[tuple[str, str]]:
    """Return what a volume shows of other objects: kind (``ConfigMap``, ``Secret``) and name."""
    found = set()
    if volume.config_map is not None:
        found.add(("ConfigMap", volume.config_map.name))
    if volume.secret is not None:
        found.add(("Secret", volume.secret.secret_name))
    for part in volume.projected.sources if volume.projected else ():
        if part.config_map is not None:
            found.add(("ConfigMap", part.config_map.name))
        if part.secret is not None:
            found.add(("Secret", part.secret.name))
    return found


def files(pod: kube.Pod, volume: kube.Volume, configs: Configs, facts: Facts) -> tuple[File, ...]:
    """Return the files of a volume that shows ConfigMaps, Secrets or facts, sorted by path.

    Of several sources with one path the last one has it.

    Raises:
        NotFound: an object, or a key that `items` names, is missing and not optional.
        InvalidInput: a file is to be another one's folder.
    """
    path = f"Pod/{pod.name}: volume {volume.name}"
    last = {one.path: one for one in _Files(pod, configs, facts, path).of(volume)}
    found = tuple(sorted(last.values()))
    taken: set[str] = set()
    for one in found:
        parts = one.path.split("/")
        if any("/".join(parts[:depth]) in taken for depth in range(1, len(parts))):
            raise InvalidInput(f"{path}: {one.path} is below another file")
        taken.add(one.path)
    return found


class _Files:
    """The files of one volume of a pod."""

    def __init__(self, pod: kube.Pod, configs: Configs, facts: Facts, path: str) -> None:
        self._pod = pod
        self._configs = configs
        self._facts = facts
        self._path = path

    def of(self, volume: kube.Volume) -> Iterator[File]:
        if volume.config_map is not None:
            yield from self._config_map(volume.config_map, volume.config_map.default_mode)
        elif volume.secret is not None:
            name = volume.secret.secret_name
            yield from self._secret(volume.secret, name, volume.secret.default_mode)
        elif volume.downward_api is not None:
            source = volume.downward_api
            yield from self._told(source.items, source.default_mode)
        else:
            assert volume.projected is not None
            for part in volume.projected.sources:
                yield from self._projected(part, volume.projected.default_mode)

    def _projected(self, part: kube.VolumeProjection, mode: int) -> Iterator[File]:
        if part.config_map is not None:
            yield from self._config_map(part.config_map, mode)
        elif part.secret is not None:
            yield from self._secret(part.secret, part.secret.name, mode)
        elif part.downward_api is not None:
            yield from self._told(part.downward_api.items, mode)

    def _config_map(
        self, source: kube.ConfigMapVolume | kube.ConfigMapProjection, mode: int
    ) -> Iterator[File]:
        found = _config_map(self._configs, source.name, self._path, optional=source.optional)
        return self._keyed(source, mode, found)

    def _secret(
        self, source: kube.SecretVolume | kube.SecretProjection, name: str, mode: int
    ) -> Iterator[File]:
        found = _secret(self._configs, name, self._path, optional=source.optional)
        return self._keyed(source, mode, found)

    def _keyed(self, source: _Keys, mode: int, data: Mapping[str, bytes] | None) -> Iterator[File]:
        if data is None:
            return
        if not source.items:  # an empty list says as little as none
            yield from (File(key, mode, content) for key, content in data.items())
            return
        for item in source.items:
            if item.key in data:
                yield File(item.path, mode if item.mode is None else item.mode, data[item.key])
            elif not source.optional:
                raise NotFound(f"{self._path}: there is no key {item.key!r}")

    def _told(self, items: Iterable[kube.DownwardAPIVolumeFile], mode: int) -> Iterator[File]:
        for item in items:
            if item.field_ref is not None:
                text = downward.field(self._pod, item.field_ref.field_path, self._facts)
            else:
                assert item.resource_field_ref is not None
                text = _resource(self._pod, item.resource_field_ref, self._facts)
            yield File(item.path, mode if item.mode is None else item.mode, text.encode())
