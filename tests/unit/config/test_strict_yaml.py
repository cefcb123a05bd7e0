"""Every complaint about a user's YAML says file:line, field, why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from hostmesh.config.strict_yaml import InvalidYaml, load_documents, load_what_is_readable, parse


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    items: list[Inner] = []


def read(text: str) -> list[Outer]:
    return [parse(document, Outer) for document in load_documents(text, "f.yaml")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: a\nnmae: b\n", "f.yaml:2: nmae: unknown field; did you mean 'name'? allowed: items, name"),
        ("items: []\n", "f.yaml:1: name: required, but missing"),
        ("name: a\nitems:\n- port: x\n", "f.yaml:3: items[0].port: input should be a valid integer"),
        (
            "name: a\nitems:\n- port: 1\n- prot: 1\n  port: 2\n",
            "f.yaml:4: items[1].prot: unknown field; did you mean 'port'?",
        ),
        ("name: a\nname: b\n", "f.yaml:2: name: the key stands twice, first on line 1"),
        ("name: [\n", "f.yaml:2: not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, complaint: str) -> None:
    """File, line, dotted field, reason."""
    with pytest.raises(InvalidYaml) as caught:
        read(text)
    assert complaint in str(caught.value)


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    """Nobody wants to find his mistakes one by one."""
    document = load_documents("items:\n- port: x\nnmae: a\n", "f.yaml")[0]
    with pytest.raises(InvalidYaml) as caught:
        parse(document, Outer)
    assert [problem.field for problem in caught.value.problems] == ["name", "items[0].port", "nmae"]


def test_nested_aliases_cannot_fill_the_memory() -> None:
    """Ten lines of aliases could mean a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(InvalidYaml, match="aliases"):
        load_documents("\n".join(lines), "f.yaml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    """Nothing but InvalidYaml ever comes out."""
    try:
        problems = [document.problem((), "fine") for document in load_documents(text, "f.yaml")]
    except InvalidYaml as error:
        problems = list(error.problems)
    assert all(problem.line >= 1 for problem in problems)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: " + "[" * 100_000, "f.yaml:1: nested deeper than 200 levels"),
        ("\n" + "{a: " * 300, "f.yaml:2: nested deeper than 200 levels"),
    ],
    ids=["brackets", "braces"],
)
def test_endless_nesting_does_not_exhaust_the_stack(text: str, complaint: str) -> None:
    """The composer recurses, in C where libyaml is there: it must never see such a text."""
    with pytest.raises(InvalidYaml, match=complaint):
        load_documents(text, "f.yaml")


def test_one_broken_document_does_not_hide_another() -> None:
    """Each is told at its own line, and what is right beside them is read."""
    text = "a: [1\n---\nb: 2\n---\nc: {d: 1\n---\ne: |\n  text\n"
    documents, problems = load_what_is_readable(text, "f.yaml")
    assert [(document.value, document.line(())) for document in documents] == [({"b": 2}, 3), ({"e": "text\n"}, 7)]
    assert [(problem.source, problem.line) for problem in problems] == [("f.yaml", 2), ("f.yaml", 6)]
    with pytest.raises(InvalidYaml) as caught:
        load_documents(text, "f.yaml")
    assert caught.value.problems == tuple(problems)
