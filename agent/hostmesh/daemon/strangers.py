"""Neighbours outside the mesh that were refused at a workload's fresh port: the agent looks at once who listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hostmesh.kernel.notices import NoNotices, Notices
from hostmesh.model.local import NOTICES

_log = logging.getLogger("hostmesh.capture")


class Strangers:
    """Hears of them in the running loop. Where the kernel does not tell, ports become known at the next regular look.

    Args:
        knocked: called when one was refused.
    """

    def __init__(self, knocked: Callable[[], None]) -> None:
        self._knocked = knocked
        self._notices: Notices | None = None
        try:
            self._notices = Notices(NOTICES)
        except NoNotices as error:
            _log.info("fresh ports of workloads are seen every few seconds only: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._notices, self._hear)

    def close(self) -> None:
        """Hear no more."""
        if self._notices is not None:
            asyncio.get_running_loop().remove_reader(self._notices)
            self._notices.close()

    def _hear(self) -> None:
        assert self._notices is not None
        self._notices.heard()
        self._knocked()
