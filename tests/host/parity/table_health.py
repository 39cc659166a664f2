"""Rows: health checks."""

from __future__ import annotations

from .rows import Row, Said, scene

_STATUS = "inspect -f 'is {{.State.Health.Status}}' "
_CHECK = "inspect -f '{{json .Config.Healthcheck}}' "
_FAST = "--health-interval 100ms --health-retries 2"
_EVENTS = "events --since 0 --until 0s -f event=health_status --format {{.Action}}"
_PODMANS = "docker has no such flag; the words are podman's"
_OWN = "docker has no such verb; podman has"
_OLD = "docker 20.10 has no start interval"


def _podmans(line: str, code: int = 0, out: str = "-1\n", err: str = "") -> Row:
    return Row(
        line,
        differs=_PODMANS,
        ours=Said(code, out=out, err=err),
        dockers=Said(..., err="unknown flag: --condition"),
    )


def _own(line: str, code: int = 0, out: str = "", err: str = "") -> Row:
    return Row(line, differs=_OWN, ours=Said(code, out=out, err=err), dockers=Said(..., err=...))


_LIFE = scene(
    "health",
    Row(f"run -d --name web --health-cmd 'test -f /ok' {_FAST} BOX sleep 1000", save="web"),
    Row(f"{_STATUS} web", until="is unhealthy"),
    f"{_CHECK} web",
    "ps --format '{{.Names}} {{.Status}}'",
    Row("inspect -f '{{len .State.Health.Log}}' web", until="5"),
    "inspect -f '{{with index .State.Health.Log 0}}{{.ExitCode}} {{json .Output}}{{end}}' web",
    "inspect -f '{{ge .State.Health.FailingStreak 2}}' web",
    "ps -q --no-trunc -f health=unhealthy",
    "ps -q --no-trunc -f health=healthy -f health=starting",
    "exec web touch /ok",
    Row(f"{_STATUS} web", until="is healthy"),
    Row("inspect -f '{{.State.Health.FailingStreak}}' web", until="0\n"),
    "ps --format '{{.Names}} {{.Status}}' -f health=healthy",
    "ps -aq -f health=none",
    # docker tells it after the state has changed.
    Row(f"{_EVENTS} -f container=@web", until="health_status: healthy"),
    "stop -t 0 web",
    f"{_STATUS} web",
    "ps -aq --no-trunc -f health=unhealthy",
    "ps -q --no-trunc -f health=unhealthy",
    "exec web true",
    "start web",
    Row(f"{_STATUS} web", until="is healthy"),
    "rm -f web",
    "create --name made --health-cmd true BOX true",
    "inspect -f '{{json .State.Health}}' made",
    "inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{end}}' made",
    Row("inspect -f '{{.State.Health.Status}}' made", any_out=True, err="State.Health.Status"),
    "ps -a --format '{{.Names}} {{.Status}}'",
    "rm made",
)

_PROBES = scene(
    "health probes",
    # A probe that takes too long is for docker 20.10 to hang on, with the whole container.
    "run -d --name loud --health-cmd 'head -c 5000 /dev/zero | tr \"\\\\0\" x; exit 3'"
    f" --health-timeout 10s {_FAST} BOX sleep 1000",
    f"run -d --name late --health-cmd 'test -f /ok' --health-start-period 1h {_FAST}"
    " BOX sleep 1000",
    Row(f"{_STATUS} loud", until="is unhealthy"),
    "inspect -f '{{with index .State.Health.Log 0}}{{.ExitCode}} {{len .Output}}{{end}}' loud",
    "inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' late",
    "ps --format '{{.Names}} {{.Status}}' -f health=starting",
    "exec late touch /ok",
    Row(f"{_STATUS} late", until="is healthy"),
    "rm -f loud late",
)

