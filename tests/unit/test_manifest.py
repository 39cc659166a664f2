"""Kubernetes manifests: what is taken, what is named, and what is refused with which words."""

from __future__ import annotations

import copy
import json
import textwrap
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.model import kube
from pycontain.pod import configs, documents, manifest

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


WHOLE = """
command: [sh, -c]
env: [{name: A, value: x}, {name: B, valueFrom: {configMapKeyRef: {name: conf, key: mode}}}]
ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1, name: http}]
resources: {limits: {cpu: 500m, memory: 64Mi}}
securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}
volumeMounts: [{name: data, mountPath: /data, readOnly: true}]
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
    assert manifest.quantity(main.resources.limits["cpu"]) == Decimal("0.5")
    assert (main.security_context.run_as_user, main.volume_mounts[0].read_only) == (1000, True)
    data, conf = pod.spec.volumes
    assert data.empty_dir == kube.EmptyDir()  # Kubernetes' default source
    assert conf.config_map is not None
    assert conf.config_map.default_mode == 0o400
    paths = [(path, one.name) for path, one in manifest.containers(pod.spec)]
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
        livenessProbe: {exec: {command: [ok]}}
        resources: {requests: {cpu: 1}, limits: {memory: 1Gi, ephemeral-storage: 1Gi}}
        terminationMessagePolicy: ""
        """,
        spec=(
            "affinity: {podAffinity: {}}\nnodeSelector: {}\nhostPID: false\nhostUsers: false\n"
            "schedulerName: default-scheduler\nsecurityContext: {seccompProfile:"
            " {type: RuntimeDefault}, fsGroup: 5}\nvolumes: [{name: a, emptyDir: {sizeLimit: 1}}]\n"
        ),
    )
    found = manifest.parse(text + "status: {phase: Running}\n").ignored
    assert sorted(found) == [
        "Pod/web: spec.affinity",
        "Pod/web: spec.containers[0].livenessProbe",
        "Pod/web: spec.containers[0].resources.limits.ephemeral-storage",
        "Pod/web: spec.containers[0].resources.requests",
        "Pod/web: spec.hostUsers",
        "Pod/web: spec.securityContext.fsGroup",
        "Pod/web: spec.volumes[0].emptyDir.sizeLimit",
        "Pod/web: status",
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
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]",
         "env[0].valueFrom.fieldRef.fieldPath: 'status.podIP' is not supported"),
        ("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]",
         "valueFrom.resourceFieldRef: not supported"),
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
        (POD.replace(": v1", ": apps/v1"), "kind 'Pod' of apiVersion 'apps/v1' is not supported"),
        (POD.replace("image: busybox", "image: ''"), "spec.containers[0].image: is empty"),
        (POD.replace("image: busybox", ""), "spec.containers[0].image: is missing"),
        (POD + "  - {name: main, image: b}\n", "spec.containers: main is there twice"),
        (POD + "  initContainers: [{name: main, image: b}]\n", "main is there twice"),
        (POD + "  volumes: [{name: a}, {name: a}]\n", "spec.volumes: a is there twice"),
        (POD + "  volumes: [{name: a, nfs: {}}]\n", "spec.volumes[0].nfs: not supported"),
        (POD + "  volumes: [{name: a, emptyDir: {}, hostPath: {path: /}}]\n", "more than one"),
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
    assert manifest.quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "m", "1 Mi", "1mi", "-1", "10E", "1e99", "1Mi5", "٣", True])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(InvalidInput):
        manifest.quantity(text)


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
    once, many = (manifest.quantity(f"{count}{unit}") for count in (1, number))
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
    return configs.environment(pod, pod.spec.containers[0], found)


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
         "Pod/web: container main: envFrom[0]: there is no ConfigMap/gone in the manifest"),
        ("envFrom: [{configMapRef: {name: conf}}]", InvalidInput, "key raw: no UTF-8"),
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
    return configs.files(pod, pod.spec.volumes[0], found)


def test_files_of_volumes() -> None:
    assert files_of("configMap: {name: conf, defaultMode: 0440}") == (
        ("mode", 0o440, b"fast"), ("page.html", 0o440, b"<p>\n"), ("raw", 0o440, b"\x80\x80\x80"),
    )  # fmt: skip
    assert files_of("secret: {secretName: keys, items: [{key: both, path: a/b, mode: 0400}]}") == (
        ("a/b", 0o400, b"two"),
    )
    assert files_of("secret: {secretName: gone, optional: true, items: [{key: a, path: a}]}") == ()


@pytest.mark.parametrize(
    ("source", "said"),
    [
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
