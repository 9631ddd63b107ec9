"""Reading a quote before anybody has verified it.

Gives exactly one quote in its canonical form, and the few facts that are needed to find collateral for it. Nothing
here is trusted: what a quote says becomes a fact only in `verifier`.

Layout (little-endian) after Intel's "SGX ECDSA QuoteLib Reference" and "TDX DCAP Quoting Library API", appendix A:

    0   header, 48 bytes: version u16, attestation key type u16, TEE type u32, ...
    48  version 5 only: body type u16, body size u32
    ..  body: SGX report or TD report
    ..  u32 size of the signature data, then the signature data, with the PCK certificate chain in it
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Literal, NamedTuple

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from confidential_bookstore.attestation.roots import MALFORMED, root_key_id
from confidential_bookstore.errors import EmptyQuote, MalformedQuote, TrailingBytes, UnsupportedQuote

Tee = Literal["SGX", "TDX"]
Ca = Literal["processor", "platform"]

_HEADER_SIZE = 48
_SGX, _TDX = 0x00, 0x81  # TEE types
_CAS: tuple[Ca, ...] = ("processor", "platform")
_ECDSA_P256 = 2  # attestation key type
_SGX_REPORT_SIZE = 384
_TD_REPORT_SIZES = {2: 584, 3: 648, 4: 885}  # by body type of version 5: TDX 1.0, TDX 1.5, TDX 1.5 extended
_MAX_SIZE = 1 << 16  # real quotes have 4 to 6 kB
_OPEN_ENCLAVE_HEADER = struct.Struct("<IIQ")  # version 1, type 2 (remote report), size of the quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a quote claims, unverified.

    `raw` is the quote alone, without Open Enclave header and padding. `report_data` has 64 bytes. `fmspc` (6 bytes) and
    the measurements (32 bytes, empty for TDX) are lower-case hex. `root_key_id` is of the root certificate that the
    quote's chain ends in, empty if it ends in none.
    """

    raw: bytes
    version: int
    tee: Tee
    report_data: bytes
    fmspc: str
    ca: Ca
    root_key_id: str
    mr_enclave: str = ""
    mr_signer: str = ""


def parse_quote(raw: bytes) -> Quote:
    """Reads an SGX v3, TDX v4 or TDX v5 quote, bare or behind an Open Enclave header.

    Raises:
        EmptyQuote: there are no bytes.
        MalformedQuote: it is no quote, or cut short.
        TrailingBytes: something other than the zero padding of real quoting enclaves follows the quote.
        UnsupportedQuote: another version, TEE, key type, or no PCK certificate chain inside.
    """
    if not raw:
        raise EmptyQuote("the quote is empty")
    if len(raw) > _MAX_SIZE:
        raise MalformedQuote("quote is too long", got=f"{len(raw)} bytes", expected=f"at most {_MAX_SIZE}")
    raw = _without_open_enclave_header(raw)
    version, tee, body_start, body_size = _read_header(raw)
    body_end = body_start + body_size
    raw = _canonical(raw, body_end)
    chain = _read_chain(_pck_chain(raw))
    sgx_report = raw[body_start:body_end] if tee == "SGX" else b""
    report_data_start = body_start + (320 if tee == "SGX" else 520)
    return Quote(
        raw=raw,
        version=version,
        tee=tee,
        report_data=raw[report_data_start : report_data_start + 64],
        fmspc=chain.fmspc,
        ca=chain.ca,
        root_key_id=chain.root_key_id,
        mr_enclave=sgx_report[64:96].hex(),
        mr_signer=sgx_report[128:160].hex(),
    )


def _without_open_enclave_header(raw: bytes) -> bytes:
    """Quotes of EGo, and of MarbleRun's marbles, stand behind 16 bytes that no bare quote can begin with."""
    if len(raw) < _OPEN_ENCLAVE_HEADER.size:
        return raw
    version, kind, size = _OPEN_ENCLAVE_HEADER.unpack_from(raw)
    if (version, kind) != (1, 2):
        return raw
    quote = raw[_OPEN_ENCLAVE_HEADER.size :]
    if size != len(quote):
        raise MalformedQuote("Open Enclave header gives another size", got=size, expected=len(quote))
    return quote


