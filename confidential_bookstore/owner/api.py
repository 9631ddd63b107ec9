"""The coordinator's client API, call by call, for a coordinator that is verified already.

Version 2 is asked first. Where an older coordinator does not have a path (405), the path of version 1 is.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.errors import CoordinatorRefused
from confidential_bookstore.owner import answers
from confidential_bookstore.owner.connection import Connection

_NOT_THERE = 405


@dataclass(frozen=True, slots=True)
class CoordinatorApi:
    """All calls raise what `Connection.get` raises, and CoordinatorUnavailable for an answer that cannot be read."""

    connection: Connection

    def status(self) -> answers.CoordinatorStatus:
        """Its state."""
        return answers.read_status(self._first(_get("/api/v2/status"), _get("/status")))

    def manifest(self) -> answers.SignedManifest:
        """The manifest in force, its signature checked. An older coordinator has none if it is empty."""
        data = self._first(_get("/api/v2/manifest"), _get("/manifest"))
        if isinstance(data, dict) and data.get("Manifest", "") is None:
            raise CoordinatorRefused(
                "the coordinator has no manifest", status=200, hint="set one: `cbs manifest set FILE`"
            )
        return answers.read_manifest(data, self.connection.root)

    def set_manifest(self, raw: bytes) -> dict[str, bytes]:
        """Give it its first manifest; encrypted recovery secrets by the name of the key."""
        return answers.read_recovery_secrets(self._upload("/api/v2/manifest", "/manifest", raw))

    def secrets(self, names: Sequence[str]) -> dict[str, answers.ReceivedSecret]:
        """Values of secrets. Needs a user who may read all of them."""
        query = urllib.parse.urlencode([("s", name) for name in names])
        return answers.read_secrets(self._first(_get(f"/api/v2/secrets?{query}"), _get(f"/secrets?{query}")))

    def set_secrets(self, secrets: Mapping[str, Mapping[str, str]]) -> None:
        """Give values, `{name: {"Cert" or "Private" or "Key": base64}}`. Needs a user who may write all of them."""
        self._first(_post("/api/v2/secrets", {"secrets": secrets}), _post("/secrets", secrets))

    def update_log(self) -> tuple[str, ...]:
        """Its lines, each a JSON object."""
        return answers.read_log(self._first(_get("/api/v2/update"), _get("/update")))

    def update(self, raw: bytes) -> answers.UpdateAnswer:
        """Propose a manifest, or raise SecurityVersions. Needs a user who may."""
        return answers.read_update(self._upload("/api/v2/update", "/update", raw))

    def pending_update(self) -> answers.PendingManifest:
        """The update that waits for acknowledgements."""
        return answers.read_pending(self._first(_get("/api/v2/update-manifest"), _get("/update-manifest")))

    def acknowledge(self, raw: bytes) -> answers.UpdateAnswer:
        """Agree to the pending update by giving the very same manifest. Needs a user who may."""
        return answers.read_update(self._upload("/api/v2/update-manifest", "/update-manifest", raw))

    def cancel_update(self) -> None:
        """Drop the pending update. Needs a user who may."""
        self._first(_post("/api/v2/update-cancel", b""), _post("/update-cancel", b""))

    def recovery_public_key(self) -> bytes:
        """The key (DER) for which recovery secrets can be encrypted on their way to this coordinator."""
        return answers.read_ephemeral_key(self.connection.get("/api/v2/recover/public-key"))

    def recover(self, secret: bytes, signature: bytes) -> tuple[int, str]:
        """Upload a recovery secret, plain or encrypted for `recovery_public_key`; how many are missing, and a message.

        The signature is over the plain secret. Version 1 of the API has no recovery.
        """
        body = {"recoverySecret": _base64(secret), "recoverySecretSignature": _base64(signature)}
        return answers.read_progress(self.connection.post("/api/v2/recover", body))

    def _upload(self, path: str, old_path: str, raw: bytes) -> Any:
        return self._first(_post(path, {"manifest": _base64(raw)}), _post(old_path, raw))

    def _first(self, call: _Call, old_call: _Call) -> Any:
        try:
            return call(self.connection)
        except CoordinatorRefused as refused:
            if refused.status != _NOT_THERE:
                raise
        return old_call(self.connection)


_Call = Callable[[Connection], Any]


def _get(path: str) -> _Call:
    return lambda connection: connection.get(path)


def _post(path: str, body: Mapping[str, object] | bytes) -> _Call:
    return lambda connection: connection.post(path, body)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
