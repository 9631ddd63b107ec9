"""The certificates of a simulated provisioning authority, shaped like Intel's.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification. Every certificate carries key
identifiers, key usage, basic constraints and a CRL distribution point, because Intel's own quote verification library
insists on them. Every name says SIMULATION.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from confidential_bookstore.attestation.simulation import der
from confidential_bookstore.attestation.simulation.quoting import Machine

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
STANDARD_SGX = 0  # SGX type


def sgx_extension(machine: Machine) -> bytes:
    """The extension that ties a PCK certificate to one CPU and its TCB (profile specification, section 1.3.5)."""
    oid = SGX_EXTENSION_OID
    tcb = [_pair(f"{oid}.2.{index}", der.integer(svn)) for index, svn in enumerate(machine.cpu_svn, start=1)]
    tcb.append(_pair(f"{oid}.2.17", der.integer(machine.pce_svn)))
    tcb.append(_pair(f"{oid}.2.18", der.octet_string(machine.cpu_svn)))
    items = [
        _pair(f"{oid}.1", der.octet_string(machine.ppid)),
        _pair(f"{oid}.2", der.sequence(*tcb)),
        _pair(f"{oid}.3", der.octet_string(machine.pce_id)),
        _pair(f"{oid}.4", der.octet_string(machine.fmspc)),
        _pair(f"{oid}.5", der.enumerated(STANDARD_SGX)),
    ]
    if machine.instance_id is not None:
        dynamic_platform = cached_keys = smt_enabled = False
        flags = (dynamic_platform, cached_keys, smt_enabled)
        configuration = [_pair(f"{oid}.7.{index}", der.boolean(flag)) for index, flag in enumerate(flags, start=1)]
        items.append(_pair(f"{oid}.6", der.octet_string(machine.instance_id)))
        items.append(_pair(f"{oid}.7", der.sequence(*configuration)))
    return der.sequence(*items)


def _pair(oid: str, value: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), value)


def issue(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    validity: tuple[dt.datetime, dt.datetime],
    path_length: int | None = None,
    machine: Machine | None = None,
) -> x509.Certificate:
    """A certificate; self-signed without `issuer`, a CA with `path_length`, a PCK certificate with `machine`."""
    subject = _name(common_name)
    not_before, not_after = validity
    is_ca = path_length is not None
    crl = x509.UniformResourceIdentifier("https://simulation.invalid/crl.der")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(is_ca, path_length), critical=True)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.CRLDistributionPoints([x509.DistributionPoint([crl], None, None, None)]),
            critical=False,
        )
    )
    if machine is not None:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION_OID), sgx_extension(machine))
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def revocation_list(
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    revoked: Iterable[x509.Certificate],
    *,
    issued: dt.datetime,
    next_update: dt.datetime,
) -> bytes:
    """A version 2 CRL in DER; of `revoked`, it lists those that `issuer` issued."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(issued)
        .next_update(next_update)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for certificate in revoked:
        if certificate.issuer == issuer.subject:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(issued)
            reason = x509.CRLReason(x509.ReasonFlags.unspecified)
            builder = builder.add_revoked_certificate(entry.add_extension(reason, critical=False).build())
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def pem_chain(*certificates: x509.Certificate) -> bytes:
    """Concatenated PEM, in the order given."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SIMULATION - NOT INTEL"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"SIMULATION {common_name}"),
        ]
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
