"""The supervisor of a store: one process that restarts and probes containers where that is asked.

``loop`` waits, ``restarts`` and ``health`` each care for one thing, ``main`` joins them. All that
it knows is on disk and in the kernel: it may be killed at any moment, and the next one goes on.
"""
