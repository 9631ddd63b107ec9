"""Secrets of the manifest that users read and upload. Values go from and to the wire here and are never logged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from cryptography import x509

from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import InvalidRequest
from confidential_bookstore.secret import Secret
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import success
from coordinator.client_api.go_json import JsonObject, read_object
from coordinator.client_api.routes import Incoming
from coordinator.deployment.live import LiveDeployment
from coordinator.deployment.user_secrets import UserSecret, read_secrets, set_secrets
from coordinator.manifest.users import UserSpec
from coordinator.monitoring.events import Clock
from coordinator.transport.json_text import go_map

Uploads = Mapping[str, UserSecret]


@dataclass(frozen=True, slots=True)
class SecretEndpoints:
    """Secrets get and set."""

    live: LiveDeployment
    clock: Clock

    async def get(self, who: Identify[UserSpec], names: list[str]) -> web.Response:
        """GET /api/v2/secrets."""
        return success({"secrets": self._read(who, names)})

    async def get_v1(self, who: Identify[UserSpec], names: list[str]) -> web.Response:
        """GET /secrets."""
        return success(self._read(who, names))

    async def set(self, who: Identify[UserSpec], uploads: Uploads) -> web.Response:
        """POST /api/v2/secrets and /secrets."""
        await self.live.change(lambda deployment: set_secrets(deployment, who(deployment), uploads, self.clock()))
        return success(None)

    def _read(self, who: Identify[UserSpec], names: list[str]) -> dict[str, Any]:
        deployment = self.live.current
        values = read_secrets(deployment, who(deployment), names)
        # What is sealed of a secret and what a user reads have one form.
        return go_map({name: json.loads(value.to_record()) for name, value in values.items()})


def read_names(incoming: Incoming) -> list[str]:
    """All `s` of the query."""
    names = incoming.query.getall("s", [])
    if not names:
        raise InvalidRequest("invalid query: endpoint requires at least one query parameter")
    if not all(names):
        raise InvalidRequest("malformed query string: empty query parameter")
    return names


def read_uploads(incoming: Incoming) -> Uploads:
    """`{"secrets": {name: UserSecret}}`."""
    return _uploads(read_object(incoming.body).object("secrets"))


def read_uploads_v1(incoming: Incoming) -> Uploads:
    """`{name: UserSecret}`."""
    return _uploads(read_object(incoming.body, alone=True))


def _uploads(secrets: JsonObject) -> Uploads:
    return {name: _upload(fields) for name, fields in secrets.objects().items()}


def _upload(fields: JsonObject) -> UserSecret:
    certificate = fields.bytes("Cert")
    if certificate:
        try:
            x509.load_der_x509_certificate(certificate)
        except MALFORMED:
            raise InvalidRequest("field Cert is not an X.509 certificate in DER") from None
    return UserSecret(certificate=certificate, private=Secret(fields.bytes("Private")), key=Secret(fields.bytes("Key")))
