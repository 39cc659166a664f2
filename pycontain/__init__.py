"""pycontain: a low-level Linux container runtime and a daemonless container engine.

``import pycontain`` gives the engine that the command line uses, and nothing else::

    from pycontain import Engine

    result = Engine().run("busybox", ["echo", "hello"])
    result.exit_code, result.stdout

    with Engine().start("busybox", idle=True) as box:
        box.exec(["cat"], input=b"hello", timeout=5).stdout

``AsyncEngine`` is the same for asyncio; ``Pods(engine)`` has the verbs of pods, ``Kube(engine)``
those of what is declared. Errors are in ``pycontain.errors``, data in ``pycontain.model``. Names
are loaded when they are first used, so that importing the package costs nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.aio import AsyncEngine as AsyncEngine
    from pycontain.engine import Engine as Engine
    from pycontain.pod.play import Kube as Kube
    from pycontain.pod.pods import Pods as Pods

__all__ = ["AsyncEngine", "Engine", "Kube", "Pods", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Engine":
        from pycontain.engine import Engine

        return Engine
    if name == "AsyncEngine":
        from pycontain.aio import AsyncEngine

        return AsyncEngine
    if name == "Kube":
        from pycontain.pod.play import Kube

        return Kube
    if name == "Pods":
        from pycontain.pod.pods import Pods

        return Pods
    raise AttributeError(f"module 'pycontain' has no attribute {name!r}")
