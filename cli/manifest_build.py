"""`cbs manifest build`: the manifest from marbles, signed enclaves, and the policy in SMI documents."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.files import read_file, write_file
from cli.manifest_lint import check
from cli.output import OutputFormat, OutputOption, show
from cli.package_info import find_sigstruct
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.signing import SIGNATURE_SUFFIX
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.manifest_building import build_manifest, package_of
from confidential_bookstore.policy.smi.reading import folder_texts, read_texts

MARBLES, SMI = "marbles.json", "smi"


def build(
    folder: Path,
    *,
    enclaves: Path | None,
    package: Sequence[str],
    user: Sequence[str],
    recovery_key: Sequence[str],
) -> bytes:
    """Do the work. What is given as NAME=FILE counts more than what lies in `enclaves`.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be.
        PolicyError: a document of the policy breaks a rule.
        ManifestError: the parts do not belong together.
        SigstructInvalid: an enclave is not signed.
    """
    packages: dict[str, dict[str, Any]] = {}
    if enclaves is not None:
        signatures = sorted(enclaves.glob(f"*{SIGNATURE_SUFFIX}"))
        if not signatures:
            raise ConfigurationError("no signed enclave in this folder", got=enclaves, hint="`cbs enclave sign`")
        for path in signatures:
            packages[path.stem] = package_of(sigstruct.parse(read_file(path, "the signature")))
    packages |= {name: _package(path) for name, path in _named(package, "--package").items()}
    return build_manifest(
        _object(folder / MARBLES),
        read_texts(folder_texts(folder / SMI)),
        packages,
        users=_texts(user, "--user"),
        recovery_keys=_texts(recovery_key, "--recovery-key"),
    )


def _package(path: Path) -> dict[str, Any]:
    content = read_file(path, "the package")
    return _object(path) if content.lstrip().startswith(b"{") else package_of(find_sigstruct(content))


def _object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_file(path, path.name))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON", got=str(error)) from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} has the wrong type", got=type(document).__name__, expected="an object")
    return document


def _named(values: Sequence[str], option: str) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not (name and path) or name in named:
            raise ConfigurationError(f"{option} names a file once", got=value, expected="NAME=FILE")
        named[name] = Path(path)
    return named


def _texts(values: Sequence[str], option: str) -> dict[str, str]:
    try:
        return {name: read_file(path, path.name).decode() for name, path in _named(values, option).items()}
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{option} takes PEM", got=str(error)) from error


def _many(help_: str, metavar: str) -> Any:
    return typer.Option(help=f"{help_} May be given several times.", metavar=metavar, show_default=False)


def command(
    folder: Annotated[Path, typer.Argument(help="Has marbles.json and smi/*.yaml.", metavar="DIR")],
    *,
    out: Annotated[Path, typer.Option(help="Where the manifest goes.", metavar="FILE")],
    enclaves: Annotated[
        Path | None, typer.Option(help="Signed enclaves, as `cbs enclave sign` makes them.", metavar="DIR")
    ] = None,
    package: Annotated[list[str] | None, _many("A SIGSTRUCT, a signed ELF file or JSON.", "NAME=FILE")] = None,
    user: Annotated[list[str] | None, _many("A certificate: may update the manifest.", "NAME=PEM")] = None,
    recovery_key: Annotated[list[str] | None, _many("A public key of a recovery key's holder.", "NAME=PEM")] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Put the manifest together. It works on an original MarbleRun coordinator, too.

    The same files give the same manifest. It is written only if a coordinator would take it.
    """
    raw = build(folder, enclaves=enclaves, package=package or (), user=user or (), recovery_key=recovery_key or ())
    warnings = check(raw, tolerant=False)
    write_file(out, raw)
    fingerprint = hashlib.sha256(raw).hexdigest()
    if output is OutputFormat.JSON:
        advice = [{"Warning": warning, "Hint": hint} for warning, hint in warnings.items()]
        described = {"ManifestFingerprint": fingerprint, "Manifest": str(out), "Warnings": advice}
        sys.stdout.write(json.dumps(described) + "\n")
        return
    show({"ManifestFingerprint": fingerprint, "Manifest": out, "Warnings": len(warnings)}, output)
    texts = (f"{warning} ({hint})" if hint else warning for warning, hint in warnings.items())
    show({f"{number}.": text for number, text in enumerate(texts, 1)}, output)
