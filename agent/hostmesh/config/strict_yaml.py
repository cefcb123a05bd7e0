"""YAML that users write, read strictly: every complaint says file:line, field, why and what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]

_MAX_BYTES = 16 << 20
"""No human writes more; a file above it is a mistake or an attack on memory."""

_MAX_NODES = 1_000_000
"""Aliases are followed where they stand, so a few lines could otherwise mean billions of nodes."""

_MAX_NESTING = 200
"""The composer recurses: an endless `[[[[` must be stopped before it. Far above what `_walk` then allows."""
_TOO_DEEP = f"nested deeper than {_MAX_NESTING} levels"

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same grammar from libyaml, eight times faster, where PyYAML was built with it."""

_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)
"""Where a document begins: at the start of a line nothing else may look like that, not even inside of a text."""

_MAX_SALVAGED = 1000
"""Documents of a broken file that are looked at one by one."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint; `field` is a dotted path, empty for the document as a whole. `line` 0: the source has no lines."""

    source: str
    line: int
    field: str
    why: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        return f"{where}: {self.field}: {self.why}" if self.field else f"{where}: {self.why}"


class InvalidYaml(ValueError):
    """What the user wrote cannot be taken; nothing of it has been applied."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its plain value, and the line on which each field stands."""

    source: str
    value: Any
    lines: Mapping[Path, int] = field(repr=False)

    def problem(self, path: Path, why: str) -> Problem:
        """A complaint about a field (or, where it is missing, about its nearest parent)."""
        return Problem(self.source, self.line(path), dotted(path), why)

    def line(self, path: Path) -> int:
        """The line of a field, or of its nearest parent that exists."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def dotted(path: Path) -> str:
    """`("spec", "rules", 0, "from")` as `spec.rules[0].from`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load_documents(text: str, source: str) -> list[Document]:
    """Read all documents of a YAML stream; empty ones are left out.

    Raises:
        InvalidYaml: bad syntax, a key twice in one mapping, or too large.
    """
    documents, problems = load_what_is_readable(text, source)
    if problems:
        raise InvalidYaml(problems)
    return documents


def load_what_is_readable(text: str, source: str) -> tuple[list[Document], list[Problem]]:
    """The same, and a problem for each document that cannot be read; others are read all the same."""
    try:
        return _load(text, source), []
    except InvalidYaml as invalid:
        starts = [match.start() for match in _DOCUMENT.finditer(text)]
        if len(text) > _MAX_BYTES or not starts or len(starts) > _MAX_SALVAGED:
            return [], list(invalid.problems)
    found: list[Document] = []
    problems: list[Problem] = []
    line = 0
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        part = text[start:end]
        try:
            found += [_moved(document, line) for document in _load(part, source)]
        except InvalidYaml as invalid:
            problems += [replace(problem, line=problem.line + line) for problem in invalid.problems]
        line += part.count("\n")
    # A stream can be wrong although each of its documents is right.
    return (found, problems) if problems else ([], _whole(text, source))


def _whole(text: str, source: str) -> list[Problem]:
    try:
        _load(text, source)
    except InvalidYaml as invalid:
        return list(invalid.problems)
    return []


def _moved(document: Document, by: int) -> Document:
    return replace(document, lines={path: line + by for path, line in document.lines.items()})


def _load(text: str, source: str) -> list[Document]:
    if len(text) > _MAX_BYTES:
        raise InvalidYaml([Problem(source, 1, "", f"larger than {_MAX_BYTES >> 20} MiB; split it into several files")])
    try:
        _check_nesting(text, source)
        nodes = list(yaml.compose_all(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        # libyaml scans ahead and may reach its own limit before ours is counted
        why = _TOO_DEEP if "nesting depth" in str(error.problem) else f"not YAML: {error.problem}"
        raise InvalidYaml([Problem(source, line, "", why)]) from error
    except yaml.YAMLError as error:
        raise InvalidYaml([Problem(source, 1, "", f"not YAML: {error}")]) from error
    return [_document(node, source) for node in nodes if node is not None and not _is_null(node)]


def parse(
    document: Document, model: type[ModelT], prefix: Path = (), value: object = None, context: object = None
) -> ModelT:
    """Check a document (or `value`, the part of it under `prefix`) against a strict pydantic model.

    The model's validators see the `context`.

    Raises:
        InvalidYaml: every problem at once, in the order of the file.
    """
    try:
        return model.model_validate(document.value if value is None else value, context=context)
    except ValidationError as error:
        problems = [_explain(document, model, prefix, dict(detail)) for detail in error.errors()]
        raise InvalidYaml(sorted(problems, key=lambda problem: problem.line)) from error


def suggest(wrong: str, allowed: Iterable[str]) -> str:
    """`did you mean ...?` where something close is allowed, and what is."""
    names = sorted(allowed)
    close = difflib.get_close_matches(wrong, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"


def _explain(document: Document, model: type[BaseModel], prefix: Path, detail: Mapping[str, Any]) -> Problem:
    path: Path = prefix + tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return document.problem(path, f"unknown field; {suggest(str(path[-1]), _fields(model, detail['loc'][:-1]))}")
    if detail["type"] == "missing":
        return document.problem(path, "required, but missing")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return document.problem(path, f"{message[:1].lower()}{message[1:]} (got {detail['input']!r})")


def _fields(model: type[BaseModel], path: Path) -> set[str]:
    """Names allowed in the object at `path` below `model`, following nested models."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        found = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        nested = [] if found is None else list(_models_in(found.annotation))
        if not nested:
            return set()
        current = nested[0]
    return {info.alias or name for name, info in current.model_fields.items()}


def _models_in(annotation: object) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _check_nesting(text: str, source: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_NESTING:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise InvalidYaml([Problem(source, line, "", _TOO_DEEP)])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _document(node: yaml.Node, source: str) -> Document:
    lines: dict[Path, int] = {}
    _walk(node, (), source, lines, 0)
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidYaml([Problem(source, line, "", f"not YAML: {error.problem}")]) from error
    finally:
        loader.dispose()
    return Document(source, value, lines)


def _walk(node: yaml.Node, path: Path, source: str, lines: dict[Path, int], depth: int) -> None:
    if len(lines) > _MAX_NODES:
        raise InvalidYaml([Problem(source, node.start_mark.line + 1, "", "too many values (are aliases nested?)")])
    if depth > 64:
        raise InvalidYaml([Problem(source, node.start_mark.line + 1, dotted(path), "nested deeper than 64 levels")])
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), source, lines, depth + 1)
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            here = (*path, str(key.value))
            if here in lines:
                why = f"the key stands twice, first on line {lines[here]}"
                raise InvalidYaml([Problem(source, key.start_mark.line + 1, dotted(here), why)])
            lines[here] = key.start_mark.line + 1
            _walk(item, here, source, lines, depth + 1)
