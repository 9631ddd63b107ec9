"""The two layers of policy as commands see them: the host's folder, for sidecars, and the owner's, for marbles.

A layer answers in its own way. A sidecar decides about connections where it sees bytes only, and about requests where
it sees them. A marble decides about requests, by the attested type of the caller; any attested marble may connect.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from cli.policy_names import Request
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.context import Context
from confidential_bookstore.owner.policy_update import MarblePolicy, compiled
from confidential_bookstore.policy.access import DENIED, AccessRules, Decision
from confidential_bookstore.policy.smi.decision import Explanation, Policy
from confidential_bookstore.policy.smi.model import Documents, MeshConfig, Protocol, Service
from confidential_bookstore.policy.smi.reading import folder_texts, read_texts
from confidential_bookstore.policy.smi.resolving import sealed
from mesh.folder import POLICY
from mesh.state import read_state

_PANEL = "Folders (in place of the context's)"
_CONFIDENTIAL = "confidential"

MeshOption = Annotated[
    str | None,
    typer.Option("--mesh", help="The host's mesh, see `cbs mesh run`.", metavar="DIR", rich_help_panel=_PANEL),
]
SmiOption = Annotated[
    str | None,
    typer.Option("--smi", help="The owner's SMI documents, for marbles.", metavar="DIR", rich_help_panel=_PANEL),
]

MESH_CERTIFICATE = Explanation(
    Decision(allowed=True, rule="any-of-the-mesh"), None, ("requests are decided one by one",)
)
ATTESTED = Explanation(Decision(allowed=True, rule="any-attested-marble"), None, ("requests are decided one by one",))
NOT_ATTESTED = Explanation(Decision(allowed=False, rule="not-attested"), None, ("the caller is no marble",))


class Layer(enum.StrEnum):
    """Who enforces."""

    MESH = "mesh"
    MARBLES = "marbles"


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """One layer's folder as it is now. `stage` says what sidecars see; it is empty for marbles."""

    layer: Layer
    path: Path
    texts: Mapping[str, str]
    documents: Documents
    stage: str = ""

    @property
    def name(self) -> str:
        """For output: the layer never goes without its folder."""
        return f"{self.layer} {self.path}" + (f" (stage {self.stage})" if self.stage else "")

    def read_again(self) -> PolicyFolder:
        """As it is now.

        Raises:
            ConfigurationError, PolicyError: as at first.
        """
        return mesh_folder(self.path.parent) if self.layer is Layer.MESH else marbles_folder(self.path)

    def changed(self, edits: Mapping[str, str | None]) -> PolicyFolder:
        """With other texts; None takes a file away.

        Raises:
            PolicyError: they break a rule.
        """
        merged = {**self.texts, **edits}
        texts = {name: text for name, text in merged.items() if text is not None}
        return replace(self, texts=texts, documents=_documents(texts, self.stage))

    def explain(self, source: Service, destination: Service, request: Request | None) -> Explanation | None:
        """May `source` connect to `destination` (no request), or request this? None: this layer has no say."""
        if self.layer is Layer.MARBLES:
            return _in_marble(self.documents, source, destination, request)
        return _at_sidecar(Policy(self.documents), source, destination, request)


def mesh_folder(path: Path) -> PolicyFolder:
    """The folder of a mesh that runs, or has run.

    Raises:
        ConfigurationError: it cannot be read, or nobody knows its stage.
        PolicyError: a document breaks a rule.
    """
    stage = str(read_state(path)["stage"])
    texts = folder_texts(path / POLICY)
    return PolicyFolder(Layer.MESH, path / POLICY, texts, _documents(texts, stage), stage)


def marbles_folder(path: Path) -> PolicyFolder:
    """The folder that the manifest's policy is made of.

    Raises:
        ConfigurationError: it cannot be read.
        PolicyError: a document breaks a rule.
    """
    texts = folder_texts(path)
    return PolicyFolder(Layer.MARBLES, path, texts, _documents(texts, ""))


def folders(context: Context, layer: Layer | None = None) -> list[PolicyFolder]:
    """Those that the context has, or the one that is asked for.

    Raises:
        ConfigurationError: there is none, or the one asked for is not given.
        PolicyError: a document breaks a rule.
    """
    found: list[PolicyFolder] = []
    if context.mesh and layer in (None, Layer.MESH):
        found.append(mesh_folder(Path(context.mesh)))
    if context.smi and layer in (None, Layer.MARBLES):
        found.append(marbles_folder(Path(context.smi)))
    if not found:
        raise ConfigurationError(
            f"which folder has the policy{f' of the layer {layer}' if layer else ''}?",
            hint="--mesh DIR (of a mesh), --smi DIR (the owner's), or `cbs context set NAME --mesh DIR --smi DIR`",
        )
    return found


def in_force(rules: AccessRules, source: Service, destination: Service, request: Request | None) -> Decision:
    """What a marble with these rules answers."""
    if not source.marble:
        return NOT_ATTESTED.decision
    if request is None:
        return ATTESTED.decision
    return rules.allow(source.marble, request.path) if destination.marble else DENIED


def _documents(texts: Mapping[str, str], stage: str) -> Documents:
    documents = read_texts(texts)
    return sealed(documents) if stage == _CONFIDENTIAL else documents


def _at_sidecar(policy: Policy, source: Service, destination: Service, request: Request | None) -> Explanation:
    if destination.seen_as is Protocol.TCP:
        return policy.explain(source.account, destination.account, destination.port)
    if request is None:
        return MESH_CERTIFICATE
    return policy.explain(source.account, destination.account, destination.port, request.method, request.path)


def _in_marble(
    documents: Documents, source: Service, destination: Service, request: Request | None
) -> Explanation | None:
    if not destination.marble:
        return None
    if not source.marble:
        return NOT_ATTESTED
    if request is None:
        return ATTESTED
    policy: MarblePolicy = compiled(documents)[destination.marble]
    decision = in_force(policy.rules, source, destination, request)
    strict = Policy(replace(documents, config=MeshConfig()))  # permissive mode never reaches a marble
    written = strict.explain(source.account, destination.account, destination.port, request.method, request.path)
    return replace(written, decision=decision)
