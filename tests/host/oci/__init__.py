"""The OCI face as its users see it: a black box, held against the runtime specification."""
