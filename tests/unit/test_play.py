"""What a Kubernetes Pod comes to here, by value."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.errors import InvalidInput, NotFound
from pycontain.model import kube
from pycontain.model.container import Mount, NetworkChoice, Publish, RestartPolicy, RunOptions
from pycontain.pod import manifest, play
from pycontain.pod.configs import File
from pycontain.pod.play import Around, Folder, HostPath, Planned

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
    return play.plan(pod, objects, around)


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
        ("", RestartPolicy(name="always")),
        ("restartPolicy: OnFailure", RestartPolicy(name="on-failure")),
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


def test_rights_that_contradict_each_other() -> None:
    with pytest.raises(InvalidInput, match="runAsGroup without runAsUser"):
        options("securityContext: {runAsGroup: 7}")


def test_not_root_is_said_of_the_container_or_of_all() -> None:
    assert not planned().members[0].non_root
    spec = "securityContext: {runAsNonRoot: true}"
    assert planned(spec).members[0].non_root
    assert not planned(spec, "securityContext: {runAsNonRoot: false}").members[0].non_root


def test_init_containers_end_for_good() -> None:
    spec = "initContainers: [{name: one, image: busybox}, {name: two, image: busybox}]"
    found = planned(spec)
    assert [member.options.name for member in found.init] == ["web-one", "web-two"]
    assert [member.options.restart for member in found.init] == [None, None]
    assert [member.options.name for member in found.members] == ["web-up"]


# ---- volumes ----


def test_an_empty_folder_is_the_pods() -> None:
    (mount,) = mounts("emptyDir: {}")
    assert mount == Mount(
        type="bind", source="v", target="/there", options=("nosuid", "nodev")
    )  # fmt: skip
    assert planned("volumes: [{name: v, emptyDir: {}}]").folders == (Folder("v", 0o777),)


def test_an_empty_folder_in_memory() -> None:
    (mount,) = mounts("emptyDir: {medium: Memory, sizeLimit: 1Mi}")
    assert (mount.type, mount.anonymous, mount.no_copy) == ("volume", True, True)
    assert mount.driver_options["type"] == "tmpfs"
    assert "size=1048576" in mount.driver_options["o"].split(",")
    spec = "volumes: [{name: v, emptyDir: {medium: Memory}}]"
    assert planned(spec).folders == ()


def test_a_folder_in_memory_is_nothing_for_init_containers() -> None:
    spec = """volumes: [{name: v, emptyDir: {medium: Memory}}]
  initContainers: [{name: one, image: busybox, volumeMounts: [{name: v, mountPath: /v}]}]"""
    with pytest.raises(InvalidInput, match="lasts as long as a container runs"):
        planned(spec)


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
    for part in ("nosuch", "nginx", "./.."):
        with pytest.raises(InvalidInput):
            mounts("configMap: {name: settings}", f", subPath: {part}")


@pytest.mark.parametrize("volume", ["emptyDir: {}", "hostPath: {path: /srv}"])
def test_a_part_of_what_containers_may_write_is_refused(volume: str) -> None:
    with pytest.raises(InvalidInput, match="subPath is not supported"):
        mounts(volume, ", subPath: a")


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
    assert play._is_latest(name) == latest


def test_pull_policies() -> None:
    assert planned().members[0].pull == ""
    assert planned("", "imagePullPolicy: Never").members[0].pull == "Never"
