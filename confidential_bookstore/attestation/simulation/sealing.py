"""Sealing keys of the simulated CPU: HKDF-SHA256 of the machine's fuse key over what was measured.

As with EGETKEY (Intel SDM volume 3D), what goes into the key is the identity that the CPU knows, never what the enclave
says; and a debug enclave, which its host can read, gets other keys than a production one.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confidential_bookstore.attestation.platforms.interface import SEALING_KEY_SIZE, SealPolicy
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.secret import Secret


def derive_sealing_key(fuse_key: Secret[bytes], identity: EnclaveIdentity, policy: SealPolicy) -> bytes:
    """32 bytes, bound to MRENCLAVE (UNIQUE_KEY) or to MRSIGNER and product id (PRODUCT_KEY)."""
    match policy:
        case SealPolicy.UNIQUE_KEY:
            bound_to = identity.mr_enclave
        case SealPolicy.PRODUCT_KEY:
            bound_to = identity.mr_signer + struct.pack("<H", identity.product_id)
    info = b"simulated sealing key v1\0" + policy.value.encode() + bytes([0, identity.debug]) + bound_to
    return HKDF(hashes.SHA256(), SEALING_KEY_SIZE, salt=None, info=info).derive(fuse_key.reveal())
