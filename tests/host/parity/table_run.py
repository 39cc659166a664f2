"""Rows: what ``run`` and ``create`` make of their flags."""

from __future__ import annotations

from .rows import Row, Said, scene

_PODMANS = "docker has no such flag: it is podman's"
_NOT_FOUND = (
    "127 says that the command was not found; docker's client takes it from the error's text,"
    " whatever it was that was not found"
)
_UNKNOWN = Said(125, err="unknown flag")

_ENDS = scene(
    "run ends",
    Row("run --rm BOX sh -c 'echo out; echo err >&2; exit 3'", same_err=True),
    "run --rm --init BOX sh -c 'kill -TERM $$; sleep 9'",
    "run --rm BOX sh -c 'kill -9 $$; echo nothing inside can kill pid 1; exit 255'",
    Row("run --rm BOX nosuch", err="executable file not found in $PATH"),
    Row("run --rm BOX /no/such", err="no such file or directory"),
    Row("run --rm BOX /etc/passwd", err="permission denied"),
    Row("run --rm BOX /etc", err="permission denied"),
    Row("run --rm --interactive BOX cat", stdin="one\ntwo\n"),
    Row("run --rm BOX cat", stdin="not connected"),
    "run BOX true",
    "ps -a --format '{{.Image}} {{.Command}} {{.State}}'",
    Row(
        'run --rm BOX sh -c \'trap "echo got; exit 4" TERM; echo ready;'
        " while :; do sleep 0.05; done'",
        after="ready",
        signal="TERM",
    ),
    Row(
        "run --rm --sig-proxy=false --init --name kept BOX sh -c 'echo ready; sleep 1000'",
        after="ready",
        signal="HUP",
    ),
    "ps --format {{.Names}}",
    Row(
        "run --rm --timeout 1 --init BOX sleep 1000",
        differs=_PODMANS,
        ours=Said(137),
        dockers=_UNKNOWN,
    ),
    Row(
        "run --explain --name planned BOX true",
        differs="docker has no such flag: it cannot say beforehand what it would do",
        ours=Said(out=...),
        dockers=_UNKNOWN,
    ),
    "ps -aq -f name=planned",
)

_REFUSED = scene(
    "run is refused",
    Row("run", err="requires at least 1 argument"),
    Row("create --rm", err="requires at least 1 argument"),
    Row("run --nosuch BOX true", err="unknown flag: --nosuch"),
    Row("run -Z BOX true", err="unknown shorthand flag: 'Z' in -Z"),
    Row("run --name", err="flag needs an argument: --name"),
    Row("run -v", err="flag needs an argument: 'v' in -v"),
    Row("run --rm=perhaps BOX true", err='invalid argument "perhaps" for "--rm" flag'),
    Row("run --rm --network none UPPER true", err="must be lower"),
    Row("run --rm --network none '' true"),
    Row("run --rm --network none localhost:1/nosuch:1 true", err="localhost:1/nosuch"),
    Row("run --rm --name '!bad' BOX true", err="invalid container name"),
    Row("run --rm --name x BOX true", err="invalid container name"),
    "create --name taken BOX true",
    Row("run --name taken BOX true", err='the container name "/taken" is already in use'),
    Row("create --name taken BOX true", err='the container name "/taken" is already in use'),
    Row(
        "run -d --name left BOX nosuch",
        differs="an id on standard output is that of a container which was started",
        ours=Said(127, err="executable file not found in $PATH"),
        dockers=Said(127, "<id>\n", "executable file not found in $PATH"),
    ),
    "ps -a --format '{{.Names}} {{.State}}'",
)

_ENVIRONMENT = scene(
    "environment",
    "run --rm -h box -e A=1 -e A=2 -e EMPTY= -e FROM_HOST -e NOT_THERE -e SPACED='a b' BOX"
    " sh -c 'env | sort'",
    "run --rm -h box --env-file @dir/env.list --env BOTH=flag --env SHAPE BOX sh -c 'env | sort'",
    "run --rm -h box --env-file @dir/env.list -e BOTH=flag -e SHAPE -e COLOUR=red"
    " --entrypoint sh TOOL -c 'env | sort'",
    "run --rm -h box -e HOSTNAME=mine -e HOME=/h -e PATH=/bin BOX env",
    Row("run --rm --env-file @dir/none BOX env", err="no such file or directory"),
    Row("run --rm --env-file @dir/bad.list BOX env", err="variable 'A B' contains white"),
    Row("run --rm -e '' BOX env", err="-env"),
    Row("run --rm -e =x BOX env", err="=x"),
)

