"""Rows: images by name, in archives and in registries."""

from __future__ import annotations

from .rows import Row, Said, scene

_LISTED = "images --format '{{.Repository}}:{{.Tag}}' "
_NO_LAYERS = "docker has an image for each layer and tells of each, pycontain of images alone"
_FORMS = "docker writes one form"
_OLD = "docker 20.10 knows platforms of its registries' images alone"
_EXISTS = "docker has no such verb"
_ZEROS = "0" * 64

_BOTH = "Loaded image: busybox:latest\nLoaded image: tooled:latest\n"
_DELETED = "Deleted: sha256:<id>\n"


def _removed(
    line: str, *untagged: str, layers: int = 1, code: int = 0, err: str = "", words: str = "{}"
) -> Row:
    """A row that removes an image; docker tells of each layer too."""
    told = "".join(words.format(f"Untagged: {name}") + "\n" for name in untagged) + _DELETED
    return Row(
        line,
        differs=_NO_LAYERS,
        ours=Said(code, out=told, err=err),
        dockers=Said(code, out=told + _DELETED * layers, err=err),
    )


_TAG = scene(
    "tag",
    Row("images -q --no-trunc busybox", save="id"),
    "tag busybox team/app",
    "tag busybox:latest team/app:1.0-rc_2",
    "tag @id team/app:by-id",
    "tag @id:19 localhost:5000/a/b/c:1",
    _LISTED + "team/app:by-id",
    _LISTED + "team/app:1.0-rc_2",
    _LISTED + "localhost:5000/a/b/c",
    "images -q team/app:by-id",
    "image tag tooled team/app",
    "images -q team/app:latest",
    "run --rm --network none team/app:1.0-rc_2 echo named",
    "image inspect -f '{{.RepoDigests}}' busybox",
    Row("tag nosuch x", err="no such image"),
    Row("tag busybox", err="requires 2 arguments"),
    Row("tag busybox a b", err="requires 2 arguments"),
    Row("tag busybox Upper", err="lower"),
    Row("tag busybox a:b:c", err="reference"),
    Row(f"tag busybox x@sha256:{_ZEROS}", err="refusing to create a tag with a digest reference"),
    Row("tag --force busybox x", err="unknown flag: --force"),
    Row("tag --help", any_out=True),
)

_RMI = scene(
    "rmi",
    Row("images -q --no-trunc busybox", save="id"),
    "tag busybox one:1",
    "tag busybox two:1",
    "rmi one:1",
    Row("rmi one:1", err="no such image"),
    Row("rmi @id:20", err="is referenced in multiple repositories"),
    Row("rmi nosuch two:1 nosuch", err="no such image"),
    "create --name user BOX true",
    Row("rmi busybox", err="container"),
    Row("rmi @id:20", err="is being used by stopped container"),
    "start user",
    "wait user",
    "rm user",
    "run -d --name runs --init BOX sleep 1000",
    Row("rmi busybox", err="must force"),
    Row("rmi -f @id:20", err="is being used by running container"),
    "ps --format '{{.Names}} {{.Image}}'",
    "rmi -f busybox",
    "ps --format '{{.Names}} {{.Image}}'",
    "images -q -f dangling=true",
    "exec runs echo goes on",
    "image ls --format '{{.Repository}} {{.Tag}}' -f dangling=true",
    "rm -f runs",
    Row(
        "rmi --force @id:20",
        differs=_NO_LAYERS,
        ours=Said(out=_DELETED),
        dockers=Said(out=_DELETED * 2),
    ),
    Row("rmi -f nosuch", err="no such image"),
    _removed("image rm tooled", "tooled:latest"),
    "images -aq",
    Row("rmi", err="requires at least 1 argument"),
    Row("rmi --nosuch x", err="unknown flag: --nosuch"),
    Row("rmi --help", any_out=True),
)

