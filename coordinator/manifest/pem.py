"""PEM inside a manifest: certificates and public keys, the first block counts, as in Go."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from confidential_bookstore.attestation.roots import MALFORMED
from coordinator.manifest.fields import Node


def certificate_der(node: Node) -> bytes:
    """The first certificate of a PEM text, byte for byte as it was encoded.

    Raises:
        ManifestError: it is none, or cannot be parsed.
    """
    der = _first_block(node, "CERTIFICATE")
    try:
        x509.load_der_x509_certificate(der).public_key()
    except MALFORMED:
        raise node.error("certificate cannot be parsed") from None
    return der


def public_key(node: Node) -> PublicKeyTypes:
    """The key of the first `PUBLIC KEY` (SubjectPublicKeyInfo) of a PEM text.

    Raises:
        ManifestError: it is none, or cannot be parsed.
    """
    der = _first_block(node, "PUBLIC KEY")
    try:
        return serialization.load_der_public_key(der)
    except MALFORMED:
        raise node.error("public key cannot be parsed") from None


def _first_block(node: Node, label: str) -> bytes:
    text = node.text()
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    _, found, rest = text.partition(begin)
    content, closed, _ = rest.partition(end)
    if not found or not closed:
        other = text.partition("-----BEGIN ")[2].partition("-----")[0]
        raise node.error(f"not a PEM {label}", got=ascii(other[:40]) if other else "no PEM block", expected=begin)
    try:
        return base64.b64decode("".join(content.split()).encode("ascii"), validate=True)
    except ValueError:
        raise node.error(f"PEM {label} is not base64") from None
