"""Rendering every template of a manifest with placeholders, so that an activation finds no mistake of the author.

A placeholder has the shape of its secret (a symmetric key has no certificate) and about the size of a real one.
"""

from __future__ import annotations

from collections.abc import Mapping

from confidential_bookstore.errors import ManifestError, TemplateError
from confidential_bookstore.secret import Secret
from coordinator.manifest.fields import join_path
from coordinator.manifest.marbles import FileSpec, MarbleSpec
from coordinator.manifest.secrets import SecretSpec
from coordinator.manifest.template import Namespace, Template, TemplateKind, template_data
from coordinator.secret_value import SecretType, SecretValue

# A marble receives its parameters in one gRPC message of at most 4 MiB, certificates and keys included.
MAX_PARAMETERS_SIZE = 4 * 1024 * 1024 - 64 * 1024

_DER = b"0" * 1024
_PLAIN = b"0" * 32


def check_templates(marbles: Mapping[str, MarbleSpec], secrets: Mapping[str, SecretSpec]) -> None:
    """Render all templates.

    Raises:
        TemplateError: one of them cannot be rendered; the message names its path.
        ManifestError: the parameters of a marble are too large.
    """
    data = template_data({name: _placeholder(spec) for name, spec in secrets.items()}, _marblerun())
    for name, marble in marbles.items():
        path = f"{join_path('Marbles', name)}.Parameters"
        size = _render_all(marble.parameters.files, data, TemplateKind.FILE, path)
        size += _render_all(marble.parameters.env, data, TemplateKind.ENV, path)
        size += sum(len(argument.encode()) for argument in marble.parameters.argv)
        if size > MAX_PARAMETERS_SIZE:
            raise ManifestError(
                f"{path}: parameters are larger than a gRPC message",
                got=size,
                expected=f"at most {MAX_PARAMETERS_SIZE}",
            )


def _render_all(specs: Mapping[str, FileSpec], data: Namespace, kind: TemplateKind, path: str) -> int:
    size = 0
    for key, spec in specs.items():
        try:
            content = spec.content.render(data, kind) if isinstance(spec.content, Template) else spec.content
        except TemplateError as error:
            raise error.at(join_path(f"{path}.{kind.value}", key)) from None
        size += len(key.encode()) + len(content)
    return size


def _placeholder(spec: SecretSpec) -> SecretValue:
    if spec.type.is_certificate:
        value, certificate = _DER, _DER
    else:
        value, certificate = (b"0" * (spec.size // 8) if spec.type is SecretType.SYMMETRIC_KEY else _PLAIN), None
    return SecretValue(
        type=spec.type, size=spec.size, certificate=certificate, private=Secret(value), public=Secret(value)
    )


def _marblerun() -> dict[str, SecretValue]:
    nothing = Secret(b"")
    authority = SecretValue(type=SecretType.CERT_ECDSA, certificate=_DER, private=nothing, public=nothing)
    marble = SecretValue(type=SecretType.CERT_ECDSA, certificate=_DER, private=Secret(_DER), public=Secret(_DER))
    return {
        "RootCA": authority,
        "MarbleCert": marble,
        "CoordinatorRoot": authority,
        "CoordinatorIntermediate": authority,
    }
