"""From an OCI configuration to a running process. Knows nothing of images or pods."""
