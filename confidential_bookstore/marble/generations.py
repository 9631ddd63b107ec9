"""Which Marble Roots are trusted, for whom and until when: what the coordinator says, and what follows from it.

Every update of the manifest makes a new Marble Root. The one before goes on being trusted for a while, so that an
update disturbs nobody, except for the marble types that it takes away or holds to other rules: their certificates of
that generation end early. Nothing here does I/O or reads a clock.

Source: `GET /api/v2/generations` of this project's coordinator:

    {"generation": 3, "marbleRoot": PEM,
     "previous": [{"generation": 2, "marbleRoot": PEM, "until": Unix seconds, "revoked": {"bookthief": Unix seconds}}]}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import CoordinatorUntrusted

REVOKED = "revoked-by-manifest-update"
_MOST_PREVIOUS = 64
_MOST_REVOKED = 4096


def issuer_key_id(certificate: x509.Certificate) -> bytes:
    """The authority key id: which Marble Root signed a marble's certificate. Empty if it says nothing."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return b""
    return extension.value.key_identifier or b""


@dataclass(frozen=True, slots=True)
class MarbleRoot:
    """A Marble Root as PEM, and its subject key id, which the certificates below it name as their issuer's."""

    pem: bytes
    key_id: bytes

    @classmethod
    def from_pem(cls, pem: bytes) -> MarbleRoot:
        """One certificate.

        Raises:
            ValueError: it is something else, or has no subject key id.
        """
        [certificate] = x509.load_pem_x509_certificates(pem)
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            raise ValueError("a Marble Root has no subject key id") from None
        return cls(certificate.public_bytes(Encoding.PEM), extension.value.digest)


@dataclass(frozen=True, slots=True)
class PreviousGeneration:
    """A Marble Root that signs no more, and is trusted until `until`; for the types in `revoked`, until then."""

    number: int
    root: MarbleRoot
    until: float
    revoked: Mapping[str, float] = field(default_factory=dict)

    def end(self, marble_type: str) -> float:
        """When certificates of this type and generation stop being accepted, in Unix seconds."""
        return min(self.until, self.revoked.get(marble_type, math.inf))


@dataclass(frozen=True, slots=True)
class Generations:
    """The present generation and those before it that may still be trusted. All times are Unix seconds."""

    number: int
    present: MarbleRoot
    previous: tuple[PreviousGeneration, ...] = ()

    @classmethod
    def parse(cls, data: object) -> Generations:
        """Reads the decoded JSON; nothing may be missing, double or of another type.

        Raises:
            CoordinatorUntrusted: it has another form.
        """
        try:
            generations = _read(data)
        except (*MALFORMED, KeyError, AttributeError, OverflowError) as error:
            raise CoordinatorUntrusted(
                "the coordinator's generations are malformed", got=f"{type(error).__name__}: {error}"
            ) from error
        return generations

    def accepted_roots(self, now: float, marble_type: str | None = None) -> bytes:
        """PEM of the Marble Roots to trust now, the present first.

        Args:
            now: Unix seconds.
            marble_type: leaves out the roots in which this type is revoked. None where the type is known only later, as
                in a server: there, `refusal` decides about each call.
        """
        return self._present_and(
            each for each in self.previous if now < (each.until if marble_type is None else each.end(marble_type))
        )

    def lasting_roots(self, now: float, marble_type: str) -> bytes:
        """The same, without the roots in which the type is going to be revoked: what to trust in new connections."""
        return self._present_and(each for each in self.previous if now < each.until and marble_type not in each.revoked)

    def revoked_roots(self, now: float, marble_type: str) -> tuple[bytes, ...]:
        """PEM of the Marble Roots in which this type has been revoked."""
        return tuple(each.root.pem for each in self.previous if now >= each.revoked.get(marble_type, math.inf))

    def refusal(self, key_id: bytes, marble_type: str, now: float) -> str | None:
        """Why a certificate of this issuer and type, which TLS has accepted, is not accepted now; None if it is."""
        if key_id == self.present.key_id:
            return None
        for each in self.previous:
            if each.root.key_id == key_id:
                if now >= each.revoked.get(marble_type, math.inf):
                    return (
                        f"an update of the manifest has revoked the certificates of {marble_type} of generation"
                        f" {each.number}; the present one is {self.number}"
                    )
                if now < each.until:
                    return None
        return f"the certificate of {marble_type} is of a generation that is no longer trusted"

    def knows(self, key_id: bytes) -> bool:
        """Whether this is the issuer of any of these generations."""
        return key_id == self.present.key_id or any(each.root.key_id == key_id for each in self.previous)

    def end(self, key_id: bytes, marble_type: str) -> float:
        """When peers stop accepting certificates of this issuer and type, whatever their own end; infinity: never."""
        return next((each.end(marble_type) for each in self.previous if each.root.key_id == key_id), math.inf)

    def next_deadline(self, now: float) -> float | None:
        """The next time after `now` at which any of these answers changes; None if they stay as they are."""
        ends = (end for each in self.previous for end in (each.until, *each.revoked.values()))
        return min((end for end in ends if end > now), default=None)

    def _present_and(self, previous: Iterator[PreviousGeneration]) -> bytes:
        return b"".join([self.present.pem, *(each.root.pem for each in previous)])


def _read(data: Any) -> Generations:
    _require_keys(data, {"generation", "marbleRoot", "previous"})
    if type(data["previous"]) is not list or len(data["previous"]) > _MOST_PREVIOUS:
        raise ValueError(f"previous is not a list of at most {_MOST_PREVIOUS}")
    generations = Generations(
        _number(data["generation"]),
        MarbleRoot.from_pem(data["marbleRoot"].encode()),
        tuple(_previous(entry) for entry in data["previous"]),
    )
    numbers = [generations.number, *(each.number for each in generations.previous)]
    key_ids = {generations.present.key_id, *(each.root.key_id for each in generations.previous)}
    if max(numbers) != generations.number or not len(numbers) == len(set(numbers)) == len(key_ids):
        raise ValueError("a generation is double, or newer than the present one")
    return generations


def _previous(entry: Any) -> PreviousGeneration:
    _require_keys(entry, {"generation", "marbleRoot", "until", "revoked"})
    revoked = entry["revoked"]
    if type(revoked) is not dict or len(revoked) > _MOST_REVOKED:
        raise ValueError(f"revoked is not an object of at most {_MOST_REVOKED}")
    return PreviousGeneration(
        _number(entry["generation"]),
        MarbleRoot.from_pem(entry["marbleRoot"].encode()),
        _seconds(entry["until"]),
        {name: _seconds(end) for name, end in revoked.items()},
    )


def _require_keys(entry: Any, keys: set[str]) -> None:
    if type(entry) is not dict or entry.keys() != keys:
        raise ValueError(f"not an object with the keys {', '.join(sorted(keys))}")


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:  # not isinstance: true is an int in Python, but no number in JSON
        raise ValueError("a generation is not a number from 0")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("a time is not a number of seconds")
    return float(value)
