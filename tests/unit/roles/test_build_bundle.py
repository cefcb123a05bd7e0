"""The archive's version follows from what is in it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "roles" / "package" / "files" / "build_bundle.py"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_bundle", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "agent" / "hostmesh").mkdir(parents=True)
    (tmp_path / "agent" / "hostmesh" / "__init__.py").write_text("")
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "hostmesh-agent.service").write_text("[Service]\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["pyproject.toml", "agent/hostmesh/new.py", "systemd/hostmesh-agent.service"])
def test_changed_sources_are_another_version(build: ModuleType, source: Path, changed: str) -> None:
    """Anything that ends up on a host counts."""
    before = build.content_hash(source)
    with (source / changed).open("a") as file:
        file.write("# changed\n")
    assert build.content_hash(source) != before


def test_leftovers_of_a_run_are_not(build: ModuleType, source: Path) -> None:
    """Compiled modules and files beside the package do not make a version."""
    before = build.content_hash(source)
    cache = source / "agent" / "hostmesh" / "__pycache__"
    cache.mkdir()
    (cache / "x.pyc").write_bytes(b"\0")
    (source / "notes.txt").write_text("remember")
    assert build.content_hash(source) == before
