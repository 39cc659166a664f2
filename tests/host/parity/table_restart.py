"""Rows: restart policies."""

from __future__ import annotations

from .rows import Row, Said, scene

_POLICY = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"
_STATE = "{{.State.Status}} {{.State.Running}} {{.State.Restarting}} {{.State.ExitCode}}"
_FAILS = 'sh -c "echo run; exit 3"'
# Every end doubles the wait: sooner or later it is long enough to be seen, and to be acted on.
_LONG = "restarting"

_WORDS = scene(
    "restart words",
    *(
        Row(f"{verb} --restart {word} BOX true", err=phrase)
        for verb in ("run", "create")
        for word, phrase in (
            ("sometimes", "invalid restart policy 'sometimes'"),
            ("on-failure:x", "maximum retry count must be an integer"),
            ("on-failure:1:2", "maximum retry count must be an integer"),
            ("on-failure:-1", "maximum retry count cannot be negative"),
            ("always:1", "maximum retry count cannot be used with restart policy 'always'"),
            ("unless-stopped:1", "maximum retry count cannot be used with restart policy"),
            ("no:1", "maximum retry count cannot be used with restart policy 'no'"),
        )
    ),
    Row("run --rm --restart always BOX true", err="cannot specify both --restart and --rm"),
    Row("create --rm --restart on-failure BOX true", err="cannot specify both --restart and --rm"),
    "run --rm --restart no BOX echo once",
    *(
        row
        for at, word in enumerate(
            ("no", "always", "unless-stopped", "on-failure", "on-failure:3", "on-failure:")
        )
        for row in (
            Row(f"create --restart '{word}' --name box{at} BOX true", any_out=True),
            Row(f"inspect -f '{_POLICY} {{{{.RestartCount}}}}' box{at}"),
        )
    ),
    Row("update --restart on-failure:7 box0", any_err=True),
    f"inspect -f '{_POLICY}' box0",
    Row("update --restart no box0", any_err=True),
    f"inspect -f '{_POLICY}' box0",
    Row("update --restart sometimes box0", err="invalid restart policy 'sometimes'"),
    Row("update --restart always:1 box0", err="maximum retry count cannot be used"),
    Row("update --restart on-failure:x box0", err="maximum retry count must be an integer"),
    Row("create --rm --name gone BOX true", any_out=True),
    Row("update --restart always gone", err="because AutoRemove is enabled for the container"),
    Row("update --restart no gone", any_err=True, any_out=True),
    *(
        Row(
            line,
            differs="docker has no such verb: its daemon starts what is to run, and stops it",
            ours=ours,
            dockers=Said(..., out=..., err=...),
        )
        for line, ours in (
            ("system boot", Said()),
            ("system boot --help", Said(out=...)),
            ("system shutdown", Said(out=..., err=...)),
            ("system shutdown -t 0", Said(out=..., err=...)),
            ("system shutdown -t x", Said(125, err=...)),
            ("system shutdown --help", Said(out=...)),
            ("system unit", Said(..., out=..., err=...)),
            ("system unit --help", Said(out=...)),
        )
    ),
)

_RUNS = scene(
    "restarts",
    # Attached, it ends with the first run.
    Row(f"run --name few --restart on-failure:2 BOX {_FAILS}"),
    Row("inspect -f '{{.RestartCount}} {{.State.Status}}' few", until="2 exited"),
    f"inspect -f '{_STATE}' few",
    "logs few",
    "wait few",
    Row("run --name well --restart on-failure BOX true"),
    "inspect -f '{{.RestartCount}} {{.State.Status}}' well",
    Row("run -d --name up --restart always BOX sleep 1000", any_out=True),
    "stop -t 0 up",
    f"inspect -f '{_STATE} {{{{.RestartCount}}}}' up",
    "start up",
    "kill up",
    Row("inspect -f '{{.State.Status}} {{.RestartCount}}' up", until="exited"),
    Row(f"run -d --name loop --restart always BOX {_FAILS}", any_out=True),
    # After the next run it waits for 25 s, so the rows behind it are done while that lasts.
    Row("inspect -f '{{.RestartCount}}' loop", until="8", any_out=True),
    Row("ps -q -f status=restarting -f name=loop", until="", any_out=True),
    Row(f"inspect -f '{_STATE}' loop", until=_LONG),
    Row("ps --format '{{.State}}' -f name=loop", until=_LONG),
    Row("rm loop", err="you cannot remove a restarting container"),
    Row("exec loop true", err="is restarting, wait until the container is running"),
    Row("pause loop", err="is restarting, wait until the container is running"),
    Row("top loop", err="is restarting, wait until the container is running"),
    Row("attach loop", err="you cannot attach to a restarting container"),
    "stop loop",
    "inspect -f '{{.State.Status}} {{.State.Restarting}} {{.State.ExitCode}}' loop",
    Row("start loop"),
    "stop loop",
    "inspect -f '{{.State.Status}}' loop",
    Row("run -d --name late BOX sleep 1000", any_out=True),
    Row("update --restart always late"),
    Row("exec late sh -c 'kill -TERM 1; kill -9 -1; true'", any_out=True, any_err=True),
    "rm -f late",
)

SCENES = (_WORDS, _RUNS)
