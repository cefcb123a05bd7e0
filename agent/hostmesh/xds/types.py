"""Type URLs of the resources that an ambient proxy subscribes to (istio.workload, istio.security)."""

from __future__ import annotations

ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address"
"""Workloads and services."""

AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization"
"""L4 policies."""

TYPES = (ADDRESS_TYPE, AUTHORIZATION_TYPE)
"""In the order in which they are subscribed to."""
