"""The same command lines for pycontain and for docker, and what each must answer.

``table*.py`` hold the rows, ``rows.py`` says what a row is, ``player.py`` carries rows out,
``judge.py`` compares the answers. ``python -m tests.host.parity.record`` writes docker's answers to
``recorded.json``, which stands in for docker where it is not installed.
"""
