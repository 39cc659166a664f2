"""``kube``: play, apply, down, delete: what Kubernetes' manifests declare, kept on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, UsageError, Verb, switch, wait_seconds
from pycontain.cli.pod import FAILURE
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.model import kube
    from pycontain.pod.declared import Declarations
    from pycontain.pod.manifest import Parsed
    from pycontain.pod.play import Applied, Kube

_GROUPS = {"Deployment": "deployment.apps"}


def declared(app: App) -> Kube:
    """Return what is declared in the command's store."""
    from pycontain.pod.play import Kube

    return Kube(app.engine)


def title(kind: str, name: str) -> str:
    """Return how an object is called in lists: ``pod/web``, ``deployment.apps/web``."""
    return f"{_GROUPS.get(kind, kind.lower())}/{name}"


def _parsed(path: str, *, strict: bool) -> Parsed:
    from pycontain.pod import documents, manifest

    file = "standard input" if path == "-" else path
    text = _text(path, file, documents.TEXT_LIMIT)
    try:
        parsed = manifest.parse(text, strict=strict)
    except InvalidInput as err:
        raise InvalidInput(f"{file}: {err.message}", err.hint) from err
    if not parsed.objects:
        raise InvalidInput(f"{file}: there is no object in it")
    return parsed


def _text(path: str, called: str, most: int) -> str:
    """Return what is in a file, or on standard input.

    Args:
        path: ``-`` is standard input.
        called: what it is called in an error.
        most: so many bytes.

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
        reason = (err.strerror or str(err)).lower()
        raise InvalidInput(f"read {called}: {reason}", _way(path, err)) from err
    if len(data) > most:
        raise InvalidInput(f"read {called}: larger than {most} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        raise InvalidInput(f"read {called}: not valid utf-8") from err


def _way(path: str, err: OSError) -> str | None:
    """How what is no file is read: kubectl takes addresses and folders too."""
    if isinstance(err, IsADirectoryError):
        return "give the files in it one by one"
    if path.startswith(("http://", "https://")):
        import shlex

        return f"give - as FILE: curl -fsSL {shlex.quote(path)} | pycontain kube … -"
    return None


# ---- play and apply ----


def _play(app: App, values: Values, arguments: list[str]) -> int:
    applied = _begin(app, values, arguments[0], update=False)
    for one in applied:
        if one.pod:
            _tell_pod(one)
        else:
            _tell_change(one)
    return _await(app, values, applied)


def _apply(app: App, values: Values, arguments: list[str]) -> int:
    given = values["filename"]
    paths = [*arguments, *([] if given is None else [given])]
    if len(paths) != 1:
        raise UsageError("'pycontain kube apply' requires 1 argument", code=1)
    applied = _begin(app, values, paths[0], update=True)
    for one in applied:
        _tell_change(one)
    return _await(app, values, applied)


def _begin(app: App, values: Values, path: str, *, update: bool) -> list[Applied]:
    from pycontain.pod import claims

    parsed = _parsed(path, strict=values["strict"])
    for field in parsed.ignored:
        streams.complain(f"pycontain: {field}: not supported, ignored\n")
    for field in claims.unenforced(parsed.objects):
        streams.complain(f"pycontain: {field}: noted, not enforced\n")
    if values["dry-run"]:
        again = not update and values["replace"]
        declared(app).check(parsed.objects, replace_old=again)
        _tell_dry(app, parsed.objects, again=again)
        return []
    from pycontain.cli.progress import Shown
    from pycontain.cli.run import progress

    with Shown("pull", quiet=False, error=True) as shown:
        if update:
            return declared(app).apply(parsed.objects, progress=progress, report=shown.report)
        return declared(app).play(
            parsed.objects, replace_old=values["replace"], progress=progress, report=shown.report
        )


def _tell_dry(app: App, objects: Sequence[kube.Object], *, again: bool) -> None:
    from pycontain.pod.declared import Declarations

    declarations = Declarations(app.engine.layout)
    for one in objects:
        made = again and one.kind in ("Pod", "Deployment")
        change = "created" if made else _change(declarations, one)
        streams.write(f"{title(one.kind, one.name)} {change} (dry run)\n")


def _change(declarations: Declarations, one: kube.Object) -> str:
    """What would come of an object, as ``Declarations.apply`` says it."""
    from pycontain.pod import normal

    known = declarations.find_whole(one.kind, one.name)
    if known is None:
        return "created"
    same = not known.deleted and normal.same(known.object, one)
    return "unchanged" if same else "configured"


def _tell_pod(one: Applied) -> None:
    heading = "Container:" if len(one.containers) == 1 else "Containers:"
    lines = ("Pod:", one.pod, heading, *one.containers, "")
    streams.write("".join(f"{line}\n" for line in lines))


def _tell_change(one: Applied) -> None:
    streams.write(f"{title(one.declared.kind, one.declared.name)} {one.change}\n")


def _await(app: App, values: Values, applied: Sequence[Applied]) -> int:
    if values["wait"]:
        names = [(one.declared.kind, one.declared.name) for one in applied]
        limit = values["timeout"]
        declared(app).await_ready(names, timeout=None if limit < 0 else limit)
    return 0


# ---- down and delete ----


def _down(app: App, values: Values, arguments: list[str]) -> int:
    _take_down(app, arguments[0], force=values["force"])
    return 0


def _take_down(app: App, path: str, *, force: bool) -> None:
    objects = _parsed(path, strict=False).objects
    for one in declared(app).down(objects, force=force):
        streams.write(f"{title(one.kind, one.name)} deleted\n")


_KINDS = {
    "po": "Pod", "pod": "Pod", "pods": "Pod",
    "deploy": "Deployment", "deployment": "Deployment", "deployments": "Deployment",
    "deployment.apps": "Deployment", "deployments.apps": "Deployment",
    "cm": "ConfigMap", "configmap": "ConfigMap", "configmaps": "ConfigMap",
    "secret": "Secret", "secrets": "Secret",
    "pvc": "PersistentVolumeClaim", "persistentvolumeclaim": "PersistentVolumeClaim",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}  # fmt: skip


def kind_of(word: str) -> str:
    """Return the kind that a word of kubectl's names: ``po``, ``pods``, ``deployment.apps``.

    Raises:
        InvalidInput: none.
    """
    try:
        return _KINDS[word.lower()]
    except KeyError:
        raise InvalidInput(
            f"there is no kind {word!r}", "pod, deployment, configmap, secret, pvc"
        ) from None


def named(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the objects that ``KIND NAME...`` or ``KIND/NAME...`` names.

    Raises:
        InvalidInput: there is no such kind, or no name.
    """
    if any("/" in word for word in arguments):
        pairs = [word.partition("/") for word in arguments]
        if not all(kind and name for kind, _, name in pairs):
            raise InvalidInput("give KIND/NAME each time, or KIND and names")
        return [(kind_of(kind), name) for kind, _, name in pairs]
    kind, *names = arguments
    if not names:
        raise InvalidInput(f"name of the {kind_of(kind)}: none was given")
    return [(kind_of(kind), name) for name in names]


