"""How a certificate says which marble it belongs to.

Three places carry the marble type, all written by the coordinator and never taken from a marble's request:

* MarbleRun's extension 1.3.9903.2.1, whose value is the raw ASCII marble type (not DER), which servers read per call;
* the URI name `spiffe://<trust domain>/marble/<type>`, which tells that this coordinator reserves names, and where;
* the DNS name `<type>.<trust domain>`, which clients give to gRPC as the name to verify, because gRPC compares host
  names and nothing else. Names below the trust domain are refused in certificate requests, so nobody else can have it.
"""

from __future__ import annotations

import re

from cryptography import x509

from confidential_bookstore.errors import ConfigurationError

MARBLE_TYPE_OID = x509.ObjectIdentifier("1.3.9903.2.1")
DEFAULT_TRUST_DOMAIN = "marbles.internal"

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_URI = re.compile(r"spiffe://([a-z0-9.-]+)/marble/([A-Za-z0-9._-]+)")


def marble_uri(marble_type: str, trust_domain: str) -> str:
    """The SPIFFE id of a marble type, for example `spiffe://marbles.internal/marble/bookstore`."""
    uri = f"spiffe://{trust_domain}/marble/{marble_type}"
    if not _URI.fullmatch(uri):
        raise ConfigurationError(
            "marble type or trust domain cannot stand in a certificate name",
            got=repr(uri),
            expected="letters, digits, '.', '_' and '-'",
        )
    return uri


def marble_dns_name(marble_type: str, trust_domain: str) -> str:
    """The DNS name that only marbles of this type have.

    A type that is not a DNS label (upper case, underscores, dots) is written in hex: two types never share a name.

    Raises:
        ConfigurationError: there is no trust domain, so nobody keeps such names for their types.
    """
    if not trust_domain:
        raise ConfigurationError(
            "the coordinator reserves no names, so that the type of a peer cannot be verified",
            hint="channels need this project's coordinator: an original one gives any name to any marble type",
        )
    if _DNS_LABEL.fullmatch(marble_type) and not marble_type.startswith("x--"):
        return f"{marble_type}.{trust_domain}"
    encoded = marble_type.encode().hex()
    labels = [encoded[i : i + 60] for i in range(0, len(encoded), 60)]
    return ".".join(["x--" + label for label in labels] + [trust_domain])


def marble_type_of(certificate: x509.Certificate) -> str | None:
    """The marble type in MarbleRun's extension; None if the certificate has none."""
    try:
        extension = certificate.extensions.get_extension_for_oid(MARBLE_TYPE_OID)
    except x509.ExtensionNotFound:
        return None
    assert isinstance(extension.value, x509.UnrecognizedExtension)  # noqa: S101  # the only class for an unknown OID
    return extension.value.value.decode("ascii", "replace")
