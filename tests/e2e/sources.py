"""Other versions of hostmesh, made from these sources: `python3 -m tests.e2e.sources FOLDER` writes the one before."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def sources(folder: Path, *changes: tuple[str, str, str]) -> Path:
    """The same sources with changes (file, text, its replacement)."""
    for name in ("agent", "systemd"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for file, old, new in changes:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


def former(folder: Path) -> Path:
    """The version before this one."""
    return sources(folder, ("agent/hostmesh/__init__.py", '"""', '"""The version before. '))


if __name__ == "__main__":
    former(Path(sys.argv[1]))
