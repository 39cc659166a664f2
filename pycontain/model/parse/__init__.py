"""The words of the command line become typed values, by docker's rules.

Owns the syntax of flags: every function takes one word (and what it has to be read against, such
as the working directory) and returns a value of :mod:`pycontain.model.container` or a plain one.
Nothing here looks at the machine: no file is opened (except the one that ``--env-file`` names), no
path is resolved through the kernel, no name is looked up. A word that cannot be carried out raises
:class:`~pycontain.errors.InvalidInput`, which names the flag, the word and the reason.

Spelling follows docker's reference of ``docker run`` and dockerd's answers; where this differs on
purpose, the function says so.
"""
