"""`cbs manifest verify`: is this the manifest in force?"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connecting import Target, connected
from cli.manifest_file import expected_fingerprint
from cli.output import OutputFormat, OutputOption, show
from cli.verify import require_manifest


@connected
def command(
    target: Target,
    manifest: Annotated[str, typer.Argument(help="A file, or a fingerprint.", metavar="FILE|HEX")],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Verify the coordinator, and that exactly this manifest is in force."""
    expected = expected_fingerprint(manifest)
    require_manifest(target.api(fresh=True).manifest(), expected)
    show({"Verdict": "verified", "ManifestFingerprint": expected}, output)