_WHO = "id -u; id -g; id -G; echo $HOME"
_IDENTITY = scene(
    "user and groups",
    f"run --rm BOX sh -c '{_WHO}'",
    f"run --rm -u 33:100 BOX sh -c '{_WHO}'",
    f"run --rm --user www-data BOX sh -c '{_WHO}'",
    f"run --rm -u daemon:adm --group-add staff --group-add 77 BOX sh -c '{_WHO}'",
    f"run --rm -u 1234 --group-add users BOX sh -c '{_WHO}'",
    f"run --rm -u root BOX sh -c '{_WHO}'",
    f"run --rm -u :adm BOX sh -c '{_WHO}'",
    f"run --rm --entrypoint sh TOOL -c '{_WHO}'",
    Row("run --rm -u nosuch BOX id", err="unable to find user nosuch"),
    Row("run --rm -u root:nosuch BOX id", err="unable to find group nosuch"),
    Row("run --rm -u 99999999999 BOX id", err="uids and gids must be in range"),
    Row("run --rm --group-add nosuch BOX id", err="unable to find group nosuch"),
    Row(
        "run --rm --umask 027 BOX sh -c umask",
        differs=_PODMANS,
        ours=Said(out="0027\n"),
        dockers=_UNKNOWN,
    ),
)

_COMMAND = scene(
    "entrypoint and command",
    "run --rm TOOL",
    "run --rm TOOL other words",
    "run --rm --entrypoint pwd TOOL",
    "run --rm --entrypoint /bin/echo TOOL only this",
    "run --rm --entrypoint '' TOOL echo no entry",
    Row("run --rm --entrypoint '' TOOL", err="no command specified"),
    Row("run --rm --entrypoint '' BOX", err="no command specified"),
    "create --name entry --entrypoint /bin/ls TOOL -l",
    "inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{.Path}} {{json .Args}}' entry",
    "run --rm -w /a/b -u 33 BOX sh -c 'pwd; ls -ld /a /a/b | cut -c1-30'",
    "run --rm --workdir /etc/../tmp BOX pwd",
    Row("run --rm -w relative BOX pwd", err="it needs to be an absolute path"),
    Row("run --rm -w /etc/passwd BOX pwd", err="not a directory"),
    "run --rm --entrypoint sh TOOL -c 'ls -ld . | cut -c1-40'",
)

_STATUS = "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status"
_PRIVILEGE = scene(
    "capabilities and filters",
    f"run --rm BOX {_STATUS}",
    f"run --rm --cap-drop ALL --cap-add net_admin --cap-add CAP_CHOWN BOX {_STATUS}",
    f"run --rm --cap-drop chown --cap-drop CAP_KILL -u 33 BOX {_STATUS}",
    Row(f"run --rm --cap-add ALL --cap-drop MKNOD BOX {_STATUS}", powers=True),
    Row("run --rm --cap-add nosuch BOX true", err="nosuch"),
    Row("run --rm --cap-drop nosuch BOX true", err="nosuch"),
    f"run --rm --security-opt no-new-privileges --security-opt seccomp=unconfined BOX {_STATUS}",
    f"run --rm --security-opt no-new-privileges:false BOX {_STATUS}",
    Row("run --rm --security-opt seccomp=@dir/profile.json BOX mkdir /d", same_err=True),
    Row("run --rm --security-opt seccomp=@dir/none BOX true", err="no such file"),
    Row("run --rm --security-opt seccomp=@dir/broken.json BOX true"),
    Row("run --rm --security-opt nosuch=1 BOX true", err="nosuch"),
    Row("run --rm --security-opt nosuch BOX true", err="nosuch"),
    Row(
        "run --rm BOX sh -c 'unshare -U true; mount -t tmpfs none /mnt; chroot / true;"
        " mknod /n b 7 0'",
        same_err=True,
    ),
    Row(
        "run --rm --privileged BOX sh -c 'mkdir /m; mount -t tmpfs none /m && echo mounted;"
        " [ -w /proc/sys/kernel/panic ] && test -e /dev/kmsg && echo devices;"
        ' grep Seccomp: /proc/self/status; grep -c "/proc/" /proc/self/mountinfo; :\'',
        powers=True,
        ours=Said(out="mounted\ndevices\nSeccomp:\t0\n0\n"),
    ),
)

