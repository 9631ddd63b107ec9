"""`cbs status`: which state the coordinator is in."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.errors import CoordinatorUntrusted
from confidential_bookstore.owner.answers import RECOVERY
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection


def report(target: Target) -> dict[str, object]:
    """Do the work; what is returned is what the command prints.

    A coordinator in recovery mode has another root for the time being. It is believed if its quote is accepted, and if
    recovery is what it says.

    Raises:
        ConfigurationError, CoordinatorUntrusted, CoordinatorUnavailable: see `Target.api`.
        CoordinatorRefused: it does not say.
    """
    try:
        api = target.api()
        status = api.status()
    except CoordinatorUntrusted:
        if target.known_root() is None or not target.context.policy:
            raise
        api = CoordinatorApi(Connection(target.address, target.attest(any_root=True).coordinator.root))
        status = api.status()
        if status.code != RECOVERY:
            raise
    return {
        "Coordinator": target.address,
        "Code": status.code,
        "Message": status.message,
        "RootSHA256": api.connection.root.fingerprint(SHA256()).hex(),
    }


@connected
def command(target: Target, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show the coordinator's state: 1 recovery, 2 waits for a manifest, 3 accepts marbles."""
    show(report(target), output)
