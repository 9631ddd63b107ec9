"""What a verified quote says."""

from __future__ import annotations

from dataclasses import dataclass

# SHA-384 of the uncompressed public key point of Intel's SGX root (valid to 2049-12-31).
INTEL_ROOT_KEY_ID = "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Facts that the verifier vouches for, in one shape for SGX and TDX.

    All identities are lower-case hex. `unique_id` is MRENCLAVE (32 bytes) or MRTD (48 bytes); `signer_id` is MRSIGNER,
    empty for TDX; `product_id` and `security_version` exist for SGX only. `expires` (Unix seconds) is when the first
    part of the evidence runs out: verify again before then.

    The versions of the platform: `cpu_svn` has 16 bytes, CPUSVN for SGX and TEE_TCB_SVN for TDX; `qe_svn` and `pce_svn`
    are of the quoting and of the provisioning certification enclave.
    """

    root_key_id: str
    tee: str  # "SGX" or "TDX"
    report_data: bytes
    debug: bool
    tcb_status: str
    advisories: tuple[str, ...]
    tcb_evaluation_number: int
    fmspc: str
    expires: int
    unique_id: str
    cpu_svn: bytes = bytes(16)
    qe_svn: int = 0
    pce_svn: int = 0
    signer_id: str = ""
    product_id: int | None = None
    security_version: int | None = None
    rtmrs: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Derived from the root that verified the quote, never from a flag."""
        return self.root_key_id != INTEL_ROOT_KEY_ID
