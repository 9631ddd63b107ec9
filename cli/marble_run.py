"""`cbs marble run`: activate, and become a program that knows nothing of marbles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.connecting import read_certificate
from cli.files import read_file
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.marble.premain.launch import DEFAULT_TIMEOUT, launch
from confidential_bookstore.marble.premain.setup import GivenTrust
from confidential_bookstore.owner.policy import read_policy


def given_trust(
    root: Path | None, policy: Path | None, trust_root: Path | None, *, without_quote: bool = False
) -> GivenTrust:
    """What the options say.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    return GivenTrust(
        root=read_certificate(root) if root else None,
        package=read_policy(read_file(policy, "the policy"), str(policy)).package if policy else None,
        trust_root=TrustRoot.from_pem(read_file(trust_root, "the trust root")) if trust_root else None,
        without_quote=without_quote,
    )


def command(
    program: Annotated[
        list[str],
        typer.Argument(help="The program; its arguments count if the manifest has no Argv.", metavar="-- CMD"),
    ],
    *,
    coordinator_root: Annotated[
        Path | None, typer.Option(help="The coordinator's root certificate.", metavar="PEM")
    ] = None,
    coordinator_policy: Annotated[
        Path | None, typer.Option(help="The code the coordinator must run, as for `cbs verify`.", metavar="FILE")
    ] = None,
    trust_root: Annotated[
        Path | None, typer.Option(help="The root that its quote must lead to; without it, Intel's.", metavar="PEM")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until it gives up.", min=1)] = DEFAULT_TIMEOUT,
    without_quote: Annotated[
        bool,
        typer.Option(
            "--without-quote", help="For coordinators that want no evidence, in tests: proves and protects nothing."
        ),
    ] = False,
) -> None:
    """Activate as the marble that EDG_MARBLE_TYPE names, write its files, set its environment, and become CMD."""
    trust = given_trust(coordinator_root, coordinator_policy, trust_root, without_quote=without_quote)
    launch(program, trust.setup, os.environ, timeout=timeout)
