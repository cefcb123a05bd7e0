"""Who talks to whom in the benchmark."""

from hostmesh.model.identity import Identity

TRUST_DOMAIN = "cluster.local"
NAMESPACE = "bench"
CLIENT = Identity(TRUST_DOMAIN, NAMESPACE, "load")
SERVER = Identity(TRUST_DOMAIN, NAMESPACE, "app")
