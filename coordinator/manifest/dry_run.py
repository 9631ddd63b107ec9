"""Rendering every template of a manifest with placeholders, so that an activation finds no mistake of the author.

A placeholder has the shape of its secret (a symmetric key has no certificate) and about the size of a real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from confidential_bookstore.errors import ManifestError, TemplateError
from confidential_bookstore.secret import Secret
from coordinator.manifest.fields import join_path
from coordinator.manifest.marbles import MarbleSpec, ParametersSpec
from coordinator.manifest.secrets import SecretSpec
from coordinator.manifest.template import Bounds, Namespace, TemplateKind, template_data
from coordinator.secret_value import SecretType, SecretValue

# A marble receives its parameters in one gRPC message of at most 4 MiB, certificates and keys included.
MAX_PARAMETERS_SIZE = 4 * 1024 * 1024 - 64 * 1024
# Both bound what the check of a small, hostile manifest costs.
MAX_TOTAL_SIZE = 64 * 1024 * 1024
MAX_TOTAL_STEPS = 2_000_000

_DER = b"0" * 1024
_PLAIN = b"0" * 32
_NONE: Mapping[str, SecretValue] = MappingProxyType({})


def check_templates(
    marbles: Mapping[str, MarbleSpec], secrets: Mapping[str, SecretSpec], values: Mapping[str, SecretValue] = _NONE
) -> None:
    """Render all templates, those of all marbles within `MAX_TOTAL_STEPS` steps.

    Args:
        marbles: have them.
        secrets: definitions of all secrets.
        values: of some of the secrets, such as uploaded ones; the others get placeholders.

    Raises:
        TemplateError: one of them cannot be rendered; the message names its path.
        ManifestError: a variable has a NUL byte, or the parameters of a marble, or of all of them, are too large.
    """
    present = {name: values.get(name) or _placeholder(spec) for name, spec in secrets.items()}
    data = template_data(present, _marblerun())
    steps = Bounds(MAX_TOTAL_STEPS, "all templates together take")
    total = 0
    for name, marble in marbles.items():
        path = f"{join_path('Marbles', name)}.Parameters"
        size = 0
        for part in _sizes(marble.parameters, data, steps, path):
            size += part
            if size > MAX_PARAMETERS_SIZE:
                raise ManifestError(
                    f"{path}: parameters are larger than a gRPC message",
                    got=f"at least {size} bytes",
                    expected=f"at most {MAX_PARAMETERS_SIZE}",
                )
        total += size
        if total > MAX_TOTAL_SIZE:
            raise ManifestError("parameters of all marbles are too large", expected=f"at most {MAX_TOTAL_SIZE} bytes")


def _sizes(parameters: ParametersSpec, data: Namespace, steps: Bounds, path: str) -> Iterator[int]:
    """The sizes of what a marble is sent, one by one, so that the caller can stop."""
    for kind, specs in ((TemplateKind.FILE, parameters.files), (TemplateKind.ENV, parameters.env)):
        for key, spec in specs.items():
            place = join_path(f"{path}.{kind.value}", key)
            try:
                content = spec.render(data, kind, steps)
            except TemplateError as error:
                raise error.at(place) from None
            if kind is TemplateKind.ENV and b"\0" in content:
                raise ManifestError(f"{place}: value of an environment variable has a NUL byte")
            yield len(key.encode()) + len(content)
    for argument in parameters.argv:
        yield len(argument.encode())


def _placeholder(spec: SecretSpec) -> SecretValue:
    if spec.type.is_certificate:
        value, certificate = _DER, _DER
    else:
        value, certificate = (b"0" * (spec.size // 8) if spec.type is SecretType.SYMMETRIC_KEY else _PLAIN), None
    return SecretValue(
        type=spec.type,
        size=spec.size,
        shared=spec.shared,
        user_defined=spec.user_defined,
        valid_for=spec.valid_for,
        certificate=certificate,
        private=Secret(value),
        public=Secret(value),
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
