"""What the simulated CPU measured: the identity that goes into a report and that no enclave can choose."""

from __future__ import annotations

from dataclasses import dataclass

from confidential_bookstore.errors import EnclaveError


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveIdentity:
    """An SGX enclave: measurement and signer (32 bytes each), product id and security version (16 bits each).

    Raises:
        EnclaveError: a field has the wrong size.
    """

    mr_enclave: bytes
    mr_signer: bytes
    product_id: int
    security_version: int
    debug: bool = False

    def __post_init__(self) -> None:
        _require_size("MRENCLAVE", self.mr_enclave, 32)
        _require_size("MRSIGNER", self.mr_signer, 32)
        for name, value in (("product id", self.product_id), ("security version", self.security_version)):
            if not 0 <= value <= 0xFFFF:
                raise EnclaveError(f"{name} does not fit in 16 bits", got=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdIdentity:
    """A TDX trust domain: MRTD and four run-time measurement registers (48 bytes each), and its TD attributes.

    Raises:
        EnclaveError: a field has the wrong size.
    """

    mr_td: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(48), bytes(48), bytes(48), bytes(48))
    attributes: int = 1 << 28  # SEPT_VE_DISABLE, which verifiers insist on; bit 0 would be DEBUG

    def __post_init__(self) -> None:
        _require_size("MRTD", self.mr_td, 48)
        for index, rtmr in enumerate(self.rtmrs):
            _require_size(f"RTMR{index}", rtmr, 48)


def _require_size(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise EnclaveError(f"{name} has the wrong size", got=f"{len(value)} bytes", expected=f"{size} bytes")
