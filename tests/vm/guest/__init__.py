"""Tests that run in the virtual machine: it has every controller, and nobody else is in it."""
