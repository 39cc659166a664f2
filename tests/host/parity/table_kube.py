"""Rows: pods from Kubernetes' manifests. docker has none; the words are podman's."""

from __future__ import annotations

from .rows import Row, Said, scene

_PODMANS = "docker plays no manifests, podman does"
_ANY = Said(..., out=..., err=...)


def _ours(line: str, code: int = 0, *, out: str | None = None, err: str | None = None) -> Row:
    """A row of which ours alone is looked at."""
    told = err if err is not None else ... if code else ""
    said = Said(code, out=... if out is None else out, err=told)
    return Row(line, differs=_PODMANS, ours=said, dockers=_ANY)


_WEB = """!cat >web.yaml <<END
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: up, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}
END
sed 's/hostNetwork/hostnetwork/' web.yaml >slip.yaml
sed 's/hostNetwork: true/nodeName: there/' web.yaml >more.yaml"""

_MANY = """!cat >many.yaml <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 2
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      volumes: [{name: v, persistentVolumeClaim: {claimName: kept}}]
      containers:
      - {name: up, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
END
sed 's/sleep/nosuch/' web.yaml >wrong.yaml"""
_WAITS = (
    "docker plays no manifests; podman's --wait stays in the foreground and takes all down at its"
    " end, which no script wants that asks whether its pods are up: ours returns when they are"
)
_DELETED = "deployment.apps/many deleted\npersistentvolumeclaim/kept deleted\n"

_KUBE = scene(
    "kube",
    Row(_WEB),
    Row(_MANY),
    _ours("kube play --dry-run @dir/web.yaml", out="pod/web created (dry run)\n"),
    _ours("kube apply --dry-run @dir/web.yaml", out="pod/web created (dry run)\n"),
    _ours("kube apply --dry-run --filename @dir/web.yaml", out="pod/web created (dry run)\n"),
    _ours("kube play --dry-run @dir/slip.yaml", 125, err="hostnetwork"),
    _ours("kube play --dry-run @dir/more.yaml", err="nodeName"),
    _ours("kube play --strict --dry-run @dir/more.yaml", 125, err="nodeName"),
    _ours("kube apply --strict --dry-run @dir/more.yaml", 125, err="nodeName"),
    _ours("kube play --strict --dry-run @dir/web.yaml"),
    _ours("kube apply --strict --dry-run @dir/web.yaml"),
    _ours("kube play @dir/nosuch.yaml", 125, err="no such file"),
    _ours("kube play @dir/wrong.yaml", 125, err="nosuch"),
    _ours("pod ps -q", out=""),
    _ours("kube play @dir/web.yaml"),
    _ours("ps --format '{{.Names}} {{.State}}'", out="web-up running\n"),
    _ours("kube play @dir/web.yaml", 125, err="is declared already"),
    _ours("kube play --replace @dir/web.yaml"),
    _ours("kube apply @dir/web.yaml", out="pod/web unchanged\n"),
    _ours("pod ps --format '{{.Name}} {{.Status}}'", out="web Running\n"),
    _ours("kube down @dir/web.yaml", out="pod/web deleted\n"),
    _ours("kube down @dir/web.yaml", out=""),
    Row(
        "kube play --wait --timeout 60 @dir/web.yaml",
        differs=_WAITS,
        ours=Said(0, out=..., err=""),
        dockers=_ANY,
    ),
    _ours("kube delete pod web", out="pod/web deleted\n"),
    _ours("kube delete pod web", 125, err='Pod "web" not found'),
    _ours("kube delete --filename @dir/web.yaml", out=""),
    _ours("kube delete nosuch web", 125, err="there is no kind"),
    _ours("kube apply --wait --timeout 60 @dir/many.yaml", err="storage"),
    _ours("pod ps --format '{{.Status}}'", out="Running\nRunning\n"),
    _ours("kube down @dir/many.yaml", out=_DELETED),
    _ours("volume ls -q", out="kept\n"),
    _ours("kube down --force @dir/many.yaml", out=""),
    _ours("volume ls -q", out=""),
    *(_ours(f"kube {verb} --help") for verb in ("apply", "delete", "down", "play")),
)

SCENES = (_KUBE,)
