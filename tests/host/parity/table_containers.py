"""Rows: the verbs that act on containers which exist."""

from __future__ import annotations

from typing import Any

from .rows import Row, Said, scene

_PODMANS = "docker has no such flag: it is podman's"
_UNKNOWN = Said(125, err="unknown flag")
_DETACHED: dict[str, Any] = {
    "differs": "who detaches has got what he asked for, so that is no failure",
    "ours": Said(0, out=...),
    "dockers": Said(1, out=...),
}
_EXEC_126 = (
    "docker has every error of an exec on standard output, as 126; ours are on standard error,"
    " 127 and 126 are about the command alone, as with run, and the rest is the engine's 1"
)
# Says when it is ready, and lives until a signal that it minds.
_MINDS = 'trap "echo {0}; exit {1}" {0}; echo ready; while :; do sleep 0.05; done'


def minds(signal: str, code: int) -> str:
    """Return a command that ends with `code` at `signal`."""
    return "sh -c '" + _MINDS.format(signal, code) + "'"


_LIFE = scene(
    "create start wait",
    Row("create --name job BOX sh -c 'echo out; echo err >&2; exit 3'", save="job"),
    "ps -a --format '{{.ID}} {{.Names}} {{.State}} {{.Status}}'",
    Row("start -a job", same_err=True),
    "wait job",
    "start --attach @job:7",
    "wait @job @job:12",
    "logs job",
    Row("logs job", same_err=True),
    "create --name in -i BOX sh -c 'read line; echo got $line; exit 2'",
    Row("start -ai in", stdin="words\n"),
    Row("start -i --attach in", stdin="more\n"),
    "create --name one BOX sleep 1000",
    "create --name two BOX true",
    Row("start one nosuch two", err="No such container: nosuch"),
    "start one",
    "run -d --name soon BOX sh -c 'sleep 1; exit 4'",
    "start -a soon",
    "ps -f name=one --format {{.Status}}",
    Row("start -a one two", err="cannot start and attach multiple containers"),
    Row("start nosuch", err="No such container: nosuch"),
    Row("start -a nosuch", err="No such container: nosuch"),
    Row("start", err="requires at least 1 argument"),
    Row("start --nosuch one", err="unknown flag: --nosuch"),
    Row("wait", err="requires at least 1 argument"),
    Row("wait nosuch two nosuch2", err="No such container: nosuch2"),
    "create --name bad BOX nosuch",
    Row("start bad", err="executable file not found in $PATH"),
    Row("start -a bad", err="executable file not found in $PATH"),
    "inspect -f '{{.State.Status}} {{.State.ExitCode}}' bad",
    f"create --name proxied BOX {minds('TERM', 5)}",
    Row(
        "start -a proxied",
        after="ready",
        signal="TERM",
        differs="docker's text promises to forward signals; its client of 28 ends instead",
        ours=Said(5, "ready\nTERM\n"),
        dockers=Said(..., "ready\n"),  # 143 or 0
    ),
    "stop -t 0 proxied",
    Row(
        "start -a --sig-proxy=false proxied",
        docker="start proxied",
        after="ready",
        signal="HUP",
        differs="docker has the flag at run and attach only; podman here too",
        ours=Said(-1, "ready\n"),
        dockers=Said(0, "proxied\n"),
    ),
    "ps -f name=proxied --format {{.State}}",
    "run -d --rm --name gone BOX sh -c 'sleep 0.5; exit 9'",
    "wait gone",
    Row("ps -aq -f name=gone", until=""),
)

