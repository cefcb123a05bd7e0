"""systemd's watchdog of a service (WatchdogSec= of systemd.service(5)): told that the loop turns while it does."""

from __future__ import annotations

import asyncio

from hostmesh.kernel.systemd import notify_watchdog, watchdog_interval


async def feed_watchdog() -> None:
    """Tell systemd until cancelled; returns at once where nobody watches."""
    interval = watchdog_interval()
    while interval is not None:
        notify_watchdog()
        await asyncio.sleep(interval / 3)
