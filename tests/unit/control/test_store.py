"""The document store: a set is live as a whole or not at all, and the last good one outlives mistakes and restarts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.documents import document
from tests.support.records import records

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.apply import Input, Refused
from hostmesh.control.directory import Directory
from hostmesh.control.documents.read import ObjectKey
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.store import DocumentStore


def entry(name: str, address: str = "10.0.0.1") -> str:
    return document(
        "WorkloadEntry",
        f"address: {address}\nserviceAccount: {name}",
        f"name: {name}, labels: {{hostmesh.io/node: n}}",
    )


BROKEN = entry("x").replace("address", "adress")


class Bench:
    """A store over a directory, with what a test asks of it."""

    def __init__(self, path: Path) -> None:
        self.documents, self.state = path / "documents", path / "state"
        self.documents.mkdir()
        self.state.mkdir()
        self.restart()

    def restart(self) -> None:
        self.store = DocumentStore(
            Directory(self.documents, self.state / "applying.json"), records(self.state), self.state, MeshConfig()
        )
        self.store.start()

    def write(self, name: str, text: str) -> None:
        (self.documents / name).write_text(text)

    def settle(self) -> bool:
        """Two looks at the directory: the first sees the change, the second that it is over."""
        assert not self.store.refresh()
        return self.store.refresh()

    @property
    def live(self) -> list[str] | None:
        current = self.store.current
        return None if current is None else [workload.name for workload in current.translation.workloads]

    @property
    def problems(self) -> list[str]:
        return [str(problem).removeprefix(f"{self.documents}/") for problem in self.store.problems]

    def apply(self, *texts: str, dry_run: bool = False) -> list[str]:
        inputs = [Input(f"in{number}.yaml", text) for number, text in enumerate(texts)]
        return [outcome.action for outcome in self.store.apply(inputs, dry_run=dry_run).outcomes]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.documents.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_empty_directory_is_an_empty_mesh(bench: Bench) -> None:
    """It is live: there is nothing wrong with it."""
    assert (bench.live, bench.problems) == ([], [])


def test_a_new_file_is_live_once_it_is_quiet(bench: Bench) -> None:
    """A file that is still being written would be a file whose last documents were removed."""
    bench.write("a.yaml", entry("a"))
    assert not bench.store.refresh()
    assert bench.live == []
    bench.write("a.yaml", entry("a") + "---\n" + entry("b", "10.0.0.2"))
    assert not bench.store.refresh()
    assert bench.store.refresh()
    assert bench.live == ["a", "b"]
    assert not bench.store.refresh()


def test_a_mistake_leaves_the_last_good_set_live(bench: Bench) -> None:
    """All of it, other changes included, until the mistake is mended."""
    bench.write("a.yaml", entry("a"))
    assert bench.settle()
    bench.write("b.yaml", entry("b", "10.0.0.2"))
    bench.write("x.yaml", BROKEN)
    assert not bench.settle()
    assert bench.live == ["a"]
    assert [problem.partition(";")[0] for problem in bench.problems] == ["x.yaml:5: spec.adress: unknown field"]
    (bench.documents / "x.yaml").unlink()
    assert bench.settle()
    assert (bench.live, bench.problems) == (["a", "b"], [])


def test_a_mistake_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """However often the directory is looked at, and once more when all is well."""
    caplog.set_level(logging.INFO)
    bench.write("x.yaml", BROKEN)
    for _ in range(4):
        bench.store.refresh()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    bench.write("x.yaml", entry("x"))
    bench.settle()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_the_same_object_in_two_files_is_a_mistake(bench: Bench) -> None:
    """Both places are named."""
    bench.write("a.yaml", entry("a"))
    bench.write("b.yaml", entry("a"))
    assert not bench.settle()
    assert bench.problems == [
        (
            f"b.yaml:3: metadata.name: WorkloadEntry default/a is already defined at {bench.documents}/a.yaml:1; "
            "remove one of the two"
        )
    ]


def test_a_lost_directory_is_a_mistake(bench: Bench) -> None:
    """A mesh is not deleted by a failed mount."""
    bench.write("a.yaml", entry("a"))
    assert bench.settle()
    bench.documents.rename(bench.documents.with_name("elsewhere"))
    assert not bench.store.refresh()
    assert not bench.store.refresh()
    assert bench.live == ["a"]
    assert "cannot be listed" in bench.problems[0]


def test_the_last_good_set_outlives_a_restart(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A restart over a mistake must not take the mesh away."""
    bench.write("a.yaml", entry("a"))
    assert bench.settle()
    bench.write("a.yaml", BROKEN)
    bench.restart()
    assert bench.live == ["a"]
    assert len(bench.problems) == 1
    assert "documents on disk are wrong: serving the last good ones" in caplog.text


def test_a_first_start_over_a_mistake_tells_agents_nothing(bench: Bench) -> None:
    """There is no last good set: an empty mesh would be a lie."""
    (bench.state / "documents.last-good.json").unlink()
    bench.write("a.yaml", BROKEN)
    bench.restart()
    assert bench.live is None
    bench.write("a.yaml", entry("a"))
    assert bench.settle()
    assert bench.live == ["a"]


