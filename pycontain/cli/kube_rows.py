"""Rows and words of ``kube get``, by value; columns and words are kubectl's.

Source: kubectl's printed columns, "Labels and Selectors" of Kubernetes' documentation.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.pod import reasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.model.kube_status import (
        ContainerState,
        ContainerStatus,
        DeploymentStatus,
        PodStatus,
    )
    from pycontain.pod.declared import Declared

SECOND = 1_000_000_000
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 31536000
_NONE = "<none>"


# ---- ages ----

_UNITS = (("y", _YEAR, "d", _DAY), ("d", _DAY, "h", _HOUR), ("h", _HOUR, "m", _MINUTE),
          ("m", _MINUTE, "s", 1))  # fmt: skip
_EXACT = {"y": 8 * _YEAR, "d": 8 * _DAY, "h": 8 * _HOUR, "m": 10 * _MINUTE}
"""Below this the smaller unit is said too."""
_FROM = {"y": 2 * _YEAR, "d": 2 * _DAY, "h": 3 * _HOUR, "m": 2 * _MINUTE}


def age(nanoseconds: int) -> str:
    """Return a duration as kubectl has it: ``90s``, ``5m10s``, ``7h3m``, ``2d``."""
    seconds = max(0, nanoseconds // SECOND)
    for unit, size, small, small_size in _UNITS:
        if seconds >= _FROM[unit]:
            rest = seconds % size // small_size if seconds < _EXACT[unit] else 0
            return f"{seconds // size}{unit}" + (f"{rest}{small}" if rest else "")
    return f"{seconds}s"


# ---- pods ----


class PodWord(NamedTuple):
    """What is said of a pod in one line.

    Attributes:
        ready: containers that are ready, of how many: ``1/2``.
        word: ``Running``, ``Init:0/1``, ``CrashLoopBackOff``, ``Completed`` …
    """

    ready: str
    word: str
    restarts: int


def pod_word(pod: kube.Pod, status: PodStatus, *, deleted: bool) -> PodWord:
    """Return how a pod is, in kubectl's words.

    Args:
        pod: as it was declared.
        status: of it.
        deleted: its removal was asked for.
    """
    sidecars = {one.name for one in pod.spec.init_containers if one.restart_policy == "Always"}
    lasting = [
        *(one for one in status.init_container_statuses if one.name in sidecars),
        *status.container_statuses,
    ]
    # Of one that is not scheduled there are no statuses.
    ready = f"{sum(one.ready for one in lasting)}/{len(pod.spec.containers) + len(sidecars)}"
    initializing = _init_word(status, sidecars)
    counted = status.init_container_statuses if initializing else lasting
    word = initializing or _main_word(status)
    if deleted and status.phase not in ("Succeeded", "Failed"):
        word = "Terminating"
    return PodWord(ready, word, sum(one.restart_count for one in counted))


def _init_word(status: PodStatus, sidecars: set[str]) -> str:
    """What a pod is that has not come to its own containers; empty: it has."""
    if status.reason or _is_true(status, "Initialized"):
        return ""
    total = len(status.init_container_statuses)
    for number, one in enumerate(status.init_container_statuses):
        if one.state.terminated is not None and not one.state.terminated.exit_code:
            continue
        if one.name in sidecars and one.started:
            continue
        if one.state.terminated is not None:
            return f"Init:{one.state.terminated.reason}"
        if one.state.waiting is not None and one.state.waiting.reason != "PodInitializing":
            return f"Init:{one.state.waiting.reason}"
        return _trouble(status) or f"Init:{number}/{total}"
    return ""


def _trouble(status: PodStatus) -> str:
    """Why none of the containers is made: one of them cannot be; empty: that is not so."""
    waiting = (one.state.waiting for one in status.container_statuses)
    words = (one.reason for one in waiting if one is not None)
    return next((word for word in words if word in reasons.OF_MAKING), "")


def _main_word(status: PodStatus) -> str:
    word, runs = status.reason or status.phase, False
    for one in reversed(status.container_statuses):
        if one.state.waiting is not None:
            word = one.state.waiting.reason
        elif one.state.terminated is not None:
            word = one.state.terminated.reason
        elif one.ready:
            runs = True
    if word == "ContainerCreating":
        word = _trouble(status) or word
    if word == "Completed" and runs:
        return "Running" if _is_true(status, "Ready") else "NotReady"
    return status.reason or word


def _is_true(status: PodStatus, kind: str) -> bool:
    return any(one.type == kind and one.status == "True" for one in status.conditions)


# ---- rows ----


class Table(NamedTuple):
    """Headings of a kind; those behind the first `narrow` are for ``-o wide``."""

    headings: tuple[str, ...]
    narrow: int


TABLES = {
    "Pod": Table(("NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"), 5),
    "Deployment": Table(
        ("NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"), 5
    ),
    "ConfigMap": Table(("NAME", "DATA", "AGE"), 3),
    "Secret": Table(("NAME", "TYPE", "DATA", "AGE"), 4),
    "PersistentVolumeClaim": Table(
        ("NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "AGE",
         "VOLUMEMODE"), 7,
    ),
}  # fmt: skip


def pod_row(declared: Declared, status: PodStatus, node: str, now: int) -> tuple[str, ...]:
    """Return the cells of a Pod."""
    said = pod_word(declared.pod, status, deleted=bool(declared.deleted))
    return (
        declared.name, said.ready, said.word, _restarts(said, status, now),
        age(now - declared.created),
        status.pod_ip or _NONE, node,
    )  # fmt: skip


def _restarts(said: PodWord, status: PodStatus, now: int) -> str:
    """How often, and how long ago the newest of the runs ended that were followed by another."""
    every = (*status.init_container_statuses, *status.container_statuses)
    ends = (one.last_state.terminated for one in every if one.restart_count)
    last = max((one.finished_at for one in ends if one is not None and one.finished_at), default="")
    if not said.restarts or not last:
        return str(said.restarts)
    import calendar

    seconds = calendar.timegm(time.strptime(last, "%Y-%m-%dT%H:%M:%SZ"))
    return f"{said.restarts} ({age(now - seconds * SECOND)} ago)"


def lasting(row: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Return the cells of a row without what changes as time goes by."""
    aging = TABLES[kind].headings.index("AGE")
    return tuple(
        cell.partition(" (")[0] if cell.endswith(" ago)") else cell
        for cell in (*row[:aging], *row[aging + 1 :])
    )


