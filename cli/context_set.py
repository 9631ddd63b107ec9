"""`cbs context set`: give a deployment a name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.connecting import CONNECTION_OPTIONS, contexts_path, read_certificate
from cli.context_show import describe
from cli.files import read_file
from cli.output import OutputFormat, OutputOption, show
from cli.policy_layers import MeshOption, SmiOption
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.tls import split_address
from confidential_bookstore.owner.context import Context, Contexts, require_name
from confidential_bookstore.owner.policy import read_policy

_O = CONNECTION_OPTIONS


def check(context: Context) -> None:
    """What is wrong with it is said now, and not when it is used.

    Raises:
        ConfigurationError: an address is malformed, or a file is not what it should be.
    """
    for address in filter(None, (context.coordinator, context.metrics)):
        split_address(address)
    if context.policy:
        read_policy(read_file(context.policy, "the policy"), context.policy)
    if context.root:
        read_certificate(context.root)
    if context.trust_root:
        TrustRoot.from_pem(read_file(context.trust_root, "the trust root"))
    for folder in filter(None, (context.collateral, context.mesh, context.smi)):
        if not Path(folder).is_dir():
            raise ConfigurationError("no such directory", got=folder)
    if bool(context.user_cert) != bool(context.user_key):
        raise ConfigurationError("a user has a certificate and a key", expected="--user-cert and --user-key")
    for path in filter(None, (context.user_cert, context.user_key)):
        read_file(path, "the user's file")


def command(
    name: Annotated[str, typer.Argument(help="A name for the deployment.", metavar="NAME")],
    *,
    coordinator: Annotated[str | None, _O["coordinator"]] = None,
    policy: Annotated[str | None, _O["policy"]] = None,
    root: Annotated[str | None, _O["root"]] = None,
    trust_root: Annotated[str | None, _O["trust_root"]] = None,
    pccs: Annotated[str | None, _O["pccs"]] = None,
    collateral: Annotated[str | None, _O["collateral"]] = None,
    user_cert: Annotated[str | None, _O["user_cert"]] = None,
    user_key: Annotated[str | None, _O["user_key"]] = None,
    metrics: Annotated[str | None, _O["metrics"]] = None,
    mesh: MeshOption = None,
    smi: SmiOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Make or change a context. What is not given stays as it is; "" takes it away. The first one becomes current."""
    contexts = Contexts.load(contexts_path())
    context = contexts.by_name.get(require_name(name), Context()).override(
        coordinator=coordinator, policy=policy, root=root, trust_root=trust_root, pccs=pccs, collateral=collateral,
        user_cert=user_cert, user_key=user_key, metrics=metrics, mesh=mesh, smi=smi,
    ).absolute()  # fmt: skip
    if not context.coordinator:
        raise ConfigurationError("a context needs a coordinator", hint="--coordinator HOST:PORT")
    check(context)
    contexts.by_name[name] = context
    contexts.current = contexts.current or name
    contexts.save()
    show(describe(contexts, name), output)
