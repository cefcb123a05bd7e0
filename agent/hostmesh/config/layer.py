"""Layer: settings from one place, each with its source; layers are laid over each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hostmesh.config.strict_yaml import InvalidYaml, Problem


class Wrong(ValueError):
    """A value cannot be read; the text says why, and the layer knows where."""


class Layer:
    """Values by dotted setting. Nothing is checked against the settings' types here."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self._problems: list[Problem] = []

    def put(self, setting: str, value: object, source: str) -> None:
        """Set one; a later one wins."""
        self.values[setting] = value
        self.sources[setting] = source

    def read(self, setting: str, text: str, source: str, convert: Callable[[str], object]) -> None:
        """Set one from text; a problem is kept for `check`."""
        try:
            self.put(setting, convert(text), source)
        except Wrong as error:
            self._problems.append(Problem(source, 0, "", str(error)))

    def check(self) -> None:
        """Complain about everything that could not be read.

        Raises:
            InvalidYaml: at least one thing.
        """
        if self._problems:
            raise InvalidYaml(self._problems)

    def over(self, below: Layer) -> Layer:
        """This one where it says something, else the one below."""
        joined = Layer()
        joined.values = {**below.values, **self.values}
        joined.sources = {**below.sources, **self.sources}
        return joined

    def nested(self) -> Mapping[str, Any]:
        """As a settings model takes it."""
        tree: dict[str, Any] = {}
        for setting, value in self.values.items():
            target = tree
            *parents, leaf = _parts(setting)
            for parent in parents:
                target = target.setdefault(parent, {})
            target[leaf] = value
        return tree


def _parts(setting: str) -> list[str]:
    """Names of metadata may contain dots; those of settings do not, and are nested three deep at most."""
    return setting.split(".", 2)
