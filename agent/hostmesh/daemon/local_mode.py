"""Local mode: the mesh from a file, certificates from files, and no control plane to belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from hostmesh.config.agent import AgentConfig
from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.identity.manager import SecretStatus
from hostmesh.xds.compiled_policies import load_policies
from hostmesh.xds.local_file import LocalMesh, read_mesh


class NoMembership:
    """Stands where `Membership` stands."""

    waiting_for = ""

    def status(self) -> SecretStatus | None:
        """There is no certificate of the node."""
        return None

    async def join(self) -> None:
        """There is nothing to join."""

    async def keep(self, on_renewed: Callable[[], None]) -> None:
        """Wait until cancelled."""
        del on_renewed
        await asyncio.Event().wait()

    def doubt(self) -> None:
        """Nobody does."""


def local_mesh(config: AgentConfig) -> LocalMesh | None:
    """What the file says, or None where the mesh comes from a control plane.

    Raises:
        InvalidYaml: the file is wrong or cannot be read.
    """
    settings = config.settings
    if not settings.local:
        return None
    path, text, source = settings.local_xds_path, settings.local_xds, config.sources.get("local_xds", "local_xds")
    if path is not None:
        source = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidYaml([Problem(source, 0, "", f"cannot be read: {error}")]) from error
    return read_mesh(text, source, settings.trust_domain, settings.cluster_id)


def local_policies(config: AgentConfig) -> Mapping[str, bytes]:
    """NetworkPolicies of a host without a control plane, as xDS would bring them.

    Raises:
        InvalidYaml: the file is wrong or cannot be read.
    """
    settings = config.settings
    if not settings.local or settings.network_policy.file is None or not settings.network_policy.enforce:
        return {}
    return load_policies(settings.network_policy.file)
