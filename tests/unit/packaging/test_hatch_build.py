"""The build hook: what is compiled, and when it must be compiled again. That it works is proved by `make compiled`."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.scripts import script

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return script("agent/hatch_build.py")


def test_every_module_of_the_list_exists(hook: ModuleType) -> None:
    modules = hook.byte_path(ROOT)
    assert len(modules) > 30
    assert [module for module in modules if not module.is_file()] == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """`a` is compiled; it imports `b`, which imports `deep.c`; nobody imports `d`."""
    sources = {
        "hostmesh/a.py": "from hostmesh.b import B\n",
        "hostmesh/b.py": "from hostmesh.deep import c\nB = c.C\n",
        "hostmesh/deep/__init__.py": "",
        "hostmesh/deep/c.py": "C = 1\n",
        "hostmesh/d.py": "D = 1\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "again"),
    [("a.py", True), ("b.py", True), ("deep/c.py", True), ("d.py", False)],
)
def test_what_is_imported_counts_as_well(hook: ModuleType, package: Path, changed: str, again: bool) -> None:
    """The compiler puts constants and types of other modules into what it makes."""
    modules = [package / "hostmesh" / "a.py"]
    before = hook.digest(package, modules, [])
    (package / "hostmesh" / changed).write_text("C = 2\n")
    assert (hook.digest(package, modules, []) != before) is again


def test_the_package_is_laid_out_with_libraries_beside_its_sources(
    hook: ModuleType, package: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries that lie about among the sources are none of it."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(package, root / "agent")
    (root / "agent" / "hostmesh" / "stale.so").touch()
    made = tmp_path_factory.mktemp("made")
    (made / "hostmesh" / "deep").mkdir(parents=True)
    for name in ("hostmesh__mypyc.so", "hostmesh/a.so", "hostmesh/deep/c.so"):
        (made / name).touch()
    monkeypatch.setattr(hook, "compiled", lambda _: made)
    target = tmp_path_factory.mktemp("target")
    hook.lay_out(root, target)
    found = {str(path.relative_to(target)) for path in target.rglob("*.so")}
    assert found == {"hostmesh__mypyc.so", "hostmesh/a.so", "hostmesh/deep/c.so"}
    assert (target / "hostmesh" / "d.py").read_text() == "D = 1\n"


def test_layout_names_what_the_compiler_has_made(hook: ModuleType) -> None:
    """What another version of the compiler does not make, or makes a macro, is passed over."""
    declared = (
        "extern char CPyDef_loop___Loop___turn(PyObject *self);\n"
        "extern PyObject *CPyPy_loop___Loop___turn(PyObject *self);\n"
        "extern char CPyDef_loop___Loop___stop(PyObject *self);\n"
        "PyObject *CPyDict_Get(PyObject *dict);\n"
        "#define CPyList_PopLast(list) macro\n"
    )
    said = hook.layout(declared, ["CPyDef_loop___Loop___turn", "CPyDef_gone", "CPyDict_Get", "CPyList_PopLast"])
    marked = [line.split()[2] for line in said.splitlines() if "hot" in line]
    assert marked == ["CPyDef_loop___Loop___turn", "CPyDict_Get"]
    assert "CPy_AddTraceback __attribute__((cold))" in said