_STOP = scene(
    "stop kill restart",
    f"run -d --name term BOX {minds('TERM', 7)}",
    Row("logs term", until="ready"),
    "stop term",
    "wait term",
    "stop term",
    "inspect -f '{{.State.Running}} {{.State.ExitCode}} {{.State.Pid}}' term",
    f"run -d --name own --stop-signal SIGUSR1 --stop-timeout 5 BOX {minds('USR1', 8)}",
    Row("logs own", until="ready"),
    "inspect -f '{{.Config.StopSignal}} {{.Config.StopTimeout}}' own",
    "stop --timeout 4 own",
    "wait own",
    "run -d --name deaf --stop-timeout 0 BOX sleep 1000",
    "stop deaf",
    "wait deaf",
    "start deaf",
    "restart -t 0 deaf",
    Row("restart --time=0 deaf own", docker="restart --timeout=0 deaf own"),
    Row("logs own", until="ready\nUSR1\nready"),
    Row("stop -t 0 deaf nosuch own", err="No such container: nosuch"),
    "ps -q",
    "restart deaf",
    "kill deaf",
    "wait deaf",
    Row("kill deaf", err="is not running"),
    f"run -d --name hup BOX {minds('HUP', 6)}",
    Row("logs hup", until="ready"),
    "kill -s 0 hup",
    "kill --signal WINCH hup",
    Row("kill --signal=SIGHUP hup nosuch", err="No such container: nosuch"),
    "wait hup",
    "start hup",
    Row("kill -s nosuch hup", err="invalid signal"),
    Row("kill -s 999 hup", err="999"),
    "kill -s 9 hup",
    "wait hup",
    Row("stop -t x hup", err='invalid argument "x" for "-t, --time'),
    Row("stop nosuch", err="No such container: nosuch"),
    Row("restart nosuch", err="No such container: nosuch"),
    Row("kill nosuch", err="No such container: nosuch"),
    *(Row(verb, err="requires at least 1 argument") for verb in ("stop", "kill", "restart", "rm")),
    *(
        Row(f"{verb} --nosuch x", err="unknown flag: --nosuch")
        for verb in ("stop", "kill", "restart", "rm", "wait", "attach", "logs", "exec", "inspect")
    ),
    f"run -d --name usr BOX {minds('USR1', 8)}",
    Row("logs usr", until="ready"),
    # A docker daemon before 23 ignores the signal of both.
    "stop --signal USR1 --timeout 2 usr",
    Row("wait usr", any_out=True, ours=Said(out="8\n")),
    "restart --signal USR1 --timeout 2 usr",
)

_RM = scene(
    "rm",
    Row("create --name one BOX true", save="one"),
    "create --name two -v /data BOX true",
    "create --name three BOX true",
    "run -d --name live BOX sleep 1000",
    Row("rm live", err="running"),
    Row("rm @one:8 nosuch two", err="No such container: nosuch"),
    "ps -a --format {{.Names}}",
    "rm -f live",
    Row("rm -f live", err="No such container: live"),
    Row("rm --force three none", err="No such container: none"),
    "create --name volumes -v /data BOX true",
    "rm -v volumes",
    "create --name volumes -v /data BOX true",
    "rm --volumes volumes",
    "ps -aq",
    Row("rm nosuch", err="No such container: nosuch"),
    Row("rm ''"),
)

_ATTACH = scene(
    "attach",
    "run -d --name talks BOX sh -c 'echo ready; sleep 1; echo late; exit 5'",
    Row("attach --no-stdin talks", any_out=True),
    Row("attach talks", err="You cannot attach to a stopped container"),
    Row("attach nosuch", err="No such container: nosuch"),
    Row("attach", err="requires 1 argument"),
    Row("attach a b", err="requires 1 argument"),
    "run -d -i --name reads BOX sh -c 'read line; echo got $line; exit 4'",
    # docker may lose the last words of a container that ends.
    Row("attach reads", stdin="words\n", any_out=True),
    "logs reads",
    "run -d --name term BOX sh -c 'trap \"exit 7\" TERM; while :; do echo tick; sleep 0.05; done'",
    Row("attach --sig-proxy=false term", any_out=True, after="tick", signal="HUP"),
    "ps -f name=term --format {{.State}}",
    Row("attach term", any_out=True, after="tick", signal="TERM"),
    "run -dit --name tty BOX sh -c '(while sleep 0.1; do echo tick; done) &"
    " while read line; do echo got $line; done'",
    Row("attach tty", tty=True, after="tick", keys="a\r\x10\x11", **_DETACHED),
    Row("attach --detach-keys ctrl-a,x tty", tty=True, after="tick", keys="b\r\x01x", **_DETACHED),
    Row("logs tty", until="got b", any_out=True),
    Row("attach tty", stdin="", err="not a TTY"),
    "ps -f name=tty --format {{.State}}",
    "create --name begun -it BOX sh -c 'echo ready; read line'",
    Row("start -ai --detach-keys ctrl-a,x begun", tty=True, after="ready", keys="\x01x"),
    "ps -f name=begun --format {{.State}}",
)

