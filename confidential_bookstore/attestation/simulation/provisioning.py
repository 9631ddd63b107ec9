"""One simulated machine: what Intel's factory and provisioning service would have made for it.

A platform is created once per installation and saved. Its root certificate is what a verifier pins; everything else is
secret, and whoever holds it can forge a CPU. Nothing here is ever shipped.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from confidential_bookstore.attestation.platforms.interface import SealPolicy
from confidential_bookstore.attestation.simulation import platform_file
from confidential_bookstore.attestation.simulation.certificates import issue, pem_chain
from confidential_bookstore.attestation.simulation.collateral import (
    DEFAULT_QE_LEVELS,
    DEFAULT_TCB_LEVELS,
    EVALUATION_NUMBER,
    CollateralIssuer,
    QeLevel,
    TcbLevel,
)
from confidential_bookstore.attestation.simulation.counters import MonotonicCounters
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity
from confidential_bookstore.attestation.simulation.quoting import (
    TD_REPORT_1_0,
    Machine,
    QuotingEnclave,
    sgx_report,
    td_report,
)
from confidential_bookstore.attestation.simulation.sealing import derive_sealing_key
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret

LIFETIME = dt.timedelta(days=7 * 365)
COLLATERAL_LIFETIME = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPlatform:
    """Keys and certificates of one simulated machine and of the authority that certified it."""

    authority: CollateralIssuer = field(repr=False)
    quoting_enclave: QuotingEnclave = field(repr=False)
    pck_certificate: x509.Certificate
    fuse_key: Secret[bytes]  # 32 bytes; sealing keys come from it
    counters: MonotonicCounters = field(default_factory=MonotonicCounters, repr=False, compare=False)

    @classmethod
    def create(
        cls,
        *,
        platform_ca: bool = False,
        now: float | None = None,
        lifetime: dt.timedelta = LIFETIME,
        collateral_lifetime: dt.timedelta = COLLATERAL_LIFETIME,
    ) -> SimulatedPlatform:
        """A new machine, certified by a new root.

        Args:
            platform_ca: certified by the Platform CA, as multi-package servers are, instead of the Processor CA.
            now: Unix seconds; certificates are valid from one hour earlier.
            lifetime: of the certificates.
            collateral_lifetime: of each TCB info, QE identity and CRL.
        """
        not_before = _moment(now) - dt.timedelta(hours=1)
        validity = (not_before, not_before + lifetime)
        machine = Machine(
            ppid=secrets.token_bytes(16),
            instance_id=secrets.token_bytes(16) if platform_ca else None,
            qe_id=secrets.token_bytes(16),
        )
        root_key, ca_key, signer_key, pck_key, attestation_key = (
            ec.generate_private_key(ec.SECP256R1()) for _ in "12345"
        )
        kind = "Platform" if platform_ca else "Processor"
        root = issue("SGX Root CA", root_key, issuer=None, issuer_key=root_key, path_length=1, validity=validity)
        ca = issue(f"SGX PCK {kind} CA", ca_key, issuer=root, issuer_key=root_key, path_length=0, validity=validity)
        signer = issue("SGX TCB Signing", signer_key, issuer=root, issuer_key=root_key, validity=validity)
        pck = issue("SGX PCK Certificate", pck_key, issuer=ca, issuer_key=ca_key, machine=machine, validity=validity)
        return cls(
            authority=CollateralIssuer(
                root=root,
                root_key=root_key,
                pck_ca=ca,
                pck_ca_key=ca_key,
                tcb_signer=signer,
                tcb_signer_key=signer_key,
                lifetime=collateral_lifetime,
            ),
            quoting_enclave=QuotingEnclave(
                machine=machine,
                pck_key=pck_key,
                pck_chain_pem=pem_chain(pck, ca, root),
                attestation_key=attestation_key,
            ),
            pck_certificate=pck,
            fuse_key=Secret(secrets.token_bytes(32)),
        )

    @property
    def machine(self) -> Machine:
        """What is burnt into the CPU."""
        return self.quoting_enclave.machine

    @property
    def root_pem(self) -> bytes:
        """The root certificate: what a verifier pins to accept this platform."""
        return pem_chain(self.authority.root)

    @property
    def root_der(self) -> bytes:
        """The same certificate in DER."""
        return self.authority.root.public_bytes(serialization.Encoding.DER)

    def quote_sgx(self, identity: EnclaveIdentity, report_data: bytes) -> bytes:
        """A version 3 quote of an enclave.

        Raises:
            PlatformError: the report data is not 64 bytes.
        """
        report = sgx_report(identity, report_data, cpu_svn=self.machine.cpu_svn)
        return self.quoting_enclave.quote_sgx(report)

    def quote_tdx(
        self, identity: TdIdentity, report_data: bytes, *, version: int = 4, body_type: int = TD_REPORT_1_0
    ) -> bytes:
        """A version 4 quote of a trust domain, or a version 5 one with body type 2 (TDX 1.0) or 3 (TDX 1.5).

        Raises:
            PlatformError: the report data is not 64 bytes.
        """
        report = td_report(identity, report_data, tcb_svn=self.machine.td_tcb_svn, body_type=body_type)
        return self.quoting_enclave.quote_tdx(report, version=version, body_type=body_type)

    def collateral(
        self,
        tee: str = "SGX",
        *,
        now: float | None = None,
        tcb_levels: Sequence[TcbLevel] = DEFAULT_TCB_LEVELS,
        qe_levels: Sequence[QeLevel] = DEFAULT_QE_LEVELS,
        revoked: Collection[x509.Certificate] = (),
        pce_id: bytes | None = None,
        fmspc: bytes | None = None,
        evaluation_number: int = EVALUATION_NUMBER,
    ) -> dcap_qvl.QuoteCollateralV3:
        """Fresh collateral for quotes of this machine.

        Args:
            tee: "SGX" or "TDX".
            now: Unix seconds; the documents are dated five minutes earlier.
            tcb_levels: highest first.
            qe_levels: highest first.
            revoked: certificates to put on the CRL of their issuer.
            pce_id: to name another PCE than the machine's.
            fmspc: to name another model than the machine's.
            evaluation_number: of TCB info and QE identity.
        """
        return self.authority.issue(
            self.machine,
            tee,
            now=_moment(now),
            tcb_levels=tcb_levels,
            qe_levels=qe_levels,
            revoked=revoked,
            pce_id=pce_id,
            fmspc=fmspc,
            evaluation_number=evaluation_number,
        )

    def sealing_key(self, identity: EnclaveIdentity, policy: SealPolicy) -> bytes:
        """The 32 bytes that only this identity gets, and only on this machine."""
        return derive_sealing_key(self.fuse_key, identity, policy)

    def raise_counter(self, identity: EnclaveIdentity, counter_id: bytes, value: int) -> int:
        """Raise the counter of this identity's product to at least `value`; returns what it was before.

        Raises:
            PlatformError: the id or the value has the wrong size, or the count cannot be kept.
        """
        return self.counters.raise_to(identity, counter_id, value)

    def save(self, directory: Path) -> None:
        """Write `platform.json` (all keys) and `root.pem` (for verifiers) to a directory of mode 0700, files 0600.

        From then on, the counters are kept there too.

        Raises:
            ConfigurationError: a platform is there already, or the directory cannot be written.
            PlatformError: the counters cannot be written.
        """
        authority, enclave = self.authority, self.quoting_enclave
        keys = {
            "root_key": authority.root_key,
            "pck_ca_key": authority.pck_ca_key,
            "tcb_signer_key": authority.tcb_signer_key,
            "pck_key": enclave.pck_key,
            "attestation_key": enclave.attestation_key,
        }
        certificates = {
            "root": authority.root,
            "pck_ca": authority.pck_ca,
            "tcb_signer": authority.tcb_signer,
            "pck": self.pck_certificate,
        }
        document: dict[str, object] = {
            "collateral_lifetime": int(authority.lifetime.total_seconds()),
            "machine": {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in dataclasses.asdict(self.machine).items()
            },
            "fuse_key": self.fuse_key.reveal().hex(),
            **{name: pem_chain(certificate).decode() for name, certificate in certificates.items()},
            **{name: _private_pem(key) for name, key in keys.items()},
        }
        platform_file.write(directory, document, self.root_pem)
        self.counters.keep_in(directory)

    @classmethod
    def load(cls, directory: Path) -> SimulatedPlatform:
        """The platform that was saved there.

        Raises:
            ConfigurationError: there is none, or it is damaged.
        """
        document = platform_file.read(directory)
        try:
            platform = cls._from_document(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"the simulated platform in {directory} is damaged", got=repr(error)) from error
        platform.counters.keep_in(directory)
        return platform

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> SimulatedPlatform:
        root, ca, signer, pck = (
            x509.load_pem_x509_certificate(document[name].encode()) for name in ("root", "pck_ca", "tcb_signer", "pck")
        )
        return cls(
            authority=CollateralIssuer(
                root=root,
                root_key=_private_key(document["root_key"]),
                pck_ca=ca,
                pck_ca_key=_private_key(document["pck_ca_key"]),
                tcb_signer=signer,
                tcb_signer_key=_private_key(document["tcb_signer_key"]),
                lifetime=dt.timedelta(seconds=document["collateral_lifetime"]),
            ),
            quoting_enclave=QuotingEnclave(
                machine=Machine(**{name: _unhex(value) for name, value in document["machine"].items()}),
                pck_key=_private_key(document["pck_key"]),
                pck_chain_pem=pem_chain(pck, ca, root),
                attestation_key=_private_key(document["attestation_key"]),
            ),
            pck_certificate=pck,
            fuse_key=Secret(bytes.fromhex(document["fuse_key"])),
        )


def _moment(now: float | None) -> dt.datetime:
    return dt.datetime.fromtimestamp(time.time() if now is None else now, dt.UTC).replace(microsecond=0)


def _unhex(value: Any) -> Any:
    return bytes.fromhex(value) if isinstance(value, str) else value


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _private_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return key
