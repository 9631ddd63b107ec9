"""`cbs certificate`: the certificates that clients of a deployment need."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from cli.connecting import Target, connected, fetch_certificates
from cli.files import OutOption, write_or_print
from cli.output import OutputFormat, OutputOption, show


class Which(enum.StrEnum):
    """What can be asked for."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    CHAIN = "chain"


@connected
def command(
    target: Target,
    which: Annotated[Which, typer.Argument(help="The chain is the intermediate, then the root.")],
    out: OutOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Get the root or the intermediate certificate of a verified coordinator, or both, in PEM.

    The root stays; the intermediate is a new one after an update.
    """
    verified = fetch_certificates(target)
    certificates = {
        Which.ROOT: [verified.root],
        Which.INTERMEDIATE: [verified.intermediate],
        Which.CHAIN: [verified.intermediate, verified.root],
    }[which]
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    if output is OutputFormat.JSON:
        digests = [certificate.fingerprint(SHA256()).hex() for certificate in certificates]
        show({"Certificate": pem.decode(), "SHA256": digests}, output)
        return
    write_or_print(pem, out)