_EXEC = scene(
    "exec",
    Row(
        "run -d --name web -e A=image -e B=image -h box -w /tmp --user 33:50 BOX sleep 1000",
        save="web",
    ),
    "exec web sh -c 'id -u; id -g; pwd; env | sort'",
    "exec -e A=exec --env FROM_HOST --env-file @dir/env.list -w /etc web sh -c 'pwd; env | sort'",
    "exec -u root @web:9 sh -c 'id -u; id -g; id -G; echo $HOME'",
    "exec --user nobody:adm --workdir / @web sh -c 'id -u; id -g; id -G; pwd'",
    Row("exec web sh -c 'echo out; echo err >&2; exit 42'", same_err=True),
    "exec web sh -c 'kill -9 $$'",
    Row("exec -i web wc -c", stdin="twelve bytes"),
    Row("exec --interactive web cat", stdin="one\ntwo\n"),
    Row("exec web cat", stdin="not connected"),
    Row("exec -it web sh -c 'sleep 0.5; tty; stty size; exit 3'", tty=True),
    Row("exec -t web sh -c 'test -t 1 && echo terminal'"),
    Row("exec -it web true", stdin="", err="not a TTY"),
    Row(
        "exec -it web sh -c 'echo ready; read line'",
        tty=True,
        after="ready",
        keys="\x10\x11",
        **_DETACHED,
    ),
    Row(
        "exec -it --detach-keys ctrl-a web sh -c 'echo ready; read line'",
        tty=True,
        after="ready",
        keys="\x01",
        **_DETACHED,
    ),
    "exec -d -u 0 web sh -c 'echo here >/made'",
    Row("exec web cat /made", until="here", same_err=False),
    "exec --detach --tty web true",
    Row(
        "exec web nosuch",
        differs=_EXEC_126,
        ours=Said(127, err="executable file not found in $PATH"),
        dockers=Said(126, out=..., err=""),
    ),
    Row(
        "exec web /etc/passwd",
        differs=_EXEC_126,
        ours=Said(126, err="permission denied"),
        dockers=Said(126, out=..., err=""),
    ),
    Row(
        "exec -w /nosuch web pwd",
        differs=_EXEC_126,
        ours=Said(1, err="no such file or directory"),
        dockers=Said(126, out=..., err=""),
    ),
    Row(
        "exec -w relative web pwd",
        differs=_EXEC_126,
        ours=Said(1, err="absolute path"),
        dockers=Said(126, out=..., err=""),
    ),
    Row(
        "exec -u nosuch web id",
        differs=_EXEC_126,
        ours=Said(1, err="unable to find user nosuch"),
        dockers=Said(126, out=..., err=""),
    ),
    Row(
        "exec -d web nosuch",
        differs=_EXEC_126,
        ours=Said(127, err="executable file not found in $PATH"),
        dockers=Said(1, out="", err="executable file not found in $PATH"),
    ),
    Row("exec web", err="requires at least 2 arguments"),
    Row("exec", err="requires at least 2 arguments"),
    Row("exec nosuch true", err="No such container: nosuch"),
    Row("exec --env-file @dir/none web true", err="no such file or directory"),
    'exec -u 0 web sh -c \'grep -E "^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):"'
    " /proc/self/status'",
    Row(
        "exec --timeout 0.5 web sleep 1000",
        differs=_PODMANS,
        ours=Said(137),
        dockers=_UNKNOWN,
    ),
    "kill web",
    Row("exec web true", err="is not running"),
    "run -d --privileged=false --name priv BOX true",
)

_LOGS = scene(
    "logs",
    "run --name job BOX sh -c 'for i in 1 2 3 4 5; do echo out $i; done; sleep 0.2;"
    " echo err >&2; sleep 0.2; printf end'",
    Row("logs job", same_err=True),
    "logs --tail 2 job",
    "logs -n 0 job",
    "logs --tail all job",
    Row("logs --tail nonsense job"),
    Row("logs --tail=-1 job"),
    Row("logs -t --tail 1 job"),
    Row("logs --timestamps -n 3 job", same_err=True),
    "logs --since 10m --tail 1 job",
    "logs --since 2020-01-01 -n 1 job",
    "logs --since 2090-01-01T00:00:00Z job",
    "logs --until 2020-01-01T00:00:00 job",
    "logs --until 2090-01-01 job",
    "logs --since 1 -n 1 job",
    Row("logs --since nonsense job", err="nonsense"),
    Row("logs --until nonsense job", err="nonsense"),
    Row("logs -f job", same_err=True),
    "run -d --name slow BOX sh -c 'for i in 1 2 3; do echo $i; sleep 0.3; done'",
    "logs --follow slow",
    "logs -f --since 10m --tail 2 slow",
    "run --rm --name lines -t BOX sh -c 'echo one; echo two >&2'",
    "run --name term -t BOX sh -c 'echo one; echo two >&2'",
    "logs term",
    "create --name fresh BOX true",
    "logs fresh",
    "logs -f fresh",
    Row("logs nosuch", err="No such container: nosuch"),
    Row("logs", err="requires 1 argument"),
    Row("logs a b", err="requires 1 argument"),
)

SCENES = (_LIFE, _STOP, _RM, _ATTACH, _EXEC, _LOGS)
