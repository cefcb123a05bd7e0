"""Who runs the commands of the documents: every block that somebody is to type says so, and tests/e2e types it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.document_blocks import blocks

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


@each_page
def test_every_block_of_commands_is_run_or_says_why_not(page: Path) -> None:
    """So that a new one is not forgotten."""
    assert [block.line for block in blocks(page) if block.typed and not block.marked] == []


@each_page
def test_who_is_said_to_run_a_block_is_there(page: Path) -> None:
    """Tests and scenarios that are named in place of a run."""
    named = re.findall(r"<!-- not run: .*?((?:tests|molecule)/[\w/.]+)", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_most_blocks_are_run() -> None:
    """The rule is to run them."""
    found = [block for page in PAGES for block in blocks(page) if block.typed]
    assert len([block for block in found if block.where]) > 0.8 * len(found) > 20


def test_a_page(tmp_path: Path) -> None:
    """Marks belong to the next block; prompts tell commands from answers; a file says its name."""
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n<!-- run: host, ends with 1 -->\n\n    # one \\\n        more\n    answer\n    $ two\n\n- a list\n"
        "    that goes on\n\n```yaml\n# some/file.yaml\nkey: value\n```\n\n    hostmesh status\n"
    )
    first, file, last = blocks(page)
    assert (first.where, first.status, first.line) == ("host", 1, 5)
    assert [" ".join(one.split()) for one in first.commands] == ["one more", "two"]
    assert (file.file, file.where) == ("some/file.yaml", "")
    assert (last.typed, last.marked, last.line) == (True, False, 18)


def test_a_place_that_is_none(tmp_path: Path) -> None:
    """Is refused with file and line."""
    page = tmp_path / "page.md"
    page.write_text("<!-- run: moon -->\n\n    hostmesh status\n")
    with pytest.raises(ValueError, match="'moon'"):
        list(blocks(page))
