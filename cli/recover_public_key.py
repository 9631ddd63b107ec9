"""`cbs recover public-key`: the key for which recovery secrets are encrypted on machines without network."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.connecting import Target, connected
from cli.files import OutOption, write_or_print
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.recovery import read_coordinator_key


@connected
def command(target: Target, out: OutOption = None, output: OutputOption = OutputFormat.TEXT) -> None:
    """Get the public key of a coordinator in recovery mode, which is verified by its quote first."""
    root = target.attest(any_root=True).coordinator.root
    key = read_coordinator_key(CoordinatorApi(Connection(target.address, root)).recovery_public_key())
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if output is OutputFormat.JSON:
        show({"Algorithm": "RSA", "PublicKey": pem.decode()}, output)
    else:
        write_or_print(pem, out)
