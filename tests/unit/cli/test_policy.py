"""Policies are tested in a user's CI, and suggested from logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.unit.cli.test_explain import MESH

from hostmesh.cli import main
from hostmesh.control.documents.read import read

CASES = """\
documents: [mesh]
cases:
- {name: sleep is a stranger, from: prod/sleep, to: "web.prod.svc.cluster.local:80", expect: deny}
- {from: prod/sleep, to: "prod/web:80", expect: deny, reason: POLICY_NOT_ALLOWED}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "all.yaml").write_text(MESH, encoding="utf-8")
    return tmp_path


def run(folder: Path, cases: str, *more: str) -> Result:
    file = folder / "cases.yaml"
    file.write_text(cases, encoding="utf-8")
    return CliRunner().invoke(main, ["policy", "test", "-f", str(file), *more])


def test_cases_that_hold(folder: Path) -> None:
    """Documents are found beside the cases."""
    result = run(folder, CASES)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "2 of 2 cases are as they should be"


def test_a_case_that_does_not_hold_is_explained(folder: Path) -> None:
    """With its place in the file, what came instead, and why; status 1."""
    result = run(folder, CASES.replace("expect: deny}", "expect: allow}"))
    assert result.exit_code == 1
    assert f"FAIL  {folder}/cases.yaml:3: sleep is a stranger: deny (POLICY_NOT_ALLOWED)" in result.output
    assert "ALLOW prod/batch-only" in result.output
    assert result.output.splitlines()[-1] == "1 of 2 cases are as they should be"


def test_a_pipeline_reads_the_same_as_json(folder: Path) -> None:
    """Each case with its place, what it wants and what was found; the status is the same."""
    result = run(folder, CASES.replace("expect: deny}", "expect: allow}"), "-o", "json")
    said = json.loads(result.output)
    assert (result.exit_code, said["right"], len(said["cases"])) == (1, 1, 2)
    wrong = said["cases"][0]
    assert (wrong["where"], wrong["expect"], wrong["right"]) == (f"{folder}/cases.yaml:3", "allow", False)
    assert (wrong["found"]["allowed"], wrong["found"]["reason"]) == (False, "POLICY_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (CASES.replace("expect: deny}", "expect: denied}"), "cases.yaml:3: cases[0].expect:"),
        (CASES.replace("POLICY_NOT_ALLOWED", "POLICY_NOT_ALOWED"), "did you mean 'POLICY_NOT_ALLOWED'?"),
        (CASES.replace("from:", "form:"), "did you mean 'from'?"),
        (CASES.replace("[mesh]", "[nothing]"), "nothing"),
        ("cases: []\n", "documents"),
    ],
)
def test_wrong_cases_are_refused(folder: Path, wrong: str, why: str) -> None:
    """File, line and field."""
    result = run(folder, wrong)
    assert result.exit_code == 1
    assert why in result.output


def test_a_source_that_is_nobody_fails_its_case(folder: Path) -> None:
    """A test that can only pass is none."""
    result = run(folder, CASES.replace('from: prod/sleep, to: "web', 'from: prod/slep, to: "web'))
    assert result.exit_code == 1
    assert "no workload, unit or address 'prod/slep'" in result.output


LOG = """\
2026-01-01T00:00:00Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 src.identity="spiffe://cluster.local/ns/prod/sa/sleep" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.identity="spiffe://cluster.local/ns/prod/sa/web" direction="inbound"
2026-01-01T00:00:00Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.9:5 src.identity="spiffe://cluster.local/ns/prod/sa/batch" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.identity="spiffe://cluster.local/ns/prod/sa/web" direction="inbound"
2026-01-01T00:00:00Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.9:5 src.identity="spiffe://cluster.local/ns/prod/sa/evil" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.identity="spiffe://cluster.local/ns/prod/sa/web" direction="inbound" error="no"
2026-01-01T00:00:00Z\tinfo\tagent\tready
"""  # noqa: E501 -- lines of a log


def test_what_was_seen_is_suggested() -> None:
    """Valid documents, dry-run at first; what failed is left out."""
    result = CliRunner().invoke(main, ["policy", "suggest", "-"], input=LOG)
    assert result.exit_code == 0, result.output
    (suggested,) = yaml.safe_load_all(result.output)
    assert suggested["metadata"]["annotations"] == {"istio.io/dry-run": "true"}
    assert suggested["spec"]["rules"] == [
        {
            "from": [{"source": {"principals": ["cluster.local/ns/prod/sa/batch", "cluster.local/ns/prod/sa/sleep"]}}],
            "to": [{"operation": {"ports": ["8080"]}}],
        }
    ]
    assert len(read(result.output, "suggested.yaml")) == 1


def test_nothing_seen_is_said() -> None:
    """An empty file would allow everything."""
    result = CliRunner().invoke(main, ["policy", "suggest", "-"], input="nothing\n")
    assert result.exit_code == 1
