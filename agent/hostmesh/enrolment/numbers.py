"""The number by which packets of a workload are marked: given once, kept over restarts and reboots.

A number that was given is not given to another workload while there are fresh ones: a connection or a rule that
outlived its workload must never speak for a different one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from hostmesh.kernel.files import write_atomically

MAX_NUMBER = 0xFFFFF
"""Twenty bits of the mark; the twelve below are Istio's."""

_VERSION = 1


class NumbersUnreadable(ValueError):
    """The file is not what this program wrote; the message says what to do."""


class Numbers:
    """Numbers by workload key, kept in a file that only root can read.

    Raises:
        NumbersUnreadable: the file is damaged.
    """

    def __init__(self, file: Path, limit: int = MAX_NUMBER) -> None:
        self._file = file
        self._limit = limit
        self._given = self._load()

    def assign(self, keys: Iterable[str], *, keep: bool = True) -> dict[str, int]:
        """The number of each workload, new ones included; the file is written before a new number is returned.

        Args:
            keys: of the workloads.
            keep: False for a look ahead, which writes nothing: a new number may be another one then.

        Raises:
            ValueError: more workloads than numbers.
            OSError: the file cannot be written.
        """
        wanted = sorted(set(keys))
        given = dict(self._given)
        for key in wanted:
            if key not in given:
                given[key] = self._fresh(given, wanted)
        if keep and given != self._given:
            self._save(given)
            self._given = given
        return {key: given[key] for key in wanted}

    def _fresh(self, given: dict[str, int], wanted: list[str]) -> int:
        """The next number that was never given; when there is none, the lowest whose workload is gone."""
        highest = max(given.values(), default=0)
        if highest < self._limit:
            return highest + 1
        gone = [key for key in given if key not in wanted]
        if not gone:
            raise ValueError(f"more than {self._limit} workloads on one host")
        return given.pop(min(gone, key=lambda key: given[key]))

    def _load(self) -> dict[str, int]:
        try:
            content = json.loads(self._file.read_text())
            numbers = content["numbers"]
            valid = content["version"] == _VERSION and len(set(numbers.values())) == len(numbers)
            if valid and all(isinstance(n, int) and 0 < n <= MAX_NUMBER for n in numbers.values()):
                return {str(key): int(number) for key, number in numbers.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NumbersUnreadable(self._advice()) from error
        raise NumbersUnreadable(self._advice())

    def _advice(self) -> str:
        return f"{self._file} is damaged; next: remove it and restart hostmesh-agent, which numbers workloads afresh"

    def _save(self, given: dict[str, int]) -> None:
        write_atomically(self._file, json.dumps({"version": _VERSION, "numbers": given}, indent=1).encode())
