"""``kube``: play and down, pods as Kubernetes declares them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Verb, switch
from pycontain.cli.pod import FAILURE, pods
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.model import kube
    from pycontain.pod.manifest import Parsed
    from pycontain.pod.play import Around, Planned


def _parsed(path: str, *, strict: bool) -> Parsed:
    from pycontain.pod import documents, manifest

    return manifest.parse(_text(path, documents.TEXT_LIMIT), strict=strict)


def _text(path: str, most: int) -> str:
    """Return what is in a file, or on standard input.

    Raises:
        InvalidInput: it cannot be read, is larger than `most`, or no text.
    """
    try:
        if path != "-":
            with open(path, "rb") as file:
                data = file.read(most + 1)
        elif sys.stdin is None:
            data = b""
        else:
            data = sys.stdin.buffer.read(most + 1)
    except OSError as err:
        raise InvalidInput(f"read {path}: {(err.strerror or str(err)).lower()}") from err
    if len(data) > most:
        raise InvalidInput(f"read {path}: larger than {most} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        raise InvalidInput(f"read {path}: not valid utf-8") from err


def _pods_of(parsed: Parsed, path: str) -> Sequence[kube.Pod]:
    from pycontain.model import kube

    found = [item for item in parsed.objects if isinstance(item, kube.Pod)]
    if not found:
        raise InvalidInput(f"{path}: there is no Pod in it")
    return found


def _around(app: App) -> Around:
    from pycontain.cli.run_options import default_network
    from pycontain.network import choice
    from pycontain.pod.play import Around

    settings = app.settings
    mode, networks = choice.resolve((), default_network(settings))
    defaults = settings.for_containers()
    return Around(
        network=mode, networks=networks, publish_address=settings.publish_address or "",
        shm_size=settings.shm_size,
        defaults={name: value for name, value in defaults.items() if name != "shm_size"},
    )  # fmt: skip


# ---- play ----


def _play(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.pod.play import plan

    (path,) = arguments
    parsed = _parsed(path, strict=values["strict"])
    around = _around(app)
    planned = [plan(pod, parsed.objects, around) for pod in _pods_of(parsed, path)]
    for field in parsed.ignored:
        streams.complain(f"pycontain: {field}: not supported, ignored\n")
    if values["dry-run"]:
        for one in planned:
            streams.write(f"pod/{one.pod.name} created (dry run)\n")
        return 0
    _play_all(app, planned, replace=values["replace"])
    return 0


def _play_all(app: App, planned: Sequence[Planned], *, replace: bool) -> None:
    from pycontain.cli.progress import Shown
    from pycontain.cli.run import progress
    from pycontain.pod.play import Player

    for one in planned:
        with Shown("pull", quiet=False, error=True) as shown:
            player = Player(app.engine, pods(app), progress=progress, report=shown.report)
            played = player.play(one, replace_old=replace)
        heading = "Container:" if len(played.containers) == 1 else "Containers:"
        lines = ("Pod:", played.pod, heading, *played.containers, "")
        streams.write("".join(f"{line}\n" for line in lines))


# ---- down ----


def _down(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.pod.play import Player

    (path,) = arguments
    names = [pod.name for pod in _pods_of(_parsed(path, strict=False), path)]
    player = Player(app.engine, pods(app))
    gone: list[str] = []

    def act(name: str) -> None:
        if (identity := player.down(name)) is not None:
            gone.append(identity)

    code = app.each(names, act)
    lines = ("Pods stopped:", *gone, "Pods removed:", *gone)
    streams.write("".join(f"{line}\n" for line in lines))
    return FAILURE if code else 0


PLAY = Verb(
    "play",
    "[OPTIONS] FILE|-",
    "Start the pods that a Kubernetes manifest declares",
    _play,
    flags=(
        switch("dry-run", "say what would be made, and make nothing"),
        switch("replace", "stop and remove pods that were played and have the same names"),
        switch("strict", "refuse fields that pycontain does nothing with"),
    ),
    least=1,
    most=1,
    failure=FAILURE,
    examples=(
        ("pycontain play web.yaml", "its pods, with its ConfigMaps and Secrets"),
        ("pycontain play --replace -", "from standard input, in place of those of before"),
    ),
)

APPLY = Verb(
    "apply",
    PLAY.usage,
    PLAY.summary,
    _play,
    flags=PLAY.flags,
    least=1,
    most=1,
    failure=FAILURE,
    examples=(("pycontain apply web.yaml", "the same as play"),),
)

DOWN = Verb(
    "down",
    "FILE|-",
    "Stop and remove the pods that a Kubernetes manifest declares",
    _down,
    least=1,
    most=1,
    failure=FAILURE,
    examples=(("pycontain down web.yaml", "volumes that have names stay"),),
)