def _delete(app: App, values: Values, arguments: list[str]) -> int:
    path = values["filename"]
    if (path is None) != bool(arguments):
        raise UsageError("'pycontain kube delete' requires names, or a file", code=1)
    if path is not None:
        _take_down(app, path, force=False)
        return 0
    wanted = {title(*one): one for one in named(arguments)}

    def act(shown: str) -> None:
        declared(app).delete(*wanted[shown])
        streams.write(f"{shown} deleted\n")

    return FAILURE if app.each(list(wanted), act) else 0


_FILENAME = Flag("filename", "the file, as kubectl has it", short="f", metavar="file")

_PLAY_FLAGS = (
    switch("dry-run", "say what would be declared, and declare nothing"),
    switch("strict", "refuse fields that pycontain does nothing with"),
    switch("wait", "return when all of it is ready, or say why it is not going to be"),
    Flag(
        "timeout",
        "seconds that --wait takes at most, -1 for ever (the default)",
        metavar="seconds",
        convert=wait_seconds,
        default=-1,
    ),
)

PLAY = Verb(
    "play",
    "[OPTIONS] FILE|-",
    "Declare what a Kubernetes manifest says, and keep it so",
    _play,
    flags=(
        *_PLAY_FLAGS,
        switch("replace", "take down first what is declared under the same names"),
    ),
    least=1,
    most=1,
    failure=FAILURE,
    examples=(
        ("pycontain kube play web.yaml", "its pods, with its ConfigMaps and Secrets"),
        ("pycontain kube play --replace --wait -", "in place of those of before, until ready"),
    ),
)

APPLY = Verb(
    "apply",
    "[OPTIONS] FILE|-",
    "Declare what a Kubernetes manifest says, in place of what was declared before",
    _apply,
    flags=(_FILENAME, *_PLAY_FLAGS),
    most=1,
    failure=FAILURE,
    examples=(("pycontain kube apply web.yaml", "only what has changed is changed"),),
)

DOWN = Verb(
    "down",
    "[OPTIONS] FILE|-",
    "Take back what a Kubernetes manifest declares",
    _down,
    flags=(switch("force", "remove the volumes of its claims, with what is in them"),),
    least=1,
    most=1,
    failure=FAILURE,
    examples=(("pycontain kube down web.yaml", "volumes that have names stay"),),
)

DELETE = Verb(
    "delete",
    "[OPTIONS] KIND NAME...|KIND/NAME...",
    "Take back what is declared",
    _delete,
    flags=(_FILENAME,),
    failure=FAILURE,
    examples=(
        ("pycontain kube delete pod web", "the pod ends, and does not come back"),
        ("pycontain kube delete deploy/web cm/settings", "of several kinds"),
        ("pycontain kube delete -f web.yaml", "the same as kube down web.yaml"),
    ),
)
