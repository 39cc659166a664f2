"""Kubernetes manifests: what is taken, what is named, and what is refused with which words."""

from __future__ import annotations

import copy
import json
import textwrap
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.model import kube
from pycontain.model.probe import ExecAction, Hooks, HttpAction, ProbeCheck, SleepAction, TcpAction
from pycontain.pod import (
    actions,
    configs,
    documents,
    downward,
    manifest,
    podspec,
    quantities,
    selectors,
)
from pycontain.pod.plan import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: shop}, annotations: {note: of the day}}
spec:
  containers:
  - name: main
    image: busybox
"""


FACTS = Facts("u-1", ("10.88.0.2", "fd00::2"), "192.0.2.1", "here", 4, 8 << 30)

WHOLE = """
command: [sh, -c]
env: [{name: A, value: x}, {name: B, valueFrom: {configMapKeyRef: {name: conf, key: mode}}}]
ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1, name: http}]
resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 0.1}}
securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}
volumeMounts: [{name: data, mountPath: /data, readOnly: true}]
livenessProbe: {httpGet: {port: http, path: /up, httpHeaders: [{name: A, value: b}]}}
readinessProbe: {exec: {command: ["true"]}, periodSeconds: 5}
lifecycle: {preStop: {sleep: {seconds: 3}}, stopSignal: SIGUSR1}
"""


def of_container(text: str, *, spec: str = "") -> str:
    """A pod whose one container has the fields of `text` too, and whose spec those of `spec`."""
    return POD + textwrap.indent(textwrap.dedent(text), "    ") + textwrap.indent(spec, "  ")


def pod_of(text: str, *, strict: bool = True) -> kube.Pod:
    (one,) = manifest.parse(text, strict=strict).objects
    assert isinstance(one, kube.Pod)
    return one


def refused(text: str, *, strict: bool = False) -> str:
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(text, strict=strict)
    return caught.value.message


def value(text: str) -> object:
    (document,) = documents.read(text)
    return document.value


# ---- YAML ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0644", 420), ("0o644", 420), ("0x10", 16), ("-3", -3), ("0", 0), ("08", "08"),
        ("1e3", 1000.0), ("0.5", 0.5), ("1_000", "1_000"), ("9" * 500, "9" * 500),
        ("yes", True), ("Off", False), ("y", "y"), ("~", None), ("", None), ("'yes'", "yes"),
        ("12:30:45", "12:30:45"), ("2024-01-01", "2024-01-01"), ("!!str 5", "5"),
        ("64Mi", "64Mi"), ("+1", 1), ("[~]", [None]), ("{1: a, on: b}", {"1": "a", "on": "b"}),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]),
        ("[&a {x: 1, y: 1}, {<<: *a, y: 2}]", [{"x": 1, "y": 1}, {"x": 1, "y": 2}]),
        ("{<<: [{a: 1}, {a: 2, b: 3}]}", {"a": 1, "b": 3}), ("{'<<': 1}", {"<<": 1}),
        ('{"a": ["json", null]}', {"a": ["json", None]}),
    ],
)  # fmt: skip
def test_yaml_is_read_as_kubernetes_reads_it(text: str, expected: object) -> None:
    found = value(f"--- {text}")
    assert (found, type(found)) == (expected, type(expected))


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: key 'a' is there twice"),
        ("{<<: {a: 1}, <<: {b: 1}}", "key '<<' is there twice"),
        ("a: &b [*b]", "nothing complete has this anchor"),
        ("a: *b", "nothing complete has this anchor"),
        ("a: &x 1\n---\nb: *x", "nothing complete has this anchor"),
        (LAUGHS, "too large once its aliases are written out"),
        (f"a: &a {{x: {'x' * 2000}}}\nz: {{<<: [{'*a,' * 10_000}]}}", "too large once its aliases"),
        ("[" * 100, "more than 64 levels"),
        ("- " * 100, "more than 64 levels"),
        ("x" * ((4 << 20) + 1), "more than 4 MiB"),
        ("a: [1", "line 2, column 1: did not find expected"),
        ("a: !!python/object/apply:os.system [id]", "python/object/apply:os.system is not supp"),
        ("a: !!binary aGk=", "tag tag:yaml.org,2002:binary is not supported"),
        ("{[a]: 1}", "a key is a list or a mapping"),
        ("<<: 3", "<< of what is no mapping"),
        ("a: \x01", "no YAML: "),
        ("\ud800", "no YAML: "),
    ],
)  # fmt: skip
def test_what_is_no_yaml_or_too_much_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(documents.read(text))
    assert said in caught.value.message


@given(st.text(alphabet="ab:- \n{}[],&*<!'\"#0x.|>?%~\t", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        list(documents.read(text))
        manifest.parse(text)
    except PycontainError as err:
        assert err.message


# ---- objects ----


def test_a_whole_pod() -> None:
    pod = pod_of(
        of_container(
            """
            command: [sh, -c]
            args: [echo]
            ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1, name: http}]
            resources: {limits: {cpu: 500m, memory: 64Mi}}
            securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}
            volumeMounts: [{name: data, mountPath: /data, readOnly: true}]
            """,
            spec=(
                "volumes: [{name: data}, {name: conf, configMap: {name: c, defaultMode: 0400}}]\n"
                "initContainers: [{name: first, image: busybox}]\n"
                "hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]\n"
                "restartPolicy: Never\n"
                "dnsConfig: {nameservers: [9.9.9.9], options: [{name: ndots, value: '2'}]}\n"
            ),
        )
    )
    (main,) = pod.spec.containers
    (port,) = main.ports
    assert (main.command, main.args) == (("sh", "-c"), ("echo",))
    assert (port.host_port, port.host_ip, port.protocol) == (8080, "127.0.0.1", "TCP")
    assert quantities.quantity(main.resources.limits["cpu"]) == Decimal("0.5")
    assert (main.security_context.run_as_user, main.volume_mounts[0].read_only) == (1000, True)
    data, conf = pod.spec.volumes
    assert data.empty_dir == kube.EmptyDir()  # Kubernetes' default source
    assert conf.config_map is not None
    assert conf.config_map.default_mode == 0o400
    paths = [(path, one.name) for path, one in podspec.containers(pod.spec)]
    assert paths == [("spec.initContainers[0]", "first"), ("spec.containers[0]", "main")]
    assert (pod.spec.restart_policy, pod.spec.dns_policy) == ("Never", "ClusterFirst")


def test_several_documents_empty_ones_and_comments() -> None:
    text = f"# first\n---\n{POD}---\n# nothing\n---\n" + POD.replace("web", "db")
    found = manifest.parse(text)
    assert [(one.kind, one.name) for one in found.objects] == [("Pod", "web"), ("Pod", "db")]
    assert manifest.parse("").objects == ()


def test_null_is_a_field_that_is_not_there() -> None:
    text = of_container("env:\nargs: ~\nlivenessProbe: null\n") + "  volumes: null\n"
    assert pod_of(text) == pod_of(POD)


def test_unsupported_fields_are_named_and_with_strict_refused() -> None:
    text = of_container(
        """
        stdinOnce: true
        resources: {requests: {cpu: 1, example.org/x: 1}, limits: {ephemeral-storage: 1Gi}}
        terminationMessagePolicy: ""
        """,
        spec=(
            "affinity: {podAffinity: {}}\nnodeSelector: {}\nhostPID: false\nhostUsers: false\n"
            "schedulerName: default-scheduler\nsecurityContext: {seccompProfile:"
            " {type: RuntimeDefault}, fsGroup: 5, fsGroupChangePolicy: OnRootMismatch}\n"
        ),
    )
    found = manifest.parse(text + "status: {phase: Running}\n").ignored
    assert sorted(found) == [
        "Pod/web: spec.affinity",
        "Pod/web: spec.containers[0].resources.limits.ephemeral-storage",
        "Pod/web: spec.containers[0].resources.requests['example.org/x']",
        "Pod/web: spec.containers[0].stdinOnce",
        "Pod/web: spec.hostUsers",
        "Pod/web: spec.securityContext.fsGroupChangePolicy",
    ]
    assert refused(text, strict=True).startswith("document 1 (line 2): Pod/web: spec.")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("foo: 1", "spec.containers[0].foo: unknown field"),
        ("foo: null", "spec.containers[0].foo: unknown field"),
        ("env: [{name: A, value: 5}]", "env[0].value: expected `str`, got `int`"),
        ("env: [{name: A, valu: x}]", "spec.containers[0].env[0].valu: unknown field"),
        ("env: [{value: x}]", "spec.containers[0].env[0].name: is missing"),
        ("env: [{name: 'A=B'}]", "'A=B' is no name of a variable"),
        ("env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", "both"),
        ("env: [{name: A, valueFrom: {}}]", "not one source: none"),
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.containers}}}]",
         "env[0].valueFrom.fieldRef.fieldPath: 'spec.containers' is not supported"),
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]",
         "fieldPath: 'metadata.labels' is not supported"),
        ("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage}}}]",
         "valueFrom.resourceFieldRef.resource: 'limits.ephemeral-storage' is not supported"),
        ("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: x}}}]",
         "resourceFieldRef.divisor: 'x' is no quantity"),
        ("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu,"
         + " containerName: b}}}]",
         "resourceFieldRef.containerName: there is no container 'b'"),
        ("env: [{name: A, valueFrom: {fileKeyRef: {key: a}}}]", "fileKeyRef: not supported"),
        ("resources: {limits: {cpu: 1}, requests: {cpu: 1001m}}",
         "resources.requests.cpu: 1001m is more than the limit, 1"),
        ("resources: {requests: {memory: 0.5}}", "requests.memory: 0.5 is no whole number"),
        ("livenessProbe: {}", "spec.containers[0].livenessProbe: not one action"),
        ("livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}", "Probe: not one action"),
        ("livenessProbe: {exec: {}}", "livenessProbe.exec.command: is empty"),
        ("livenessProbe: {grpc: {port: 1}}", "livenessProbe.grpc: not supported"),
        ("livenessProbe: {tcpSocket: {port: 0}}", "tcpSocket.port: 0 is no port"),
        ("livenessProbe: {tcpSocket: {port: web}}",
         "livenessProbe.tcpSocket.port: the container has no port of the name 'web'"),
        ("livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}", "Threshold: is not 1"),
        ("startupProbe: {tcpSocket: {port: 1}, successThreshold: 2}", "Threshold: is not 1"),
        ("readinessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}", "periodSeconds: expected"),
        ("livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}", "Seconds:"),
        ("readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 1}", "it ends no"),
        ("livenessProbe: {httpGet: {port: 1, path: /a b}}", "httpGet.path: '/a b' is no path"),
        ("livenessProbe: {httpGet: {port: 1, host: 'a/b'}}", "httpGet.host: 'a/b' is no host"),
        ("livenessProbe: {httpGet: {port: 1, scheme: http}}", "httpGet.scheme: invalid enum value"),
        ("livenessProbe: {httpGet: {port: 1, protocol: h2}}", "httpGet.protocol: not supported"),
        ("livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: a}]}}",
         "httpHeaders[0].name: 'a b' is no header's name"),
        ('livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: "a\\r\\nb: c"}]}}',
         "httpHeaders[0].value: is no line"),
        ("lifecycle: {preStop: {}}", "lifecycle.preStop: not one action"),
        ("lifecycle: {preStop: {sleep: {seconds: 31}}}", "sleep.seconds: more than"),
        ("lifecycle: {stopSignal: SIGNO}", "lifecycle.stopSignal: signal 'SIGNO'"),
        ("ports: [{containerPort: 1, hostPort: 65536}]", "ports[0].hostPort: expected"),
        ("securityContext: {seccompProfile: {type: Localhost}}", "localhostProfile: does not fit"),
        ("securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../a}}",
         "seccompProfile.localhostProfile: '../a' is not relative"),
        ("securityContext: {appArmorProfile: {type: RuntimeDefault}}", "there is no such profile"),
        ("securityContext: {procMount: Masked}", "procMount: invalid enum value"),
        ("envFrom: [{prefix: A}]", "envFrom[0]: not one source"),
        ("ports: [{containerPort: 0}]", "ports[0].containerPort: "),
        ("ports: [{containerPort: 80, protocol: tcp}]", "ports[0].protocol: invalid enum value"),
        ("ports: [{containerPort: 1, name: UP}]", "'UP' is no name of a service"),
        ("ports: [{containerPort: 1, hostIP: x}]", "ports[0].hostIP: 'x' is no address"),
        ("ports: [{containerPort: 1, hostPort: 5}, {containerPort: 2, hostPort: 5}]",
         "spec.containers: hostPort: ('0.0.0.0', 5, 'TCP') is there twice"),
        ("resources: {limits: {memory: 100m}}", "'100m' is no whole number of bytes"),
        ("resources: {limits: {memory: 1GB}}", "limits.memory: '1GB' is no quantity"),
        ("resources: {limits: {cpu: -1}}", "limits.cpu: -1 is negative"),
        ("resources: {limits: {cpu: true}}", "resources.limits.cpu: expected"),
        ("volumeMounts: [{name: x, mountPath: /x}]", "there is no volume 'x'"),
        ("workingDir: here", "spec.containers[0].workingDir: is not absolute"),
        ("restartPolicy: Always", "spec.containers[0].restartPolicy: not supported"),
        ("securityContext: {privileged: true, allowPrivilegeEscalation: false}", "is false, and"),
        ("securityContext: {runAsNonRoot: true, runAsUser: 0}", "runAsUser is 0"),
        ("imagePullPolicy: always", "imagePullPolicy: invalid enum value"),
        ('args: ["a\\0b"]', "spec.containers[0].args: has a NUL byte"),
    ],
)  # fmt: skip
def test_what_a_container_may_not_say(fields: str, said: str) -> None:
    message = refused(of_container(fields))
    assert message.startswith("document 1 (line 2): Pod/web: spec.containers")
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POD.replace("web", "Web_1"), "metadata.name: 'Web_1' is no DNS-1123 subdomain"),
        (POD.replace("name: web, ", ""), "Pod: metadata.name: is missing"),
        (POD.replace("shop", "not this"), "metadata.labels['app']: 'not this' is no value"),
        (POD.replace("shop", "5"), "metadata.labels.app: expected `str`, got `int`"),
        (POD.replace("shop", "null"), "metadata.labels.app: expected a text"),
        (POD.replace("app:", "'a/b/c':"), "'a/b' is no DNS-1123 subdomain"),
        (POD.replace("kind: Pod", "kind: Deployment"), "kind 'Deployment' of apiVersion 'v1'"),
        (POD.replace("kind: Pod", "kind: Servise"), "kind 'Servise' of apiVersion 'v1' is not"),
        (
            POD.replace("kind: Pod", "kind: Service").replace("v1", "v2"),
            "kind 'Service' of apiVersion 'v2' is not",
        ),
        (POD.replace("kind: Pod", "kind: Service").replace("web", "We"), "'We' is no DNS-1123"),
        (POD.replace("kind: Pod", "kind: StatefulSet"), "kind 'StatefulSet' of apiVersion 'v1' is"),
        (POD.replace(": v1", ": apps/v1"), "kind 'Pod' of apiVersion 'apps/v1' is not supported"),
        (POD.replace("image: busybox", "image: ''"), "spec.containers[0].image: is empty"),
        (POD.replace("image: busybox", ""), "spec.containers[0].image: is missing"),
        (POD + "  - {name: main, image: b}\n", "spec.containers: main is there twice"),
        (POD + "  initContainers: [{name: main, image: b}]\n", "main is there twice"),
        (POD + "  volumes: [{name: a}, {name: a}]\n", "spec.volumes: a is there twice"),
        (POD + "  volumes: [{name: a, nfs: {}}]\n", "spec.volumes[0].nfs: not supported"),
        (POD + "  volumes: [{name: a, emptyDir: {}, hostPath: {path: /}}]\n", "more than one"),
        (POD + "  initContainers: [{name: a, image: b, restartPolicy: Never}]\n",
         "spec.initContainers[0].restartPolicy: not supported"),
        (POD + "  initContainers: [{name: a, image: b, startupProbe: {tcpSocket: {port: 1}}}]\n",
         "spec.initContainers[0].startupProbe: only with restartPolicy Always"),
        (POD + "    ports: [{containerPort: 1, hostPort: 5}]\n  initContainers: [{name: a,"
               " image: b, restartPolicy: Always, ports: [{containerPort: 2, hostPort: 5}]}]\n",
         "spec.containers: hostPort: ('0.0.0.0', 5, 'TCP') is there twice"),
        (POD + "  volumes: [{name: a, projected: {sources: [{serviceAccountToken: {path: a}}]}}]\n",
         "volumes[0].projected.sources[0].serviceAccountToken: not supported"),
        (POD + "  volumes: [{name: a, projected: {sources: [{}]}}]\n", "not one source: none"),
        (POD + "  volumes: [{name: a, downwardAPI: {items: [{path: a}]}}]\n", "not one of field"),
        (POD + "  volumes: [{name: a, downwardAPI: {items: [{path: a, fieldRef:"
               " {fieldPath: status.podIP}}]}}]\n", "fieldPath: 'status.podIP' is not supported"),
        (POD + "  volumes: [{name: a, downwardAPI: {items: [{path: a, resourceFieldRef:"
               " {resource: limits.cpu}}]}}]\n", "resourceFieldRef.containerName: is missing"),
        (POD + "  hostPID: true\n  shareProcessNamespace: true\n", "hostPID shares the machine's"),
        (POD + "  securityContext: {sysctls: [{name: vm.swappiness, value: '1'}]}\n",
         "securityContext.sysctls[0].name: 'vm.swappiness' is the machine's"),
        (POD + "  hostNetwork: true\n  securityContext: {sysctls: [{name: net.core.somaxconn,"
               " value: '1'}]}\n", "net.core.somaxconn is the machine's, as its network namespace"),
        (POD + "  hostIPC: true\n  securityContext: {sysctls: [{name: kernel/shmmax, value: '1'}]}",
         "kernel.shmmax is the machine's, as its ipc namespace is"),
        (POD + "  securityContext: {sysctls: [{name: kernel/shmmax, value: '1'}, {name:"
               " kernel.shmmax, value: '1'}]}", "kernel.shmmax is there twice"),
        (POD + "  resources: {limits: {cpu: 1}, requests: {cpu: 2}}\n",
         "spec.resources.requests.cpu: 2 is more than the limit, 1"),
        (POD + "    resources: {limits: {cpu: 2}}\n  resources: {limits: {cpu: 1}}\n",
         "spec.containers[0].resources.limits.cpu: 2 is more than the pod's limit, 1"),
        (POD + "    resources: {requests: {cpu: 2}}\n  resources: {requests: {cpu: 1}}\n",
         "spec.resources.requests.cpu: 1 is less than its containers ask for, 2"),
        (POD + "  activeDeadlineSeconds: 0\n", "spec.activeDeadlineSeconds: expected `int` >= 1"),
        (POD + "  volumes: [{name: a, hostPath: {path: /a/../b}}]\n", "has .."),
        (POD + "  volumes: [{name: a, secret: {secretName: a, items: [{key: a, path: ../b}]}}]\n",
         "secret.items[0].path: '../b' is not relative"),
        (POD + "  hostAliases: [{ip: 1.2.3}]\n", "hostAliases[0].ip: '1.2.3' is no address"),
        (POD + "  dnsPolicy: None\n", "spec.dnsConfig.nameservers: is empty, with dnsPolicy None"),
        (POD + "  hostname: a.b\n", "spec.hostname: 'a.b' is no DNS-1123 label"),
        (POD + "spec: {}\n", "key 'spec' is there twice"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}", "is empty"),
        ("- 1", "document 1 (line 1): no mapping"),
        ("kind: [Pod]", "document 1 (line 1): kind: is missing, or no word"),
        (f"{POD}---{POD}", "document 2 (line 9): Pod/web: is there twice"),
    ],
)  # fmt: skip
def test_what_a_pod_may_not_say(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100m", "0.1"), ("64Mi", 64 << 20), ("1G", 10**9), ("1k", 1000), ("2", 2), (2, 2),
        (0.5, "0.5"), ("1e3", 1000), ("1E2", 100), (".5", "0.5"), ("5.", 5), ("1E", 10**18),
        ("1Ki", 1024), ("12e6", 12_000_000), ("1n", "0.000000001"), ("0", 0), (1e-7, "0.0000001"),
    ],
)  # fmt: skip
def test_quantities(text: str | float, number: str | int) -> None:
    assert quantities.quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "m", "1 Mi", "1mi", "-1", "10E", "1e99", "1Mi5", "٣", True])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(InvalidInput):
        quantities.quantity(text)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values within `value`."""
    steps = value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
    for step in steps:
        yield (*path, step)
        yield from places(value[step], (*path, step))