_KERNEL = scene(
    "limits and settings",
    "run --rm --ulimit nofile=64:128 --ulimit core=0 --ulimit nproc=99 BOX"
    " sh -c 'ulimit -n; ulimit -Hn; ulimit -c; ulimit -p'",
    Row("run --rm --ulimit nofile=x BOX true", err="nofile"),
    Row("run --rm --ulimit nosuch=1 BOX true", err="nosuch"),
    Row("run --rm --ulimit nofile=2:1 BOX true", err="soft limit"),
    Row("run --rm --ulimit nofile BOX true", err="ulimit"),
    "run --rm --sysctl kernel.shm_rmid_forced=1 --sysctl net.ipv4.ip_forward=1 BOX"
    " cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward",
    Row("run --rm --sysctl kernel.panic=1 BOX true", err="kernel.panic"),
    Row("run --rm --sysctl kernel.panic BOX true", err="kernel.panic"),
    Row(
        "run --rm --sysctl net.ipv4.nosuch=1 BOX true",
        differs=_NOT_FOUND,
        ours=Said(125, err="no such file or directory"),
        dockers=Said(127, err="no such file or directory"),
    ),
    Row("run --rm --network host --sysctl net.ipv4.ip_forward=1 busybox true", err="net.ipv4"),
    "run --rm --shm-size 1m --device /dev/null:/dev/hole --device /dev/zero:/dev/z:r BOX"
    " sh -c 'df -k /dev/shm | tail -1; ls /dev | grep -v core;"
    " head -c 3 /dev/z | wc -c; echo x >/dev/hole'",
    Row("run --rm --shm-size many BOX true", err="invalid size"),
    Row(
        "run --rm --device /dev/loop-control:/dev/c:r BOX sh -c ': </dev/c; : >/dev/c'",
        same_err=True,
    ),
    Row(
        "run --rm --device /dev/nosuch BOX true",
        differs=_NOT_FOUND,
        ours=Said(125, err="no such file or directory"),
        dockers=Said(127, err="no such file or directory"),
    ),
    Row("run --rm --device /dev/null:/dev/x:rwx BOX true", err="rwx"),
    Row("run --rm --device /dev/null:relative BOX true"),
    "run --rm --init BOX sh -c 'cat /proc/1/comm >/dev/null; ps -o pid,args | tail -n 3 | wc -l'",
)

