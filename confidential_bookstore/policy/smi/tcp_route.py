"""TCPRoute: connections to some ports. `ports: []` means every port, as in SMI."""

from __future__ import annotations

from dataclasses import dataclass

from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.fields import Field
from confidential_bookstore.policy.smi.model import Origin

API_VERSIONS = ("specs.smi-spec.io/v1alpha4",)


@dataclass(frozen=True, slots=True)
class TcpRoute:
    """Ports, and where each is written; none means every port."""

    ports: dict[int, Field]
    origin: Origin


def read_tcp_route(document: Document) -> TcpRoute:
    """The route.

    Raises:
        PolicyError: it has another form.
    """
    ports: dict[int, Field] = {}
    for entry in document.spec.map(("matches",))["matches"].map(("ports",))["ports"].list(empty=True):
        port = entry.integer(1, 65535)
        if port in ports:
            raise entry.error("stands there twice", got=port)
        ports[port] = entry
    return TcpRoute(ports, document.whole.origin)
