"""The values of templates, their Go types and their truth.

Go's string, bool, int and float64 are bytes, bool, int and float here. Secrets are looked up when a template names
them, since a mapping may make them only then.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from confidential_bookstore.secret import Secret
from coordinator.secret_value import SecretType, SecretValue


class TemplateKind(enum.Enum):
    """What a template makes; some functions exist for one kind only."""

    FILE = "Files"
    ENV = "Env"


class Unsuitable(Exception):
    """A value cannot be used like this. Never leaves the template package: the evaluator adds the place."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Nil:
    """`nil`, and what a missing key gives; `hint` says which one is missing."""

    hint: str = ""


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Go's `uint` (a secret's Size) or `uint8` (one byte)."""

    number: int
    type_name: str = "uint"


@dataclass(frozen=True, slots=True)
class Certificate:
    """`.Cert` of a secret: DER, empty if it has none. A struct in Go, so it is always true."""

    der: Secret[bytes]


@dataclass(frozen=True, slots=True)
class Key:
    """`.Private` or `.Public` of a secret: DER, or the bytes of a symmetric key. A slice of bytes in Go."""

    type_name: str
    pem_label: str
    value: Secret[bytes]

    def __len__(self) -> int:
        return len(self.value.reveal())


@dataclass(frozen=True, slots=True)
class WholeSecret:
    """A struct with the fields of a secret; None is Go's zero value of it, which `index` gives for a missing key."""

    value: SecretValue | None

    def field(self, name: str) -> Value | None:
        """The field of that name, None if there is none."""
        read = _FIELDS.get(name)
        return read(self.value or _ZERO) if read else None


_ZERO = SecretValue(type=SecretType.PLAIN, private=Secret(b""), public=Secret(b""))
_FIELDS: Mapping[str, Callable[[SecretValue], Value]] = MappingProxyType(
    {
        "Type": lambda secret: b"" if secret is _ZERO else secret.type.value.encode(),
        "Size": lambda secret: Unsigned(secret.size),
        "Shared": lambda secret: secret.shared,
        "UserDefined": lambda secret: secret.user_defined,
        "Cert": lambda secret: Certificate(Secret(secret.certificate or b"")),
        "ValidFor": lambda secret: Unsigned(secret.valid_for),
        "Private": lambda secret: Key("manifest.PrivateKey", "PRIVATE KEY", secret.private),
        "Public": lambda secret: Key("manifest.PublicKey", "PUBLIC KEY", secret.public),
    }
)


@dataclass(frozen=True, slots=True)
class SecretMap:
    """`.Secrets`: a map whose missing keys are nothing."""

    secrets: Mapping[str, SecretValue]

    def get(self, name: str) -> WholeSecret | None:
        """Look up a secret, which may make it."""
        secret = self.secrets.get(name)
        return None if secret is None else WholeSecret(secret)

    def __len__(self) -> int:
        return len(self.secrets)

    def items(self) -> Iterator[tuple[Value, Value]]:
        """In the order of their names, each looked up when it is its turn."""
        for name in sorted(self.secrets):
            yield name.encode(errors="surrogatepass"), WholeSecret(self.secrets[name])


@dataclass(frozen=True, slots=True)
class Namespace:
    """`.`, `.MarbleRun`, `.Previous`: a struct, whose missing fields are errors."""

    members: Mapping[str, Namespace | SecretMap | SecretValue]


Value: TypeAlias = (
    "bytes | bool | int | float | Nil | Unsigned | Certificate | Key | WholeSecret | SecretMap | Namespace"
)


def template_data(
    secrets: Mapping[str, SecretValue],
    marblerun: Mapping[str, SecretValue],
    previous: Mapping[str, SecretValue] | None = None,
) -> Namespace:
    """The data of a marble's templates. The mappings may be lazy: nothing is copied, or looked up here.

    Args:
        secrets: the current generation.
        marblerun: `RootCA`, `MarbleCert`, `CoordinatorRoot`, `CoordinatorIntermediate`.
        previous: the generation before it; None if there is none, which makes it the current one.
    """
    return Namespace(
        {
            "Secrets": SecretMap(secrets),
            "MarbleRun": Namespace(marblerun),
            "Previous": Namespace({"Secrets": SecretMap(secrets if previous is None else previous)}),
        }
    )


def field_of(value: Value, name: str) -> Value:
    """`value.name`. Nothing of nothing is nothing.

    Raises:
        Unsuitable: a struct has no such field, or it is no struct.
    """
    match value:
        case Nil():
            return value
        case SecretMap():
            return value.get(name) or Nil(f'there is no secret "{name[:80]}"')
        case WholeSecret():
            found = value.field(name)
            if found is None:
                raise Unsuitable(
                    f"a secret has no field {name[:80]!a}",
                    f"it has {', '.join(_FIELDS)}",
                )
            return found
        case Namespace():
            member = value.members.get(name)
            if member is None:
                raise Unsuitable(f"there is no field {name[:80]!a}", f"there are {', '.join(value.members)}")
            return WholeSecret(member) if isinstance(member, SecretValue) else member
        case _:
            raise Unsuitable(f"can't evaluate field {name[:80]!a} in type {type_name(value)}")


_TYPE_NAMES: Mapping[type, str] = MappingProxyType(
    {
        Nil: "<nil>",
        bytes: "string",
        bool: "bool",
        int: "int",
        float: "float64",
        Certificate: "manifest.Certificate",
        WholeSecret: "manifest.Secret",
        SecretMap: "map[string]manifest.Secret",
        Namespace: "struct",
    }
)


def type_name(value: Value) -> str:
    """What Go calls the type of a value."""
    return value.type_name if isinstance(value, Unsigned | Key) else _TYPE_NAMES[type(value)]


def truth(value: Value) -> bool:
    """What `if` makes of a value: nothing, zero and what is empty are false; structs are true."""
    match value:
        case Nil():
            return False
        case Unsigned():
            return value.number != 0
        case Key() | SecretMap():
            return len(value) > 0
        case Certificate() | WholeSecret() | Namespace():
            return True
        case _:
            return bool(value)
