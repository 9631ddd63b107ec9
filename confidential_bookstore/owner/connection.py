"""HTTPS with a coordinator whose root certificate is known, and the envelope of its answers.

The coordinator serves its root certificate itself. Exactly that certificate is accepted, whatever the address; the
handshake proves that the server holds its key. Nothing is sent before that.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.errors import CoordinatorRefused, CoordinatorUnavailable, CoordinatorUntrusted
from confidential_bookstore.marble.tls import split_address, unverified_context
from confidential_bookstore.owner.user import User

LARGEST_ANSWER = 16 << 20  # bytes
_SECONDS = 20.0
_CHANGE_SECONDS = 300.0  # a change may make large RSA keys
UNREACHABLE = "check that it runs, and that the address is that of its client API"  # a hint
_MOST_TEXT = 2000
_HINTS = (  # status, a part of the coordinator's message, what to do
    (405, "", "this coordinator has no such function; is its version the one you expect?"),
    (401, "", "give certificate and key of a user of the manifest: --user-cert, --user-key"),
    (403, "", "the manifest in force must switch it on, in Config.FeatureGates"),
    (404, "", "nothing is pending; `cbs manifest update` proposes an update"),
    (410, "", "this coordinator has no such function any more"),
    (0, "not in expected state", "see `cbs status` for the state it is in"),
    (0, "requested value not set", "no manifest: `cbs manifest set FILE`, or recovery if `cbs status` says so"),
    (0, "already in progress", "see `cbs manifest show-update`; acknowledge it or cancel it"),
    (0, "does not match the pending manifest", "get the pending one with `cbs manifest show-update --out FILE`"),
    (0, "downgrade", "see the versions in force with `cbs manifest get --display-update`"),
    (0, "is not allowed", "the manifest's Roles say who may; ask a user who has the role"),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """One coordinator. Every request has a TLS connection of its own.

    Args:
        address: of the client API, `host:port`.
        root: the verified root certificate.
        user: shown as client certificate; None for requests that anybody may make.
        seconds: how long the coordinator may be silent; `change_seconds` after a POST.
    """

    address: str
    root: x509.Certificate
    user: User | None = None
    seconds: float = _SECONDS
    change_seconds: float = _CHANGE_SECONDS

    def get(self, path: str) -> Any:
        """The `data` of the answer.

        Raises:
            CoordinatorUnavailable: no answer, or one that is no envelope.
            CoordinatorUntrusted: the server has another certificate.
            CoordinatorRefused: the answer is no success.
        """
        return self._request("GET", path, b"")

    def post(self, path: str, body: Mapping[str, object] | bytes) -> Any:
        """The same for a POST, with an object as JSON, or bytes as they are."""
        return self._request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())

    def _request(self, method: str, path: str, body: bytes) -> Any:
        host, port = split_address(self.address)
        context = unverified_context(
            chain_pem=self.user.certificate_pem if self.user else None, key_pem=self.user.key_pem if self.user else None
        )
        connection = http.client.HTTPSConnection(host, port, timeout=self.seconds, context=context)
        try:
            connection.connect()
            self._require_root(connection.sock)
            headers = {"Content-Type": "application/json"} if body else {}
            if method == "POST":
                connection.sock.settimeout(self.change_seconds)
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            answer = response.read(LARGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise CoordinatorUnavailable(
                f"no answer from the coordinator at {self.address}",
                got=getattr(error, "strerror", None) or str(error) or type(error).__name__,
                hint=UNREACHABLE,
            ) from error
        finally:
            connection.close()
        return read_answer(response.status, answer)

    def _require_root(self, tls: object) -> None:
        served = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLSocket) else None
        if served != self.root.public_bytes(Encoding.DER):
            raise changed_root(self.address, expected=self.root)


def changed_root(address: str, *, expected: x509.Certificate) -> CoordinatorUntrusted:
    """The error for a coordinator that is another one than the one that was verified before."""
    return CoordinatorUntrusted(
        f"the coordinator at {address} has another root certificate than the one verified before",
        expected=f"SHA-256 {expected.fingerprint(SHA256()).hex()}",
        hint="in recovery mode this is normal until it has been recovered (`cbs status`, `cbs recover`);"
        " if you set it up anew yourself, `cbs context unpin`; otherwise do not trust it",
    )


def read_answer(status: int, answer: bytes) -> Any:
    """The `data` of `{"status": "success", "data": ...}`; pure.

    Raises:
        CoordinatorUnavailable: it is no such envelope.
        CoordinatorRefused: it is one, but says "fail" or "error".
    """
    if len(answer) > LARGEST_ANSWER:
        raise CoordinatorUnavailable(
            "the coordinator's answer is too large", expected=f"at most {LARGEST_ANSWER} bytes"
        )
    try:
        envelope = json.loads(answer)
        outcome, data, message = envelope["status"], envelope["data"], envelope.get("message", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CoordinatorUnavailable(
            "the coordinator's answer cannot be read", got=f"HTTP {status} without MarbleRun's envelope"
        ) from error
    if status == http.client.OK and outcome == "success":
        return data
    text = printable(str(message))[:_MOST_TEXT] or http.client.responses.get(status, "no reason given")
    raise CoordinatorRefused(f"the coordinator refuses: HTTP {status}: {text}", status=status, hint=_hint(status, text))


def printable(text: str) -> str:
    """Without control characters, which could write over what a terminal shows."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _hint(status: int, text: str) -> str:
    return next((hint for code, part, hint in _HINTS if code in (0, status) and part in text), "")
