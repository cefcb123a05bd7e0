"""Small additions to YAML (or JSON) that somebody wrote, leaving every other byte as it is: comments, order, quotes."""

from __future__ import annotations

import json
from typing import Any

import yaml


class Editor:
    """Collects additions to one text; values are plain (mappings, lists, text, numbers).

    Positions are those of nodes that `yaml.compose_all(text, Loader=yaml.SafeLoader)` returned. An alias has the
    position of its anchor, so whoever edits must compare what the result means with what was wanted.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._json = text.lstrip()[:1] in ("{", "[")
        self._additions: list[tuple[int, int, str]] = []

    @property
    def result(self) -> str:
        """The text with all additions."""
        text = self._text
        ordered = sorted(self._additions, key=lambda addition: addition[0])
        # from the end, so that offsets stay right; what was added first at one place stays first
        for start, end, added in reversed(ordered):
            text = text[:start] + added + text[end:]
        return text

    def append(self, sequence: yaml.SequenceNode, value: object) -> None:
        """Add an item at the end of a list."""
        if sequence.flow_style:
            comma = ", " if sequence.value else ""
            at = _end(sequence.value[-1]) if sequence.value else sequence.start_mark.index + 1
            self._add(at, f"{comma}{self._flow(value)}")
        else:
            self._add_lines(_end(sequence), [value], sequence.start_mark.column)

    def add_key(self, mapping: yaml.MappingNode, key: str, value: object) -> None:
        """Add a key at the end of a mapping that is not empty, or give a key without a value its value."""
        for name, old in mapping.value:
            if name.value == key:
                at, end = old.start_mark.index, old.end_mark.index
                space = "" if self._text[at - 1 : at].isspace() else " "
                self._additions.append((at, end, f"{space}{self._flow(value)}"))
                return
        last = mapping.value[-1][1]
        if mapping.flow_style:
            word = json.dumps(key) if self._json else key
            self._add(_end(last), f", {word}: {self._flow(value)}")
        else:
            self._add_lines(_end(last), {key: value}, mapping.start_mark.column)

    def _add(self, at: int, text: str) -> None:
        self._additions.append((at, at, text))

    def _add_lines(self, after: int, value: object, column: int) -> None:
        """Whole lines, below the line (and its comment) where a value ends."""
        at = self._text.find("\n", after)
        block = yaml.safe_dump(value, sort_keys=False, default_flow_style=False).splitlines()
        lines = [" " * column + line for line in block]
        if at < 0:
            self._add(len(self._text), "".join(self._newline + line for line in lines))
        else:
            self._add(at + 1, "".join(line + self._newline for line in lines))

    def _flow(self, value: object) -> str:
        if self._json:
            return json.dumps(value)
        return yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=1 << 16).strip()


def _end(node: yaml.Node) -> int:
    """Where what is written of a node ends; the mark of a block would be where the next token begins."""
    value: Any = node.value
    if isinstance(node, yaml.ScalarNode) or not value or getattr(node, "flow_style", False):
        return int(node.end_mark.index)
    return _end(value[-1][1] if isinstance(node, yaml.MappingNode) else value[-1])