_PRUNED = scene(
    "image prune",
    "tag tooled busybox",
    "images -q busybox",
    Row("image prune", stdin="n\n"),
    Row("image prune -f --filter until=2020-01-01"),
    Row("image prune -f --filter label=nosuch"),
    Row(
        "image prune -f",
        differs=_NO_LAYERS,
        ours=Said(out=f"Deleted Images:\n{_DELETED.lower()}\nTotal reclaimed space: <size>\n"),
        dockers=Said(
            out=f"Deleted Images:\n{_DELETED.lower() * 2}\nTotal reclaimed space: <size>\n"
        ),
    ),
    "image prune --force",
    "rmi busybox",
    "create --name user --network none tooled true",
    Row("image prune --all", stdin="n\n"),
    "image prune -a -f",
    "rm user",
    Row("image prune -f --filter dangling=true"),
    Row("image prune -a -f --filter until=2020-01-01"),
    Row(
        "image prune -f --filter dangling=false --filter label=team=a",
        differs=_NO_LAYERS,
        ours=Said(
            out="Deleted Images:\nuntagged: tooled:latest\n"
            f"{_DELETED.lower()}\nTotal reclaimed space: <size>\n"
        ),
        dockers=Said(
            out="Deleted Images:\nuntagged: tooled:latest\n"
            f"{_DELETED.lower() * 2}\nTotal reclaimed space: <size>\n"
        ),
    ),
    "images -aq",
    Row("image prune -f --filter nosuch=1", err="invalid filter 'nosuch'"),
    Row(
        "image prune -f --filter dangling=perhaps",
        differs="docker 20.10 takes it for false",
        ours=Said(1, err="invalid filter 'dangling=perhaps'"),
        dockers=Said(out=...),
    ),
    Row("image prune extra", err="accepts no arguments"),
    Row("image prune --help", any_out=True),
)

_HISTORY = scene(
    "history",
    "history busybox",
    "history --no-trunc busybox",
    "history -q busybox",
    "history --quiet --no-trunc tooled",
    Row("history --human=false busybox", any_out=True),
    "history -H=false --format '{{.CreatedSince}} {{.CreatedAt}}' busybox",
    "history --format '{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}' busybox",
    "history --format 'table {{.CreatedBy}}\\t{{.Comment}}' busybox",
    "history --format json busybox",
    "image history -q busybox",
    Row("history --format '{{.Nosuch}}' busybox"),
    Row("history nosuch", err="no such image"),
    Row("history", err="requires 1 argument"),
    Row("history --help", any_out=True),
)

_ARCHIVES = scene(
    "save and load",
    Row("images -q --no-trunc busybox", save="id"),
    "save -o one.tar busybox",
    "!tar tf one.tar manifest.json",
    "save busybox tooled:latest --output two.tar",
    "save -o id.tar @id",
    Row("save busybox", any_out=True),
    Row("image save busybox", any_out=True),
    Row("save busybox", tty=True, any_out=True),
    _removed("rmi busybox", "busybox:latest"),
    "load -i one.tar",
    "images -q --no-trunc busybox",
    # docker saves several in any order
    Row("load --quiet --input two.tar", any_out=True, ours=Said(out=_BOTH)),
    Row("image load -q -i two.tar", any_out=True, ours=Said(out=_BOTH)),
    "!gzip -k one.tar && xz -k one.tar",
    "load -i one.tar.gz",
    "load -i one.tar.xz",
    _removed("rmi busybox", "busybox:latest"),
    "load -i id.tar",
    "images -q -f dangling=true",
    "run --rm --network none @id:19 echo no name",
    Row("!printf data >no.tar; head -c 100000 one.tar >cut.tar"),
    Row("load -i no.tar", any_err=True),
    Row("load -i cut.tar", any_err=True),
    Row("load", any_err=True),
    Row("load -i nosuch.tar", err="no such file"),
    Row("load extra", err="accepts no arguments"),
    Row("save -o nosuch/x.tar busybox", err="no such file"),
    Row("save -o x.tar nosuch", err="no such image"),
    "!ls x.tar 2>/dev/null || echo none",
    Row("save", err="requires at least 1 argument"),
    Row("save -o @dir busybox"),
    Row(
        "load -i one.tar --platform linux/amd64",
        differs=_OLD,
        ours=Said(out="Loaded image: busybox:latest\n"),
        dockers=Said(1, err="requires API version"),
    ),
    Row(
        "load -i one.tar --platform linux/s390x",
        differs=_OLD,
        ours=Said(1, err="linux/s390x"),
        dockers=Said(1, err="requires API version"),
    ),
    Row(
        "save --format oci-archive -o oci.tar busybox",
        differs=_FORMS,
        ours=Said(),
        dockers=Said(125, err="unknown flag: --format"),
    ),
    Row(
        "save --format oci-dir -o oci busybox",
        differs=_FORMS,
        ours=Said(),
        dockers=Said(125, err="unknown flag: --format"),
    ),
    Row(
        "save --format nosuch busybox",
        differs=_FORMS,
        ours=Said(1, err="there are docker-archive, oci-archive, oci-dir"),
        dockers=Said(125, err="unknown flag: --format"),
    ),
    Row(
        "load -i oci",
        differs="docker loads archives alone",
        ours=Said(out="Loaded image: busybox:latest\n"),
        dockers=Said(1, err="no such file"),
    ),
    Row("save --help", any_out=True),
    Row("load --help", any_out=True),
)

