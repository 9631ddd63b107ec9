"""The key of a state that several coordinators share: each seals it for its own machine, and asks the others for it.

The data key is wrapped with a random key-encryption key (32 bytes). `sealed_key` has the usual form, with SHA-256 of
`sealed_data` and the name of the sealing policy as additional data, so that whoever opens it knows under which policy
the key-encryption key may be kept.

The key-encryption key stands in the store once per machine, wrapped with the machine's sealing key of that policy. A
machine is called by the SHA-256 of a value that is derived from this sealing key. Machines that do not have it ask the
other coordinators; see `handover`. Who finds no state at all, or is to seal under another policy, makes a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from confidential_bookstore.attestation.platforms import Platform, SealPolicy
from confidential_bookstore.secret import Secret
from coordinator.manifest.config import SealMode
from coordinator.sealing.format import data_hash, key_info, unwrap_key, wrap_key
from coordinator.sealing.keys import POLICIES, PlatformKeys, platform_sealing_keys
from coordinator.sealing.store import StateStore

KEY_ENCRYPTION_KEY = 32  # bytes

_KEPT = b"confidential-bookstore key-encryption key v1"
_NODE = b"confidential-bookstore machine of a shared state v1"

log = structlog.get_logger()

# Gives keys of other coordinators, one after the other; takes its time.
Ask = Callable[[], Iterable[Secret[bytes]]]


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A key-encryption key, and the policy under which it may be kept and handed on."""

    key: Secret[bytes]
    policy: SealPolicy


class SharedKeys:
    """`KeySealing` with a key-encryption key.

    Args:
        store: of the shared state.
        sealing_keys: of this program on this machine.
        ask: the other coordinators, when a state cannot be unsealed otherwise. Called from the thread that unseals.
    """

    sealed_for = "coordinators that share it, and none of them has handed its key over"

    def __init__(
        self, store: StateStore, sealing_keys: Mapping[SealPolicy, Secret[bytes]], ask: Ask | None = None
    ) -> None:
        self._store = store
        self._sealing_keys = dict(sealing_keys)
        self._ask = ask
        self._current: SharedKey | None = None
        self._opened: SharedKey | None = None  # what has unsealed last

    @classmethod
    def of(cls, platform: Platform, store: StateStore, ask: Ask | None = None) -> SharedKeys:
        """With the sealing keys of this program on this machine.

        Raises:
            SealingUnavailable: the platform has none.
            PlatformError: it does not answer.
        """
        return cls(store, platform_sealing_keys(platform), ask)

    @property
    def may_come_later(self) -> bool:
        """See `KeySealing`."""
        return self._ask is not None

    @property
    def current(self) -> SharedKey | None:
        """The key of the state as it was last loaded or stored; None before."""
        return self._current

    def seal(self, data_key: Secret[bytes], data: bytes, mode: SealMode) -> bytes:
        """See `KeySealing`.

        Raises:
            StoreUnavailable: a new key-encryption key cannot be kept now.
            SealedStateError: likewise.
        """
        policy = POLICIES[mode]
        if self._current is None or self._current.policy is not policy:
            self._current = SharedKey(self._kept(policy) or self._new(policy), policy)
        return wrap_key(
            data_key, self._current.key, info=policy.value.encode(), bound_to=_bound_to(data, policy.value.encode())
        )

    def unseal(self, sealed_key: bytes, data: bytes) -> Secret[bytes] | None:
        """See `KeySealing`. A state that one coordinator has sealed for itself is unsealed too, on its machine.

        Raises:
            StoreUnavailable: the kept key-encryption key cannot be read now.
            SealedStateError: likewise.
        """
        info = key_info(sealed_key)
        policy = next((policy for policy in SealPolicy if policy.value.encode() == info), None)
        if policy is None:
            return None
        self._opened = None
        own = PlatformKeys(self._sealing_keys).unseal(sealed_key, data)
        if own is not None:
            return own
        for key in self._candidates(policy):
            data_key = unwrap_key(sealed_key, key, bound_to=_bound_to(data, info))
            if data_key is not None:
                self._opened = SharedKey(key, policy)
                return data_key
        return None

    def take_up(self) -> None:
        """See `KeySealing`. Keeps the key for this machine, in place of any other.

        Raises:
            StoreUnavailable: it cannot be kept now.
            SealedStateError: likewise.
        """
        shared = self._opened or self._current
        if shared is not None:
            if self._kept(shared.policy) != shared.key:
                self._keep(shared.key, shared.policy)
            self._current = shared

    def _candidates(self, policy: SealPolicy) -> Iterator[Secret[bytes]]:
        """Cheapest first."""
        if self._current is not None:
            yield self._current.key
        kept = self._kept(policy)
        if kept is not None:
            yield kept
        if self._ask is not None:
            yield from self._ask()

    def _kept(self, policy: SealPolicy) -> Secret[bytes] | None:
        sealing_key = self._sealing_keys[policy]
        content = self._store.read_node_key(node_of(sealing_key))
        return unwrap_key(content, sealing_key, bound_to=_KEPT) if content is not None else None

    def _keep(self, key: Secret[bytes], policy: SealPolicy) -> None:
        sealing_key = self._sealing_keys[policy]
        content = wrap_key(key, sealing_key, info=policy.value.encode(), bound_to=_KEPT)
        self._store.write_node_key(node_of(sealing_key), content)
        log.info("key of the shared state is kept for this machine", policy=policy.value)

    def _new(self, policy: SealPolicy) -> Secret[bytes]:
        """Kept before anything is sealed with it."""
        key = Secret(os.urandom(KEY_ENCRYPTION_KEY))
        self._keep(key, policy)
        return key


def node_of(sealing_key: Secret[bytes]) -> str:
    """What a machine is called in the store: lower-case hex, and no hint at its sealing key."""
    return hashlib.sha256(hmac.digest(sealing_key.reveal(), _NODE, "sha256")).hexdigest()


def _bound_to(data: bytes, info: bytes) -> bytes:
    return data_hash(data) + info