(VALID,) = (
    one.value for one in documents.read(of_container(WHOLE, spec="volumes: [{name: data}]"))
)
ODD: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", "\0", "a/b", "..", "\n", "é", [], {}, [None],
                  {"a": None}, {"": 1}, "$(A)"]  # fmt: skip


@given(st.sampled_from([*places(VALID)]), st.sampled_from(ODD))
def test_a_pod_with_one_odd_value_is_read_or_refused(path: tuple[Any, ...], odd: Any) -> None:
    pod = here = copy.deepcopy(VALID)
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = odd
    try:
        manifest.parse(json.dumps(pod))
    except InvalidInput as err:
        assert err.message.startswith("document 1 (line 1): ")
        assert "\n" not in err.message


@given(st.integers(0, 1 << 40), st.sampled_from(["k", "Ki", "M", "Mi"]))
def test_a_unit_multiplies(number: int, unit: str) -> None:
    once, many = (quantities.quantity(f"{count}{unit}") for count in (1, number))
    assert many == number * once


def test_the_first_parse_may_be_in_many_threads() -> None:
    together, found = threading.Barrier(4), []

    def work() -> None:
        together.wait()
        found.append(pod_of(POD).name)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["web"] * 4


# ---- ConfigMap, Secret, variables ----

CONFIGS = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {mode: fast, page.html: "<p>\\n"}
binaryData: {raw: gICA}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {user: YWRtaW4=, both: b25l}
stringData: {both: two}
"""


def parts(text: str) -> tuple[kube.Pod, configs.Configs]:
    objects = manifest.parse(text + CONFIGS, strict=True).objects
    assert isinstance(objects[0], kube.Pod)
    return objects[0], configs.collect(objects)


def variables(fields: str) -> dict[str, str]:
    pod, found = parts(of_container(fields))
    return configs.environment(pod, pod.spec.containers[0], found, FACTS)


def test_variables_come_from_everywhere_and_the_later_ones_win() -> None:
    assert variables(
        """
        envFrom:
        - {prefix: K_, secretRef: {name: keys}}
        - {configMapRef: {name: missing, optional: true}}
        env:
        - {name: K_both, value: mine}
        - {name: MODE, valueFrom: {configMapKeyRef: {name: conf, key: mode}}}
        - {name: GONE, valueFrom: {secretKeyRef: {name: keys, key: gone, optional: true}}}
        - {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
        - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
        - {name: ALL, value: "$(K_user)@$(MODE) $(LATER) $$(MODE) $MODE $"}
        - {name: LATER, value: "1"}
        - {name: EMPTY}
        """
    ) == {
        "K_user": "admin", "K_both": "mine", "MODE": "fast", "ME": "web", "NS": "default",
        "APP": "shop", "NOTE": "of the day", "ALL": "admin@fast $(LATER) $(MODE) $MODE $",
        "LATER": "1", "EMPTY": "",
    }  # fmt: skip


def test_what_a_pod_is_told_of_itself() -> None:
    fields = (
        "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
        "status.hostIPs", "status.podIP", "status.podIPs", "metadata.labels['none']",
    )  # fmt: skip
    asked = "".join(
        f'- {{name: F{number}, valueFrom: {{fieldRef: {{fieldPath: "{path}"}}}}}}\n'
        for number, path in enumerate(fields)
    )
    found = variables(f"env:\n{asked}")
    assert [*found.values()] == [
        "u-1", "here", "default", "192.0.2.1", "192.0.2.1", "10.88.0.2", "10.88.0.2,fd00::2", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "divisor", "said"),
    [
        ("limits.cpu", "", "2"), ("limits.cpu", "1m", "1500"), ("limits.cpu", "0", "2"),
        ("requests.cpu", "100m", "3"), ("limits.memory", "1Mi", "8192"),
        ("limits.memory", "", str(8 << 30)), ("requests.memory", "1Ki", "0"),
    ],
)  # fmt: skip
def test_what_a_container_is_told_of_its_resources(resource: str, divisor: str, said: str) -> None:
    by = f", divisor: {divisor}" if divisor else ""
    assert variables(
        f"""
        resources: {{limits: {{cpu: 1500m}}, requests: {{cpu: 250m}}}}
        env: [{{name: A, valueFrom: {{resourceFieldRef: {{resource: {resource}{by}}}}}}}]
        """
    ) == {"A": said}


def test_a_limit_stands_for_a_request() -> None:
    reference = "{resourceFieldRef: {resource: requests.memory}}"
    assert variables(
        f"""
        resources: {{limits: {{memory: 1Ki}}}}
        env: [{{name: A, valueFrom: {reference}}}]
        """
    ) == {"A": "1024"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)$(B)", "1$(B)"), ("$$", "$"), ("$$$(A)", "$1"), ("$$$$(A)", "$$(A)"),
        ("$(A", "$(A"), ("$", "$"), ("$A", "$A"), ("$()", "$()"), ("$(A)(A)", "1(A)"),
    ],
)  # fmt: skip
def test_expansion(text: str, expected: str) -> None:
    assert configs.expand(text, {"A": "1"}) == expected


def test_a_value_is_not_expanded_again() -> None:
    assert configs.expand("$(A)", {"A": "$(B)", "B": "2"}) == "$(B)"


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ("envFrom: [{configMapRef: {name: gone}}]", NotFound,
         "Pod/web: container main: envFrom[0]: there is no ConfigMap/gone"),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: gone}}}]", NotFound,
         "Pod/web: container main: env A: there is no key 'gone' in Secret/keys"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(fields: str, error: type[PycontainError], said: str) -> None:
    with pytest.raises(error) as caught:
        variables(fields)
    assert said in caught.value.message


def files_of(source: str) -> tuple[configs.File, ...]:
    pod, found = parts(f"{POD}  volumes: [{{name: v, {source}}}]\n")
    return configs.files(pod, pod.spec.volumes[0], found, FACTS)


def test_files_of_volumes() -> None:
    assert files_of("configMap: {name: conf, defaultMode: 0440}") == (
        ("mode", 0o440, b"fast"), ("page.html", 0o440, b"<p>\n"), ("raw", 0o440, b"\x80\x80\x80"),
    )  # fmt: skip
    assert files_of("secret: {secretName: keys, items: [{key: both, path: a/b, mode: 0400}]}") == (
        ("a/b", 0o400, b"two"),
    )
    assert files_of("secret: {secretName: gone, optional: true, items: [{key: a, path: a}]}") == ()


def test_facts_as_files() -> None:
    items = """[
      {path: labels, fieldRef: {fieldPath: metadata.labels}},
      {path: all/notes, fieldRef: {fieldPath: metadata.annotations}, mode: 0400},
      {path: uid, fieldRef: {fieldPath: metadata.uid}},
      {path: cpus, resourceFieldRef: {resource: limits.cpu, containerName: main}}]"""
    expected = (
        ("all/notes", 0o400, b'note="of the day"'), ("cpus", 0o644, b"4"),
        ("labels", 0o644, b'app="shop"'), ("uid", 0o644, b"u-1"),
    )  # fmt: skip
    assert files_of(f"downwardAPI: {{items: {items}}}") == expected
    assert files_of(f"projected: {{sources: [{{downwardAPI: {{items: {items}}}}}]}}") == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a", '"a"'), ('"a\\b"', '"\\"a\\\\b\\""'), ("a\nb\tc", '"a\\nb\\tc"'), ("é ☃", '"é ☃"'),
        ("\x01\x7f", '"\\x01\\x7f"'), ("\u200b\U000e0001", '"\\u200b\\U000e0001"'),
    ],
)  # fmt: skip
def test_maps_are_written_as_kubernetes_quotes_them(value: str, said: str) -> None:
    metadata = kube.ObjectMeta(name="a", annotations={"z": value, "a": "1"})
    spec = kube.PodSpec(containers=())
    pod = kube.Pod(api_version="v1", kind="Pod", metadata=metadata, spec=spec)
    assert downward.field(pod, "metadata.annotations", FACTS) == f'a="1"\nz={said}'


def test_files_of_several_sources() -> None:
    assert files_of(
        """projected: {defaultMode: 0440, sources: [
      {configMap: {name: conf, items: [{key: mode, path: a/mode}]}},
      {secret: {name: keys, items: [{key: user, path: a/user, mode: 0400}]}},
      {secret: {name: gone, optional: true}},
      {configMap: {name: conf, optional: true, items: [{key: gone, path: gone}]}}]}"""
    ) == (("a/mode", 0o440, b"fast"), ("a/user", 0o400, b"admin"))


def test_what_a_volume_names() -> None:
    text = (
        POD
        + """  volumes:
  - {name: a, configMap: {name: one}}
  - {name: b, secret: {secretName: two}}
  - {name: c, projected: {sources: [{configMap: {name: three}}, {secret: {name: four}}]}}
  - {name: d, emptyDir: {}}
"""
    )
    assert [configs.named_by(volume) for volume in pod_of(text).spec.volumes] == [
        {("ConfigMap", "one")}, {("Secret", "two")}, {("ConfigMap", "three"), ("Secret", "four")},
        set(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("projected: {sources: [{secret: {name: gone}}]}", "there is no Secret/gone"),
        ("configMap: {name: gone}", "Pod/web: volume v: there is no ConfigMap/gone"),
        ("secret: {secretName: keys, items: [{key: gone, path: a}]}", "there is no key 'gone'"),
        ("secret: {secretName: keys, items: [{key: user, path: a}, {key: both, path: a/b}]}",
         "a/b is below another file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be(source: str, said: str) -> None:
    with pytest.raises(PycontainError) as caught:
        files_of(source)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("YWRtaW4=", "'!!'", "Secret/keys: data['user']: no base64"),
        ("mode: fast", "../x: fast", "data['../x']: is no key"),
        ("mode: fast", "..x: fast", "data['..x']: is no key"),
        ("raw: gICA", "mode: gICA", "binaryData: mode is there twice"),
        ("mode: fast", "mode: 5", "data.mode: expected `str`, got `int`"),
        ("mode: fast", f"mode: {'x' * (1 << 20)}", "data: more than 1 MiB"),
    ],
)
def test_data_that_is_none(old: str, new: str, said: str) -> None:
    assert said in refused(CONFIGS.replace(old, new))


# ---- probes, hooks, sidecars ----


def container_of(text: str) -> kube.Container:
    return pod_of(of_container(text)).spec.containers[0]


def test_probes_with_the_defaults_of_kubernetes() -> None:
    found = actions.probes(
        container_of(
            """
            ports: [{containerPort: 8080, name: http}]
            startupProbe: {tcpSocket: {port: http}, failureThreshold: 30}
            livenessProbe:
              httpGet: {port: 8080, path: up, scheme: HTTPS, httpHeaders: [{name: A, value: b}]}
              periodSeconds: 0
              timeoutSeconds: 0
              failureThreshold: 0
              successThreshold: 0
              terminationGracePeriodSeconds: 5
            env: [{name: A, value: ok}]
            readinessProbe: {exec: {command: [$(A)]}, initialDelaySeconds: 7, successThreshold: 2}
            """
        )
    )
    assert found is not None
    assert found.startup == ProbeCheck(action=TcpAction(port=8080), failures=30)
    get = HttpAction(port=8080, path="/up", scheme="https", headers=(("A", "b"),))
    assert found.liveness == ProbeCheck(
        action=get, initial_delay=0, period=10, timeout=1, successes=1, failures=3, grace=5
    )
    ready = ProbeCheck(action=ExecAction(command=("ok",)), initial_delay=7, successes=2)
    assert found.readiness == ready
    assert actions.probes(container_of("")) is None


def test_hooks() -> None:
    found = actions.hooks(
        container_of(
            """
            lifecycle:
              postStart: {httpGet: {port: "81", host: localhost}}
              preStop: {sleep: {seconds: 30}}
            """
        )
    )
    get = HttpAction(port=81, host="localhost")
    assert found == Hooks(post_start=get, pre_stop=SleepAction(seconds=30))
    assert actions.hooks(container_of("")) is None
    assert actions.hooks(container_of("lifecycle: {stopSignal: SIGUSR1}")) is None


def test_ports_of_init_containers_are_not_published() -> None:
    init = "{name: a, image: b, ports: [{containerPort: 2, hostPort: 5}]}"
    ports = "    ports: [{containerPort: 1, hostPort: 5}]\n"
    assert pod_of(f"{POD}{ports}  initContainers: [{init}]\n").spec.init_containers[0].ports


def test_a_sidecar_may_have_probes() -> None:
    sidecar = "{name: a, image: b, restartPolicy: Always, livenessProbe: {tcpSocket: {port: 1}}}"
    (one,) = pod_of(f"{POD}  initContainers: [{sidecar}]\n").spec.init_containers
    assert one.restart_policy == "Always"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"),
        ("net.ipv4.conf.eth0/1.x", "net.ipv4.conf.eth0/1.x"),
        ("kernel/sem", "kernel.sem"),
        ("a", "a"),
    ],
)
def test_both_ways_to_write_a_sysctl(name: str, expected: str) -> None:
    assert podspec.sysctl_name(name) == expected


# ---- Deployment, PersistentVolumeClaim, List ----

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: shop}, matchExpressions: [{key: tier, operator: Exists}]}
  template:
    metadata: {labels: {app: shop, tier: front}, creationTimestamp: null}
    spec:
      volumes: [{name: data}]
      containers:
      - name: main
        image: busybox
"""

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
"""


def test_a_deployment() -> None:
    (one,) = manifest.parse(DEPLOYMENT, strict=True).objects
    assert isinstance(one, kube.Deployment)
    assert (one.name, one.spec.replicas, one.api_version) == ("web", 3, "apps/v1")
    assert one.spec.template.spec.volumes[0].empty_dir == kube.EmptyDir()
    assert one.spec.template.metadata.labels == {"app": "shop", "tier": "front"}
    few = DEPLOYMENT.replace("  replicas: 3\n", "  strategy: {type: Recreate}\n")
    (one,) = manifest.parse(few, strict=True).objects
    assert isinstance(one, kube.Deployment)
    assert one.spec.replicas == 1


def test_what_of_a_deployment_does_nothing_is_named() -> None:
    text = (
        DEPLOYMENT
        + """  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}
  revisionHistoryLimit: 3
  paused: false
