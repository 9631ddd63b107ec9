"""A small folder of policy that is right, for tests that make one thing wrong."""

from __future__ import annotations

FILE = "policy.yaml"

SERVICES = """\
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: buyer, namespace: shop}
spec: {serviceAccount: buyer, port: 14001, appProtocol: grpc, marble: buyer}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: store, namespace: shop}
spec: {serviceAccount: store, port: 14001, appProtocol: grpc, marble: store, grpcServices: [pkg.Store]}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: store-v1, namespace: shop}
spec: {serviceAccount: store, port: 14001, appProtocol: grpc, marble: store, grpcServices: [pkg.Store]}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: store-v2, namespace: shop}
spec: {serviceAccount: store-v2, port: 14001, appProtocol: grpc, marble: store-v2, grpcServices: [pkg.Store]}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: page, namespace: web}
spec: {serviceAccount: page, port: 8080, appProtocol: http}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: db, namespace: data}
spec: {serviceAccount: db, port: 3306, appProtocol: tcp}
"""

GROUP = """\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata:
  name: routes
  namespace: shop
spec:
  matches:
  - name: buy
    pathRegex: /pkg\\.Store/Buy
    methods: [POST]
    headers:
    - client-app: buyer
  - name: list
    pathRegex: /pkg\\.Store/List
"""

ROUTE = """\
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata:
  name: port
  namespace: shop
spec:
  matches:
    ports: [14001]
"""

TARGET = """\
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata:
  name: target
  namespace: shop
spec:
  destination:
    kind: ServiceAccount
    name: store
    namespace: shop
  sources:
  - kind: ServiceAccount
    name: buyer
    namespace: shop
  rules:
  - kind: HTTPRouteGroup
    name: routes
    matches: [buy]
  - kind: TCPRoute
    name: port
"""

SPLIT = """\
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata:
  name: split
  namespace: shop
spec:
  service: store
  matches:
  - kind: HTTPRouteGroup
    name: routes
  backends:
  - service: store-v1
    weight: 50
  - service: store-v2.shop
    weight: 50
"""

CONFIG = """\
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata:
  name: osm-mesh-config
  namespace: osm-system
spec:
  traffic:
    enablePermissiveTrafficPolicyMode: false
    enableEgress: false
"""

DOCUMENTS = {"group": GROUP, "route": ROUTE, "target": TARGET, "split": SPLIT, "config": CONFIG}


def texts(**changed: str) -> dict[str, str]:
    """All of it, one file each; of those named, another text."""
    return {"services.yaml": SERVICES} | {f"{name}.yaml": text for name, text in (DOCUMENTS | changed).items()}
