"""The section `TLS`: tags that turn a marble's plain connections into TLS (transparent TLS)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.manifest.fields import Fields, Node, one_of
from coordinator.manifest.secrets import SecretSpec

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingSpec:
    """Connections to this address get TLS with the marble's certificate."""

    address: str
    port: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingSpec:
    """Connections to this port get TLS. `certificate` names a secret; empty: the marble's own certificate."""

    port: str
    certificate: str
    disable_client_auth: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTagSpec:
    """One tag; marbles refer to it by its name."""

    name: str
    outgoing: tuple[OutgoingSpec, ...]
    incoming: tuple[IncomingSpec, ...]


def read_tls_tag(name: str, node: Node, *, secrets: Mapping[str, SecretSpec]) -> TlsTagSpec:
    """Read and check one entry of `TLS`.

    Raises:
        ManifestError: a field is malformed or missing, or the fields do not go together.
    """
    fields = node.fields(("Outgoing", "Incoming"))
    return TlsTagSpec(
        name=name,
        outgoing=tuple(_read_outgoing(item) for item in fields.items("Outgoing")),
        incoming=tuple(_read_incoming(item, secrets) for item in fields.items("Incoming")),
    )


def _read_outgoing(node: Node) -> OutgoingSpec:
    fields = node.fields(("Port", "Addr"))
    address = fields.text("Addr")
    if not address:
        raise node.error("outgoing connection without Addr")
    return OutgoingSpec(address=address, port=_read_port(fields))


def _read_incoming(node: Node, secrets: Mapping[str, SecretSpec]) -> IncomingSpec:
    fields = node.fields(("Port", "Cert", "DisableClientAuth"))
    incoming = IncomingSpec(
        port=_read_port(fields),
        certificate=fields.text("Cert"),
        disable_client_auth=fields.boolean("DisableClientAuth"),
    )
    name = incoming.certificate
    if name and (name not in secrets or not secrets[name].type.is_certificate):
        certificates = (secret.name for secret in secrets.values() if secret.type.is_certificate)
        raise fields.found["Cert"].error(
            "not a secret with a certificate", got=ascii(name[:80]), expected=one_of(certificates)
        )
    if name and not incoming.disable_client_auth:
        raise node.error(
            "Cert needs DisableClientAuth",
            hint="clients that are no marbles see another certificate, and have none that could be checked",
        )
    if incoming.disable_client_auth and not name:
        raise node.error("DisableClientAuth needs a Cert", hint="name a secret with a certificate that clients trust")
    return incoming


def _read_port(fields: Fields) -> str:
    port = fields.text("Port")
    if not port:
        raise fields.node.error("connection without Port", hint='Port is a string, such as "8443"')
    if not _PORT.fullmatch(port) or int(port) > _HIGHEST_PORT:
        raise fields.found["Port"].error("not a port", got=ascii(port[:80]), expected=f"1 to {_HIGHEST_PORT}")
    return port
