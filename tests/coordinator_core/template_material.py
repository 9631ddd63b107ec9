"""What the tests of templates render: secrets of every kind, and how to render and to be refused."""

from __future__ import annotations

import pytest

from confidential_bookstore.errors import TemplateError
from confidential_bookstore.secret import Secret
from coordinator.manifest.template import Namespace, TemplateKind, parse_template, template_data
from coordinator.secret_value import SecretType, SecretValue

KEY = bytes(range(16))
CERTIFICATE = b"certificate " * 10


def secret(kind: SecretType, value: bytes, public: bytes | None = None, **fields) -> SecretValue:
    return SecretValue(type=kind, private=Secret(value), public=Secret(value if public is None else public), **fields)


SECRETS = {
    "key": secret(SecretType.SYMMETRIC_KEY, KEY, size=128, shared=True),
    "tls": secret(SecretType.CERT_RSA, b"private", b"public", size=2048, valid_for=14, certificate=CERTIFICATE),
    "note": secret(SecretType.PLAIN, b"hello 'world'", user_defined=True),
    "empty": secret(SecretType.PLAIN, b""),
    "a-b": secret(SecretType.SYMMETRIC_KEY, b"\xff", size=8),
}
MARBLERUN = {
    "RootCA": secret(SecretType.CERT_ECDSA, b"", certificate=CERTIFICATE),
    "MarbleCert": secret(SecretType.CERT_ECDSA, b"private", b"public", certificate=CERTIFICATE),
}
DATA = template_data(SECRETS, MARBLERUN)


def render(text: str, kind: TemplateKind = TemplateKind.FILE, data: Namespace = DATA) -> bytes:
    return parse_template(text).render(data, kind)


def refusal(text: str, kind: TemplateKind = TemplateKind.FILE, data: Namespace = DATA) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(text, kind, data)
    return caught.value
