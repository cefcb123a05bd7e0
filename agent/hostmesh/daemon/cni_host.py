"""What CNI's requests do to this agent: capture is refreshed, and workers and certificates follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.daemon.capture import CaptureKeeper
from hostmesh.daemon.handover import Handover
from hostmesh.enrolment.attachments import KEPT
from hostmesh.kernel import systemd


class DescriptorStore:
    """systemd's, which keeps namespaces over a restart of the agent (FileDescriptorStoreMax=)."""

    def store(self, name: str, descriptor: int) -> None:
        """Keep another reference to it."""
        systemd.store_fd(name, _Descriptor(descriptor))

    def drop(self, name: str) -> None:
        """Let go of it."""
        systemd.remove_stored_fds(name)


@dataclass(frozen=True, slots=True)
class _Descriptor:
    number: int

    def fileno(self) -> int:
        return self.number


def kept_namespaces(before: Handover) -> dict[str, int]:
    """What the program before this one in this process left, or systemd kept."""
    stored = {name: fds[0] for name, fds in systemd.listen_fds().items() if name.startswith(KEPT)}
    return {**stored, **before.namespaces}


class CniHost:
    """Implements the CNI server's `Host` over the agent's capture.

    Args:
        capture: reads workloads.d and what CNI has attached.
        follow: tells everybody who must know.
    """

    def __init__(self, capture: CaptureKeeper, follow: Callable[[], None]) -> None:
        self._capture = capture
        self._follow = follow

    async def refresh(self) -> None:
        """Make the host agree with the attachments.

        Raises:
            InvalidYaml: workloads.d is wrong.
            OSError: the kernel, systemd or hostmesh-netns refused.
        """
        await self._capture.refresh()
        self._follow()

    def is_captured(self, workload: str) -> bool:
        """Whether the workload's namespace is captured now."""
        return self._capture.namespaces.is_open(workload)

    def problem_of(self, workload: str) -> str:
        """Why it is not."""
        problems = "; ".join(map(str, self._capture.namespaces.problems))
        return problems or f"{workload} is not captured: another registration of it comes first"
