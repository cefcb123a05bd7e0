"""Amends how grpclib wakes whoever waits for a stream or connection that is lost; importing this is enough.

It cancels the waiting task, raises its own error in place of the cancellation, and does not take the request back
(`Task.uncancel`): the task counts as cancelled for ever, and in Python 3.11 its next `asyncio.timeout` ends it instead
of timing out, without a word. It may also ask twice, and swallows a cancellation by somebody else at the same moment.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from grpclib.utils import Wrapper

_ASKED = "_hostmesh_asked"


def _cancel(self: Wrapper, error: Exception) -> None:
    """Once; who comes later is told on entering."""
    if self._error is None:
        asked: set[asyncio.Task[Any]] = set(self._tasks)
        setattr(self, _ASKED, asked)
        for task in asked:
            task.cancel()
    self._error = error
    self.cancelled = True


def _exit(
    self: Wrapper,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    del error, traceback
    task = asyncio.current_task()
    assert task is not None, "entered in a task"
    self._tasks.discard(task)
    if self._error is None:
        return
    self.cancel_failed = kind is not asyncio.CancelledError
    asked: set[asyncio.Task[Any]] = getattr(self, _ASKED, set())
    if task in asked:
        asked.discard(task)
        if task.uncancel() > 0:
            raise asyncio.CancelledError from self._error  # by somebody else, too
    raise self._error


Wrapper.cancel = _cancel  # type: ignore[method-assign]
Wrapper.__exit__ = _exit  # type: ignore[method-assign]
