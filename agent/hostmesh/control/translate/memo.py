"""Memo: what was derived before, to be used again while nothing has changed that it depends on.

That is whole steps, and each WorkloadEntry by itself: a mesh has more of those than of all else, and they change most
often, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast

from hostmesh.control.documents.read import Object, ObjectKey
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.translate.workloads import Surroundings, from_workload_entry
from hostmesh.model.workload import Workload

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Derived:
    """From which document, in which surroundings."""

    item: Object[WorkloadEntry]
    around: object
    workload: Workload


class Memo:
    """Of one translation for the next."""

    def __init__(self) -> None:
        self._derived: dict[ObjectKey, _Derived] = {}
        self._around: dict[str, object] = {}
        self._steps: dict[Callable[..., object], tuple[tuple[object, ...], object]] = {}

    def step(self, derive: Callable[Inputs, Result], *inputs: Inputs.args, **none: Inputs.kwargs) -> Result:
        """What `derive` makes of these inputs; it is pure. Inputs that are the very same cost nothing to compare."""
        last = self._steps.get(derive)
        if last is not None and last[0] == inputs:
            return cast("Result", last[1])
        made = derive(*inputs, **none)
        self._steps[derive] = (inputs, made)
        return made

    def described(
        self, entries: tuple[Object[WorkloadEntry], ...], around: Surroundings
    ) -> list[tuple[Object[WorkloadEntry], Workload]]:
        """Each with its workload, which is the very same object as before where nothing about it has changed."""
        before, self._derived = self._derived, {}
        known, self._around = self._around, {}
        for item in entries:
            namespace = item.key.namespace
            if namespace not in self._around:
                fresh, last = around.of(namespace), known.get(namespace)
                self._around[namespace] = last if last == fresh else fresh
            self._derived[item.key] = self._derive(item, around, self._around[namespace], before.get(item.key))
        return [(one.item, one.workload) for one in self._derived.values()]

    @staticmethod
    def _derive(item: Object[WorkloadEntry], around: Surroundings, place: object, last: _Derived | None) -> _Derived:
        if last is not None and last.item is item and last.around is place:
            return last
        workload = from_workload_entry(item, around)
        return _Derived(item, place, last.workload if last is not None and last.workload == workload else workload)
