"""Builds the native parts into ``pycontain/_native``.

Run by the package build (a hatchling build hook) and by hand in a checkout::

    python native/build.py [--sanitize FOLDER]

``--sanitize`` builds the programs alone, with ASan and UBSan, into another folder: the test suite
runs containers with them.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "pycontain" / "_native"
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wformat=2", "-Werror"]
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g0", "-fstack-protector-strong"]
STATIC = ["-static", "-s"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
# What runs inside of containers finds no shared libraries there: UBSan alone, which traps.
SANITIZE_STATIC = [
    "-static", "-g", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error",
]  # fmt: skip
INSIDE = ("init",)
EXECUTOR = ["plan.c", "netlink.c", "message.c", "executor.c", "steps.c", "process.c", "hook.c"]
PROGRAMS = {
    "monitor": ["monitor.c", "forward.c", "carry.c", "event.c", "log.c", "record.c", *EXECUTOR],
    "runner": ["runner.c", *EXECUTOR],
    "init": ["init.c"],
    "holder": ["holder.c"],
    "sandbox": ["sandbox.c", "forward.c", "carry.c"],
}
EXTENSIONS = {
    "seccomp_build": ([], ["-lseccomp"]),
    "kernel_build": (["spawn.c", "apart.c", "plan.c", "netlink.c", "message.c", "hook.c"], []),
    "layer_build": (["layer.c", "tree.c", "tar.c", "pax.c", "acl.c"], []),
}


def run(command: list[str]) -> None:
    """Run a compiler; its messages go through, its failure is ours."""
    print("+", shlex.join(command), flush=True)
    subprocess.run(command, check=True, cwd=HERE)


def compiler() -> list[str]:
    """The C compiler: $CC or cc."""
    return shlex.split(os.environ.get("CC", "cc"))


def build_program(folder: Path, name: str, *more: str) -> None:
    """Compile one program."""
    # Renamed into place: a running program's file cannot be written (ETXTBSY).
    new = folder / f".{name}.new"
    run([*compiler(), *FLAGS, *WARNINGS, "-o", str(new), *PROGRAMS[name], *more])
    new.replace(folder / name)


def build_sanitized(folder: Path) -> None:
    """Compile the programs with ASan and UBSan into `folder`; their reports go there too."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    shared = ["sanitize.c", *SANITIZE, f'-DREPORT="{folder}/report"']
    for name in PROGRAMS:
        build_program(folder, name, *(SANITIZE_STATIC if name in INSIDE else shared))


def build_extension(builder: str) -> None:
    """Compile one cffi extension out of its ``*_build.py``."""
    spec = importlib.util.spec_from_file_location(builder, HERE / f"{builder}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = "_" + builder.removesuffix("_build")
    sources, libraries = EXTENSIONS[builder]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    new = TARGET / f".{name}.new"
    with tempfile.TemporaryDirectory() as folder:
        generated = Path(folder) / f"{name}.c"
        module.ffibuilder.emit_c_code(str(generated))
        include = sysconfig.get_path("include")
        # cffi's generated code is not written for our warnings; ours is compiled with them apart.
        objects = []
        for source in sources:
            objects.append(str(Path(folder) / f"{source}.o"))
            run([*compiler(), *FLAGS, *WARNINGS, "-fPIC", "-c", "-o", objects[-1], source])
        run(
            [
                *compiler(),
                *FLAGS,
                "-fPIC",
                "-shared",
                f"-I{HERE}",
                f"-I{include}",
                "-o",
                str(new),
                str(generated),
                *objects,
                *libraries,
            ]
        )
    new.replace(TARGET / f"{name}{suffix}")


def build() -> None:
    """Build everything."""
    TARGET.mkdir(exist_ok=True)
    (TARGET / "__init__.py").write_text('"""The compiled parts; see native/ in the sources."""\n')
    for name in PROGRAMS:
        build_program(TARGET, name, *STATIC)
    for builder in EXTENSIONS:
        build_extension(builder)


def built() -> list[str]:
    """The names of what ``build`` makes for this Python."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extensions = [f"_{name.removesuffix('_build')}{suffix}" for name in EXTENSIONS]
    return ["__init__.py", *PROGRAMS, *extensions]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sanitize"] and len(sys.argv) == 3:
        build_sanitized(Path(sys.argv[2]))
    elif len(sys.argv) == 1:
        build()
    else:
        sys.exit(f"usage: {sys.argv[0]} [--sanitize FOLDER]")
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ImportError:
        pass
    else:

        class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc]
            """Compiles before a wheel is made and names the platform that it is for."""

            def initialize(self, version: str, build_data: dict[str, object]) -> None:  # noqa: ARG002 - the base class names it
                """Build for a wheel; a source distribution carries none."""
                if self.target_name == "wheel":
                    build()
                    build_data["pure_python"] = False
                    build_data["infer_tag"] = True
                    # By name: the folder may hold what another Python built in this checkout.
                    build_data["artifacts"] = [f"pycontain/_native/{name}" for name in built()]
