"""The key of the sealed state, and what the holders of recovery keys get of it.

With K recovery keys and threshold t:

    K = 0 or 1               a random key; the one holder gets the key itself
    K > 1, t = 0 or t = K    K random shares; the key is all of them XORed
    K > 1, t < K             a random key, shared by Shamir's scheme, see `shamir`

The recovery data stand in clear beside the sealed state and say what shares there are: `null` without shares, else
MarbleRun's JSON object {"<hex of SHA-256 of a share>": true, ...}. MarbleRun has no place in it for the threshold. Here
Shamir's threshold is the number of blanks that follow the object, which every reader of JSON skips; without blanks it
is not known. It tells how many shares are still missing and decides nothing: the host can change it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from confidential_bookstore.secret import Secret
from coordinator.recovery import shamir

KEY_SIZE: Final = 32  # bytes
NO_SHARES: Final = b"null"
OAEP: Final = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


@dataclass(frozen=True, slots=True)
class DataKey:
    """What the state is sealed with.

    Attributes:
        key: 32 bytes; 16 if it was recovered from a state that an old MarbleRun has sealed.
        recovery_data: to be written beside the sealed state, see above.
    """

    key: Secret[bytes]
    recovery_data: bytes = NO_SHARES


@dataclass(frozen=True, slots=True)
class RecoveryData:
    """The recovery data, read. Not trusted: the host has it in its hands.

    Attributes:
        shares: SHA-256 of each share; empty if there are none, or if they are lost.
        threshold: of Shamir's scheme; 0 if it is not known, or all shares are needed.
    """

    shares: frozenset[bytes] = frozenset()
    threshold: int = 0

    @classmethod
    def of(cls, shares: Iterable[bytes], threshold: int) -> RecoveryData:
        """For these shares."""
        return cls(frozenset(hashlib.sha256(share).digest() for share in shares), threshold)

    @classmethod
    def read(cls, raw: bytes) -> RecoveryData:
        """Whatever cannot be read counts as lost."""
        try:
            value = json.loads(raw)
            shares = frozenset(map(bytes.fromhex, value)) if isinstance(value, dict) else frozenset()
        except (ValueError, RecursionError):
            return cls()
        if any(len(digest) != hashlib.sha256().digest_size for digest in shares):
            return cls()
        return cls(shares, len(raw) - len(raw.rstrip(b" ")) if shares else 0)

    def write(self) -> bytes:
        """The bytes that `read` reads."""
        if not self.shares:
            return NO_SHARES
        known = dict.fromkeys(sorted(digest.hex() for digest in self.shares), True)
        return json.dumps(known, separators=(",", ":")).encode() + b" " * self.threshold


def new_data_key(
    recovery_keys: Mapping[str, rsa.RSAPublicKey], threshold: int, random: Callable[[int], bytes] = os.urandom
) -> tuple[DataKey, dict[str, bytes]]:
    """A new key, and for each recovery key, by name, its secret encrypted with RSA-OAEP (SHA-256, empty label).

    Args:
        recovery_keys: at most 255, of at least 1024 bits.
        threshold: how many secrets give the key; 0 means all.
        random: that many bytes, from a cryptographic source.

    Raises:
        ValueError: the threshold does not suit the number of keys; a manifest never has such a one.
    """
    count = len(recovery_keys)
    if not 0 <= threshold <= count:
        raise ValueError(f"{count} recovery keys cannot have threshold {threshold}")
    if count <= 1:
        key, recovery_data = random(KEY_SIZE), NO_SHARES
        shares: tuple[bytes, ...] = (key,) * count
    elif threshold in (0, count):
        shares = tuple(random(KEY_SIZE) for _ in range(count))
        key, recovery_data = xor(shares), RecoveryData.of(shares, 0).write()
    else:
        key = random(KEY_SIZE)
        shares = shamir.split(key, count, threshold, random)
        recovery_data = RecoveryData.of(shares, threshold).write()
    encrypted = {
        name: public_key.encrypt(share, OAEP)
        for (name, public_key), share in zip(sorted(recovery_keys.items()), shares, strict=True)
    }
    return DataKey(Secret(key), recovery_data), encrypted


def xor(shares: Iterable[bytes]) -> bytes:
    """All of them, which have one length, XORed."""
    return functools.reduce(lambda left, right: bytes(map(operator.xor, left, right)), shares)
