"""`cbs mesh export`: the policy in the words of another mesh, for Kubernetes."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from cli.files import OutOption, write_or_print
from cli.output import OutputFormat, OutputOption


class OtherMesh(enum.StrEnum):
    """The meshes that the policy can be written for."""

    ISTIO = "istio"
    LINKERD = "linkerd"
    OSM = "osm"


class ExportStage(enum.StrEnum):
    """What the services' traffic is."""

    MESH = "mesh"
    CONFIDENTIAL = "confidential"


def exported(mesh: OtherMesh, folder: Path, stage: ExportStage, output: OutputFormat) -> bytes:
    """The documents, as YAML with a comment, or as JSON.

    Raises:
        PolicyError: a document breaks a rule.
        ConfigurationError: the folder cannot be read.
        MeshError: the other mesh has no words for something that must not be left out.
    """
    from confidential_bookstore.policy.smi.reading import read_folder
    from confidential_bookstore.policy.smi.resolving import sealed
    from mesh.export import istio, linkerd, osm
    from mesh.export.document import render

    documents = read_folder(folder)
    if stage is ExportStage.CONFIDENTIAL:
        documents = sealed(documents)
    make = {OtherMesh.ISTIO: istio.export, OtherMesh.LINKERD: linkerd.export, OtherMesh.OSM: osm.export}
    export = make[mesh](documents)
    if output is OutputFormat.JSON:
        return json.dumps({"Notes": export.notes, "Documents": export.documents}).encode() + b"\n"
    return render(export, f"cbs mesh export {mesh} --stage {stage}").encode()


def command(
    mesh: Annotated[OtherMesh, typer.Argument(help="Whose words.")],
    folder: Annotated[Path, typer.Argument(help="The folder of policy.", metavar="DIR")] = Path("deploy/manifests/smi"),
    stage: Annotated[
        ExportStage, typer.Option("--stage", help="confidential: the marbles' traffic is attested TLS, end to end.")
    ] = ExportStage.CONFIDENTIAL,
    out: OutOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write the policy for Istio, Linkerd or OSM, as documents for `kubectl apply -f`.

    An export never allows what the policy denies. What is different there is said in a comment; what must not be
    left out and cannot be said makes it fail.
    """
    write_or_print(exported(mesh, folder, stage, output), out)
