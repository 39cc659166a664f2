"""Rows: images made here, and images that are looked at: commit, import, diff, mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rows import Row, Said, scene

if TYPE_CHECKING:
    from types import EllipsisType

_PODMANS = "docker has no such verb"
_EMPTY = "nothing at all is no archive; docker makes an image without files"
_SAID = (
    "image inspect -f '{{json .Config.Cmd}} {{json .Config.Env}} {{range $k, $v := .Config.Labels}}"
    "{{$k}}={{$v}} {{end}} {{.Config.User}} {{.Config.WorkingDir}} {{range $k, $v :="
    " .Config.ExposedPorts}}{{$k}} {{end}} {{json .Config.Entrypoint}} {{range $k, $v :="
    " .Config.Volumes}}{{$k}} {{end}}' "
)
_INSIDE = "run --rm --network none "
_CHANGES = (
    "-c 'CMD [\"a\", \"b c\"]' -c 'ENTRYPOINT run it' -c 'ENV X=1 Y=\"2 3\"'"
    " -c 'ENV Z some words' -c 'LABEL l=\"m n\" o=p' -c 'USER 12:34' -c 'WORKDIR /a/../b'"
    " -c 'EXPOSE 80 53/udp' -c 'VOLUME /v1 /v2' -c 'ENV W=$X${Y}x'"
)

_COMMIT = scene(
    "commit",
    "run --name box -e A=b -l k=v -w /tmp BOX sh -c 'echo hello >/file; rm /bin/vi; mv /home /h2'",
    Row("commit box team/app", save="id"),
    f"{_INSIDE} team/app sh -c 'cat /file; ls -d /home /h2 /bin/vi; pwd; echo $A'",
    f"{_SAID} team/app",
    "inspect -f '{{.Id}}' team/app:latest",
    "images --format '{{.Repository}}:{{.Tag}}' team/app",
    Row("commit -a 'me <me@here>' -m 'a message' box team/app:2", save="two"),
    "image inspect -f '{{.Author}} {{.Comment}}' team/app:2",
    "history --format '{{.Comment}}' team/app:2",
    f"commit --author=me --message text {_CHANGES} box team/app:3",
    f"{_SAID} team/app:3",
    "commit --change 'CMD echo changed' box team/app:4",
    f"{_INSIDE} team/app:4",
    'commit -c \'CMD ["echo", "1"]\' -c \'ENTRYPOINT ["echo"]\' box team/app:5',
    f"{_SAID} team/app:5",
    "commit box team/app:2",
    "images -q -f dangling=true",
    "commit box",
    "run -d --name runs --init BOX sleep 1000",
    "commit runs running",
    "commit --pause runs running",
    "commit -p=false runs running",
    "inspect -f '{{.State.Status}}' runs",
    "container commit --pause=false runs running",
    "pause runs",
    "commit runs running",
    "inspect -f '{{.State.Status}}' runs",
    "rm -f runs box",
    f"{_INSIDE} team/app cat /file",
    Row("commit nosuch", err="No such container: nosuch"),
    "create --name made BOX true",
    "commit made made:1",
    Row("commit made Upper", err="lower"),
    Row("commit made a:b:c", err="reference"),
    Row("commit -c 'RUN true' made", any_err=True),
    Row("commit -c 'NOSUCH x' made", any_err=True),
    Row(
        "commit -c CMD made",
        differs="docker takes it, and changes nothing",
        ours=Said(1, err="CMD: nothing follows it"),
        dockers=Said(out=...),
    ),
    "commit -c 'CMD []' made made:2",
    Row(
        "image inspect -f '{{json .Config.Cmd}}' made:2",
        differs="docker puts the container's command in its place",
        ours=Said(out="null\n"),
        dockers=Said(out='["true"]\n'),
    ),
    Row("commit -c 'EXPOSE x' made", any_err=True),
    Row("commit", err="argument"),
    Row("commit a b c", err="argument"),
    Row("commit --nosuch made", err="unknown flag: --nosuch"),
    Row("commit --help", any_out=True),
)

_IMPORT = scene(
    "import",
    "run --name box BOX sh -c 'echo hello >/file'",
    "export -o box.tar box",
    "!gzip -k box.tar && xz -k box.tar && bzip2 -k box.tar",
    "import box.tar team/flat",
    f"{_INSIDE} team/flat cat /file",
    Row(
        "history --format '{{.Comment}}' team/flat",
        differs="docker does not tell the daemon what the file is called",
        ours=Said(out="Imported from box.tar\n"),
        dockers=Said(out="Imported from -\n"),
    ),
    "images --format '{{.Repository}}:{{.Tag}}' team/flat",
    "import -m 'a message' box.tar.gz team/flat:gz",
    "history --format '{{.Comment}}' team/flat:gz",
    "import --message text box.tar.xz team/flat:xz",
    "import box.tar.bz2 team/flat:bz2",
    f"{_INSIDE} team/flat:xz cat /file",
    f"{_INSIDE} team/flat:bz2 cat /file",
    "import -c 'CMD echo hello' --change 'ENV A=b' -c 'WORKDIR /tmp' box.tar team/flat:3",
    f"{_INSIDE} team/flat:3",
    f"{_SAID} team/flat:3",
    "image import box.tar team/flat:4",
    "import --platform linux/amd64 box.tar team/flat:5",
    "import box.tar",
    Row("import -", stdin="", any_err=True, differs=_EMPTY, ours=Said(1, err="is empty"),
        dockers=Said(out=...)),
    Row("import nosuch.tar", err="no such file"),
    Row("import box.tar Upper", any_err=True),
    Row("import -c 'RUN true' box.tar", any_err=True),
    Row("import http://127.0.0.1:1/box.tar", any_err=True),
    Row("import", err="requires at least 1 argument", any_err=True),
    Row("import --nosuch box.tar", err="unknown flag: --nosuch"),
    Row("import --help", any_out=True),
    "rm box",
)  # fmt: skip


def _ours(line: str, out: str | EllipsisType = "", code: int = 0, err: str = "") -> Row:
    """A row of a verb of podman's."""
    return Row(
        line, differs=_PODMANS, ours=Said(code, out=out, err=err),
        dockers=Said(..., out=..., err=...),
    )  # fmt: skip


