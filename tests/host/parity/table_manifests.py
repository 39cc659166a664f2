"""Rows: lists of images."""

from __future__ import annotations

from .rows import Row, Said, scene

_PODMANS = "docker has no such verb, podman has"
_ADDED = "docker has no such flag"
_TOLD = "docker tells nothing"
_ANY = Said(125, out=..., err="unknown flag")
_DETAILS = "--arch arm --os linux --variant v7 --os-version 1 --os-features a"
_NONE = Said(..., out=..., err=...)


def _both(line: str, **more: bool | str) -> Row:
    """A row that docker wants ``--insecure`` for."""
    noun, verb, rest = line.split(" ", 2)
    return Row(line, docker=f"{noun} {verb} --insecure {rest}", **more)  # type: ignore[arg-type]


_MANIFEST = scene(
    "manifest",
    "tag busybox @repo/part:1",
    "tag tooled @repo/part:2",
    "push -q @repo/part:1",
    "push -q @repo/part:2",
    _both("manifest create @repo/list:1 @repo/part:1"),
    _both("manifest create @repo/list:1 @repo/part:2", err="--amend"),
    _both("manifest create --amend @repo/list:1 @repo/part:2"),
    _both("manifest create -a @repo/list:1 @repo/part:2"),
    _both("manifest create @repo/other:1 @repo/nosuch:1", err="no"),
    "manifest annotate --arch arm64 --os linux --variant v8 @repo/list:1 @repo/part:2",
    "manifest annotate @repo/list:1 @repo/part:2 --os-features a,b --os-features c",
    Row("manifest annotate --variant v8 @repo/list:1 @repo/nosuch:1", err="not"),
    Row("manifest annotate --variant v8 @repo/nosuch:1 @repo/part:1", err="no"),
    _both("manifest inspect @repo/list:1", any_out=True),
    _both("manifest inspect @repo/list:1 @repo/part:2", any_out=True),
    _both("manifest inspect -v @repo/list:1", any_out=True),
    _both("manifest inspect --verbose @repo/part:1", any_out=True),
    _both("manifest inspect @repo/nosuch:1", err="no such manifest"),
    _both("manifest push @repo/list:1", any_out=True),
    _both("manifest push -p @repo/list:1", any_out=True),
    _both("manifest push @repo/list:1", err="no such"),
    _both("manifest inspect @repo/list:1", any_out=True),
    "pull -q @repo/list:1",
    "run --rm --network none @repo/list:1 echo of a list",
    "rmi -f @repo/list:1",
    _both("manifest create @repo/gone:1 @repo/part:1"),
    Row(
        "manifest rm @repo/gone:1",
        differs=_TOLD,
        ours=Said(out="Untagged: <registry>/<user>/gone:1\nDeleted: sha256:<id>\n"),
        dockers=Said(),
    ),
    Row("manifest rm @repo/gone:1", err="no such"),
    Row("manifest create", err="requires at least"),
    Row("manifest annotate @repo/list:1", err="requires"),
    Row("manifest inspect", err="requires"),
    Row("manifest push", err="requires"),
    Row("manifest rm", err="requires at least 1 argument"),
    Row("manifest nosuch", err="unknown command"),
    *(
        Row(f"manifest {verb} --help", any_out=True)
        for verb in ("create", "annotate", "inspect", "push", "rm")
    ),
)

_MORE = scene(
    "manifest of podman's",
    "tag busybox @repo/part:3",
    "push -q @repo/part:3",
    Row(
        "manifest create --all mine:1",
        differs=_ADDED,
        ours=Said(out="Created manifest list docker.io/library/mine:1\n"),
        dockers=_ANY,
    ),
    *(
        Row(line, differs=_PODMANS, ours=Said(out=out), dockers=_NONE)
        for line, out in (
            ("manifest exists mine:1", ""),
            ("manifest add mine:1 busybox", "sha256:<id>\n"),
            ("manifest add --all mine:1 docker://@repo/part:3", "sha256:<id>\n"),
            (
                f"manifest add {_DETAILS} --annotation a=b mine:1 tooled",
                "sha256:<id>\n",
            ),
            ("manifest remove mine:1 tooled", "sha256:<id>\n"),
        )
    ),
    Row("manifest exists nosuch:1", differs=_PODMANS, ours=Said(1), dockers=_NONE),
    Row(
        "manifest remove mine:1 tooled",
        differs=_PODMANS,
        ours=Said(1, err="manifest list mine:1: tooled: not in it"),
        dockers=_NONE,
    ),
    Row(
        "manifest annotate --os-version 2 --annotation a=b mine:1 busybox",
        differs=_ADDED,
        ours=Said(),
        dockers=_ANY,
    ),
    Row(
        "images --format '{{.Repository}}:{{.Tag}} {{.CreatedSince}}' mine",
        differs="docker keeps lists in files of the client",
        ours=Said(out="mine:1 N/A\n"),
        dockers=Said(),
    ),
    Row(
        "manifest push --quiet mine:1 @repo/mine:1",
        differs=_ADDED,
        ours=Said(out="sha256:<id>\n"),
        dockers=_ANY,
    ),
    Row(
        "manifest push --purge --quiet mine:1 docker://@repo/mine:2",
        differs=_ADDED,
        ours=Said(out="sha256:<id>\n"),
        dockers=_ANY,
    ),
    *(
        Row(f"manifest {verb} --help", differs=_PODMANS, ours=Said(out=...), dockers=Said(
            ..., out=..., err=...))
        for verb in ("add", "remove", "exists")
    ),
)  # fmt: skip

SCENES = (_MANIFEST, _MORE)
