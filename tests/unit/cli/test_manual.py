"""Man pages are made from the commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from click.testing import CliRunner

from hostmesh.cli import _COMMANDS, main


def test_every_command_has_a_page(tmp_path: Path) -> None:
    """Those of groups too; every option is on it."""
    assert CliRunner().invoke(main, ["manual", str(tmp_path)]).exit_code == 0
    names = {path.stem for path in tmp_path.iterdir()}
    assert {"hostmesh", *(f"hostmesh-{name}" for name in _COMMANDS), "hostmesh-ca-rotate"} <= names
    page = (tmp_path / "hostmesh-workloads.1").read_text(encoding="utf-8")
    assert "\\-\\-workload\\-namespace" in page
    assert page.startswith('.TH "HOSTMESH-WORKLOADS" "1"')


def test_a_description_is_not_indented_as_its_source_is(tmp_path: Path) -> None:
    """A line that begins with a space is a paragraph of its own for roff."""
    CliRunner().invoke(main, ["manual", str(tmp_path)])
    for page in tmp_path.iterdir():
        assert [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")] == [], page


def test_pages_are_roff_without_a_complaint(tmp_path: Path) -> None:
    """By groff's own judgement."""
    groff = shutil.which("groff")
    CliRunner().invoke(main, ["manual", str(tmp_path)])
    pages = sorted(map(str, tmp_path.iterdir()))
    assert groff is not None, "groff-base is installed by lab/prerequisites.sh"
    done = subprocess.run([groff, "-man", "-Tutf8", "-ww", "-z", *pages], capture_output=True, text=True, check=True)
    assert done.stderr == ""
