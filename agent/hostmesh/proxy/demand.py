"""Demand: whose an address is, asked of the control plane by way of main; and which addresses are in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from hostmesh.model.address import IPAddress
from hostmesh.proxy.waiting import WaitingRoom
from hostmesh.transport.loop import Loop

REPORT_INTERVAL = 30.0
"""Seconds between two reports of what is in use; what is not used is let go after ten of them."""

MAX_REPORTED = 16384
"""As many names as main follows; who scans a network uses more, and nothing of it twice."""


class Demand:
    """Where the mesh is followed on demand: many connections to an unknown address ask once, and wait a bounded time.

    Args:
        loop: of the worker.
        want: asks main; answered by `learned` or `refused`.
        used: told which names were used since it was told last.
        wait: seconds.
    """

    def __init__(
        self, loop: Loop, want: Callable[[str], None], used: Callable[[Sequence[str]], None], wait: float
    ) -> None:
        self._loop = loop
        self._want = want
        self._tell = used
        self._waiting: WaitingRoom[str, bool] = WaitingRoom(loop, wait)
        self._used: set[tuple[str, IPAddress]] = set()

    def wait_for(self, name: str, then: Callable[[bool | None, str], None]) -> None:
        """Ask main; `then` gets True and `""` once all is known that the name means, or None and why it is not."""
        asked = self._waiting.has(name)
        self._waiting.enter(name, f"the control plane has not said in time whose {name} is", then)
        if not asked:
            self._want(name)

    def learned(self, names: Iterable[str]) -> None:
        """The state has all that these mean."""
        for name in names:
            self._waiting.answer(name, True)

    def refused(self, reasons: Mapping[str, str]) -> None:
        """Of these nothing will be known for now."""
        for name, reason in reasons.items():
            self._waiting.refuse(name, f"the control plane has not said whose {name} is: {reason}")

    def use(self, network: str, ip: IPAddress) -> None:
        """A connection goes there."""
        if not self._used:
            self._loop.call_later(REPORT_INTERVAL, self._report)
        if len(self._used) < MAX_REPORTED:
            self._used.add((network, ip))

    def _report(self) -> None:
        names = [f"{network}/{ip}" for network, ip in self._used]
        self._used.clear()
        self._tell(names)
