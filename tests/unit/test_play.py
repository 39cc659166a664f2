"""What a Kubernetes Pod comes to here, by value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotFound
from pycontain.model import kube
from pycontain.model.container import (
    Limits,
    Mount,
    NetworkChoice,
    Publish,
    RestartPolicy,
    RunOptions,
)
from pycontain.model.pod import Memory
from pycontain.model.probe import ExecAction, Hooks, ProbeCheck, Probes, TcpAction
from pycontain.pod import images, manifest
from pycontain.pod import plan as planning
from pycontain.pod.configs import File
from pycontain.pod.plan import Around, Folder, HostPath, Planned

BRIDGE = Around(network="bridge", networks=(NetworkChoice(name="bridge"),))

CONFIG = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: fast, nginx.conf: "server {}"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {token: aGlkZGVu}
"""


def pod_text(spec: str, container: str = "", name: str = "web") -> str:
    """A Pod of one container, ``up``."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: a}}, annotations: {{note: b}}}}
spec:
  {spec}
  containers:
  - name: up
    image: busybox
    {container}
"""


def planned(spec: str = "", container: str = "", around: Around | None = None) -> Planned:
    text = pod_text(spec, container) + CONFIG
    objects = manifest.parse(text, strict=True).objects
    (pod,) = (item for item in objects if isinstance(item, kube.Pod))
    return planning.plan(pod, objects, around)


def options(container: str = "", spec: str = "", **around: Any) -> RunOptions:
    (member,) = planned(spec, container, Around(**around)).members
    return member.options


def mounts(volume: str, mount: str = "", **more: str) -> tuple[Mount, ...]:
    entry = f"{{name: v, mountPath: /there{mount}}}"
    return options(f"volumeMounts: [{entry}]", f"volumes: [{{name: v, {volume}}}]", **more).mounts


# ---- the pod ----


def test_a_pod_says_where_it_comes_from() -> None:
    pod = planned().pod
    assert pod.name == pod.hostname == "web"
    labels = {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "default"}
    assert pod.labels == {"app": "a", **labels}
    found = options()
    assert found.name == "web-up"
    assert found.labels == {**labels, "io.kubernetes.container.name": "up"}
    assert found.annotations == {"note": "b"}


def test_what_it_shares() -> None:
    assert planned().pod.share == ("ipc", "net", "uts")
    assert set(planned("shareProcessNamespace: true").pod.share) == {"ipc", "net", "uts", "pid"}


def test_ports_with_a_host_port_are_published() -> None:
    ports = (
        "ports: [{containerPort: 80}, {containerPort: 81, hostPort: 8081, hostIP: 127.0.0.1},"
        " {containerPort: 53, hostPort: 5353, protocol: UDP}]"
    )
    pod = planned("", ports, BRIDGE._replace(publish_address="10.0.0.1")).pod
    assert pod.network == "bridge"
    assert pod.networks == BRIDGE.networks
    assert pod.publish == (
        Publish(address="127.0.0.1", first=8081, last=8081, target=81),
        Publish(protocol="udp", address="10.0.0.1", first=5353, last=5353, target=53),
    )


def test_on_the_hosts_network_nothing_is_published() -> None:
    ports = "ports: [{containerPort: 80, hostPort: 80}]"
    pod = planned("hostNetwork: true", ports, BRIDGE).pod
    assert (pod.network, pod.networks, pod.publish) == ("host", (), ())


def test_port_0_of_the_host_is_none() -> None:
    assert planned("", "ports: [{containerPort: 80, hostPort: 0}]", BRIDGE).pod.publish == ()


def test_sctp_is_refused_where_the_host_is_to_have_it() -> None:
    planned("", "ports: [{containerPort: 80, protocol: SCTP}]")
    with pytest.raises(InvalidInput, match="SCTP is not supported"):
        planned("", "ports: [{containerPort: 80, hostPort: 80, protocol: SCTP}]")


def test_names_of_the_pod() -> None:
    spec = """hostname: near
  hostAliases: [{ip: 10.0.0.7, hostnames: [a, b.example]}, {ip: "fd00::1", hostnames: [c]}]
  dnsConfig:
    nameservers: [10.0.0.53]
    searches: [example]
    options: [{name: ndots, value: "2"}, {name: rotate}]"""
    pod = planned(spec).pod
    assert pod.hostname == "near"
    assert pod.add_host == ("a:10.0.0.7", "b.example:10.0.0.7", "c:fd00::1")
    assert pod.dns == ("10.0.0.53",)
    assert pod.dns_search == ("example",)
    assert pod.dns_option == ("ndots:2", "rotate")


