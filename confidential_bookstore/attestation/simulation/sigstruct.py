"""SIGSTRUCT: who signed an enclave, and as which product and version.

Source: Intel SDM volume 3D, "SIGSTRUCT". 1808 bytes, RSA-3072 with exponent 3, PKCS#1 v1.5 with SHA-256; all numbers
are little-endian.

    0     header, vendor, date, header 2, SWDEFINED   128 bytes, signed
    128   modulus (384), exponent (4), signature (384)
    900   masks, attributes, ENCLAVEHASH, ISVPRODID, ISVSVN   128 bytes, signed
    1028  reserved (12), Q1 (384), Q2 (384)
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.quoting import FLAG_DEBUG, FLAG_MODE64, XFRM
from confidential_bookstore.errors import ConfigurationError, MeasurementMismatch, SigstructInvalid

SIZE = 1808
KEY_BITS, EXPONENT = 3072, 3
KEY_BYTES = KEY_BITS // 8

_HEADER_1 = bytes.fromhex("06000000e10000000000010000000000")
_HEADER_2 = bytes.fromhex("01010000600000006000000001000000")
_HEAD = struct.Struct("<16sII16sI84s")  # header 1, vendor, date, header 2, SWDEFINED, reserved
_BODY = struct.Struct("<II20sQQQQ32s32sHH")  # misc and mask, reserved, attributes and masks, hash, reserved, id, SVN
_LAYOUT = struct.Struct("<128s384sI384s128s12s384s384s")

_MISC_SELECT, _MISC_MASK = 0, 0xFFFFFFFF
_FLAGS_MASK = 0xFFFFFFFFFFFFFFFF & ~FLAG_DEBUG
_XFRM_MASK = 0xFFFFFFFFFFFFFF1B


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigstruct:
    """What a valid SIGSTRUCT says; the signature has been checked."""

    mr_enclave: bytes
    mr_signer: bytes
    product_id: int
    security_version: int
    debug: bool
    date: dt.date


def new_signing_key() -> rsa.RSAPrivateKey:
    """An RSA-3072 key with exponent 3, the only kind that SGX accepts. Takes about a second."""
    return rsa.generate_private_key(public_exponent=EXPONENT, key_size=KEY_BITS)


def load_signing_key(pem: bytes) -> rsa.RSAPrivateKey:
    """An unencrypted private key in PEM.

    Raises:
        ConfigurationError: not PEM, or not RSA-3072 with exponent 3.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            "cannot read the signing key", got=str(error), expected="a private key in PEM"
        ) from error
    kind = type(key).__name__
    if isinstance(key, rsa.RSAPrivateKey):
        kind = f"RSA-{key.key_size} with exponent {key.public_key().public_numbers().e}"
    if not isinstance(key, rsa.RSAPrivateKey) or kind != f"RSA-{KEY_BITS} with exponent {EXPONENT}":
        raise ConfigurationError(
            "signing key is of the wrong kind", got=kind, expected=f"RSA-{KEY_BITS} with exponent {EXPONENT}"
        )
    return key


def mr_signer(public_key: rsa.RSAPublicKey) -> bytes:
    """SHA-256 of the modulus, 32 bytes."""
    return hashlib.sha256(_little(public_key.public_numbers().n)).digest()


def make(
    key: rsa.RSAPrivateKey,
    mr_enclave: bytes,
    *,
    product_id: int,
    security_version: int,
    debug: bool = False,
    date: dt.date,
) -> bytes:
    """Sign a measurement.

    Raises:
        EnclaveError: a field has the wrong size.
    """
    identity = EnclaveIdentity(
        mr_enclave=mr_enclave,
        mr_signer=mr_signer(key.public_key()),
        product_id=product_id,
        security_version=security_version,
        debug=debug,
    )
    modulus = key.public_key().public_numbers().n
    bcd_date = int(date.strftime("%Y%m%d"), 16)
    head = _HEAD.pack(_HEADER_1, 0, bcd_date, _HEADER_2, 0, b"")
    flags = FLAG_MODE64 | (FLAG_DEBUG if identity.debug else 0)
    body = _BODY.pack(
        _MISC_SELECT, _MISC_MASK, b"", flags, XFRM, _FLAGS_MASK, _XFRM_MASK,
        identity.mr_enclave, b"", identity.product_id, identity.security_version,
    )  # fmt: skip
    signature = int.from_bytes(key.sign(head + body, padding.PKCS1v15(), hashes.SHA256()), "big")
    q1, remainder = divmod(signature * signature, modulus)  # helps hardware to compute signature^3 mod modulus
    q2 = remainder * signature // modulus
    return _LAYOUT.pack(
        head, _little(modulus), EXPONENT, _little(signature), body, b"", _little(q1), _little(q2)
    )  # fmt: skip


