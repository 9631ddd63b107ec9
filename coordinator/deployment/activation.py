"""What an activation gives to a marble, and to whom it is refused.

Pure: the quote is verified, the counter kept and the clock read by the caller. An activation is three steps:

1. `check_request`: the type is in the manifest and its limit is not reached;
2. the caller verifies the quote against the package in force;
3. `parse_uuid` and `build_parameters`: certificate, secrets that the marble's templates use, rendered templates.

Nothing is locked, so a caller that awaits in between repeats step 1 where it counts the activation.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from confidential_bookstore.errors import ActivationDenied, InvalidRequest, TemplateError
from confidential_bookstore.secret import Secret
from coordinator.deployment.ttls import ttls_config
from coordinator.manifest import FileSpec, Manifest, MarbleSpec
from coordinator.manifest.fields import join_path
from coordinator.manifest.template import Namespace, TemplateKind, template_data
from coordinator.pki.authority import Authority, IssuedCertificate
from coordinator.pki.building import RandomBytes
from coordinator.secret_value import SecretType, SecretValue
from coordinator.secrets.lifecycle import SecretValues
from coordinator.secrets.on_demand import secrets_of_marble

ROOT_CA = "MARBLE_PREDEFINED_ROOT_CA"
CERTIFICATE_CHAIN = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"
PRIVATE_KEY = "MARBLE_PREDEFINED_PRIVATE_KEY"
COORDINATOR_ROOT_CA = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"
TTLS_CONFIG = "MARBLE_TTLS_CONFIG"

_UUID = re.compile(
    r"(?:urn:uuid:)?(?P<plain>{dashed})|\{{(?P<braced>{dashed})\}}|(?P<hex>[0-9a-f]{{32}})".format(
        dashed="[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    ),
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRequest:
    """What a marble sends: `rpc.ActivationReq`."""

    marble_type: str
    uuid: str
    csr: bytes = field(repr=False)
    quote: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a marble gets: `rpc.Parameters`. Full of secrets, so nothing of it is in the repr."""

    files: dict[str, bytes] = field(repr=False)
    env: dict[str, bytes] = field(repr=False)
    argv: tuple[str, ...] = field(repr=False)


def check_request(manifest: Manifest, request: ActivationRequest, activations: Mapping[str, int]) -> MarbleSpec:
    """The marble's part of the manifest, if its type may be activated once more.

    Args:
        manifest: in force.
        request: not trusted.
        activations: how often each type was activated so far; absent means never.

    Raises:
        ActivationDenied: unknown type, or its limit is reached.
    """
    marble = manifest.marbles.get(request.marble_type)
    if marble is None:
        raise ActivationDenied(
            "unknown marble type requested",
            hint="EDG_MARBLE_TYPE is one of the names in the manifest's Marbles",
        )
    if 0 < marble.max_activations <= activations.get(marble.name, 0):
        raise ActivationDenied(
            f'reached max activations count ({marble.max_activations}) for marble type "{marble.name}"',
            hint="every start of a marble counts; raise MaxActivations in the manifest",
        )
    return marble


def makes_rsa_keys(manifest: Manifest, marble_type: str) -> bool:
    """Whether an activation of this type has an RSA key to make, as far as its templates say by name."""
    marble = manifest.marbles[marble_type]
    incoming = (port.certificate for tag in marble.tls for port in manifest.tls[tag].incoming)
    specs = (manifest.secrets.get(name) for name in {*marble.references, *incoming})
    return any(spec is not None and spec.is_unique and spec.type is SecretType.CERT_RSA for spec in specs)


def parse_uuid(text: str) -> UUID:
    """A UUID in any of its forms: with dashes (plain, after `urn:uuid:`, in braces) or as 32 hex digits.

    Raises:
        InvalidRequest: it is none, or the nil UUID, which would make all marbles that have it the same marble.
    """
    match = _UUID.fullmatch(text)
    if match is None:
        raise InvalidRequest("invalid UUID", got=ascii(text[:80]), expected="8-4-4-4-12 hex digits")
    value = UUID(match["plain"] or match["braced"] or match["hex"])
    if not value.int:
        raise InvalidRequest("invalid UUID", got="the nil UUID", hint="give every marble its own")
    return value


