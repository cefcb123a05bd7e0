"""What the documents tell people to type exists: commands, options, playbooks, units, pages that they link to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hostmesh.cli import main

ROOT = Path(__file__).parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "roles").glob("*/README.md")])
PLACEHOLDER = re.compile(r"^(<.*>|\.\.\.|…|[A-Z]+(=.*)?)$")
each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def lines(page: Path) -> Iterator[str]:
    """Lines of blocks of code, indented or fenced, without prompts, comments and continuations."""
    fenced = False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield re.sub(r"^\s*[#$] (?=\S)", "", line).strip()


def typed(page: Path) -> Iterator[str]:
    """Everything that calls hostmesh: in blocks, and between backticks in the text."""
    text = page.read_text(encoding="utf-8")
    found = [*lines(page), *re.findall(r"`(hostmesh [^`\n]+)`", text)]
    for line in found:
        for part in re.split(r"\||;|&&", line.split(" # ")[0]):
            if part.strip().startswith("hostmesh "):
                yield part.strip()


def complaint(line: str) -> str:
    """What is wrong with a command, by the command itself; nothing is run."""
    words = shlex.split(line.replace("…", "..."))[1:]
    command: click.Command = main
    context = click.Context(main, info_name="hostmesh")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if PLACEHOLDER.match(name):
            return ""
        # Several words at once stand for several commands.
        names = name.split("|")
        found = [command.get_command(context, one) for one in names]
        if None in found:
            return f"no command {name!r}"
        assert found[0] is not None
        command = found[0]
        context = click.Context(command, parent=context, info_name=name)
    known = {
        option for parameter in command.get_params(context) for option in (*parameter.opts, *parameter.secondary_opts)
    }
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else ""


@each_page
def test_commands_exist(page: Path) -> None:
    """With their options, as the command line knows them."""
    wrong = {line: why for line in typed(page) if (why := complaint(line))}
    assert wrong == {}


@each_page
def test_playbooks_and_units_exist(page: Path) -> None:
    """Names of files that people are to run, and of units that they are to look at."""
    text = page.read_text(encoding="utf-8")
    playbooks = set(re.findall(r"playbooks/([a-z_]+\.yml)", text)) - {
        path.name for path in (ROOT / "playbooks").iterdir()
    }
    assert playbooks == set()
    shipped = {path.stem.removesuffix("@") for path in (ROOT / "systemd").iterdir()}
    named = set(
        re.findall(r"\b(hostmesh-(?:agent|control-plane|netns|host-key|waypoint)[a-z-]*)(?:\.service|\.socket)\b", text)
    )
    assert named <= shipped


def test_the_tests_see_commands() -> None:
    """They would pass on pages without any."""
    assert sum(len(list(typed(page))) for page in PAGES) > 50
    assert complaint("hostmesh workload --nonsense") == "no option --nonsense"
    assert complaint("hostmesh netpoll check") == "no command 'netpoll'"


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """To files of this repository, and to headings that are there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


def test_the_index_has_every_page() -> None:
    """Whoever begins at docs/README.md finds all of them."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"({page.name})" not in index]
    assert missing == ["README.md"], "only the index itself"
