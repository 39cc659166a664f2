"""Rows: the verbs that show what is there."""

from __future__ import annotations

from .rows import Row, Said, scene

_UNKNOWN = Said(125, err="unknown flag")
_FIELDS = (
    "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.CreatedAt}} {{.RunningFor}} [{{.Ports}}]"
    ' {{.State}} {{.Status}} {{.Labels}} {{.Label "a"}} {{.LocalVolumes}} {{.Networks}}'
)

_PS = scene(
    "ps",
    Row("ps"),
    "ps -a",
    "ps -q",
    Row("create --name fresh -l a=1 -l b BOX true", save="fresh"),
    Row("run --name done -l a=2 BOX sh -c 'exit 3'"),
    Row(
        "run -d --name up -l a=1 --init BOX sh -c 'while sleep 1; do echo a longer command; done'",
        save="up",
    ),
    Row("run -d --name volumes -v /one -v @dir/src:/two TOOL", save="volumes"),
    "wait volumes",
    *(
        f"ps {flags}"
        for flags in (
            "",
            "-a",
            "-q",
            "-aq",
            "-l",
            "--latest -q",
            "-n 2 --format {{.Names}}",
            "--no-trunc",
            "--last 1 --quiet --no-trunc",
            "-n 0",
            "--all --no-trunc --quiet",
            f"-a --format '{_FIELDS}'",
            f"-a --no-trunc --format '{_FIELDS}'",
            "--format 'table {{.Names}}\\t{{.Image}}\\t{{.State}}'",
            "-a --format 'table {{.ID}} {{.Names}}'",
            "--format table",
            "-q --format {{.Names}}",
            "-a --format '{{upper .Names}} {{json .Image}} {{len .Names}}'",
            "-a --format '{{.Names | printf \"%q\"}}'",
            "-a -f volume=/one --format '{{.Names}} {{.LocalVolumes}}'",
            "-a -f volume=@dir/src --format '{{.Names}}'",
        )
    ),
    *(
        Row(f"ps --format {{{{.Names}}}} {flags}")
        for flags in (
            "-f name=up",
            "-a -f name=^/done$",
            "-a -f name=o -f name=fresh",
            "-f id=@up:5",
            "-a -f id=@up -f id=@fresh",
            "-a -f label=a",
            "-a -f label=a=1",
            "-a -f label=a=1 -f label=b",
            "-f status=exited",
            "-f status=created -f status=running",
            "-a -f exited=3",
            "-a -f exited=0",
            "-f exited=3",
            "-a -f ancestor=busybox",
            "-a -f ancestor=tooled:latest",
            "-a -f ancestor=nosuch",
            "-a -f before=up",
            "-a -f since=up",
            "-a -f since=@fresh",
            "-a --filter network=none",
            "-a -f network=host",
            "-a -f name=nosuch",
            "-f name=done",
        )
    ),
    Row("ps -a -s", any_out=True),
    "ps -a --size -q",
    "ps -a -s --format '{{.Names}} {{len .Size | lt 10}}'",
    Row(
        "ps -f is-task=false",
        differs="there are no services, so no tasks of them",
        ours=Said(1, err="invalid filter"),
        dockers=Said(out=...),
    ),
    Row("ps -f nosuch=x", err="invalid filter 'nosuch'"),
    Row("ps -f status=nosuch", err="invalid filter 'status=nosuch'"),
    Row("ps -a -f exited=x"),
    Row("ps -f before=nosuch"),
    Row("ps -f noequals", err="noequals"),
    Row(
        "ps -aq -f 'name=('",
        differs="a pattern that can match nothing is a mistake, not an empty answer",
        ours=Said(1, err="bad regular expression"),
        dockers=Said(),
    ),
    Row("ps --format '{{.Nosuch}}'"),
    Row("ps --format '{{.Names'"),
    Row("ps -n x", err='invalid argument "x" for "-n, --last" flag'),
    Row("ps extra", err="accepts no arguments"),
    Row("ps --nosuch", err="unknown flag: --nosuch"),
)

