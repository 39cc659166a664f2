"""Rows: the verbs about a container's files."""

from __future__ import annotations

from .rows import Row, Said, scene

_MISSING = "could not find the file"
_OWNERS = (
    "docker's text promises root's ids for what is copied into a container, and with -a the"
    " source's; its client sends the source's in any case, and -a makes them the container user's"
)
_SET_ID = "a set-id bit is of the owner that gave it: with a new owner it is dropped, as by chown"
_EMPTY = "docker refuses the empty path too, in the daemon"

_INTO = scene(
    "cp into a container",
    "create --name box BOX sh -c 'cat /f /new/inner/file; ls /new /tmp'",
    Row("!mkdir -p few/inner; echo one >few/file; echo two >few/inner/file; ln -s file few/link"),
    "cp src/file box:/f",
    "cp -q src/file box:tmp",
    "cp src/file box:/tmp/",
    Row("cp src/file box:/no/", err="no such directory"),
    Row("cp src/file box:/no/file", err=_MISSING),
    Row("cp src/file box:/f/", docker="cp src/file box:/f/x", any_err=True),
    Row("cp few box:/f", err="cannot copy directory"),
    Row("cp few/. box:/f", err="cannot copy directory"),
    Row("cp src/nosuch box:/", err="no such file or directory"),
    Row("cp src/file/ box:/x", err="not a directory"),
    "cp few box:/new",
    "cp few box:/new",
    "cp few/. box:/new",
    "cp few/link box:/tmp/link",
    "cp -L few/link box:/tmp/followed",
    "cp --follow-link few/link box:/tmp/",
    Row("cp src/file box:/new/inner/../../tmp/lexical"),
    "start -a box",
    Row("!tar c few >few.tar"),
    Row("!mkdir -p odd/f"),
    Row("cp odd/. box:/", err="cannot overwrite non-directory"),
    Row("cp src/file nosuch:/x", err="No such container: nosuch"),
    Row("cp src/file few", err="must specify at least one container source"),
    Row("cp box:/f box:/g", err="copying between containers is not supported"),
    Row("cp '' box:/", err="source can not be empty"),
    Row("cp box:/f ''", err="destination can not be empty"),
    Row(
        "cp src/file box:",
        differs=_EMPTY,
        ours=Said(1, err="path cannot be empty"),
        dockers=Said(1, err="no such directory"),
    ),
    Row("cp box:/f", err="requires 2 arguments"),
    Row("cp --nosuch a b", err="unknown flag: --nosuch"),
    Row("cp --help", any_out=True),
    Row("cp --archive=false -q=false src/file box:/f", any_err=True),
)

_OUT_OF = scene(
    "cp out of a container",
    "run -d --name box BOX sh -c 'mkdir /d; echo a >/d/a; ln -s a /d/l; ln -s d /ld; mkdir /d/s;"
    " ln -s /d/a /d/s/x; echo ready; sleep 1000'",
    Row("logs box", until="ready"),
    "cp box:/d/a a",
    "cp box:/d/l .",
    "cp -L box:/d/l followed",
    "cp box:/d copy",
    "cp box:d/. content",
    "cp box:/ld/ through",
    "cp box:/d copy",
    Row(
        "!cat a content/a; readlink l; test ! -L followed && cat followed; find copy through |sort"
    ),
    Row("cp box:/nosuch .", err=_MISSING),
    Row("cp box:/d/a no/a", err="invalid output path: directory"),
    Row("cp box:/d/a no/", err="no such directory"),
    Row("cp box:/d/a/ x", err="not a directory"),
    Row("cp box:/d a", err="cannot copy directory"),
    Row("cp box:/d/a /dev/null", err="must be a directory or a regular file"),
    Row("!mkdir -p odd/a"),
    Row("cp box:/d/a odd", err="cannot overwrite directory"),
    Row("cp box: .", err="cannot be empty"),
    Row("cp nosuch:/x .", err="No such container: nosuch"),
    "kill box",
    "cp box:/d/s again",
    Row("!readlink again/x"),
)

