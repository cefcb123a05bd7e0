"""A process that is killed at a chosen system call: before the Nth one that changes a file, or in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

CHANGING = ("open", "write", "pwrite", "fsync", "ftruncate", "replace", "rename", "unlink", "mkdir", "fchmod")


def run_until_killed(work: Callable[[], Any], at: int, *, torn: bool = False) -> tuple[bool, Any]:
    """Do it in a process of its own; (True, what it returned) if it came to its end, (False, None) if it was killed.

    Args:
        work: returns something that JSON can carry.
        at: which system call it does not survive.
        torn: whether a write that is the last one is half done.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _child(work, at, writer, torn=torn)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False, None
    assert os.WEXITSTATUS(status) == 0, said.decode()
    return True, json.loads(said)


def _child(work: Callable[[], Any], at: int, writer: int, *, torn: bool) -> NoReturn:
    write = os.write
    try:
        _arm(at, torn=torn)
        result = json.dumps(work()).encode()
    except BaseException:  # noqa: BLE001 -- the parent is told, whatever it is
        write(writer, traceback.format_exc().encode())
        os._exit(1)
    write(writer, result)
    os._exit(0)


def _arm(at: int, *, torn: bool) -> None:
    left = [at]

    def fused(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if torn and name in ("write", "pwrite"):
                    descriptor, data, *rest = arguments
                    real(descriptor, bytes(data)[: max(len(data) // 2, 1)], *rest)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in CHANGING:
        setattr(os, name, fused(name, getattr(os, name)))