@pytest.mark.parametrize(
    ("name", "said"),
    [("a", "metadata.name: is one character only"), ("a" * 253, "longer than 255 characters")],
)
def test_names_that_cannot_be(name: str, said: str) -> None:
    (pod,) = manifest.parse(pod_text("", name=name)).objects
    assert isinstance(pod, kube.Pod)
    with pytest.raises(InvalidInput, match=said):
        planning.plan(pod, ())


# ---- its containers ----


@pytest.mark.parametrize(
    ("container", "entrypoint", "command"),
    [
        ("", None, ()),
        ("args: [x]", None, ("x",)),
        ("command: [a, b]", ("a", "b"), ()),
        ("command: [a]\n    args: [$(X), $$(X), $(Y)]\n    env: [{name: X, value: x}]",
         ("a",), ("x", "$(X)", "$(Y)")),
    ],
)  # fmt: skip
def test_the_command(
    container: str, entrypoint: tuple[str, ...] | None, command: tuple[str, ...]
) -> None:
    found = options(container)
    assert (found.entrypoint, found.command) == (entrypoint, command)


def test_the_environment() -> None:
    found = options(
        "env: [{name: A, value: a}, {name: B, value: $(A)b},"
        " {name: T, valueFrom: {secretKeyRef: {name: keys, key: token}}},"
        " {name: N, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"
    )
    assert set(found.env) == {"A=a", "B=ab", "T=hidden", "N=web"}


@pytest.mark.parametrize(
    ("policy", "restart"),
    [
        ("", RestartPolicy(name="always", crash_loop=True)),
        ("restartPolicy: OnFailure", RestartPolicy(name="on-failure", crash_loop=True)),
        ("restartPolicy: Never", None),
    ],
)
def test_restart_policies(policy: str, restart: RestartPolicy | None) -> None:
    assert options(spec=policy).restart == restart


def test_limits_and_the_time_to_end() -> None:
    found = options("resources: {limits: {cpu: 250m, memory: 64Mi}}")
    assert (found.cpus, found.memory, found.stop_timeout) == (0.25, 64 << 20, 30)
    assert options(spec="terminationGracePeriodSeconds: 0").stop_timeout == 0
    assert (options().cpus, options().memory) == (None, None)
    assert options("resources: {limits: {cpu: 1m}}").cpus == 0.01


def test_limits_of_all_containers_together() -> None:
    found = planned("resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 1500m}}",
                    "resources: {limits: {memory: 1Mi}}")  # fmt: skip
    assert (found.pod.limits.cpus, found.pod.limits.memory) == (2.0, 1 << 30)
    assert found.requests == (Decimal("1.5"), 1 << 20)
    assert planned().pod.limits == Limits()
    assert planned("resources: {limits: {cpu: 2, memory: 1Gi}}").requests == (Decimal(2), 1 << 30)


def test_what_the_settings_say_and_the_manifest_does_not() -> None:
    found = options(defaults={"pids_limit": 7, "stop_timeout": 3, "log_driver": "none"})
    assert (found.pids_limit, found.log_driver, found.stop_timeout) == (7, "none", 30)


def test_rights() -> None:
    found = options(
        "securityContext: {runAsUser: 7, readOnlyRootFilesystem: true,"
        " allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_ADMIN]}}",
        "securityContext: {runAsUser: 1, runAsGroup: 2, supplementalGroups: [3, 4]}",
    )
    assert (found.user, found.group_add) == ("7:2", ("3", "4"))
    assert (found.cap_drop, found.cap_add) == (("ALL",), ("NET_ADMIN",))
    assert found.security_opt == ("no-new-privileges",)
    assert found.read_only
    assert not found.privileged
    plain = options("securityContext: {privileged: true}")
    assert plain.privileged
    assert (plain.user, plain.security_opt) == (None, ())
    assert options("securityContext: {runAsUser: 7}").user == "7"