_REGISTRY = scene(
    "push and pull",
    "tag busybox @repo/app:1",
    Row("push @repo/app:1", any_out=True),
    Row("image push --quiet @repo/app:1"),
    "tag busybox @repo/app:2",
    "push -q @repo/app:2",
    "tag busybox @repo/other",
    "push -q @repo/other",
    "tag busybox @repo/many:1",
    "tag tooled @repo/many:2",
    "push -q --all-tags @repo/many",
    Row("push -a @repo/many", any_out=True),
    Row("push @repo/app", err="tag does not exist"),
    Row("push @repo/nosuch:1", err="an image does not exist locally with the tag"),
    Row("push -a @repo/nosuch", err="an image does not exist locally with the tag"),
    Row("push -a @repo/app:1", err="tag can't be used with --all-tags/-a"),
    Row(f"push @repo/app@sha256:{_ZEROS}", err="cannot push a digest reference"),
    "images --digests --format '{{.Digest}}' @repo/app",
    Row("image inspect -f '{{index .RepoDigests 0}}' @repo/app:1", save="pushed"),
    "rmi @repo/app:1",
    "rmi @repo/app:2",
    Row("rmi @repo/other @repo/many:1 @repo/many:2", any_out=True),
    _removed("rmi busybox", "busybox:latest"),
    Row("pull @repo/app:1", any_out=True),
    "pull @repo/app:1",
    "pull -q @repo/app:1",
    "pull @pushed",
    "run --rm --network none @pushed echo by digest",
    "image pull --quiet @pushed",
    "pull @repo/app:2",
    Row("image inspect -f '{{.RepoTags}} {{.RepoDigests}}' @repo/app:2"),
    "rmi @repo/app:1",
    _removed("rmi @repo/app:2", "<registry>/<user>/app:2", "<registry>/<user>/app@sha256:<id>"),
    Row("pull @repo/other", any_out=True),
    _LISTED + "@repo/other",
    Row("pull -a -q @repo/many", any_out=True),
    "pull --all-tags @repo/many",
    "pull --platform linux/amd64 @repo/many:1",
    Row(
        "pull --platform linux/s390x @repo/many:1",
        differs="docker 20.10 gives an image of another platform where the registry has no other",
        ours=Said(1, err="not for linux/s390x"),
        dockers=Said(out=...),
    ),
    Row("pull @repo/app", err="manifest unknown"),
    Row("pull @repo/nosuch:1", err="unknown"),
    Row("pull -a @repo/nosuch", err="name unknown"),
    Row("pull -a @repo/many:1", err="tag can't be used with --all-tags/-a"),
    Row(f"pull @repo/app@sha256:{_ZEROS}", err="unknown"),
    Row("pull localhost:1/x:1", err="connection refused"),
    Row("pull Upper", err="lower"),
    Row("pull", err="requires 1 argument"),
    Row("push a b", err="requires 1 argument"),
    Row("pull --help", any_out=True),
    Row("push --help", any_out=True),
)