def build_parameters(
    manifest: Manifest,
    marble_type: str,
    uuid: UUID,
    csr_der: bytes,
    *,
    authority: Authority,
    secrets: SecretValues,
    root_secret: Secret[bytes],
    previous_root_secret: Secret[bytes],
    trust_domain: str,
    lifetime: dt.timedelta,
    now: dt.datetime,
    random: RandomBytes = os.urandom,
) -> Parameters:
    """Issue the marble's certificate, make the secrets it uses, and render its files and variables.

    May take seconds when the marble has an RSA certificate of its own: call from a thread.

    Args:
        manifest: in force.
        marble_type: as `check_request` accepted it.
        uuid: from `parse_uuid`.
        csr_der: the marble's certificate request.
        authority: signs.
        secrets: shared and uploaded ones.
        root_secret: what unique symmetric keys are derived from.
        previous_root_secret: before the last rotation.
        trust_domain: of the names in the certificate.
        lifetime: of the marble's certificate.
        now: with a time zone.
        random: bytes for serial numbers.

    Raises:
        InvalidRequest: the certificate request is refused.
        StateError: a certificate for TLS connections has not been uploaded yet.
        ManifestError: a certificate would have ended already, a secret that a template uses has not been uploaded yet,
            or an uploaded value does not suit its template.
    """
    marble = manifest.marbles[marble_type]
    issued = authority.issue_marble_certificate(
        csr_der,
        marble_type=marble_type,
        uuid=uuid,
        trust_domain=trust_domain,
        lifetime=lifetime,
        now=now,
        reserved_names=manifest.marbles.keys(),
        random=random,
    )
    present, previous = secrets_of_marble(
        manifest.secrets,
        secrets,
        authority,
        root_secret=root_secret,
        previous_root_secret=previous_root_secret,
        marble_type=marble_type,
        uuid=uuid,
        binding=not marble.disable_secret_binding,
        now=now,
        random=random,
    )
    predefined = _predefined(authority, issued)
    data = template_data(present, predefined, previous)
    place = f"{join_path('Marbles', marble_type)}.Parameters"
    env = _render(marble.parameters.env, data, TemplateKind.ENV, place) | _reserved_variables(authority, issued)
    ttls = ttls_config(
        [manifest.tls[tag] for tag in marble.tls],
        marble_root=authority.marble_root.public_bytes(serialization.Encoding.DER),
        marble=predefined["MarbleCert"],
        secrets=present,
    )
    if ttls:
        env[TTLS_CONFIG] = ttls
    files = _render(marble.parameters.files, data, TemplateKind.FILE, place)
    return Parameters(files=files, env=env, argv=marble.parameters.argv)


def _render(specs: Mapping[str, FileSpec], data: Namespace, kind: TemplateKind, place: str) -> dict[str, bytes]:
    rendered = {}
    for key, spec in specs.items():
        try:
            rendered[key] = spec.render(data, kind)
        except TemplateError as error:
            raise error.at(join_path(f"{place}.{kind.value}", key)) from None
    return rendered


def _predefined(authority: Authority, issued: IssuedCertificate) -> dict[str, SecretValue]:
    """`.MarbleRun`: the root of all marbles, the marble itself, and the coordinator."""
    marble = SecretValue(
        type=SecretType.CERT_ECDSA,
        certificate=issued.certificate_der,
        private=issued.private_key_der,
        public=Secret(issued.public_key_der),
    )
    return {
        "RootCA": _without_key(authority.marble_root),
        "MarbleCert": marble,
        "CoordinatorRoot": _without_key(authority.root),
        "CoordinatorIntermediate": _without_key(authority.intermediate),
    }


def _without_key(certificate: x509.Certificate) -> SecretValue:
    der = certificate.public_bytes(serialization.Encoding.DER)
    return SecretValue(type=SecretType.CERT_ECDSA, certificate=der, private=Secret(b""), public=Secret(b""))


def _reserved_variables(authority: Authority, issued: IssuedCertificate) -> dict[str, bytes]:
    """MarbleRun's variables, which stand above whatever the manifest says."""
    pem = serialization.Encoding.PEM
    private_key = issued.private_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        ROOT_CA: authority.marble_root.public_bytes(pem),
        CERTIFICATE_CHAIN: issued.certificate.public_bytes(pem) + authority.intermediate.public_bytes(pem),
        PRIVATE_KEY: private_key,
        COORDINATOR_ROOT_CA: authority.root.public_bytes(pem),
    }