"""
    )
    assert set(manifest.parse(text).ignored) == {
        "Deployment/web: spec.strategy.type",
        "Deployment/web: spec.strategy.rollingUpdate",
        "Deployment/web: spec.revisionHistoryLimit",
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("apps/v1", "v1", "kind 'Deployment' of apiVersion 'v1' is not supported"),
        ("replicas: 3", "replicas: -1", "spec.replicas: expected `int` >= 0"),
        ("app: shop, tier", "app: shops, tier", "spec.selector: does not select the labels of"),
        ("tier: front", "deck: front", "spec.selector: does not select the labels of"),
        ("{matchLabels: {app: shop}, matchExpressions: [{key: tier, operator: Exists}]}", "{}",
         "spec.selector: is empty"),
        ("operator: Exists", "operator: In", "matchExpressions[0].values: do not fit In"),
        ("operator: Exists", "operator: Is", "matchExpressions[0].operator: invalid enum value"),
        ("image: busybox", "image: ''", "spec.template.spec.containers[0].image: is empty"),
        ("- name: main", "- name: Main", "spec.template.spec.containers[0].name: 'Main' is no"),
        ("      containers:", "      restartPolicy: Never\n      containers:",
         "spec.template.spec.restartPolicy: is not Always"),
        ("      containers:", "      activeDeadlineSeconds: 5\n      containers:",
         "spec.template.spec.activeDeadlineSeconds: not for"),
        ("      containers:", "      hostname: a.b\n      containers:",
         "spec.template.spec.hostname: 'a.b' is no"),
        ("      containers:", "      hostnam: a\n      containers:",
         "spec.template.spec.hostnam: unknown field"),
    ],
)  # fmt: skip
def test_what_a_deployment_may_not_say(old: str, new: str, said: str) -> None:
    assert said in refused(DEPLOYMENT.replace(old, new))


@pytest.mark.parametrize(
    ("expression", "labels", "meant"),
    [
        ("{key: a, operator: In, values: [x, y]}", {"a": "y"}, True),
        ("{key: a, operator: In, values: [x, y]}", {"a": "z"}, False),
        ("{key: a, operator: In, values: [x]}", {}, False),
        ("{key: a, operator: NotIn, values: [x]}", {}, True),
        ("{key: a, operator: NotIn, values: [x]}", {"a": "x"}, False),
        ("{key: a, operator: Exists}", {"a": ""}, True),
        ("{key: a, operator: Exists}", {"b": ""}, False),
        ("{key: a, operator: DoesNotExist}", {"b": ""}, True),
        ("{key: a, operator: DoesNotExist}", {"a": ""}, False),
    ],
)
def test_selectors(expression: str, labels: dict[str, str], meant: bool) -> None:
    rule = msgspec.convert(value(expression), kube.LabelSelectorRequirement)
    found = selectors.selects(kube.LabelSelector(match_expressions=(rule,)), labels)
    assert found == meant
    both = kube.LabelSelector(match_labels={"none": "x"}, match_expressions=(rule,))
    assert not selectors.selects(both, labels)


def test_a_claim() -> None:
    (one,) = manifest.parse(CLAIM, strict=True).objects
    assert isinstance(one, kube.PersistentVolumeClaim)
    assert one.spec.resources.requests == {"storage": "1Gi"}
    named = manifest.parse(CLAIM + "  volumeName: pv-1\nstatus: {phase: Bound}\n").ignored
    assert named == ("PersistentVolumeClaim/data: spec.volumeName",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[ReadWriteOnce]", "[]", "spec.accessModes: is empty"),
        ("[ReadWriteOnce]", "[ReadWriteTwice]", "spec.accessModes[0]: invalid enum value"),
        ("[ReadWriteOnce]", "[ReadWriteOnce, ReadWriteOnce]", "ReadWriteOnce is there twice"),
        ("storage: 1Gi", "storage: 1Gb", "spec.resources.requests.storage: '1Gb' is no quantity"),
        ("storage: 1Gi", "storage: 0", "spec.resources.requests.storage: is missing, or 0"),
        ("storage: 1Gi", "cpu: 1", "spec.resources.requests.cpu: a claim has storage only"),
        ("{requests: {storage: 1Gi}}", "{}", "spec.resources.requests.storage: is missing"),
        ("{requests: {storage: 1Gi}}", "{requests: {storage: 2}, limits: {storage: 1}}",
         "spec.resources.requests.storage: 2 is more than the limit, 1"),
        ("  accessModes", "  selector: {}\n  accessModes", "spec.selector: not supported"),
        ("  accessModes", "  volumeMode: Block\n  accessModes", "spec.volumeMode: Block: "),
        ("name: data", "name: Data", "'Data' is no DNS-1123 subdomain"),
    ],
)  # fmt: skip
def test_what_a_claim_may_not_say(old: str, new: str, said: str) -> None:
    assert said in refused(CLAIM.replace(old, new))


def listed(*texts: str) -> str:
    items = [value(text) for text in texts]
    metadata = {"resourceVersion": ""}
    return json.dumps({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items})


def test_a_list_of_objects() -> None:
    found = manifest.parse(f"{CLAIM}---\n{listed(POD, DEPLOYMENT)}\n")
    assert [(one.kind, one.name) for one in found.objects] == [
        ("PersistentVolumeClaim", "data"), ("Pod", "web"), ("Deployment", "web"),
    ]  # fmt: skip
    assert manifest.parse("{apiVersion: v1, kind: List}").objects == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (listed(POD, POD), "document 1 (line 1): items[1]: Pod/web: is there twice"),
        (listed(POD.replace("image:", "imagee:")),
         "document 1 (line 1): items[0]: Pod/web: spec.containers[0].imagee: unknown field"),
        (listed("1"), "document 1 (line 1): items[0]: no mapping"),
        (listed(listed(POD)), "items[0]: kind 'List' of apiVersion 'v1' is not supported"),
        ("{apiVersion: v1, kind: List, items: {}}", "List: items: no list"),
        ("{apiVersion: v1, kind: List, item: []}", "List: item: unknown field"),
        ("{apiVersion: v2, kind: List}", "List: apiVersion: is not v1"),
    ],
)  # fmt: skip
def test_what_a_list_may_not_hold(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    "text", [of_container(WHOLE, spec="volumes: [{name: data}]\n"), DEPLOYMENT, CLAIM, CONFIGS]
)
def test_documents_come_back_as_they_were(text: str) -> None:
    for one in manifest.parse(text).objects:
        kept = msgspec.json.encode(one)
        assert msgspec.json.decode(kept, type=type(one)) == one
        assert manifest.parse(kept.decode(), strict=True).objects == (one,)


def test_kinds_without_which_the_pods_are_the_same_are_named() -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    found = manifest.parse(f"{service}---\n{POD}")
    assert [(one.kind, one.name) for one in found.objects] == [("Pod", "web")]
    assert found.ignored[0] == "Service/web"
    with pytest.raises(InvalidInput, match="Service/web: not supported"):
        manifest.parse(f"{service}---\n{POD}", strict=True)