def parse(sigstruct: bytes) -> Sigstruct:
    """Check the signature by the key inside, and read the rest.

    Raises:
        SigstructInvalid: not a SIGSTRUCT, or the signature is wrong.
    """
    if len(sigstruct) != SIZE:
        raise SigstructInvalid("SIGSTRUCT has the wrong size", got=len(sigstruct), expected=SIZE)
    head, modulus_bytes, exponent, signature_bytes, body, reserved, q1, q2 = _LAYOUT.unpack(sigstruct)
    header_1, _, bcd_date, header_2, _, reserved_2 = _HEAD.unpack(head)
    if (header_1, header_2) != (_HEADER_1, _HEADER_2) or any(reserved) or any(reserved_2):
        raise SigstructInvalid("not a SIGSTRUCT: its constant fields are wrong")
    if exponent != EXPONENT:
        raise SigstructInvalid("SIGSTRUCT has the wrong exponent", got=exponent, expected=EXPONENT)
    modulus, signature = int.from_bytes(modulus_bytes, "little"), int.from_bytes(signature_bytes, "little")
    if modulus.bit_length() != KEY_BITS:
        raise SigstructInvalid("SIGSTRUCT's modulus is too short", got=modulus.bit_length(), expected=KEY_BITS)
    _check_signature(modulus, signature, head + body)
    quotient, remainder = divmod(signature * signature, modulus)
    if (_little(quotient), _little(remainder * signature // modulus)) != (q1, q2):
        raise SigstructInvalid("SIGSTRUCT's Q1 and Q2 do not belong to its signature")
    _, _, _, flags, _, _, _, mr_enclave, _, product_id, security_version = _BODY.unpack(body)
    return Sigstruct(
        mr_enclave=mr_enclave,
        mr_signer=hashlib.sha256(modulus_bytes).digest(),
        product_id=product_id,
        security_version=security_version,
        debug=bool(flags & FLAG_DEBUG),
        date=_date(bcd_date),
    )


def initialise(sigstruct: bytes, mr_enclave: bytes) -> EnclaveIdentity:
    """What EINIT does: accept the measurement only under a SIGSTRUCT made for it.

    Raises:
        SigstructInvalid: not a SIGSTRUCT, or the signature is wrong.
        MeasurementMismatch: it was made for something else.
    """
    signed = parse(sigstruct)
    if signed.mr_enclave != mr_enclave:
        raise MeasurementMismatch(
            "the SIGSTRUCT is for another enclave", got=mr_enclave.hex(), expected=signed.mr_enclave.hex()
        )
    return EnclaveIdentity(
        mr_enclave=mr_enclave,
        mr_signer=signed.mr_signer,
        product_id=signed.product_id,
        security_version=signed.security_version,
        debug=signed.debug,
    )


def _check_signature(modulus: int, signature: int, signed: bytes) -> None:
    try:
        public_key = rsa.RSAPublicNumbers(EXPONENT, modulus).public_key()
        public_key.verify(signature.to_bytes(KEY_BYTES, "big"), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise SigstructInvalid("SIGSTRUCT's signature is wrong") from error


def _date(bcd: int) -> dt.date:
    try:
        return dt.datetime.strptime(f"{bcd:08x}", "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError as error:
        raise SigstructInvalid("SIGSTRUCT's date is not one", got=f"{bcd:08x}") from error


def _little(value: int) -> bytes:
    return value.to_bytes(KEY_BYTES, "little")
