"""What `-f` takes: files, directories of YAML, and `-` for standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

files_option = click.option(
    "-f",
    "--filename",
    "names",
    required=True,
    multiple=True,
    metavar="FILE",
    help="A YAML file, a directory of them, or - for standard input. May be repeated.",
)


def read_files(names: Iterable[str]) -> list[dict[str, str]]:
    """Every file as `source` and `text`.

    Raises:
        click.ClickException: naming the file that cannot be read, or the directory that holds no YAML.
    """
    return [{"source": source, "text": text} for name in names for source, text in _read(name)]


def _read(name: str) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "<stdin>", sys.stdin.read()
        return
    path = Path(name)
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml") and not p.name.startswith("."))
        if not paths:
            raise click.ClickException(f"{path}: no *.yaml or *.yml file in this directory")
    for one in paths:
        try:
            yield str(one), one.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise click.ClickException(f"{one}: no such file") from error
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{one}: cannot be read: {error}") from error
