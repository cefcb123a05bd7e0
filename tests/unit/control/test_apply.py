"""Planning changes: which file an object goes to, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.documents import document

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.apply import Change, Input, Refused, file_name, plan, removal
from hostmesh.control.documents.read import ObjectKey, read

DIRECTORY = Path("/documents")


def policy(name: str, action: str = "ALLOW") -> str:
    return document("AuthorizationPolicy", f"action: {action}\nrules: [{{}}]", f"name: {name}")


def planned(files: dict[str, str], *inputs: str) -> Change:
    contents = {DIRECTORY / name: read(text, str(DIRECTORY / name)) for name, text in files.items()}
    return plan(DIRECTORY, contents, [Input(f"in{number}.yaml", text) for number, text in enumerate(inputs)])


def actions(change: Change) -> list[tuple[str, str, str]]:
    return [(outcome.key.name, outcome.action, outcome.file.name) for outcome in change.outcomes]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (ObjectKey("AuthorizationPolicy", "a", "b.c"), "authorizationpolicy.a.b.c.yaml"),
        (ObjectKey("Namespace", "", "a"), "namespace.a.yaml"),
    ],
)
def test_file_names(key: ObjectKey, name: str) -> None:
    """Kind, namespace and name."""
    assert file_name(key) == name


def test_a_new_object_gets_a_file_of_its_own() -> None:
    """An input of one object keeps its author's words, comments included."""
    text = "# why\n" + policy("a")
    change = planned({}, text)
    assert actions(change) == [("a", "created", "authorizationpolicy.default.a.yaml")]
    assert change.files == {DIRECTORY / "authorizationpolicy.default.a.yaml": text}


def test_several_objects_of_one_input_are_written_apart() -> None:
    """So that each can be changed and deleted by itself."""
    change = planned({}, policy("a") + "---\n" + policy("b"))
    assert [(name, action) for name, action, _ in actions(change)] == [("a", "created"), ("b", "created")]
    assert [len(read(text or "", "x")) for text in change.files.values()] == [1, 1]


def test_an_object_alone_in_its_file_stays_there() -> None:
    """Whoever named the file finds it again."""
    change = planned({"mine.yaml": policy("a")}, policy("a", "DENY"))
    assert actions(change) == [("a", "configured", "mine.yaml")]
    assert "-action: ALLOW\n+action: DENY" in change.outcomes[0].difference.replace("  ", "")


def test_an_equal_object_is_left_alone_wherever_it_is() -> None:
    """Nothing is written, not even in a file of several."""
    change = planned({"both.yaml": policy("a") + "---\n" + policy("b")}, policy("a"))
    assert actions(change) == [("a", "unchanged", "both.yaml")]
    assert change.files == {}


def test_an_object_in_a_file_of_several_is_not_changed() -> None:
    """The refusal names that file."""
    with pytest.raises(InvalidYaml) as raised:
        planned({"both.yaml": policy("a") + "---\n" + policy("b")}, policy("a", "DENY"))
    assert str(raised.value) == (
        "in0.yaml:1: AuthorizationPolicy default/a lives in /documents/both.yaml together with 1 other objects; "
        "change it there"
    )


def test_a_file_that_holds_something_else_is_not_overwritten() -> None:
    """A user's file may happen to have the name that an object would get."""
    with pytest.raises(InvalidYaml, match=r"which holds AuthorizationPolicy default/other; rename it"):
        planned({"authorizationpolicy.default.a.yaml": policy("other")}, policy("a"))


def test_the_same_object_in_two_inputs_is_refused() -> None:
    """Which of the two is meant, nobody knows."""
    with pytest.raises(InvalidYaml, match=r"in1.yaml:3: metadata.name: .* is already defined at in0.yaml:1"):
        planned({}, policy("a"), policy("a", "DENY"))


def test_mistakes_of_all_inputs_are_told_at_once() -> None:
    """With the names that the user gave the files."""
    with pytest.raises(InvalidYaml) as raised:
        planned({}, policy("a", "NO"), policy("b", "NEVER"))
    assert [problem.source for problem in raised.value.problems] == ["in0.yaml", "in1.yaml"]


def test_removal() -> None:
    """An object alone in its file takes the file with it; others are named and left."""
    contents = {
        DIRECTORY / "a.yaml": read(policy("a"), "a.yaml"),
        DIRECTORY / "bc.yaml": read(policy("b") + "---\n" + policy("c"), "bc.yaml"),
    }
    key = ObjectKey("AuthorizationPolicy", "default", "a")
    change = removal(contents, key)
    assert change.files == {DIRECTORY / "a.yaml": None}
    assert [item.key.name for item in change.objects] == ["b", "c"]
    with pytest.raises(Refused, match=r"shares /documents/bc.yaml with 1 other objects"):
        removal(contents, ObjectKey("AuthorizationPolicy", "default", "b"))
    with pytest.raises(Refused, match="AuthorizationPolicy default/x is not there"):
        removal(contents, ObjectKey("AuthorizationPolicy", "default", "x"))
