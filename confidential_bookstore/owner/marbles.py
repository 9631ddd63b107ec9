"""Which marbles a coordinator has admitted or refused, from its /events page for operators.

The page is plain HTTP: good for an overview, no proof of anything. What MarbleRun's page does not say is read from the
quotes in it, which nobody verifies here.
"""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import json
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.errors import AttestationError, CoordinatorUnavailable
from confidential_bookstore.marble.tls import split_address

_SECONDS = 10.0
_LARGEST_PAGE = 32 << 20  # bytes; quotes are in it


@dataclass(frozen=True, slots=True)
class AdmittedMarble:
    """The latest activation of a marble. What the page does not say is empty or None."""

    marble_type: str
    uuid: str
    time: str
    unique_id: str
    security_version: int | None
    simulated: bool | None
    certificate_expires: str
    activations: int

    def valid(self, now: dt.datetime) -> bool | None:
        """Whether its certificate is; None if nobody knows."""
        try:
            return dt.datetime.fromisoformat(self.certificate_expires) > now
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class RefusedMarble:
    """What called itself so, and why it was refused."""

    marble_type: str
    uuid: str
    time: str
    reason: str


def fetch_events(address: str) -> bytes:
    """The page at `address` (`host:port`).

    Raises:
        CoordinatorUnavailable: it cannot be had.
    """
    host, port = split_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    hint = "give the address in EDG_COORDINATOR_PROMETHEUS_ADDR: --metrics HOST:PORT"
    try:
        connection.request("GET", "/events")
        response = connection.getresponse()
        page = response.read(_LARGEST_PAGE + 1)
    except (OSError, http.client.HTTPException) as error:
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CoordinatorUnavailable(f"no page for operators at {address}", got=got, hint=hint) from error
    finally:
        connection.close()
    if response.status != http.client.OK or len(page) > _LARGEST_PAGE:
        raise CoordinatorUnavailable(f"no page for operators at {address}", got=f"HTTP {response.status}", hint=hint)
    return page


def read_events(page: bytes) -> tuple[tuple[AdmittedMarble, ...], tuple[RefusedMarble, ...]]:
    """Marbles that were admitted, by type and UUID, and refusals, oldest first.

    Raises:
        CoordinatorUnavailable: it is no such page.
    """
    admitted: dict[tuple[str, str], AdmittedMarble] = {}
    refused: list[RefusedMarble] = []
    try:
        events = json.loads(page)
        if not isinstance(events, list | None):
            raise TypeError
        for event in events or []:
            if "activation" in event:
                marble = event["activation"]
                key = (str(marble["marbleType"]), str(marble["uuid"]))
                count = admitted[key].activations + 1 if key in admitted else 1
                admitted[key] = _admitted(str(event["time"]), marble, count)
            elif "denial" in event:
                marble = event["denial"]
                words = (marble["marbleType"], marble["uuid"], event["time"], marble["reason"])
                refused.append(RefusedMarble(*map(str, words)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CoordinatorUnavailable("the page of events cannot be read", got=type(error).__name__) from error
    return tuple(admitted[key] for key in sorted(admitted)), tuple(refused)


def _admitted(time: str, marble: dict[str, Any], count: int) -> AdmittedMarble:
    return AdmittedMarble(
        marble_type=str(marble["marbleType"]),
        uuid=str(marble["uuid"]),
        time=time,
        unique_id=str(marble.get("uniqueID") or _claimed_unique_id(marble.get("quote"))),
        security_version=marble.get("securityVersion"),
        simulated=marble.get("simulated"),
        certificate_expires=str(marble.get("certificateExpires") or ""),
        activations=count,
    )


def _claimed_unique_id(quote: str | None) -> str:
    try:
        return parse_quote(base64.b64decode(quote or "")).mr_enclave
    except (AttestationError, ValueError):
        return ""
