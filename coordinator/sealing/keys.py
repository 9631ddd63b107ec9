"""Who can unseal: what the data key is wrapped with, and so which coordinators get at the state without a recovery.

* `PlatformKeys`: the platform's sealing key. This product, or this very code, on this machine.
* `RawKeys`: nothing. The data key is in clear, as a MarbleRun coordinator without an enclave keeps it.
* `NoKeys`: nobody. For platforms without sealing keys; every start needs a recovery.
* `shared_keys.SharedKeys`: a key that several coordinators share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from confidential_bookstore.attestation.platforms import Platform, SealPolicy
from confidential_bookstore.secret import Secret
from coordinator.manifest.config import SealMode
from coordinator.sealing.format import DATA_KEY_SIZES, data_hash, key_info, unwrap_key, wrap_key

POLICIES: Final = {SealMode.PRODUCT_KEY: SealPolicy.PRODUCT_KEY, SealMode.UNIQUE_KEY: SealPolicy.UNIQUE_KEY}


class KeySealing(Protocol):
    """Wraps data keys."""

    @property
    def sealed_for(self) -> str:
        """Who can unseal, for messages."""
        ...

    @property
    def may_come_later(self) -> bool:
        """Whether a key that cannot be unsealed now can be unsealed later, without a recovery."""
        ...

    def seal(self, data_key: Secret[bytes], data: bytes, mode: SealMode) -> bytes | None:
        """The content of `sealed_key` for this content of `sealed_data`; None if there is to be none.

        `mode` is never DISABLED.

        Raises:
            BookstoreError: the wrapping key cannot be had or kept now.
        """
        ...

    def unseal(self, sealed_key: bytes, data: bytes) -> Secret[bytes] | None:
        """The data key; None unless `sealed_key` was made for exactly this `data`, and can be unsealed here and now."""
        ...

    def take_up(self) -> None:
        """What was unsealed last is the state that this coordinator goes on with."""
        ...


class PlatformKeys:
    """With the platform's sealing keys. Reads either policy, writes as the seal mode says."""

    sealed_for = "this product on this machine"
    may_come_later = False

    def __init__(self, sealing_keys: Mapping[SealPolicy, Secret[bytes]]) -> None:
        self._sealing_keys = dict(sealing_keys)

    @classmethod
    def of(cls, platform: Platform) -> PlatformKeys:
        """With the keys of this program on this machine.

        Raises:
            SealingUnavailable: the platform has none.
            PlatformError: it does not answer.
        """
        return cls(platform_sealing_keys(platform))

    def seal(self, data_key: Secret[bytes], data: bytes, mode: SealMode) -> bytes:
        """See `KeySealing`."""
        policy = POLICIES[mode]
        info = policy.value.encode()
        return wrap_key(data_key, self._sealing_keys[policy], info=info, bound_to=data_hash(data))

    def unseal(self, sealed_key: bytes, data: bytes) -> Secret[bytes] | None:
        """See `KeySealing`."""
        info = key_info(sealed_key)
        for policy, sealing_key in self._sealing_keys.items():
            if policy.value.encode() == info:
                return unwrap_key(sealed_key, sealing_key, bound_to=data_hash(data))
        return None

    def take_up(self) -> None:
        """See `KeySealing`."""


class RawKeys:
    """In clear. Only for a coordinator that is to take over the state of a MarbleRun coordinator without an enclave."""

    sealed_for = "everybody"
    may_come_later = False

    def seal(self, data_key: Secret[bytes], data: bytes, mode: SealMode) -> bytes:  # noqa: ARG002  # the protocol's
        """See `KeySealing`."""
        return data_key.reveal()

    def unseal(self, sealed_key: bytes, data: bytes) -> Secret[bytes] | None:  # noqa: ARG002  # the protocol's
        """See `KeySealing`; nothing binds a key in clear to its data."""
        return Secret(sealed_key) if len(sealed_key) in DATA_KEY_SIZES else None

    def take_up(self) -> None:
        """See `KeySealing`."""


class NoKeys:
    """Keeps no key."""

    sealed_for = "nobody, because this platform has no sealing key"
    may_come_later = False

    def seal(self, data_key: Secret[bytes], data: bytes, mode: SealMode) -> None:
        """See `KeySealing`."""

    def unseal(self, sealed_key: bytes, data: bytes) -> None:
        """See `KeySealing`."""

    def take_up(self) -> None:
        """See `KeySealing`."""


def platform_sealing_keys(platform: Platform) -> dict[SealPolicy, Secret[bytes]]:
    """All of this program on this machine.

    Raises:
        SealingUnavailable: the platform has none.
        PlatformError: it does not answer.
    """
    return {policy: Secret(platform.sealing_key(policy)) for policy in SealPolicy}
