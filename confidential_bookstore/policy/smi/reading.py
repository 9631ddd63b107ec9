"""A folder of YAML to one checked `Documents`; every mistake is an error that names file, line, document and field."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from confidential_bookstore.errors import ConfigurationError, PolicyError
from confidential_bookstore.policy.smi import (
    mesh_config,
    route_group,
    services,
    tcp_route,
    traffic_split,
    traffic_target,
)
from confidential_bookstore.policy.smi.documents import MAXIMUM_BYTES, MAXIMUM_DOCUMENTS, Document, read_documents
from confidential_bookstore.policy.smi.model import Documents
from confidential_bookstore.policy.smi.resolving import Errors, Written, resolve

SUFFIXES = (".yaml", ".yml", ".json")
API_VERSIONS: Mapping[str, tuple[str, ...]] = {
    "HTTPRouteGroup": route_group.API_VERSIONS,
    "MeshConfig": mesh_config.API_VERSIONS,
    "MeshService": services.API_VERSIONS,
    "TCPRoute": tcp_route.API_VERSIONS,
    "TrafficSplit": traffic_split.API_VERSIONS,
    "TrafficTarget": traffic_target.API_VERSIONS,
}
T = TypeVar("T")


def read_folder(folder: Path) -> Documents:
    """All policy files of a folder, not of folders in it.

    Raises:
        PolicyError: a document breaks a rule.
        ConfigurationError: the folder or a file cannot be read.
    """
    return read_texts(folder_texts(folder))


def folder_texts(folder: Path) -> dict[str, str]:
    """The texts of the policy files of a folder, by file name.

    Raises:
        PolicyError: a file is no UTF-8, or too large.
        ConfigurationError: the folder or a file cannot be read.
    """
    texts: dict[str, str] = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file():
                with path.open("rb") as file:
                    content = file.read(MAXIMUM_BYTES + 1)
                texts[path.name] = _decoded(content, path.name)
    except OSError as error:
        raise ConfigurationError(
            "policy cannot be read", got=f"{error.filename or folder}: {error.strerror}"
        ) from error
    return texts


def read_texts(texts: Mapping[str, str]) -> Documents:
    """The documents of some files, by file name.

    Raises:
        PolicyError: the first mistake, by file and line.
    """
    documents, errors = _read(texts)
    if errors:
        raise errors[0]
    return documents


def check_texts(texts: Mapping[str, str]) -> list[PolicyError]:
    """All mistakes, by file and line, up to the first hundred or so."""
    return _read(texts)[1]


def _read(texts: Mapping[str, str]) -> tuple[Documents, list[PolicyError]]:
    errors, written = Errors(), Written()
    count = 0
    for file in sorted(texts):
        if errors.full():
            break
        with errors.noted():
            for document in read_documents(texts[file], file):
                count += 1
                if count > MAXIMUM_DOCUMENTS:
                    raise PolicyError(file, "", "too many documents", expected=f"at most {MAXIMUM_DOCUMENTS}")
                if errors.full():
                    break
                with errors.noted():
                    _take(document, written)
    documents = resolve(written, errors)
    return documents, sorted(errors.found, key=_place)


def _take(document: Document, written: Written) -> None:
    kind, version = document.kind.text(), document.api_version.text()
    if kind not in API_VERSIONS:
        near = difflib.get_close_matches(kind, API_VERSIONS, n=1)
        raise document.kind.error(
            "is no kind of policy",
            got=kind,
            expected=", ".join(sorted(API_VERSIONS)),
            hint=f"did you mean {near[0]}?" if near else "",
        )
    if version not in API_VERSIONS[kind]:
        raise document.api_version.error(
            f"is no version of {kind}", got=version, expected=" or ".join(API_VERSIONS[kind])
        )
    match kind:
        case "HTTPRouteGroup":
            _put(document, route_group.read_route_group, written.groups)
        case "MeshConfig":
            _put(document, mesh_config.read_mesh_config, written.configs)
        case "MeshService":
            _put(document, services.read_service, written.services)
        case "TCPRoute":
            _put(document, tcp_route.read_tcp_route, written.tcp_routes)
        case "TrafficSplit":
            _put(document, traffic_split.read_split, written.splits)
        case _:
            _put(document, traffic_target.read_target, written.targets)


def _put(document: Document, read: Callable[[Document], T], taken: dict[str, T]) -> None:
    if document.key in taken:
        raise document.named.error("another document of this kind has this name", got=document.key)
    taken[document.key] = read(document)


def _decoded(content: bytes, file: str) -> str:
    if len(content) > MAXIMUM_BYTES:
        raise PolicyError(file, "", "the file is too large", expected=f"at most {MAXIMUM_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(file, "", f"not UTF-8: {error.reason} at byte {error.start}") from None


def _place(error: PolicyError) -> tuple[str, int]:
    file, _, rest = error.where.partition(":")
    line = rest.partition(":")[0]
    return file, int(line) if line.isdecimal() else 0
