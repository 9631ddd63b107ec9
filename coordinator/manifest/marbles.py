"""The section `Marbles`: types of marbles and the parameters they start with."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from confidential_bookstore.errors import ManifestError, TemplateError
from coordinator.manifest.fields import Node
from coordinator.manifest.template import Bounds, Namespace, Template, TemplateKind, parse_template

LONGEST_MARBLE_NAME = 64

# What a URI name and a DNS name of a certificate can carry, see confidential_bookstore.pki.names.
_MARBLE_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_MARBLE_NAME}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """Content of a file or an environment variable: bytes, or a template that makes them."""

    content: bytes | Template

    def render(self, data: Namespace, kind: TemplateKind, whole: Bounds | None = None) -> bytes:
        """The bytes themselves, or what the template makes of the data. `whole` bounds several renderings together.

        Raises:
            TemplateError: something the template names does not exist, or cannot be used as it is.
        """
        return self.content.render(data, kind, whole) if isinstance(self.content, Template) else self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersSpec:
    """Files by path, environment variables by name, and arguments as they are (never templates)."""

    files: Mapping[str, FileSpec]
    env: Mapping[str, FileSpec]
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarbleSpec:
    """One type of marble. `max_activations` 0 means no limit; `tls` are names of tags."""

    name: str
    package: str
    max_activations: int
    parameters: ParametersSpec
    disable_secret_binding: bool
    tls: tuple[str, ...] = ()

    @property
    def references(self) -> frozenset[str]:
        """Names of the secrets that its templates use."""
        specs = (*self.parameters.files.values(), *self.parameters.env.values())
        templates = [spec.content for spec in specs if isinstance(spec.content, Template)]
        return frozenset().union(*(template.references() for template in templates))


def read_marble(name: str, node: Node) -> MarbleSpec:
    """Read and check one entry of `Marbles`. Whether its package, tags and secrets exist is checked by the caller.

    Raises:
        ManifestError: a field is malformed; TemplateError if it is a template.
    """
    if not _MARBLE_NAME.fullmatch(name):
        raise node.error(
            "name of a marble type cannot stand in a certificate",
            expected=f"1 to {LONGEST_MARBLE_NAME} letters, digits, '.', '_' and '-'",
        )
    fields = node.fields(("Package", "MaxActivations", "Parameters", "DisableSecretBinding", "TLS"))
    parameters = fields.get("Parameters")
    return MarbleSpec(
        name=name,
        package=fields.text("Package"),
        max_activations=fields.integer("MaxActivations"),
        parameters=_read_parameters(parameters) if parameters else ParametersSpec(files={}, env={}, argv=()),
        disable_secret_binding=fields.boolean("DisableSecretBinding"),
        tls=fields.texts("TLS"),
    )


def _read_parameters(node: Node) -> ParametersSpec:
    fields = node.fields(("Files", "Env", "Argv"))
    files, env = fields.entries("Files"), fields.entries("Env")
    for path, file in files.items():
        if not path or "\0" in path:
            raise file.error("not the path of a file")
    for variable, value in env.items():
        if not variable or "=" in variable or "\0" in variable:
            raise value.error("not the name of an environment variable")
    for argument in fields.items("Argv"):
        if "\0" in argument.text():
            raise argument.error("argument has a NUL byte")
    return ParametersSpec(
        files=MappingProxyType({path: _read_content(file) for path, file in files.items()}),
        env=MappingProxyType({variable: _read_content(value) for variable, value in env.items()}),
        argv=fields.texts("Argv"),
    )


def _read_content(node: Node) -> FileSpec:
    if isinstance(node.value, str):
        content, no_templates = node.text().encode(), False
    else:
        fields = node.fields(("Data", "Encoding", "NoTemplates"))
        content = _decode(fields.get("Data") or Node("", f"{node.path}.Data"), fields.text("Encoding"), node)
        no_templates = fields.boolean("NoTemplates")
    if no_templates:
        return FileSpec(content=content)
    try:
        # Bytes that are not UTF-8 pass through a template unchanged.
        return FileSpec(content=parse_template(content.decode(errors="surrogateescape")))
    except TemplateError as error:
        raise error.at(node.path) from None


def _decode(data: Node, encoding: str, node: Node) -> bytes:
    text = data.text()
    match encoding.lower():
        case "" | "string":
            return text.encode()
        case "base64":
            # Go skips line ends in base64.
            decode, text = _decode_base64, text.replace("\n", "").replace("\r", "")
        case "hex":
            decode = _decode_hex
        case _:
            raise node.error(
                "unknown encoding", got=ascii(encoding[:80]), expected="string, base64 or hex", hint="check Encoding"
            )
    try:
        return decode(text)
    except ValueError as error:
        raise _not_encoded(data, encoding, error) from None


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), validate=True)


def _decode_hex(text: str) -> bytes:
    return binascii.unhexlify(text.encode("ascii"))


def _not_encoded(data: Node, encoding: str, error: ValueError) -> ManifestError:
    return data.error(f"Data is not {encoding.lower()}", hint=str(error)[:80])