_JSON = (
    "{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{.Config.User}}"
    " {{.Config.WorkingDir}} {{.Config.Image}} {{.Config.Tty}} {{.Config.OpenStdin}}"
    " {{.Config.StopSignal}} {{.Config.Hostname}} {{json .Config.Labels}} {{json .Config.Volumes}}"
)
_HOST = (
    "{{.HostConfig.NetworkMode}} {{.HostConfig.IpcMode}} {{.HostConfig.PidMode}}"
    " {{.HostConfig.UTSMode}} {{.HostConfig.CgroupnsMode}} {{.HostConfig.Privileged}}"
    " {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.AutoRemove}} {{.HostConfig.ShmSize}}"
    " {{json .HostConfig.Binds}} {{json .HostConfig.CapAdd}} {{json .HostConfig.CapDrop}}"
    " {{json .HostConfig.Dns}} {{json .HostConfig.DnsOptions}} {{json .HostConfig.DnsSearch}}"
    " {{json .HostConfig.ExtraHosts}} {{json .HostConfig.GroupAdd}}"
    " {{json .HostConfig.SecurityOpt}} {{.HostConfig.RestartPolicy.Name}}"
    " {{range .HostConfig.Ulimits}}{{.Name}} {{.Soft}} {{.Hard}};{{end}}"
    " {{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}};"
    "{{end}}"
)
# docker has these fields only where there is something in them.
_SOMETIMES = "{{json .HostConfig.Tmpfs}} {{json .HostConfig.Sysctls}} {{json .HostConfig.Init}}"
# docker's own list leaves --tmpfs out, and is in no order.
_MOUNT = (
    '{{{{range .Mounts}}}}{{{{if eq .Type "{}"}}}}{{{{.Type}}}} {{{{.Destination}}}} {{{{.Mode}}}}'
    " {{{{.RW}}}} {{{{.Propagation}}}};{{{{end}}}}{{{{end}}}}"
)


_INSPECT = scene(
    "inspect",
    Row(
        "create --name full -it -h box -u 33 -w /tmp -e A=1 -l x=1 -l a=2 --stop-signal INT"
        " -v @dir/src:/two:ro -v /one --tmpfs /t:size=1m --cap-add NET_ADMIN --cap-drop CHOWN"
        " --dns 192.0.2.1 --dns-option ndots:2 --dns-search x.org --add-host a:192.0.2.2"
        " --group-add adm --security-opt no-new-privileges --sysctl net.ipv4.ip_forward=1"
        " --ulimit nofile=10:20 --init --device /dev/null:/dev/x:r --read-only --rm --shm-size 1m"
        " --cgroupns private --entrypoint sh BOX -c true",
        save="full",
    ),
    f"inspect -f '{_JSON}' full",
    f"inspect -f '{_HOST}' full",
    f"inspect -f '{_SOMETIMES}' full",
    f"inspect -f '{_MOUNT.format('bind')}' full",
    f"inspect -f '{_MOUNT.format('volume')}' full",
    Row("create --name plain TOOL", save="plain"),
    f"inspect -f '{_JSON}' plain",
    f"inspect -f '{_HOST}' plain",
    f"inspect --format '{_MOUNT.format('volume')}' plain",
    "inspect -f '{{.Id}} {{.Name}} {{.Path}} {{json .Args}} {{.Image}} {{.RestartCount}}"
    " {{.Created}} {{.Platform}}' plain @full:10",
    "inspect -f '{{json .State}}' plain",
    "run --name done BOX sh -c 'exit 3'",
    "inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}}"
    " {{.State.FinishedAt}} {{.State.Running}} {{.State.Pid}}' done",
    "run -d --name up BOX sleep 1000",
    "inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}}"
    " {{.State.FinishedAt}} {{ne .State.Pid 0}}' up",
    "inspect -f '{{if .State.Running}}yes{{else}}no{{end}} {{index .Config.Cmd 1}}"
    " {{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}' up",
    "inspect -f '{{.Id}} {{json .RepoTags}} {{.Created}} {{.Os}}"
    " {{json .Config.Cmd}} {{json .Config.Env}} {{json .RootFS.Layers}}' busybox",
    "inspect -f '{{.Config.User}} {{.Config.WorkingDir}} {{json .Config.Entrypoint}}"
    " {{json .Config.Volumes}} {{json .Config.Labels}}' tooled:latest",
    Row("inspect nosuch", err="No such object: nosuch"),
    Row("inspect -f {{.Name}} nosuch up", err="No such object: nosuch"),
    Row("inspect -f {{.Nosuch}} up", any_out=True, err="no entry for key"),
    Row("inspect -f {{.Name up", err="template parsing error"),
    Row("inspect", err="requires at least 1 argument"),
    Row("inspect nosuch up", any_out=True, err="No such object: nosuch"),
)