_IMAGES = scene(
    "health images",
    "create --name base BOX true",
    "commit -c 'HEALTHCHECK --interval=100ms --retries=4 CMD test -f /ok' base checked",
    'commit -c \'HEALTHCHECK --timeout=5s CMD ["test", "-f", "/ok"]\' base plain',
    "commit -c 'HEALTHCHECK NONE' base none",
    "image inspect -f '{{json .Config.Healthcheck}}' checked",
    "image inspect -f '{{json .Config.Healthcheck}}' plain",
    "image inspect -f '{{json .Config.Healthcheck}}' none",
    Row("commit -c 'HEALTHCHECK x' base", any_err=True),
    Row("commit -c 'HEALTHCHECK CMD' base", any_err=True),
    Row("commit -c 'HEALTHCHECK NONE x' base", any_err=True),
    Row("commit -c 'HEALTHCHECK --nosuch=1s CMD x' base", any_err=True),
    Row("commit -c 'HEALTHCHECK --interval=1us CMD x' base", any_err=True),
    "run -d --name one --network none checked sh -c 'touch /ok; sleep 1000'",
    Row(f"{_STATUS} one", until="is healthy"),
    f"{_CHECK} one",
    "run -d --name two --network none --no-healthcheck checked sleep 1000",
    f"{_CHECK} two",
    "inspect -f '{{json .State.Health}}' two",
    "ps --format '{{.Names}} {{.Status}}'",
    "run -d --name three --network none --health-timeout 3s --health-retries 1 checked sleep 1000",
    f"{_CHECK} three",
    Row(f"{_STATUS} three", until="is unhealthy"),
    "create --name four --network none --health-cmd true --health-interval 2m plain true",
    f"{_CHECK} four",
    "create --name five --health-interval 1s BOX true",
    f"{_CHECK} five",
    "create --name six --health-cmd '' --health-retries 0 --health-timeout 0 BOX true",
    "inspect -f '{{json .Config.Healthcheck}}' six",
    "commit four again",
    "image inspect -f '{{json .Config.Healthcheck}}' again",
    "rm -f one two three four five six base",
)

_REFUSED = scene(
    "health flags",
    *(
        Row(f"{verb} --health-{name} x BOX true", err=f'invalid argument "x" for "--health-{name}"')
        for verb, name in (
            ("run", "interval"),
            ("run", "timeout"),
            ("create", "start-period"),
            ("create", "retries"),
        )
    ),
    *(
        Row(f"{line} BOX true", err="cannot be negative")
        for line in (
            "run --health-start-period=-1s",
            "run --health-retries=-1",
            "create --health-interval=-1s",
            "create --health-timeout=-1s",
        )
    ),
    *(
        Row(f"{verb} --health-{name} 10us BOX true", err="cannot be less than 1ms")
        for verb, name in (("run", "interval"), ("create", "timeout"), ("create", "start-period"))
    ),
    *(
        Row(f"{verb} --no-healthcheck --health-cmd true BOX true", err="--no-healthcheck conflicts")
        for verb in ("run", "create")
    ),
    Row("run --health-start-interval x BOX true", err="--health-start-interval"),
    Row(
        "create --health-start-interval=-1s BOX true",
        differs=_OLD,
        ours=Said(125, err="--health-start-interval cannot be negative"),
        dockers=Said(..., err=...),
    ),
    Row("create --no-healthcheck --health-start-period 1s BOX true", err="conflicts"),
    *(
        Row(
            f"{verb} --rm --health-start-interval 1s --health-start-period 2s --health-timeout 1s"
            " --no-healthcheck=false BOX true",
            differs=_OLD,
            ours=Said(out=...),
            dockers=Said(..., out=..., err=...),
        )
        for verb in ("run", "create --name made")
    ),
    "ps -a -q -f health=healthy",
    Row("ps -f health=nosuch", err="Unrecognised filter value for health: nosuch"),
)

_WAIT = scene(
    "wait condition",
    f"run -d --name web --health-cmd 'test -f /ok' {_FAST} BOX sleep 1000",
    _podmans("wait --condition running web"),
    _podmans("wait --condition unhealthy web"),
    "exec web touch /ok",
    _podmans("wait --condition healthy,exited web"),
    _podmans("wait --condition paused --condition running web"),
    _own("healthcheck run web"),
    "exec web rm /ok",
    _own("healthcheck run web", 1, "unhealthy\n"),
    _own("healthcheck run nosuch", 125, err="No such container: nosuch"),
    Row("healthcheck run --help", any_out=True),
    "run -d --name job BOX sh -c 'exit 3'",
    _podmans("wait --condition exited job", out="3\n"),
    _podmans("wait --condition stopped --condition healthy job", out="3\n"),
    _podmans("wait --condition healthy job", 1, "", "has no health check"),
    _podmans("wait --condition nosuch job", 1, "", "unknown condition 'nosuch'"),
    _podmans("wait --condition running nosuch", 1, "", "No such container: nosuch"),
    _own("healthcheck run job", 125, err="has no health check"),
    "rm -f web job",
)

SCENES = (_LIFE, _PROBES, _IMAGES, _REFUSED, _WAIT)
