"""``manifest``: lists of images, made here and sent to registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, pair, switch

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.manifests import Details, Document

_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


_DETAILS = (
    Flag("annotation", "say NAME=VALUE of it in the list", kind="list", metavar="name=value",
         convert=pair),
    Flag("arch", "the architecture that it is for, as arm64", metavar="architecture"),
    Flag("os", "the system that it is for, as linux", metavar="system"),
    Flag("os-features", "what the system has to have, between commas", kind="list",
         metavar="features", convert=_words),
    Flag("os-version", "the version of the system", metavar="version"),
    Flag("variant", "the variant of the architecture, as v7", metavar="variant"),
)  # fmt: skip
_EVERY = switch("all", "of a list, all that it has, not that for this machine alone")


def _details(values: Values) -> Details:
    from pycontain.engine.manifests import Details

    features = tuple(word for words in values["os-features"] for word in words)
    return Details(
        architecture=values["arch"],
        os=values["os"],
        variant=values["variant"],
        os_version=values["os-version"],
        os_features=features or None,
        annotations=dict(values["annotation"]),
    )


def _create(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.image import reference

    name, *images = arguments
    app.engine.manifests.create(name, images, every=values["all"], amend=values["amend"])
    canonical = reference.parse(reference.parse(name).local).canonical
    streams.write(f"Created manifest list {canonical}\n")
    return 0


def _add(app: App, values: Values, arguments: list[str]) -> int:
    name, image = arguments
    listed = app.engine.manifests.add(name, image, every=values["all"], details=_details(values))
    streams.write(f"{listed.digest}\n")
    return 0


def _annotate(app: App, values: Values, arguments: list[str]) -> int:
    name, image = arguments
    app.engine.manifests.annotate(name, image, _details(values))
    return 0


def _remove(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    streams.write(f"{app.engine.manifests.remove(*arguments).digest}\n")
    return 0


def _rm(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    def act(name: str) -> None:
        listed = app.engine.manifests.delete(name)
        lines = [f"Untagged: {known}" for known in (*listed.names, *listed.digests)]
        streams.write("".join(f"{line}\n" for line in (*lines, f"Deleted: {listed.digest}")))

    return app.each(arguments, act)


def _exists(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return 0 if app.engine.manifests.exists(arguments[0]) else 1


def _inspect(app: App, values: Values, arguments: list[str]) -> int:
    name, *member = arguments
    if not values["verbose"]:
        found = app.engine.manifests.inspect(name, *member)
        streams.write(_indented(_parsed(found)))
        return 0
    if member:
        streams.write(_indented(_verbose(app.engine.manifests.inspect(name, *member))))
        return 0
    from pycontain.image import documents

    whole = app.engine.manifests.inspect(name)
    if whole.media_type not in documents.INDEXES:
        streams.write(_indented(_verbose(whole)))
        return 0
    found_all = app.engine.manifests.inspect_members(name)
    streams.write(_indented([_verbose(one) for one in found_all]))
    return 0


def _parsed(document: Document) -> Any:
    import json

    return json.loads(document.data)


def _indented(value: Any) -> str:
    """Return JSON as docker's manifest verbs write it."""
    import json

    return json.dumps(value, indent="\t", ensure_ascii=False) + "\n"


def _verbose(document: Document) -> dict[str, Any]:
    import base64

    import msgspec

    platform = document.platform
    descriptor = {
        "mediaType": document.media_type,
        "digest": document.digest,
        "size": len(document.data),
        **({"platform": msgspec.to_builtins(platform)} if platform else {}),
    }
    key = "SchemaV2Manifest" if document.media_type == _DOCKER_MANIFEST else "OCIManifest"
    return {
        "Ref": document.name,
        "Descriptor": descriptor,
        "Raw": base64.b64encode(document.data).decode("ascii"),
        key: _parsed(document),
    }


def _push(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.cli.progress import Shown
    from pycontain.image import reference

    quiet = values["quiet"]
    with Shown("push", quiet=quiet) as shown:
        sent = app.engine.manifests.push(*arguments, purge=values["purge"], report=shown.report)
    if not quiet:
        repository = reference.parse(sent.name).name
        for digest in sent.members:
            streams.write(f"Pushed ref {repository}@{digest} with digest: {digest}\n")
    streams.write(f"{sent.digest}\n")
    return 0


CREATE = Verb(
    "create",
    "[OPTIONS] LIST [IMAGE...]",
    "Make a list of images",
    _create,
    flags=(
        _EVERY,
        switch("amend", "where there is such a list, put the images into it", short="a"),
    ),
    least=1,
    examples=(
        ("pycontain manifest create reg.io/app:1 reg.io/app:1-amd64 reg.io/app:1-arm64",
         "of what the registry has; it fetches the manifests alone"),
        ("pycontain manifest create app:1", "an empty one"),
    ),
)  # fmt: skip

ADD = Verb(
    "add",
    "[OPTIONS] LIST IMAGE",
    "Put an image into a list",
    _add,
    flags=(_EVERY, *_DETAILS),
    least=2,
    most=2,
    examples=(
        ("pycontain manifest add app:1 app:1-arm64", "of the store, or else of its registry"),
        ("pycontain manifest add app:1 docker://debian --all", "all of a registry's list"),
    ),
)

ANNOTATE = Verb(
    "annotate",
    "[OPTIONS] LIST IMAGE|DIGEST",
    "Say something else of an image in a list",
    _annotate,
    flags=_DETAILS,
    least=2,
    most=2,
    examples=(("pycontain manifest annotate --variant v7 app:1 app:1-arm", "what it is for"),),
)

REMOVE = Verb(
    "remove",
    "LIST IMAGE|DIGEST",
    "Take an image out of a list",
    _remove,
    least=2,
    most=2,
    examples=(("pycontain manifest remove app:1 app:1-arm", "by the name it came in with"),),
)

RM = Verb(
    "rm",
    "LIST [LIST...]",
    "Remove lists; images that are in the store stay there",
    _rm,
    least=1,
    examples=(("pycontain manifest rm app:1", "all of its names"),),
)

EXISTS = Verb(
    "exists",
    "LIST",
    "Tell by the exit code whether there is such a list",
    _exists,
    least=1,
    most=1,
    examples=(("pycontain manifest exists app:1 || echo no", "0: there is; 1: there is none"),),
)

INSPECT = Verb(
    "inspect",
    "[OPTIONS] [LIST] IMAGE",
    "Show a list, or an image's manifest, of the store or else of its registry",
    _inspect,
    flags=(switch("verbose", "with each manifest of a list, and where it is from", short="v"),),
    least=1,
    most=2,
    examples=(
        ("pycontain manifest inspect docker://debian:bookworm", "the registry's"),
        ("pycontain manifest inspect app:1 app:1-arm", "one that is in a list"),
    ),
)

PUSH = Verb(
    "push",
    "[OPTIONS] LIST [DESTINATION]",
    "Send a list to its registry, with the images that are in it",
    _push,
    flags=(
        switch("purge", "remove the list afterwards", short="p"),
        switch("quiet", "print the digest alone", short="q"),
    ),
    least=1,
    most=2,
    examples=(
        ("pycontain manifest push reg.io/app:1", "what is there is not sent again"),
        ("pycontain manifest push --purge app:1 reg.io/app:1", "under another name, and forget it"),
    ),
)
