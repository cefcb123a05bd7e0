"""Other versions of hostmesh: `python3 -m tests.e2e.sources FOLDER` puts the collection of an earlier one there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORMER = os.environ.get("HOSTMESH_FORMER", "HEAD~60")
"""Which version is the one before: any name that git has for a commit."""


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
    """The collection of an earlier version as its users have it, in a folder of collections.

    Its roles, installer, state and control plane are those of back then. Where git has no history (a shallow clone)
    it is this version once more, with another first line in the program.
    """
    collection = folder / "ansible_collections" / "hostmesh" / "mesh"
    collection.mkdir(parents=True)
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "archive", "--format=tar", FORMER]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode == 0:
        subprocess.run(["tar", "-x", "-C", str(collection)], input=archive.stdout, check=True)
        return collection
    for name in ("playbooks", "plugins", "roles", "meta"):
        shutil.copytree(ROOT / name, collection / name)
    shutil.copy(ROOT / "galaxy.yml", collection)
    return sources(collection, ("agent/hostmesh/__init__.py", '"""', '"""The version before. '))


if __name__ == "__main__":
    former(Path(sys.argv[1]))
