"""A policy is known by namespace and name."""

from __future__ import annotations

from hostmesh.model.authorization import Action, Authorization, PolicyScope


def test_the_key_is_the_xds_resource_name() -> None:
    """Two policies of one name in two namespaces are two policies."""
    policy = Authorization("deny-all", "shop", PolicyScope.NAMESPACE, Action.DENY)
    assert policy.key == "shop/deny-all"
    assert policy.rules == ()
    assert not policy.dry_run