@pytest.mark.parametrize(
    ("own", "pods", "words"),
    [
        ("seccompProfile: {type: RuntimeDefault}", "", ()),
        ("seccompProfile: {type: Unconfined}", "", ("seccomp=unconfined",)),
        ("seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}", ()),
        ("", "seccompProfile: {type: Localhost, localhostProfile: a/b.json}",
         ("seccomp=/var/lib/kubelet/seccomp/a/b.json",)),
        ("appArmorProfile: {type: Localhost, localhostProfile: mine}", "", ("apparmor=mine",)),
        ("appArmorProfile: {type: Unconfined}", "", ("apparmor=unconfined",)),
        ("procMount: Unmasked, allowPrivilegeEscalation: false", "",
         ("no-new-privileges", "systempaths=unconfined")),
        ("procMount: Default", "", ()),
    ],
)  # fmt: skip
def test_profiles(own: str, pods: str, words: tuple[str, ...]) -> None:
    found = options(f"securityContext: {{{own}}}", f"securityContext: {{{pods}}}")
    assert found.security_opt == words


def test_a_group_of_files_and_parameters_of_the_kernel() -> None:
    spec = (
        "securityContext: {supplementalGroups: [3, 5], fsGroup: 5, sysctls:"
        " [{name: kernel/shmmax, value: '9'}, {name: net.core.somaxconn, value: '7'}]}"
    )
    found = options(spec=spec)
    assert found.group_add == ("3", "5")
    assert found.sysctls == {"kernel.shmmax": "9", "net.core.somaxconn": "7"}
    assert planned(spec).fs_group == 5
    assert planned().fs_group is None


def test_not_root_is_said_of_the_container_or_of_all() -> None:
    assert not planned().members[0].non_root
    spec = "securityContext: {runAsNonRoot: true}"
    assert planned(spec).members[0].non_root
    assert not planned(spec, "securityContext: {runAsNonRoot: false}").members[0].non_root


@pytest.mark.parametrize(
    ("policy", "init", "sidecar"),
    [
        ("Always", "on-failure", "always"), ("OnFailure", "on-failure", "always"),
        ("Never", None, "always"),
    ],
)  # fmt: skip
def test_init_containers_and_sidecars(policy: str, init: str | None, sidecar: str) -> None:
    spec = f"""restartPolicy: {policy}
  initContainers:
  - {{name: one, image: busybox}}
  - {{name: two, image: busybox, restartPolicy: Always, ports: [{{containerPort: 1, hostPort: 2}}]}}
  - {{name: three, image: busybox, ports: [{{containerPort: 3, hostPort: 4}}]}}"""
    found = planned(spec, around=BRIDGE)
    kinds = [(member.options.name, member.name, member.kind) for member in found.init]
    assert kinds == [
        ("web-one", "one", "init"), ("web-two", "two", "sidecar"), ("web-three", "three", "init")
    ]  # fmt: skip
    policies = [member.options.restart for member in found.init]
    assert [one and (one.name, one.crash_loop) for one in policies] == [
        init and (init, True), (sidecar, True), init and (init, True),
    ]  # fmt: skip
    assert [(member.name, member.kind) for member in found.members] == [("up", "main")]
    assert [port.first for port in found.pod.publish] == [2]


def test_probes_hooks_and_the_stop_signal() -> None:
    found = options(
        "ports: [{containerPort: 80, name: web}]\n"
        "    readinessProbe: {tcpSocket: {port: web}}\n"
        "    lifecycle: {preStop: {exec: {command: [bye]}}, stopSignal: SIGUSR1}"
    )
    assert found.probes == Probes(readiness=ProbeCheck(action=TcpAction(port=80)))
    assert found.hooks == Hooks(pre_stop=ExecAction(command=("bye",)))
    assert found.stop_signal == "SIGUSR1"
    plain = options()
    assert (plain.probes, plain.hooks, plain.stop_signal) == (None, None, None)


def test_namespaces_of_the_machine() -> None:
    spec = "hostPID: true\n  hostIPC: true"
    assert planned(spec).pod.share == ("net", "uts")
    found = options(spec=spec)
    assert (found.pid, found.ipc) == ("host", "host")
    plain = options()
    assert (plain.pid, plain.ipc) == ("private", "private")


def test_what_a_pod_is_told_once_it_runs() -> None:
    asked = "env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]"
    text = pod_text("", asked)
    (pod,) = manifest.parse(text, strict=True).objects
    assert isinstance(pod, kube.Pod)
    assert planning.plan(pod, ()).members[0].options.env == ("IP=",)
    facts = planning.Facts("u", ("10.0.0.9",), "192.0.2.1", "here", 2, 1 << 30)
    assert planning.plan(pod, (), facts=facts).members[0].options.env == ("IP=10.0.0.9",)


