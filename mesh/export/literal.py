"""Regular expressions for meshes that have none: what a pattern says, if that can be said without one.

A pattern that is plain text, or plain text with `.*` in front of it or behind it, is exactly that. Any other path of a
gRPC service is decided over the service's methods, which are known. What remains is refused: a wider pattern would
open a door, a narrower one would close one without a word.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import Documents, Service

Methods = Mapping[str, tuple[str, ...]]  # names of the methods by full name of the gRPC service

_ANY = ".*"
_TOKEN = re.compile(r"\\(?P<escaped>[^A-Za-z0-9])|\[(?P<single>[^\\\]^])\]|(?P<plain>[^\\.+*?()|\[\]{}^$])")
# What Envoy's normalisation changes or refuses, so that no path that arrives contains it.
_NOT_NORMAL = re.compile(r"//|/\.{1,2}(?:/|$)|%2f|%5c|%2e|[\\?#]", re.IGNORECASE)


class Kind(Enum):
    """How the text has to fit."""

    ANY = "any"
    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True, order=True)
class Literal:
    """A plain text that is compared: all of it, its beginning, or its end."""

    text: str
    kind: Kind = Kind.EXACT


ANY = Literal("", Kind.ANY)


def literal(pattern: Pattern) -> Literal | None:
    """The same as a plain text; None if there is no such."""
    text = pattern.text.removeprefix("^")
    if text.endswith("$") and not text.endswith("\\$"):
        text = text[:-1]
    if text == _ANY:
        return ANY
    front, behind = text.startswith(_ANY), text.endswith(_ANY) and not text.endswith("\\.*")
    plain = _plain(text[2 if front else 0 : len(text) - (2 if behind else 0)])
    if plain is None or (front and behind):
        return None
    return Literal(plain, Kind.SUFFIX if front else Kind.PREFIX if behind else Kind.EXACT)


def _plain(text: str) -> str | None:
    said, position = "", 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        said += token["escaped"] or token["single"] or token["plain"]
        position = token.end()
    return said


def normal(path: Literal) -> bool:
    """Whether a path that arrives, and is normalised, could fit it as it is written."""
    return not _NOT_NORMAL.search(path.text)


def matching_methods(pattern: Pattern, service: Service, methods: Methods) -> tuple[Literal, ...] | None:
    """The paths of this service's methods that the pattern matches; None if its methods are not known."""
    if not service.grpc_services or any(name not in methods for name in service.grpc_services):
        return None
    paths = (f"/{name}/{method}" for name in service.grpc_services for method in methods[name])
    return tuple(Literal(path) for path in paths if pattern.matches(path))


def known_methods(documents: Documents) -> Methods:
    """The methods of the registry's gRPC services, as far as this project has their stubs."""
    names = {name for service in documents.services.values() for name in service.grpc_services}
    return {name: found for name in sorted(names) if (found := _methods(name)) is not None}


def _methods(service: str) -> tuple[str, ...] | None:
    """`confidential_bookstore.api.X.v1.Service` is described in `confidential_bookstore.api.X.v1.X_pb2`."""
    package, _, name = service.rpartition(".")
    parts = package.split(".")
    if parts[:2] != ["confidential_bookstore", "api"] or len(parts) != 4:
        return None
    try:
        stubs: Any = importlib.import_module(f"{package}.{parts[2]}_pb2")
    except ModuleNotFoundError:
        return None
    described = stubs.DESCRIPTOR.services_by_name.get(name)
    return None if described is None else tuple(method.name for method in described.methods)


def inexpressible(mesh: str, where: str, what: str, got: str, hint: str) -> MeshError:
    """The refusal of something that the target mesh has no words for."""
    return MeshError(f"{mesh} cannot express this {what}: {where}", got=got, hint=hint)
