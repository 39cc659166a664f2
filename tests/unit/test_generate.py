"""Containers and pods to manifests, and from there back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient, Configuration
from msgspec.structs import replace

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.model.container import (
    Container,
    HealthCheck,
    ImageConfig,
    Limits,
    Mount,
    NetworkChoice,
    PortBinding,
    Publish,
    RestartPolicy,
    RunOptions,
    Ulimit,
)
from pycontain.model.parse.numbers import parse_size
from pycontain.model.pod import Memory, Pod
from pycontain.model.probe import (
    ExecAction,
    Hooks,
    HttpAction,
    ProbeCheck,
    Probes,
    SleepAction,
    TcpAction,
)
from pycontain.pod import checks, claims, generate, manifest, writing
from pycontain.pod.controllers import HASH_LABEL
from pycontain.pod.plan import Around, Planned, plan
from pycontain.runtime.spec import security

OWN_PROFILE = "seccomp=/var/lib/kubelet/seccomp/own.json"
AROUND = Around(network="bridge", networks=(NetworkChoice(name="bridge"),))


def container(name: str = "one", config: ImageConfig | None = None, **options: Any) -> Container:
    asked = {"network": AROUND.network, "networks": AROUND.networks, **options}
    found = RunOptions(**{"image": "busybox", "name": name, **asked})
    return Container(
        id=f"{name:0<64}", name=name, created=1, options=found, image_id="sha256:1",
        layers=(), config=config or ImageConfig(), command=("sh",), stop_signal=15,
        stop_timeout=10 if found.stop_timeout is None else found.stop_timeout,
    )  # fmt: skip


def pod(**fields: Any) -> Pod:
    asked = {"network": AROUND.network, "networks": AROUND.networks, **fields}
    return Pod(**{"id": "f" * 64, "name": "web", "created": 1, "hostname": "web", **asked})


def made(*several: Container, of: Pod | None = None, **more: Any) -> generate.Generated:
    return generate.generate(generate.Source(of, several, **more), AROUND)


def spec(found: generate.Generated) -> kube.PodSpec:
    (one,) = (item for item in found.objects if isinstance(item, kube.Pod))
    return one.spec


def played(found: generate.Generated) -> Planned:
    """What comes of the text that is written."""
    text = writing.text(map(writing.document, found.objects), found.left_out)
    objects = manifest.parse(text, strict=True).objects
    assert objects == found.objects
    (one,) = (item for item in objects if isinstance(item, kube.Pod))
    return plan(one, objects, AROUND)


def back(*several: Container, of: Pod | None = None) -> list[RunOptions]:
    return [one.options for one in played(made(*several, of=of)).members]


# ---- containers ----

SAID: dict[str, Any] = {
    "command": ("sleep", "1000"),
    "entrypoint": ("tini", "--"),
    "env": ("A=1", "B=$(A) $$ $", "C="),
    "workdir": "/srv",
    "user": "1000:100",
    "group_add": ("10", "20"),
    "interactive": True,
    "tty": True,
    "read_only": True,
    "cap_add": ("NET_ADMIN",),
    "cap_drop": ("ALL",),
    "security_opt": ("no-new-privileges",),
    "memory": 64 << 20,
    "cpus": 1.25,
    "stop_timeout": 3,
    "probes": Probes(
        startup=ProbeCheck(action=TcpAction(port=80), failures=30, period=1),
        liveness=ProbeCheck(action=ExecAction(command=("true",)), timeout=5, grace=7),
        readiness=ProbeCheck(
            action=HttpAction(port=80, path="/ok", scheme="https", headers=(("a", "b"),)),
            successes=2,
        ),
    ),
    "hooks": Hooks(post_start=SleepAction(seconds=1), pre_stop=ExecAction(command=("sync",))),
    "stop_signal": "SIGQUIT",
    "mounts": (
        Mount(type="bind", source="/etc", target="/there", options=("rro",)),
        Mount(
            type="volume",
            source="data",
            target="/data",
            no_copy=True,
            subpath="part",
            make_source=True,
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(SAID))
def test_each_option_comes_back(name: str) -> None:
    one = container(**{name: SAID[name]})
    (found,) = back(one)
    assert getattr(found, name) == SAID[name]
    assert made(one).left_out == ()


@given(st.sets(st.sampled_from(sorted(SAID))))
@settings(max_examples=40, deadline=None)
def test_any_options_come_back(names: set[str]) -> None:
    asked = {name: SAID[name] for name in names}
    (found,) = back(container(**asked))
    assert {name: getattr(found, name) for name in names} == asked


def test_all_options_come_back_together() -> None:
    (found,) = back(container(restart=RestartPolicy(name="always"), **SAID))
    assert {name: getattr(found, name) for name in SAID} == SAID
    assert found.restart is not None
    assert found.restart.name == "always"
    (found,) = back(container(privileged=True))
    assert found.privileged


@given(
    words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)),
    env=st.dictionaries(
        st.from_regex(r"[A-Z_a-z][A-Z0-9_]{0,3}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
        | st.from_regex(r"[$()A-B]{0,8}", fullmatch=True),
    ),
)
@settings(max_examples=60, deadline=None)
def test_texts_come_back(words: list[str], env: dict[str, str]) -> None:
    lines = tuple(f"{name}={value}" for name, value in env.items())
    (found,) = back(container(command=tuple(words), env=lines))
    assert found.command == tuple(words)
    assert found.env == lines


@given(cpus=st.integers(10_000_000, 64_000_000_000), memory=st.integers(1, 1 << 50))
@settings(max_examples=60, deadline=None)
def test_limits_come_back(cpus: int, memory: int) -> None:
    (found,) = back(container(cpus=cpus / 10**9, memory=memory))
    assert (found.cpus, found.memory) == (cpus / 10**9, memory)


def test_a_quota_is_a_part_of_the_processors() -> None:
    one = container(cpu_quota=50_000, cpu_period=50_000)
    assert spec(made(one)).containers[0].resources.limits == {"cpu": "1"}
    assert made(one).left_out == ("container one: --cpu-period 50000",)
    assert spec(made(container(cpus=0.0, memory=-1))).containers[0].resources.limits == {}


def test_an_entrypoint_that_is_taken_away() -> None:
    found = spec(made(container(entrypoint=(), command=("a", "b")))).containers[0]
    assert (found.command, found.args) == (("a", "b"), None)


def test_variables() -> None:
    one = container(env=("A=1", "A=2", "a b=3", "GONE", "é=4"))
    found = made(one)
    variables = {item.name: item.value for item in spec(found).containers[0].env}
    assert variables == {"A": "2", "a b": "3"}
    assert len(found.left_out) == 2
    assert "--env GONE" in found.left_out[1]


def test_what_a_manifest_cannot_say_is_named() -> None:
    one = container(
        ulimits=(Ulimit(name="nofile", soft=1, hard=2),), init=True, remove=True, tz="local",
        memory_swap=1 << 30, pids_limit=10, networks=(NetworkChoice(name="own"),),
        security_opt=("mask=/proc/a",), log_max_size=1,
    )  # fmt: skip
    words = {line.removeprefix("container one: ") for line in made(one).left_out}
    assert words == {
        "--ulimit", "--init", "--rm", "--tz", "--memory-swap", "--pids-limit", "--network own",
        "--security-opt mask=/proc/a", "--log-opt max-size",
    }  # fmt: skip


def test_what_is_configured_for_all_is_not_named() -> None:
    around = AROUND._replace(defaults={"pids_limit": 99}, shm_size=1 << 20)
    one = container(pids_limit=99, shm_size=1 << 20)
    assert generate.generate(generate.Source(None, (one,)), around).left_out == ()
    assert len(made(one).left_out) == 2


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("seccomp=unconfined",), ("seccomp=unconfined",)),
        ((OWN_PROFILE,), (OWN_PROFILE,)),
        (("apparmor=mine",), ("apparmor=mine",)),
        (("apparmor:mine",), ("apparmor=mine",)),
        (("no-new-privileges:true",), ("no-new-privileges",)),
        (("no-new-privileges=false",), ()),
        (("label=disable", "apparmor=unconfined"), ()),
    ],
)
def test_security_options(asked: tuple[str, ...], found: tuple[str, ...]) -> None:
    one = container(security_opt=asked)
    assert made(one).left_out == ()
    (options,) = back(one)
    assert set(found) <= set(options.security_opt)
    assert security(options.security_opt) == security(asked)


def test_a_profile_that_lies_elsewhere_is_named() -> None:
    one = container(security_opt=("seccomp=/etc/some.json", "seccomp=builtin"))
    assert made(one).left_out == ("container one: --security-opt seccomp=/etc/some.json",)


@pytest.mark.parametrize("word", ["unmask=ALL", "systempaths=unconfined"])
def test_unmasked_paths(word: str) -> None:
    (options,) = back(container(security_opt=(word,)))
    assert security(options.security_opt).masked == ()


def test_users_have_numbers() -> None:
    named = ImageConfig(user="nobody")
    assert back(container(user="nobody", config=named))[0].user is None
    wrong: list[dict[str, Any]] = [
        {"user": "nobody"}, {"user": "1:users"}, {"group_add": ("wheel",)},
    ]  # fmt: skip
    for fields in wrong:
        with pytest.raises(InvalidInput, match="numbers only"):
            made(container(**fields))


# ---- ports ----


def test_ports() -> None:
    one = container(
        publish=(
            Publish(first=8080, last=8080, target=80, address="127.0.0.1"),
            Publish(protocol="udp", first=5353, last=5353, target=53),
        ),
        expose=("80/tcp", "81/tcp", "82/sctp"),
    )
    assert made(one).left_out == ()
    assert played(made(one)).pod.publish == one.options.publish
    ports = spec(made(one)).containers[0].ports
    assert [port.container_port for port in ports] == [80, 53, 81, 82]


def test_a_port_that_nobody_chose_is_the_one_that_it_has() -> None:
    one = container(publish=(Publish(target=80), Publish(target=81)))
    bound = PortBinding(protocol="tcp", address="0.0.0.0", port=4000, target=80)
    found = made(one, ports={one.id: (bound,)})
    assert [port.host_port for port in spec(found).containers[0].ports] == [4000, None]
    assert found.left_out == ("container one: --publish 81/tcp: a free port of the host",)


# ---- volumes ----


def test_volumes() -> None:
    one = container(
        mounts=(
            Mount(type="bind", source="/srv/x y", target="/a", make_source=True),
            Mount(type="tmpfs", target="/tmp", options=("size=64m", "mode=1777")),
            Mount(type="volume", source="data", target="/c", options=("rro",)),
            Mount(type="volume", target="/d"),
        )
    )
    found = made(one)
    volumes = {volume.name: volume for volume in spec(found).volumes}
    assert volumes["srv-x-y-host"].host_path == kube.HostPath(path="/srv/x y")
    memory = kube.EmptyDir(medium="Memory", size_limit="64Mi")
    assert volumes["tmp-tmp"].empty_dir == memory
    assert volumes["data-pvc"].persistent_volume_claim == kube.Claim(claim_name="data")
    assert volumes["data-d"].empty_dir == kube.EmptyDir()
    assert found.left_out == ("container one: /tmp: mount option mode=1777",)
    claim = found.objects[0]
    assert isinstance(claim, kube.PersistentVolumeClaim)
    assert claim.name == "data"
    by_target = {mount.target: mount for mount in played(found).members[0].options.mounts}
    assert by_target["/c"].options == ("rro",)
    assert by_target["/a"].source == "/srv/x y"


def test_a_volume_of_two_is_there_once() -> None:
    mount = Mount(type="volume", source="data", target="/a")
    found = made(container("one", mounts=(mount,)), container("two", mounts=(mount,)))
    assert [volume.name for volume in spec(found).volumes] == ["data-pvc"]
    assert len(found.objects) == 2


def test_a_claim_says_what_was_claimed() -> None:
    mount = Mount(type="volume", source="data", target="/a")
    labels = {"data": claims.labels_of(generate.claim("data", {claims.STORAGE_LABEL: "5"}))}
    (found, _) = made(container(mounts=(mount,)), labels=labels).objects
    assert isinstance(found, kube.PersistentVolumeClaim)
    assert found.spec.resources.requests == {"storage": "5"}
    assert claims.labels_of(found) == labels["data"]


def test_what_is_not_said_is_not_written() -> None:
    text = writing.text(map(writing.document, made(container(stop_timeout=30)).objects))
    assert text == (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: one-pod\nspec:\n  containers:\n"
        "  - name: one\n    image: busybox\n  restartPolicy: Never\n"
    )


def test_names_of_volumes_are_given_once() -> None:
    places = ("/a/b", "/a-b", f"/{'x' * 80}", f"/{'x' * 81}")
    mounts = (Mount(type="bind", source=path, target=path) for path in places)
    names = [volume.name for volume in spec(made(container(mounts=tuple(mounts)))).volumes]
    assert len(set(names)) == 4
    assert all(map(checks.is_label, names))


def test_volumes_of_the_image_come_with_it() -> None:
    mounts = (
        Mount(type="volume", source="0" * 64, target="/own", anonymous=True),
        Mount(type="volume", source="1" * 64, target="/more", anonymous=True),
    )
    one = replace(container(config=ImageConfig(volumes={"/own": {}})), mounts=mounts)
    assert [mount.mount_path for mount in spec(made(one)).containers[0].volume_mounts] == ["/more"]


def test_mounts_that_no_manifest_has() -> None:
    with pytest.raises(InvalidInput, match="mounts no images"):
        made(container(mounts=(Mount(type="image", source="busybox", target="/x"),)))
    with pytest.raises(InvalidInput, match="no claim can have this name"):
        made(container(mounts=(Mount(type="volume", source="My_data", target="/x"),)))


# ---- pods ----


def test_a_pod_comes_back() -> None:
    one = pod(
        labels={"app": "a"}, share=("ipc", "net", "pid", "uts"), hostname="near",
        publish=(Publish(first=80, last=80, target=80),),
        add_host=("a:10.0.0.7", "b:10.0.0.7", "c:fd00::1"), dns=("10.0.0.53",),
        dns_search=("example",), dns_option=("ndots:2", "rotate"),
        memory=(Memory(name="fast"),),
    )  # fmt: skip
    member = container("web-up", pod=one.id, network=f"container:{one.id}", networks=())
    planned = played(made(member, of=one))
    found = planned.pod
    fields = ("name", "hostname", "publish", "add_host", "dns", "dns_search", "dns_option",
              "network", "networks")  # fmt: skip
    for field in fields:
        assert getattr(found, field) == getattr(one, field), field
    assert set(found.share) == set(one.share)
    assert found.labels["app"] == "a"
    assert planned.members[0].options.name == "web-up"


def test_limits_of_a_pod() -> None:
    limits = Limits(memory=64 << 20, cpus=0.5, pids_limit=9)
    one = pod(limits=limits, shm_size=1 << 20)
    member = container("web-up", pod=one.id, network=f"container:{one.id}", networks=())
    found = made(member, of=one)
    assert spec(found).resources.limits == {"cpu": "500m", "memory": "64Mi"}
    assert found.left_out == ("pod web: --pids-limit", "pod web: --shm-size")
    planned = played(found).pod.limits
    assert (planned.memory, planned.cpus) == (64 << 20, 0.5)


def test_networks_that_pods_have_anyway_are_not_named() -> None:
    for name, left_out in (("bridge", 0), ("kube", 0), ("own", 1)):
        one = container(networks=(NetworkChoice(name=name),))
        assert len(made(one).left_out) == left_out
    assert made(container(network="none", networks=())).left_out == (
        "container one: --network none",
    )


def test_containers_become_one_pod() -> None:
    several = (container("My_Web.1", labels={"a": "1", "b c": "2"}), container("cache"))
    found = made(*several)
    (one,) = found.objects
    assert one.name == "my-web-1-pod"
    assert [item.name for item in spec(found).containers] == ["my-web-1", "cache"]
    assert one.metadata.labels == {"a": "1"}
    assert found.left_out == ("container My_Web.1: --label b c",)


def test_of_different_restart_policies_the_strongest() -> None:
    several = (
        container("a"), container("b", restart=RestartPolicy(name="on-failure", most=3)),
        container("c", restart=RestartPolicy(name="on-failure")),
    )  # fmt: skip
    found = made(*several)
    assert spec(found).restart_policy == "OnFailure"
    assert found.left_out == (
        "container b: --restart on-failure:3: the number",
        "container a: --restart no: its pod has OnFailure",
    )


def test_namespaces() -> None:
    assert spec(made(container(network="host", networks=()))).host_network
    assert spec(made(container(pid="host"))).host_pid
    assert spec(made(container(ipc="host"))).host_ipc
    first = container("a")
    joined = container("b", network=f"container:{first.id}", networks=(),
                       pid=f"container:{first.id}")  # fmt: skip
    found = made(first, joined)
    assert spec(found).share_process_namespace
    assert found.left_out == ()
    with pytest.raises(InvalidInput, match="not named"):
        made(joined)
    for field in ("network", "pid", "ipc"):
        one = replace(first, options=replace(first.options, **{field: "host"}))
        with pytest.raises(InvalidInput, match="same for all"):
            made(one, container("b"))


def test_words_of_namespaces_that_no_pod_has() -> None:
    assert made(container(ipc="none", uts="host", cgroupns="host")).left_out == (
        "container one: --cgroupns", "container one: --ipc none", "container one: --uts host",
    )  # fmt: skip
    assert made(container(ipc="shareable")).left_out == ()


def test_a_pod_without_containers_is_none() -> None:
    with pytest.raises(InvalidInput, match="pod web: there is no container"):
        made(of=pod())


def test_a_health_check_is_a_liveness_probe() -> None:
    check = HealthCheck(
        test=("CMD-SHELL", "test -f /ok"), interval=5 * 10**9, timeout=1, retries=2,
        start_period=1_500_000_000,
    )  # fmt: skip
    found = made(container(health=check))
    probe = spec(found).containers[0].liveness_probe
    assert probe == kube.Probe(
        exec_=kube.ExecAction(command=("/bin/sh", "-c", "test -f /ok")),
        initial_delay_seconds=2, period_seconds=5, timeout_seconds=1, failure_threshold=2,
    )  # fmt: skip
    assert len(found.left_out) == 1
    of_image = ImageConfig(healthcheck=check)
    assert spec(made(container(config=of_image))).containers[0].liveness_probe is None
    none = container(config=of_image, health=HealthCheck(test=("NONE",)))
    assert made(none).left_out == ("container one: --no-healthcheck",)


def test_a_deployment() -> None:
    (one,) = made(container(restart=RestartPolicy(name="always"))).objects
    assert isinstance(one, kube.Pod)
    found, left_out = generate.deployment(one, 3)
    text = writing.text([writing.document(found)])
    assert manifest.parse(text, strict=True).objects == (found,)
    assert (found.name, found.spec.replicas, left_out) == ("one-pod-deployment", 3, ())
    assert text.startswith("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n")


def test_a_deployment_of_a_pod_of_another_is_its_own() -> None:
    metadata = kube.ObjectMeta(name="web-1", labels={"app": "web", HASH_LABEL: "0"})
    pod = kube.Pod(api_version="v1", kind="Pod", metadata=metadata, spec=spec(made(container())))
    found, _ = generate.deployment(pod)
    assert found.spec.selector.match_labels == {"app": "web"}
    assert found.spec.template.metadata.labels == {"app": "web"}


def test_kubernetes_client_reads_what_is_written() -> None:
    volumes = (
        *SAID["mounts"],
        Mount(type="tmpfs", target="/fast", options=("size=1m",)),
        Mount(type="volume", target="/own"),
    )
    published = (Publish(first=80, last=80, target=80, address="127.0.0.1"),)
    one = container(**{**SAID, "mounts": volumes, "publish": published, "dns": ("10.0.0.53",)})
    *_, found = made(one).objects
    assert isinstance(found, kube.Pod)
    client = ApiClient(Configuration())
    for item, kind in ((found, "V1Pod"), (generate.deployment(found)[0], "V1Deployment")):
        document = msgspec.json.encode(item)
        known = client.deserialize(document.decode(), kind, "application/json")
        assert client.sanitize_for_serialization(known) == msgspec.json.decode(document)


def test_replicas_cannot_share_a_port_of_the_host() -> None:
    (one,) = made(container(publish=(Publish(first=80, last=80, target=80),))).objects
    assert isinstance(one, kube.Pod)
    found, left_out = generate.deployment(one, 1)
    assert len(left_out) == 1  # Never
    assert found.spec.template.spec.restart_policy == "Always"
    with pytest.raises(InvalidInput, match="port 80"):
        generate.deployment(one, 2)


def test_what_a_pod_names() -> None:
    text = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
  - name: a
    image: a
    envFrom: [{configMapRef: {name: c1}}, {secretRef: {name: s1}}]
    env:
    - {name: A, valueFrom: {configMapKeyRef: {name: c2, key: k}}}
    - {name: B, valueFrom: {secretKeyRef: {name: s2, key: k}}}
  volumes:
  - {name: a, configMap: {name: c3}}
  - {name: b, secret: {secretName: s3}}
  - {name: c, projected: {sources: [{configMap: {name: c4}}, {secret: {name: s4}}]}}
  - {name: d, persistentVolumeClaim: {claimName: p1}}
  - {name: e, configMap: {name: c1}}
"""
    (one,) = manifest.parse(text).objects
    assert isinstance(one, kube.Pod)
    found = generate.named(one)
    assert len(found) == len(set(found)) == 9
    assert {name for kind, name in found if kind == "ConfigMap"} == {"c1", "c2", "c3", "c4"}
    assert {name for kind, name in found if kind == "Secret"} == {"s1", "s2", "s3", "s4"}


# ---- text ----


@given(
    st.recursive(
        st.text(st.characters(codec="utf-8"))
        | st.from_regex(r"[-+0-9.eExobn_:~ yesofTrul#&*!|>%@`'\"]{0,8}", fullmatch=True)
        | st.integers(-(2**40), 2**40)
        | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_text_is_read_as_it_was_written(value: Any) -> None:
    from pycontain.pod import documents

    (found,) = documents.read(writing.text([{"a": value}], ["a\nb: c"]))
    assert found.value == {"a": value}


def test_sizes_are_read_as_they_are_written() -> None:
    one = container(memory=parse_size("1536k"))
    assert spec(made(one)).containers[0].resources.limits == {"memory": "1536Ki"}
