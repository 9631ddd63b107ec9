"""MeshService: a service of the mesh, in one document. Kubernetes knows the same from Service and Deployment.

apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: bookstore, namespace: bookstore}
spec:
  serviceAccount: bookstore       # in the same namespace
  port: 14001
  appProtocol: grpc               # what the application speaks: grpc, http or tcp
  marble: bookstore               # its marble type, if it is a marble
  grpcServices: [confidential_bookstore.api.bookstore.v1.BookstoreService]
"""

from __future__ import annotations

import re

from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.model import Account, Protocol, Service

API_VERSIONS = ("mesh.confidential-bookstore/v1alpha1",)
_GRPC_SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def read_service(document: Document) -> Service:
    """The service.

    Raises:
        PolicyError: it has another form.
    """
    spec = document.spec.map(("serviceAccount", "port", "appProtocol"), ("marble", "grpcServices"))
    protocol = Protocol(spec["appProtocol"].one_of([each.value for each in Protocol]))
    grpc_services: list[str] = []
    if "grpcServices" in spec:
        if protocol is not Protocol.GRPC:
            raise spec["grpcServices"].error("only a service that speaks gRPC has gRPC services", got=protocol.value)
        for entry in spec["grpcServices"].list():
            if not _GRPC_SERVICE.fullmatch(entry.text()):
                raise entry.error("is no full name of a gRPC service", got=entry.text(), expected="package.Service")
            grpc_services.append(entry.text())
    return Service(
        name=document.label(),
        namespace=document.namespace,
        account=Account(spec["serviceAccount"].label(), document.namespace),
        port=spec["port"].integer(1, 65535),
        protocol=protocol,
        marble=spec["marble"].label() if "marble" in spec else "",
        grpc_services=tuple(grpc_services),
        origin=document.whole.origin,
    )
