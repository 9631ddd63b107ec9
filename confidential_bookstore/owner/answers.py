"""What a coordinator's answers say, as values. Reading is strict: a field of another type is an error, never a guess.

Version 1 of the API says the same with other names; both are read here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from confidential_bookstore.errors import CoordinatorUnavailable, CoordinatorUntrusted
from confidential_bookstore.secret import Secret

RECOVERY = 1  # a state's number


@dataclass(frozen=True, slots=True)
class CoordinatorStatus:
    """`code`: 1 recovery, 2 waits for a manifest, 3 accepts marbles."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """The manifest in force as it was uploaded, and the root's signature (ECDSA, DER, SHA-256) over it."""

    raw: bytes
    signature: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex: the identity of a manifest."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class UpdateAnswer:
    """After an update or an acknowledgement. `missing_users` may still acknowledge; recovery secrets by key name."""

    missing_acknowledgments: int
    missing_users: tuple[str, ...]
    recovery_secrets: Mapping[str, bytes]
    message: str = ""


@dataclass(frozen=True, slots=True)
class PendingManifest:
    """An update that waits for acknowledgements."""

    raw: bytes
    message: str
    missing_users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReceivedSecret:
    """A secret's value: certificate (DER), private part (PKCS#8 or symmetric bytes), public part (SPKI)."""

    kind: str
    size: int
    user_defined: bool
    certificate: bytes
    private: Secret[bytes]
    public: Secret[bytes]  # of a symmetric key it is the key itself


def read_status(data: Any) -> CoordinatorStatus:
    """Of `{"code", "message"}`, or `{"StatusCode", "StatusMessage"}`."""
    with _reading("status"):
        old = "StatusCode" in data
        code, message = (data["StatusCode"], data["StatusMessage"]) if old else (data["code"], data["message"])
        return CoordinatorStatus(int(code), _text(message))


def read_manifest(data: Any, root: x509.Certificate) -> SignedManifest:
    """Of `{"manifest", "manifestFingerprint", "manifestSignatureRootECDSA"}`, or version 1's names.

    Raises:
        CoordinatorUnavailable: it cannot be read.
        CoordinatorUntrusted: the fingerprint or the root's signature is not that of this manifest.
    """
    with _reading("manifest"):
        old = "Manifest" in data
        names = ("Manifest", "ManifestSignature") if old else ("manifest", "manifestFingerprint")
        signature = data["ManifestSignatureRootECDSA" if old else "manifestSignatureRootECDSA"]
        manifest = SignedManifest(_bytes(data[names[0]]), _bytes(signature))
        claimed = _text(data[names[1]])
    if claimed != manifest.fingerprint:
        raise CoordinatorUntrusted("the manifest has another fingerprint", got=manifest.fingerprint, expected=claimed)
    key = root.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        key.verify(manifest.signature, manifest.raw, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise CoordinatorUntrusted("the manifest is not signed by the coordinator's root") from error
    return manifest


def read_recovery_secrets(data: Any) -> dict[str, bytes]:
    """Of `{"RecoverySecrets": {name: base64}}` or null, sorted by name; empty if there are no recovery keys."""
    with _reading("recovery data"):
        secrets = (data or {}).get("RecoverySecrets") or {}
        return {name: _bytes(value) for name, value in sorted(secrets.items())}


def read_update(data: Any) -> UpdateAnswer:
    """Of an update's or an acknowledgement's data; version 1 has null or a message only."""
    if data is None or isinstance(data, str):
        return UpdateAnswer(0, (), {}, data or "")
    with _reading("update"):
        secrets = data.get("recoverySecrets") or {}
        return UpdateAnswer(
            int(data.get("missingAcknowledgments") or 0),
            tuple(_text(name) for name in data.get("missingUsers") or ()),
            {name: _bytes(value) for name, value in sorted(secrets.items())},
            _text(data.get("message") or ""),
        )


def read_pending(data: Any) -> PendingManifest:
    """Of `{"manifest", "message", "missingUsers"}`."""
    with _reading("pending update"):
        users = tuple(_text(name) for name in data["missingUsers"] or ())
        return PendingManifest(_bytes(data["manifest"]), _text(data["message"]), users)


def read_log(data: Any) -> tuple[str, ...]:
    """Of `{"updateLog": [line]}`, or one text with lines."""
    with _reading("update log"):
        # Not `splitlines`: the names in a line may have U+2028 in them.
        lines = filter(None, data.split("\n")) if isinstance(data, str) else data["updateLog"] or ()
        return tuple(_text(line) for line in lines)


def read_secrets(data: Any) -> dict[str, ReceivedSecret]:
    """Of `{"secrets": {name: Secret}}`, or the inner object."""
    with _reading("secrets"):
        secrets = data["secrets"] if set(data) == {"secrets"} and "Type" not in data["secrets"] else data
        return {
            name: ReceivedSecret(
                _text(secret["Type"]),
                int(secret["Size"]),
                bool(secret["UserDefined"]),
                _bytes(secret["Cert"] or ""),
                Secret(_bytes(secret["Private"] or "")),
                Secret(_bytes(secret["Public"] or "")),
            )
            for name, secret in secrets.items()
        }


def read_ephemeral_key(data: Any) -> bytes:
    """DER SPKI of `{"algorithm": "RSA", "ephemeralPublicKey": base64}`."""
    with _reading("recovery key"):
        if data["algorithm"] != "RSA":
            raise ValueError
        return _bytes(data["ephemeralPublicKey"])


def read_progress(data: Any) -> tuple[int, str]:
    """How many secrets are missing, and the coordinator's words."""
    with _reading("recovery"):
        return int(data["remaining"]), _text(data["message"])


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # Without the cause's text: it may hold a part of a secret.
        raise CoordinatorUnavailable(
            f"the coordinator's answer has no {what} that can be read", got=type(error).__name__
        ) from None


def _bytes(value: Any) -> bytes:
    return base64.b64decode(_text(value), validate=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