_STREAMS = scene(
    "cp streams",
    "create --name box BOX sh -c 'cat /tmp/few/file; stat -c %u:%g:%a /tmp/few/file /f /g'",
    Row("cp - box:/tmp", stdin=""),
    Row("cp - box:/nosuch", err='destination "box:/nosuch" must be a directory'),
    Row("cp - box:/etc/passwd", err='destination "box:/etc/passwd" must be a directory'),
    Row("cp - box:/tmp", stdin="no archive", any_out=True),
    Row("!mkdir few; echo x >few/file; chown 12:34 few/file; chmod 4640 few/file"),
    "cp few/file box:/f",
    "cp -a few/file box:/g",
    "cp few box:/tmp",
    Row(
        "start -a box",
        differs=f"{_OWNERS}; {_SET_ID}",
        ours=Said(0, "x\n0:0:640\n0:0:640\n12:34:4640\n"),
        dockers=Said(0, "x\n12:34:4640\n12:34:4640\n12:34:4640\n"),
    ),
    "cp box:/g mine",
    Row(
        "!stat -c %u:%g:%a mine",
        differs=_SET_ID,
        ours=Said(0, "0:0:640\n"),
        dockers=Said(0, "0:0:4640\n"),
    ),
    Row("cp nosuch:/etc -", err="No such container: nosuch"),
    Row("cp box:/nosuch -", err=_MISSING),
    Row("cp box:/etc -", any_out=True),
)

_DIFF = scene(
    "diff",
    "create --name box BOX sh -c 'echo >/tmp/new; rm /etc/group; mkdir -p /srv/x; touch /srv/x/y;"
    " chmod 700 /root; rm -r /home; mkdir /home; echo >>/etc/passwd; touch /tmp/a; rm /tmp/a'",
    "diff box",
    "start -a box",
    # docker's order is that of a hash table
    Row(
        "diff box",
        differs="ours are sorted; docker calls a folder that was replaced deleted",
        ours=Said(
            0,
            "C /etc\nD /etc/group\nC /etc/passwd\nC /home\nA /srv\nA /srv/x\nA /srv/x/y\nC /tmp\n"
            "A /tmp/new\n",
        ),
        dockers=Said(0, ...),
    ),
    Row("diff nosuch", err="No such container: nosuch"),
    Row("diff", err="requires 1 argument"),
    Row("diff box box", err="requires 1 argument"),
    Row("diff --nosuch box", err="unknown flag: --nosuch"),
    Row("diff --help", any_out=True),
)

_EXPORT = scene(
    "export",
    "run --name box BOX sh -c 'echo of the container >/tmp/new; rm -r /home'",
    Row("export box", any_out=True),
    "export -o box.tar box",
    "export --output=again.tar box",
    Row("!tar xOf box.tar tmp/new; tar tf again.tar | grep -c home; stat -c %a box.tar"),
    Row("export -o no/box.tar box", err="invalid output path"),
    Row(
        "export -o /dev/null box",
        differs="docker has two texts, with and without a device",
        ours=Said(1, err="is not a regular file"),
        dockers=Said(1, err="cannot write to a character device file"),
    ),
    Row(
        "export box",
        tty=True,
        differs="a hint, and the program's name in front",
        ours=Said(
            1,
            "pycontain: cowardly refusing to save to a terminal. Use the -o flag or redirect\r\n"
            "hint: pycontain export -o box.tar box\r\n",
        ),
        dockers=Said(1, "cowardly refusing to save to a terminal. Use the -o flag or redirect\r\n"),
    ),
    Row("export nosuch", err="No such container: nosuch"),
    Row("export", err="requires 1 argument"),
    Row("export --nosuch box", err="unknown flag: --nosuch"),
    Row("export --help", any_out=True),
)

SCENES = (_INTO, _OUT_OF, _STREAMS, _DIFF, _EXPORT)
