"""Reports and quotes in Intel's formats, little-endian throughout.

Sources: Intel SGX ECDSA Quote Library Reference (quote v3, `sgx_quote3_t`, and its appendix on the quote formats),
Intel TDX DCAP Quoting Library API (quotes v4 and v5, TD report bodies 1.0 and 1.5), Intel SDM volume 3D (report body).

A quote is a header, a report body, and the signature chain: the attestation key signs header and body; the quoting
enclave's own report names that key; the PCK signs that report; the PCK certificate chain ends in the root.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from confidential_bookstore.attestation.platforms.interface import require_report_data
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity

TEE_SGX, TEE_TDX = 0x00, 0x81
ECDSA_P256 = 2  # attestation key type
CERTIFICATION_PCK_CHAIN, CERTIFICATION_QE_REPORT = 5, 6
TD_REPORT_1_0, TD_REPORT_1_5 = 2, 3  # body types of quote v5
QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")  # Intel's; verifiers refuse any other
QE_AUTH_DATA = bytes(range(32))  # the constant that the real quoting enclave uses
QE_PRODUCT_ID, TD_QE_PRODUCT_ID = 1, 2
QE_MR_SIGNER = hashlib.sha256(b"SIMULATION quoting enclave signer").digest()
QE_MR_ENCLAVE = hashlib.sha256(b"SIMULATION quoting enclave").digest()
QE_SECURITY_VERSION = 8

FLAG_INITTED, FLAG_DEBUG, FLAG_MODE64 = 0x1, 0x2, 0x4
XFRM = 0xE7  # x87, SSE, AVX, AVX-512
XFAM = 0x61AE7

_HEADER = struct.Struct("<HHIHH16s20s")
_SGX_REPORT = struct.Struct("<16sI12s16sQQ32s32s32s32s64sHHH42s16s64s")
_TD_REPORT = struct.Struct("<16s48s48s8sQQ48s48s48s48s48s48s48s48s64s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is burnt into one CPU, as far as certificates, TCB info and reports show it."""

    ppid: bytes  # 16 bytes, one per CPU
    instance_id: bytes | None  # 16 bytes; only machines certified by the Platform CA have one
    qe_id: bytes  # 16 bytes
    fmspc: bytes = b"SIM\x00\x00\x00"  # 6 bytes: family, model, stepping, platform, custom SKU
    pce_id: bytes = b"\x00\x00"
    cpu_svn: bytes = bytes([11, 11, 2, 2, 255, 1, *bytes(10)])
    pce_svn: int = 13
    td_tcb_svn: bytes = bytes([5, 0, 7, *bytes(13)])


def raw_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """X and Y, 64 bytes."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA P-256 with SHA-256 as r and s, 64 bytes."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def sgx_report(identity: EnclaveIdentity, report_data: bytes, *, cpu_svn: bytes) -> bytes:
    """The 384 bytes of `sgx_report_body_t`.

    Raises:
        PlatformError: the report data is not 64 bytes.
    """
    require_report_data(report_data)
    flags = FLAG_INITTED | FLAG_MODE64 | (FLAG_DEBUG if identity.debug else 0)
    misc_select, config_id, config_svn = 0, b"", 0
    ext_product_id, family_id, reserved = b"", b"", b""
    return _SGX_REPORT.pack(
        cpu_svn, misc_select, reserved, ext_product_id, flags, XFRM,
        identity.mr_enclave, reserved, identity.mr_signer, reserved, config_id,
        identity.product_id, identity.security_version, config_svn, reserved, family_id, report_data,
    )  # fmt: skip


def td_report(identity: TdIdentity, report_data: bytes, *, tcb_svn: bytes, body_type: int = TD_REPORT_1_0) -> bytes:
    """A TD report body: 584 bytes (TDX 1.0) or 648 bytes (TDX 1.5).

    Raises:
        PlatformError: the report data is not 64 bytes.
    """
    require_report_data(report_data)
    seam, seam_signer, seam_attributes = b"", b"", b""
    config_id, owner, owner_config = b"", b"", b""
    body = _TD_REPORT.pack(
        tcb_svn, seam, seam_signer, seam_attributes, identity.attributes, XFAM, identity.mr_td,
        config_id, owner, owner_config, *identity.rtmrs, report_data,
    )  # fmt: skip
    if body_type == TD_REPORT_1_0:
        return body
    no_service_td = bytes(48)
    return body + tcb_svn + no_service_td


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotingEnclave:
    """Turns reports of one machine into quotes. Holds the attestation key and, instead of the PCE, the PCK."""

    machine: Machine
    pck_key: ec.EllipticCurvePrivateKey
    pck_chain_pem: bytes  # leaf first
    attestation_key: ec.EllipticCurvePrivateKey

    def quote_sgx(self, report: bytes) -> bytes:
        """Quote v3 over an SGX report body."""
        signed = self._header(3, TEE_SGX, QE_SECURITY_VERSION, self.machine.pce_svn) + report
        return signed + _sized(self._signature(signed) + self._certification(QE_PRODUCT_ID))

    def quote_tdx(self, report: bytes, *, version: int = 4, body_type: int = TD_REPORT_1_0) -> bytes:
        """Quote v4 or v5 over a TD report body."""
        descriptor = struct.pack("<HI", body_type, len(report)) if version == 5 else b""
        signed = self._header(version, TEE_TDX, 0, 0) + descriptor + report
        certification = struct.pack("<H", CERTIFICATION_QE_REPORT) + _sized(self._certification(TD_QE_PRODUCT_ID))
        return signed + _sized(self._signature(signed) + certification)

    def _header(self, version: int, tee: int, qe_svn: int, pce_svn: int) -> bytes:
        return _HEADER.pack(version, ECDSA_P256, tee, qe_svn, pce_svn, QE_VENDOR_ID, self.machine.qe_id)

    def _signature(self, signed: bytes) -> bytes:
        return raw_signature(self.attestation_key, signed) + raw_public_key(self.attestation_key.public_key())

    def _certification(self, qe_product_id: int) -> bytes:
        """QE report, its signature by the PCK, authentication data, PCK chain."""
        attestation_key = raw_public_key(self.attestation_key.public_key())
        report = sgx_report(
            EnclaveIdentity(
                mr_enclave=QE_MR_ENCLAVE,
                mr_signer=QE_MR_SIGNER,
                product_id=qe_product_id,
                security_version=QE_SECURITY_VERSION,
            ),
            hashlib.sha256(attestation_key + QE_AUTH_DATA).digest() + bytes(32),
            cpu_svn=self.machine.cpu_svn,
        )
        auth_data = struct.pack("<H", len(QE_AUTH_DATA)) + QE_AUTH_DATA
        chain = struct.pack("<H", CERTIFICATION_PCK_CHAIN) + _sized(self.pck_chain_pem + b"\x00")
        return report + raw_signature(self.pck_key, report) + auth_data + chain


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