_LOOKED_AT = scene(
    "image diff and mount",
    "run --name box BOX sh -c 'echo hello >/file; rm /bin/vi'",
    "commit box made",
    _ours("image diff made", "C /bin\nD /bin/vi\nA /file\n"),
    _ours("image diff made busybox", "C /bin\nD /bin/vi\nA /file\n"),
    _ours("image diff busybox made", "C /bin\nA /bin/vi\nD /file\n"),
    _ours("image diff nosuch", code=1, err="no such image"),
    _ours("image diff --help", out=...),
    _ours("image mount"),
    _ours("image mount nosuch", code=1, err="no such image"),
    _ours("image mount --all made", code=1, err="--all names no images"),
    _ours("image mount --format yaml", code=1, err="there is json"),
    _ours("image mount made", out=...),
    _ours("rmi made", code=1, err="is mounted at"),
    _ours("image unmount made", out=...),
    _ours("image mount -a", out=...),
    _ours("image mount --format json", out=...),
    _ours("image umount --all", out=...),
    _ours("image mount --all", out=...),
    _ours("image unmount -a", out=...),
    _ours("image mount"),
    _ours("image unmount", code=1, err="name images, or say --all"),
    _ours("image umount --all made", code=1, err="name images, or say --all"),
    _ours("image mount --help", out=...),
    _ours("image unmount --help", out=...),
    _ours("image umount --help", out=...),
    "rm box",
)

SCENES = (_COMMIT, _IMPORT, _LOOKED_AT)