def deployment_row(
    declared: Declared, wanted: kube.Deployment, status: DeploymentStatus, now: int
) -> tuple[str, ...]:
    """Return the cells of a Deployment."""
    containers = wanted.spec.template.spec.containers
    return (
        declared.name,
        f"{status.ready_replicas}/{wanted.spec.replicas}",
        str(status.updated_replicas),
        str(status.available_replicas),
        age(now - declared.created),
        ",".join(one.name for one in containers),
        ",".join(one.image for one in containers),
        selector_text(wanted.spec.selector),
    )


def data_row(declared: Declared, now: int) -> tuple[str, ...]:
    """Return the cells of a ConfigMap or a Secret; of its data only how many there are."""
    one, old = declared.object, age(now - declared.created)
    if isinstance(one, kube.Secret):
        return declared.name, one.type, str(len({*one.data, *one.string_data})), old
    assert isinstance(one, kube.ConfigMap)
    return declared.name, str(len(one.data) + len(one.binary_data)), old


_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def claim_row(declared: Declared, *, bound: bool, now: int) -> tuple[str, ...]:
    """Return the cells of a PersistentVolumeClaim.

    Args:
        declared: it.
        bound: its volume is there.
        now: nanoseconds since the epoch.
    """
    assert isinstance(declared.object, kube.PersistentVolumeClaim)
    spec = declared.object.spec
    return (
        declared.name,
        "Bound" if bound else "Pending",
        declared.name if bound else "",
        str(spec.resources.requests.get("storage", "")) if bound else "",
        ",".join(_MODES[mode] for mode in spec.access_modes) if bound else "",
        spec.storage_class_name or "",
        age(now - declared.created),
        spec.volume_mode,
    )


def selector_text(selector: kube.LabelSelector) -> str:
    """Return a selector as ``-l`` takes it."""
    words = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for one in selector.match_expressions:
        values = f"({','.join(one.values)})"
        said = {
            "In": f"{one.key} in {values}",
            "NotIn": f"{one.key} notin {values}",
            "Exists": one.key,
            "DoesNotExist": f"!{one.key}",
        }
        words.append(said[one.operator])
    return ",".join(words) or _NONE


# ---- selectors ----

_KEY = r"(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9][A-Za-z0-9_.-]*"
_VALUE = r"[A-Za-z0-9_.-]*"
_TERM = re.compile(
    rf"\s*(?:(?P<key>{_KEY})\s*(?P<sign>==|=|!=)\s*(?P<value>{_VALUE})"
    rf"|(?P<listed>{_KEY})\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)"
    rf"|(?P<not>!?)\s*(?P<there>{_KEY}))\s*(?:,|\Z)"
)


def selector(text: str) -> kube.LabelSelector:
    """Read ``-l``: ``app=web,tier!=db,stage in (a,b),new,!old``.

    Raises:
        InvalidInput: it is none.
    """
    at, rules = 0, []
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or (text[match.end() - 1] == "," and match.end() == len(text)):
            raise InvalidInput(
                f"{text!r} is no selector", "selectors look like app=web,tier!=db,stage in (a,b)"
            )
        rules.append(_rule(match))
        at = match.end()
    return kube.LabelSelector(match_expressions=tuple(rules))


def _rule(match: re.Match[str]) -> kube.LabelSelectorRequirement:
    if match["key"]:
        return kube.LabelSelectorRequirement(
            key=match["key"], operator="NotIn" if match["sign"] == "!=" else "In",
            values=(match["value"],),
        )  # fmt: skip
    if match["listed"]:
        values = tuple(word.strip() for word in match["values"].split(","))
        return kube.LabelSelectorRequirement(
            key=match["listed"], operator="In" if match["word"] == "in" else "NotIn", values=values
        )
    return kube.LabelSelectorRequirement(
        key=match["there"], operator="DoesNotExist" if match["not"] else "Exists"
    )


# ---- words of a description ----


def state_lines(state: ContainerState) -> Sequence[tuple[str, str]]:
    """Return what is known of a container's state: name and text, the state's own name first."""
    if state.running is not None:
        return [("", "Running"), ("Started", state.running.started_at or "")]
    if state.waiting is not None:
        return [
            ("", "Waiting"), ("Reason", state.waiting.reason), ("Message", state.waiting.message),
        ]  # fmt: skip
    if state.terminated is not None:
        ended = state.terminated
        return [
            ("", "Terminated"),
            ("Reason", ended.reason),
            ("Message", ended.message),
            ("Exit Code", str(ended.exit_code)),
            ("Signal", str(ended.signal or "")),
            ("Started", ended.started_at or ""),
            ("Finished", ended.finished_at or ""),
        ]
    return []


def by_name(statuses: Iterable[ContainerStatus]) -> Mapping[str, ContainerStatus]:
    """Return statuses by the containers' names."""
    return {one.name: one for one in statuses}
