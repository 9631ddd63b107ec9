"""What a marble has become by activation: its certificate, its key and the roots it trusts.

`Identity` is a checked value: whoever holds one may rely on the key fitting the certificate, the certificate naming
this marble type, and the chain ending in the coordinator's root. `LiveIdentity` is where the present one is found,
because a renewal replaces it, and where its peers' certificates are judged, because the coordinator's generations say
which of them are still good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from confidential_bookstore.errors import CoordinatorUntrusted
from confidential_bookstore.marble.generations import Generations, issuer_key_id
from confidential_bookstore.pki.names import marble_type_of, marble_uri
from confidential_bookstore.secret import Secret

# Set by the coordinator for every marble; the names are MarbleRun's.
MARBLE_ROOT = "MARBLE_PREDEFINED_ROOT_CA"
CERTIFICATE_CHAIN = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"
PRIVATE_KEY = "MARBLE_PREDEFINED_PRIVATE_KEY"
COORDINATOR_ROOT = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One marble's certificate with its key. `not_before` and `not_after` are Unix seconds.

    `chain_pem` is the leaf, then the coordinator's intermediate. Peers anchor in `marble_root_pem` (the intermediate's
    name and key, self-signed); whoever has attested the coordinator anchors in `coordinator_root_pem`. Below
    `trust_domain` the coordinator keeps one name for each marble type; it is empty if the coordinator keeps none.
    `issuer_key_id` tells which generation the certificate is of.
    """

    marble_type: str
    uuid: str
    chain_pem: bytes
    private_key_pem: Secret[bytes]
    marble_root_pem: bytes
    coordinator_root_pem: bytes
    not_before: float
    not_after: float
    trust_domain: str
    issuer_key_id: bytes = b""

    def expired(self, now: float) -> bool:
        """Whether peers refuse the certificate at this time (Unix seconds)."""
        return now >= self.not_after

    @classmethod
    def from_environment(
        cls, env: Mapping[str, str], *, marble_type: str, uuid: str, coordinator_root: x509.Certificate
    ) -> Identity:
        """Checks and takes what the coordinator's answer says.

        Args:
            env: the answer's environment with the four MARBLE_PREDEFINED variables.
            marble_type: what this marble asked to be.
            uuid: its UUID.
            coordinator_root: the root that was verified before activation.

        Raises:
            CoordinatorUntrusted: something is missing, or the parts do not belong together.
        """
        try:
            root, marble_root, chain_pem, key_pem = (
                env[key].encode() for key in (COORDINATOR_ROOT, MARBLE_ROOT, CERTIFICATE_CHAIN, PRIVATE_KEY)
            )
        except KeyError as error:
            raise CoordinatorUntrusted("the coordinator's answer lacks a variable", expected=error.args[0]) from None
        try:
            leaf = _check_chain(chain_pem, root, marble_root, coordinator_root)
            _check_key(leaf, key_pem)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise CoordinatorUntrusted(
                f"the coordinator's answer does not hold together: {error or type(error).__name__}"
            ) from error
        if (named := marble_type_of(leaf)) != marble_type:
            raise CoordinatorUntrusted("the certificate is for another marble type", got=named, expected=marble_type)
        return cls(
            marble_type=marble_type,
            uuid=uuid,
            chain_pem=chain_pem,
            private_key_pem=Secret(key_pem),
            marble_root_pem=marble_root,
            coordinator_root_pem=root,
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            trust_domain=_trust_domain(leaf, marble_type),
            issuer_key_id=issuer_key_id(leaf),
        )


def _check_chain(
    chain_pem: bytes, root_pem: bytes, marble_root_pem: bytes, pinned_root: x509.Certificate
) -> x509.Certificate:
    """Leaf from intermediate from root, and the Marble Root has the intermediate's name and key."""
    leaf, intermediate, *more = x509.load_pem_x509_certificates(chain_pem)
    if more:
        raise ValueError("the chain has more than two certificates")
    root = x509.load_pem_x509_certificate(root_pem)
    marble_root = x509.load_pem_x509_certificate(marble_root_pem)
    if root != pinned_root:
        raise ValueError("the root is not the verified coordinator's")
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    leaf.verify_directly_issued_by(marble_root)
    return leaf


def _check_key(leaf: x509.Certificate, key_pem: bytes) -> None:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = load_pem_private_key(key_pem, password=None)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ValueError("the private key is not the certificate's")


