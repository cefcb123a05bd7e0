"""Compile the byte path when a wheel is built (mypyc), if HOSTMESH_COMPILE=1; else the wheel is plain Python.

The same sources run either way. `hatch_build.py FOLDER` puts the package into a folder as a host gets it, compiled, for
tests and benchmarks.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "HOSTMESH_COMPILE"
PACKAGE = "hostmesh"
KEPT = 8
SETUP = """\
import sys
from pathlib import Path
from mypyc.build import include_dir, mypycify
from setuptools import setup
from hatch_build import layout

options = {"opt_level": "2", "debug_level": "0", "group_name": "hostmesh"}
modules = mypycify(["--config-file=mypy.ini", *sys.stdin.read().split()], **options)
headers = Path("build/__native_internal_hostmesh.h"), Path(include_dir(), "CPy.h")
declared = "".join(header.read_text(encoding="utf-8") for header in headers)
functions = Path("hot.txt").read_text(encoding="utf-8").split()
Path("build/layout.h").write_text(layout(declared, functions), encoding="utf-8")
for module in modules:
    if module.name == "hostmesh__mypyc":
        module.extra_compile_args = [*module.extra_compile_args, "-Ibuild", "-include", "layout.h"]
setup(name="hostmesh", packages=[], ext_modules=modules)
"""
# What hostmesh depends on need not be there: its types do not matter for what is compiled.
MYPY = "[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n"


class CompileHook(BuildHookInterface[Any]):
    """Adds the libraries to the wheel, which then is one for this Python and machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling's build hooks."""
        if version != "standard" or os.environ.get(SWITCH) != "1":
            return
        folder = compiled(Path(self.root))
        for library in libraries(folder):
            build_data["force_include"][str(folder / library)] = str(library)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compiled(root: Path) -> Path:
    """A folder with the libraries, laid out as in the wheel; made once for each state of the sources.

    Raises:
        subprocess.CalledProcessError: the compiler's; it has said why.
    """
    agent = root / "agent"
    modules, functions = byte_path(root), hot(root)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PACKAGE
    folder = cache / f"compiled-{digest(agent, modules, functions)}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as made:
        work = Path(made)
        shutil.copytree(agent / PACKAGE, work / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        (work / "setup.py").write_text(SETUP, encoding="utf-8")
        (work / "mypy.ini").write_text(MYPY, encoding="utf-8")
        (work / "hot.txt").write_text("\n".join(functions), encoding="utf-8")
        shutil.copy(__file__, work / "hatch_build.py")
        build(work, "\n".join(str(module.relative_to(agent)) for module in modules))
        staged = work / "staged"
        for library in libraries(work):
            (staged / library).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(work / library, staged / library)
        if not folder.exists():
            staged.rename(folder)
    for old in sorted(cache.glob("compiled-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def build(work: Path, sources: str) -> None:
    """Run mypyc and the C compiler; what they say is only shown when they fail."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    try:
        subprocess.run(command, cwd=work, input=sources, capture_output=True, text=True, check=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        print(error.stdout, error.stderr, sep="\n", file=sys.stderr)  # noqa: T201
        raise


def byte_path(root: Path) -> list[Path]:
    """The modules that are worth it, as `pyproject.toml` lists them."""
    return [root / "agent" / PACKAGE / f"{name}.py" for name in _settings(root)["modules"]]


def hot(root: Path) -> list[str]:
    """The functions that every byte passes, by their names in C, as `pyproject.toml` lists them."""
    functions: list[str] = _settings(root)["hot"]
    return functions


def _settings(root: Path) -> dict[str, Any]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    settings: dict[str, Any] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return settings


def layout(declared: str, functions: list[str]) -> str:
    """A C header that keeps what every byte passes together, and what only errors meet away from it.

    Code that lies about in a large library costs a worker that wakes up from sleep more than what it executes.

    Args:
        declared: the headers of what mypyc made and brings along.
        functions: as `hot` gives them; what another version of mypyc does not make, or makes a macro, is passed over.
    """
    made = {name for line in declared.splitlines() if line[:1] != "#" for name in re.findall(r"\bCPy\w+(?=\()", line)}
    lines = ["#include <Python.h>", "#include <CPy.h>", '#include "__native_internal_hostmesh.h"']
    lines += [
        f"extern __typeof__({name}) {name} __attribute__((hot));" for name in sorted(made.intersection(functions))
    ]
    lines.append("extern __typeof__(CPy_AddTraceback) CPy_AddTraceback __attribute__((cold));")
    return "\n".join(lines) + "\n"


def digest(agent: Path, modules: list[Path], functions: list[str]) -> str:
    """Of everything that decides what the compiler makes: modules that are imported tell it types and constants."""
    state = hashlib.sha256(f"{sys.version} {version('mypy')} {Path(__file__).read_text()} {functions}".encode())
    for path in sorted(closure(agent, modules)):
        state.update(f"{path.relative_to(agent)}\0".encode() + path.read_bytes())
    return state.hexdigest()[:12]


def closure(agent: Path, modules: list[Path]) -> set[Path]:
    """The modules and all of the package that they import, directly or not."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imported(agent, path)
    return found


def imported(agent: Path, path: Path) -> Iterator[Path]:
    """Modules of the package that one of them names in its imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                module = agent / (name.replace(".", "/") + ".py")
                if module.exists():
                    yield module


def libraries(folder: Path) -> Iterator[Path]:
    """Compiled modules, and what they share, relative to the folder."""
    for path in (*folder.glob("*.so"), *folder.glob(f"{PACKAGE}/**/*.so")):
        yield path.relative_to(folder)


def lay_out(root: Path, target: Path) -> None:
    """The package as it is installed: sources, and libraries beside them."""
    folder = compiled(root)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "agent" / PACKAGE, target / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for library in libraries(folder):
        shutil.copy(folder / library, target / library)


if __name__ == "__main__":
    lay_out(Path(__file__).parent.parent, Path(sys.argv[1]))
