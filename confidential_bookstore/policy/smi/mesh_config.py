"""MeshConfig of OSM, as far as it means something here: permissive mode and egress. Both are false if left out.

OSM's own default is permissive. A field that nothing here would obey is refused.
"""

from __future__ import annotations

from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.fields import Field
from confidential_bookstore.policy.smi.model import MeshConfig

_TRAFFIC = ("enablePermissiveTrafficPolicyMode", "enableEgress")
_OF_OSM = frozenset(
    {
        *("certificate", "featureFlags", "observability", "sidecar"),
        *("inboundExternalAuthorization", "inboundPortExclusionList", "networkInterfaceExclusionList"),
        *("outboundIPRangeExclusionList", "outboundIPRangeInclusionList", "outboundPortExclusionList"),
    }
)
API_VERSIONS = ("config.openservicemesh.io/v1alpha1", "config.openservicemesh.io/v1alpha2")


def read_mesh_config(document: Document) -> MeshConfig:
    """The configuration.

    Raises:
        PolicyError: it has another form, or asks for what this mesh does not have.
    """
    _only(document.spec, ("traffic",))
    spec = document.spec.map(("traffic",))
    _only(spec["traffic"], _TRAFFIC)
    traffic = spec["traffic"].map((), _TRAFFIC)
    return MeshConfig(
        permissive="enablePermissiveTrafficPolicyMode" in traffic
        and traffic["enablePermissiveTrafficPolicyMode"].boolean(),
        egress="enableEgress" in traffic and traffic["enableEgress"].boolean(),
        origin=document.whole.origin,
    )


def _only(field: Field, known: tuple[str, ...]) -> None:
    for name, value in field.pairs():
        if name in _OF_OSM and name not in known:
            raise value.error("OSM has this, this mesh does not", expected=" or ".join(known))
