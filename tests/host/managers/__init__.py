"""The OCI runtime below real managers: dockerd, containerd and podman.

``PYCONTAIN_TEST_OCI_RUNTIME=/usr/sbin/runc`` runs the same tests with another runtime, to see
whether a failure is ours.
"""
