"""`cbs marble list`: which marbles a coordinator has admitted and refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show_rows
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.marbles import AdmittedMarble, fetch_events, read_events


def _row(marble: AdmittedMarble, now: dt.datetime) -> dict[str, object]:
    code = marble.unique_id[:16] + (f", version {marble.security_version}" if marble.security_version else "")
    ends = {True: marble.certificate_expires[:19], False: "ended", None: None}[marble.valid(now)]
    return {
        "TYPE": marble.marble_type,
        "UUID": marble.uuid,
        "CODE": code,
        "SIMULATED": marble.simulated,
        "CERTIFICATE UNTIL": ends,
        "STARTS": marble.activations,
    }


@connected
def command(target: Target, output: OutputOption = OutputFormat.TEXT) -> None:
    """List marbles from the coordinator's page for operators: an overview without proof, the page is plain HTTP."""
    if not target.context.metrics:
        raise ConfigurationError("which page?", hint="--metrics HOST:PORT, as in EDG_COORDINATOR_PROMETHEUS_ADDR")
    admitted, refused = read_events(fetch_events(target.context.metrics))
    now = dt.datetime.now(dt.UTC)
    if output is OutputFormat.JSON:
        marbles = [{**dataclasses.asdict(marble), "valid": marble.valid(now)} for marble in admitted]
        print(json.dumps({"marbles": marbles, "refusals": [dataclasses.asdict(marble) for marble in refused]}))  # noqa: T201
        return
    show_rows([_row(marble, now) for marble in admitted])
    if not admitted:
        sys.stdout.write("no marble has been admitted\n")
    if refused:
        sys.stdout.write("\nrefused:\n")
        show_rows(
            [
                {"TIME": marble.time[:19], "TYPE": marble.marble_type, "UUID": marble.uuid, "REASON": marble.reason}
                for marble in refused
            ]
        )
