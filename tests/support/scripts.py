"""Programs that lie in no package: loaded by their files, and Ansible's modules called as Ansible calls them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils import basic

ROOT = Path(__file__).parents[2]


def script(path: str) -> ModuleType:
    """The module of a file below the project's root; a fresh one for each caller."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def plugin(path: str) -> ModuleType:
    """As `script`, of what belongs to the collection: it finds the rest of it under the name that Ansible gives it."""
    for name, places in (("", []), (".hostmesh", []), (".hostmesh.mesh", [str(ROOT)])):
        package = sys.modules.setdefault(f"ansible_collections{name}", ModuleType(f"ansible_collections{name}"))
        package.__path__ = places
    return script(f"plugins/{path}")


def call(module: ModuleType, *, check: bool = False, **options: object) -> dict[str, Any]:
    """What a module answers; a traceback is none."""
    given = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            module.main()
    finally:
        basic._ANSIBLE_ARGS = basic._ANSIBLE_PROFILE = None
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer
