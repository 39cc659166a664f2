"""Rows: limits, ``update`` and ``stats``.

What docker cannot keep on a machine it discards with a warning, and what cgroup v2 does not have it
ignores; here both are refused. Whether a limit bites is not asked here but in tests/vm.
"""

from __future__ import annotations

from .rows import Row, Said, scene

_NONE_HERE = "cgroup v2 has it not: what nobody keeps is refused, not dropped with a warning"
_DISCARDED = "a limit that this machine cannot keep is refused, not dropped with a warning"
_NEEDED = Said(125, err="a cgroup v1 hierarchy has it")
_PODMANS = "docker has no such flag: it is podman's"
_UNKNOWN = Said(125, err="unknown flag")

_FLAGS = (
    "-m 64m --memory-reservation 32m --memory-swap 96m --cpu-shares 512 --cpuset-cpus 0"
    " --cpuset-mems 0 --pids-limit 50 --blkio-weight 500"
)
_DEVICES = (
    "--blkio-weight-device /dev/nosuch:100 --device-read-bps /dev/nosuch:1mb"
    " --device-write-bps /dev/nosuch:1mb --device-read-iops /dev/nosuch:10"
    " --device-write-iops /dev/nosuch:10"
)
_SHOWN = (
    "{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}} {{.HostConfig.MemorySwap}}"
    " {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.CpusetMems}}"
    " {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuPeriod}}"
    " {{.HostConfig.CpuQuota}} {{.HostConfig.BlkioWeight}} {{.HostConfig.OomScoreAdj}}"
    " {{.HostConfig.CgroupParent}}"
)
_TIDY = "! rmdir /sys/fs/cgroup/unified/parity /sys/fs/cgroup/parity 2>/dev/null; true"


def _limited(*lines: str) -> tuple[Row, ...]:
    return tuple(Row(line, limits=True) for line in lines)


_LIMITS = scene(
    "limits",
    # docker's client reads these
    *(
        Row(f"{verb} --rm {words} BOX true", err=f'invalid argument "x" for "{flag}"')
        for verb in ("run", "create")
        for words, flag in (
            ("-m x", "-m, --memory"),
            ("--memory-swap x", "--memory-swap"),
            ("--memory-reservation x", "--memory-reservation"),
            ("--cpus x", "--cpus"),
            ("-c x", "-c, --cpu-shares"),
            ("--cpu-period x", "--cpu-period"),
            ("--cpu-quota x", "--cpu-quota"),
            ("--pids-limit x", "--pids-limit"),
            ("--blkio-weight x", "--blkio-weight"),
            ("--blkio-weight-device x", "--blkio-weight-device"),
            ("--device-read-bps x", "--device-read-bps"),
            ("--device-write-bps x", "--device-write-bps"),
            ("--device-read-iops x", "--device-read-iops"),
            ("--device-write-iops x", "--device-write-iops"),
            ("--oom-score-adj x", "--oom-score-adj"),
            ("--memory-swappiness x", "--memory-swappiness"),
        )
    ),
    Row("run --rm -m -1 BOX true", err="invalid"),
    Row("run --rm --cpus 1.0000000001 BOX true", err="too precise"),
    Row("run --rm --device-read-bps nosuch:1mb BOX true", err="path"),
    Row("run --rm --device-read-bps /dev/x:y BOX true"),
    Row("run --rm --blkio-weight-device /dev/x:5 BOX true"),
    # its daemon reads these on any machine
    Row("run --rm --oom-score-adj 1001 BOX true", err="1000"),
    "run --rm --oom-score-adj 500 BOX cat /proc/self/oom_score_adj",
    "create --name scored --oom-score-adj 200 BOX true",
    "inspect -f '{{.HostConfig.OomScoreAdj}}' scored",
    "run --rm -m 0 --memory-swap 0 --cpus 0 --cpu-shares 0 --pids-limit -1 BOX true",
    "run --rm --cgroup-parent /parity BOX true",
    "create --name below --cgroup-parent /parity BOX true",
    "inspect -f '{{.HostConfig.CgroupParent}}' below",
    _TIDY,
    "run --rm --memory-swappiness -1 --oom-kill-disable=false BOX true",
    "create --memory-swappiness -1 --oom-kill-disable=false BOX true",
    Row("run --rm --kernel-memory 0 BOX true", any_err=True),
    Row("create --kernel-memory 0 BOX true", any_err=True),
    *(
        Row(
            f"run --rm {words} BOX true",
            differs=_NONE_HERE,
            ours=Said(125, err="the memory controller of cgroup v2"),
            dockers=Said(err="discarded"),
        )
        for words in ("--memory-swappiness 50", "--oom-kill-disable", "--kernel-memory 50m")
    ),
    *(
        Row(
            f"run --rm {words} BOX true",
            limits=False,
            differs=_DISCARDED,
            ours=_NEEDED,
            dockers=Said(err="discarded"),
        )
        for words in ("-m 64m", "--pids-limit 50", "--cpuset-cpus 0")
    ),
    Row(
        "run --rm --cgroup-conf cgroup.max.depth=5 BOX true",
        differs=_PODMANS,
        ours=Said(),
        dockers=_UNKNOWN,
    ),
    Row(
        "create --cgroup-conf cgroup.max.depth=5 BOX true",
        differs=_PODMANS,
        ours=Said(out="<id>\n"),
        dockers=_UNKNOWN,
    ),
    *_limited(
        f"run --rm {_FLAGS} --cpus 0.5 BOX true",
        f"create --name limited {_FLAGS} --cpu-period 50000 --cpu-quota 20000 BOX true",
        f"inspect -f '{_SHOWN}' limited",
        f"run --rm --cpu-period 50000 --cpu-quota 20000 {_DEVICES} BOX true",
        f"create {_DEVICES} --cpus 0.5 BOX true",
        "run --rm -m 1m BOX true",
        "run --rm --memory-reservation 1m BOX true",
        "run --rm -m 64m --memory-swap 32m BOX true",
        "run --rm --memory-swap 64m BOX true",
        "run --rm -m 64m --memory-reservation 128m BOX true",
        "run --rm --cpus 0.5 --cpu-quota 5000 BOX true",
        "run --rm --cpus 0.5 --cpu-period 5000 BOX true",
        "run --rm --cpus 10000 BOX true",
        "run --rm --cpus 0.001 BOX true",
        "run --rm --cpu-period 10 BOX true",
        "run --rm --cpu-quota 10 BOX true",
        "run --rm --cpuset-cpus 8000 BOX true",
        "run --rm --cpuset-cpus a BOX true",
        "run --rm --cpuset-mems 1000 BOX true",
        "run --rm --blkio-weight 5 BOX true",
        "run --name hungry -m 8m --memory-swap 8m BOX dd if=/dev/zero of=/dev/null bs=32M count=1",
        "inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hungry",
    ),
    Row(
        "ps -a -f name=hungry --format {{.Status}}",
        limits=True,
        differs="why a container was killed is asked of ps first; docker says it in inspect only",
        ours=Said(out="Exited (137) <ago> (OOM killed)\n"),
        dockers=Said(out="Exited (137) <ago>\n"),
    ),
)

