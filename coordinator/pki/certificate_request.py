"""What a marble's certificate request may ask for: DNS names and IP addresses, after checks.

The host chooses the names in a request, so no name is taken that would make one marble look like another: none below
the trust domain, none that is another marble type's name or begins with it (`bookstore.shop.svc.cluster.local` is the
bookstore's in a cluster), and no wildcard, which could cover such a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from confidential_bookstore.errors import InvalidRequest
from coordinator.pki.certificate_template import IPAddress

MAX_REQUEST_SIZE = 16 * 1024
MAX_NAMES = 64

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")


def requested_names(
    csr_der: bytes, *, trust_domain: str, reserved_names: Collection[str]
) -> list[x509.DNSName | x509.IPAddress]:
    """The subject alternative names of a PKCS#10 request, in its order.

    Raises:
        InvalidRequest: it is too large, malformed, not signed by its own key, or a name in it is refused.
    """
    names = _alternative_names(_verified_request(csr_der))
    if len(names) > MAX_NAMES:
        raise InvalidRequest("certificate request has too many names", got=len(names), expected=f"at most {MAX_NAMES}")
    reserved = {name.lower() for name in reserved_names}
    accepted: list[x509.DNSName | x509.IPAddress] = []
    for name in names:
        if isinstance(name, x509.DNSName):
            _check_dns_name(name.value, trust_domain.lower(), reserved)
        elif not (isinstance(name, x509.IPAddress) and isinstance(name.value, IPAddress)):
            raise InvalidRequest(
                "certificate request has a name of a kind that is not issued",
                got=type(name).__name__,
                expected="DNS names and IP addresses",
            )
        accepted.append(name)
    return accepted


def _verified_request(csr_der: bytes) -> x509.CertificateSigningRequest:
    if len(csr_der) > MAX_REQUEST_SIZE:
        raise InvalidRequest(
            "certificate request is too large", got=f"{len(csr_der)} bytes", expected=f"at most {MAX_REQUEST_SIZE}"
        )
    try:
        request = x509.load_der_x509_csr(csr_der)
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InvalidRequest("certificate request cannot be read", expected="PKCS#10 in DER") from error
    if not signed:
        raise InvalidRequest("certificate request is not signed by its own key")
    return request


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise InvalidRequest("extensions of the certificate request cannot be read") from error


def _check_dns_name(name: str, trust_domain: str, reserved: Collection[str]) -> None:
    if not _DNS_NAME.fullmatch(name):
        raise InvalidRequest(
            "certificate request asks for something that is not a DNS name",
            got=ascii(name[:80]),
            expected="letters, digits, '-', '_' and '.', without wildcards",
        )
    lowered = name.lower()
    if lowered == trust_domain or lowered.endswith(f".{trust_domain}"):
        raise InvalidRequest(
            "certificate request asks for a name below the trust domain",
            got=name,
            hint="the coordinator adds the marble's own name there; take it out of EDG_MARBLE_DNS_NAMES",
        )
    if any(lowered == other or lowered.startswith(f"{other}.") for other in reserved):
        raise InvalidRequest(
            "certificate request asks for the name of another marble type",
            got=name,
            hint="take it out of EDG_MARBLE_DNS_NAMES, or start the marble with that type",
        )
