"""One world for each module: starting it takes a second."""

from __future__ import annotations

import pytest
from mesh_world import World


@pytest.fixture(scope="module")
def world(envoy, tmp_path_factory):
    made = World(envoy, tmp_path_factory.mktemp("w"))
    yield made
    made.close()
