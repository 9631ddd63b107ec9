"""Secrets that users upload and read: what they may, and what an upload must be like.

Nothing of a value is ever in an error. An upload is taken whole or not at all: afterwards every template of the
manifest can still be rendered.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from confidential_bookstore.errors import InvalidRequest, NotPermitted
from confidential_bookstore.secret import Secret
from coordinator.deployment import update_log
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.state import SECRETS, Phase
from coordinator.manifest import SecretSpec
from coordinator.manifest.dry_run import check_templates
from coordinator.manifest.users import Action, UserSpec
from coordinator.secret_value import SecretType, SecretValue
from coordinator.secrets.on_demand import empty_value


def _nothing() -> Secret[bytes]:
    return Secret(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSecret:
    """An uploaded value.

    `key` for symmetric keys and plain secrets; `certificate` and perhaps `private` (PKCS#8) in DER for certificates.
    """

    certificate: bytes = b""
    private: Secret[bytes] = field(default_factory=_nothing)
    key: Secret[bytes] = field(default_factory=_nothing)


def set_secrets(
    deployment: Deployment, user: UserSpec, uploads: Mapping[str, UserSecret], now: dt.datetime
) -> tuple[Deployment, None]:
    """With the uploaded values.

    Raises:
        StateError: there is no manifest.
        InvalidRequest: a value does not fit its secret, or a secret cannot be written.
        NotPermitted: the user has no role for one of them.
        ManifestError: a template cannot be rendered with a value.
    """
    deployment.state.require(Phase.ACCEPTING_MARBLES)
    manifest = deployment.require_manifest()
    if not uploads:
        raise InvalidRequest("no new secrets defined")
    values: dict[str, SecretValue] = {}
    for name, upload in sorted(uploads.items()):
        spec = manifest.secrets.get(name)
        if spec is None:
            raise InvalidRequest("secret manifest specifies a secret which the original manifest does not contain")
        values[name] = _value(spec, upload)
    for name in values:
        if not manifest.may(user, Action.WRITE_SECRET, [name]):
            raise NotPermitted(f"user {user.name} is not allowed to update secret: {name}")
    present = {**deployment.secrets.present, **values}
    check_templates(manifest.marbles, manifest.secrets, present)
    entries = [
        update_log.line(now, update_log.SECRET_SET, user=user.name, secret=name, type=value.type.value)
        for name, value in values.items()
    ]
    records = {SECRETS + name: value.to_record() for name, value in values.items()}
    state = deployment.state.change({**records, **deployment.logged(*entries)})
    return replace(deployment, state=state, secrets=replace(deployment.secrets, present=present)), None


def read_secrets(deployment: Deployment, user: UserSpec, names: Sequence[str]) -> dict[str, SecretValue]:
    """The values, in the order of the names; one that nobody has uploaded yet is empty.

    Raises:
        StateError: there is no manifest.
        NotPermitted: the user may not read all of them, or one does not exist.
    """
    deployment.state.require(Phase.ACCEPTING_MARBLES)
    manifest = deployment.require_manifest()
    if not manifest.may(user, Action.READ_SECRET, names):
        raise NotPermitted(f"user {user.name} is not allowed to read one or more secrets of: [{' '.join(names)}]")
    return {name: deployment.secrets.present.get(name) or empty_value(manifest.secrets[name]) for name in names}


def _value(spec: SecretSpec, upload: UserSecret) -> SecretValue:
    if not spec.user_defined:
        raise InvalidRequest(f"secret {spec.name} is not writeable")
    if not spec.type.is_certificate:
        if upload.certificate or upload.private.reveal():
            raise InvalidRequest(f"secret {spec.name} has a certificate or private key", expected="a key only")
        key = upload.key.reveal()
        if spec.type is SecretType.SYMMETRIC_KEY and len(key) != spec.size // 8:
            raise InvalidRequest(f"declared size and actual size don't match: {spec.name}")
        return replace(empty_value(spec), private=upload.key, public=upload.key)
    if upload.key.reveal():
        raise InvalidRequest(f"secret {spec.name} has a key", expected="a certificate, and perhaps its private key")
    public = _public_key(spec.name, upload.certificate)
    return replace(empty_value(spec), certificate=upload.certificate, private=upload.private, public=Secret(public))


def _public_key(name: str, certificate: bytes) -> bytes:
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidRequest(f"certificate of secret {name} cannot be read", expected="X.509 in DER") from None
