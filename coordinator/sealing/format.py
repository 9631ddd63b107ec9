"""The two sealed files, as bytes. MarbleRun's format; this module does no I/O and knows no key of its own.

* `sealed_data`: u32le length, recovery data (JSON, in clear), nonce (12), AES-GCM of a JSON object of store key to
  base64 value, under the data key (32 bytes; 16 in states that an old MarbleRun has sealed), no additional data;
* `sealed_key`: u32le length, key info (the name of the sealing policy), nonce (12), AES-GCM of the data key under a
  wrapping key, with SHA-256 of `sealed_data` as additional data. So one key file fits one data file. A coordinator
  without an enclave has the data key itself there, in clear.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.secret import Secret
from coordinator.recovery.data_key import DataKey

DATA_KEY_SIZES: Final = (16, 32)  # bytes

_NONCE = 12
_TAG = 16
_LENGTH = struct.Struct("<I")


def seal_records(records: Mapping[str, bytes], data_key: DataKey) -> bytes:
    """The content of `sealed_data`."""
    plain = json.dumps({key: base64.b64encode(value).decode() for key, value in records.items()}).encode()
    return _with_head(data_key.recovery_data) + _encrypt(data_key.key, plain, None)


def unseal_records(data: bytes, key: Secret[bytes]) -> dict[str, bytes]:
    """The records in `sealed_data`.

    Raises:
        SealedStateError: not this format, or not under this key.
    """
    records = open_sealed_data(data, key.reveal())
    if records is None:
        raise SealedStateError("sealed_data is damaged", hint="restore it from a copy; nothing was changed")
    return records


def open_sealed_data(data: bytes, key: bytes) -> dict[str, bytes] | None:
    """The records in `sealed_data`; None if this is not the key (of any length), or the content is damaged.

    Raises:
        SealedStateError: it is the key, but there is something else inside.
    """
    parts = _split(data)
    plain = _decrypt(key, parts[1], None) if parts is not None and len(key) in DATA_KEY_SIZES else None
    if plain is None:
        return None
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in json.loads(plain).items()}
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise SealedStateError(
            "sealed_data was sealed with this key, but not in this format", expected="a JSON object of base64 values"
        ) from error


def recovery_data_of(data: bytes) -> bytes:
    """The recovery data in `sealed_data`; in clear, and not trusted.

    Raises:
        SealedStateError: not this format.
    """
    parts = _split(data)
    if parts is None:
        raise SealedStateError("sealed_data is cut short", hint="restore it from a copy; nothing was changed")
    return parts[0]


def data_hash(data: bytes) -> bytes:
    """What binds a key file to its data file."""
    return hashlib.sha256(data).digest()


def wrap_key(data_key: Secret[bytes], wrapping_key: Secret[bytes], *, info: bytes, bound_to: bytes) -> bytes:
    """The content of `sealed_key`; `info` is in clear, `bound_to` is what `unwrap_key` must say too."""
    return _with_head(info) + _encrypt(wrapping_key, data_key.reveal(), bound_to)


def unwrap_key(sealed_key: bytes, wrapping_key: Secret[bytes], *, bound_to: bytes) -> Secret[bytes] | None:
    """The data key; None if it was wrapped with another key, for another purpose, or not at all."""
    parts = _split(sealed_key)
    data_key = _decrypt(wrapping_key.reveal(), parts[1], bound_to) if parts is not None else None
    return Secret(data_key) if data_key is not None and len(data_key) in DATA_KEY_SIZES else None


def key_info(sealed_key: bytes) -> bytes:
    """The key info in `sealed_key`, in clear; empty if there is none."""
    parts = _split(sealed_key)
    return parts[0] if parts is not None else b""


def _with_head(head: bytes) -> bytes:
    return _LENGTH.pack(len(head)) + head


def _split(content: bytes) -> tuple[bytes, bytes] | None:
    """The length-prefixed head, and nonce with ciphertext; None if it is cut short."""
    if len(content) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    return (content[_LENGTH.size : end], content[end:]) if len(content) >= end + _NONCE + _TAG else None


def _encrypt(key: Secret[bytes], plain: bytes, additional: bytes | None) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, plain, additional)


def _decrypt(key: bytes, box: bytes, additional: bytes | None) -> bytes | None:
    try:
        return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], additional)
    except InvalidTag:
        return None
