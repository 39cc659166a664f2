"""Rows: volumes, and the flags that use them."""

from __future__ import annotations

from .rows import Row, Said, scene

_ALL = "docker 20.10 prunes named ones too, docker since 23 with --all alone"
_NEWER = "docker 20.10 does not know it; docker since 23 does"
_EXISTS = "docker has no such verb"
_PODMAN = "docker has no such option; podman has"
_ANONYMOUS = "WARNING! This will remove anonymous local volumes not used by at least one container."
_SURE = "\nAre you sure you want to continue? [y/N] "
_RO = "Read-only file system"
_MOUNTS = (
    '\'{{{{range .Mounts}}}}{{{{if eq .Destination "{}"}}}}{{{{.Type}}}} {{{{.Name}}}}'
    " {{{{.Driver}}}} {{{{.Mode}}}} {{{{.RW}}}} {{{{.Propagation}}}}{{{{end}}}}{{{{end}}}}'"
)
_OLD = Said(1, err="requires API version")

_CREATE = scene(
    "volume create",
    "volume create data",
    "volume create data",
    "volume create --label a=1 --label b --name older",
    "volume create -d local --label a=2 new-er_1.0",
    Row("volume create", save="anonymous"),
    # The name of the anonymous one is by chance.
    Row("volume ls --format '{{.Name}} {{.Driver}} {{.Scope}}' ", any_order=True),
    "volume ls -q -f name=old",
    "volume ls -q --filter label=a",
    "volume ls --quiet -f label=a=2",
    "volume ls -q -f label=a=3",
    "volume ls -q -f driver=local -f name=data",
    "volume ls -q -f driver=nfs",
    "volume ls -q -f dangling=false",
    "volume ls -f name=new --format '{{.Labels}} {{.Label \"a\"}}'",
    "volume ls -f name=data",
    "volume list -f name=data",
    "volume list -q --filter name=data",
    "volume list --quiet --format '{{.Driver}}' -f name=data",
    Row("volume list --help", any_out=True),
    "volume ls -f name=data --format 'table {{.Name}}\\t{{.Driver}}'",
    "volume ls -f name=data --format '{{.Links}} {{.Size}} {{.Label \"a\"}}'",
    "volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}' data",
    "volume inspect --format '{{json .Labels}}' older",
    "inspect -f '{{.Name}}' data",
    "inspect --type volume -f '{{.Name}}' data",
    Row("volume inspect nosuch", err="no such volume"),
    Row("volume inspect -f '{{.Name}}' nosuch data", err="no such volume"),
    Row("inspect --type volume nosuch", err="no such"),
    Row("volume inspect", err="requires at least 1 argument"),
    Row("volume create a", err="volume name is too short"),
    Row("volume create a/b", err="includes invalid characters for a local volume name"),
    Row("volume create _a", err="includes invalid characters for a local volume name"),
    Row("volume create a b", err="requires at most 1 argument"),
    Row("volume create --name a1 a1", err="conflicting options: cannot specify a volume-name"),
    Row("volume create -o foo=bar x1", err="invalid option"),
    Row("volume create --opt type=tmpfs x1", err='missing required option: "device"'),
    Row("volume create -o device=/x x1", err='missing required option: "type"'),
    Row("volume create -d nosuch x1", any_out=True, err="nosuch"),
    Row("volume ls -f nosuch=1", err="invalid filter 'nosuch'"),
    Row("volume ls -f dangling=perhaps", err="dangling"),
    Row("volume ls extra", err="accepts no arguments"),
    Row("volume create --help", any_out=True),
    Row("volume ls --help", any_out=True),
    Row("volume inspect --help", any_out=True),
    Row("volume exists data", differs=_EXISTS, ours=Said(0), dockers=Said(..., ..., ...)),
    Row("volume exists nosuch", differs=_EXISTS, ours=Said(1), dockers=Said(..., ..., ...)),
)

_RM = scene(
    "volume rm",
    "volume create one",
    "volume create two",
    Row("create --name user -v one:/one BOX true", save="user"),
    Row("volume rm one", err="remove one: volume is in use - ["),
    Row("volume rm -f one", err="volume is in use"),
    "volume ls -q -f dangling=true",
    "volume ls -q -f dangling=false",
    Row("volume rm nosuch two", err="no such volume"),
    "volume rm --force nosuch",
    "rm -v user",
    "volume ls -q",
    "volume rm one",
    Row("volume rm one", err="no such volume"),
    Row("volume rm", err="requires at least 1 argument"),
    Row("volume rm --help", any_out=True),
)

