"""`hostmesh config`: every setting with its source."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from hostmesh.cli import main


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["config", *arguments], env=environment)
    return done.exit_code, done.output


def test_text_and_json(tmp_path: Path) -> None:
    """A table for people, an object for scripts."""
    file = tmp_path / "agent.yaml"
    file.write_text("node: a\n")
    status, text = run("--config", str(file), NETWORK="n1")
    assert status == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in text.splitlines()}
    assert rows["node"] == ['"a"', f"{file}:1"]
    assert rows["network"] == ['"n1"', "$NETWORK"]
    assert rows["ipv6"] == ["true", "default"]
    _, document = run("--config", str(file), "-o", "json")
    assert json.loads(document)["node"] == {"value": "a", "source": f"{file}:1"}


def test_a_mistake_ends_with_1_and_its_place(tmp_path: Path) -> None:
    """As the agent would say it."""
    file = tmp_path / "agent.yaml"
    file.write_text("nodes: a\n")
    status, text = run("--config", str(file))
    assert (status, text.startswith(f"Error: {file}:1: nodes: unknown field; did you mean 'node'?")) == (1, True)
