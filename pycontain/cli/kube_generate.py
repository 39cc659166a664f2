"""``kube generate``: Kubernetes' documents of what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pycontain.cli import streams
from pycontain.cli.flags import Flag, UsageError, Verb, integer
from pycontain.cli.pod import FAILURE, pods
from pycontain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.containers import View
    from pycontain.model import kube
    from pycontain.model.container import Container
    from pycontain.pod.generate import Generated
    from pycontain.pod.plan import Around
    from pycontain.pod.pods import PodView

_KINDS = ("pod", "deployment")


def _kind(text: str) -> str:
    if text not in _KINDS:
        raise InvalidInput(f"there are {' and '.join(_KINDS)}")
    return text


def _replicas(text: str) -> int:
    number = integer(text)
    if number < 1:
        raise InvalidInput("must be 1 or more")
    return number


class _Found(NamedTuple):
    """What the names of a command line stand for."""

    pods: Sequence[PodView]
    containers: Sequence[View]


def _found(app: App, names: Sequence[str]) -> _Found:
    several = pods(app)
    known: dict[str, PodView] = {}
    loose: dict[str, View] = {}
    for name in names:
        if several.exists(name):
            view = several.get(name)
            known[view.pod.id] = view
            continue
        try:
            container = app.engine.containers.get(name)
        except NotFound as err:
            raise NotFound(f"no container or pod with name or ID {name} found") from err
        if container.container.options.pod:
            raise InvalidInput(f"generate: container {name} is in a pod", "name the pod")
        loose[container.container.id] = container
    return _Found(tuple(known.values()), tuple(loose.values()))


def _generate(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.pod import writing

    deploys = values["type"] == "deployment"
    if values.given("replicas") and not deploys:
        raise UsageError("--replicas is for --type deployment")
    found = _found(app, arguments)
    made = [*_of_pods(app, found.pods), *_of_containers(app, found.containers)]
    objects, left_out = _joined(made)
    if deploys:
        objects, more = _deployed(objects, values["replicas"])
        left_out += more
    text = writing.text(map(writing.document, objects), _comments(left_out))
    _check(text)
    _write(text, values["filename"])
    return 0


def _of_pods(app: App, views: Sequence[PodView]) -> Iterable[Generated]:
    from pycontain.pod import generate

    for view in views:
        declared = _declared(app, view)
        if declared is not None:
            yield declared
            continue
        members = [one.container for one in view.members]
        ports = {view.pod.id: pods(app).ports(view)}
        source = generate.Source(view.pod, members, ports, _labels(app, members))
        yield generate.generate(source, _around(app))


def _of_containers(app: App, views: Sequence[View]) -> Iterable[Generated]:
    from pycontain.pod import generate

    if views:
        several = [one.container for one in views]
        ports = {one.id: app.engine.containers.ports(one.id) for one in several}
        source = generate.Source(None, several, ports, _labels(app, several))
        yield generate.generate(source, _around(app))


def _labels(app: App, several: Iterable[Container]) -> dict[str, Mapping[str, str]]:
    """The labels of the volumes that have names."""
    mounts = (mount for one in several for mount in one.mounts or one.options.mounts)
    names = {mount.source for mount in mounts if mount.type == "volume" and not mount.anonymous}
    known = app.engine.volumes
    return {name: known.get(name).labels for name in names if name and known.exists(name)}


def _around(app: App) -> Around:
    from pycontain.pod.keeper import Keeper

    return Keeper(app.engine).around()


def _declared(app: App, view: PodView) -> Generated | None:
    """What a pod was declared as, with the objects that it names; None: it was not declared."""
    from pycontain.model.container import UID_LABEL
    from pycontain.model.kube import Pod
    from pycontain.pod import generate
    from pycontain.pod.declared import Declarations

    declarations = Declarations(app.engine.layout)
    found = declarations.find("Pod", view.pod.name)
    if found is None or view.pod.labels.get(UID_LABEL) != found.uid:
        return None
    assert isinstance(found.object, Pod)
    objects: list[kube.Object] = []
    left_out: list[str] = []
    for kind, name in generate.named(found.object):
        other = declarations.find(kind, name)
        if other is not None and kind != "Secret":
            objects.append(other.object)
        elif other is not None:
            left_out.append(f"{kind}/{name}: see pycontain kube get secret {name} -o yaml")
    return generate.Generated((*objects, found.object), tuple(left_out))


def _joined(made: Iterable[Generated]) -> tuple[list[kube.Object], list[str]]:
    """All documents, each once: pods may have a volume together."""
    objects: dict[tuple[str, str], kube.Object] = {}
    left_out: dict[str, None] = {}
    for one in made:
        for item in one.objects:
            known = objects.setdefault((item.kind, item.name), item)
            if known != item:
                raise InvalidInput(f"generate: two of them come to {item.kind}/{item.name}")
        left_out.update(dict.fromkeys(one.left_out))
    return list(objects.values()), list(left_out)


def _deployed(objects: Iterable[kube.Object], replicas: int) -> tuple[list[kube.Object], list[str]]:
    from pycontain.model.kube import Pod
    from pycontain.pod import generate

    found: list[kube.Object] = []
    left_out: list[str] = []
    for one in objects:
        if not isinstance(one, Pod):
            found.append(one)
            continue
        made, more = generate.deployment(one, replicas)
        found.append(made)
        left_out += more
    return found, left_out


def _comments(left_out: Sequence[str]) -> list[str]:
    return ["Not in this manifest:", *(f"  {one}" for one in left_out)] if left_out else []


def _check(text: str) -> None:
    """See that what was generated can be played.

    Raises:
        InvalidInput: it cannot: the options contradict each other to Kubernetes.
    """
    from pycontain.pod import manifest

    try:
        manifest.parse(text)
    except InvalidInput as err:
        raise InvalidInput(f"generate: {err.message}", err.hint) from err


def _write(text: str, path: str | None) -> None:
    if path in (None, "-"):
        streams.write(text)
        return
    try:
        with open(str(path), "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise InvalidInput(f"write {path}: {reason}") from err


_FLAGS: tuple[Any, ...] = (
    Flag("filename", "write to this file, which must not be there", short="f", metavar="file"),
    Flag(
        "replicas",
        "how many pods a deployment is to have",
        short="r",
        metavar="n",
        convert=_replicas,
        default=1,
    ),
    Flag(
        "type",
        "pod or deployment",
        short="t",
        metavar="|".join(_KINDS),
        convert=_kind,
        default="pod",
    ),
)

GENERATE = Verb(
    "generate",
    "[OPTIONS] CONTAINER|POD [CONTAINER|POD...]",
    "Write a Kubernetes manifest of containers and pods",
    _generate,
    flags=_FLAGS,
    least=1,
    failure=FAILURE,
    examples=(
        ("pycontain generate web", "a Pod, and claims for its volumes"),
        ("pycontain generate -f web.yaml server cache", "of two containers one Pod, to a file"),
        ("pycontain generate --type deployment -r 3 web", "three of it, kept"),
    ),
)