_PRUNE = scene(
    "volume prune",
    Row("run --name user -v /anonymous -v named:/named --label x BOX true"),
    Row("volume prune -f"),
    "rm user",
    Row(
        "volume prune",
        stdin="n\n",
        differs=_ALL,
        ours=Said(out=_ANONYMOUS + _SURE),
        dockers=Said(out=...),
    ),
    Row("volume prune --force --filter label=nosuch"),
    Row(
        "volume prune -f --filter label!=nosuch",
        differs=_ALL,
        ours=Said(out="Deleted Volumes:\n<id>\n\nTotal reclaimed space: <size>\n"),
        dockers=Said(out=...),
    ),
    Row("volume prune -a -f", differs=_NEWER,
        ours=Said(out="Deleted Volumes:\nnamed\n\nTotal reclaimed space: <size>\n"), dockers=_OLD),
    Row("volume prune --all -f", differs=_NEWER,
        ours=Said(out="Total reclaimed space: <size>\n"), dockers=_OLD),
    "volume ls -q",
    Row("volume prune -f --filter nosuch=1", err="invalid filter 'nosuch'"),
    Row("volume prune extra", err="accepts no arguments"),
    Row("volume prune --help", any_out=True),
    "create --name user -v /anonymous BOX true",
    "rm user",
    Row("system prune -f --volumes", any_out=True),
    "volume ls -q",
    Row("system prune -f --volumes --filter until=1h", err="until"),
)  # fmt: skip

_RUN = scene(
    "run with volumes",
    "run --rm -v data:/data BOX sh -c 'echo kept >/data/file'",
    "run --rm -v data:/data BOX cat /data/file",
    "run --rm -v data:/data:ro BOX cat /data/file",
    Row("run --rm -v data:/data:ro BOX touch /data/x", err=_RO),
    "run --rm -v data:/data:rw,z BOX touch /data/y",
    "run --rm -v data:/data -v data:/again:ro BOX ls /data /again",
    "run --rm -v fresh:/etc BOX grep -c root /etc/passwd",
    Row("run --rm -v empty:/etc:nocopy BOX ls /etc/passwd", err="no such file"),
    "run --rm --mount src=data,dst=/data BOX cat /data/file",
    "run --rm --mount type=volume,source=data,target=/data,readonly BOX cat /data/file",
    Row("run --rm --mount type=volume,source=data,target=/data,ro BOX touch /data/z", err=_RO),
    Row("run --rm --mount type=volume,source=empty2,target=/etc,volume-nocopy BOX ls /etc/passwd",
        err="no such file"),
    "run --rm --mount type=volume,source=made,target=/m,volume-label=a=b,volume-driver=local"
    " BOX true",
    "volume inspect -f '{{json .Labels}}' made",
    "run --rm --mount type=volume,target=/m BOX touch /m/x",
    Row("run --rm --mount type=volume,target=/m,readonly BOX true", err="anonymous"),
    Row("run --rm -v a:/data BOX true",
        differs="docker's volume create refuses the name, its run takes it",
        ours=Said(125, err="volume name is too short"), dockers=Said()),
    Row("run --rm -v _a:/data BOX true", err="includes invalid characters"),
    Row("run --rm -v data:/data:nosuch BOX true", err="nosuch"),
    Row("run --rm -v data:data BOX true", err="must be absolute", any_err=True),
    Row("run --rm -v data:/d -v /tmp:/d BOX true", err="duplicate mount point: /d"),
    Row("run --rm --mount type=volume,src=data,dst=/d,volume-nosuch BOX true", err="volume-nosuch"),
    Row("run --rm --mount type=volume,src=data,dst=/d,tmpfs-size=1 BOX true", err="tmpfs"),
    "create --name shown -v data:/data:ro -v /anonymous --mount type=volume,src=named,dst=/named"
    " BOX true",
    "ps -a --format '{{.Names}} {{.LocalVolumes}}' -f volume=data",
    "ps -aq -f volume=nosuch",
    "ps -a --format '{{.Names}}' -f volume=/named",
    "inspect -f '{{json .Config.Volumes}}' shown",
    f"inspect -f {_MOUNTS.format('/data')} shown",
    f"inspect -f {_MOUNTS.format('/named')} shown",
    "create --name bound -v data:/data:ro BOX true",
    "inspect -f '{{json .HostConfig.Binds}}' bound",
    "rm bound",
    "run --rm -v @dir/src:/b BOX cat /b/file",
    "rm -fv shown",
    "volume ls -q",
    Row("run --rm -v data:/x:U -u 33 BOX sh -c 'stat -c %u /x/file'", differs=_PODMAN,
        ours=Said(out="33\n"), dockers=Said(125, err="invalid mode")),
    Row("run --rm --mount type=volume,src=data,dst=/x,idmap=uids=33-44-1;gids=33-55-1 BOX"
        " stat -c %u:%g /x/file", differs=_PODMAN,
        ours=Said(out="44:55\n"), dockers=Said(125, err="idmap")),
    Row("run --rm -v data:/x:noexec,nosuid BOX true", differs=_PODMAN,
        ours=Said(), dockers=Said(125, err="invalid mode")),
    Row("run --rm --mount type=volume,src=data,dst=/x,volume-subpath=nosuch BOX true",
        differs="docker knows it since 26",
        ours=Said(125, err="no such file"), dockers=Said()),
    Row("run --rm --mount type=image,src=busybox,dst=/x BOX ls /x/bin/busybox",
        differs="docker knows it since 28",
        ours=Said(out="/x/bin/busybox\n"), dockers=Said(125, err="image")),
)  # fmt: skip

