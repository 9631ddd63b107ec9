"""Making the values of a manifest's secrets.

    shared symmetric key    random, once, when the manifest is set
    unique symmetric key    HKDF of the root secret, so the same marble gets the same key again
    certificate             key pair and certificate below the marble root; shared ones once, unique ones per activation
    user-defined            uploaded, never made here

No state and no locks: the caller keeps what it gets. RSA keys take up to seconds; call from a thread.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import TypeAlias
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confidential_bookstore.errors import ManifestError
from confidential_bookstore.secret import Secret
from coordinator.manifest import SecretSpec
from coordinator.pki.authority import Authority
from coordinator.pki.building import RandomBytes, issuer_key_identifier, serial_number
from coordinator.secret_value import SecretType, SecretValue

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_CURVES: dict[int, ec.EllipticCurve] = {
    224: ec.SECP224R1(),
    256: ec.SECP256R1(),
    384: ec.SECP384R1(),
    521: ec.SECP521R1(),
}


def generate_shared(
    spec: SecretSpec, authority: Authority, now: dt.datetime, random: RandomBytes = os.urandom
) -> SecretValue:
    """A new value of a secret that is the same for all marbles and that nobody uploads.

    Args:
        spec: defines it.
        authority: signs its certificate, if it has one.
        now: start of validity, with a time zone.
        random: bytes of keys and serial numbers.

    Raises:
        ManifestError: the certificate would have ended already.
    """
    if spec.type is SecretType.SYMMETRIC_KEY:
        return _symmetric(spec, random(spec.size // 8))
    return _certificate(spec, authority, now, random)


def generate_unique(
    spec: SecretSpec,
    authority: Authority,
    root_secret: Secret[bytes],
    *,
    marble_type: str,
    uuid: UUID,
    binding: bool,
    now: dt.datetime,
    random: RandomBytes = os.urandom,
) -> SecretValue:
    """One marble's own value of a secret that is neither shared nor user-defined.

    Raises:
        ManifestError: a certificate would have ended already.
    """
    if spec.type is SecretType.SYMMETRIC_KEY:
        key = unique_symmetric(root_secret, uuid, spec.name, marble_type, spec.size, binding=binding)
        return _symmetric(spec, key)
    return _certificate(spec, authority, now, random)


def unique_symmetric(
    root_secret: Secret[bytes], uuid: UUID, name: str, marble_type: str, size: int, *, binding: bool
) -> bytes:
    """MarbleRun's derivation: HKDF-SHA256 with the salt `<canonical UUID><secret name>` and the marble type as info.

    Args:
        root_secret: input key material, 32 random bytes of the deployment.
        uuid: of the marble.
        name: of the secret.
        marble_type: of the marble.
        size: in bits.
        binding: False leaves the marble type out (`DisableSecretBinding`): another type with this UUID gets this key.
    """
    salt = f"{uuid}{name}".encode()
    info = marble_type.encode() if binding else b""
    return HKDF(algorithm=hashes.SHA256(), length=size // 8, salt=salt, info=info).derive(root_secret.reveal())


def _symmetric(spec: SecretSpec, key: bytes) -> SecretValue:
    return SecretValue(type=spec.type, size=spec.size, shared=spec.shared, private=Secret(key), public=Secret(key))


def _certificate(spec: SecretSpec, authority: Authority, now: dt.datetime, random: RandomBytes) -> SecretValue:
    template = spec.certificate
    not_after = template.not_after or now + dt.timedelta(days=spec.lifetime_days)
    if not_after <= now:
        raise ManifestError(f"Secrets.{spec.name}.Cert.NotAfter: has passed", got=not_after.isoformat())
    key = _private_key(spec)
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject_name())
        .issuer_name(authority.marble_root.subject)
        .public_key(key.public_key())
        .serial_number(serial_number(random))
        .not_valid_before(now)
        .not_valid_after(not_after)
        .add_extension(issuer_key_identifier(authority.marble_root), critical=False)
    )
    for extension, critical in template.extensions():
        builder = builder.add_extension(extension, critical=critical)
    if template.is_ca and not template.subject_key_id:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    certificate = builder.sign(authority.intermediate_key, template.signature_hash)
    der = serialization.Encoding.DER
    return SecretValue(
        type=spec.type,
        size=spec.size,
        shared=spec.shared,
        valid_for=spec.valid_for,
        certificate=certificate.public_bytes(der),
        private=Secret(key.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())),
        public=Secret(key.public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)),
    )


def _private_key(spec: SecretSpec) -> PrivateKey:
    if spec.type is SecretType.CERT_ECDSA:
        return ec.generate_private_key(_CURVES[spec.size])
    if spec.type is SecretType.CERT_RSA:
        return rsa.generate_private_key(public_exponent=65537, key_size=spec.size)
    return ed25519.Ed25519PrivateKey.generate()