def _trust_domain(leaf: x509.Certificate, marble_type: str) -> str:
    """From the leaf's SPIFFE id; empty if there is none, as from an original MarbleRun coordinator."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if (domain := urlsplit(uri).hostname) and uri == marble_uri(marble_type, domain):
            return domain
    return ""


@dataclass(frozen=True, slots=True)
class _State:
    identity: Identity
    generations: Generations | None
    version: int


class LiveIdentity:
    """The present identity of this marble, and whom it trusts. `version` tells that any of it has changed.

    Used by the event loop and by gRPC's handshake threads: the state is replaced in one assignment. Before generations
    are known, and with a coordinator that tells none, the identity's own Marble Root is all that is trusted.
    """

    __slots__ = ("_clock", "_state")

    def __init__(self, identity: Identity, clock: Callable[[], float] = time.time) -> None:
        self._state = _State(identity, None, 0)
        self._clock = clock

    @property
    def current(self) -> Identity:
        """The newest identity."""
        return self._state.identity

    @property
    def generations(self) -> Generations | None:
        """What the coordinator has said last; None if it has said nothing."""
        return self._state.generations

    @property
    def version(self) -> int:
        """0 at first, one more after every change."""
        return self._state.version

    @property
    def accepted_until(self) -> float:
        """When peers stop accepting the present certificate, by its own end or by the generations; Unix seconds."""
        return self._accepted_until(self.current)

    @property
    def expired(self) -> bool:
        """Whether peers refuse the present certificate now."""
        return self.refused(self.current)

    @property
    def revoked(self) -> bool:
        """Whether an update of the manifest ends the present certificate before its time."""
        return self.accepted_until < self.current.not_after

    @property
    def outdated(self) -> bool:
        """Whether the present certificate is of an earlier generation than the present one."""
        generations, key_id = self._state.generations, self.current.issuer_key_id
        return generations is not None and key_id != generations.present.key_id and generations.knows(key_id)

    def refused(self, identity: Identity) -> bool:
        """Whether peers refuse the certificate of this one, the present or an earlier identity."""
        return self._clock() >= self._accepted_until(identity)

    def _accepted_until(self, identity: Identity) -> float:
        generations = self._state.generations
        end = generations.end(identity.issuer_key_id, identity.marble_type) if generations else identity.not_after
        return min(identity.not_after, end)

    def roots(self, marble_type: str | None = None) -> bytes:
        """PEM of the Marble Roots that are trusted now, for peers of this type, or of any."""
        state = self._state
        if state.generations is None:
            return state.identity.marble_root_pem
        return self._with_own(state, state.generations.accepted_roots(self._clock(), marble_type))

    def lasting_roots(self, marble_type: str) -> bytes:
        """The same without those in which this type is going to be revoked."""
        state = self._state
        if state.generations is None:
            return state.identity.marble_root_pem
        return self._with_own(state, state.generations.lasting_roots(self._clock(), marble_type))

    def revoked_roots(self, marble_type: str) -> tuple[bytes, ...]:
        """PEM of the Marble Roots in which this type has been revoked: connections that trust one must end."""
        generations = self._state.generations
        return generations.revoked_roots(self._clock(), marble_type) if generations else ()

    def refusal(self, key_id: bytes, marble_type: str) -> str | None:
        """Why the certificate of a peer, which TLS has accepted, is not accepted now; None if it is.

        Args:
            key_id: of the certificate's issuer.
            marble_type: whom the certificate names.
        """
        state = self._state
        if state.generations is None or key_id == state.generations.present.key_id:
            return None
        if key_id == state.identity.issuer_key_id and not state.generations.knows(key_id):
            return None  # this marble has renewed, and has not been told yet why
        return state.generations.refusal(key_id, marble_type, self._clock())

    def next_deadline(self) -> float | None:
        """The next time at which another certificate or root stops being accepted, by what is known now."""
        return self._state.generations.next_deadline(self._clock()) if self._state.generations else None

    def replace(self, identity: Identity) -> None:
        """Puts a renewed identity in force for new connections."""
        same = identity.coordinator_root_pem == self.current.coordinator_root_pem
        self._state = _State(identity, self._state.generations if same else None, self._state.version + 1)

    def learn(self, generations: Generations) -> None:
        """Puts what the coordinator says in force."""
        self._state = _State(self.current, generations, self._state.version + 1)

    def refresh(self) -> None:
        """Says that a deadline has passed."""
        self._state = _State(self.current, self._state.generations, self._state.version + 1)

    @staticmethod
    def _with_own(state: _State, roots: bytes) -> bytes:
        """A certificate of a generation that this marble has not been told of comes with a root of its own."""
        assert state.generations is not None  # noqa: S101  # the callers have looked
        if state.generations.knows(state.identity.issuer_key_id):
            return roots
        return roots + state.identity.marble_root_pem