_FROM = scene(
    "volumes from",
    "run --name first -v data:/data -v /anonymous BOX sh -c 'touch /data/d /anonymous/a'",
    "run --rm --volumes-from first BOX ls /data /anonymous",
    Row("run --rm --volumes-from first:ro BOX touch /data/x", err=_RO),
    "run --rm --volumes-from first:rw BOX touch /data/x",
    "run --rm --volumes-from first -v /tmp:/data BOX ls /anonymous",
    Row("run --rm --volumes-from first:nosuch BOX true", err="invalid mode"),
    Row("run --rm --volumes-from nosuch BOX true", err="no such container: nosuch"),
    Row("run --rm --volumes-from '' BOX true", any_err=True, any_out=True),
    "create --name second --volumes-from first:ro BOX true",
    "inspect -f '{{json .HostConfig.VolumesFrom}}' second",
    "rm -v first",
    "run --rm --volumes-from second BOX ls /data",
    "rm -v second",
    "volume ls -q",
)

_OPTIONS = scene(
    "volume options",
    "volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,mode=1750 fast",
    "volume inspect -f '{{json .Options}}' fast",
    "run -d --name one -v fast:/fast BOX sleep 1000",
    "exec one sh -c 'echo shared >/fast/f'",
    "run --rm -v fast:/m BOX sh -c 'cat /m/f; stat -c %a /m; df -k /m | tail -n 1 | cut -c 1-5'",
    Row("cp one:/fast/f out", any_out=True, any_err=True),
    "!cat out",
    "rm -f one",
    "run --rm -v fast:/m BOX ls /m",
    "volume create -o type=none -o device=@dir/src -o o=bind bound",
    "run --rm -v bound:/m BOX cat /m/file",
    "volume create -o type=none -o device=@dir/nothing -o o=bind lost",
    Row(
        "run --rm -v lost:/m BOX true",
        differs="docker takes what is missing for the command",
        ours=Said(125, err="no such file or directory"),
        dockers=Said(127, err="no such file or directory"),
    ),
    "volume rm fast bound lost",
    "!cat src/file",
    "run --rm --mount 'type=volume,src=opt,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    ',"volume-opt=o=size=1m,mode=1700"\' BOX stat -c %a /m',
)

_EVENTS = scene(
    "volume events",
    "run --rm -v told:/data:ro -v mounted:/made BOX true",
    "volume create --label a=b unused",
    "volume rm told unused",
    # docker's 0s is the beginning of the present second
    Row(
        "events --since 0 --until 0s -f type=volume -f volume=told"
        " --format '{{.Action}} {{.Actor.ID}} {{.Actor.Attributes}}'",
        until="destroy",
    ),
    Row(
        "events --since 0 --until 0s -f type=volume -f volume=unused --format '{{.Action}}'",
        until="destroy",
    ),
    "events --since 0 --until 0s -f volume=mounted -f event=mount --format '{{.Actor.Attributes}}'",
)

SCENES = (_CREATE, _RM, _PRUNE, _RUN, _FROM, _OPTIONS, _EVENTS)