def test_an_unusable_last_good_set_is_not_fatal(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is a convenience; the log tells."""
    (bench.state / "documents.last-good.json").write_text("{")
    records(bench.state).commit({"vips/00": "["})
    bench.write("a.yaml", BROKEN)
    bench.restart()
    assert bench.live is None
    assert "the last good documents cannot be used" in caplog.text


def test_a_state_directory_that_cannot_be_written_stops_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What is kept there only helps the next start."""
    bench.state.rename(bench.state.with_name("elsewhere"))
    bench.write("a.yaml", entry("a"))
    assert bench.settle()
    assert bench.live == ["a"]
    assert "documents.last-good.json: cannot be written (No such file or directory)" in caplog.text


def test_what_does_not_change_the_mesh_is_not_news(bench: Bench) -> None:
    """A comment is not worth telling agents about."""
    bench.write("a.yaml", entry("a"))
    assert bench.settle()
    bench.write("a.yaml", "# a comment\n" + entry("a"))
    assert not bench.settle()


def test_allocated_addresses_outlive_a_restart(bench: Bench) -> None:
    """Clients have them in their hosts files and caches."""

    def vips() -> dict[str, str]:
        assert bench.store.current is not None
        return {s.hostname: str(s.vips[0].ip) for s in bench.store.current.translation.services}

    bench.write("b.yaml", document("ServiceEntry", "hosts: [b.c]\nresolution: DNS", "name: b"))
    assert bench.settle()
    bench.write("a.yaml", document("ServiceEntry", "hosts: [a.c]\nresolution: DNS", "name: a"))
    bench.restart()
    assert vips() == {"b.c": "240.240.0.1", "a.c": "240.240.0.2"}


def test_apply_creates_changes_and_leaves_alone(bench: Bench) -> None:
    """What apply wrote is live when it returns."""
    assert bench.apply(entry("a"), entry("b", "10.0.0.2")) == ["created", "created"]
    assert bench.live == ["a", "b"]
    assert bench.apply(entry("a", "10.0.0.9"), entry("b", "10.0.0.2")) == ["configured", "unchanged"]
    assert bench.files() == ["workloadentry.default.a.yaml", "workloadentry.default.b.yaml"]
    assert not bench.store.refresh()
    assert not bench.store.refresh()


def test_a_dry_run_writes_nothing(bench: Bench) -> None:
    """But says what would happen."""
    assert bench.apply(entry("a"), dry_run=True) == ["created"]
    assert (bench.files(), bench.live) == ([], [])


REFUSED: list[tuple[Callable[[Bench], object], str]] = [
    (lambda bench: bench.apply(entry("b"), BROKEN), "in1.yaml:5: spec.adress: unknown field"),
    (lambda bench: bench.apply(entry("a", "10.0.0.3"), entry("b")), "lives in .*/both.yaml together with 1 other"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED)
def test_a_refused_apply_changes_nothing(bench: Bench, change: Callable[[Bench], object], why: str) -> None:
    """Not even the objects that were right."""
    bench.write("both.yaml", entry("a") + "---\n" + entry("c", "10.0.0.2"))
    bench.restart()
    with pytest.raises(InvalidYaml, match=why):
        change(bench)
    assert (bench.files(), bench.live) == (["both.yaml"], ["a", "c"])


def test_nothing_is_applied_onto_a_broken_directory(bench: Bench) -> None:
    """The set as a whole could not go live; the complaint names the file that is in the way."""
    bench.write("x.yaml", BROKEN)
    with pytest.raises(InvalidYaml, match=r"x\.yaml:5: spec\.adress: unknown field"):
        bench.apply(entry("a"))
    assert bench.files() == ["x.yaml"]


def test_apply_tells_warnings_about_what_was_handed_in(bench: Bench) -> None:
    """By the user's own file names, and not those about other documents."""
    silent = document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: a", "name: a")
    bench.write("a.yaml", silent)
    result = bench.store.apply([Input("mine.yaml", silent.replace("name: a}", "name: b}"))], dry_run=True)
    assert [warning.source for warning in result.warnings] == ["mine.yaml"]


def test_delete(bench: Bench) -> None:
    """The object is gone when delete returns; one that is not there is refused."""
    bench.apply(entry("a"), entry("b", "10.0.0.2"))
    key = ObjectKey("WorkloadEntry", "default", "a")
    assert [outcome.action for outcome in bench.store.delete(key, dry_run=True).outcomes] == ["deleted"]
    assert bench.live == ["a", "b"]
    bench.store.delete(key, dry_run=False)
    assert (bench.live, bench.files()) == (["b"], ["workloadentry.default.b.yaml"])
    with pytest.raises(Refused, match="WorkloadEntry default/a is not there"):
        bench.store.delete(key, dry_run=False)