_MOUNTINFO = "cut -d' ' -f2,3,4 /proc/mounts"
_FILES = scene(
    "mounts",
    "run --rm -v @dir/src:/mnt BOX sh -c 'cat /mnt/file; echo new >/mnt/out'",
    "! cat src/out",
    Row("run --rm -v @dir/src:/mnt:ro BOX sh -c 'echo x >/mnt/no'", same_err=True),
    "run --rm -v @dir/made/here:/mnt BOX ls -A /mnt",
    "! ls -d made/here",
    Row("run --rm --volume ./src:/mnt BOX cat /mnt/file"),
    "run --rm -v @dir/src/file:/etc/one --mount type=bind,src=@dir/src,dst=/two,readonly BOX"
    " sh -c 'cat /etc/one; ls /two; touch /two/x 2>&1'",
    Row("run --rm --mount type=bind,src=@dir/none,dst=/mnt BOX true", err="<dir>/none"),
    Row("run --rm --mount type=bind,dst=/mnt BOX true"),
    Row("run --rm --mount type=nosuch,dst=/mnt BOX true", err="nosuch"),
    Row("run --rm --mount type=bind,src=@dir/src BOX true", err="target is required"),
    Row("run --rm --mount type=bind,src=@dir/src,dst=/mnt,colour=red BOX true", err="colour"),
    Row("run --rm -v relative/path:/mnt BOX true"),
    Row("run --rm -v @dir/src:relative BOX true", err="relative"),
    Row("run --rm -v a:b:c:d BOX true"),
    Row("run --rm -v @dir/src:/mnt:nosuch BOX true", err="nosuch"),
    Row("run --rm -v @dir/src:/ BOX true", err="destination"),
    Row("run --rm -v @dir/src:/m -v @dir:/m BOX true", err="duplicate mount point"),
    "run --rm -v @dir/src:/m -v @dir/src:/m BOX cat /m/file",
    "run --rm --tmpfs /t:size=1m,mode=700 --tmpfs /u --mount type=tmpfs,dst=/w,tmpfs-size=4096,"
    'tmpfs-mode=1770 BOX sh -c \'grep -E "^tmpfs /[tuw] " /proc/mounts | sort; ls -ld /t /u /w |'
    " cut -c1-10'",
    Row("run --rm --tmpfs relative BOX true", err="absolute"),
    Row("run --rm --tmpfs /t:nosuch BOX true", err="nosuch"),
    "run --rm -v /anonymous BOX sh -c 'ls -ld /anonymous | cut -c1-10; touch /anonymous/x'",
    "run --rm --entrypoint sh TOOL -c 'ls -ld /data | cut -c1-30; id'",
    Row(
        "run --rm --read-only --tmpfs /tmp -v @dir/src:/mnt BOX sh -c"
        " 'touch /x; touch /tmp/x /mnt/y /dev/shm/z && echo written'",
        same_err=True,
    ),
    Row(
        "run --rm BOX sh -c 'awk \"{print \\$2, \\$3}\" /proc/mounts | sort | grep -v interrupts'",
        local=True,
    ),
    'run --rm BOX sh -c \'awk "{print \\$2, \\$3}" /proc/mounts | grep -E " (overlay|tmpfs|mq|dev)"'
    " | grep -v -E ^/proc | sort; ls -l /dev | grep -v core | sed 1d | cut -c1-10,58-;"
    " ls -ld / /tmp | cut -c1-10; echo x >/proc/sys/kernel/panic; cat /proc/keys | wc -c'",
)

_NAMES = scene(
    "names and resolver",
    "run --rm -h box.example --add-host one:192.0.2.1 --add-host six:2001:db8::1 --dns 192.0.2.53"
    " --dns 2001:db8::53 --dns-search example.org --dns-option ndots:2 BOX"
    " sh -c 'hostname; cat /etc/hostname; sort /etc/resolv.conf;"
    " sed s/::0/::/ /etc/hosts'",
    "run --rm --hostname box --dns-search . BOX sh -c 'sed s/::0/::/ /etc/hosts; grep -c search"
    " /etc/resolv.conf'",
    Row("run --rm --add-host nocolon BOX true", err="nocolon"),
    Row("run --rm --add-host a:999.1.1.1 BOX true", err="999.1.1.1"),
    Row("run --rm --dns nosuch BOX true", err="nosuch"),
    Row("run --rm -h 'bad_name!' BOX hostname", any_out=True),
    Row("run --rm --uts host -h box BOX true", err="conflicting options"),
    Row("run --rm --network host busybox sh -c 'readlink /proc/self/ns/net'", local=True),
    Row("run --rm --uts host BOX sh -c 'readlink /proc/self/ns/uts; hostname'", local=True),
)

_NS = "for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done"
_CHECK = (
    "for n in pid=@pid_ns ipc=@ipc_ns uts=@uts_ns net=@net_ns cgroup=@cgroup_ns; do"
    ' [ "$(readlink /proc/self/ns/${n%%=*})" = "${n#*=}" ] && echo host ${n%%=*}; done'
)
_NAMESPACES = scene(
    "namespaces",
    f"run --rm BOX sh -c '{_CHECK}; echo $$'",
    f"run --rm --pid host --ipc host --uts host --cgroupns host --net host busybox"
    f" sh -c '{_CHECK}'",
    "run -d --name shares --ipc shareable --shm-size 1m BOX sleep 1000",
    "run --rm --ipc container:shares BOX sh -c"
    ' \'echo told >/dev/shm/x; df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2\'',
    "exec shares cat /dev/shm/x",
    "create --name joins --ipc container:shares BOX true",
    "inspect -f '{{.HostConfig.IpcMode}}' shares",
    "run -d --name web BOX sleep 1000",
    Row("run --rm --ipc container:web BOX true", err="non-shareable IPC"),
    "run --rm --ipc none BOX sh -c 'ls -A /dev/shm 2>&1; grep -c /dev/shm /proc/mounts'",
    "run --rm --ipc private BOX true",
    "run --rm --pid container:web --network container:web busybox"
    " sh -c 'cat /proc/1/comm; hostname | wc -c'",
    Row("run --rm --pid container:nosuch BOX true", err="No such container: nosuch"),
    Row("run --rm --network container:nosuch busybox true", err="No such container: nosuch"),
    Row("run --rm --pid nosuch BOX true", err="invalid PID mode"),
    Row("run --rm --ipc nosuch BOX true", err="invalid IPC mode"),
    Row("run --rm --uts nosuch BOX true", err="invalid UTS mode"),
    Row("run --rm --cgroupns nosuch BOX true", err="invalid cgroup"),
    Row("run --rm --network nosuch busybox true", err="nosuch"),
    Row("run --rm --network container:web -h box busybox true", err="conflicting options"),
    Row(
        "run --rm --network container:web --add-host a:1.1.1.1 busybox true",
        err="conflicting options",
    ),
)

