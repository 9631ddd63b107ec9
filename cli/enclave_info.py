"""`cbs enclave info`: what an image and its SIGSTRUCT say, and whether they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.measurement import Interpreter, measure
from confidential_bookstore.attestation.simulation.signing import SignedEnclave


def describe(image: Path) -> dict[str, object]:
    """Do the work; what is returned is what the command prints.

    Raises:
        ConfigurationError: a file cannot be read.
        ImageInvalid: not an enclave image.
        SigstructInvalid: NAME.sig is not a SIGSTRUCT, or its signature is wrong.
    """
    enclave = SignedEnclave.read(image)
    measured = measure(enclave.image, Interpreter.current())
    signed = sigstruct.parse(enclave.signature)
    return {
        "Name": enclave.config.name,
        "UniqueID": measured.hex(),
        "SignerID": signed.mr_signer.hex(),
        "ProductID": signed.product_id,
        "SecurityVersion": signed.security_version,
        "Debug": signed.debug,
        "SignedUniqueID": signed.mr_enclave.hex(),
        "BelongTogether": signed.mr_enclave == measured,
    }


def command(
    image: Annotated[Path, typer.Argument(help="NAME.enclave, with NAME.sig next to it.", metavar="IMAGE")],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show an enclave's identity as it would be on this machine; fails if the SIGSTRUCT is for another image."""
    description = describe(image)
    show(description, output)
    if not description["BelongTogether"]:
        raise typer.Exit(1)
