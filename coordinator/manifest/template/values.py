"""What a template can see, and where it is rendered."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from confidential_bookstore.secret import Secret
from coordinator.secrets.value import SecretValue


class TemplateKind(enum.Enum):
    """What a template makes; some functions exist for one kind only."""

    FILE = "Files"
    ENV = "Env"


@dataclass(frozen=True, slots=True)
class SecretPart:
    """`.Cert`, `.Private` or `.Public` of a secret: DER, or the bytes of a symmetric key. Empty if it has none."""

    pem_label: str
    value: Secret[bytes]


@dataclass(frozen=True, slots=True)
class Namespace:
    """Named things: `.`, `.Secrets`, `.MarbleRun`; `singular` says what one of them is, for errors."""

    singular: str
    members: Mapping[str, Namespace | SecretValue]


Value: TypeAlias = "bytes | int | Namespace | SecretValue | SecretPart"


def template_data(secrets: Mapping[str, SecretValue], marblerun: Mapping[str, SecretValue]) -> Namespace:
    """The data of a marble's templates.

    Args:
        secrets: the current generation, which is the previous one too until secrets are rotated.
        marblerun: `RootCA`, `MarbleCert`, `CoordinatorRoot`, `CoordinatorIntermediate`.
    """
    current = Namespace("secret", secrets)
    return Namespace(
        "field",
        {
            "Secrets": current,
            "MarbleRun": Namespace("predefined secret", marblerun),
            "Previous": Namespace("field", {"Secrets": current}),
        },
    )


def part_of(secret: SecretValue, name: str) -> SecretPart | None:
    """`.Cert`, `.Private` or `.Public` of a secret; None for other names."""
    match name:
        case "Cert":
            return SecretPart("CERTIFICATE", Secret(secret.certificate or b""))
        case "Private":
            return SecretPart("PRIVATE KEY", secret.private)
        case "Public":
            return SecretPart("PUBLIC KEY", secret.public)
        case _:
            return None
