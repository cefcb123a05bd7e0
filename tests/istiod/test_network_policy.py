"""What is a NetworkPolicy here is one to Kubernetes, and what is refused here is refused there."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import yaml
from tests.support.documents import document
from tests.support.real_istiod import RealIstiod, Refused
from tests.unit.control.documents import test_network_policy as tables

TAKEN = [
    tables.policy(tables.FULL),
    *(document("NetworkPolicy", spec) for spec, _ in tables.WARNED),
    *(tables.policy(spec) for spec, _ in tables.ISOLATES),
]
REFUSED = [tables.policy(spec) for spec, _ in tables.REFUSED]


@pytest.mark.parametrize(("text", "taken"), [*((text, True) for text in TAKEN), *((text, False) for text in REFUSED)])
def test_kubernetes_agrees(text: str, taken: bool, istiod: RealIstiod) -> None:
    """Asked without doing it, and with its strict validation of fields."""
    path = "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies?dryRun=All&fieldValidation=Strict"
    with nullcontext() if taken else pytest.raises(Refused):
        istiod.call("POST", path, yaml.safe_load(text))
