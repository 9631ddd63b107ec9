"""A platform for tests that need quotes and sealing keys without starting an enclave process.

Here the caller does choose the identity, which a launched enclave cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

from confidential_bookstore.attestation.platforms.interface import SealPolicy
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform


@dataclass(frozen=True, slots=True)
class InProcessPlatform:
    """`Platform` as an enclave of the given identity would see it on the given machine."""

    platform: SimulatedPlatform
    identity: EnclaveIdentity

    @property
    def name(self) -> str:
        """Always `simulated`."""
        return "simulated"

    def quote(self, report_data: bytes) -> bytes:
        """An SGX quote with the identity.

        Raises:
            PlatformError: the report data is not 64 bytes.
        """
        return self.platform.quote_sgx(self.identity, report_data)

    def sealing_key(self, policy: SealPolicy) -> bytes:
        """The identity's sealing key."""
        return self.platform.sealing_key(self.identity, policy)

    def raise_counter(self, counter_id: bytes, value: int) -> int:
        """The counter of the identity's product.

        Raises:
            PlatformError: the id or the value has the wrong size, or the count cannot be kept.
        """
        return self.platform.raise_counter(self.identity, counter_id, value)
