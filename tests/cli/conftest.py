"""Deployments for the commands that talk to a coordinator. No test sees contexts of whoever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing
from deployments import Deployment, cbs

from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform


@pytest.fixture(scope="session")
def machine() -> SimulatedPlatform:
    return SimulatedPlatform.create()


@pytest.fixture(autouse=True)
def contexts(tmp_path: Path, monkeypatch) -> Path:
    """The file with contexts."""
    path = tmp_path / "config" / "contexts.json"
    monkeypatch.setenv("CBS_CONTEXT", str(path))
    return path


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[object]]:
    """What coordinators log; they are in this process, and their logs would be in the commands' output."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def deployment(tmp_path: Path, machine) -> Deployment:
    return Deployment(tmp_path / "deployment", machine)


@pytest.fixture
def empty(deployment) -> Iterator[Deployment]:
    """A coordinator without a manifest, and a context for it."""
    with deployment.running():
        said = cbs("context", "set", "shop", *deployment.connection)
        assert said.code == 0, said.err
        yield deployment


@pytest.fixture
def shop(empty) -> Deployment:
    """A coordinator with `manifest()` in force."""
    said = cbs("manifest", "set", empty.write("manifest.json", empty.manifest()))
    assert said.code == 0, said.err
    return empty
