"""Istio AuthorizationPolicy at L4: pure decisions."""