@pytest.mark.parametrize(
    ("init", "main", "cpu", "memory"),
    [
        ("", "", "0", 0),
        ("", "requests: {cpu: 100m, memory: 1Mi}", "0.1", 1 << 20),
        ("", "limits: {cpu: 2, memory: 1Mi}", "2", 1 << 20),
        ("", "limits: {cpu: 2}, requests: {cpu: 0.5}", "0.5", 0),
        ("{requests: {cpu: 3}}", "requests: {cpu: 1}", "3", 0),
        ("{requests: {cpu: 0.5}}", "requests: {cpu: 1}", "1", 0),
        # what runs on beside them counts, for those that come after it
        ("{requests: {cpu: 2}};{requests: {cpu: 1}}*;{requests: {cpu: 1500m}}",
         "requests: {cpu: 1}", "2.5", 0),
        ("{requests: {cpu: 1}}*;{requests: {cpu: 1}}*", "requests: {cpu: 1}", "3", 0),
    ],
)  # fmt: skip
def test_requests_are_the_most_at_one_time(init: str, main: str, cpu: str, memory: int) -> None:
    several = ", ".join(
        f"{{name: i{number}, image: b, resources: {one.removesuffix('*')}"
        f"{', restartPolicy: Always' if one.endswith('*') else ''}}}"
        for number, one in enumerate(filter(None, init.split(";")))
    )
    found = planned(f"initContainers: [{several}]", f"resources: {{{main}}}").requests
    assert found == (Decimal(cpu), memory)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=5), st.integers(0, 4))
def test_requests_are_those_of_the_moment_with_the_most(
    init: list[tuple[int, bool]], main: int
) -> None:
    def one(number: int, cpu: int, sidecar: bool = False) -> kube.Container:
        resources = kube.ResourceRequirements(requests={"cpu": cpu})
        policy: kube.RestartPolicy | None = "Always" if sidecar else None
        return kube.Container(
            name=f"c{number}", image="b", resources=resources, restart_policy=policy
        )

    spec = kube.PodSpec(
        containers=(one(9, main),),
        init_containers=tuple(one(number, *asked) for number, asked in enumerate(init)),
    )
    moments, running = [], 0
    for cpu, sidecar in init:
        moments.append(running + cpu)
        running += cpu if sidecar else 0
    assert planning.requests(spec).cpu == max(*moments, running + main, 0)


# ---- volumes ----


def test_an_empty_folder_is_the_pods() -> None:
    (mount,) = mounts("emptyDir: {}")
    assert mount == Mount(
        type="bind", source="v", target="/there", options=("nosuid", "nodev")
    )  # fmt: skip
    assert planned("volumes: [{name: v, emptyDir: {}}]").folders == (Folder("v", 0o777),)


def test_an_empty_folder_in_memory() -> None:
    (mount,) = mounts("emptyDir: {medium: Memory, sizeLimit: 1Mi}")
    assert mount == Mount(type="tmpfs", source="v", target="/there")
    spec = """volumes:
  - {name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: w, emptyDir: {medium: Memory}}
  securityContext: {fsGroup: 7}"""
    found = planned(spec)
    assert found.folders == ()
    assert found.pod.memory == (
        Memory(name="v", size=1 << 20, group=7), Memory(name="w", group=7)
    )  # fmt: skip


def test_a_limit_of_a_folder() -> None:
    spec = "volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}, {name: w, emptyDir: {sizeLimit: 0}}]"
    assert [folder.limit for folder in planned(spec).folders] == [1 << 20, None]


def test_paths_of_the_host() -> None:
    (mount,) = mounts("hostPath: {path: /srv, type: Directory}", ", readOnly: true")
    assert mount == Mount(type="bind", source="/srv", target="/there", options=("rro",))
    spec = "volumes: [{name: v, hostPath: {path: /srv, type: Directory}}]"
    assert planned(spec).host_paths == (HostPath("v", "/srv", "Directory"),)


def test_claims_are_volumes_by_name() -> None:
    (mount,) = mounts("persistentVolumeClaim: {claimName: kept}", ", subPath: a/b")
    assert (mount.type, mount.source, mount.subpath) == ("volume", "kept", "a/b")
    assert not mount.anonymous
    (mount,) = mounts("persistentVolumeClaim: {claimName: kept, readOnly: true}")
    assert mount.options == ("rro",)


