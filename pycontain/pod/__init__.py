"""Pods: containers that share namespaces, published ports, volumes and limits."""
