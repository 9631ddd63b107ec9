"""Which stages are put on where there is no Envoy."""

from __future__ import annotations

import pytest

from confidential_bookstore.errors import EnvoyMissing
from demo import mesh
from demo.stages import Stage
from demo.staging import here


@pytest.fixture
def no_envoy(monkeypatch):
    def missing() -> str:
        raise EnvoyMissing("there is no Envoy on this machine")

    monkeypatch.setattr(mesh, "envoy_path", missing)
    monkeypatch.delenv("CI", raising=False)


def test_all_stages_where_there_is_envoy(envoy):
    assert here(None) == (list(Stage), "")
    assert here(Stage.MESH) == ([Stage.MESH], "")


def test_without_envoy_the_mesh_is_left_out_and_it_says_so(no_envoy):
    stages, reason = here(None)
    assert stages == [Stage.PLAIN, Stage.CONFIDENTIAL]
    assert "stage mesh is left out" in reason
    assert here(Stage.PLAIN) == ([Stage.PLAIN], "")
    assert not mesh.has_envoy()


def test_without_envoy_the_mesh_alone_is_refused(no_envoy):
    with pytest.raises(EnvoyMissing) as refused:
        here(Stage.MESH)
    assert refused.value.exit_code == 3


def test_in_ci_nothing_is_left_out(no_envoy, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(EnvoyMissing):
        here(None)
    with pytest.raises(EnvoyMissing):
        mesh.has_envoy()
