"""`cbs manifest show-update`: the update that waits for acknowledgements."""

from __future__ import annotations

import hashlib

from cli.connecting import Target, connected
from cli.files import OutOption, write_file
from cli.output import OutputFormat, OutputOption, show


@connected
def command(target: Target, out: OutOption = None, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show the pending update, and who may still acknowledge it. --out saves the manifest, to read and acknowledge."""
    pending = target.api().pending_update()
    if out is not None:
        write_file(out, pending.raw)
    show(
        {
            "Message": pending.message,
            "MayAcknowledge": pending.missing_users,
            "ManifestFingerprint": hashlib.sha256(pending.raw).hexdigest(),
            "Manifest": out,
        },
        output,
    )
