"""A recovery under way: secrets come in one by one, in any order, until they open the sealed state.

A secret is a share of the data key or the key itself. Whether the key is complete is decided by the sealed state alone:
either it opens or it does not. Then the manifest in it says which recovery keys have to have signed the secrets.

Anybody can upload here. What they can do depends on the recovery data:

* They list the shares (see `data_key`). What is not listed is refused at once and changes nothing. So nobody without a
  share can disturb a recovery.
* They are `null`, because there is one recovery key or none. The key opens the state when it comes; nothing else that
  is uploaded can stand in its way.
* They are lost, or `null` although there are several shares, as MarbleRun sometimes leaves them. Nothing tells a share
  from junk before the key is complete, so every upload is tried together with every selection of those kept. That many
  tries have to be few, so few uploads are kept: the first `_FIRST` of each length for good, and the latest, up to
  `_COLLECTED` together with the one that has just come. Junk never pushes out shares that came first, and however
  much junk came before, `_COLLECTED - _FIRST` shares that come one after the other succeed. Shares that are neither
  among the first nor the latest have to be uploaded again. More than `_COLLECTED` shares cannot be combined.

Pure: no I/O. Calls must not overlap, and may take seconds: call from a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from confidential_bookstore.errors import RecoveryError
from confidential_bookstore.secret import Secret
from coordinator.recovery import shamir
from coordinator.recovery.data_key import KEY_SIZE, NO_SHARES, DataKey, RecoveryData, xor

SHAMIR_SHARE: Final = KEY_SIZE + 1
OLD_KEY: Final = 16
SECRET_SIZES: Final = frozenset({OLD_KEY, KEY_SIZE, SHAMIR_SHARE})  # bytes; anything else is an encrypted secret
LONGEST_SIGNATURE: Final = 2048  # bytes, of an RSA key of 16384 bits

_COLLECTED = 10
_FIRST = 5

Records = Mapping[str, bytes]
OpenSealed = Callable[[bytes], Records | None]
RecoveryKeys = tuple[Mapping[str, rsa.RSAPublicKey], int]


@dataclass(frozen=True, slots=True)
class Progress:
    """The secret was taken; more are needed.

    Attributes:
        remaining: how many secrets are missing. From the threshold, if it is known, else from the number of shares.
        recognised: the secret is a share of this state. If not, the recovery data do not tell: then `remaining` is 1,
            at least, and the secret may be a wrong one.
    """

    remaining: int
    recognised: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """The sealed state is open, and all that have to have signed have.

    Attributes:
        records: of the state.
        data_key: it is sealed with; the shares stay valid as long as it is.
    """

    records: Records = field(repr=False)
    data_key: DataKey


@dataclass(frozen=True, slots=True, eq=False)
class _Upload:
    secret: Secret[bytes]
    signature: bytes

    def is_signed_by(self, key: rsa.RSAPublicKey) -> bool:
        try:
            key.verify(self.signature, self.secret.reveal(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


class RecoverySession:
    """Collects secrets for one sealed state.

    Args:
        recovery_data: as they stand beside the sealed state.
        open_sealed: the records of the sealed state, or None if the key (16 or 32 bytes) is not the right one.
    """

    def __init__(self, recovery_data: bytes, open_sealed: OpenSealed) -> None:
        self._known = RecoveryData.read(recovery_data)
        self._recovery_data = recovery_data if self._known.shares else NO_SHARES
        self._open_sealed = open_sealed
        self._kept: dict[int, list[_Upload]] = {size: [] for size in SECRET_SIZES}

    def upload(
        self, secret: bytes, signature: bytes, verify: Callable[[Records], RecoveryKeys]
    ) -> Progress | Recovered:
        """Takes one secret.

        Args:
            secret: 16, 32 or 33 bytes, not trusted.
            signature: RSA PKCS#1 v1.5, SHA-256, over `secret`; not trusted.
            verify: recovery public keys by name, and the threshold, of the manifest in these records; 0 means all.

        Raises:
            RecoveryError: it was not accepted, and nothing has changed; or, with "no matching recovery key", the key is
                complete, but signatures are missing. Then the secrets with wrong ones are forgotten, to be uploaded
                again; all others stay.
            Exception: whatever `verify` raises; nothing has changed.
        """
        if len(secret) not in SECRET_SIZES:
            raise RecoveryError("invalid secret length", hint="16, 32 or 33 bytes, or encrypted for the ephemeral key")
        if len(signature) > LONGEST_SIGNATURE:
            raise RecoveryError("invalid signature length", got=len(signature), expected=f"at most {LONGEST_SIGNATURE}")
        if not self._is_new(secret):
            raise RecoveryError("setting recovery key: uploaded an invalid or already used secret")
        upload = _Upload(Secret(secret), signature)
        for selection in self._selections(upload):
            key = _combine(selection)
            if key is not None and (records := self._open_sealed(key)) is not None:
                self._require_signatures(selection, *verify(records))
                return Recovered(records, DataKey(Secret(key), self._recovery_data))
        return self._keep(upload)

    def _is_new(self, secret: bytes) -> bool:
        """Whether it can be of use. A Shamir share at x = 0 would be the key."""
        if len(secret) == SHAMIR_SHARE and secret[-1] == 0:
            return False
        if self._known.shares and hashlib.sha256(secret).digest() not in self._known.shares:
            return False
        return not any(hmac.compare_digest(upload.secret.reveal(), secret) for upload in self._room(secret))

    def _room(self, secret: bytes) -> list[_Upload]:
        """Only secrets of one length can belong together."""
        return self._kept[len(secret)]

    def _selections(self, upload: _Upload) -> Iterator[Sequence[_Upload]]:
        """What may give the key, with this upload. More Shamir shares than needed do no harm if all are right."""
        room = self._room(upload.secret.reveal())
        sizes = [len(room)] if self._known.shares else range(len(room) + 1)
        for size in sizes:
            for others in itertools.combinations(room, size):
                yield (*others, upload)

    def _keep(self, upload: _Upload) -> Progress:
        secret = upload.secret.reveal()
        remaining = self._remaining(len(self._room(secret)) + 1, len(secret))
        if self._known.shares and remaining == 0:
            raise RecoveryError(
                "the recovery secrets do not open the sealed state",
                hint="all of them are there, so the sealed data are damaged: restore them from a copy",
            )
        self._put(upload)
        return Progress(remaining, recognised=True) if self._known.shares else Progress(1, recognised=False)

    def _put(self, upload: _Upload) -> None:
        room = self._room(upload.secret.reveal())
        room.append(upload)
        if not self._known.shares and len(room) >= _COLLECTED:
            del room[_FIRST]

    def _remaining(self, collected: int, size: int) -> int:
        """Counted from all shares also when as many as the threshold says did not suffice."""
        threshold = self._known.threshold if size == SHAMIR_SHARE else 0
        return max(0, (threshold if collected < threshold else len(self._known.shares)) - collected)

    def _require_signatures(
        self, selection: Sequence[_Upload], keys: Mapping[str, rsa.RSAPublicKey], threshold: int
    ) -> None:
        """Each of enough recovery keys has signed another one of the secrets."""
        signers = {
            upload: [name for name, key in sorted(keys.items()) if upload.is_signed_by(key)] for upload in selection
        }
        signed: set[str] = set()
        surplus: set[str] = set()  # names whose key has signed more secrets than it may
        for names in signers.values():
            free = next((name for name in names if name not in signed), None)
            if free is None:
                surplus.update(names)
            else:
                signed.add(free)
        if len(signed) >= (threshold or len(keys)):
            return
        # Of several secrets with one signer, which is the right one cannot be told: all have to come again.
        wrong = {upload for upload, names in signers.items() if not names or surplus.intersection(names)}
        latest = selection[-1]
        room = self._room(latest.secret.reveal())
        room[:] = [upload for upload in room if upload not in wrong]
        if latest not in wrong:
            self._put(latest)
        missing = min(set(keys) - (signed - surplus))
        raise RecoveryError(f'no matching recovery key found for recovery public key "{missing}"')


def _combine(selection: Sequence[_Upload]) -> bytes | None:
    """A key that may be the right one; None if these cannot be shares of one key."""
    shares = [upload.secret.reveal() for upload in selection]
    if len(shares[0]) != SHAMIR_SHARE:
        return xor(shares)
    try:
        return shamir.combine(shares)
    except RecoveryError:
        return None