_DIGEST = scene(
    "images by digest",
    "tag busybox @repo/by-digest:1",
    "push -q @repo/by-digest:1",
    Row("image inspect -f '{{index .RepoDigests 0}}' @repo/by-digest:1", save="pushed"),
    "rmi @repo/by-digest:1",
    "pull -q @pushed",
    "images --format '{{.Repository}} {{.Tag}}' @repo/by-digest",
    "images --digests --format '{{.Tag}} {{.Digest}}' @repo/by-digest",
    "image inspect -f '{{.RepoTags}}' @pushed",
    "tag @pushed again:1",
    "rmi @pushed",
    "rmi again:1",
    "pull -q @pushed",
    "rmi busybox",
    "images -f dangling=true --format {{.Repository}}",
    Row(
        "image prune -f",
        differs=_NO_LAYERS,
        ours=Said(
            out="Deleted Images:\nuntagged: <registry>/<user>/by-digest@sha256:<id>\n"
            f"{_DELETED.lower()}\nTotal reclaimed space: <size>\n"
        ),
        dockers=Said(
            out="Deleted Images:\nuntagged: <registry>/<user>/by-digest@sha256:<id>\n"
            f"{_DELETED.lower() * 2}\nTotal reclaimed space: <size>\n"
        ),
    ),
)

_LOGIN = scene(
    "login",
    Row("login", err="cannot perform an interactive login from a non tty device"),
    Row("login -u me @locked", err="cannot perform an interactive login from a non tty device"),
    Row("login -u me --password-stdin @locked", stdin="wrong\n", err="unauthorized"),
    Row("login --username me --password wrong @locked", err="unauthorized"),
    Row("login -p secret --password-stdin -u me @locked", err="--password and --password-stdin"),
    Row("login --password-stdin @locked", stdin="secret\n", err="--password-stdin"),
    "!ls .docker/config.json 2>/dev/null || echo nothing kept",
    "tag busybox @locked_repo/app:1",
    Row("push -q @locked_repo/app:1", any_err=True, any_out=True),
    Row("pull @locked_repo/app:1", any_out=True),
    Row("login -u me --password-stdin @locked", stdin="secret\n", err="unencrypted"),
    "!test -s .docker/config.json && stat -c %a .docker/config.json",
    "push -q @locked_repo/app:1",
    "rmi @locked_repo/app:1",
    "pull -q @locked_repo/app:1",
    "logout @locked",
    Row("pull -q @locked_repo/app:2", any_out=True),
    Row(
        "logout @locked",
        differs="docker 28 does not look whether there is something to forget",
        ours=Said(out="Not logged in to <locked>\n"),
        dockers=Said(out="Removing login credentials for <locked>\n"),
    ),
    Row("login -u me -p secret http://@locked/v2/", any_err=True),
    "logout @locked",
    Row("logout", any_out=True),
    Row("logout a b", err="at most 1 argument"),
    Row("login a b", err="at most 1 argument"),
    Row("login --help", any_out=True),
    Row("logout --help", any_out=True),
)

_INSPECT = scene(
    "image inspect",
    *(
        f"image inspect -f '{form}' {name}"
        for name in ("busybox", "tooled")
        for form in (
            "{{.Parent}}|{{.Comment}}|{{.Author}}|{{.DockerVersion}}|{{.Variant}}|{{.OsVersion}}",
            "{{.Architecture}}|{{.Os}}|{{.RootFS.Type}}|{{json .RootFS.Layers}}",
            "{{json .Config.OnBuild}} {{json .Config.Shell}} {{.Config.StopSignal}}",
            "{{eq .Size .VirtualSize}} {{.RepoTags}} {{.RepoDigests}}",
        )
    ),
)

_EXIST = scene(
    "image exists",
    *(
        Row(line, differs=_EXISTS, ours=Said(code), dockers=Said(1, out=..., err=...))
        for line, code in (
            ("image exists busybox", 0),
            ("image exists busybox:latest", 0),
            ("image exists nosuch", 1),
            (f"image exists busybox@sha256:{_ZEROS}", 1),
        )
    ),
    Row(
        "image exists Upper",
        differs=_EXISTS,
        ours=Said(1, err="lower case"),
        dockers=Said(1, out=..., err=...),
    ),
)

SCENES = (
    _TAG, _RMI, _PRUNED, _HISTORY, _ARCHIVES, _REGISTRY, _DIGEST, _LOGIN, _INSPECT, _EXIST,
)  # fmt: skip
