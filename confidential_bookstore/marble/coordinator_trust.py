"""Verifies the coordinator before anything is sent to it.

An original marble trusts whoever answers at the coordinator's address. This one first asks for a quote over a fresh
nonce and accepts the coordinator by what it runs (a package), or by a root certificate known beforehand. From that
root the trust goes on in certificates: the root signed the intermediate, and the mesh server's certificate ("Marble
Root") has the intermediate's key. Exactly that certificate is then pinned for the activation. Until then nothing but
a nonce and a self-signed certificate has left this process.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import secrets
import socket
import ssl
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confidential_bookstore.attestation.binding import coordinator_report_data
from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.enclave import MeasuredConfig
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import (
    AttestationError,
    CollateralUnavailable,
    ConfigurationError,
    CoordinatorUnavailable,
    CoordinatorUntrusted,
)
from confidential_bookstore.marble.tls import split_address, unverified_context
from confidential_bookstore.secret import Secret

_SECONDS = 10.0
_LARGEST_ANSWER = 256 * 1024
_NONCE_BYTES = 32


@dataclass(frozen=True, slots=True)
class CoordinatorTrust:
    """By what this marble knows its coordinator: the code it runs, a root certificate, or both. Never by neither.

    Raises:
        ConfigurationError: there is neither.
    """

    verifier: Verifier | None
    package: Package | None = None
    pinned_root: x509.Certificate | None = None

    def __post_init__(self) -> None:
        if self.package is None and self.pinned_root is None:
            raise ConfigurationError("a coordinator is trusted by its package or by its root certificate; give one")
        if self.package is not None and self.verifier is None:
            raise ConfigurationError("checking the coordinator's package needs a verifier")


def measured_package(measured: MeasuredConfig, platform: Platform) -> Package:
    """The coordinator that an enclave's configuration requires, of the enclave's own signer unless it names another.

    Raises:
        ConfigurationError: it requires none, or the platform knows no signers.
        PlatformError: no quote could be made.
    """
    wanted = measured.config.coordinator
    if wanted is None:
        raise ConfigurationError("enclave.json names no coordinator", hint='add "coordinator": {"productID": ..., ...}')
    signer = wanted.signer_id or parse_quote(platform.quote(bytes(64))).mr_signer
    if not signer:
        raise ConfigurationError(f"platform {platform.name} has no signer to know the coordinator by")
    return Package(signer_id=signer, product_id=wanted.product_id, security_version=wanted.security_version)


@dataclass(frozen=True, slots=True)
class VerifiedCoordinator:
    """A coordinator whose evidence was accepted. `claims` is None if only its root certificate was known."""

    root: x509.Certificate
    intermediate: x509.Certificate
    claims: Claims | None


@dataclass(frozen=True, slots=True)
class MeshCertificate:
    """The certificate of the mesh server, to be pinned, and a name in it for gRPC to compare."""

    pem: bytes
    server_name: str


async def verify_coordinator(
    address: str, trust: CoordinatorTrust, *, new_nonce: Callable[[int], bytes] = secrets.token_bytes
) -> VerifiedCoordinator:
    """Asks the client API at `address` for evidence, and judges it.

    Raises:
        CoordinatorUnavailable: no answer, no quote yet, or no collateral to verify it with.
        CoordinatorUntrusted: the answer is not accepted.
    """
    nonce = new_nonce(_NONCE_BYTES)
    tls_certificate, answer = await asyncio.to_thread(_fetch_quote, address, nonce)
    intermediate, root, quote = _parse(answer)
    if tls_certificate != root.public_bytes(Encoding.DER):
        raise CoordinatorUntrusted("the coordinator's answer names another root than the connection has")
    _require_issued(root, root)
    _require_issued(intermediate, root)
    if trust.pinned_root is not None and root != trust.pinned_root:
        raise CoordinatorUntrusted(
            "the coordinator has another root certificate",
            got=_fingerprint(root),
            expected=_fingerprint(trust.pinned_root),
        )
    claims = None
    if trust.package is not None and trust.verifier is not None:
        claims = await _judge_quote(trust.verifier, trust.package, quote, tls_certificate, nonce)
    return VerifiedCoordinator(root, intermediate, claims)


async def _judge_quote(verifier: Verifier, package: Package, quote: bytes, root_der: bytes, nonce: bytes) -> Claims:
    try:
        claims = await verifier.verify(quote, coordinator_report_data(root_der, nonce))
        package.check(claims)
    except CollateralUnavailable as error:
        raise CoordinatorUnavailable(f"the coordinator cannot be verified now: {error}", hint=error.hint) from error
    except AttestationError as error:
        raise CoordinatorUntrusted(f"the coordinator's quote is not accepted: {error}", hint=error.hint) from error
    return claims


async def mesh_certificate(
    address: str, verified: VerifiedCoordinator, *, chain_pem: bytes, key_pem: Secret[bytes]
) -> MeshCertificate:
    """Takes the certificate of the mesh server at `address` and checks that it belongs to the verified coordinator.

    `chain_pem` and `key_pem` are this marble's self-signed client certificate, which the server requires.

    Raises:
        CoordinatorUnavailable: no handshake.
        CoordinatorUntrusted: the certificate has another key than the coordinator's intermediate, or no DNS name.
    """
    context = unverified_context(chain_pem=chain_pem, key_pem=key_pem, alpn=("h2",))
    served = await asyncio.to_thread(_served_certificate, address, context)
    try:
        certificate = x509.load_der_x509_certificate(served)
        belongs = _public_key(certificate) == _public_key(verified.intermediate)
    except MALFORMED as error:
        raise CoordinatorUntrusted(f"the server at {address} shows a malformed certificate") from error
    if not belongs:
        raise CoordinatorUntrusted(f"the server at {address} is not the verified coordinator's")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        server_name = names.get_values_for_type(x509.DNSName)[0]
    except (*MALFORMED, x509.ExtensionNotFound, IndexError):
        raise CoordinatorUntrusted(
            "the coordinator's certificate has no DNS name", hint="set EDG_COORDINATOR_DNS_NAMES for the coordinator"
        ) from None
    return MeshCertificate(certificate.public_bytes(Encoding.PEM), server_name)


def _fetch_quote(address: str, nonce: bytes) -> tuple[bytes, bytes]:
    """Returns the TLS certificate (DER) and the body of the answer."""
    host, port = split_address(address)
    connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=unverified_context())
    query = urllib.parse.urlencode({"nonce": base64.urlsafe_b64encode(nonce).decode()})
    try:
        connection.request("GET", f"/api/v2/quote?{query}")
        tls = connection.sock
        certificate = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLSocket) else None
        response = connection.getresponse()
        body = response.read(_LARGEST_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise CoordinatorUnavailable(
            f"no answer from the coordinator's client API at {address}",
            got=getattr(error, "strerror", None) or str(error) or type(error).__name__,
            hint="check that the coordinator runs and that CBS_COORDINATOR_CLIENT_ADDR is right",
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise CoordinatorUnavailable(
            "the coordinator gives no quote now", got=f"HTTP {response.status}", expected="200"
        )
    if certificate is None or len(body) > _LARGEST_ANSWER:
        raise CoordinatorUntrusted("the coordinator's answer is too large", expected=f"at most {_LARGEST_ANSWER} bytes")
    return certificate, body


def _parse(answer: bytes) -> tuple[x509.Certificate, x509.Certificate, bytes]:
    """Intermediate, root and quote of `{"status":"success","data":{"cert":PEM,"quote":base64 or null}}`."""
    try:
        data: Any = json.loads(answer)["data"]
        intermediate, root = x509.load_pem_x509_certificates(data["cert"].encode())
        quote = base64.b64decode(data["quote"] or "", validate=True)
    except (*MALFORMED, KeyError, AttributeError, RecursionError) as error:
        raise CoordinatorUntrusted(f"the coordinator's answer is malformed: {error}") from error
    return intermediate, root, quote


def _served_certificate(address: str, context: ssl.SSLContext) -> bytes:
    host, port = split_address(address)
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as plain, context.wrap_socket(plain) as tls:
            der = tls.getpeercert(binary_form=True)
    except OSError as error:
        raise CoordinatorUnavailable(
            f"no TLS with the coordinator's mesh API at {address}",
            got=getattr(error, "reason", None) or error.strerror or type(error).__name__,
            hint="check that the coordinator has a manifest and that EDG_MARBLE_COORDINATOR_ADDR is right",
        ) from error
    if der is None:
        raise CoordinatorUntrusted(f"the server at {address} shows no certificate")
    return der


def _require_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*MALFORMED, InvalidSignature) as error:
        subject = certificate.subject.rfc4514_string()
        raise CoordinatorUntrusted("a certificate of the coordinator is not signed by its root", got=subject) from error


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()
