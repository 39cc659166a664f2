"""Rows: looking at what is declared, and manifests of what is there.

docker has neither; the words of the first are kubectl's, of the second podman's.
"""

from __future__ import annotations

from .rows import Row, Said, scene

_NONE = "docker knows nothing of Kubernetes' objects, kubectl and podman do"


def _ours(
    line: str, code: int = 0, *, out: str | None = None, err: str | None = None, after: str = ""
) -> Row:
    """A row of which ours alone is looked at; after this text of its output it is interrupted."""
    told = err if err is not None else ... if code else ""
    said = Said(code, out=... if out is None else out, err=told)
    dockers = Said(..., out=..., err=...)
    signal = "INT" if after else ""
    return Row(line, differs=_NONE, ours=said, dockers=dockers, after=after or None, signal=signal)


_FILE = """!cat >shop.yaml <<END
apiVersion: v1
kind: Pod
metadata: {name: shop, labels: {app: shop}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: up, image: busybox, imagePullPolicy: Never, command: [sh, -c, 'echo a; sleep 1000']}
  - {name: by, image: busybox, imagePullPolicy: Never, command: [sh, -c, 'echo b; sleep 1000']}
---
apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - {name: up, image: busybox, imagePullPolicy: Never, command: [echo, c]}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: hush}
END"""

_SHOW = scene(
    "kube get",
    Row(_FILE),
    _ours("kube get", err="No resources found"),
    _ours("kube apply --wait @dir/shop.yaml"),
    _ours("kube get -o name po,secret", out="pod/ends\npod/shop\nsecret/keys\n"),
    _ours("kube get -o name -l app=shop po,secret", out="pod/shop\n"),
    _ours("kube get -l app=nosuch po", err="No resources found"),
    _ours("kube get -l = po", 125, err="is no selector"),
    _ours("kube get -o toml po", 125, err="there are wide, json, yaml, name"),
    _ours("kube get nosuch", 125, err="there is no kind 'nosuch'"),
    _ours("kube get pod nosuch", 125, err='pod "nosuch" not found'),
    _ours("kube get --watch pod", 130, after="shop"),
    _ours("kube get --watch -o json po", 125, err="--watch is for tables"),
    _ours("kube describe pod shop"),
    _ours("kube describe pod nosuch", 125, err="not found"),
    _ours("kube describe", 1, err="requires at least 1 argument"),
    _ours("kube logs -c by shop", out="b\n"),
    _ours("kube logs --container up --tail 1 --since 1h pod/shop", out="a\n"),
    _ours("kube logs --tail 0 shop", out="", err="Defaulted container up"),
    _ours("kube logs --tail -2 shop", 125, err="must be -1 (all) or more"),
    _ours("kube logs --prefix -c up shop", out="[pod/shop/up] a\n"),
    _ours("kube logs --timestamps --all-containers shop"),
    _ours("kube logs --all-containers -c up shop", 125, err="give one of them"),
    _ours("kube logs -c nosuch shop", 125, err="there are up, by"),
    _ours("kube logs --follow ends", out="c\n"),
    _ours("kube logs secret/keys", 125, err="has no logs"),
    *(_ours(f"kube {verb} --help") for verb in ("describe", "get", "logs")),
)

_SOLO = """apiVersion: v1
kind: Pod
metadata:
  name: solo-pod
spec:
  containers:
  - name: solo
    image: busybox
    args:
    - sleep
    - '1000'
  restartPolicy: Never
  terminationGracePeriodSeconds: 10
"""

_GENERATE = scene(
    "kube generate",
    Row("create --name solo BOX sleep 1000", any_out=True),
    Row("create --name init --init BOX sleep 1000", any_out=True),
    _ours("kube generate solo", out=_SOLO),
    _ours("kube generate solo init"),
    _ours("kube generate --filename @dir/solo.yaml solo", out=""),
    _ours("kube generate --filename @dir/solo.yaml solo", 125, err="file exists"),
    _ours("kube play --dry-run @dir/solo.yaml", out="pod/solo-pod created (dry run)\n"),
    _ours("kube generate --type deployment --replicas 3 solo"),
    _ours("kube generate --replicas 3 solo", 125, err="--replicas is for --type deployment"),
    _ours("kube generate --type service solo", 125, err="there are pod and deployment"),
    _ours("kube generate --type deployment --replicas 0 solo", 125, err="must be 1 or more"),
    _ours("kube generate nosuch", 125, err="no container or pod"),
    _ours("kube generate", 1, err="requires at least 1 argument"),
    _ours("kube generate --help"),
)

SCENES = (_SHOW, _GENERATE)
