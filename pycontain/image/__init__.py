"""Images: references, the OCI layout, the built-in recipes. Knows nothing of containers."""
