"""The files under deploy/kubernetes are what the command writes today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from export_policies import BUYER, STORE, THIEF
from istio_semantics import Call, istio_allows
from linkerd_semantics import linkerd_allows

from cli.mesh_export import ExportStage, OtherMesh, exported
from cli.output import OutputFormat

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "deploy" / "manifests" / "smi"
VARIANTS = ROOT / "deploy" / "manifests" / "smi-variants"
DECIDE = {OtherMesh.ISTIO: istio_allows, OtherMesh.LINKERD: linkerd_allows}


def checked_in(mesh, stage):
    return (ROOT / "deploy" / "kubernetes" / mesh / f"{stage}.yaml").read_text()


@pytest.mark.parametrize("stage", ExportStage)
@pytest.mark.parametrize("mesh", OtherMesh)
def test_checked_in_files_are_fresh(mesh, stage):
    assert checked_in(mesh, stage) == exported(mesh, POLICY, stage, OutputFormat.TEXT).decode()


@pytest.mark.parametrize("stage", ExportStage)
@pytest.mark.parametrize("mesh", OtherMesh)
def test_each_begins_with_what_is_different(mesh, stage):
    text = checked_in(mesh, stage)
    assert text.startswith(f"# Written by `cbs mesh export {mesh} --stage {stage}`.")
    comment = text.partition("---\n")[0]
    assert "does not do as the policy says:\n# * " in comment
    assert ("decided inside the marbles" in " ".join(comment.split())) == (stage is ExportStage.CONFIDENTIAL)


@pytest.mark.parametrize("mesh", DECIDE)
def test_buyer_and_thief(mesh):
    def asked(stage, source, path=None):
        documents = list(yaml.safe_load_all(checked_in(mesh, stage)))
        return DECIDE[mesh](documents, Call(str(source), "bookstore", "bookstore", 14001, "POST", path))

    assert asked(ExportStage.CONFIDENTIAL, BUYER)
    assert not asked(ExportStage.CONFIDENTIAL, THIEF)
    assert asked(ExportStage.MESH, BUYER, f"/{STORE}/BuyBook")
    assert not asked(ExportStage.MESH, BUYER, f"/{STORE}/GetSales")
    assert not asked(ExportStage.MESH, THIEF, f"/{STORE}/BuyBook")


@pytest.mark.parametrize("mesh", OtherMesh)
def test_the_split_of_the_demo(mesh, tmp_path):
    for file in (*POLICY.iterdir(), VARIANTS / "traffic-split-50-50.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = exported(mesh, tmp_path, ExportStage.MESH, OutputFormat.TEXT).decode()
    assert text.count("weight: 50\n") == 2
    sealed = exported(mesh, tmp_path, ExportStage.CONFIDENTIAL, OutputFormat.JSON)
    assert b'"weight"' not in sealed
    assert b"weights of the manifest" in sealed
