"""What people call services and methods on the command line, and what the registry calls them. Nothing is guessed.

A name that fits several is an error that lists them.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf import descriptor_pool

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi.model import Documents, Protocol, Service

_OURS, _GENERATED = "confidential_bookstore.api.", "_pb2"


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request: method in upper case, and path. gRPC's method is POST."""

    method: str
    path: str

    def __str__(self) -> str:
        return self.path if self.method == "POST" else f"{self.method} {self.path}"


def find_service(documents: Documents, text: str, where: str) -> Service:
    """The service that is called so: `name`, `name.namespace` or `namespace/name`, of itself or of its account.

    Its own name counts more than its account's; an account's with several services is that account's first one, if
    they are alike.

    Raises:
        ConfigurationError: none or several, named with `where` they were looked for.
    """
    services = sorted(documents.services.values(), key=lambda each: each.key)
    own = [each for each in services if text in (each.name, f"{each.name}.{each.namespace}", each.key)]
    found = own or [each for each in services if text in (each.account.name, str(each.account))]
    if not found:
        names = [f"{each.name}.{each.namespace}" for each in services]
        near = difflib.get_close_matches(text, [*names, *(each.name for each in services)], n=1)
        raise ConfigurationError(
            f"no service or account of this name in {where}",
            got=repr(text),
            expected=", ".join(names) or "a MeshService",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    if len({(each.account, each.port, each.protocol, each.grpc_services) for each in found}) > 1:
        raise ConfigurationError(
            f"several services of this name in {where}",
            got=repr(text),
            expected=" or ".join(f"{each.name}.{each.namespace}" for each in found),
        )
    return found[0]


def methods_of(service: Service) -> tuple[Request, ...]:
    """Every method of its gRPC services that this project has the interface of."""
    return tuple(Request("POST", path) for name in service.grpc_services for path in _paths(name))


def find_request(service: Service, text: str) -> Request:
    """The method that is called so: its path, `Service/Method`, or a method's name; `GET /path` where HTTP is spoken.

    Raises:
        ConfigurationError: there is none, there are several, or the service takes no requests.
    """
    if service.protocol is Protocol.TCP:
        raise ConfigurationError(f"{service.key} has connections, not methods", got=repr(text), hint="leave it out")
    if service.protocol is Protocol.HTTP:
        method, _, path = text.partition(" ")
        if not (method.isupper() and path.startswith("/")):
            raise ConfigurationError(f"{service.key} speaks HTTP", got=repr(text), expected="'GET /path'")
        return Request(method, path)
    known = methods_of(service)
    if text.startswith("/") and (text.count("/") == 2 or not known):
        return Request("POST", text)
    found = [each for each in known if each.path.endswith((f"/{text}", f".{text}"))]
    if len(found) != 1:
        raise ConfigurationError(
            f"{'several methods' if found else 'no method'} of this name at {service.key}",
            got=repr(text),
            expected=" or ".join(map(str, found or known)) or "the full path of a method",
        )
    return found[0]


def _paths(service: str) -> Iterable[str]:
    if not service.startswith(_OURS):  # a document must not choose what is imported
        return ()
    package = service.rpartition(".")[0]
    try:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.name.endswith(_GENERATED):
                importlib.import_module(f"{package}.{module.name}")
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except (ImportError, KeyError, ValueError):
        return ()
    return [f"/{service}/{method.name}" for method in descriptor.methods]
