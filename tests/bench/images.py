"""Times ``load`` and ``pull`` of a large image beside docker and podman, and beside ``tar -x``.

Usage, as root::

    python -m tests.bench.images [ROUNDS]

The image has a Debian system and five layers of packages; it is made from Debian's mirror, and kept
in ``~/.cache/pycontain-tests/bench``. Stores are emptied and the disk is synced between the rounds.
Peers that are not installed are left out and named. Nothing here passes or fails.

All works below TMPDIR. Its file system should have a journal: ext4 without one looks for each new
inode past all that were removed in the last minutes, which after the first round takes ten times as
long as all else. ``mkfs.ext4`` on a file, mounted by loop, does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests import peers
from tests.bench.timing import Calls, measure, quiet, show

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = os.environ.get("PYCONTAIN", "pycontain").split()
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "pycontain-tests/bench"
PACKAGES = (
    ("gcc-12", "cpp-12", "g++-12", "libgcc-12-dev", "libstdc++-12-dev"),
    ("vim-runtime", "git", "perl-modules-5.36", "libperl5.36"),
    ("libicu72", "libllvm14"),
    ("python3.11", "libpython3.11-stdlib", "libpython3.11-minimal"),
    ("golang-1.19-go", "golang-1.19-src"),
)
PORT = 5117
NAME = "bench/large:1"
FORMS = {"tar": ("cat", ""), "gzip": ("gzip -6 -n", "+gzip"), "zstd": ("zstd -q -3", "+zstd")}


def shell(script: str, folder: Path) -> None:
    """Run a script in a folder."""
    subprocess.run(["sh", "-euc", script], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def layers(folder: Path) -> list[Path]:
    """Return the layers, uncompressed, bottom first; they are made where they are not there."""
    base = folder / "0.tar"
    if not base.exists():
        shell("mmdebstrap --quiet --variant=minbase bookworm new.tar && mv new.tar 0.tar", folder)
    found = [base]
    for number, names in enumerate(PACKAGES, 1):
        path = folder / f"{number}.tar"
        if not path.exists():
            shell(
                f"rm -rf debs tree; mkdir -m 777 debs; mkdir tree; cd debs;"
                f" apt-get -q download {' '.join(names)}; cd ..;"
                " for file in debs/*.deb; do dpkg-deb -x $file tree; done;"
                " tar --sort=name --numeric-owner -C tree -cf new.tar .;"
                f" mv new.tar {path.name}; rm -rf debs tree",
                folder,
            )
        found.append(path)
    return found


def archive(folder: Path, form: str) -> Path:
    """Return the image as an archive that is docker's and OCI's, its layers compressed or not."""
    path = folder / f"{form}-image.tar"
    if path.exists():
        return path
    command, suffix = FORMS[form]
    tree = folder / "image"
    shutil.rmtree(tree, ignore_errors=True)
    blobs = tree / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digits = hashlib.sha256(data).hexdigest()
        (blobs / digits).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digits}", "size": len(data)}

    media = "application/vnd.oci.image"
    described, diff_ids = [], []
    for layer in layers(folder):
        diff_ids.append(f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}")
        packed = subprocess.run(
            ["sh", "-c", command], stdin=layer.open("rb"), capture_output=True, check=True
        )
        described.append(put(packed.stdout, f"{media}.layer.v1.tar{suffix}"))
    document = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }  # fmt: skip
    config = put(json.dumps(document).encode(), f"{media}.config.v1+json")
    body = {"schemaVersion": 2, "config": config, "layers": described}
    manifest = put(json.dumps(body).encode(), f"{media}.manifest.v1+json")
    annotations = {"org.opencontainers.image.ref.name": NAME}
    entries = [{**manifest, "annotations": annotations}]
    (tree / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (tree / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    names = [f"blobs/sha256/{str(item['digest'])[7:]}" for item in (config, *described)]
    listed = [{"Config": names[0], "RepoTags": [NAME], "Layers": names[1:]}]
    (tree / "manifest.json").write_text(json.dumps(listed))
    shell(f"tar -C image -cf new.tar . && mv new.tar {path.name} && rm -rf image", folder)
    return path


def unpacked_by_tar(folder: Path, scratch: Path) -> Callable[[], object]:
    """Return what everybody has to do at least: ``tar -x`` of every layer."""
    paths = " ".join(str(path) for path in layers(folder))
    script = (
        f"for file in {paths}; do mkdir -p {scratch}/$(basename $file);"
        f" tar -C {scratch}/$(basename $file) --numeric-owner -xf $file; done"
    )
    return quiet(["sh", "-euc", script])


def serve(folder: Path) -> subprocess.Popen[bytes]:
    """Start a registry on this host."""
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: 127.0.0.1:{PORT}}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(settings)], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(1)
    return process


def main(rounds: int) -> None:
    """Run all comparisons."""
    CACHE.mkdir(parents=True, exist_ok=True)
    paths = {form: archive(CACHE, form) for form in FORMS}
    # Short: podman takes no path of more than fifty characters.
    with tempfile.TemporaryDirectory(prefix="b") as name:
        folder = Path(name)
        registry = serve(folder) if peers.available("docker-registry") else None
        try:
            with_docker(rounds, folder, paths, registry is not None)
        finally:
            if registry is not None:
                registry.send_signal(signal.SIGTERM)
                registry.wait()


def with_docker(rounds: int, folder: Path, paths: dict[str, Path], has_registry: bool) -> None:
    """Compare, beside a docker daemon where there is one."""
    if not peers.available("dockerd", "docker"):
        print("docker is not installed: left out")
        comparisons(rounds, folder, paths, None, has_registry)
        return
    with peers.docker(folder / "docker") as docker:
        comparisons(rounds, folder, paths, docker, has_registry)


def comparisons(
    rounds: int,
    folder: Path,
    paths: dict[str, Path],
    docker: peers.Docker | None,
    has_registry: bool,
) -> None:
    """Load every form, and pull."""
    ours = [*COMMAND, "--root", f"{folder}/root", "--state", f"{folder}/state"]
    podman = peers.podman_argv(folder / "podman") if peers.available("podman", "crun") else []
    env = peers.podman_environment(folder / "podman") if podman else None
    scratch = folder / "tar"
    remote = f"localhost:{PORT}/{NAME}"

    def empty() -> None:
        subprocess.run([*ours, "image", "prune", "-af"], capture_output=True, check=True)
        if docker:
            docker("image", "prune", "-af")
        if podman:
            command = [*podman, "image", "prune", "-af"]
            subprocess.run(command, capture_output=True, check=False, env=env)
        shutil.rmtree(scratch, ignore_errors=True)
        os.sync()

    for form, path in paths.items():
        calls: Calls = {"pycontain": quiet([*ours, "load", "-q", "-i", str(path)])}
        if docker and form != "zstd":  # docker 20.10 does not know it
            calls["docker"] = quiet([*docker.argv, "load", "-q", "-i", str(path)])
        if podman:
            calls["podman"] = quiet([*podman, "load", "-q", "-i", str(path)], env)
        calls["tar -x"] = unpacked_by_tar(CACHE, scratch)
        show(f"load, {form}, {path.stat().st_size >> 20} MiB", measure(rounds, calls, empty))
    if not has_registry:
        print("docker-registry is not installed: pull is left out")
        return
    for word in (
        ["load", "-q", "-i", str(paths["gzip"])], ["tag", NAME, remote], ["push", "-q", remote],
    ):  # fmt: skip
        quiet([*ours, *word])()
    empty()
    calls = {"pycontain": quiet([*ours, "pull", "-q", remote])}
    if docker:
        calls["docker"] = quiet([*docker.argv, "pull", "-q", remote])
    if podman:
        calls["podman"] = quiet([*podman, "pull", "-q", "--tls-verify=false", remote], env)
    show("pull, gzip", measure(rounds, calls, empty))
    quiet([*ours, "pull", "-q", remote])()
    present: Calls = {"pycontain": quiet([*ours, "pull", "-q", remote])}
    if docker:
        docker("pull", "-q", remote)
        present["docker"] = quiet([*docker.argv, "pull", "-q", remote])
    show("pull of what is present", measure(max(rounds, 5), present))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
