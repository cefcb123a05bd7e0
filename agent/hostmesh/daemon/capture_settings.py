"""What the configuration says of capture: for the agent, and for `hostmesh rules` without one."""

from __future__ import annotations

from hostmesh.config.agent import AgentConfig
from hostmesh.daemon.addresses import SOCKS5
from hostmesh.enrolment.capture_settings import CaptureSettings


def capture_settings(config: AgentConfig) -> CaptureSettings:
    """What capture needs to know of the settings."""
    s = config.settings
    return CaptureSettings(
        workloads_directory=s.workloads_dir,
        state_directory=s.state_dir,
        runtime_directory=s.runtime_dir,
        trust_domain=s.trust_domain,
        ssh_ports=s.capture.ssh_ports,
        excluded_ports=s.capture.excluded_inbound_ports,
        excluded_networks=s.capture.excluded_outbound_cidrs,
        backend=s.capture.backend,
        original_source=s.original_source,
        socks5=SOCKS5.port if s.socks5 else 0,
        dns=s.dns.port if s.dns.enabled else 0,
    )