_IMAGE_FIELDS = "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}} {{.CreatedSince}} {{.CreatedAt}}"
_IMAGES = scene(
    "images",
    *(
        f"images {flags}"
        for flags in (
            "-a -q",
            "--all --quiet --no-trunc",
            "--no-trunc busybox",
            "busybox",
            "tooled:latest",
            "nosuch",
            "'b*'",
            f"busybox --format '{_IMAGE_FIELDS}'",
            "busybox --format 'table {{.Repository}}'",
            "-f reference=busybox --format {{.Repository}}",
            "-f 'reference=t*' --format {{.Repository}}",
            "-f label=team --format {{.Repository}}",
            "--filter label=team=a --format {{.Repository}}",
            "-f label=team=b",
            "-f dangling=true",
            "-f dangling=false -q",
            "-f before=busybox",
            "-f since=tooled",
            "busybox -q --format {{.Repository}}",
        )
    ),
    "images --digests --format {{.Digest}} busybox",
    Row("images", any_out=True),
    Row("images --format json", any_out=True),
    Row("images -f nosuch=x", err="invalid filter 'nosuch'"),
    Row("images -f dangling=x", err="dangling"),
    Row("images -f before=nosuch", err="nosuch"),
    Row("images --format '{{.Nosuch}}'"),
    Row("images a b", err="requires at most 1 argument"),
    Row("images --nosuch", err="unknown flag: --nosuch"),
)

_ABOUT = scene(
    "version info and the rest",
    Row("version", any_out=True),
    "version --format '{{.Client.Os}} {{.Server.Os}}'",
    Row("version --format '{{.Server.Arch}} {{.Server.KernelVersion}}'", local=True),
    Row("version -f json", any_out=True),
    Row("version -f {{.Nosuch}}", any_out=True),
    Row("version -f {{.Client"),
    Row("info -f {{.ID"),
    Row("version extra", err="accepts no arguments"),
    Row("version --nosuch", err="unknown flag: --nosuch"),
    "create --name one BOX true",
    "run -d --name up BOX sleep 1000",
    "run --name done BOX true",
    "info -f '{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}"
    " {{.Images}} {{.OSType}}'",
    Row(
        "info --format '{{.Architecture}} {{.KernelVersion}} {{.NCPU}} {{.MemTotal}}"
        " {{.OperatingSystem}} {{.Name}}'",
        local=True,
    ),
    Row("info", any_out=True, any_err=True),
    Row("info -f {{.Nosuch}}", any_out=True),
    Row("info extra", err="accepts no arguments"),
    Row("nosuchverb", err="nosuchverb"),
    Row("--nosuch", err="unknown flag: --nosuch"),
    Row("--nosuch ps", err="unknown flag: --nosuch"),
    Row("--version", any_out=True),
    Row("-v", any_out=True),
    Row("", any_out=True, any_err=True),
    Row("-D ps -q --no-trunc -l", any_err=True, any_out=True),
    Row("--debug=false ps -aq -f name=nosuch"),
    Row(
        "--root @dir/root --state @dir/state ps -aq",
        differs="docker's daemon has its own folders",
        ours=Said(),
        dockers=_UNKNOWN,
    ),
    *(
        Row(f"{verb} --help", any_out=True)
        for verb in (
            "attach create exec images info inspect kill logs ps restart rm run start stop version"
            " wait"
        ).split()
    ),
    Row("--help", any_out=True),
)

SCENES = (_PS, _INSPECT, _IMAGES, _ABOUT)
