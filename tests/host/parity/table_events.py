"""Rows: pausing, names, processes, and the events of all that."""

from __future__ import annotations

from .rows import Row, Said, scene
from .table_containers import minds

# docker's 0s is the beginning of the present second: rows that ask for the last one wait.
_EVER = "--since 0 --until 0s"
_NAMED = "--format '{{.Action}} {{.Actor.Attributes.name}}'"
# docker tells of networks too.
_CONTAINERS = f"{_EVER} -f type=container"

_PAUSE = scene(
    "pause unpause",
    Row("run -d --name web BOX sleep 1000", save="web"),
    "pause web",
    "inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}}' web",
    "ps --format '{{.Names}} {{.State}} {{.Status}}'",
    "ps -q -f status=paused --no-trunc",
    Row("pause web", err="is already paused"),
    Row("exec web true", err="Container web is paused, unpause the container before exec"),
    Row("attach web", err="You cannot attach to a paused container, unpause it first"),
    Row("start web", err="cannot start a paused container, try unpause instead"),
    Row("rm web", err="paused"),
    Row("unpause web nosuch", err="No such container: nosuch"),
    "inspect -f '{{.State.Status}} {{.State.Paused}}' web",
    Row("unpause web", err="is not paused"),
    "pause @web:8",
    "kill --signal WINCH web",
    "ps --format '{{.Names}} {{.State}}'",
    "pause web",
    "kill web",
    "wait web",
    Row("pause web", err="is not running"),
    Row("unpause web", err="is not paused"),
    f"run -d --name term BOX {minds('TERM', 7)}",
    Row("logs term", until="ready"),
    "pause term",
    "stop term",
    "wait term",
    "start term",
    "pause term",
    "restart -t 0 term",
    "ps --format '{{.Names}} {{.State}}'",
    "pause term",
    "rm -f term",
    Row("pause nosuch", err="No such container: nosuch"),
    *(Row(verb, err="requires at least 1 argument") for verb in ("pause", "unpause")),
    *(Row(f"{verb} --nosuch x", err="unknown flag: --nosuch") for verb in ("pause", "unpause")),
)

_RENAME = scene(
    "rename",
    Row("create --name one BOX sleep 1000", save="one"),
    "create --name two BOX true",
    Row("rename one two", err='The container name "/two" is already in use by container'),
    "rename one three",
    "ps -a --format {{.Names}}",
    Row("rename one four", err="No such container: one"),
    Row(
        "rename three three",
        err="Renaming a container with the same name as its current name",
    ),
    Row("rename three 'bad name'", err="Invalid container name"),
    Row("rename three ''", err="Neither old nor new names may be empty"),
    "rename @one:9 /four",
    "start four",
    "rename four five",
    "inspect -f {{.Name}} five",
    "exec five hostname",
    "create --name four BOX true",
    "rm -f five",
    "rename two five",
    Row("rename x", err="requires 2 arguments"),
    Row("rename a b c", err="requires 2 arguments"),
    Row("rename --nosuch a b", err="unknown flag: --nosuch"),
)

_TOP = scene(
    "top",
    "run -d --name web BOX sh -c 'sleep 1001 & exec sleep 1002'",
    # Ids, times and the width of a day's first column are the machine's.
    Row("top web", any_out=True),
    Row("top web -o pid,comm", any_out=True),
    Row("top web -eo pid,ppid,args", any_out=True),
    Row("top web aux", any_out=True),
    Row("top web -o comm", err="Couldn't find PID field in ps output"),
    Row("top web --nosuch", err="unknown gnu long option"),
    "create --name idle BOX true",
    Row("top idle", err="is not running"),
    Row("top nosuch", err="No such container: nosuch"),
    Row("top", err="requires at least 1 argument"),
    "pause web",
    Row("top web", any_out=True),
)

_EVENTS = scene(
    "events",
    Row("run --rm --name teller -l app=teller -l tier='a b' BOX sh -c 'exit 3'", save="teller"),
    Row(f"events {_CONTAINERS} -f container=teller {_NAMED}", until="destroy teller"),
    f"events {_CONTAINERS} -f container=teller -f event=die --format '{{{{.Type}}}} {{{{.Status}}}}"
    " {{.From}} {{.Scope}} {{.Actor.Attributes.exitCode}}'",
    f"events {_CONTAINERS} -f event=create -f label=app=teller",
    # its times are no words
    Row(f"events {_CONTAINERS} -f event=create -f label=app=teller --format json", any_out=True),
    f"events {_CONTAINERS} -f event=create -f label=app=teller --format '{{{{json .Actor}}}}'",
    "run -d --name web -l app=web BOX sleep 1000",
    Row("exec web sh -c 'exit 4'"),
    "kill -s WINCH web",
    "pause web",
    "unpause web",
    "rename web www",
    "restart -t 0 www",
    "stop -t 0 www",
    "rm www",
    Row(f"events {_CONTAINERS} -f label=app=web {_NAMED}", until="destroy www"),
    f"events {_CONTAINERS} -f label=app=web -f event=exec_die"
    " --format '{{.Action}} {{.Actor.Attributes.exitCode}}'",
    f"events {_CONTAINERS} -f label=app=web -f event=kill"
    " --format {{.Actor.Attributes.signal}}",
    f"events {_CONTAINERS} -f event=rename -f label=app=web"
    " --format '{{json .Actor.Attributes}}'",
    f"events {_CONTAINERS} -f label=app=web -f label=nosuch",
    f"events {_CONTAINERS} -f container=nosuch -f container=teller -f event=start -f event=die"
    f" {_NAMED}",
    f"events {_CONTAINERS} -f image=busybox -f event=create -f label=app {_NAMED}",
    f"events {_CONTAINERS} -f image=nosuch",
    f"events {_EVER} -f scope=swarm",
    "create --name unfit BOX nosuch",
    Row("start unfit", err="executable file not found in $PATH"),
    "rm unfit",
    Row(f"events {_CONTAINERS} -f container=unfit {_NAMED}", until="destroy unfit"),
    "events --since 0 --until 1",
    "events --until 2020-01-01",
    Row("events --since 0s --until 1h", err="cannot be after `until` time"),
    Row("events --since nonsense", err="nonsense"),
    Row("events --until nonsense", err="nonsense"),
    Row("events -f nonsense", err="bad format of filter"),
    Row(
        f"events {_EVER} -f nosuch=x -f type=none",
        differs="docker takes any filter, and what it does not know lets everything pass",
        ours=Said(1, err="invalid filter"),
        dockers=Said(0),
    ),
    Row(f"events {_EVER} --format '{{{{.Nosuch}}}}'", err="can't evaluate field Nosuch"),
    Row(f"events {_EVER} --format '{{{{'", err="unclosed action"),
    Row("events x", err="accepts no arguments"),
    Row("events --nosuch", err="unknown flag: --nosuch"),
)

SCENES = (_PAUSE, _RENAME, _TOP, _EVENTS)
