"""/etc/hostmesh/workloads.d: which units of this host are which workloads.

A document has `workload: prod/web`, `serviceAccount: web` (default when left out) and
`capture: {unit: web-api.service}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_documents, parse
from hostmesh.model.workload import DEFAULT_SERVICE_ACCOUNT

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.service")
_FAILSAFE = re.compile(r"(sshd?|dropbear|hostmesh-.*|systemd-.*|dbus(-broker)?)(@.*)?\.service")


def _name(value: str) -> str:
    if len(value) > 253 or not all(_LABEL.fullmatch(part) for part in value.split(".")):
        raise ValueError("not a Kubernetes name: lower case letters, digits, '-' and '.'")
    return value


def _workload(value: str) -> str:
    namespace, slash, name = value.partition("/")
    if not slash or not _LABEL.fullmatch(namespace):
        raise ValueError("must be <namespace>/<name>, for example prod/web")
    _name(name)
    return value


def _unit(value: str) -> str:
    if not _UNIT.fullmatch(value) or len(value) > 255:
        raise ValueError("must be the full name of a service, for example web-api.service")
    if "@.service" in value:
        raise ValueError("is a template; name an instance of it, for example app@1.service")
    if _FAILSAFE.fullmatch(value):
        raise ValueError("is needed to repair the host and is never captured")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class _Capture(_Strict):
    unit: Annotated[str, AfterValidator(_unit)]


class _Enrolment(_Strict):
    workload: Annotated[str, AfterValidator(_workload)]
    service_account: Annotated[str, AfterValidator(_name)] = Field(DEFAULT_SERVICE_ACCOUNT, alias="serviceAccount")
    capture: _Capture


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One document: the unit `unit` is the workload `namespace/name`. `source` and `line` say where it is written."""

    namespace: str
    name: str
    service_account: str
    unit: str
    source: str
    line: int

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def read(directory: Path) -> tuple[Enrolled, ...]:
    """Read every *.yaml and *.yml of the directory; one that does not exist enrols nothing.

    Raises:
        InvalidYaml: every problem of every file; nothing of any file may be applied then.
    """
    problems: list[Problem] = []
    found: list[Enrolled] = []
    files = directory.iterdir() if directory.is_dir() else ()
    for file in sorted(f for f in files if f.suffix in (".yaml", ".yml") and not f.name.startswith(".")):
        try:
            found += read_text(file.read_text(), str(file))
        except InvalidYaml as error:
            problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(str(file), 1, "", f"cannot be read: {error}"))
    problems += _duplicates(found)
    if problems:
        raise InvalidYaml(problems)
    return tuple(found)


def read_text(text: str, source: str) -> list[Enrolled]:
    """Read the documents of one file.

    Raises:
        InvalidYaml: every problem of the first bad document.
    """
    return [_enrolled(document) for document in load_documents(text, source)]


def _enrolled(document: Document) -> Enrolled:
    written = parse(document, _Enrolment)
    namespace, _, name = written.workload.partition("/")
    line = document.line(("capture", "unit"))
    return Enrolled(namespace, name, written.service_account, written.capture.unit, document.source, line)


def _duplicates(found: list[Enrolled]) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[tuple[str, str], Enrolled] = {}
    for enrolled in found:
        for field, value, why in (
            ("workload", enrolled.key, "one workload is one unit on a host"),
            ("capture.unit", enrolled.unit, "a unit has one identity"),
        ):
            other = first.setdefault((field, value), enrolled)
            if other is not enrolled:
                text = f"{value} is enrolled already at {other.source}:{other.line}; {why}"
                problems.append(Problem(enrolled.source, enrolled.line, field, text))
    return problems