_OLD_RECORDING = "the flag is younger than the docker that was recorded"
_YOUNGER = Said(..., err="requires API version")
_OWN = scene(
    "streams names and where from",
    Row("run --rm -a stderr BOX sh -c 'echo out; echo err >&2'", same_err=True),
    Row("run --rm -a STDOUT -a stderr BOX sh -c 'echo out; echo err >&2'", same_err=True),
    Row("run --rm --attach stdout BOX sh -c 'echo out; echo err >&2; exit 3'"),
    # docker prints the id beside its other work, and at times ends before it has
    Row(
        "run -i -a stdin --name fed BOX cat",
        stdin="hello\n",
        any_out=True,
        ours=Said(out="<id>\n"),
    ),
    "wait fed",
    "logs fed",
    Row("run -a nosuch BOX true", err="valid streams are STDIN, STDOUT and STDERR"),
    Row("run -d -a stdout BOX true", err="conflicting options"),
    Row(
        "run --name closed -a stdin BOX true",
        differs="an input that is closed cannot be attached",
        ours=Said(125, err="-i keeps it open"),
        dockers=Said(..., ..., ...),
    ),
    *(
        Row(
            f"{verb} --annotation a=1 --annotation b BOX true",
            differs=_OLD_RECORDING,
            ours=Said(out=...),
            dockers=_YOUNGER,
        )
        for verb in ("create", "run --rm")
    ),
    "run --rm -h box --domainname example.org BOX"
    " sh -c 'hostname; cat /proc/sys/kernel/domainname'",
    "create --name domain --domainname example.org BOX true",
    "inspect -f '{{.Config.Domainname}}' domain",
    "run --rm --label-file @dir/labels.list BOX true",
    "create --name labels --label-file @dir/labels.list -l a=3 BOX true",
    "inspect -f '{{json .Config.Labels}}' labels",
    Row("create --label-file @dir/none BOX true", err="no such file or directory"),
    Row(
        "run --rm --device-cgroup-rule 'c 60:* rwm' BOX sh -c 'mknod /t c 60 7; cat /t'",
        err="no such device or address",
    ),
    Row("run --rm BOX sh -c 'mknod /t c 60 7; cat /t'", err="operation not permitted"),
    "create --name ruled --device-cgroup-rule 'c 60:7 r' --device-cgroup-rule 'b *:* m' BOX true",
    "inspect -f '{{json .HostConfig.DeviceCgroupRules}}' ruled",
    Row("run --rm --device-cgroup-rule 'c 60' BOX true", err="invalid device cgroup format"),
    "run --rm --platform linux BOX true",
    "create --platform linux BOX true",
    "run --rm --pull never BOX true",
    "create --pull missing BOX true",
    Row("run --rm --pull never --network none nosuch:1 true", err="no such image"),
    Row("run --rm --pull sometimes BOX true", err="pull"),
    *(
        Row(
            f"{verb} --link nosuch BOX true",
            differs="links belong to docker's old bridge",
            ours=Said(125 if verb == "run" else 1, err="links are not supported"),
            dockers=Said(..., err=...),
        )
        for verb in ("create", "run")
    ),
    *(
        Row(line, differs=_PODMANS, ours=Said(out=out), dockers=_UNKNOWN)
        for line, out in (
            ("run --rm --tz local BOX echo local", "local\n"),
            ("create --tz local BOX true", "<id>\n"),
            ("run --replace --name again BOX echo first", "first\n"),
            ("create --replace --name again BOX true", "<id>\n"),
            ("run --rm --preserve-fds 0 BOX echo none", "none\n"),
        )
    ),
)

