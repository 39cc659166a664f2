"""The OCI runtime face: ``pycontain-runtime``, which docker, containerd and podman use like runc.

It sits on ``runtime`` alone: a bundle has no image, and nobody watches a container but whoever is
its parent.
"""
