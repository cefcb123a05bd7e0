"""What -f takes."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from hostmesh.cli.files import read_files


def test_files_directories_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order given; a directory's files by name, hidden ones left out."""
    monkeypatch.setattr("sys.stdin", io.StringIO("in"))
    for name in ("b.yaml", "a.yml", ".c.yaml", "d.txt"):
        (tmp_path / name).write_text(name)
    found = read_files(["-", str(tmp_path), str(tmp_path / "d.txt")])
    assert [(Path(file["source"]).name, file["text"]) for file in found] == [
        ("<stdin>", "in"),
        ("a.yml", "a.yml"),
        ("b.yaml", "b.yaml"),
        ("d.txt", "d.txt"),
    ]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, an empty directory, a file that is no text."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    for name, why in (("x.yaml", "no such file"), ("empty", "no *.yaml"), ("latin.yaml", "cannot be read")):
        with pytest.raises(click.ClickException) as raised:
            read_files([str(tmp_path / name)])
        assert raised.value.message.startswith(f"{tmp_path / name}: {why}")
