"""`hostmesh validate`: without a control plane."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.documents import document

from hostmesh.cli import main

RIGHT = document("AuthorizationPolicy", "{}", "name: a")
WRONG = document("AuthorizationPolicy", "action: DENY\nrules: [{to: [{operation: {methods: [GET]}}]}]", "name: b")
WARNED = document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: a", "name: a")


def validate(tmp_path: Path, *texts: str, output: str = "table") -> tuple[int, str, str]:
    arguments: list[str] = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yaml").write_text(text)
        arguments += ["-f", str(tmp_path / f"{number}.yaml")]
    result = CliRunner().invoke(main, ["validate", "-o", output, *arguments])
    return result.exit_code, result.stdout.replace(f"{tmp_path}/", ""), result.stderr.replace(f"{tmp_path}/", "")


def test_right_files(tmp_path: Path) -> None:
    """Status 0."""
    assert validate(tmp_path, RIGHT) == (0, "1 objects, 0 errors, 0 warnings\n", "")


def test_wrong_files(tmp_path: Path) -> None:
    """Status 1; every complaint with file, line, field and reason, on standard error."""
    code, out, err = validate(tmp_path, RIGHT, WRONG)
    assert (code, out) == (1, "1 objects, 1 errors, 0 warnings\n")
    assert err.startswith("error: 1.yaml:6: spec.rules[0]: the rule would silently deny nothing: ")


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    """They are shown."""
    code, _, err = validate(tmp_path, WARNED)
    assert code == 0
    assert err.startswith("warning: 0.yaml:3: metadata: traffic to it stays plaintext")


def test_the_same_object_in_two_files(tmp_path: Path) -> None:
    """Across files too."""
    code, _, err = validate(tmp_path, RIGHT, RIGHT)
    assert code == 1
    assert "AuthorizationPolicy default/a is already defined at 0.yaml:1" in err


@pytest.mark.parametrize("text", [RIGHT, WRONG])
def test_json(tmp_path: Path, text: str) -> None:
    """For pipelines."""
    _, out, err = validate(tmp_path, text, output="json")
    assert [problem["line"] for problem in json.loads(out)["problems"]] == ([6] if text == WRONG else [])
    assert err == ""