_OTHERS = scene(
    "labels logs and id files",
    "run --rm --cidfile @dir/cid BOX true",
    "! wc -c <cid",
    Row("run --rm --cidfile @dir/cid BOX true", err="container ID file found"),
    Row(
        "run --rm --cidfile @dir/no/cid BOX true",
        differs=_NOT_FOUND,
        ours=Said(125, err="no such file or directory"),
        dockers=Said(127, err="no such file or directory"),
    ),
    "create --name labelled -l a=1 --label b --label a=2 --cidfile @dir/cid2 BOX true",
    "! wc -c <cid2",
    "inspect -f '{{json .Config.Labels}}' labelled",
    "create --name made --env-file @dir/env.list --ipc none --pid host --uts host --privileged"
    " --mount type=bind,src=@dir/src,dst=/mnt,readonly --log-driver json-file --log-opt max-file=2"
    " --stop-timeout 7 BOX env",
    "inspect -f '{{.HostConfig.IpcMode}} {{.HostConfig.PidMode}} {{.HostConfig.UTSMode}}"
    " {{.HostConfig.Privileged}} {{.HostConfig.LogConfig.Type}} {{.Config.StopTimeout}}"
    " {{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}' made",
    Row(
        "create --name slow --timeout 1 --umask 022 BOX true",
        differs=_PODMANS,
        ours=Said(out="<id>\n"),
        dockers=_UNKNOWN,
    ),
    Row("run --rm -l '' BOX true"),
    Row("run --rm -l =x BOX true"),
    "run --name quiet --log-driver none BOX echo shown",
    Row("logs quiet", err="log"),
    "run --name kept --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 BOX"
    " echo kept",
    "logs kept",
    "inspect -f '{{.HostConfig.LogConfig.Type}}"
    ' {{index .HostConfig.LogConfig.Config "max-file"}}\' kept',
    Row("run --rm --log-driver nosuch BOX true", err="nosuch", slow=True),
    Row(
        "run --rm --log-driver json-file --log-opt nosuch=1 BOX true",
        err="unknown log opt 'nosuch'",
    ),
    Row("run --rm --log-opt max-size=x BOX true"),
    Row("run --rm --stop-signal nosuch BOX true", err="invalid signal"),
    Row("run --rm --stop-timeout x BOX true", err='invalid argument "x" for "--stop-timeout"'),
)

_TERMINAL = scene(
    "run on a terminal",
    Row(
        "run --rm -it BOX sh -c 'sleep 1; tty; stty size; stty -a | grep -c \"intr = ^C\"'",
        tty=True,
    ),
    Row("run --rm -t BOX sh -c 'test -t 1 && echo terminal; exit 6'"),
    Row("run --rm -i --tty BOX true", err="not a TTY", stdin="x"),
    Row(
        "run -it --name held BOX sh -c 'echo ready; read line; echo got $line'",
        tty=True,
        after="ready",
        keys="\x10\x11",
    ),
    "ps --format '{{.Names}} {{.State}}'",
    Row(
        "run --rm -it --detach-keys ctrl-x,q --name two BOX sh -c 'echo ready; read line'",
        tty=True,
        after="ready",
        keys="\x18q",
    ),
    Row(
        "run --rm --detach-keys ctrl-nosuch BOX true",
        differs="a bad flag is 125; docker learns it from the daemon, when the container is there",
        ours=Said(125, err="ctrl-nosuch"),
        dockers=Said(1, err="received 400"),
    ),
    Row("attach held", tty=True, keys="word\r", any_out=True),
    "wait held",
    "logs held",
)

SCENES = (
    _ENDS, _REFUSED, _ENVIRONMENT, _IDENTITY, _COMMAND, _PRIVILEGE, _KERNEL, _FILES, _NAMES,
    _NAMESPACES, _OWN, _OTHERS, _TERMINAL,
)  # fmt: skip