def test_files_of_config_maps_and_secrets() -> None:
    spec = """volumes:
  - {name: c, configMap: {name: settings, items: [{key: nginx.conf, path: a/b.conf, mode: 0400}]}}
  - {name: s, secret: {secretName: keys, defaultMode: 0600}}
  - {name: o, configMap: {name: nosuch, optional: true}}"""
    found = planned(spec, "volumeMounts: [{name: c, mountPath: /c}]")
    assert found.folders == (
        Folder("c", 0o755, (File("a/b.conf", 0o400, b"server {}"),)),
        Folder("s", 0o755, (File("token", 0o600, b"hidden"),)),
        Folder("o", 0o755, ()),
    )
    (mount,) = found.members[0].options.mounts
    assert (mount.source, mount.options) == ("c", ("nosuid", "nodev", "rro"))


def test_one_file_of_a_config_map() -> None:
    (mount,) = mounts("configMap: {name: settings}", ", subPath: nginx.conf")
    assert mount.source == "v/nginx.conf"
    with_variable = ", subPathExpr: $(A)nx.conf"
    entry = f"{{name: v, mountPath: /there{with_variable}}}"
    spec = "volumes: [{name: v, configMap: {name: settings}}]"
    found = options(f"env: [{{name: A, value: ngi}}]\n    volumeMounts: [{entry}]", spec)
    assert found.mounts[0].source == "v/nginx.conf"
    for part in ("nosuch", "nginx", "./.."):
        with pytest.raises(InvalidInput):
            mounts("configMap: {name: settings}", f", subPath: {part}")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("$(NOSUCH)/a", "names what is no variable"),
        ("$(UP)/a", "is not relative, or has"),
        ("a$(ROOT)", None),
        ("$(ROOT)a", "is not relative, or has"),
        ("$$(NOSUCH)", None),
    ],
)
def test_a_part_that_variables_say(expression: str, said: str | None) -> None:
    entry = f"{{name: v, mountPath: /v, subPathExpr: {expression}}}"
    container = (
        f'env: [{{name: UP, value: ..}}, {{name: ROOT, value: "/"}}]\n    volumeMounts: [{entry}]'
    )
    spec = "volumes: [{name: v, persistentVolumeClaim: {claimName: kept}}]"
    if said is None:
        expected = {"a$(ROOT)": "a/", "$$(NOSUCH)": "$(NOSUCH)"}[expression]
        assert options(container, spec).mounts[0].subpath == expected
        return
    with pytest.raises(InvalidInput, match=said):
        options(container, spec)


@pytest.mark.parametrize(
    ("volume", "kind", "source"),
    [
        ("emptyDir: {}", "bind", "v"),
        ("emptyDir: {medium: Memory}", "tmpfs", "v"),
        ("hostPath: {path: /srv}", "bind", "/srv"),
    ],
)
def test_a_part_of_what_containers_may_write(volume: str, kind: str, source: str) -> None:
    (mount,) = mounts(volume, ", subPath: a/b")
    assert (mount.type, mount.source, mount.subpath) == (kind, source, "a/b")
    assert mount.make_source
    (whole,) = mounts(volume)
    assert not whole.make_source


def test_one_place_for_two_mounts_is_refused() -> None:
    spec = "volumes: [{name: v, emptyDir: {}}]"
    both = "volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a/}]"
    with pytest.raises(InvalidInput, match=r"/a"):
        options(both, spec)


def test_a_missing_config_map_is_named() -> None:
    with pytest.raises((InvalidInput, NotFound), match="nosuch"):
        mounts("configMap: {name: nosuch}")


# ---- images ----


@pytest.mark.parametrize(
    ("name", "latest"),
    [
        ("registry.example/app", True),
        ("registry.example/app:latest", True),
        ("registry.example/app:1", False),
        (f"registry.example/app@sha256:{'a' * 64}", False),
        ("busybox", False),  # a recipe makes it
    ],
)
def test_of_which_images_there_may_be_newer_ones(name: str, latest: bool) -> None:
    assert images._is_latest(name) == latest


def test_pull_policies() -> None:
    assert planned().members[0].pull == ""
    assert planned("", "imagePullPolicy: Never").members[0].pull == "Never"
