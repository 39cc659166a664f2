"""Volumes: folders with names, which outlive the containers that use them."""