def _read_header(raw: bytes) -> tuple[int, Tee, int, int]:
    """Version, TEE, and where the body is: offset and size."""
    if len(raw) < _HEADER_SIZE + 6:
        raise MalformedQuote("quote is cut short", got=f"{len(raw)} bytes")
    version, key_type, tee_type = struct.unpack_from("<HHI", raw)
    if (version, tee_type) not in {(3, _SGX), (4, _TDX), (5, _TDX)}:
        raise UnsupportedQuote(
            "quote is of a kind that is not verified here",
            got=f"version {version}, TEE type {tee_type:#x}",
            expected="SGX version 3, TDX version 4 or 5",
        )
    if key_type != _ECDSA_P256:
        raise UnsupportedQuote("attestation key is of an unknown type", got=key_type, expected=_ECDSA_P256)
    if version == 3:
        return version, "SGX", _HEADER_SIZE, _SGX_REPORT_SIZE
    if version == 4:
        return version, "TDX", _HEADER_SIZE, _TD_REPORT_SIZES[2]
    body_type, body_size = struct.unpack_from("<HI", raw, _HEADER_SIZE)
    if body_type not in _TD_REPORT_SIZES:
        raise UnsupportedQuote("quote body is of an unknown type", got=body_type, expected=list(_TD_REPORT_SIZES))
    if body_size != _TD_REPORT_SIZES[body_type]:
        raise MalformedQuote("quote body has the wrong size", got=body_size, expected=_TD_REPORT_SIZES[body_type])
    return version, "TDX", _HEADER_SIZE + 6, body_size


def _canonical(raw: bytes, body_end: int) -> bytes:
    """The quote without its padding. dcap-qvl would ignore whatever follows."""
    if len(raw) < body_end + 4:
        raise MalformedQuote("quote is cut short", got=f"{len(raw)} bytes")
    (signature_size,) = struct.unpack_from("<I", raw, body_end)
    end = body_end + 4 + signature_size
    if len(raw) < end:
        raise MalformedQuote("quote is cut short", got=f"{len(raw)} bytes", expected=f"{end} bytes")
    if raw.count(0, end) != len(raw) - end:
        raise TrailingBytes("bytes follow the quote", got=f"{len(raw)} bytes", expected=f"{end} bytes")
    return raw[:end]


def _pck_chain(raw: bytes) -> bytes:
    """The PEM chain inside the signature data."""
    try:
        chain: bytes | None = dcap_qvl.parse_quote(raw).cert_chain_pem_bytes()
    except ValueError as error:
        raise MalformedQuote("signature data of the quote cannot be read", got=str(error)) from error
    if chain is None:
        raise UnsupportedQuote("quote carries no PCK certificate chain", hint="let the quoting enclave include it")
    return chain


class _Chain(NamedTuple):
    fmspc: str
    ca: Ca
    root_key_id: str


@functools.lru_cache(maxsize=32)  # every quote of a machine carries the same chain
def _read_chain(chain_pem: bytes) -> _Chain:
    try:
        fmspc = dcap_qvl.parse_pck_extension_from_pem(chain_pem).fmspc.hex()
        certificates = x509.load_pem_x509_certificates(chain_pem)
        issuer = certificates[0].issuer.rfc4514_string()
        last = certificates[-1]
        root_key = last.public_key() if last.issuer == last.subject else None
    except MALFORMED as error:
        raise MalformedQuote("PCK certificate chain of the quote cannot be read", got=str(error)) from error
    root = root_key_id(root_key) if isinstance(root_key, ec.EllipticCurvePublicKey) else ""
    for ca in _CAS:
        if f"PCK {ca.title()} CA" in issuer:
            return _Chain(fmspc, ca, root)
    raise UnsupportedQuote("PCK certificate is of an unknown CA", got=issuer, expected="PCK Processor or Platform CA")
