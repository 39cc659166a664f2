"""Rows: pods. docker has none; the words are podman's."""

from __future__ import annotations

from .rows import Row, Said, scene

_PODMANS = "docker has no pods, podman has"
_ANY = Said(..., out=..., err=...)


def _ours(line: str, code: int = 0, *, out: str | None = None, err: str | None = None) -> Row:
    """A row of which ours alone is looked at."""
    told = err if err is not None else ... if code else ""
    said = Said(code, out=... if out is None else out, err=told)
    return Row(line, differs=_PODMANS, ours=said, dockers=_ANY)


def _unknown(line: str) -> Row:
    """A row whose result depends on the machine's controllers."""
    return Row(line, differs=_PODMANS, ours=_ANY, dockers=_ANY)


_LIMITS = (
    "--blkio-weight 100 --blkio-weight-device /dev/null:100 --cgroup-conf memory.high=64M"
    " --cpu-period 100000 --cpu-quota 50000 --cpu-shares 512 --cpus 1 --cpuset-cpus 0"
    " --cpuset-mems 0 --device-read-bps /dev/null:1m --device-read-iops /dev/null:100"
    " --device-write-bps /dev/null:1m --device-write-iops /dev/null:100 --memory 64m"
    " --memory-reservation 32m --memory-swap 128m --pids-limit 100"
)

_POD = scene(
    "pods",
    _ours("pod ps", out="POD ID   NAME   STATUS   CREATED   INFRA ID   # OF CONTAINERS\n"),
    _ours("pod create --network none --hostname near -l a=1 --shm-size 32m web"),
    _ours("pod create --network none --name web", 125, err="already exists"),
    _ours("pod create --network none --replace --name web --share +pid --dns 1.1.1.1 --add-host"
          " a:1.1.1.1 --dns-option ndots:1 --dns-search example -v data:/data"),
    _ours("pod create --network none --ip 10.1.1.1 xx", 125, err="conflicting options: ip"),
    _ours("pod create --network none --ip6 fd00::1 xx", 125, err="conflicting options: ip6"),
    _ours("pod create --network none --mac-address 02:00:00:00:00:01 xx", 125, err="conflicting"),
    _ours("pod create --network none --network-alias y xx", 125, err="conflicting options"),
    _ours("pod create --network none --publish 80:80 xx", 125, err="conflicting options"),
    _ours("pod create --network none --label-file @dir/nosuch xx", 125, err="no such file"),
    _ours("pod create --share user xx", 125, err="there are ipc, net, pid, uts and none"),
    _unknown(f"pod create --network none {_LIMITS} limited"),
    _ours("pod exists web"),
    _ours("pod exists nosuch", 1, out="", err=""),
    _ours("create --pod web --name made busybox sleep 1000"),
    _ours("run --pod web --rm busybox hostname", out="web\n"),
    _ours("run -d --pod web --name up --init busybox sh -c 'echo one; exec sleep 1000'"),
    _ours("run --pod web -p 80:80 busybox", 125, err="must be set on the pod"),
    _ours("run --pod nosuch busybox", 125, err="no such pod"),
    _ours("pod inspect --format '{{.State}} {{.NumContainers}}' web", out="Degraded 2\n"),
    _ours("pod start web"),
    _ours("pod inspect -f '{{.State}}' web", out="Running\n"),
    _ours("pod logs web --names --container up --tail 5 --since 1h --until 0s", out="up one\n"),
    _ours("pod logs -t -f -c nosuch web", 125, err="not in pod"),
    _ours("pod top web"),
    _ours("pod stats --no-stream --all --format '{{.Name}}'"),
    _ours("pod ps --ctr-ids --ctr-names --ctr-status --no-trunc"),
    _ours("pod ls --filter name=web --format '{{.Name}}'", out="web\n"),
    _ours("pod list --quiet --filter status=created --filter name=nosuch", out=""),
    _ours("ps --pod --filter pod=web --format '{{.Names}} {{.PodName}}'", out="up web\nmade web\n"),
    _ours("pod pause web"),
    _ours("pod ps --format '{{.Name}} {{.Status}}' -f name=web", out="web Paused\n"),
    _ours("pod unpause web"),
    _ours("pod kill --signal KILL web"),
    _ours("pod rm web", 125, err="is running"),
    _ours("pod stop --time 0 --ignore web nosuch"),
    _ours("pod restart web"),
    _ours("pod stop --all --timeout 0"),
    _ours("pod prune --force --filter label=nosuch", out=""),
    _ours("pod prune -f"),
    _ours("pod exists web", 1, out="", err=""),
    _ours("pod start --all"),
    *(_ours(f"pod {verb} --all") for verb in ("pause", "unpause", "kill", "restart")),
    _ours("pod rm --all --force"),
    _ours("pod create --network none --pod-id-file @dir/pid byfile"),
    _ours("pod create --network none --pod-id-file @dir/pid other", 125, err="pod ID file found"),
    _ours("pod create --network none --pod-id-file @dir/no/pid other", 125, err="no such file"),
    _ours("pod exists other", 1, out="", err=""),
    _ours("pod start --pod-id-file @dir/pid"),
    _ours("pod inspect -f '{{.Name}} {{.State}}' byfile", out="byfile Running\n"),
    _ours("pod stop --pod-id-file @dir/pid -t 0 -i nosuch"),
    _ours("pod stop --pod-id-file @dir/nosuch", 125, err="no such file"),
    _ours("pod rm --all --pod-id-file @dir/pid", 125, err="give one of them"),
    _ours("pod rm --pod-id-file @dir/pid"),
    _ours("pod rm --pod-id-file @dir/pid", 125, err="no such file"),
    _ours("pod rm --ignore nosuch", out=""),
    _ours("pod rm nosuch", 1, err="no such pod"),
    _ours("pod start nosuch", 125, err="no such pod"),
    _ours("pod inspect nosuch", 125, err="no such pod"),
    *(
        _ours(f"pod {verb} --help")
        for verb in (
            "create exists inspect kill list logs ls pause prune ps restart rm start stats stop top"
            " unpause"
        ).split()
    ),
    *(_ours(f"pod {verb} --filter nosuch=1", 125, err="invalid filter") for verb in ("ls", "list")),
    *(
        _ours(f"pod {verb} --ctr-ids --ctr-names --ctr-status --no-trunc -q --format json")
        for verb in ("ls", "list", "ps")
    ),
)  # fmt: skip

SCENES = (_POD,)
