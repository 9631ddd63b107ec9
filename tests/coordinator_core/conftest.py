from __future__ import annotations

import pytest
from core_material import NOW

from coordinator.pki.authority import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.create(dns_names=["localhost", "coordinator.example"], now=NOW)
