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

_KUBE = scene(
    "kube",
    Row(_WEB),
    _ours("kube play --dry-run @dir/web.yaml", out="pod/web created (dry run)\n"),
    _ours("kube apply --dry-run @dir/web.yaml", out="pod/web created (dry run)\n"),
    _ours("kube play --dry-run @dir/slip.yaml", 125, err="hostnetwork"),
    _ours("kube play --dry-run @dir/more.yaml", err="nodeName"),
    _ours("kube play --strict --dry-run @dir/more.yaml", 125, err="nodeName"),
    _ours("kube apply --strict --dry-run @dir/more.yaml", 125, err="nodeName"),
    _ours("kube play --strict --dry-run @dir/web.yaml"),
    _ours("kube apply --strict --dry-run @dir/web.yaml"),
    _ours("kube play @dir/nosuch.yaml", 125, err="no such file"),
    _ours("kube play @dir/web.yaml"),
    _ours("ps --format '{{.Names}} {{.State}}'", out="web-up running\n"),
    _ours("kube play @dir/web.yaml", 125, err="already exists"),
    _ours("kube play --replace @dir/web.yaml"),
    _ours("kube apply --replace @dir/web.yaml"),
    _ours("pod ps --format '{{.Name}} {{.Status}}'", out="web Running\n"),
    _ours("kube down @dir/web.yaml"),
    _ours("kube down @dir/web.yaml", out="Pods stopped:\nPods removed:\n"),
    *(_ours(f"kube {verb} --help") for verb in ("apply", "down", "play")),
)

SCENES = (_KUBE,)
