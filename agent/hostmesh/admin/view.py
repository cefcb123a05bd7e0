"""What the HTTP doors may ask of the agent: the narrowest view that serves them."""

from __future__ import annotations

from typing import Any, Protocol


class AgentView(Protocol):
    """Implemented by the agent's main process; every method returns quickly or awaits workers with a bound."""

    def pending(self) -> list[str]:
        """Names of what is not ready yet, sorted; empty when the agent is ready."""
        ...

    def config_dump(self) -> dict[str, Any]:
        """What ztunnel's `/config_dump` holds, without connections."""
        ...

    async def connections(self) -> dict[str, Any]:
        """Open connections of each workload."""
        ...

    async def metrics(self, openmetrics: bool) -> str:
        """The exposition text of every worker and of main, merged."""
        ...

    async def status(self) -> dict[str, Any]:
        """What `hostmesh status` prints."""
        ...

    async def network_policies(self) -> dict[str, Any]:
        """What `hostmesh netpol explain` prints."""
        ...

    def log_level(self) -> str:
        """The filter in force."""
        ...

    def change_log_level(self, level: str, *, reset: bool) -> None:
        """Add to the filter of main and workers, after going back to the configured one if `reset`.

        Raises:
            ValueError: no such level; nothing has changed.
        """
        ...

    def shut_down(self) -> None:
        """Begin a graceful stop."""
        ...
