"""Looking again and again."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from hostmesh.cli.show import show_or_watch, watch


def test_a_pipe_gets_the_header_once_and_only_news(capsys: pytest.CaptureFixture[str]) -> None:
    """As kubectl's --watch: a row that is gone and comes back is news again."""
    looks = iter(
        [[("A", "B"), ("1", "x")], [("A", "B"), ("1", "x"), ("2", "y")], [("A", "B")], [("A", "B"), ("1", "x")]]
    )
    left = iter([True, True, True, False])
    watch(lambda: list(next(looks)), terminal=False, wait=lambda: next(left))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["A", "B"],
        ["1", "x"],
        ["2", "y"],
        ["1", "x"],
    ]


def test_watching_is_for_people() -> None:
    """JSON documents one after the other would be no JSON."""

    @click.command()
    def command() -> None:
        show_or_watch("json", list, lambda _: [], again=True)

    result = CliRunner().invoke(command)
    assert result.exit_code == 2
    assert "leave -o out" in result.output
