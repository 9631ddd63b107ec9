"""Who calls: a user or a marble, known by the client certificate of this very connection and by nothing else.

TLS has proven that the caller holds the certificate's key (`transport.tls`) and has judged nothing more. A user's
certificate is one of the manifest, byte for byte. A marble's was issued directly below the marble root, or below one
that came before it and is still accepted, is valid now, and carries MarbleRun's extension with the marble type. A
secret can be a CA below the marble root too, so nothing that has a further certificate in between is a marble.

Both are functions of the deployment, because a change has to know the caller in the deployment that it changes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import Unauthorized
from confidential_bookstore.pki.names import marble_type_of
from coordinator.deployment.deployment import Deployment
from coordinator.manifest.users import UserSpec

C = TypeVar("C")

# Who calls, in a given deployment. Raises Unauthorized.
Identify = Callable[[Deployment], C]


@dataclass(frozen=True, slots=True)
class Marble:
    """An activated marble."""

    marble_type: str
    uuid: UUID


def anybody(_certificate_der: bytes | None, _now: dt.datetime) -> Identify[None]:
    """The caller does not matter."""
    return lambda _deployment: None


def user(certificate_der: bytes | None, _now: dt.datetime) -> Identify[UserSpec]:
    """The user with this client certificate. Who issued it and whether it has expired does not matter."""

    def identify(deployment: Deployment) -> UserSpec:
        manifest = deployment.manifest
        found = manifest.user_of(certificate_der) if manifest is not None and certificate_der is not None else None
        if found is None:
            raise Unauthorized("unauthorized user: client certificate did not match any MarbleRun users")
        return found

    return identify


def marble(certificate_der: bytes | None, now: dt.datetime) -> Identify[Marble]:
    """The marble with this client certificate."""

    def identify(deployment: Deployment) -> Marble:
        if certificate_der is None:
            raise Unauthorized("unauthorized marble: client certificate did not match any Marble")
        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
            marble_type = marble_type_of(certificate)
            roots = list(_accepted_roots(deployment, marble_type, now))
            if not any(_issued(certificate, root) for root in roots):
                raise Unauthorized("unauthorized marble: x509: certificate signed by unknown authority")
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                raise Unauthorized("unauthorized marble: x509: certificate has expired or is not yet valid")
            if marble_type is None:
                raise Unauthorized("unauthorized marble: certificate has no marble type")
            return Marble(marble_type, _uuid(certificate))
        except MALFORMED:
            raise Unauthorized("unauthorized marble: certificate cannot be read") from None

    return identify


def _accepted_roots(deployment: Deployment, marble_type: str | None, now: dt.datetime) -> Iterator[x509.Certificate]:
    """The marble roots below which a certificate of this type is accepted now."""
    yield deployment.authority.marble_root
    for generation in deployment.generations.previous:
        if now < min(generation.until, generation.revoked.get(marble_type or "", generation.until)):
            yield generation.marble_root


def _uuid(certificate: x509.Certificate) -> UUID:
    """The common name. The coordinator has written it, and with the type extension nothing else."""
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return UUID(str(name.value))


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (*MALFORMED, InvalidSignature):
        return False
    return True