_UPDATE = scene(
    "update",
    "run -d --name up BOX sleep 1000",
    "create --name down BOX true",
    Row("update", err="requires at least 1 argument"),
    Row("update up"),
    Row("update --nosuch up", err="unknown flag: --nosuch"),
    Row("update -m x up", err='invalid argument "x" for "-m, --memory"'),
    Row("update --cpus x up", err='invalid argument "x" for "--cpus"'),
    Row("update --pids-limit -1 nosuch", err="No such container: nosuch"),
    "update --pids-limit -1 up",
    "update --pids-limit -1 down",
    Row("update --pids-limit -1 down nosuch up", err="No such container: nosuch"),
    Row(
        "update --kernel-memory 50m up",
        differs=_NONE_HERE,
        ours=Said(125, err="the memory controller of cgroup v2"),
        dockers=Said(..., ..., ...),
    ),
    Row("update --kernel-memory 0 --pids-limit -1 up", any_err=True),
    Row("update --help", any_out=True),
    *_limited(
        f"update {_FLAGS} --cpus 0.5 down",
        f"inspect -f '{_SHOWN}' down",
        f"update {_FLAGS} --cpu-period 50000 --cpu-quota 20000 up",
        f"inspect -f '{_SHOWN}' up",
        "update --cpus 0.5 up",
        "update -m 1m up",
    ),
    Row(
        f"update {_DEVICES} up",
        differs="docker changes no rates of devices; podman does",
        ours=Said(1, err=...),
        dockers=_UNKNOWN,
    ),
    Row(
        "update --cgroup-conf cgroup.max.depth=5 up",
        differs="docker has no such flag",
        ours=Said(out="up\n"),
        dockers=_UNKNOWN,
    ),
)

_HEAD = (
    "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS"
)
_STATS = scene(
    "stats",
    *(
        Row(
            line,
            differs="the column of pressure is ours",
            ours=Said(out=f"{_HEAD}      PRESSURE CPU / MEM / IO\n"),
            dockers=Said(out=f"{_HEAD}\n"),
        )
        for line in ("stats --no-stream", "stats --no-stream --all")
    ),
    Row("run -d --name up BOX sleep 1000", save="up"),
    "run --name done BOX true",
    "stats --no-stream --format '{{.Name}} {{.ID}} {{.Container}}'",
    "stats --no-stream --no-trunc --format '{{.Name}} {{.ID}} {{.Container}}'",
    "stats --no-stream --format '{{.Name}} {{.ID}} {{.Container}}' up",
    "stats --no-stream --format '{{.Name}} {{.ID}} {{.Container}}' @up:5",
    "stats --no-stream --format '{{.NetIO}}' up",
    "stats --no-stream -a --format '{{.Name}}'",
    "stats --no-stream --format 'table {{.Name}}\\t{{.Container}}' up",
    Row("stats --no-stream up", any_out=True),
    Row("stats --no-stream --format json up", any_out=True),
    Row("stats --no-stream up nosuch", err="No such container: nosuch"),
    Row("stats --no-stream --format '{{.Name' up", err="unclosed action"),
    Row("stats --nosuch", err="unknown flag: --nosuch"),
    Row("stats --help", any_out=True),
    Row(
        "stats --no-stream --format '{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}' done",
        differs="what is not known is no nought",
        ours=Said(out="-- -- / -- --\n"),
        dockers=Said(out=...),
    ),
    Row(
        "stats --no-stream --format '{{.Pressure}} {{.CPUPressure}} {{.MemPressure}}"
        " {{.IOPressure}}' done",
        differs="docker does not tell pressure",
        ours=Said(out="-- / -- / -- -- -- --\n"),
        dockers=Said(..., out=..., err=...),
    ),
    Row(
        "inspect -f '{{.Totals.NetSent}} {{.Totals.NetReceived}}' done",
        differs="docker forgets what a container used when it ends",
        ours=Said(out="0 0\n"),
        dockers=Said(1, out=..., err=...),
    ),
)

SCENES = (_LIMITS, _UPDATE, _STATS)
