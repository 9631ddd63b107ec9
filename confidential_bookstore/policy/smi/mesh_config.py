"""MeshConfig of OSM, as far as it means something here: permissive mode and egress. Both are false if left out.

OSM's own default is permissive. A field that nothing here would obey is refused.
"""

from __future__ import annotations

from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.model import MeshConfig

API_VERSIONS = ("config.openservicemesh.io/v1alpha1", "config.openservicemesh.io/v1alpha2")


def read_mesh_config(document: Document) -> MeshConfig:
    """The configuration.

    Raises:
        PolicyError: it has another form, or asks for what this mesh does not have.
    """
    spec = document.spec.map(("traffic",))
    traffic = spec["traffic"].map((), ("enablePermissiveTrafficPolicyMode", "enableEgress"))
    return MeshConfig(
        permissive="enablePermissiveTrafficPolicyMode" in traffic
        and traffic["enablePermissiveTrafficPolicyMode"].boolean(),
        egress="enableEgress" in traffic and traffic["enableEgress"].boolean(),
        origin=document.whole.origin,
    )
