"""A host, its peer, and on the peer a real istiod that lives as long as the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.netns.conftest import made_lab
from tests.support.real_istiod import RealIstiod, real_istiod

if TYPE_CHECKING:
    from tests.netns.conftest import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made_lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="session")
def istiod(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealIstiod]:
    with real_istiod(lab.peer, tmp_path_factory.mktemp("istio") / "istiod") as made:
        yield made
