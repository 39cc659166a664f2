"""What ``run`` and ``create`` make of their flags: rows."""

from __future__ import annotations

from .rows import Row, Said, scene

_NET = "docker's default network is a bridge; until networks come ours is none"
_UMASK = "docker has no such flag; podman's"
_TIMEOUT = "docker has no such flag; podman's"

SCENES = (
    scene(
        "run ends",
        Row("run --rm BOX sh -c 'echo out; echo err >&2; exit 3'", same_err=True),
        "run --rm BOX true",
        "run --rm BOX sh -c 'exit 255'",
        "run --rm --init BOX sh -c 'kill -TERM $$; sleep 9'",
        "run --rm --init BOX sh -c 'kill -9 $$; sleep 9'",
        "run --rm BOX sh -c 'kill -9 $$; echo nothing inside can kill pid 1'",
        Row("run --rm BOX nosuch", err="executable file not found in $PATH"),
        Row("run --rm BOX /no/such", err="no such file or directory"),
        Row("run --rm BOX /etc/passwd", err="permission denied"),
        Row("run --rm BOX /etc", err="permission denied"),
        "run --rm -i BOX cat",
        Row("run --rm -i BOX wc -c", stdin="twelve bytes"),
        Row("run --rm --interactive BOX cat", stdin="one\ntwo\n"),
        Row("run --rm BOX cat", stdin="not connected"),
        Row("run --rm BOX head -c 300000 /dev/zero", any_out=True),
        "run BOX true",
        "ps -a --format '{{.Image}} {{.Command}} {{.State}}'",
        Row(
            "run --rm BOX sh -c 'trap \"echo got; exit 4\" TERM; echo ready; while :; do sleep 0.05; done'",
            after="ready", signal="TERM",
        ),
        Row(
            "run --rm --sig-proxy=false --init --name kept BOX sh -c 'echo ready; sleep 1000'",
            after="ready", signal="TERM",
        ),
        "ps --format {{.Names}}",
    ),
    scene(
        "run is refused",
        Row("run", err="requires at least 1 argument"),
        Row("run --rm", err="requires at least 1 argument"),
        Row("run --nosuch BOX true", err="unknown flag: --nosuch"),
        Row("run -Z BOX true", err="unknown shorthand flag: 'Z' in -Z"),
        Row("run --name", err="flag needs an argument: --name"),
        Row("run -v", err="flag needs an argument: 'v' in -v"),
        Row("run --rm=perhaps BOX true", err="invalid argument \"perhaps\" for \"--rm\" flag"),
        Row("run --rm --network none UPPER true", err="invalid reference format"),
        Row("run --rm --network none '' true", err="invalid reference format"),
        Row("run --rm --network none localhost:1/nosuch:1 true", err="localhost:1/nosuch"),
        Row("run --rm --name '!bad' BOX true", err="invalid container name"),
        Row("run --rm --name x BOX true", err="invalid container name"),
        Row("create --name taken BOX true", any_out=True),
        Row("run --name taken BOX true", err='the container name "/taken" is already in use'),
        Row("create --name taken BOX true", err='the container name "/taken" is already in use'),
        Row("run --rm -d BOX nosuch", err="executable file not found in $PATH"),
        Row("run -d --name left BOX nosuch", any_out=True, err="executable file not found"),
        "ps -a --format '{{.Names}} {{.State}}'",
    ),
)
