"""What one value of a manifest has to be: names, labels, paths, addresses; and how it is refused.

What is refused, with ``InvalidInput``, is named by its path: ``spec.containers[0].image``.

Source: "Object Names and IDs", "Labels and Selectors" of Kubernetes' documentation.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pycontain.model import kube


_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_VARIABLE = re.compile(r"[!-<>-~ ]+\Z")


def check(path: str, ok: object, what: str, hint: str | None = None) -> None:
    """Refuse the value at a path unless it is in order."""
    if not ok:
        raise InvalidInput(f"{path}: {what}", hint)


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Say of what is refused where it is."""
    try:
        yield
    except InvalidInput as err:
        raise InvalidInput(f"{place}: {err.message}", err.hint) from err


def path_text(path: Iterable[str | int]) -> str:
    """Return a path as it is written: ``spec.containers[0].env``."""
    return "".join(map(step_text, path)).removeprefix(".")


def step_text(one: str | int) -> str:
    """Return one step of a path with what joins it to those before: ``.name``, ``[0]``."""
    return f".{one}" if isinstance(one, str) and re.match(r"[\w-]+\Z", one) else f"[{one!r}]"


def check_label(path: str, name: str) -> None:
    """Refuse what is no DNS-1123 label."""
    hint = "lower case letters, digits and - within, at most 63"
    check(path, _LABEL.match(name), f"{name!r} is no DNS-1123 label", hint)


def check_subdomain(path: str, name: str) -> None:
    """Refuse what is no DNS-1123 subdomain."""
    hint = "lower case letters, digits, - and . within, at most 253"
    good = len(name) <= 253 and _SUBDOMAIN.match(name)
    check(path, good, f"{name!r} is no DNS-1123 subdomain", hint)


def check_volume_name(path: str, name: str) -> None:
    """Refuse what is an object's name and none of a volume of pycontain."""
    check(path, len(name) > 1, f"{name!r}: is one character only, which no volume can be")


def check_unique(path: str, names: Iterable[object]) -> None:
    """Refuse names of which one is there twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    check(path, not twice, f"{twice[0] if twice else ''!s} is there twice")


def check_address(path: str, address: str) -> None:
    """Refuse what is no address of IPv4 or IPv6."""
    import ipaddress

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidInput(f"{path}: {address!r} is no address") from None


def check_text(path: str, text: str) -> None:
    """Refuse what no argument and no variable of a process can hold."""
    check(path, "\0" not in text, "has a NUL byte")


def check_metadata(path: str, metadata: kube.ObjectMeta) -> None:
    """Refuse a namespace, labels and annotations that are none."""
    if metadata.namespace is not None:
        check_label(f"{path}.namespace", metadata.namespace)
    check_labels(f"{path}.labels", metadata.labels)
    for key in metadata.annotations:
        check_qualified(f"{path}.annotations[{key!r}]", key)


def check_labels(path: str, labels: Mapping[str, str]) -> None:
    """Refuse labels of which a key or a value is none."""
    for key, value in labels.items():
        check_qualified(f"{path}[{key!r}]", key)
        good = not value or _WORD.match(value)
        check(f"{path}[{key!r}]", good, f"{value!r} is no value of a label")


def check_qualified(path: str, key: str) -> None:
    """Refuse what is no key of a label or an annotation."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        check_subdomain(path, prefix)
    check(path, _WORD.match(name), f"{key!r} is no key: [PREFIX/]NAME")


def is_label(name: str) -> bool:
    """Return whether this is a DNS-1123 label: what containers, volumes and hosts are called."""
    return _LABEL.match(name) is not None


def is_subdomain(name: str) -> bool:
    """Return whether this is a DNS-1123 subdomain: what objects are called."""
    return len(name) <= 253 and _SUBDOMAIN.match(name) is not None


def is_variable(name: str) -> bool:
    """Return whether a variable of the environment can be called so."""
    return _VARIABLE.match(name) is not None


def is_metadata(metadata: kube.ObjectMeta) -> bool:
    """Return whether labels and annotations are such."""
    try:
        check_metadata("metadata", metadata)
    except InvalidInput:
        return False
    return True


def check_path(path: str, place: str) -> None:
    """Refuse what is no path of a file within a volume."""
    check_relative(path, place)
    plain = all(part not in ("", ".") for part in place.split("/"))
    check(path, plain, f"{place!r} has an empty part, or .")


def check_relative(path: str, place: str) -> None:
    """Refuse what leads out of the folder that it is in."""
    parts = place.split("/")
    good = place and parts[0] and ".." not in parts and not place.startswith("..")
    check(path, good, f"{place!r} is not relative, or has ..")
    check_text(path, place)
